"""One scan of zeros through a network: the size of its output, and whether it takes scans of this size."""

import torch
from torch import Tensor

from scanwise.errors import RecipeError
from scanwise.models.network import Network
from scanwise.models.networks import NETWORKS
from scanwise.recipe import Recipe


def dry_run_logits(network: Network, recipe: Recipe) -> Tensor:
    """(1, C) logits of a network on the CPU for a scan of zeros, with padding tokens if it reads words.

    Args:
        network: left in evaluation mode.
        recipe: its recipe, with the size of scans and titles.
    """
    data = recipe.data
    with torch.inference_mode():
        tokens = blank_tokens(network, recipe, 1)
        logits: Tensor = network.eval()(torch.zeros(1, data.channels, data.size, data.size), *tokens)
    return logits


def blank_tokens(network: Network, recipe: Recipe, count: int) -> tuple[Tensor, ...]:
    """Nothing, or (N, L) tokens of nobody for a network that reads some beside each scan."""
    if not network.takes_tokens:
        return ()
    if network.body_takes_tokens:
        return (torch.zeros(count, recipe.model.text.length, dtype=torch.int64),)
    return (torch.zeros(count, recipe.model.covariates),)


def check_input_size(network: Network, recipe: Recipe) -> None:
    """Check that the network takes scans of the recipe's size: a vision transformer takes one size only.

    Raises:
        RecipeError: with the keys that set the size of the network.
    """
    try:
        dry_run_logits(network, recipe)
    except (AssertionError, RuntimeError, ValueError) as error:
        side = recipe.data.size
        keys = _option_keys(recipe)
        hint = f"; a vision transformer takes its size by {' or '.join(keys)}={{img_size: {side}}}" if keys else ""
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise RecipeError(
            f"The network {recipe.model.name!r} cannot take scans of {side} × {side} pixels: {reason}. Set data.size to a "
            f"size that it takes{hint}."
        ) from error


def _option_keys(recipe: Recipe) -> tuple[str, ...]:
    """Keys that hold the options of the recipe's timm backbones."""
    name = recipe.model.name
    if name not in NETWORKS:
        return ("model.options",)
    # The transformer of a hybrid, whose size is fixed, is its last part.
    return tuple(f"model.{part}.options" for part in reversed(NETWORKS[name].parts(recipe.model)))
