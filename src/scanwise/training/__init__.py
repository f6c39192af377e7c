"""A network, a split and a store in; a trained network and its history out."""

from scanwise.training.trainer import Outcome, Speed, time_steps, train

__all__ = ["Outcome", "Speed", "time_steps", "train"]
