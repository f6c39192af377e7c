"""A set of scans that can be learnt in seconds, and its recipe; `killed.py` trains on it in processes of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from scanwise import training
from scanwise.cohort.store import Store
from scanwise.models import Network, build_network
from scanwise.recipe import Recipe
from scanwise.run import Fit
from scanwise.training import TrainingSummary

SIDE = 16
ROWS = {"train": np.arange(72), "validation": np.arange(72, 102)}
LABELS = np.arange(102) % 3

TRAIN = {
    "epochs": 5,
    "batch": 16,
    "optimizer": {"name": "adamw", "lr": 3e-3, "weight_decay": 1e-4},
    "schedule": {"name": "cosine", "warmup": 1},
    "augment": {"shift": 0.05, "scale": 0.1, "rotate": 10, "probability": 0.5, "flip": False},
    "class_weights": True,
    "label_smoothing": 0.05,
    "clip": 1.0,
}


def store(noise: float = 40) -> Store:
    """Scans whose class is the third of the picture that is bright."""
    draws = np.random.default_rng(0)
    pixels = draws.normal(80, noise, (len(LABELS), SIDE, SIDE, 1))
    for row, label in enumerate(LABELS):
        pixels[row, :, 5 * label : 5 * label + 6] += 90
    names = np.array([f"{row:04d}" for row in range(len(LABELS))])
    return Store(pixels.clip(0, 255).astype(np.uint8), np.arange(len(LABELS)), names, names)


def recipe(**train: Any) -> Recipe:
    return Recipe.model_validate(
        {"name": "toy", "seed": 3, "data": {"size": SIDE}, "model": {"name": "small", "dropout": 0.2}}
        | {"train": TRAIN | train}
    )


def network(made: Recipe) -> Network:
    """As the pipeline builds it: the same from the same seed."""
    torch.manual_seed(made.seed)
    return build_network(made.model, 3, 1)


def place(folder: Path) -> Fit:
    return Fit(folder, "honest", 0)


def train(made_network: Network, made: Recipe, folder: Path, **more: Any) -> TrainingSummary:
    """Train in this folder on the CPU."""
    labels = more.pop("labels", LABELS)
    return training.train_network(made_network, made, store(), labels, ROWS, place(folder), device="cpu", **more)
