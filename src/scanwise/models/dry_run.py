"""One scan of zeros through a network: how many values come out, and whether scans of this size can go in at all."""

import torch
from torch import Tensor

from scanwise.errors import RecipeError
from scanwise.models.network import Network
from scanwise.recipe import Recipe


def dry_run_logits(network: Network, made: Recipe) -> Tensor:
    """(1, C): what a network on the CPU says to a scan of zeros, with the first of its tokens if it reads words.

    Args:
        network: left in evaluation mode.
        made: its recipe, which tells the size of scans and titles.
    """
    data = made.data
    tokens = (torch.zeros(1, made.model.text.length, dtype=torch.int64),) if network.takes_text else ()
    with torch.inference_mode():
        logits: Tensor = network.eval()(torch.zeros(1, data.channels, data.size, data.size), *tokens)
    return logits


def check_input_size(network: Network, made: Recipe) -> None:
    """See that scans of the recipe's size go through: a vision transformer takes those of one size alone.

    Raises:
        RecipeError: with the keys that tell a network its size.
    """
    try:
        dry_run_logits(network, made)
    except (AssertionError, RuntimeError, ValueError) as error:
        side = made.data.size
        keys = _options(made)
        told = f"; a vision transformer is told it by {' or '.join(keys)}={{img_size: {side}}}" if keys else ""
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise RecipeError(
            f"The network {made.model.name!r} cannot take scans of {side} × {side} pixels: {said}. Set data.size to a "
            f"size that it takes{told}."
        ) from error


def _options(made: Recipe) -> tuple[str, ...]:
    """The keys that hold the options of the recipe's timm backbones."""
    keys = {
        "hybrid": ("model.hybrid.transformer.options", "model.hybrid.convolution.options"),
        "fusion": ("model.fusion.image.options",),
        "alexnet": (),
        "small": (),
        "text": (),
    }
    return keys.get(made.model.name, ("model.options",))
