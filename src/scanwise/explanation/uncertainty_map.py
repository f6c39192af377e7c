"""Uncertainty of a map: its variance over the members of a network or draws of dropout."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scanwise.errors import RecipeError
from scanwise.explanation import AUTO_METHOD, Targets, explain_arrays
from scanwise.records import FloatArray, IntArray

if TYPE_CHECKING:
    from scanwise.models import Network

DRAWS = 10
"""Draws of dropout that are mapped; the recipe's own number where that is smaller."""


@dataclass(frozen=True, slots=True)
class MemberMaps:
    """Maps of several members.

    Attributes:
        mean: (N, K, H, W), each member's map weighing the same.
        variance: (N, K, H, W) over the members, of maps that each sum to one a pixel on average.
        members: how many.
        targets: (N, K).
    """

    mean: FloatArray
    variance: FloatArray
    members: int
    targets: IntArray


def explain_members(
    network: "Network",
    scans: Any,
    *,
    targets: Targets = None,
    method: str = AUTO_METHOD,
    layer: str = "",
    tokens: IntArray | None = None,
    draws: int | None = None,
    batch: int = 16,
    device: str | None = None,
    progress: bool = False,
) -> MemberMaps:
    """Explain each member of an ensemble, or several draws of dropout, about the same targets.

    Each map is scaled to a mean of one, so that the variance shows differences of location, not of confidence.

    Args:
        network: a batch ensemble, a deep ensemble, or one with dropout.
        scans, targets, method, layer, tokens, batch, device, progress: as of `explain`.
        draws: of dropout; default: the recipe's number, at most 10.

    Raises:
        RecipeError: if the network has no members and makes no draws.
    """
    count = network.members if network.members > 1 else (draws or min(network.draws, DRAWS))
    if count < 2:
        raise RecipeError(
            "An uncertainty heatmap needs members that can disagree: set model.members.kind to mc_dropout, batch_ensemble "
            "or deep_ensemble."
        )
    options: dict[str, Any] = {
        "method": method,
        "layer": layer,
        "tokens": tokens,
        "batch": batch,
        "device": device,
        "progress": progress,
    }
    if targets is None:  # the class predicted by all together, the same for every member
        from scanwise.explanation import predicted_classes

        targets = predicted_classes(network, scans, tokens=tokens, batch=batch, device=device)
    total: Any = 0.0
    square: Any = 0.0
    target_rows: IntArray = np.empty((0, 0), np.int64)
    name = "member" if network.members > 1 else "draw"
    for index in range(count):
        values, target_rows = explain_arrays(network, scans, targets=targets, **{**options, name: index})
        level = np.maximum(values.mean(axis=(2, 3), keepdims=True), 1e-12)
        scaled = values.astype(np.float64) / level
        total, square = total + scaled, square + scaled**2
    mean = total / count
    variance = np.maximum(square / count - mean**2, 0)
    return MemberMaps(mean.astype(np.float32), variance.astype(np.float32), count, target_rows)
