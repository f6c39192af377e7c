"""One training step, one validation, one optimiser: the LightningModule.

All randomness of an epoch comes from (seed, epoch, step), never from what happened before, so that a run that was
killed and resumed is the run that was not.
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

ALWAYS = ("accuracy", "balanced_accuracy", "macro_f1")  # in every history, whatever is watched
ADVICE = (
    "Go on with --resume --set train.clip=1 (or less), or begin anew with another --out and a lower train.optimizer.lr, "
    "which cannot change within a run."
)
"""Where numbers are not finite."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What the network said of a batch.

    Attributes:
        loss: a scalar, to be learnt from.
        logits: (n, C), or (n, T, C) of the members of a batch ensemble; without gradients.
        labels: (n,) the answers that would be right; of mixed scans, those of the larger share.
        weight: scans that the loss stands for.
        count: scans that are this process's own.
    """

    loss: Tensor
    logits: Tensor
    labels: Tensor
    weight: float
    count: int


class Classifier(L.LightningModule):
    """A network in one stage of its training.

    Args:
        network: takes uint8 scans.
        train: the recipe's section.
        class_weights: (C,) weights of the loss, or None.
        seed: of the run.
        steps_per_epoch: optimiser steps in an epoch.
        phase: the stage; unsaid, one in which everything learns.
        share: what this process takes of every batch.
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
        )  # of none, a step can be timed all the same
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.seed = seed
        self.steps_per_epoch = steps_per_epoch
        self.generator = torch.Generator()
        self.ask = self._asked()
        self.rate = 0.0  # of the last step
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.scores: dict[str, float] = {}
        self.probs: FloatArray = np.empty((0, 0))  # of the last validation, and its labels
        self.labels: IntArray = np.empty(0, np.int64)

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes some sixty times a step which hook it is in; torch would look each time whether that is a weight,
        # which takes a tenth of a step on kept features.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def epoch(self) -> int:
        """Counted over all stages, from 0."""
        return self.phase.first + self.current_epoch

    @property
    def judged(self) -> Network:
        """What is validated and kept: the running mean where there is one."""
        return self.network if self.average is None else self.average

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self._prepare(batch_idx, self.trainer.optimizers[0])

    def _prepare(self, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """What comes before each step: its seeds, and its learning rate written down, which afterwards is that of the next."""
        drawn = derive_seed(self.seed, self.epoch, batch_idx)
        self.generator.manual_seed(drawn)
        # Dropout draws from the global generator; processes must not drop alike.
        seed_global(derive_seed(drawn, self.share.rank) if self.share.rank else drawn, self.device)
        self.rate = float(optimizer.param_groups[0]["lr"])

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        answer = self._learn(batch, batch_idx)
        # Lightning divides `loss` by the batches that make a step; `cost` stays what it is.
        return {"loss": answer.loss, **self._sum_up([answer], batch_idx)}

    def _learn(self, batch: Batch, batch_idx: int) -> StepResult:
        whole = self._whole(batch, batch_idx)
        scans, labels, others, share, tokens = self._changed(batch, whole)
        logits = self.ask(scans, **({} if tokens is None else {"tokens": tokens}))
        loss = self._loss(logits, labels) * self._balance(labels, logits, whole)
        if share < 1:
            loss = share * loss + (1 - share) * self._loss(logits, others) * self._balance(others, logits, whole)
        own = len(labels) if self.share.counts(whole) else 0
        return StepResult(loss, logits.detach(), labels if share >= 0.5 else others, whole / self.share.size, own)

    def _sum_up(self, answers: list[StepResult], first: int) -> dict[str, float]:
        """Loss times scans, right answers, scans and batches, over the batches from the first one on."""
        costs = torch.stack([answer.loss.detach() for answer in answers]).tolist()
        for index, cost in enumerate(costs, first):
            if not math.isfinite(cost):
                raise TrainingError(
                    f"The loss is {cost} in epoch {self.epoch + 1}, batch {index + 1}. The last good checkpoint is kept. "
                    f"{ADVICE}"
                )
        own = [answer for answer in answers if answer.count]
        right = [_joint(answer.logits).argmax(1) == answer.labels for answer in own]
        return {
            "cost": sum(cost * answer.weight for cost, answer in zip(costs, answers, strict=True)),
            "correct": int(torch.cat(right).sum()) if right else 0,
            "count": sum(answer.count for answer in own),
            "batches": len(answers),
        }

    def optimizer_step(self, epoch: int, batch_idx: int, *arguments: Any, **more: Any) -> None:
        super().optimizer_step(epoch, batch_idx, *arguments, **more)
        self._follow(batch_idx)

    def _follow(self, batch_idx: int) -> None:
        """Move the running mean after a step; told by epoch and batch alone, so that whoever goes on counts as before."""
        if self.average is not None:
            steps = self.current_epoch * self.steps_per_epoch + batch_idx // self.train_section.accumulate + 1
            update_average(self.average, self.network, self.train_section.ema, steps)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        scans, labels, tokens = unpack(batch)
        network = self.judged
        if self.phase.section.is_cached:
            logits = network.forward_head(scans, tokens=tokens)
        else:
            logits = network(channels_first(scans), *(() if tokens is None else (tokens,)))
        self.seen.append((logits.float(), labels))

    def on_validation_epoch_end(self) -> None:
        logits = torch.cat([pair[0] for pair in self.seen])
        labels = torch.cat([pair[1] for pair in self.seen])
        if self.share.size > 1:
            loader: Any = self.trainer.val_dataloaders
            logits, labels = (distributed.gather_rows(rows, len(loader.dataset)) for rows in (logits, labels))
        self.seen.clear()
        if not torch.isfinite(logits).all():
            raise TrainingError(
                f"After epoch {self.epoch + 1} the network gives no finite numbers for the validation scans. The "
                f"last good checkpoint is kept. {ADVICE}"
            )
        probs, known = logits.softmax(1).cpu().numpy().astype(np.float64), labels.cpu().numpy()
        watched = self.train_section.monitor
        names = ALWAYS if watched in (*ALWAYS, "loss") else (*ALWAYS, watched)
        self.probs, self.labels = probs, known
        self.scores = {
            "validation_loss": float(self._loss(logits, labels)),
            **{f"validation_{name}": float(metrics.METRICS[name](probs, known)) for name in names},
        }

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

    def _whole(self, batch: Batch, batch_idx: int) -> int:
        """How many scans all processes together have in a batch."""
        if self.share.size == 1:
            return len(batch[1])
        loader: Any = self.trainer.train_dataloader
        return int(loader.batch_sampler.whole(batch_idx))

    def _changed(self, batch: Batch, whole: int) -> tuple[Tensor, Tensor, Tensor, float, Tensor | None]:
        """This process's scans (or features) as they are to be learnt, their labels, those mixed in and their share, words.

        What is drawn is drawn for the whole batch, so that the processes change it as one would.
        """
        scans, labels, tokens = unpack(batch)
        section = self.train_section
        if self.phase.section.is_cached:
            return scans, labels, labels, 1.0, tokens
        changes = draw_augmentations(whole, section.augment, self.generator)
        mine = torch.tensor(self.share.of(whole), device=labels.device) if self.share.size > 1 else None
        if not (section.mixup or section.cutmix):
            if mine is not None:
                changes = changes.take(mine.cpu())
            return apply_augmentations(channels_first(scans), changes), labels, labels, 1.0, tokens
        # Whom a scan is mixed with may be another process's: then the batch comes whole.
        mixture = mix_batch(apply_augmentations(channels_first(scans), changes), labels, section, self.generator)
        images, others = mixture.images, mixture.others
        if mine is not None:
            images, labels, others = images[mine], labels[mine], others[mine]
            tokens = None if tokens is None else tokens[mine]
        return images, labels, others, mixture.share, tokens

    def _balance(self, labels: Tensor, logits: Tensor, whole: int) -> Tensor | float:
        """What makes the mean of the processes' losses that of the whole batch: they may have unlike shares of it."""
        if self.share.size == 1:
            return 1.0
        amount = LOSSES[self.train_section.loss].divisor(labels, self.class_weights, logits.shape[-1])
        amount = amount * self.share.counts(whole)
        return float(amount.cpu() * self.share.size / distributed.sum_over_processes(amount))

    def _asked(self) -> Callable[..., Tensor]:
        """What gives (N, C) logits, or (N, T, C) of the members of a batch ensemble, each of which learns for itself."""
        network = self.network
        asked: Callable[..., Tensor]
        if self.phase.section.is_cached:
            asked = network.forward_head if network.members == 1 else network.head_members
        else:
            asked = network.forward if network.members == 1 else network.forward_members
        return torch.compile(asked) if self.train_section.compiled else asked

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        section = self.train_section
        if logits.ndim == 3:
            labels, logits = labels.repeat_interleave(logits.shape[1]), logits.flatten(0, 1)
        return LOSSES[section.loss].function(logits, labels, self.class_weights, section.label_smoothing)


class GroupedClassifier(Classifier):
    """A classifier that takes the steps on a run of kept features by itself, without what Lightning does around each.

    The weights are those that single steps lead to, to the last bit. For one process in full precision, one batch a step.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.automatic_optimization = False

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Nothing: it is not a batch that starts, but a run of them."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        first = batch_idx * BatchGroups.LENGTH
        return self._sum_up([self._step(one, index) for index, one in enumerate(batch, first)], first)

    def _step(self, batch: Batch, index: int) -> StepResult:
        optimizer, schedules = self.trainer.optimizers[0], self.trainer.lr_scheduler_configs
        self._prepare(index, optimizer)
        answer = self._learn(tuple(part.to(self.device) for part in batch), index)
        optimizer.zero_grad()
        answer.loss.backward()  # type: ignore[no-untyped-call]
        if self.train_section.clip:
            torch.nn.utils.clip_grad_norm_(_learning(optimizer), self.train_section.clip)
        optimizer.step()
        for told in schedules:
            told.scheduler.step()  # type: ignore[call-arg]
        self._follow(index)
        return answer


def _learning(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [weights for group in optimizer.param_groups for weights in group["params"]]


def seed_global(seed: int, device: torch.device) -> None:
    """Seed the generators that a step draws from: that of the CPU, and of the device.

    `torch.manual_seed` seeds those of devices that are not in use as well, by noting the call with its whole stack for later:
    that took a third of a small step, and a little memory for ever.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _joint(logits: Tensor) -> Tensor:
    """(N, C) scores whose largest is the answer; the mean probability of members (N, T, C)."""
    return logits if logits.ndim == 2 else logits.softmax(2).mean(1)


def unpack(batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
    """Scans, labels, and the words where there are some."""
    scans, labels, *words = batch
    return scans, labels, words[0] if words else None


def channels_first(images: Tensor) -> Tensor:
    """(N, H, W, C) as stored to (N, C, H, W); a view, which is the channels-last memory format."""
    return images.permute(0, 3, 1, 2)
