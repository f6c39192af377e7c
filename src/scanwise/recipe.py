"""What a recipe may say: frozen sections, YAML in, `--set train.epochs=3` over it, all mistakes reported at once.

A recipe is data: it names entries of tables and can never run code. Field descriptions below are the reference;
`scanwise recipes schema` gives them to editors.
"""

import io
import json
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scanwise.errors import RecipeError, did_you_mean

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of a recipe: frozen, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Data(Section):
    """What a scan becomes before any network sees it."""

    size: Annotated[int, Field(ge=16, le=1024)] = 128
    """Side of the square, in pixels."""
    channels: Literal[1, 3] = 1
    """1 for gray, 3 for colour."""
    shape: Literal["stretch", "pad"] = "stretch"
    """How a scan that is not square becomes so: stretched, or padded with black."""
    label: str = ""
    """The column of a manifest, or of a BIDS tree's participants.tsv, that holds the class; unsaid, `label`, or in a
    BIDS tree the one column that is called as such columns are."""
    axis: Literal["axial", "coronal", "sagittal"] = "axial"
    """Of volumes (NIfTI): the direction in which they are cut into slices."""
    slices: tuple[Share, Share] = (0.0, 1.0)
    """Of files with many slices: the part to use, 0 the first slice and 1 the last; of volumes from feet, back or left."""
    every: Count = 1
    """Of files with many slices: use every k-th of that part."""
    window: Literal["header", "percentiles"] | tuple[float, Positive] = "header"
    """Of DICOM: the first window of the header (percentiles where it has none), percentiles always, or [centre, width]."""
    percentiles: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] = (0.5, 99.5)
    """Of volumes, and of DICOM without a window: the percentiles of intensity that become black and white."""
    nan: Literal["refuse", "black"] = "refuse"
    """Of volumes: what to do with a slice that holds NaN or infinite voxels."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name, (low, high) in (("slices", self.slices), ("percentiles", self.percentiles)):
            if low >= high:
                raise ValueError(f"{name} must go up, from the lower to the higher; found [{low:g}, {high:g}]")
        return self


class Audit(Section):
    """What is looked at before anything is trained."""

    checks: tuple[
        Literal["duplicates", "copies", "subjects", "leakage", "shortcuts", "quality", "evaluability"], ...
    ] = ("duplicates", "copies", "subjects", "leakage", "shortcuts", "quality", "evaluability")
    """Which checks run; an empty list skips the audit."""


class Published(Section):
    """The split of the original project. Accuracy only is reported for it, stamped *leaked* where it leaks."""

    by: Literal["scan", "folders"] = "scan"
    """At random by scan, or by the train and test folders (or manifest column) that the data comes with."""
    validation: Fraction = 0.15
    """Share of all scans (by scan), or of the training folder (by folders)."""
    test: Fraction = 0.15
    """Share of all scans; by folders, the test folder decides."""


class SplitSection(Section):
    """Who learns and who judges."""

    protocols: tuple[Literal["honest", "published"], ...] = ("honest",)
    """Which splits to fit: honest (by subject) and, beside it, the published one."""
    validation: Fraction = 0.15
    """Share of the subjects for early stopping, temperature and tuning."""
    calibration: Fraction = 0.20
    """Share of the subjects for the thresholds of prediction sets."""
    test: Fraction = 0.20
    """Share of the subjects for the final figures; with folds, one fold."""
    folds: Count = 1
    """Cross-validation by subject with this many folds; 1 is a single split."""
    small_classes: Literal["keep", "merge", "drop"] = "keep"
    """A class with too few subjects for every side: kept in training only, merged with its neighbour stage, or dropped."""
    published: Published = Published()

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        test = 1 / self.folds if self.folds > 1 else self.test
        if self.validation + self.calibration + test > 0.9:
            raise ValueError(
                "validation + calibration + test (or one fold) leave less than a tenth for training; lower one"
            )
        if self.published.by == "scan" and self.published.validation + self.published.test > 0.9:
            raise ValueError("published.validation + published.test leave less than a tenth for training; lower one")
        if not self.protocols:
            raise ValueError("protocols is empty; name honest, published or both")
        return self


class Multihead(Section):
    """Attention of some heads."""

    width: Count = 64
    """Of all heads together; a multiple of `heads`."""
    heads: Count = 1

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}; change one")
        return self


class Attention(Multihead):
    """Scaled dot-product self-attention over the backbone's feature map (Vaswani et al. 2017)."""


class Part(Section):
    """One backbone of a network that has several."""

    name: str
    """Any timm backbone by its name."""
    weights: str | None = None
    """`none`, `hub`, or a file; unsaid, what model.weights says."""
    options: Mapping[str, bool | int | float | str] = {}
    """Further keyword arguments of `timm.create_model`, such as `img_size: 128` of a vision transformer."""


class Hybrid(Section):
    """Of `hybrid`: its two halves, whose features are put side by side."""

    convolution: Part = Part(name="resnet50")
    transformer: Part = Part(name="vit_base_patch16_224")


class Text(Multihead):
    """Of `text` and `fusion`: how the words beside a scan are read."""

    encoder: str = "small"
    """`small` (a Transformer over a vocabulary learnt from the training titles), or a Hugging Face encoder: its name on
    the hub (model.weights hub), or a local folder. The latter need `pip install 'scanwise[text]'`."""
    words: Annotated[int, Field(ge=8, le=100_000)] = 4096
    """Of `small`: most entries of the vocabulary."""
    length: Annotated[int, Field(ge=2, le=4096)] = 32
    """Tokens of a title that are read."""
    width: Count = 128
    """Of `small`: a multiple of `heads`."""
    layers: Count = 2
    """Of `small`."""
    heads: Count = 4
    """Of `small`."""


class Fusion(Multihead):
    """Of `fusion`: how image and text are brought together."""

    image: Part = Part(name="mobilenetv2_100")
    width: Count = 128
    """Of the cross-modal attention; a multiple of `heads`."""
    heads: Count = 4
    missing: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """Share of training scans that lose their image, and as many others their text, so that one alone is enough."""


class Members(Section):
    """Several answers for each scan: how much they differ is what the network does not know."""

    kind: Literal["one", "mc_dropout", "batch_ensemble"] = "one"
    """One answer, draws of dropout (Gal & Ghahramani 2016), or members that share all but rank-one weights (Wen et al.
    2020)."""
    count: Annotated[int, Field(ge=1, le=1000)] | Literal["auto"] = "auto"
    """How many; `auto` is 30 draws of dropout, or 4 members."""
    start: Literal["normal", "signs"] = "normal"
    """Of batch_ensemble: fast weights 1 + N(0, sigma), or random signs, which only a random start bears."""
    sigma: Annotated[float, Field(ge=0, le=1)] = 0.005
    """Of batch_ensemble, start normal: how far the members stand apart at the start. This and `layers` are the largest
    measured at which all four members of a pretrained MobileNetV2 keep naming its class for 95 % of photos."""
    layers: Literal["all"] | Count = 10
    """Of batch_ensemble: which convolutions and linear layers get fast weights: all, or the last k."""

    @property
    def number(self) -> int:
        """T: the members of each answer."""
        return {"one": 1, "mc_dropout": 30, "batch_ensemble": 4}[self.kind] if self.count == "auto" else self.count

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.kind == "one" and self.count not in ("auto", 1):
            raise ValueError(
                f"members.count is {self.count} but members.kind is one; name mc_dropout or batch_ensemble"
            )
        return self


class Model(Section):
    """The network."""

    name: str = "alexnet"
    """`alexnet`, `small` (a four-block network for demonstrations), `hybrid` (convolution and transformer side by side),
    `text` (the words alone), `fusion` (image and words), or any timm backbone by its name."""
    weights: str = "none"
    """`none`, `hub` (timm's pretrained weights), or a file of weights."""
    class_order: tuple[str, ...] = ()
    """Of a file of weights with a trained classifier: the names of its classes in its order, where that is not ours."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the classifier (and between the hidden layers of alexnet, or of `hidden`)."""
    hidden: tuple[Count, ...] = ()
    """Widths of hidden layers (linear, ReLU, dropout) between the pooled features and the classifier."""
    attention: Attention | None = None
    """Self-attention between the feature map and the classifier; unsaid, there is none."""
    ordinal: bool = False
    """A last layer for classes in order, to be trained with `train.loss: corn`; it too gives one value a class."""
    mean: tuple[float, ...] = (0.5,)
    """Mean to subtract, pixels in [0, 1]: one for all channels, or one a channel."""
    std: tuple[Positive, ...] = (0.5,)
    """Standard deviation to divide by: one for all channels, or one a channel."""
    options: Mapping[str, bool | int | float | str] = {}
    """Further keyword arguments of `timm.create_model`, such as `pad_type: same`."""
    hybrid: Hybrid = Hybrid()
    text: Text = Text()
    fusion: Fusion = Fusion()
    members: Members = Members()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.attention and self.name in ("alexnet", "hybrid", "text", "fusion"):
            raise ValueError(f"attention goes over the map of a backbone; {self.name} has its own way, leave it out")
        if self.hidden and self.name == "alexnet":
            raise ValueError("alexnet has hidden layers of its own; leave hidden out")
        if self.class_order and self.weights in ("none", "hub"):
            raise ValueError("class_order tells the classes of a file of weights; name that file in model.weights")
        if self.members.kind == "mc_dropout" and not self.dropout and not any("drop" in key for key in self.options):
            raise ValueError("members.kind mc_dropout needs dropout above 0, or all its draws are one")
        if self.ordinal and self.members.kind == "batch_ensemble":
            raise ValueError("ordinal and members.kind batch_ensemble do not go together yet; leave one of them out")
        if self.members.kind == "batch_ensemble" and self.members.start == "signs" and self._pretrained():
            raise ValueError("members.start signs destroys pretrained weights; use normal, or weights none")
        return self

    def _pretrained(self) -> bool:
        parts: dict[str, tuple[Part, ...]] = {
            "hybrid": (self.hybrid.convolution, self.hybrid.transformer),
            "fusion": (self.fusion.image,),
        }
        sources = [self.weights, *(part.weights for part in parts.get(self.name, ()))]
        own_words = self.name not in ("text", "fusion") or self.text.encoder == "small"
        return any(source not in ("none", None) for source in sources) or not own_words


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
    brightness: Share = 0.0
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

    names: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Each needs its extra, such as `pip install 'scanwise[mlflow]'`."""
    project: str = "scanwise"
    """The project of W&B, the experiment of MLflow."""
    offline: bool = True
    """Of W&B: write into the run folder alone, nothing leaves the machine; `wandb sync` sends it later."""
    uri: str = ""
    """Of MLflow: its server, or a file as `sqlite:///FILE`; unsaid, a file in the folder of the fit."""


LOWER_IS_BETTER = ("loss", "nll", "brier", "ece")
"""Of what `train.monitor` may name."""


class Train(Section):
    """How the network learns."""

    epochs: Count = 20
    """Of the whole training; with stages, their sum."""
    batch: Count = 64
    stages: tuple[TrainingStage, ...] = ()
    """One after the other, each from the weights that the one before ended with; none is one stage that trains all."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Literal["cross_entropy", "focal", "corn"] = "cross_entropy"
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
        "auroc",
        "average_precision",
        "matthews",
        "kappa",
        "quadratic_kappa",
        "nll",
        "brier",
        "ece",
    ] = "macro_f1"
    """What the best epoch is best at, on the validation side."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs of a stage without a better one before it stops; 0 never stops early."""
    checkpoint_every: Annotated[int, Field(ge=0)] = 0
    """Keep a checkpoint of every k-th epoch besides last and best; 0 keeps those two alone."""
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


class Calibration(Section):
    """From logits to probabilities that mean what they say."""

    method: Literal["temperature", "none"] = "temperature"


class Conformal(Section):
    """Prediction sets with a stated coverage."""

    score: Literal["raps", "aps", "lac", "saps", "ordinal"] = "raps"
    """`ordinal` gives neighbouring stages alone, and needs classes in clinical order."""
    alpha: Fraction = 0.1
    """Allowed miscoverage: 0.1 promises 90 %."""
    penalty: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """Lambda of RAPS and SAPS; `auto` chooses it on the validation side."""
    k_reg: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Rank from which RAPS penalises; `auto` chooses it on the validation side."""


class Uncertainty(Section):
    """When an answer is not to be trusted."""

    false_alarm: Fraction = 0.05
    """Share of scans like those of the cohort that may be flagged as unlike any seen in training."""
    risk: Fraction = 0.1
    """Error allowed among the subjects that are answered; the others are left to a person."""
    delta: Fraction = 0.1
    """Chance, over draws of calibration subjects, that this bound does not hold."""


class Evaluation(Section):
    """The final figures."""

    draws: Annotated[int, Field(ge=100)] = 2000
    """Bootstrap draws of subjects behind each interval."""
    confidence: Fraction = 0.95
    """Of every interval."""


class Rivals(Section):
    """The trivial classifiers that a network must beat."""

    names: tuple[Literal["majority", "nearest_neighbour", "pca_logistic", "frozen_features"], ...] = (
        "majority",
        "nearest_neighbour",
        "pca_logistic",
        "frozen_features",
    )
    backbone: str = "tf_efficientnet_lite0"
    """timm backbone of `frozen_features`."""
    weights: str = "none"
    """Its pretrained weights: a file, or `hub`. With `none` that rival is left out, and the report says so."""
    size: Annotated[int, Field(ge=32, le=512)] = 160
    """Side of the scans that `frozen_features` sees."""
    options: Mapping[str, bool | int | float | str] = {}
    """Further keyword arguments of `timm.create_model` for the backbone."""
    mean: tuple[float, ...] = (0.5,)
    std: tuple[Positive, ...] = (0.5,)


class Stage(Section):
    """What a class is called in reports."""

    title: str = ""
    description: str = ""
    cdr: float | None = None
    """Clinical Dementia Rating, where the class has one."""


class Recipe(Section):
    """One system, from scans to report."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """What the run is called in reports."""
    title: str = ""
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    classes: tuple[str, ...] | Mapping[str, str | tuple[str, ...]] | None = None
    """Which labels are used, in which order, under which name: a list, or `name: label`, or `name: [labels to merge]`."""
    ordered: bool | None = None
    """Whether the classes are stages in order; unsaid, known scales decide, and any other set of names has no order."""
    stages: Mapping[str, Stage] = {}
    data: Data = Data()
    audit: Audit = Audit()
    split: SplitSection = SplitSection()
    model: Model = Model()
    train: Train = Train()
    calibration: Calibration = Calibration()
    conformal: Conformal = Conformal()
    uncertainty: Uncertainty = Uncertainty()
    evaluation: Evaluation = Evaluation()
    rivals: Rivals = Rivals()

    @model_validator(mode="after")
    def _ordinal_with_corn(self) -> Self:
        if self.model.ordinal != (self.train.loss == "corn"):
            raise ValueError("model.ordinal: true and train.loss: corn belong together; set both, or none of them")
        return self

    def to_yaml(self) -> str:
        """The recipe with every default made explicit."""
        from ruamel.yaml import YAML

        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        stream = io.StringIO()
        yaml.dump(self.model_dump(mode="json"), stream)
        return stream.getvalue()


def shipped() -> dict[str, str]:
    """The recipes that come with scanwise: name to YAML text."""
    folder = resources.files("scanwise") / "recipes"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return {f.name.removesuffix(".yaml"): f.read_text(encoding="utf-8") for f in files}


def load(source: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """Read a shipped recipe by name, or a YAML file, and lay `a.b=value` settings over it.

    Raises:
        RecipeError: naming every mistake at once.
    """
    text = _text_of(str(source))
    values = _parse_yaml(text, str(source))
    if not isinstance(values, dict):
        raise RecipeError(f"{source} holds no recipe: expected `key: value` lines, such as `name: my-recipe`.")
    mistakes = [mistake for setting in settings if (mistake := _set(values, setting))]
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        mistakes += [_explain(dict(found)) for found in error.errors()]
    if mistakes:
        mistakes = list(dict.fromkeys(mistakes))
        lines = "\n".join(f"  - {mistake}" for mistake in mistakes)
        raise RecipeError(f"The recipe {source} has {len(mistakes)} mistake{'s' * (len(mistakes) > 1)}:\n{lines}")
    return recipe


def schema() -> str:
    """The JSON schema of a recipe, for editors."""
    return json.dumps(Recipe.model_json_schema(), indent=1) + "\n"


def _text_of(source: str) -> str:
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"The recipe file {source} cannot be read: {error}.") from error
    known = shipped()
    if source not in known:
        raise RecipeError(
            f"There is no recipe {source!r}; shipped are {', '.join(known)}.{did_you_mean(source, known)} "
            "A file of your own must end in .yaml."
        )
    return known[source]


def _parse_yaml(text: str, source: str) -> Any:
    """YAML 1.2: duplicate keys are refused, `1e-3` is a number and `no` is a word."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = (error.problem or "not YAML").splitlines()[0]
        raise RecipeError(f"{source}{where}: {problem}.") from error
    except YAMLError as error:
        raise RecipeError(f"{source} is not YAML: {error}.") from error


def _set(values: dict[str, Any], setting: str) -> str:
    """Lay one `a.b=value` over the values; return what is wrong with it, or nothing."""
    key, equals, text = setting.partition("=")
    if not equals or not key:
        return f"--set {setting}: expected key=value, such as train.epochs=3"
    try:
        value = _parse_yaml(text, f"--set {setting}")
    except RecipeError as error:
        return str(error)
    *parents, last = key.split(".")
    here = values
    for parent in parents:
        if here.get(parent) is None:
            here[parent] = {}
        if not isinstance(here[parent], dict):
            return f"--set {setting}: {parent!r} is a value, not a section"
        here = here[parent]
    here[last] = value
    return ""


def _explain(found: dict[str, Any]) -> str:
    """One mistake that pydantic found, as a line for people."""
    where = [str(part) for part in found["loc"]]
    place = ".".join(where) or "recipe"
    if where[:1] == ["classes"]:  # a union, of which pydantic tells every failed branch
        return (
            "classes: expected [label, …], or `name: label` or `name: [label, …]` lines; quote labels that are numbers"
        )
    match found["type"]:
        case "extra_forbidden":
            siblings = _fields_at(found["loc"][:-1])
            return (
                f"{place}: there is no such key.{did_you_mean(where[-1], siblings)} Known here: {', '.join(siblings)}"
            )
        case "literal_error":
            expected = str(found["ctx"]["expected"])
            words = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
            return f"{place}: {found['input']!r} is not one of {expected}.{did_you_mean(str(found['input']), words)}"
        case "missing":
            return f"{place}: is missing and has no default"
        case _:
            return f"{place}: {found['msg'].removeprefix('Value error, ')} (found {found['input']!r})".replace(
                "\n", " "
            )[:300]


def _fields_at(place: tuple[str | int, ...]) -> list[str]:
    section: Any = Recipe
    for part in place:
        kind = (
            section.model_fields[part].annotation
            if isinstance(section, type) and issubclass(section, BaseModel) and part in section.model_fields
            else section
        )
        section = next(
            (t for t in (kind, *get_args(kind)) if isinstance(t, type) and issubclass(t, BaseModel)), section
        )
    return list(section.model_fields)
