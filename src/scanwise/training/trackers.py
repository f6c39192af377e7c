"""Where the figures of each epoch go besides history.csv: TensorBoard, Weights & Biases, MLflow, as the recipe says.

A tracker is a guest: where it cannot be reached, or breaks later, that is said once and training goes on without it.
"""

import hashlib
import importlib.util
import io
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

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
    """Tell every tracker of each epoch, and of the confusion matrix when a stage ends.

    Args:
        section: which trackers, and where they are.
        fit: whose training it is.
        keeper: has the history; it must come before this callback.
        classes: their names, for the confusion matrix.

    Raises:
        RecipeError: if a tracker's package is not installed.
    """

    def __init__(self, section: Tracking, fit: Fit, keeper: HistoryCallback, classes: Sequence[str]) -> None:
        for name in section.names:
            _refuse_missing(name)
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
        matrix = metrics.confusion_matrix(module.probs, module.known)
        names = self.classes or tuple(str(index) for index in range(len(matrix)))
        for name, logger in list(self.loggers.items()):
            self._attempt(name, partial(PICTURES[name], logger, matrix, names))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let every tracker write what it still holds, and know whether the training came to its end."""
        for name, logger in list(self.loggers.items()):
            self._attempt(name, partial(_close, name, logger, broken=kind is not None))

    def _open(self, name: str, section: Tracking, fit: Fit) -> None:
        self.loggers[name] = OPENERS[name](section, fit)

    def _attempt(self, name: str, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever a guest throws, the training is worth more
            self.loggers.pop(name, None)
            log.warning(
                "%s cannot be told (%s: %s). Training goes on without it; history.csv has all figures.",
                name, type(error).__name__, str(error).split("\n", 1)[0][:200],
            )  # fmt: skip


PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}


def _refuse_missing(name: str) -> None:
    packages = {PACKAGES[name], name}  # TensorBoard's own writer serves as well
    if not any(importlib.util.find_spec(package) for package in packages):
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

    place = fit.path / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(init_timeout=20, silent=True, console="off")
    logger = WandbLogger(
        name=_title(fit), save_dir=place, project=section.project, offline=section.offline, id=_identity(fit),
        resume="allow", settings=settings,
    )  # fmt: skip
    _ = logger.experiment
    return logger


def _open_mlflow(section: Tracking, fit: Fit) -> Logger:
    # A server that is away must not hold training up: by default MLflow tries for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from lightning.pytorch.loggers import MLFlowLogger

    place = fit.path / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    known = place / "mlflow-run.txt"  # a training that goes on writes into the same run
    uri = section.uri or f"sqlite:///{(place / 'mlflow.db').resolve()}"
    logger = MLFlowLogger(
        section.project, _title(fit), uri, artifact_location=_artifacts(section, place),
        run_id=known.read_text(encoding="utf-8") if known.is_file() else None,
    )  # fmt: skip
    write_text(str(logger.run_id), known)
    return logger


def _artifacts(section: Tracking, place: Path) -> str | None:
    """Where a new experiment keeps its files: in the fit only if no other fit can be in it; of a server, where that says."""
    if not section.uri:
        return (place / "artifacts").resolve().as_uri()
    if section.uri.startswith("sqlite"):
        return (Path(section.uri.partition(":///")[2]).resolve().parent / "artifacts" / section.project).as_uri()
    return None


def _title(fit: Fit) -> str:
    """RUN-PROTOCOL-FOLD, and which network of a deep ensemble it is."""
    path, member = fit.path.resolve(), ""
    if path.parent.name == "members":
        path, member = path.parents[1], f"-{path.name}"
    return f"{path.parents[2].name}-{fit.protocol}-{fit.fold}{member}"


def _identity(fit: Fit) -> str:
    """The same for a training that goes on."""
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


def _picture_tensorboard(logger: Any, matrix: FloatArray, names: Sequence[str]) -> None:
    import numpy as np
    from PIL import Image

    drawn = io.BytesIO()
    _figure(matrix, names).savefig(drawn, format="png")
    pixels = np.asarray(Image.open(drawn).convert("RGB"))
    logger.experiment.add_image("validation confusion", pixels, dataformats="HWC")
    rows = [f"| {names[row]} | {names[column]} | {count:.0f} |" for (row, column), count in _cells(matrix)]
    logger.experiment.add_text("validation confusion", "\n".join(["| label | predicted | scans |", "|-|-|-|", *rows]))


def _picture_wandb(logger: Any, matrix: FloatArray, names: Sequence[str]) -> None:
    import wandb

    rows: list[Any] = [[names[row], names[column], count] for (row, column), count in _cells(matrix)]
    table = wandb.Table(columns=["label", "predicted", "scans"], data=rows)
    logger.experiment.log(
        {"validation confusion": wandb.Image(_figure(matrix, names)), "validation confusion table": table}
    )


def _picture_mlflow(logger: Any, matrix: FloatArray, names: Sequence[str]) -> None:
    figure = _figure(matrix, names)
    logger.experiment.log_figure(logger.run_id, figure, "validation_confusion.png")
    cells = _cells(matrix)
    columns = {
        "label": [names[row] for (row, _), _ in cells],
        "predicted": [names[column] for (_, column), _ in cells],
        "scans": [count for _, count in cells],
    }
    logger.experiment.log_table(logger.run_id, columns, "validation_confusion.json")


def _close(name: str, logger: Any, *, broken: bool) -> None:
    logger.finalize("failed" if broken else "success")
    if name == "wandb":
        logger.experiment.finish(exit_code=int(broken))


OPENERS: dict[str, Callable[[Tracking, Fit], Logger]] = {
    "tensorboard": _open_tensorboard,
    "wandb": _open_wandb,
    "mlflow": _open_mlflow,
}
PICTURES: dict[str, Callable[[Any, FloatArray, Sequence[str]], None]] = {
    "tensorboard": _picture_tensorboard,
    "wandb": _picture_wandb,
    "mlflow": _picture_mlflow,
}
