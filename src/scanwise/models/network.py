"""The one shape of every network: the store's uint8 goes in, logits come out, normalisation happens inside."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from scanwise.errors import RecipeError
from scanwise.models import backbones, weights
from scanwise.models.alexnet import AlexNet
from scanwise.models.small import Small
from scanwise.recipe import Model


class Body(Protocol):
    """What a network is made of: timm's two-step contract."""

    def forward_features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) normalised images to a feature map."""
        ...

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """The feature map to (N, classes), or to the (N, D) that the last layer sees."""
        ...


OWN: dict[str, type[AlexNet] | type[Small]] = {"alexnet": AlexNet, "small": Small}


class Network(nn.Module):
    """A body that takes pixels from 0 to 255 and normalises them itself.

    Args:
        body: a module with `forward_features` and `forward_head`.
        mean: to subtract from pixels in [0, 1], one value or one a channel.
        std: to divide by.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", 255 * torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std, dtype=torch.float32).reshape(-1, 1, 1))

    def forward_features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) pixels from 0 to 255, of any type, to the body's feature map."""
        normal = (images.to(self.mean.dtype) - self.mean) / self.std
        return cast(Body, self.body).forward_features(normal)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """The feature map to (N, classes) logits, or to the (N, D) features under the last layer."""
        return cast(Body, self.body).forward_head(features, pre_logits=pre_logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


def build(model: Model, num_classes: int, channels: int, *, pretrained: bool = True) -> Network:
    """Make the network of a recipe.

    Args:
        model: its section.
        num_classes: values that come out; 0 for features only.
        channels: of the scans that go in.
        pretrained: load the recipe's weights; False where a checkpoint follows anyway.

    Raises:
        RecipeError: for an unknown name, or a mean or std that does not fit the channels.
        WeightsError: if the weights cannot be had, or do not fit.
    """
    for name, values in (("mean", model.mean), ("std", model.std)):
        if len(values) not in (1, channels):
            raise RecipeError(
                f"model.{name} has {len(values)} values for scans of {channels} channels; give 1 or {channels}."
            )
    source = model.weights if pretrained else "none"
    if model.name in OWN:
        if source == "hub":
            raise RecipeError(f"There are no weights for {model.name!r} on a hub; set model.weights to none or a file.")
        kind = OWN[model.name]
        body: nn.Module = kind(num_classes, channels, model.dropout)
        if source != "none":
            weights.load_foreign(body, Path(source), classifier=kind.classifier, first_conv="")
    else:
        body = backbones.create(model.name, source, num_classes, channels, model.dropout, model.options)
    return Network(body, model.mean, model.std)
