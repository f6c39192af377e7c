"""Train one network on one split, stage after stage, with Lightning; a training that was killed resumes."""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader

from scanwise.cohort.store import Store
from scanwise.errors import RunError, TrainingError
from scanwise.models import Network, dry_run, weights
from scanwise.recipe import Recipe, Tracking, Train
from scanwise.records import IntArray, StrArray
from scanwise.run import Fit, is_writer, remove_parts
from scanwise.training import distributed, features
from scanwise.training.bags import BagClassifier, BagDataset, Bags
from scanwise.training.checkpoints import BEST, LAST, AtomicCheckpointIO, checkpoint_weights
from scanwise.training.guards import explain_memory_errors, flush_denormals, quiet_lightning
from scanwise.training.history import HistoryCallback
from scanwise.training.loaders import (
    SINGLE_PROCESS,
    Batch,
    BatchGroups,
    FeatureDataset,
    ScanDataset,
    train_loader,
    validation_loader,
)
from scanwise.training.module import ClassifierModule, GroupedClassifier
from scanwise.training.sampling import NO_SYNTHETIC, EpochOrder, class_weights, derive_seed, sampling_weights, smote
from scanwise.training.stages import StageRun, apply_freezing, find_network_parts, stages_of
from scanwise.training.trackers import Trackers

log = logging.getLogger("scanwise")

MAX_PIECE = 64
"""Most scans of people that pass through the network at a time in validation."""
FEATURES = "features"  # beside the checkpoints, until the training ends


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """Result of a training; its seconds leave out those before a resume."""

    epochs: int
    best_epoch: int
    best: float
    seconds: float
    checkpoint_seconds: float


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Inputs of a training that it does not change.

    Attributes:
        recipe: the whole recipe.
        store: pixels of the cohort.
        labels: (N,) of the cohort.
        rows: indices of the train and validation sides.
        subjects: (N,) subject of each scan, or None if unknown.
        tokens: (N, L) words beside the scans, or None.
        caching: keep the features of frozen stages; False computes them anew, for comparison.
    """

    recipe: Recipe
    store: Store
    labels: IntArray
    rows: dict[str, IntArray]
    subjects: StrArray | None = None
    tokens: IntArray | None = None
    caching: bool = True

    def labels_of(self, side: str) -> IntArray:
        return self.labels[self.rows[side]]

    def bags(self, side: str) -> Bags | None:
        """People of a side; None where the unit is the scan."""
        if not self.recipe.model.by_subject:
            return None
        if self.subjects is None:
            raise TrainingError("model.unit: subject learns people, and it is not known whose scans these are.")
        return Bags.of(self.subjects[self.rows[side]], self.labels_of(side))

    @property
    def pieces(self) -> int:
        """Number of scans of people that pass through the network at a time where no gradients are kept."""
        return min(MAX_PIECE, self.recipe.train.batch * self.recipe.model.bag)

    def drawn(self) -> tuple[IntArray, StrArray | None]:
        """Labels and subjects of the training units."""
        bags = self.bags("train")
        return (self.labels_of("train"), self.train_subjects) if bags is None else (bags.labels, bags.subjects)

    @property
    def train_subjects(self) -> StrArray | None:
        return None if self.subjects is None else self.subjects[self.rows["train"]]

    def tokens_of(self, side: str) -> IntArray | None:
        return None if self.tokens is None else self.tokens[self.rows[side]]


def train_network(
    network: Network,
    recipe: Recipe,
    store: Store,
    labels: IntArray,
    rows: dict[str, IntArray],
    fit: Fit,
    *,
    subjects: StrArray | None = None,
    tokens: IntArray | None = None,
    classes: Sequence[str] = (),
    device: str = "auto",
    caching: bool = True,
    after: Callable[[], None] | None = None,
) -> TrainingSummary:
    """Train a network, or resume it from its last checkpoint, and save its best weights to `fit.model`.

    If the recipe has no epochs, the network's weights are saved there as they are, and there is no history.

    Args:
        network: as built, on the CPU; holds the best weights at the end.
        recipe: the whole recipe.
        store: pixels of the cohort.
        labels: (N,) of the cohort.
        rows: indices of the train and validation sides.
        fit: folder for checkpoints, history and weights.
        subjects: (N,) of the cohort, for sampling by subject; None if unknown.
        tokens: (N, L) words of the cohort, for a network that takes text.
        classes: their names, for the trackers.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        caching: keep the features of frozen stages; False computes the same ones anew, for comparison.
        after: called after each epoch, when its checkpoint and history are on disk.

    Raises:
        TrainingError: if the loss is not finite, or the memory does not suffice.
        RunError: if a checkpoint is damaged.
    """
    section = recipe.train
    data = TrainingData(recipe, store, labels, rows, subjects, tokens, caching)
    started = time.perf_counter()
    distributed.join_processes()
    if is_writer():
        remove_parts(fit.path)
    if not section.epochs:
        if is_writer():
            weights.save_weights(network, fit.model)
        return TrainingSummary(0, 0, np.nan, time.perf_counter() - started, 0.0)
    history = HistoryCallback(fit, section, after)
    resumes = _load_last_checkpoint(network, history, fit.checkpoints / LAST)
    distributed.wait_for_all()
    # Labels may lack the last class: the network has the number of classes.
    count = dry_run.dry_run_logits(network, recipe).shape[1] if section.class_weights else 0
    labels_drawn, subjects_drawn = data.drawn()
    loss_weights = class_weights(labels_drawn, count, section.sampling, subjects_drawn) if count else None
    network.to(memory_format=torch.channels_last)
    stages = stages_of(section)
    trackers = Trackers(section.tracking if is_writer() else Tracking(), fit, history, classes)
    with quiet_lightning(), flush_denormals(), explain_memory_errors(recipe), trackers:
        for index, stage in enumerate(stages):
            if history.has_ended(index, stage):
                continue
            resumed = resumes and index == history.stage
            history.begin(index, bool(section.stages))
            parts = find_network_parts(network, recipe.data.channels, recipe.data.size) if section.stages else None
            phase = StageRun(stage, index, history.began, parts)
            watchers = (history, trackers) if trackers.loggers else (history,)  # each costs some time in every step
            _train_stage(network, data, phase, loss_weights, watchers, device, resumed)
    distributed.wait_for_all()
    if is_writer():
        shutil.rmtree(fit.path / FEATURES, ignore_errors=True)
    network.requires_grad_(True)
    best = AtomicCheckpointIO().load_checkpoint(fit.checkpoints / BEST)
    network.cpu().load_state_dict(checkpoint_weights(best, "average" if section.ema else "network"))
    if is_writer():
        weights.save_weights(network, fit.model)
    return TrainingSummary(
        len(history.history),
        history.best_epoch,
        history.best,
        time.perf_counter() - started,
        sum(history.spent_on_disk),
    )


def _load_last_checkpoint(network: Network, history: HistoryCallback, last: Path) -> bool:
    """Load weights and history of the last checkpoint; False if there is none."""
    if not last.is_file():
        return False
    saved = AtomicCheckpointIO().load_checkpoint(last)
    try:
        network.load_state_dict(checkpoint_weights(saved))
    except RuntimeError as error:
        raise RunError(
            f"The checkpoint {last} belongs to another network, perhaps for other classes: "
            f"{str(error).splitlines()[-1].strip()} Delete {last.parent} to train this fit anew."
        ) from error
    history.load_state_dict(saved["callbacks"][history.state_key])
    log.info("resuming after epoch %d", len(history.history))
    history.write_history()  # it may have been killed before the last row
    return True


def _train_stage(
    network: Network,
    data: TrainingData,
    phase: StageRun,
    loss_weights: Tensor | None,
    watchers: tuple[HistoryCallback] | tuple[HistoryCallback, Trackers],
    device: str,
    resumed: bool,
) -> None:
    """Train one stage to its end."""
    history, section = watchers[0], data.recipe.train
    if phase.parts is None:
        network.train()  # Lightning leaves the mode as it finds it
    else:
        apply_freezing(network, phase.parts, phase.section)
    network.to(distributed.process_device(chosen_device(device)))
    loader, check = _loaders(network, data, phase, history.fit.path / FEATURES)
    steps, precision = -(-len(loader) // section.accumulate), precision_on(section, device)
    grouped = _groups_batches(data, phase, precision)
    given = network, section, loss_weights, data.recipe.seed, steps, phase, distributed.process_share()
    people = data.bags("validation")
    if people is not None:
        module: ClassifierModule = BagClassifier(*given, people=people)
    else:
        module = (GroupedClassifier if grouped else ClassifierModule)(*given)
    trainer = L.Trainer(
        max_epochs=phase.section.epochs,
        **_lightning_devices(device, network),
        precision=precision,
        callbacks=list(watchers),
        gradient_clip_val=None if grouped else section.clip or None,
        accumulate_grad_batches=section.accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    last = history.fit.checkpoints / LAST
    try:
        trainer.fit(
            module,
            BatchGroups(loader) if grouped else loader,
            check,
            ckpt_path=last if resumed else None,
            weights_only=True,
        )
    except SystemExit as stop:  # how Lightning ends on Ctrl-C
        raise KeyboardInterrupt from stop


def _groups_batches(data: TrainingData, phase: StageRun, precision: str) -> bool:
    """True if steps are so short that several are taken at a time, and none needs Lightning around it."""
    plain = data.recipe.train.accumulate == 1 and precision == "32-true" and distributed.process_share().size == 1
    return phase.section.is_cached and plain and not data.recipe.model.by_subject


def _loaders(
    network: Network, data: TrainingData, phase: StageRun, folder: Path
) -> tuple["DataLoader[Batch]", "DataLoader[Batch]"]:
    """Batches of pixels; of feature maps where the whole backbone is frozen."""
    section, seed, share = data.recipe.train, data.recipe.seed, distributed.process_share()
    labels, subjects = data.drawn()
    weights_drawn, bags = sampling_weights(section.sampling, labels, subjects), data.bags("train")
    if not phase.section.is_cached:
        sides = {side: ScanDataset(data.store, data.labels, data.rows[side], data.tokens) for side in data.rows}
        order = EpochOrder(len(labels), seed, phase.first, weights_drawn)
        taken = SINGLE_PROCESS if section.mixup or section.cutmix else share  # to mix scans, the batch must come whole
        learn: ScanDataset | FeatureDataset = sides["train"]
        check: ScanDataset | FeatureDataset = sides["validation"]
    else:
        sources, synthetic, taken = _sources(network, data, phase, folder), NO_SYNTHETIC, share
        if section.sampling == "smote":
            synthetic = smote(features.pool_features(sources["train"]), labels, derive_seed(seed, phase.first))
        order = EpochOrder(len(labels) + len(synthetic), seed, phase.first, weights_drawn)
        learn = FeatureDataset(sources["train"], data.labels_of("train"), data.tokens_of("train"), order, synthetic)
        check = FeatureDataset(sources["validation"], data.labels_of("validation"), data.tokens_of("validation"))
    if bags is None:
        return train_loader(learn, order, section.batch, taken), validation_loader(check, section.batch, share)
    drawn = BagDataset(learn, bags, data.recipe.model.bag, seed, order)
    return train_loader(drawn, order, section.batch, taken), validation_loader(check, data.pieces, share)


def _sources(network: Network, data: TrainingData, phase: StageRun, folder: Path) -> dict[str, features.FeatureSource]:
    """Feature maps of training and validation scans: cached on disk, or computed anew."""
    if phase.parts is None or (network.members > 1 and not network.folds_late):
        raise TrainingError(
            "The features of a batch ensemble whose members differ below the head cannot be cached. Set views: 0 in the "
            "frozen stage, or freeze: none."
        )
    section, seed = data.recipe.train, data.recipe.seed
    counts = {"train": phase.section.views, "validation": 1}
    sides = {
        side: features.RecomputedFeatures(
            network,
            data.store,
            data.rows[side],
            features.draw_views(len(data.rows[side]), views, section.augment, seed),
        )
        for side, views in counts.items()
    }
    if not data.caching:
        return dict(sides)
    fingerprint = phase.parts.fingerprint(network)
    pieces = data.pieces if data.recipe.model.by_subject else section.batch
    return distributed.writer_first(lambda: features.cache_features(folder, sides, fingerprint, pieces))


def _lightning_devices(device: str, network: Network) -> dict[str, Any]:
    """Lightning's arguments for devices: one device, or one per process with gradients averaged over all."""
    accelerator = "auto" if device == "auto" else device.split(":")[0]
    devices = [int(device.split(":")[1])] if ":" in device else 1
    if distributed.process_share().size == 1:
        return {"accelerator": accelerator, "devices": devices, "plugins": [AtomicCheckpointIO()]}
    local_count = distributed.local_process_count()
    return {
        "accelerator": accelerator,
        "devices": local_count,
        "num_nodes": distributed.process_share().size // local_count,
        # An encoder of words brings layers that no loss reaches.
        "strategy": DDPStrategy(find_unused_parameters=network.takes_tokens, timeout=distributed.PATIENCE),
        "plugins": [AtomicCheckpointIO(), TorchElasticEnvironment()],
    }


def chosen_device(device: str) -> str:
    """Torch device that Lightning will use."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def precision_on(section: Train, device: str) -> Any:
    """Lightning's name of the precision: 16 bits if set and on a GPU, bfloat16 if the GPU has it."""
    if section.precision == "full" or not chosen_device(device).startswith("cuda"):
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
