"""Sections of a recipe about the network."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scanwise.recipe.options import NO_OPTIONS, NetworkOptions
from scanwise.recipe.section import Count, Heads, Layers, Positive, Section, Width


class MultiheadSection(Section):
    """Size of a multi-head attention."""

    width: Width = 64
    """Width of all heads together; a multiple of `heads`."""
    heads: Heads = 1
    """Number of heads."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}; change one")
        return self


class AttentionSection(MultiheadSection):
    """Scaled dot-product self-attention over the backbone's feature map (Vaswani et al. 2017)."""


class BackboneSection(Section):
    """Backbone of a network that has several."""

    name: str
    """Name of a timm backbone."""
    weights: str | None = None
    """`none`, `hub`, or a file (default: model.weights)."""
    options: NetworkOptions = NO_OPTIONS
    """Further properties of a timm network, such as `img_size: 128` of a vision transformer."""


class HybridHalf(BackboneSection):
    """Backbone beside another, with a normalisation of its own if its weights need one."""

    mean: tuple[float, ...] = ()
    """Mean to subtract for this backbone (default: model.mean)."""
    std: tuple[Positive, ...] = ()
    """Standard deviation to divide by for this backbone (default: model.std)."""


class HybridSection(Section):
    """Two backbones whose features are concatenated (`hybrid` only)."""

    convolution: HybridHalf = HybridHalf(name="resnet50")
    """Convolutional network."""
    transformer: HybridHalf = HybridHalf(name="vit_base_patch16_224")
    """Vision transformer."""


class TextSection(MultiheadSection):
    """Encoder of the words beside a scan (`text` and `fusion` only)."""

    encoder: str = "small"
    """`small` (a Transformer over a vocabulary learnt from the training titles), or a Hugging Face encoder: its name on
    the hub (with model.weights hub) or a local folder. Hugging Face encoders need `pip install 'scanwise[text]'`."""
    words: Annotated[int, Field(ge=8, le=100_000)] = 4096
    """Largest size of the vocabulary (`small` only)."""
    length: Annotated[int, Field(ge=2, le=4096)] = 32
    """Number of tokens that each title is cut or padded to."""
    width: Width = 128
    """Width of the encoder (`small` only); a multiple of `heads`."""
    layers: Layers = 2
    """Number of Transformer blocks (`small` only)."""
    heads: Heads = 4
    """Number of attention heads (`small` only)."""
    hide_classes: bool = False
    """Remove the words of the class names from every title, to measure what the rest of a title contributes."""


class FusionSection(MultiheadSection):
    """Combination of image and text (`fusion` only)."""

    image: BackboneSection = BackboneSection(name="mobilenetv2_100")
    """Backbone of the image."""
    width: Width = 128
    """Width of the cross-modal attention; a multiple of `heads`."""
    heads: Heads = 4
    """Number of attention heads."""
    missing: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """Share of training scans without their image, and the same share without their text, so that the network works with one
    of the two."""


class RidgeSection(Section):
    """One vector a person from a frozen backbone, and a ridge regression on it (`subject_ridge` only)."""

    backbone: BackboneSection = BackboneSection(name="tf_efficientnet_lite0")
    """Frozen backbone."""
    second: HybridHalf | None = None
    """Second frozen backbone, whose blocks count beside those of the first (default: none)."""
    blocks: Layers = 3
    """Number of its last blocks whose features are used."""
    grid: tuple[Layers, Layers] = (6, 5)
    """Rows and columns that the features of a scan are averaged to."""
    pixels: tuple[Layers, Layers] = (26, 22)
    """Rows and columns that the pixels of a scan are averaged to, as one more block."""
    slabs: Layers = 4
    """Parts of a person's scans, in anatomical order, that are averaged apart; where no order is known there is one."""
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Folds over people: each gives a member, and the scores of the people that it left out."""
    covariates: Annotated[int, Field(ge=0, le=200)] = 0
    """Numbers that data.covariates come to; a run sets it."""
    cuts: Literal["probable", "shares"] = "probable"
    """Borders between three ordered classes or more: at equal probability, or so that each is predicted as often as it occurs.
    `shares` names the rarer stages more often, for a higher weighted kappa and somewhat worse probabilities."""
    learn_on: Literal["classes", "stages"] = "classes"
    """Target: the classes, or the labels that the recipe merges into them, in its order. `stages` teaches fine stages and
    reports the coarse classes."""

    @property
    def backbones(self) -> tuple[BackboneSection, ...]:
        """The backbones of the recipe, one or two."""
        return (self.backbone,) if self.second is None else (self.backbone, self.second)


class Members(Section):
    """Ensembles: several predictions per scan, whose disagreement measures the uncertainty of the network."""

    kind: Literal["one", "mc_dropout", "batch_ensemble", "deep_ensemble"] = "one"
    """Kind of ensemble: `one` network without ensemble, `mc_dropout` (Gal & Ghahramani 2016), `batch_ensemble` (members share
    all but rank-one weights; Wen et al. 2020), or `deep_ensemble` (networks trained one after the other from seeds of their
    own, at as many times the cost; Lakshminarayanan et al. 2017)."""
    count: Annotated[int, Field(ge=1, le=1000)] | Literal["auto"] = "auto"
    """Number of members; `auto`: 30 draws of dropout, or 4 members."""
    start: Literal["normal", "signs"] = "normal"
    """Initial fast weights (batch_ensemble only): 1 + N(0, sigma), or random signs, which suit a random start only."""
    sigma: Annotated[float, Field(ge=0, le=1)] = 0.005
    """Spread of the members at the start (batch_ensemble with start normal only). This and `layers` are the largest values
    measured at which all four members of a pretrained MobileNetV2 predict its class for 95 % of photos."""
    layers: Literal["all"] | Count = 10
    """Convolutions and linear layers with fast weights (batch_ensemble only): `all`, or the last k."""

    @property
    def number(self) -> int:
        """T: the number of members."""
        return (
            {"one": 1, "mc_dropout": 30, "batch_ensemble": 4, "deep_ensemble": 4}[self.kind]
            if self.count == "auto"
            else self.count
        )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.kind == "one" and self.count not in ("auto", 1):
            raise ValueError(
                f"members.count is {self.count} but members.kind is one; name mc_dropout, batch_ensemble or deep_ensemble"
            )
        if self.kind == "deep_ensemble" and self.number < 2:
            raise ValueError("members.kind deep_ensemble needs a count of at least 2")
        return self


class Model(Section):
    """The network."""

    name: str = "alexnet"
    """`alexnet`, `small` (a four-block network for demonstrations), `hybrid` (convolutional network and transformer side by
    side), `text` (words alone), `fusion` (image and words), `subject_ridge` (one vector a person, ridge regression), or the name
    of any timm backbone."""
    weights: str = "none"
    """`none`, `hub` (timm's pretrained weights), or a file of weights."""
    class_order: tuple[str, ...] = ()
    """Names of the classes of a file of weights with a trained classifier, in its order. Without them its classifier is not
    used, and that of the network starts from random weights."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the classifier (and between the hidden layers of alexnet, or of `hidden`)."""
    hidden: Annotated[tuple[Width, ...], Field(max_length=16)] = ()
    """Widths of hidden layers (linear, ReLU, dropout) between the pooled features and the classifier."""
    attention: AttentionSection | None = None
    """Self-attention between the feature map and the classifier (default: none)."""
    unit: Literal["scan", "subject"] = "scan"
    """Unit that is learnt: each `scan` with its label, or each `subject` with one label for all of its scans."""
    pool: Literal["mean", "attention"] = "attention"
    """Weights of the scans of a subject in its answer (unit subject only): all alike, or by gated `attention` (Ilse et al.
    2018)."""
    bag: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Most scans of a subject in one training step (unit subject only); of more, so many are drawn at random in each epoch.
    Prediction uses all. A step holds up to train.batch subjects of so many scans."""
    covariates: Annotated[int, Field(ge=0, le=200)] = 0
    """Numbers that data.covariates come to, under the last layer beside the features of the scan; a run sets it."""
    ordinal: bool = False
    """Last layer for ordered classes, trained with `train.loss: corn`; it gives one value per class."""
    mean: tuple[float, ...] = (0.5,)
    """Mean of pixels in [0, 1] to subtract: one for all channels, or one per channel."""
    std: tuple[Positive, ...] = (0.5,)
    """Standard deviation of pixels in [0, 1] to divide by: one for all channels, or one per channel."""
    options: NetworkOptions = NO_OPTIONS
    """Further properties of a timm network, such as `pad_type: same`."""
    hybrid: HybridSection = HybridSection()
    text: TextSection = TextSection()
    fusion: FusionSection = FusionSection()
    ridge: RidgeSection = RidgeSection()
    members: Members = Members()

    @property
    def reads_words(self) -> bool:
        """True if the network reads the words beside a scan."""
        return self.name in ("text", "fusion")

    @property
    def is_ridge(self) -> bool:
        """True if the network is solved in closed form, not trained."""
        return self.name == "subject_ridge"

    @property
    def by_subject(self) -> bool:
        """True if the network is trained with one label a subject."""
        return self.unit == "subject"

    @model_validator(mode="after")
    def _learns_subjects(self) -> Self:
        if not self.by_subject:
            return self
        if self.is_ridge:
            raise ValueError("subject_ridge answers by subject already; leave unit out")
        if self.reads_words:
            raise ValueError(f"{self.name} reads a title for each scan, not a subject; leave unit out")
        if self.ordinal:
            raise ValueError("ordinal and unit subject do not go together; leave one of them out")
        if self.members.kind in ("mc_dropout", "batch_ensemble"):
            raise ValueError(
                f"members.kind {self.members.kind} gives members for each scan, which average out over the scans of a subject; "
                "with unit subject take deep_ensemble, or one"
            )
        return self

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.attention and self.name in ("alexnet", "hybrid", "text", "fusion", "subject_ridge"):
            raise ValueError(
                f"attention applies to the feature map of a single backbone; {self.name} has none, leave it out"
            )
        if self.is_ridge and (self.hidden or self.ordinal or self.dropout or self.members.kind != "one"):
            raise ValueError(
                "subject_ridge has members of its own and no other layers; leave hidden, ordinal, dropout and members out"
            )
        if self.hidden and self.name == "alexnet":
            raise ValueError("alexnet has hidden layers of its own; leave hidden out")
        if self.class_order and self.weights in ("none", "hub"):
            raise ValueError("class_order names the classes of a file of weights; set model.weights to that file")
        if self.members.kind == "mc_dropout" and not self.dropout and not any("drop" in key for key in self.options):
            raise ValueError("members.kind mc_dropout needs dropout above 0, or all its draws are equal")
        if self.ordinal and self.members.kind == "batch_ensemble":
            raise ValueError("ordinal and members.kind batch_ensemble do not go together yet; leave one of them out")
        if self.members.kind == "batch_ensemble" and self.members.start == "signs" and self._pretrained():
            raise ValueError("members.start signs destroys pretrained weights; use normal, or weights none")
        return self

    def _pretrained(self) -> bool:
        parts: dict[str, tuple[BackboneSection, ...]] = {
            "hybrid": (self.hybrid.convolution, self.hybrid.transformer),
            "fusion": (self.fusion.image,),
            "subject_ridge": self.ridge.backbones,
        }
        sources = [self.weights, *(part.weights for part in parts.get(self.name, ()))]
        own_words = self.name not in ("text", "fusion") or self.text.encoder == "small"
        return any(source not in ("none", None) for source in sources) or not own_words
