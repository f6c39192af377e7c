"""Train one network on one split, through Lightning: checkpoints, history, early stopping, resume."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler
from tqdm import tqdm

from scanwise.cohort.store import Store
from scanwise.errors import RunError
from scanwise.models import Network, weights
from scanwise.recipe import Recipe
from scanwise.records import IntArray
from scanwise.run import Fit, spell_time, write_text, writing
from scanwise.training.augment import augment
from scanwise.training.losses import cross_entropy
from scanwise.training.module import Batch, Classifier, channels_first, seed_of

log = logging.getLogger("scanwise")

LAST, BEST = "last.ckpt", "best.ckpt"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training ended; seconds are those of this session, without the ones before a resume."""

    epochs: int
    best_epoch: int
    best: float
    seconds: float
    checkpoint_seconds: float


def train(
    network: Network,
    recipe: Recipe,
    store: Store,
    labels: IntArray,
    rows: dict[str, IntArray],
    fit: Fit,
    *,
    device: str = "auto",
    progress: bool = False,
) -> Outcome:
    """Train a network, or go on where the last checkpoint stands, and leave its best weights in `fit.model`.

    Args:
        network: as built, on the CPU; holds the best weights at the end.
        recipe: the whole recipe.
        store: pixels of the cohort.
        labels: (N,) of the cohort.
        rows: indices of the train and validation sides.
        fit: folder for checkpoints, history and weights.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        progress: show a bar.

    Raises:
        TrainingError: if the loss is not finite.
        RunError: if a checkpoint is damaged.
    """
    section = recipe.train
    started = time.perf_counter()
    for stale in fit.path.rglob(".*.part"):  # of a process that was killed
        stale.unlink()
    loader = train_loader(store, labels, rows["train"], section.batch, recipe.seed)
    weighed = class_weights(labels[rows["train"]], _classes(network, recipe)) if section.class_weights else None
    network.train()  # Lightning leaves the mode as it finds it
    module = Classifier(network.to(memory_format=torch.channels_last), section, weighed, recipe.seed, len(loader))
    keeper = Keeper(fit, section.monitor, section.patience, section.checkpoint_every, progress)
    last = fit.checkpoints / LAST
    with _quiet():
        trainer = L.Trainer(
            max_epochs=section.epochs,
            accelerator="auto" if device == "auto" else device.split(":")[0],
            devices=[int(device.split(":")[1])] if ":" in device else 1,
            callbacks=[keeper],
            plugins=[AtomicCheckpoints()],
            gradient_clip_val=section.clip or None,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        check = validation_loader(store, labels, rows["validation"], section.batch)
        try:
            trainer.fit(module, loader, check, ckpt_path=last if last.is_file() else None, weights_only=True)
        except SystemExit as stop:  # how Lightning ends on Ctrl-C
            raise KeyboardInterrupt from stop
    best = AtomicCheckpoints().load_checkpoint(fit.checkpoints / BEST)["state_dict"]
    network.cpu().load_state_dict({name.removeprefix("network."): tensor for name, tensor in best.items()})
    weights.save(network, fit.model)
    return Outcome(
        len(keeper.history), keeper.best_epoch, keeper.best, time.perf_counter() - started, sum(keeper.spent_on_disk)
    )


class Keeper(Callback):
    """At the end of each epoch: history, the best and last checkpoints, every k-th, and whether to stop."""

    def __init__(self, fit: Fit, monitor: str, patience: int, every: int, progress: bool) -> None:
        self.fit = fit
        self.monitor = monitor
        self.patience = patience
        self.every = every
        self.progress = progress
        self.history: list[dict[str, float]] = []
        self.best = -np.inf
        self.best_epoch = 0
        self.spent_on_disk: list[float] = []  # not in the history: known only after the checkpoint that holds it
        self._bar: Any = None
        self._times: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best": float(self.best), "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]
        self.best = state_dict["best"]
        self.best_epoch = state_dict["best_epoch"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.fit.checkpoints.mkdir(parents=True, exist_ok=True)
        if self.history:
            log.info("going on after epoch %d", len(self.history))
            write_text(to_csv(self.history), self.fit.history)  # it may have been killed before the last row
        if self._is_stale():  # it had stopped early, and was killed before its weights were written
            trainer.should_stop = True

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._times = {"start": time.perf_counter()}
        self._loss = torch.zeros((), dtype=torch.float64)
        self._correct = self._count = 0
        total = int(trainer.num_training_batches)
        name = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self._bar = tqdm(total=total, desc=name, unit=" batches", leave=False, disable=not self.progress)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])  # after the batch it is that of the next

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        count = len(batch[1])
        self._loss += float(outputs["loss"]) * count
        self._correct += int(outputs["correct"])
        self._count += count
        self._bar.update()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._times["trained"] = time.perf_counter()
        self._bar.close()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._times["validated"] = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module: Any = pl_module
        seconds = self._times["trained"] - self._times["start"]
        row = {
            "epoch": trainer.current_epoch + 1,
            "train_loss": float(self._loss) / self._count,
            "train_accuracy": self._correct / self._count,
            **module.scores,
            "lr": self._rate,
            "seconds": seconds,
            "validation_seconds": self._times["validated"] - self._times["trained"],
            "images_per_second": self._count / seconds,
        }
        self.history.append(row)
        score = -row["validation_loss"] if self.monitor == "loss" else row[f"validation_{self.monitor}"]
        if score > self.best or not self.best_epoch:
            self.best, self.best_epoch = score, trainer.current_epoch + 1
            trainer.save_checkpoint(self.fit.checkpoints / BEST, weights_only=True)
        if self._is_stale():
            trainer.should_stop = True
        if self.every and (trainer.current_epoch + 1) % self.every == 0:
            trainer.save_checkpoint(self.fit.checkpoints / f"epoch_{trainer.current_epoch + 1}.ckpt")
        trainer.save_checkpoint(self.fit.checkpoints / LAST)  # after all others: a resume does not go back to them
        self.spent_on_disk.append(time.perf_counter() - self._times["validated"])
        write_text(to_csv(self.history), self.fit.history)
        log.info("%s", self._line(row, trainer.max_epochs or 0))

    def _is_stale(self) -> bool:
        return bool(self.patience) and len(self.history) - self.best_epoch >= self.patience

    def _line(self, row: dict[str, float], epochs: int) -> str:
        name = self.monitor.replace("_", " ")
        near = self.history[-5:]
        spent = sum(past["seconds"] + past["validation_seconds"] for past in near) / len(near) + self.spent_on_disk[-1]
        left = spent * (epochs - row["epoch"])
        best = abs(self.best)
        return (
            f"epoch {row['epoch']:>3.0f}/{epochs}  loss {row['train_loss']:.3f}  validation {row['validation_loss']:.3f}  "
            f"{name} {row[f'validation_{self.monitor}']:.3f}  (best {best:.3f} @ {self.best_epoch})  "
            f"{row['images_per_second']:.0f}/s  {spell_time(left)} left"
        )


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints under their name only once they are whole, and read without executing anything."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with writing(Path(path)) as temporary:
            try:
                with temporary.open("wb") as file:
                    torch.save(checkpoint, file)
            except RuntimeError as error:  # torch buries what the disk said
                buried: BaseException | None = error
                while buried is not None and not isinstance(buried, OSError):
                    buried = buried.__context__
                raise buried or error from None

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        try:
            found: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        except Exception as error:  # a damaged file raises what it likes
            raise RunError(
                f"The checkpoint {path} is damaged ({type(error).__name__}). "
                f"Delete {Path(path).parent} to train this fit anew."
            ) from error
        return found


class Scans(Dataset[Batch]):
    """Scans of one side, a whole batch in one read."""

    def __init__(self, store: Store, labels: IntArray, rows: IntArray) -> None:
        self.store, self.labels, self.rows = store, labels, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: list[int]) -> Batch:
        rows = self.rows[indices]
        return torch.from_numpy(self.store.read(rows)), torch.from_numpy(self.labels[rows])


class EpochOrder(Sampler[int]):
    """A new order every epoch, told by the seed and the epoch alone."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning says which epoch it is."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        return iter(torch.randperm(self.count, generator=generator).tolist())


def train_loader(store: Store, labels: IntArray, rows: IntArray, batch: int, seed: int) -> "DataLoader[Batch]":
    """Batches in an order of their own each epoch; a last batch of one scan is dropped (batch norm needs two)."""
    lonely = len(rows) % batch == 1
    batches = BatchSampler(EpochOrder(len(rows), seed), batch, drop_last=lonely)
    return DataLoader(Scans(store, labels, rows), batch_sampler=batches, collate_fn=_as_is)


def validation_loader(store: Store, labels: IntArray, rows: IntArray, batch: int) -> "DataLoader[Batch]":
    """All scans of a side, in order."""
    return DataLoader(Scans(store, labels, rows), batch_size=batch, collate_fn=_as_is)


def class_weights(labels: IntArray, num_classes: int) -> Tensor:
    """(C,) weights inverse to the number of scans, with mean 1 over the scans; 0 for a class without any."""
    counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
    weighted = np.divide(len(labels) / (counts > 0).sum(), counts, out=np.zeros_like(counts), where=counts > 0)
    return torch.tensor(weighted, dtype=torch.float32)


def _classes(network: Network, recipe: Recipe) -> int:
    """How many values come out of a network; labels may lack the last class."""
    data = recipe.data
    with torch.inference_mode():
        logits: Tensor = network.eval()(torch.zeros(1, data.channels, data.size, data.size))
    return logits.shape[1]


def to_csv(rows: list[dict[str, float]]) -> str:
    """Rows of numbers as CSV text, with full precision."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(names), *(",".join(repr(row[name]) if name in row else "" for name in names) for row in rows)]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds a scan takes, in training and in prediction."""

    train: float
    predict: float


def time_steps(network: Network, recipe: Recipe, device: str, steps: int = 3) -> Speed:
    """Time a few steps on random pixels, augmentation included; the weights are changed, so throw the network away."""
    section, data = recipe.train, recipe.data
    module = Classifier(network, section, None, recipe.seed, steps).to(device, memory_format=torch.channels_last)
    optimizer = module.configure_optimizers()["optimizer"]
    images = torch.randint(
        0, 256, (section.batch, data.size, data.size, data.channels), dtype=torch.uint8, device=device
    )
    labels = torch.zeros(section.batch, dtype=torch.int64, device=device)

    def step() -> None:
        optimizer.zero_grad()
        logits = network(augment(channels_first(images), section.augment, module.generator))
        cross_entropy(logits, labels, None, 0.0).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return Speed(
        _seconds(step, steps, device) / section.batch,
        _seconds(lambda: network(channels_first(images)), steps, device) / section.batch,
    )


def _seconds(work: Callable[[], object], times: int, device: str) -> float:
    """Mean time of some work after one round of warming up."""
    work()
    started = time.perf_counter()
    for _ in range(times):
        work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / times


def _as_is(batch: Any) -> Any:
    return batch


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice on workers and hardware is for others: the data is in memory, the device is chosen."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
