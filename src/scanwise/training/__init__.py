"""Training of one network on one split."""

from scanwise.training.timing import SecondsPerScan, time_steps
from scanwise.training.trainer import TrainingSummary, train_network

__all__ = ["SecondsPerScan", "TrainingSummary", "time_steps", "train_network"]
