"""Maps and contributions of the two halves of the hybrid network, and the two maps combined."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scanwise.errors import RecipeError
from scanwise.explanation import Targets, explain_arrays
from scanwise.explanation.layers import borrowed
from scanwise.explanation.measures import overlap
from scanwise.models.hybrid import HybridNetwork
from scanwise.records import FloatArray, IntArray

if TYPE_CHECKING:
    from scanwise.models import Network

HALF_METHODS = {"convolution": "grad_cam", "transformer": "gradient_rollout"}
"""Method of explanation of each half."""
SHARED = 0.2
"""Share of the pixels, the strongest, over which the overlap of the halves is computed."""


@dataclass(frozen=True, slots=True)
class HybridMaps:
    """Maps of both halves for one class a scan.

    Attributes:
        convolution: (N, H, W) Grad-CAM of the convolutional half.
        transformer: (N, H, W) gradient-weighted rollout of the transformer.
        combined: (N, H, W) both, each scaled to a sum of one, weighted by the contribution of its half to the first linear layer.
        targets: (N,) the class.
        norms: (N, 2) of the features of each half, convolution first.
        contributions: (N, 2) of each half to the first linear layer.
    """

    convolution: FloatArray
    transformer: FloatArray
    combined: FloatArray
    targets: IntArray
    norms: FloatArray
    contributions: FloatArray


@dataclass(frozen=True, slots=True)
class ComponentSummary:
    """One scan's summary: a row of `components.csv`. Places are shares of the side, from the top and from the left.

    Attributes:
        scan: its name.
        predicted: the class.
        probability: of that class.
        overlap: share of the strongest fifth of pixels that the halves have in common.
        convolution_row, convolution_column: centre of the map of the convolutional half.
        convolution_spread: root of its mean squared distance from there.
        transformer_row, transformer_column, transformer_spread: the same of the other half.
        convolution_norm, transformer_norm: of the features of each half.
        convolution_contribution, transformer_contribution: to the first linear layer.
        convolution_share: of the two contributions.
    """

    scan: str
    predicted: str
    probability: float
    overlap: float
    convolution_row: float
    convolution_column: float
    convolution_spread: float
    transformer_row: float
    transformer_column: float
    transformer_spread: float
    convolution_norm: float
    transformer_norm: float
    convolution_contribution: float
    transformer_contribution: float
    convolution_share: float

    def row(self) -> dict[str, object]:
        """For a CSV."""
        return asdict(self)

    @property
    def marks(self) -> dict[str, tuple[float, float, float]]:
        """Row, column and spread of the map of each half, by its name."""
        return {
            "convolution": (self.convolution_row, self.convolution_column, self.convolution_spread),
            "transformer": (self.transformer_row, self.transformer_column, self.transformer_spread),
        }


def explain_halves(
    network: "Network", scans: Any, *, targets: Targets = None, batch: int = 16, device: str | None = None
) -> HybridMaps:
    """Explain both halves of a hybrid about the same classes.

    Args:
        network: a hybrid.
        scans: (N, H, W, C) uint8.
        targets: one class for all scans or (N, 1); None for the predicted one.

    Raises:
        RecipeError: if the network is no hybrid.
    """
    body = network.body
    if not isinstance(body, HybridNetwork):
        raise RecipeError("The component summary is about the two halves of model.name hybrid; this network has none.")
    options: dict[str, Any] = {"batch": batch, "device": device}
    first, target_rows = explain_arrays(network, scans, targets=targets, method=HALF_METHODS["convolution"], **options)
    second, _ = explain_arrays(network, scans, targets=target_rows, method=HALF_METHODS["transformer"], **options)
    norms, parts = _norms(network, scans, batch, device)
    weights = parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-12)
    convolution, transformer = first[:, 0], second[:, 0]
    combined = weights[:, 0, None, None] * _shares(convolution) + weights[:, 1, None, None] * _shares(transformer)
    return HybridMaps(convolution, transformer, combined.astype(np.float32), target_rows[:, 0], norms, parts)


def summarise_halves(
    looks: HybridMaps, probs: FloatArray, names: Sequence[str], classes: Sequence[str]
) -> tuple[ComponentSummary, ...]:
    """One summary a scan: centre and spread of each half's map, its norm and contribution, and the prediction (N, C)."""
    shared = overlap(looks.convolution, looks.transformer, SHARED)
    centres = [_centre(values) for values in (looks.convolution, looks.transformer)]
    share = looks.contributions[:, 0] / np.maximum(looks.contributions.sum(axis=1), 1e-12)
    best = probs.argmax(axis=1)
    parts = ("convolution", "transformer")
    summaries = []
    for row, name in enumerate(names):
        parts_of_row: dict[str, float] = {"convolution_share": float(share[row])}
        for half, part in enumerate(parts):
            middle = zip(("row", "column", "spread"), centres[half][row].tolist(), strict=True)
            parts_of_row |= {f"{part}_{what}": value for what, value in middle}
            parts_of_row[f"{part}_norm"] = float(looks.norms[row, half])
            parts_of_row[f"{part}_contribution"] = float(looks.contributions[row, half])
        probability = float(probs[row, best[row]])
        summaries.append(ComponentSummary(name, classes[best[row]], probability, float(shared[row]), **parts_of_row))
    return tuple(summaries)


def _norms(network: "Network", scans: Any, batch: int, device: str | None) -> tuple[FloatArray, FloatArray]:
    """(N, 2) norms and (N, 2) contributions; of a batch ensemble the mean of its members."""
    pixels, batches = np.asarray(scans), []
    body: Any = network.body
    with borrowed(network, device) as run_device, torch.no_grad():
        for start in range(0, len(pixels), batch):
            images = torch.from_numpy(pixels[start : start + batch]).to(run_device).permute(0, 3, 1, 2)
            features = network.forward_features(images)
            both = torch.stack([body.norms(features), body.contributions(features)])
            batches.append(both.reshape(2, -1, len(images), 2).mean(1).float().cpu().numpy())
    joined = np.concatenate(batches, axis=1)
    return joined[0], joined[1]


def _shares(values: FloatArray) -> FloatArray:
    total = values.sum(axis=(1, 2), keepdims=True)
    return np.asarray(values / np.where(total > 0, total, 1))


def _centre(values: FloatArray) -> FloatArray:
    """(N, 3): row and column of the centre of each map, and the spread around it; the middle for an empty map."""
    height, width = values.shape[1:]
    weights = _shares(values.astype(np.float64) + 1e-12)
    y, x = np.mgrid[:height, :width]
    down, right = (y + 0.5) / height, (x + 0.5) / width
    middle = np.stack([(weights * down).sum(axis=(1, 2)), (weights * right).sum(axis=(1, 2))], axis=1)
    away = (down - middle[:, 0, None, None]) ** 2 + (right - middle[:, 1, None, None]) ** 2
    return np.column_stack([middle, np.sqrt((weights * away).sum(axis=(1, 2)))])
