"""Sections of a recipe about how the network learns."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from scanwise.recipe.section import Count, Fraction, Positive, Proportion, Section

LossName = Literal["cross_entropy", "focal", "corn"]
"""Rows of `scanwise.training.losses.LOSSES`; a test holds the two together."""
TrackerName = Literal["tensorboard", "wandb", "mlflow"]
"""Rows of `scanwise.training.trackers.TRACKERS`; a test holds the two together."""


class Optimizer(Section):
    """How weights move."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: Positive = 1e-3
    """Learning rate at the top of the schedule."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD; the others ignore it."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class Schedule(Section):
    """How the learning rate changes."""

    name: Literal["constant", "cosine", "step"] = "constant"
    warmup: Annotated[float, Field(ge=0)] = 0.0
    """Epochs of linear warm-up."""
    every: Count = 30
    """Of `step`: epochs between two drops."""
    factor: Fraction = 0.1
    """Of `step`: what is left of the rate after a drop."""


class Augment(Section):
    """Random changes of the training scans, drawn anew each epoch, batched on the device."""

    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest shift, as a share of the side."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest relative zoom, in or out."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation, in degrees."""
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of shift, scale and rotation together, for each scan."""
    flip: bool = False
    """Left-right mirror images; only where anatomy allows."""
    brightness: Proportion = 0.0
    """Largest change of brightness, as a share of the whole range. Off by default: the reference system for 32 × 32 gray
    scans measured that it hurts, and in CT and MRI the gray value itself may tell the disease."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest relative change of contrast, around the mean of each scan; off by default for the same reason."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest relative change of gamma; black stays black and white stays white."""
    elastic: Annotated[float, Field(ge=0, le=0.2)] = 0.0
    """Largest elastic displacement, as a share of the side. Off by default: it was measured to hurt as well, and it bends
    the very shapes (ventricles, cortex) that stages of dementia are told by."""


class TrainingStage(Section):
    """A part of the training that has a rate of its own and says which part of the network learns."""

    epochs: Count
    freeze: Literal["none", "backbone"] = "none"
    """`backbone` holds the backbone still, its batch norm and dropout included, and trains the head alone."""
    top: Annotated[int, Field(ge=0)] = 0
    """Of `freeze: backbone`: how many of its last blocks learn with the head all the same."""
    lr: Positive | None = None
    """Learning rate at the top of the schedule; unsaid, that of train.optimizer."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Discriminative rates: each block learns at this share of the rate of the block above it, the head at the full rate."""
    schedule: Schedule | None = None
    """Unsaid, that of train.schedule. It begins anew with every stage."""
    views: Annotated[int, Field(ge=0)] = 1
    """Of a backbone that is frozen whole: how many views of each scan it sees, once; the head learns from what it kept of
    them, one view an epoch. The first view is the scan as it is, further ones are augmented. 0 keeps nothing and draws new
    changes in every epoch, which is slow."""

    @property
    def is_cached(self) -> bool:
        """Whether the head learns from features that were computed once."""
        return self.freeze == "backbone" and self.top == 0 and self.views > 0

    @model_validator(mode="after")
    def _top_of_frozen(self) -> Self:
        if self.top and self.freeze == "none":
            raise ValueError("top says which blocks of a frozen backbone learn; add freeze: backbone, or leave it out")
        return self


class Tracking(Section):
    """Where the figures of each epoch go besides history.csv. A tracker that cannot be reached does not stop training."""

    names: tuple[TrackerName, ...] = ()
    """Each needs its extra, such as `pip install 'scanwise[mlflow]'`."""
    project: str = "scanwise"
    """The project of W&B, the experiment of MLflow."""
    offline: bool = True
    """Of W&B: write into the run folder alone, nothing leaves the machine; `wandb sync` sends it later."""
    uri: str = ""
    """Of MLflow: its server, or a file as `sqlite:///FILE`; unsaid, a file in the folder of the fit."""


class Train(Section):
    """How the network learns."""

    epochs: Annotated[int, Field(ge=0)] = 20
    """Of the whole training; with stages, their sum. 0 trains nothing: model.weights and model.class_order then give a
    finished network, which is judged, calibrated and bundled as it is."""
    batch: Count = 64
    stages: tuple[TrainingStage, ...] = ()
    """One after the other, each from the weights that the one before ended with; none is one stage that trains all."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: LossName = "cross_entropy"
    """`corn` is for classes in order, and needs `model.ordinal: true`."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: bool = False
    """Weigh classes by the inverse of their number of training scans."""
    sampling: Literal["scans", "classes", "subjects", "classes_and_subjects", "smote"] = "scans"
    """What is drawn equally often: every scan (once an epoch), every class, every subject, or every class and in it every
    subject. `smote` fills small classes up with scans made between neighbours, in cached features only."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Alpha of mixup, 0 for none; 0.2 is mild. It mixes pixels, so a frozen stage needs `views: 0`."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Alpha of cutmix, 0 for none; with both, each batch draws one of them."""
    clip: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of the gradient; 0 leaves it alone."""
    accumulate: Count = 1
    """Batches whose gradients make one step: the way to a large batch on a small GPU."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of a running mean of the weights (such as 0.999) that is validated and kept in place of them; 0 for none."""
    precision: Literal["full", "mixed"] = "full"
    """`mixed` computes in 16 bits on a GPU where that is safe; a CPU always computes in full."""
    compiled: bool = False
    """Compile the network with torch.compile: pays on GPUs with many epochs, costs a minute at the start."""
    augment: Augment = Augment()
    monitor: Literal[
        "macro_f1",
        "accuracy",
        "balanced_accuracy",
        "loss",
        "weighted_f1",
        "macro_precision",
        "weighted_precision",
        "macro_specificity",
        "weighted_specificity",
        "sensitivity_at_90",
        "auroc",
        "average_precision",
        "matthews",
        "kappa",
        "quadratic_kappa",
        "stage_error",
        "nll",
        "brier",
        "ece",
    ] = "macro_f1"
    """What the best epoch is best at, on the validation side."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs of a stage without a better one before it stops; 0 never stops early."""
    checkpoint_every: Annotated[int, Field(ge=0)] = 0
    """Keep a checkpoint of every k-th epoch besides last and best; 0 keeps those two alone."""
    export_every: Annotated[int, Field(ge=0)] = 0
    """Write `model_epoch_N.pth`, a plain state dict for other programs, after every k-th epoch; 0 writes none."""
    tracking: Tracking = Tracking()

    @model_validator(mode="before")
    @classmethod
    def _count_epochs(cls, values: Any) -> Any:
        """The epochs of stages are their sum, where nobody says another number."""
        if not isinstance(values, Mapping) or not values.get("stages") or "epochs" in values:
            return values
        counts = [stage.get("epochs") if isinstance(stage, Mapping) else None for stage in values["stages"]]
        whole = [count for count in counts if isinstance(count, int)]
        return {**values, "epochs": sum(whole)} if len(whole) == len(counts) else values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        total = sum(stage.epochs for stage in self.stages)
        if self.stages and not self.epochs:
            raise ValueError("epochs is 0, so nothing is trained, but there are stages; set stages: [] too")
        if self.stages and total != self.epochs:
            raise ValueError(
                f"epochs is {self.epochs} but the stages have {total}; leave epochs out, or make them agree"
            )
        cached = [stage.is_cached for stage in self.stages]
        if (self.mixup or self.cutmix) and any(cached):
            raise ValueError("mixup and cutmix mix pixels, which cached features have no more; set views: 0 there")
        if self.sampling == "smote" and not (cached and all(cached)):
            raise ValueError(
                "sampling: smote works on cached features only; every stage must freeze the whole backbone"
            )
        if self.loss == "corn" and self.label_smoothing:
            raise ValueError("loss: corn has no label smoothing; leave one of them out")
        return self
