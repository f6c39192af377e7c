"""The networks that a recipe can name: one row of `NETWORKS` each, with everything that differs between them.

A new network is a body (`scanwise.models.network.Body`) and a row here: docs/extending/network.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from scanwise.errors import RecipeError
from scanwise.models import backbones, heads, text
from scanwise.models.alexnet import AlexNet
from scanwise.models.attention import SelfAttention
from scanwise.models.fusion import FusionNetwork
from scanwise.models.hybrid import HybridNetwork
from scanwise.models.small import SmallNetwork
from scanwise.models.subject_ridge import SubjectRidge
from scanwise.models.weights import KeyPrefixes
from scanwise.recipe import BackboneSection, HybridHalf, Model


@dataclass(frozen=True, slots=True)
class BodyRequest:
    """Everything that a body is built from.

    Attributes:
        model: section of the recipe.
        num_classes: size of the classifier; 0 for none.
        channels: of the scans.
        source: `none`, `hub`, or the file that the weights of the whole network come from later.
        pretrained: False where a checkpoint follows, so that no part loads weights of its own.
        encoder: configuration of a Hugging Face encoder, as a vocabulary holds it; None to ask its folder or the hub.
    """

    model: Model
    num_classes: int
    channels: int
    source: str = "none"
    pretrained: bool = True
    encoder: Mapping[str, Any] | None = None

    def backbone(self, section: BackboneSection) -> nn.Module:
        """One backbone of several, without classifier; its own weights take precedence over `model.weights`.

        Where the whole network comes from a file or a checkpoint, its parts come with it.
        """
        source = section.weights or self.source
        source = source if self.pretrained and not is_file(self.source) else "none"
        return backbones.create_backbone(section.name, source, 0, self.channels, 0.0, section.options, tuple(NETWORKS))

    def head(self, features: int) -> nn.Sequential:
        """Hidden layers and classifier of the recipe on that many features."""
        return heads.dense_head(features, self.model.hidden, self.num_classes, self.model.dropout)


BuildBody = Callable[[BodyRequest], tuple[nn.Module, KeyPrefixes]]


def _no_parts(model: Model) -> dict[str, BackboneSection]:
    return {}


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network that a recipe can name.

    Attributes:
        name: value of `model.name`; "" for timm's backbones, which have names of their own.
        title: name for readers.
        build: the body without the weights of a file, and where its parts are.
        hub_weights: `model.weights: hub` gives it pretrained weights, directly or for its parts.
        attention: `model.attention` can be set over its feature map; its body then has `num_features`.
        hidden: `model.hidden` can be set before its classifier.
        reads_words: it reads the words beside a scan.
        parts: its backbones that have weights and options of their own, by their key below `model`.
    """

    name: str
    title: str
    build: BuildBody
    hub_weights: bool = True
    attention: bool = False
    hidden: bool = True
    reads_words: bool = False
    parts: Callable[[Model], dict[str, BackboneSection]] = _no_parts


def find_network(name: str, networks: Mapping[str, NetworkSpec] | None = None) -> NetworkSpec:
    """Row of a network; timm's for every name that has no row."""
    return (NETWORKS if networks is None else networks).get(name, TIMM)


def build_body(request: BodyRequest, spec: NetworkSpec) -> tuple[nn.Module, KeyPrefixes]:
    """The body of a network with the recipe's attention and hidden layers, without the weights of a file.

    Raises:
        RecipeError: if its weights shall come from the hub, which has none.
    """
    if request.source == "hub" and not spec.hub_weights:
        raise RecipeError(
            f"There are no weights for {request.model.name!r} on a hub; set model.weights to none or a file."
        )
    if spec.attention and (request.model.attention or request.model.hidden):
        return _with_our_head(request, spec)
    return spec.build(request)


def is_file(source: str) -> bool:
    """Whether a source of weights is a file."""
    return source not in ("none", "hub")


def _with_our_head(request: BodyRequest, spec: NetworkSpec) -> tuple[nn.Module, KeyPrefixes]:
    model = request.model
    backbone, prefixes = spec.build(replace(request, num_classes=0, model=model.model_copy(update={"dropout": 0.0})))
    features, attention = int(backbone.head_hidden_size), None  # type: ignore[arg-type]
    if model.attention:
        attention = SelfAttention(int(backbone.num_features), model.attention.width, model.attention.heads)  # type: ignore[arg-type]
        features = model.attention.width
    body = heads.HeadedBackbone(backbone, attention, request.head(features))
    first = f"backbone.{prefixes.first_conv}" if prefixes.first_conv else ""
    return body, KeyPrefixes(body.classifier, first, "backbone", prefixes.classifier)


def _build_alexnet(request: BodyRequest) -> tuple[nn.Module, KeyPrefixes]:
    body = AlexNet(request.num_classes, request.channels, request.model.dropout)
    return body, KeyPrefixes(body.classifier)


def _build_small(request: BodyRequest) -> tuple[nn.Module, KeyPrefixes]:
    body = SmallNetwork(request.num_classes, request.channels, request.model.dropout)
    return body, KeyPrefixes(body.classifier)


def _build_timm(request: BodyRequest) -> tuple[nn.Module, KeyPrefixes]:
    model, source = request.model, "hub" if request.source == "hub" else "none"
    body = backbones.create_backbone(
        model.name, source, request.num_classes, request.channels, model.dropout, model.options, tuple(NETWORKS)
    )
    return body, backbones.key_prefixes(body)


def _build_hybrid(request: BodyRequest) -> tuple[nn.Module, KeyPrefixes]:
    model = request.model
    halves = (model.hybrid.convolution, model.hybrid.transformer)
    convolution, transformer = (request.backbone(half) for half in halves)
    width = int(convolution.head_hidden_size) + int(transformer.head_hidden_size)  # type: ignore[arg-type]
    head = request.head(width)
    body = HybridNetwork(convolution, transformer, head, [_renormalisation(model, half) for half in halves])
    return body, KeyPrefixes(body.classifier)


def _renormalisation(model: Model, half: HybridHalf) -> Tensor:
    """(2, 1 or C): factor and shift from pixels normalised by model.mean and model.std to those of a half with its own."""
    mean, std = torch.tensor(model.mean), torch.tensor(model.std)
    own_mean, own_std = torch.tensor(half.mean or model.mean), torch.tensor(half.std or model.std)
    values = torch.broadcast_tensors(std / own_std, (mean - own_mean) / own_std)  # type: ignore[no-untyped-call]
    return torch.stack(values)


def _build_text(request: BodyRequest) -> tuple[nn.Module, KeyPrefixes]:
    if request.source == "hub" and request.model.text.encoder == "small":
        raise RecipeError(
            "There are no weights for the small text encoder on a hub; set model.weights to none or a file."
        )
    words = _text_encoder(request)
    body = text.TextNetwork(words, request.head(words.width))
    return body, KeyPrefixes(body.classifier)


def _build_fusion(request: BodyRequest) -> tuple[nn.Module, KeyPrefixes]:
    section, words = request.model.fusion, _text_encoder(request)
    head = request.head(section.width)
    image = request.backbone(section.image)
    body = FusionNetwork(image, words, section.width, section.heads, section.missing, head)
    return body, KeyPrefixes(body.classifier)


def _build_ridge(request: BodyRequest) -> tuple[nn.Module, KeyPrefixes]:
    section, second = request.model.ridge, None
    if section.second is not None:
        second = request.backbone(section.second), _renormalisation(request.model, section.second)
    backbone = request.backbone(section.backbone)
    return SubjectRidge(backbone, section, request.num_classes, section.covariates, second), KeyPrefixes("head")


def _text_encoder(request: BodyRequest) -> text.TextEncoder:
    return text.build_text_encoder(request.model.text, request.source, request.pretrained, request.encoder)


TIMM = NetworkSpec("", "timm backbone", _build_timm, attention=True)
"""Row of every name that is not in `NETWORKS`."""

NETWORKS: Mapping[str, NetworkSpec] = {
    spec.name: spec
    for spec in (
        NetworkSpec("alexnet", "AlexNet for 32 × 32 gray scans", _build_alexnet, hub_weights=False, hidden=False),
        NetworkSpec("small", "four-block network", _build_small, hub_weights=False, attention=True),
        NetworkSpec(
            "hybrid",
            "convolutional network and vision transformer",
            _build_hybrid,
            parts=lambda model: {
                "hybrid.convolution": model.hybrid.convolution,
                "hybrid.transformer": model.hybrid.transformer,
            },
        ),
        NetworkSpec("text", "words alone", _build_text, reads_words=True),
        NetworkSpec(
            "fusion",
            "image and words",
            _build_fusion,
            reads_words=True,
            parts=lambda model: {"fusion.image": model.fusion.image},
        ),
        NetworkSpec(
            "subject_ridge",
            "ridge regression on one vector a person",
            _build_ridge,
            hidden=False,
            parts=lambda model: dict(zip(("ridge.backbone", "ridge.second"), model.ridge.backbones, strict=False)),
        ),
    )
}
