"""From the recipe's section to a network: which body, which weights, which head, how many members."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scanwise.errors import RecipeError
from scanwise.models import backbones, batch_ensemble, heads, ordinal, text, weights
from scanwise.models.alexnet import AlexNet
from scanwise.models.attention import SelfAttention
from scanwise.models.deep_ensemble import DeepEnsemble
from scanwise.models.fusion import FusionNetwork
from scanwise.models.hybrid import HybridNetwork
from scanwise.models.network import Network
from scanwise.models.small import SmallNetwork
from scanwise.models.weights import KeyPrefixes
from scanwise.recipe import BackboneSection, HybridHalf, Members, Model

OWN: dict[str, type[AlexNet] | type[SmallNetwork]] = {"alexnet": AlexNet, "small": SmallNetwork}


def build_network(
    model: Model,
    num_classes: int,
    channels: int,
    *,
    pretrained: bool = True,
    classes: Sequence[str] = (),
    encoder: Mapping[str, Any] | None = None,
    tell: bool = True,
) -> Network:
    """Make the network of a recipe.

    Args:
        model: its section.
        num_classes: values that come out; 0 for features only.
        channels: of the scans that go in.
        pretrained: load the recipe's weights; False where a checkpoint follows anyway.
        classes: the names of the classes, in order; needed where the recipe gives a class_order.
        encoder: what the vocabulary knows of a Hugging Face encoder; without it its folder or the hub is asked.
        tell: log what became of the classifier of a file of weights.

    Raises:
        RecipeError: for an unknown name, or a mean or std that does not fit the channels.
        WeightsError: if the weights cannot be had, or do not fit.
    """
    _refuse_normalisation(model, channels)
    if model.members.kind == "deep_ensemble":
        one = model.model_copy(update={"members": Members()})
        shared: dict[str, Any] = {"pretrained": pretrained, "classes": classes, "encoder": encoder}
        members = range(model.members.number)
        return DeepEnsemble([build_network(one, num_classes, channels, tell=tell and not i, **shared) for i in members])
    order = weights.map_class_order(model.class_order, classes) if pretrained and model.class_order else []
    body, place = _body(model, num_classes, channels, pretrained, encoder)
    draws = model.members.number if model.members.kind == "mc_dropout" else 0
    network = Network(body, model.mean, model.std, classifier=place.classifier if num_classes else "", draws=draws)
    if model.ordinal and num_classes:
        ordinal.make_ordinal(network)
    ensemble, file = model.members.kind == "batch_ensemble", None
    if pretrained and _is_file(model.weights):
        file = Path(model.weights)
        if num_classes and not place.classifier:
            raise RecipeError(
                f"{model.name} has not one last layer but several, so nobody can tell which class of {file.name} is which of "
                "yours. Take a network with one, or set model.weights to hub, where they start fresh."
            )
    # Weights of one network go in before the members part, those of a batch ensemble when they have.
    apart = ensemble and file is not None and batch_ensemble.is_batch_ensemble(weights.read_weights(file))
    if file is not None and not apart:
        weights.load_foreign_weights(body, file, place, order, tell=tell)
    if ensemble:
        batch_ensemble.to_batch_ensemble(network, model.members)
    if file is not None and apart:
        weights.load_foreign_weights(body, file, place, order, tell=tell)
    return network


def describe_weights(model: Model) -> str:
    """Where the weights of a network come from, in words for provenance and report.

    >>> origin(Model(name="hybrid", weights="hub", hybrid={"convolution": {"name": "resnet50", "weights": "none"}}))
    'resnet50: random start; vit_base_patch16_224: pretrained, from the hub'
    """
    words = [] if model.text.encoder == "small" else [(model.text.encoder, model.text.encoder)]
    table: dict[str, list[tuple[str, str | None]]] = {
        "hybrid": [(part.name, part.weights) for part in (model.hybrid.convolution, model.hybrid.transformer)],
        "fusion": [(model.fusion.image.name, model.fusion.image.weights), *words],
        "text": [*words],
    }
    parts = table.get(model.name, [])
    if _is_file(model.weights):
        return f"{_told(model.weights)}, with {'its' if model.class_order else 'a fresh'} classifier"
    if not parts:
        return _told(model.weights)
    return "; ".join(f"{name}: {_told(source or model.weights)}" for name, source in parts)


def _told(source: str) -> str:
    words = {"none": "random start", "hub": "pretrained, from the hub"}
    return words.get(source, f"pretrained, from {Path(source).name}")


def _refuse_normalisation(model: Model, channels: int) -> None:
    told: dict[str, tuple[float, ...]] = {"mean": model.mean, "std": model.std}
    if model.name == "hybrid":
        for name, half in (("convolution", model.hybrid.convolution), ("transformer", model.hybrid.transformer)):
            told |= {f"hybrid.{name}.mean": half.mean or model.mean, f"hybrid.{name}.std": half.std or model.std}
    for name, values in told.items():
        if len(values) not in (1, channels):
            raise RecipeError(
                f"model.{name} has {len(values)} values for scans of {channels} channels; give 1 or {channels}."
            )


def _body(
    model: Model,
    num_classes: int,
    channels: int,
    pretrained: bool,
    encoder: Mapping[str, Any] | None,
) -> tuple[nn.Module, KeyPrefixes]:
    """The body without the weights of a file, and where its parts are."""
    source = model.weights if pretrained else "none"
    if source == "hub" and model.name in OWN:
        raise RecipeError(f"There are no weights for {model.name!r} on a hub; set model.weights to none or a file.")
    if model.name == "hybrid":
        body, place = _hybrid(model, num_classes, channels, source, pretrained)
    elif model.name in ("text", "fusion"):
        body, place = _with_words(model, num_classes, channels, source, pretrained, encoder)
    elif model.attention or model.hidden:
        body, place = _headed(model, num_classes, channels, source)
    elif model.name in OWN:
        kind = OWN[model.name]
        body, place = kind(num_classes, channels, model.dropout), KeyPrefixes(kind.classifier)
    else:
        body = backbones.create_backbone(
            model.name, _hub_or_none(source), num_classes, channels, model.dropout, model.options
        )
        place = backbones.key_prefixes(body)
    return body, place


def _headed(model: Model, num_classes: int, channels: int, source: str) -> tuple[nn.Module, KeyPrefixes]:
    if model.name in OWN:
        backbone: nn.Module = OWN[model.name](0, channels, 0.0)
        there = KeyPrefixes("head")
    else:
        backbone = backbones.create_backbone(model.name, _hub_or_none(source), 0, channels, 0.0, model.options)
        there = backbones.key_prefixes(backbone)
    features, attention = int(backbone.head_hidden_size), None  # type: ignore[arg-type]
    if model.attention:
        attention = SelfAttention(int(backbone.num_features), model.attention.width, model.attention.heads)  # type: ignore[arg-type]
        features = model.attention.width
    body = heads.HeadedBackbone(
        backbone, attention, heads.dense_head(features, model.hidden, num_classes, model.dropout)
    )
    first = f"backbone.{there.first_conv}" if there.first_conv else ""
    return body, KeyPrefixes(body.classifier, first, "backbone", there.classifier)


def _hybrid(
    model: Model, num_classes: int, channels: int, source: str, pretrained: bool
) -> tuple[nn.Module, KeyPrefixes]:
    parts = (model.hybrid.convolution, model.hybrid.transformer)
    convolution, transformer = (_part(part, channels, source, pretrained) for part in parts)
    width = int(convolution.head_hidden_size) + int(transformer.head_hidden_size)  # type: ignore[arg-type]
    head = heads.dense_head(width, model.hidden, num_classes, model.dropout)
    body = HybridNetwork(convolution, transformer, head, [_change(model, part) for part in parts])
    return body, KeyPrefixes(body.classifier)


def _change(model: Model, half: HybridHalf) -> Tensor:
    """(2, 1 or C): factor and shift from pixels normalised as model.mean and model.std say to those of a half with its own."""
    mean, std = torch.tensor(model.mean), torch.tensor(model.std)
    own_mean, own_std = torch.tensor(half.mean or model.mean), torch.tensor(half.std or model.std)
    values = torch.broadcast_tensors(std / own_std, (mean - own_mean) / own_std)  # type: ignore[no-untyped-call]
    return torch.stack(values)


def _with_words(
    model: Model,
    num_classes: int,
    channels: int,
    source: str,
    pretrained: bool,
    encoder: Mapping[str, Any] | None,
) -> tuple[nn.Module, KeyPrefixes]:
    if source == "hub" and model.name == "text" and model.text.encoder == "small":
        raise RecipeError(
            "There are no weights for the small text encoder on a hub; set model.weights to none or a file."
        )
    words = text.build_text_encoder(model.text, source, pretrained, encoder)
    section, width = model.fusion, words.width if model.name == "text" else model.fusion.width
    head = heads.dense_head(width, model.hidden, num_classes, model.dropout)
    if model.name == "text":
        return text.TextNetwork(words, head), KeyPrefixes(f"head.{len(head) - 1}")
    image = _part(section.image, channels, source, pretrained)
    body = FusionNetwork(image, words, section.width, section.heads, section.missing, head)
    return body, KeyPrefixes(body.classifier)


def _part(part: BackboneSection, channels: int, source: str, pretrained: bool) -> nn.Module:
    """One backbone of several, without classifier; what it says of its weights goes before what the network says.

    Where the whole network comes from a file or a checkpoint, its parts come with it.
    """
    own = part.weights or source
    return backbones.create_backbone(
        part.name, own if pretrained and not _is_file(source) else "none", 0, channels, 0.0, part.options
    )


def _hub_or_none(source: str) -> str:
    return "hub" if source == "hub" else "none"


def _is_file(source: str) -> bool:
    return source not in ("none", "hub")
