"""Any timm backbone by its name, with weights from the hub, from a file, or none."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from scanwise.errors import RecipeError, WeightsError, did_you_mean
from scanwise.models.weights import KeyPrefixes, load_foreign_weights


def create_backbone(
    name: str,
    source: str,
    num_classes: int,
    channels: int,
    dropout: float,
    options: Mapping[str, Any],
    own_names: Sequence[str] = (),
) -> nn.Module:
    """Build a timm model with a fresh head for `num_classes` (0 for none).

    Args:
        name: timm's name, such as `resnet50` or `mobilenetv2_100`.
        source: `none`, `hub`, or a file of weights. With one input channel the first layer's weights are summed.
        num_classes: size of the head.
        channels: of the input.
        dropout: before the head.
        options: further arguments of `timm.create_model`.
        own_names: of our own networks, for the error if timm has none of that name.

    Raises:
        RecipeError: if timm has no such model, or it takes no such option.
        WeightsError: if the weights cannot be had, or do not fit.
    """
    import timm

    bare = name.split(".")[0]
    if not timm.is_model(bare):
        raise RecipeError(
            f"There is no network {name!r}: neither one of our own ({', '.join(own_names)}) nor a timm backbone."
            f"{did_you_mean(bare, [*own_names, *timm.list_models()])}"
        )
    tags = timm.models.get_arch_pretrained_cfgs(bare)
    if name != bare and name not in tags:
        raise RecipeError(f"timm's {bare!r} has no weights {name!r}.{did_you_mean(name, tags)}")
    if source == "hub" and not timm.models.is_model_pretrained(name):
        raise WeightsError(
            f"timm has no pretrained weights for {name!r}. Set model.weights to none or a file of weights, or choose a "
            f"network that has some.{did_you_mean(bare, {tagged.split('.')[0] for tagged in timm.list_models(pretrained=True)})}"
        )
    arguments = {"num_classes": num_classes, "in_chans": channels, "drop_rate": dropout, **options}
    try:
        model: nn.Module = timm.create_model(name, pretrained=source == "hub", **arguments)
    except TypeError as error:
        raise RecipeError(f"timm's {name!r} cannot be built with model.options {dict(options)}: {error}.") from error
    except Exception as error:
        if source != "hub":
            raise
        raise WeightsError(
            f"The pretrained weights of {name!r} cannot be fetched from the hub ({type(error).__name__}). Connect to "
            "it, or set model.weights to a file of weights or to none."
        ) from error
    _draw_classifier(model)
    if source not in ("none", "hub"):
        load_foreign_weights(model, Path(source), key_prefixes(model))
    return model


def _draw_classifier(model: Any) -> None:
    """Draw the classifier's weights by the number of its inputs, as torch does.

    timm draws those of an EfficientNet or MobileNet by the number of outputs: with three classes its first logits are around
    thirty, and training spends its first epochs on undoing them.
    """
    last = model.get_classifier()
    for part in last if isinstance(last, (tuple, list)) else (last,):
        if isinstance(part, nn.Linear):
            part.reset_parameters()


def key_prefixes(model: nn.Module) -> KeyPrefixes:
    """Positions of a timm model's parts, from its own configuration."""
    about: Any = model.pretrained_cfg
    classifier, first_conv = about.get("classifier"), about.get("first_conv")
    # A few models have two of one kind; of those none can be adapted.
    return KeyPrefixes(*(part if isinstance(part, str) else "" for part in (classifier, first_conv)))
