"""Sections of a recipe about training."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from scanwise.recipe.section import Count, Fraction, Positive, Proportion, Section

LossName = Literal["cross_entropy", "focal", "corn"]
"""Rows of `scanwise.training.losses.LOSSES`; a test holds the two together."""
TrackerName = Literal["tensorboard", "wandb", "mlflow"]
"""Rows of `scanwise.training.trackers.TRACKERS`; a test holds the two together."""


class Optimizer(Section):
    """Optimiser."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    """Algorithm."""
    lr: Positive = 1e-3
    """Peak learning rate."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum (SGD only)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay."""


class Schedule(Section):
    """Learning-rate schedule."""

    name: Literal["constant", "cosine", "step"] = "constant"
    """Shape of the schedule."""
    warmup: Annotated[float, Field(ge=0)] = 0.0
    """Epochs of linear warm-up."""
    every: Count = 30
    """Epochs between two drops (`step` only)."""
    factor: Fraction = 0.1
    """Factor of the learning rate at each drop (`step` only)."""


class Augment(Section):
    """Random changes of the training scans, drawn anew each epoch, batched on the device."""

    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest shift, as a share of the side."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest relative zoom, in or out."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation, in degrees."""
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability of shift, scale and rotation together, for each scan."""
    flip: bool = False
    """Left-right mirror images; only if anatomy allows."""
    brightness: Proportion = 0.0
    """Largest change of brightness, as a share of the whole range. Off by default: the authors of alexnet-gray
    measured that it hurts, and in CT and MRI the gray value itself may show the disease."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest relative change of contrast, around the mean of each scan; off by default for the same reason."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest relative change of gamma; black stays black and white stays white."""
    elastic: Annotated[float, Field(ge=0, le=0.2)] = 0.0
    """Largest elastic displacement, as a share of the side. Off by default: it was measured to hurt as well, and it bends
    the shapes (ventricles, cortex) by which stages of dementia differ."""


class TrainingStage(Section):
    """Training stage, with a learning rate and a frozen part of its own."""

    epochs: Count
    """Number of epochs."""
    freeze: Literal["none", "backbone"] = "none"
    """`backbone` freezes the backbone, including its batch norm and dropout, and trains the head alone."""
    top: Annotated[int, Field(ge=0)] = 0
    """Number of last blocks that are trained with the head (`freeze: backbone` only)."""
    lr: Positive | None = None
    """Peak learning rate (default: that of train.optimizer)."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Discriminative learning rates: factor from each block to the one below it; the head has the full rate."""
    schedule: Schedule | None = None
    """Learning-rate schedule (default: that of train.schedule); it restarts with every stage."""
    views: Annotated[int, Field(ge=0)] = 1
    """Views of each scan whose features are computed once and cached (entirely frozen backbones only); the head trains on one
    view per epoch. The first view is the scan itself, further ones are augmented. 0 caches nothing and augments anew in
    every epoch, which is slow."""

    @property
    def is_cached(self) -> bool:
        """True if the head trains on cached features."""
        return self.freeze == "backbone" and self.top == 0 and self.views > 0

    @model_validator(mode="after")
    def _top_of_frozen(self) -> Self:
        if self.top and self.freeze == "none":
            raise ValueError(
                "top sets the blocks of a frozen backbone that are trained; add freeze: backbone, or leave it out"
            )
        return self


class Tracking(Section):
    """Experiment trackers beside history.csv; one that cannot be reached does not stop training."""

    names: tuple[TrackerName, ...] = ()
    """Trackers to use; each needs its extra, such as `pip install 'scanwise[mlflow]'`."""
    project: str = "scanwise"
    """Project (W&B) or experiment (MLflow)."""
    offline: bool = True
    """Write into the run folder only (W&B only): nothing leaves the machine; `wandb sync` sends it later."""
    uri: str = ""
    """Server, or a file as `sqlite:///FILE` (MLflow only; default: a file in the folder of the fit)."""


class Train(Section):
    """Training."""

    epochs: Annotated[int, Field(ge=0)] = 20
    """Number of epochs; with stages, their sum. 0 trains nothing: model.weights and model.class_order then give a finished
    network, which is calibrated, evaluated and bundled as it is."""
    batch: Count = 64
    """Batch size."""
    stages: tuple[TrainingStage, ...] = ()
    """Stages in order, each from the last weights of the one before (default: one stage that trains everything)."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: LossName = "cross_entropy"
    """Loss; `corn` is for ordered classes and needs `model.ordinal: true`."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Label smoothing; not with `corn`."""
    class_weights: bool = False
    """Weight each scan by the inverse of how often its class is drawn (see `sampling`)."""
    sampling: Literal["scans", "classes", "subjects", "classes_and_subjects", "smote"] = "scans"
    """Unit that is drawn equally often: every scan (once per epoch), every class, every subject, or every class and every
    subject in it. `smote` fills small classes with synthetic scans between neighbours (cached features only)."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Alpha of mixup; 0 for none, 0.2 is mild. It mixes pixels, so a frozen stage needs `views: 0`."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Alpha of cutmix; 0 for none. With mixup as well, each batch draws one of the two."""
    clip: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of the gradient; 0 for no clipping."""
    accumulate: Count = 1
    """Batches whose gradients are accumulated for one step: large batches on a small GPU."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of an exponential moving average of the weights (such as 0.999), which is validated and kept in place of them; 0
    for none."""
    precision: Literal["full", "mixed"] = "full"
    """`mixed` computes in 16 bits on a GPU if that is safe; a CPU always computes in full precision."""
    compiled: bool = False
    """Compile the network with torch.compile: worthwhile on GPUs with many epochs, costs a minute at the start."""
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
    """Metric on validation scans that selects the best epoch."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without improvement before a stage stops; 0 for no early stopping."""
    checkpoint_every: Annotated[int, Field(ge=0)] = 0
    """Keep a checkpoint of every k-th epoch besides last and best; 0 keeps those two only."""
    export_every: Annotated[int, Field(ge=0)] = 0
    """Write `model_epoch_N.pth`, a plain state dict for other programs, after every k-th epoch; 0 writes none."""
    tracking: Tracking = Tracking()

    @model_validator(mode="before")
    @classmethod
    def _count_epochs(cls, values: Any) -> Any:
        """Set the epochs to the sum over the stages, unless they are given."""
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
            raise ValueError("mixup and cutmix mix pixels, which cached features no longer have; set views: 0 there")
        if self.sampling == "smote" and not (cached and all(cached)):
            raise ValueError(
                "sampling: smote works on cached features only; every stage must freeze the whole backbone"
            )
        if self.loss == "corn" and self.label_smoothing:
            raise ValueError("loss: corn has no label smoothing; leave one of them out")
        return self
