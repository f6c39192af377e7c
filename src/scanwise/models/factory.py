"""From the recipe's section to a network: body, weights, members."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scanwise.errors import RecipeError
from scanwise.models import batch_ensemble, ordinal, weights
from scanwise.models.bags import attention_of
from scanwise.models.covariates import CovariateTerm
from scanwise.models.deep_ensemble import DeepEnsemble
from scanwise.models.network import Network
from scanwise.models.networks import NETWORKS, BodyRequest, NetworkSpec, build_body, find_network, is_file
from scanwise.recipe import Members, Model


def build_network(
    model: Model,
    num_classes: int,
    channels: int,
    *,
    pretrained: bool = True,
    classes: Sequence[str] = (),
    encoder: Mapping[str, Any] | None = None,
    tell: bool = True,
    networks: Mapping[str, NetworkSpec] = NETWORKS,
) -> Network:
    """Build the network of a recipe.

    Args:
        model: section of the recipe.
        num_classes: size of the output; 0 for features only.
        channels: of the scans.
        pretrained: load the recipe's weights; False where a checkpoint follows anyway.
        classes: names of the classes, in order; needed where the recipe gives a class_order.
        encoder: configuration of a Hugging Face encoder, from the vocabulary; None to ask its folder or the hub.
        tell: log what became of the classifier of a file of weights.
        networks: table of the networks that have names of their own.

    Raises:
        RecipeError: for an unknown name, or a mean or std that does not fit the channels.
        WeightsError: if the weights cannot be had, or do not fit.
    """
    _check_normalisation(model, channels)
    if model.members.kind == "deep_ensemble":
        single = model.model_copy(update={"members": Members()})
        shared: dict[str, Any] = {
            "pretrained": pretrained, "classes": classes, "encoder": encoder, "networks": networks
        }  # fmt: skip
        members = range(model.members.number)
        return DeepEnsemble(
            [build_network(single, num_classes, channels, tell=tell and not i, **shared) for i in members]
        )
    order = weights.map_class_order(model.class_order, classes) if pretrained and model.class_order else []
    source = model.weights if pretrained else "none"
    request = BodyRequest(model, num_classes, channels, source, pretrained, encoder)
    body, prefixes = build_body(request, find_network(model.name, networks))
    draws = model.members.number if model.members.kind == "mc_dropout" else 0
    network = Network(body, model.mean, model.std, classifier=prefixes.classifier if num_classes else "", draws=draws)
    if model.ordinal and num_classes:
        ordinal.make_ordinal(network)
    if model.by_subject and model.pool == "attention" and num_classes:
        network.scan_attention = attention_of(network, network.classifier)
    if model.covariates and num_classes:
        network.covariates = CovariateTerm(model.covariates, num_classes)
    ensemble, file = model.members.kind == "batch_ensemble", None
    if pretrained and is_file(model.weights):
        file = Path(model.weights)
        if num_classes and not prefixes.classifier:
            raise RecipeError(
                f"{model.name} has not one last layer but several, so the classes of {file.name} cannot be matched with "
                "yours. Take a network with one, or set model.weights to hub, where they start fresh."
            )
    # Weights of one network go in before the members part, those of a batch ensemble when they have.
    apart = ensemble and file is not None and batch_ensemble.is_batch_ensemble(weights.read_weights(file))
    if file is not None and not apart:
        weights.load_foreign_weights(body, file, prefixes, order, tell=tell)
    if ensemble:
        batch_ensemble.to_batch_ensemble(network, model.members)
    if file is not None and apart:
        weights.load_foreign_weights(body, file, prefixes, order, tell=tell)
    return network


def describe_weights(model: Model) -> str:
    """Origin of the weights of a network, in words for provenance and report.

    >>> describe_weights(Model(name="hybrid", weights="hub", hybrid={"convolution": {"name": "resnet50", "weights": "none"}}))
    'resnet50: random start; vit_base_patch16_224: pretrained, from the hub'
    """
    spec = find_network(model.name)
    parts = [(part.name, part.weights) for part in spec.parts(model).values()]
    if spec.reads_words and model.text.encoder != "small":
        parts.append((model.text.encoder, model.text.encoder))
    if is_file(model.weights):
        return f"{_describe_source(model.weights)}, with {'its' if model.class_order else 'a fresh'} classifier"
    if not parts:
        return _describe_source(model.weights)
    return "; ".join(f"{name}: {_describe_source(source or model.weights)}" for name, source in parts)


def _describe_source(source: str) -> str:
    words = {"none": "random start", "hub": "pretrained, from the hub"}
    return words.get(source, f"pretrained, from {Path(source).name}")


def _check_normalisation(model: Model, channels: int) -> None:
    sections: dict[str, tuple[float, ...]] = {"mean": model.mean, "std": model.std}
    if model.name == "hybrid":
        for name, half in (("convolution", model.hybrid.convolution), ("transformer", model.hybrid.transformer)):
            sections |= {f"hybrid.{name}.mean": half.mean or model.mean, f"hybrid.{name}.std": half.std or model.std}
    for name, values in sections.items():
        if len(values) not in (1, channels):
            raise RecipeError(
                f"model.{name} has {len(values)} values for scans of {channels} channels; give 1 or {channels}."
            )
