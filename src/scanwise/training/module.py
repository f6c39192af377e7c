"""One training step, one validation, one optimiser: the LightningModule.

All randomness of an epoch comes from (seed, epoch, step) alone, so that a resumed run equals one that was not killed.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from scanwise import metrics
from scanwise.errors import TrainingError
from scanwise.models import Network
from scanwise.recipe import Train, TrainingStage
from scanwise.records import FloatArray, IntArray
from scanwise.training import distributed
from scanwise.training.augment import apply_augmentations, draw_augmentations
from scanwise.training.loaders import SINGLE_PROCESS, Batch, BatchGroups
from scanwise.training.losses import LOSSES
from scanwise.training.mixing import mix_batch
from scanwise.training.sampling import BatchShare, derive_seed
from scanwise.training.schedules import build_optimizer, schedule_factor, update_average
from scanwise.training.stages import StageRun, parameter_groups

ALWAYS = ("accuracy", "balanced_accuracy", "macro_f1")  # in every history, whatever the monitor
ADVICE = (
    "Resume with --resume --set train.clip=1 (or less), or start again with another --out and a lower train.optimizer.lr, "
    "which cannot change within a run."
)
"""Advice for numbers that are not finite."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """Result of the network on a batch.

    Attributes:
        loss: scalar, with gradients.
        logits: (n, C), or (n, T, C) for the members of a batch ensemble; without gradients.
        labels: (n,) true labels; for mixed scans, those of the larger share.
        weight: number of scans behind the loss.
        count: number of this process's own scans.
    """

    loss: Tensor
    logits: Tensor
    labels: Tensor
    weight: float
    count: int


class ClassifierModule(L.LightningModule):
    """Lightning module of a network in one stage of its training.

    Args:
        network: network for uint8 scans.
        train: section of the recipe.
        class_weights: (C,) weights of the loss, or None.
        seed: seed of the run.
        steps_per_epoch: optimiser steps in an epoch.
        phase: the stage (default: one that trains everything).
        share: part of every batch that this process takes.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        network: Network,
        train: Train,
        class_weights: Tensor | None,
        seed: int,
        steps_per_epoch: int,
        phase: StageRun | None = None,
        share: BatchShare = SINGLE_PROCESS,
    ) -> None:
        super().__init__()
        self.network = network
        self.average = copy.deepcopy(network).eval().requires_grad_(False) if train.ema else None
        self.share = share
        self.train_section = train
        self.phase = phase or StageRun(
            TrainingStage(epochs=train.epochs or 1)
        )  # without epochs, a step can still be timed
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.seed = seed
        self.steps_per_epoch = steps_per_epoch
        self.generator = torch.Generator()
        self.forward_batch = self._forward_function()
        self.rate = 0.0  # of the last step
        self.batches: list[tuple[Tensor, Tensor]] = []
        self.scores: dict[str, float] = {}
        self.probs: FloatArray = np.empty((0, 0))  # of the last validation, and its labels
        self.labels: IntArray = np.empty(0, np.int64)

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning sets the current hook some sixty times per step; torch would check each time whether it is a weight,
        # which takes a tenth of a step on cached features.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def epoch(self) -> int:
        """Epoch over all stages, from 0."""
        return self.phase.first + self.current_epoch

    @property
    def evaluated(self) -> Network:
        """Network that is validated and kept: the running mean if there is one."""
        return self.network if self.average is None else self.average

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self._start_step(batch_idx, self.trainer.optimizers[0])

    def _start_step(self, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Set the seeds of a step and note its learning rate, which is that of the next step afterwards."""
        drawn = derive_seed(self.seed, self.epoch, batch_idx)
        self.generator.manual_seed(drawn)
        # Dropout draws from the global generator; processes must not have equal masks.
        seed_global(derive_seed(drawn, self.share.rank) if self.share.rank else drawn, self.device)
        self.rate = float(optimizer.param_groups[0]["lr"])

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        result = self._loss_of_batch(batch, batch_idx)
        # Lightning divides `loss` by the batches that make a step; `cost` stays unchanged.
        return {"loss": result.loss, **self._sum_up([result], batch_idx)}

    def _loss_of_batch(self, batch: Batch, batch_idx: int) -> StepResult:
        whole = self._total_size(batch, batch_idx)
        scans, labels, others, share, tokens = self._augmented(batch, whole)
        logits = self.forward_batch(scans, **({} if tokens is None else {"tokens": tokens}))
        loss = self._loss(logits, labels) * self._process_factor(labels, logits, whole)
        if share < 1:
            loss = share * loss + (1 - share) * self._loss(logits, others) * self._process_factor(others, logits, whole)
        own = len(labels) if self.share.counts(whole) else 0
        return StepResult(loss, logits.detach(), labels if share >= 0.5 else others, whole / self.share.size, own)

    def _sum_up(self, results: list[StepResult], first: int) -> dict[str, float]:
        """Sums of loss times scans, correct predictions, scans and batches, from batch number `first` on."""
        costs = torch.stack([result.loss.detach() for result in results]).tolist()
        for index, cost in enumerate(costs, first):
            if not math.isfinite(cost):
                raise TrainingError(
                    f"The loss is {cost} in epoch {self.epoch + 1}, batch {index + 1}. The last good checkpoint is kept. "
                    f"{ADVICE}"
                )
        own = [result for result in results if result.count]
        right = [_joint(result.logits).argmax(1) == result.labels for result in own]
        return {
            "cost": sum(cost * result.weight for cost, result in zip(costs, results, strict=True)),
            "correct": int(torch.cat(right).sum()) if right else 0,
            "count": sum(result.count for result in own),
            "batches": len(results),
        }

    def optimizer_step(self, epoch: int, batch_idx: int, *arguments: Any, **more: Any) -> None:
        super().optimizer_step(epoch, batch_idx, *arguments, **more)
        self._update_average(batch_idx)

    def _update_average(self, batch_idx: int) -> None:
        """Update the running mean after a step; steps follow from epoch and batch alone, so that a resume counts alike."""
        if self.average is not None:
            steps = self.current_epoch * self.steps_per_epoch + batch_idx // self.train_section.accumulate + 1
            update_average(self.average, self.network, self.train_section.ema, steps)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        scans, labels, tokens = unpack(batch)
        network = self.evaluated
        if self.phase.section.is_cached:
            logits = network.forward_head(scans, tokens=tokens)
        else:
            logits = network(channels_first(scans), *(() if tokens is None else (tokens,)))
        self.batches.append((logits.float(), labels))

    def on_validation_epoch_end(self) -> None:
        logits = torch.cat([pair[0] for pair in self.batches])
        labels = torch.cat([pair[1] for pair in self.batches])
        if self.share.size > 1:
            loader: Any = self.trainer.val_dataloaders
            logits, labels = (distributed.gather_rows(rows, len(loader.dataset)) for rows in (logits, labels))
        self.batches.clear()
        logits, labels = self._pooled(logits, labels)
        if not torch.isfinite(logits).all():
            raise TrainingError(
                f"After epoch {self.epoch + 1} the network gives numbers that are not finite for the validation scans. The "
                f"last good checkpoint is kept. {ADVICE}"
            )
        probs, true_labels = logits.softmax(1).cpu().numpy().astype(np.float64), labels.cpu().numpy()
        watched = self.train_section.monitor
        names = ALWAYS if watched in (*ALWAYS, "loss") else (*ALWAYS, watched)
        self.probs, self.labels = probs, true_labels
        self.scores = {
            "validation_loss": float(self._loss(logits, labels)),
            **{f"validation_{name}": float(metrics.METRICS[name](probs, true_labels)) for name in names},
        }

    def _pooled(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of validation from those of its scans: the same."""
        return logits, labels

    def configure_optimizers(self) -> Any:
        section, stage = self.train_section.optimizer, self.phase.section
        lr = stage.lr or section.lr
        groups = parameter_groups(self.network, self.phase.parts, stage, lr)
        # On a GPU, a fused optimiser and clipped 16-bit gradients exclude each other.
        optimizer = build_optimizer(section, groups, lr, fused=True if self.device.type == "cpu" else None)
        wanted = stage.schedule or self.train_section.schedule
        if wanted.name == "constant" and not wanted.warmup:
            return {"optimizer": optimizer}
        factor = schedule_factor(wanted, stage.epochs, self.steps_per_epoch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _total_size(self, batch: Batch, batch_idx: int) -> int:
        """Number of scans of a batch in all processes together."""
        if self.share.size == 1:
            return len(batch[1])
        loader: Any = self.trainer.train_dataloader
        return int(loader.batch_sampler.whole(batch_idx))

    def _augmented(self, batch: Batch, whole: int) -> tuple[Tensor, Tensor, Tensor, float, Tensor | None]:
        """Augmented scans (or features) of this process, labels, labels mixed in, share of the former, tokens.

        Changes are drawn for the whole batch, so that several processes change it as one would.
        """
        scans, labels, tokens = unpack(batch)
        section = self.train_section
        if self.phase.section.is_cached:
            return scans, labels, labels, 1.0, tokens
        changes = draw_augmentations(whole, section.augment, self.generator)
        own = torch.tensor(self.share.of(whole), device=labels.device) if self.share.size > 1 else None
        if not (section.mixup or section.cutmix):
            if own is not None:
                changes = changes.take(own.cpu())
            return apply_augmentations(channels_first(scans), changes), labels, labels, 1.0, tokens
        # A scan may be mixed with one of another process: then the batch comes whole.
        mixture = mix_batch(apply_augmentations(channels_first(scans), changes), labels, section, self.generator)
        images, others = mixture.images, mixture.others
        if own is not None:
            images, labels, others = images[own], labels[own], others[own]
            tokens = None if tokens is None else tokens[own]
        return images, labels, others, mixture.share, tokens

    def _process_factor(self, labels: Tensor, logits: Tensor, whole: int) -> Tensor | float:
        """Factor that makes the mean of the processes' losses the loss of the whole batch: their parts may differ in size."""
        if self.share.size == 1:
            return 1.0
        amount = LOSSES[self.train_section.loss].divisor(labels, self.class_weights, logits.shape[-1])
        amount = amount * self.share.counts(whole)
        return float(amount.cpu() * self.share.size / distributed.sum_over_processes(amount))

    def _forward_function(self) -> Callable[..., Tensor]:
        """Function to (N, C) logits, or to (N, T, C) for the members of a batch ensemble, each of which is trained on its own."""
        network = self.network
        function: Callable[..., Tensor]
        if self.phase.section.is_cached:
            function = network.forward_head if network.members == 1 else network.head_members
        else:
            function = network.forward if network.members == 1 else network.forward_members
        return torch.compile(function) if self.train_section.compiled else function

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        section = self.train_section
        if logits.ndim == 3:
            labels, logits = labels.repeat_interleave(logits.shape[1]), logits.flatten(0, 1)
        return LOSSES[section.loss].function(logits, labels, self.class_weights, section.label_smoothing)


class GroupedClassifier(ClassifierModule):
    """Classifier that takes the steps on a group of batches of cached features itself, without Lightning around each.

    The weights are those of single steps, to the last bit. For one process in full precision, one batch a step.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.automatic_optimization = False

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Nothing to prepare: a group of batches starts here."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        first = batch_idx * BatchGroups.LENGTH
        return self._sum_up([self._step(single, index) for index, single in enumerate(batch, first)], first)

    def _step(self, batch: Batch, index: int) -> StepResult:
        optimizer, schedules = self.trainer.optimizers[0], self.trainer.lr_scheduler_configs
        self._start_step(index, optimizer)
        result = self._loss_of_batch(tuple(part.to(self.device) for part in batch), index)
        optimizer.zero_grad()
        result.loss.backward()  # type: ignore[no-untyped-call]
        if self.train_section.clip:
            torch.nn.utils.clip_grad_norm_(_trained_parameters(optimizer), self.train_section.clip)
        optimizer.step()
        for schedule in schedules:
            schedule.scheduler.step()  # type: ignore[call-arg]
        self._update_average(index)
        return result


def _trained_parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [weights for group in optimizer.param_groups for weights in group["params"]]


def seed_global(seed: int, device: torch.device) -> None:
    """Seed the generators of a step: that of the CPU, and of the device.

    `torch.manual_seed` also seeds devices that are not in use, by storing the call with its whole stack for later: that took
    a third of a small step, and a little memory for good.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _joint(logits: Tensor) -> Tensor:
    """(N, C) scores whose largest is the predicted class; the mean probability for members (N, T, C)."""
    return logits if logits.ndim == 2 else logits.softmax(2).mean(1)


def unpack(batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
    """Scans, labels, and tokens or None."""
    scans, labels, *words = batch
    return scans, labels, words[0] if words else None


def channels_first(images: Tensor) -> Tensor:
    """(N, H, W, C) as stored to (N, C, H, W); a view, which is the channels-last memory format."""
    return images.permute(0, 3, 1, 2)
