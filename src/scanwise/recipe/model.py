"""Sections of a recipe about the network."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scanwise.recipe.section import Count, Positive, Section


class MultiheadSection(Section):
    """Attention of some heads."""

    width: Count = 64
    """Of all heads together; a multiple of `heads`."""
    heads: Count = 1

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}; change one")
        return self


class AttentionSection(MultiheadSection):
    """Scaled dot-product self-attention over the backbone's feature map (Vaswani et al. 2017)."""


class BackboneSection(Section):
    """One backbone of a network that has several."""

    name: str
    """Any timm backbone by its name."""
    weights: str | None = None
    """`none`, `hub`, or a file; unsaid, what model.weights says."""
    options: Mapping[str, bool | int | float | str] = {}
    """Further keyword arguments of `timm.create_model`, such as `img_size: 128` of a vision transformer."""


class HybridHalf(BackboneSection):
    """One half of a hybrid, whose weights may have learnt from pixels normalised in their own way."""

    mean: tuple[float, ...] = ()
    """As model.mean, for this half; unsaid, model.mean itself."""
    std: tuple[Positive, ...] = ()
    """As model.std, for this half; unsaid, model.std itself."""


class HybridSection(Section):
    """Of `hybrid`: its two halves, whose features are put side by side."""

    convolution: HybridHalf = HybridHalf(name="resnet50")
    transformer: HybridHalf = HybridHalf(name="vit_base_patch16_224")


class TextSection(MultiheadSection):
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
    hide_classes: bool = False
    """Take the words of the class names out of every title: what the rest of a title is worth."""


class FusionSection(MultiheadSection):
    """Of `fusion`: how image and text are brought together."""

    image: BackboneSection = BackboneSection(name="mobilenetv2_100")
    width: Count = 128
    """Of the cross-modal attention; a multiple of `heads`."""
    heads: Count = 4
    missing: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """Share of training scans that lose their image, and as many others their text, so that one alone is enough."""


class Members(Section):
    """Several answers for each scan: how much they differ is what the network does not know."""

    kind: Literal["one", "mc_dropout", "batch_ensemble", "deep_ensemble"] = "one"
    """One answer, draws of dropout (Gal & Ghahramani 2016), members that share all but rank-one weights (Wen et al.
    2020), or networks trained one after the other from seeds of their own (Lakshminarayanan et al. 2017): the reference,
    at as many times the cost."""
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
    """`alexnet`, `small` (a four-block network for demonstrations), `hybrid` (convolution and transformer side by side),
    `text` (the words alone), `fusion` (image and words), or any timm backbone by its name."""
    weights: str = "none"
    """`none`, `hub` (timm's pretrained weights), or a file of weights."""
    class_order: tuple[str, ...] = ()
    """Of a file of weights with a trained classifier: the names of its classes in its order. Without them the classifier of
    the file is not used, and that of the network starts fresh."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the classifier (and between the hidden layers of alexnet, or of `hidden`)."""
    hidden: tuple[Count, ...] = ()
    """Widths of hidden layers (linear, ReLU, dropout) between the pooled features and the classifier."""
    attention: AttentionSection | None = None
    """Self-attention between the feature map and the classifier; unsaid, there is none."""
    ordinal: bool = False
    """A last layer for classes in order, to be trained with `train.loss: corn`; it too gives one value a class."""
    mean: tuple[float, ...] = (0.5,)
    """Mean to subtract, pixels in [0, 1]: one for all channels, or one a channel."""
    std: tuple[Positive, ...] = (0.5,)
    """Standard deviation to divide by: one for all channels, or one a channel."""
    options: Mapping[str, bool | int | float | str] = {}
    """Further keyword arguments of `timm.create_model`, such as `pad_type: same`."""
    hybrid: HybridSection = HybridSection()
    text: TextSection = TextSection()
    fusion: FusionSection = FusionSection()
    members: Members = Members()

    @property
    def reads_words(self) -> bool:
        """Whether it takes the words beside a scan."""
        return self.name in ("text", "fusion")

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
        parts: dict[str, tuple[BackboneSection, ...]] = {
            "hybrid": (self.hybrid.convolution, self.hybrid.transformer),
            "fusion": (self.fusion.image,),
        }
        sources = [self.weights, *(part.weights for part in parts.get(self.name, ()))]
        own_words = self.name not in ("text", "fusion") or self.text.encoder == "small"
        return any(source not in ("none", None) for source in sources) or not own_words
