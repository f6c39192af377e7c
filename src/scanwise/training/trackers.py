"""Experiment trackers beside history.csv: TensorBoard, Weights & Biases, MLflow.

A tracker that cannot be reached, or breaks later, is reported once and training goes on without it.
"""

import hashlib
import importlib.util
import io
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from scanwise import metrics
from scanwise.errors import RecipeError
from scanwise.recipe import Tracking
from scanwise.records import FloatArray
from scanwise.run import Fit, write_text
from scanwise.training.history import HistoryCallback

log = logging.getLogger("scanwise")

FOLDER = "tracking"  # in the folder of the fit


class Trackers(Callback):
    """Send each epoch to every tracker, and the confusion matrix when a stage ends.

    Args:
        section: names and addresses of the trackers.
        fit: the fit that is trained.
        keeper: the history; its callback must come before this one.
        classes: names of the classes, for the confusion matrix.
    """

    def __init__(self, section: Tracking, fit: Fit, keeper: HistoryCallback, classes: Sequence[str]) -> None:
        self.keeper, self.classes = keeper, tuple(classes)
        self.loggers: dict[str, Logger] = {}
        for name in section.names:
            self._attempt(name, partial(self._open, name, section, fit))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        row = dict(self.keeper.history[-1])
        epoch = int(row.pop("epoch"))
        for name, logger in list(self.loggers.items()):
            self._attempt(name, partial(logger.log_metrics, row, epoch))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module: Any = pl_module
        if not len(module.probs):
            return
        matrix = metrics.confusion_matrix(module.probs, module.labels)
        names = self.classes or tuple(str(index) for index in range(len(matrix)))
        for name, logger in list(self.loggers.items()):
            self._attempt(name, partial(TRACKERS[name].log_confusion_matrix, logger, matrix, names))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close every tracker, with the state of the training: ended or broken off."""
        for name, logger in list(self.loggers.items()):
            self._attempt(name, partial(TRACKERS[name].close, logger, broken=kind is not None))

    def _open(self, name: str, section: Tracking, fit: Fit) -> None:
        self.loggers[name] = TRACKERS[name].open(section, fit)

    def _attempt(self, name: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - a broken tracker must not end the training
            self.loggers.pop(name, None)
            log.warning(
                "%s cannot be reached (%s: %s). Training goes on without it; history.csv has all figures.",
                name, type(error).__name__, str(error).split("\n", 1)[0][:200],
            )  # fmt: skip


def check_trackers(section: Tracking) -> None:
    """Look for the packages of the trackers, before hours are spent on what they would follow.

    Raises:
        RecipeError: if one is not installed.
    """
    for name in section.names:
        if not any(importlib.util.find_spec(package) for package in TRACKERS[name].packages):
            raise RecipeError(
                f"train.tracking names {name}, which is not installed. Install it with pip install 'scanwise[{name}]', "
                "or leave it out."
            )


def _open_tensorboard(section: Tracking, fit: Fit) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    logger = TensorBoardLogger(fit.path / FOLDER, name="tensorboard", version="")
    _ = logger.experiment
    return logger


def _open_wandb(section: Tracking, fit: Fit) -> Logger:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    folder = fit.path / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(init_timeout=20, silent=True, console="off")
    logger = WandbLogger(
        name=_title(fit), save_dir=folder, project=section.project, offline=section.offline, id=_identity(fit),
        resume="allow", settings=settings,
    )  # fmt: skip
    _ = logger.experiment
    return logger


def _open_mlflow(section: Tracking, fit: Fit) -> Logger:
    # A server that is away must not hold training up: by default MLflow tries for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from lightning.pytorch.loggers import MLFlowLogger

    folder = fit.path / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    id_file = folder / "mlflow-run.txt"  # a training that goes on writes into the same run
    uri = section.uri or f"sqlite:///{(folder / 'mlflow.db').resolve()}"
    logger = MLFlowLogger(
        section.project, _title(fit), uri, artifact_location=_artifacts(section, folder),
        run_id=id_file.read_text(encoding="utf-8") if id_file.is_file() else None,
    )  # fmt: skip
    write_text(str(logger.run_id), id_file)
    return logger


def _artifacts(section: Tracking, folder: Path) -> str | None:
    """Folder for the files of a new experiment: in the fit only if no other fit can be in it; None lets a server choose."""
    if not section.uri:
        return (folder / "artifacts").resolve().as_uri()
    if section.uri.startswith("sqlite"):
        return (Path(section.uri.partition(":///")[2]).resolve().parent / "artifacts" / section.project).as_uri()
    return None


def _title(fit: Fit) -> str:
    """RUN-PROTOCOL-FOLD, and the member of a deep ensemble."""
    path, member = fit.path.resolve(), ""
    if path.parent.name == "members":
        path, member = path.parents[1], f"-{path.name}"
    return f"{path.parents[2].name}-{fit.protocol}-{fit.fold}{member}"


def _identity(fit: Fit) -> str:
    """Run id that stays the same when a training resumes."""
    return hashlib.sha256(str(fit.path.resolve()).encode()).hexdigest()[:16]


def _figure(matrix: FloatArray, names: Sequence[str]) -> Any:
    """A confusion matrix as a matplotlib figure: labels down, predictions across."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 0.8 * len(names), 1 + 0.8 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(matrix, cmap="Blues")
    for (row, column), count in _cells(matrix):
        dark = count > matrix.max() / 2
        axes.text(column, row, f"{count:.0f}", ha="center", va="center", color="white" if dark else "black")
    axes.set(xticks=range(len(names)), yticks=range(len(names)), xlabel="predicted", ylabel="label")
    axes.set_xticklabels(names, rotation=45, ha="right")
    axes.set_yticklabels(names)
    return figure


def _cells(matrix: FloatArray) -> list[tuple[tuple[int, int], float]]:
    return [((row, column), float(count)) for row, line in enumerate(matrix) for column, count in enumerate(line)]


def _confusion_to_tensorboard(logger: Any, matrix: FloatArray, names: Sequence[str]) -> None:
    import numpy as np
    from PIL import Image

    image = io.BytesIO()
    _figure(matrix, names).savefig(image, format="png")
    pixels = np.asarray(Image.open(image, formats=["PNG"]).convert("RGB"))
    logger.experiment.add_image("validation confusion", pixels, dataformats="HWC")
    rows = [f"| {names[row]} | {names[column]} | {count:.0f} |" for (row, column), count in _cells(matrix)]
    logger.experiment.add_text("validation confusion", "\n".join(["| label | predicted | scans |", "|-|-|-|", *rows]))


def _confusion_to_wandb(logger: Any, matrix: FloatArray, names: Sequence[str]) -> None:
    import wandb

    rows: list[Any] = [[names[row], names[column], count] for (row, column), count in _cells(matrix)]
    table = wandb.Table(columns=["label", "predicted", "scans"], data=rows)
    logger.experiment.log(
        {"validation confusion": wandb.Image(_figure(matrix, names)), "validation confusion table": table}
    )


def _confusion_to_mlflow(logger: Any, matrix: FloatArray, names: Sequence[str]) -> None:
    figure = _figure(matrix, names)
    logger.experiment.log_figure(logger.run_id, figure, "validation_confusion.png")
    cells = _cells(matrix)
    columns = {
        "label": [names[row] for (row, _), _ in cells],
        "predicted": [names[column] for (_, column), _ in cells],
        "scans": [count for _, count in cells],
    }
    logger.experiment.log_table(logger.run_id, columns, "validation_confusion.json")


def _close_logger(logger: Any, *, broken: bool) -> None:
    logger.finalize("failed" if broken else "success")


def _close_wandb(logger: Any, *, broken: bool) -> None:
    _close_logger(logger, broken=broken)
    logger.experiment.finish(exit_code=int(broken))


class CloseTracker(Protocol):
    """Writes what a logger still holds, and whether the training broke off."""

    def __call__(self, logger: Any, *, broken: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class TrackerSpec:
    """An experiment tracker and how to use it.

    Attributes:
        name: entry of `train.tracking.names` in a recipe, and the extra that installs it.
        packages: packages that it can be used with; one of them must be installed.
        open: its Lightning logger, connected, for a fit.
        log_confusion_matrix: sends the confusion matrix of the validation scans and the names of the classes.
        close: ends its run.
    """

    name: str
    packages: tuple[str, ...]
    open: Callable[[Tracking, Fit], Logger]
    log_confusion_matrix: Callable[[Any, FloatArray, Sequence[str]], None]
    close: CloseTracker = _close_logger


TRACKERS: dict[str, TrackerSpec] = {
    spec.name: spec
    for spec in (
        # TensorBoard's own writer serves as well as tensorboardX.
        TrackerSpec("tensorboard", ("tensorboardX", "tensorboard"), _open_tensorboard, _confusion_to_tensorboard),
        TrackerSpec("wandb", ("wandb",), _open_wandb, _confusion_to_wandb, _close_wandb),
        TrackerSpec("mlflow", ("mlflow",), _open_mlflow, _confusion_to_mlflow),
    )
}
