"""History, checkpoints and early stopping, at the end of each epoch."""

import logging
import time
from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from scanwise.csv_files import format_csv
from scanwise.metrics import lower_is_better
from scanwise.models import weights
from scanwise.progress_bar import measure_step, report_share, time_left
from scanwise.recipe import Train, TrainingStage
from scanwise.run import Fit, is_writer, write_text
from scanwise.training import distributed
from scanwise.training.checkpoints import BEST, LAST
from scanwise.training.loaders import Batch

log = logging.getLogger("scanwise")


class HistoryCallback(Callback):
    """Callback that keeps the history and the best, last and every k-th checkpoint, and stops early.

    Args:
        fit: the fit that is trained.
        section: section of the recipe.
        after: called when the checkpoint and the history of an epoch are on disk.
    """

    def __init__(self, fit: Fit, section: Train, after: Callable[[], None] | None = None) -> None:
        self.fit = fit
        self.epochs = section.epochs
        self.after = after
        self.monitor = section.monitor
        self.patience = section.patience
        self.every = section.checkpoint_every
        self.exports = section.export_every
        self.history: list[dict[str, float]] = []
        self.best = -np.inf
        self.best_epoch = 0
        self.stage = 0
        self.began = 0  # number of epochs before this stage
        self.staged = False
        self.spent_on_disk: list[float] = []  # not in the history: known only after the checkpoint that holds it
        self._times: dict[str, float] = {}

    @property
    def state_key(self) -> str:
        """Key of this callback in a checkpoint; part of the format, whatever the class is called."""
        return "Keeper"

    def state_dict(self) -> dict[str, Any]:
        kept = {"history": self.history, "best": float(self.best), "best_epoch": self.best_epoch}
        return kept | {"stage": self.stage, "began": self.began}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]
        self.best = state_dict["best"]
        self.best_epoch = state_dict["best_epoch"]
        self.stage, self.began = state_dict.get("stage", 0), state_dict.get("began", 0)  # older ones have one stage

    def begin(self, stage: int, staged: bool) -> None:
        """Start the next stage; early stopping counts from here."""
        if stage > self.stage:
            self.stage, self.began = stage, len(self.history)
        self.staged = staged

    def has_ended(self, index: int, stage: TrainingStage) -> bool:
        """True if a stage was trained to its end before, or had stopped early."""
        if index != self.stage:
            return index < self.stage
        return len(self.history) - self.began >= stage.epochs or self._is_stale()

    def write_history(self) -> None:
        if is_writer():
            write_text(rows_to_csv(self.history), self.fit.history)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.fit.checkpoints.mkdir(parents=True, exist_ok=True)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._times = {"start": time.perf_counter()}
        self._sums = {"cost": 0.0, "correct": 0.0, "count": 0.0}
        self._batches = 0
        self._report_share(trainer, 0.0)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        for name in self._sums:
            self._sums[name] += outputs[name]
        self._batches += outputs["batches"]
        loader: Any = trainer.train_dataloader
        self._report_share(trainer, self._batches / len(loader.batch_sampler))
        self._times["trained"] = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._times["validated"] = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module: Any = pl_module
        loss, correct, count = distributed.sum_over_processes(
            torch.tensor(list(self._sums.values()), dtype=torch.float64)
        ).tolist()
        seconds = self._times["trained"] - self._times["start"]
        row = {
            "epoch": self._epoch(trainer),
            "train_loss": loss / count,
            "train_accuracy": correct / count,
            **module.scores,
            "lr": module.rate,
            "seconds": seconds,
            "validation_seconds": self._times["validated"] - self._times["trained"],
            "images_per_second": count / seconds,
            **({"stage": self.stage + 1} if self.staged else {}),
        }
        self.history.append(row)
        score = (-1 if lower_is_better(self.monitor) else 1) * row[f"validation_{self.monitor}"]
        if np.isnan(score) and not self.best_epoch and is_writer():
            log.warning(
                "train.monitor: %s is not defined on the validation scans, which may lack a class. As long as it is not, "
                "epoch 1 counts as the best and is kept. Choose another monitor, such as loss.", self.monitor,
            )  # fmt: skip
        # A metric that is undefined (NaN) at first gives way to any number.
        if score > self.best or not self.best_epoch or (np.isnan(self.best) and not np.isnan(score)):
            self.best, self.best_epoch = score, self._epoch(trainer)
            trainer.save_checkpoint(self.fit.checkpoints / BEST, weights_only=True)
        if self._is_stale():
            trainer.should_stop = True
        if self.every and self._epoch(trainer) % self.every == 0:
            trainer.save_checkpoint(self.fit.checkpoints / f"epoch_{self._epoch(trainer)}.ckpt")
        if self.exports and self._epoch(trainer) % self.exports == 0 and is_writer():
            weights.export_weights(module.evaluated, self.fit.checkpoints, self._epoch(trainer))
        trainer.save_checkpoint(self.fit.checkpoints / LAST)  # after all others: a resume does not go back to them
        self.spent_on_disk.append(time.perf_counter() - self._times["validated"])
        self.write_history()
        if self.after is not None and is_writer():
            self.after()
        self._report_share(trainer, 1.0)
        measure_step()
        if is_writer():
            log.info("%s", self._line(row, self._all_epochs(trainer)))

    def _report_share(self, trainer: L.Trainer, share: float) -> None:
        """Report the share of all epochs that is done, given that of this one."""
        epoch, epochs = self._epoch(trainer), self._all_epochs(trainer)
        report_share((epoch - 1 + share) / epochs, f"epoch {epoch}/{epochs}")

    def _all_epochs(self, trainer: L.Trainer) -> int:
        return self.epochs or trainer.max_epochs or 1

    def _is_stale(self) -> bool:
        return bool(self.patience) and len(self.history) - max(self.best_epoch, self.began) >= self.patience

    def _epoch(self, trainer: L.Trainer) -> int:
        """Epoch over all stages, from 1."""
        return self.began + trainer.current_epoch + 1

    def _line(self, row: dict[str, float], epochs: int) -> str:
        name = self.monitor.replace("_", " ")
        monitored = "" if self.monitor == "loss" else f"{name} {row[f'validation_{self.monitor}']:.3f}  "
        return (
            f"epoch {row['epoch']:>3.0f}/{epochs}  loss {row['train_loss']:.3f}  validation {row['validation_loss']:.3f}  "
            f"{monitored}best @ {self.best_epoch}  {time_left()}"
        ).rstrip()


def rows_to_csv(rows: list[dict[str, float]]) -> str:
    """Rows of numbers as CSV text, with full precision."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return format_csv(names, ([row.get(name, "") for name in names] for row in rows))
