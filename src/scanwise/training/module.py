"""One training step, one validation, one optimiser: the LightningModule.

All randomness of an epoch comes from (seed, epoch, step), never from what happened before, so that a run that was
killed and resumed is the run that was not.
"""

import hashlib
import math
from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from scanwise import metrics
from scanwise.errors import TrainingError
from scanwise.models import Network
from scanwise.recipe import Schedule, Train
from scanwise.training.augment import augment
from scanwise.training.losses import LOSSES

Batch = tuple[Tensor, Tensor]


class Classifier(L.LightningModule):
    """A network in training.

    Args:
        network: takes uint8 scans.
        train: the recipe's section.
        class_weights: (C,) weights of the loss, or None.
        seed: of the run.
        steps_per_epoch: optimiser steps in an epoch.
    """

    class_weights: Tensor | None

    def __init__(
        self, network: Network, train: Train, class_weights: Tensor | None, seed: int, steps_per_epoch: int
    ) -> None:
        super().__init__()
        self.network = network
        self.train_section = train
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.seed = seed
        self.steps_per_epoch = steps_per_epoch
        self.generator = torch.Generator()
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.scores: dict[str, float] = {}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        drawn = seed_of(self.seed, self.current_epoch, batch_idx)
        self.generator.manual_seed(drawn)
        torch.manual_seed(drawn)  # dropout draws from the global generator

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        images, labels = batch
        logits = self.network(augment(channels_first(images), self.train_section.augment, self.generator))
        loss = self._loss(logits, labels)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss is {float(loss.detach())} in epoch {self.current_epoch + 1}, batch {batch_idx + 1}. The last good "
                "checkpoint is kept. Lower train.optimizer.lr, or set train.clip to 1."
            )
        return {"loss": loss, "correct": (logits.detach().argmax(1) == labels).sum()}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        self.seen.append((self.network(channels_first(images)).float(), labels))

    def on_validation_epoch_end(self) -> None:
        logits = torch.cat([pair[0] for pair in self.seen])
        labels = torch.cat([pair[1] for pair in self.seen])
        self.seen.clear()
        if not torch.isfinite(logits).all():
            raise TrainingError(
                f"After epoch {self.current_epoch + 1} the network gives no finite numbers for the validation scans. The "
                "last good checkpoint is kept. Lower train.optimizer.lr, or set train.clip to 1."
            )
        probs, known = logits.softmax(1).cpu().numpy().astype(np.float64), labels.cpu().numpy()
        self.scores = {
            "validation_loss": float(self._loss(logits, labels)),
            "validation_accuracy": float(metrics.accuracy(probs, known)),
            "validation_balanced_accuracy": float(metrics.balanced_accuracy(probs, known)),
            "validation_macro_f1": float(metrics.macro_f1(probs, known)),
        }

    def configure_optimizers(self) -> Any:
        section = self.train_section.optimizer
        optimizer = OPTIMIZERS[section.name](
            self.network.parameters(), section.lr, section.momentum, section.weight_decay
        )
        factor = schedule_factor(self.train_section.schedule, self.train_section.epochs, self.steps_per_epoch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        section = self.train_section
        return LOSSES[section.loss](logits, labels, self.class_weights, section.label_smoothing)


Parameters = Any
OPTIMIZERS: dict[str, Callable[[Parameters, float, float, float], torch.optim.Optimizer]] = {
    "sgd": lambda p, lr, momentum, decay: torch.optim.SGD(p, lr, momentum, weight_decay=decay),
    "adam": lambda p, lr, momentum, decay: torch.optim.Adam(p, lr, weight_decay=decay),
    "adamw": lambda p, lr, momentum, decay: torch.optim.AdamW(p, lr, weight_decay=decay),
}


def channels_first(images: Tensor) -> Tensor:
    """(N, H, W, C) as stored to (N, C, H, W); a view, which is the channels-last memory format."""
    return images.permute(0, 3, 1, 2)


def seed_of(*parts: int) -> int:
    """A 63-bit seed from a few numbers, all of which matter."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


def schedule_factor(schedule: Schedule, epochs: int, steps_per_epoch: int) -> Callable[[int], float]:
    """The learning rate's factor at a step, as a function of the step alone."""

    def factor(step: int) -> float:
        epoch = step / steps_per_epoch
        if epoch < schedule.warmup:
            return (step + 1) / (schedule.warmup * steps_per_epoch + 1)
        if schedule.name == "step":
            return float(schedule.factor ** (epoch // schedule.every))
        if schedule.name == "cosine":
            done = min(1.0, (epoch - schedule.warmup) / max(epochs - schedule.warmup, 1e-9))
            return 0.5 * (1 + math.cos(math.pi * done))
        return 1.0

    return factor
