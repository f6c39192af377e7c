"""A network, a split and a store in; a trained network and its history out."""

from scanwise.training.timing import Speed, time_steps
from scanwise.training.trainer import Outcome, train

__all__ = ["Outcome", "Speed", "time_steps", "train"]
