"""Bands around curves: what a curve could be with other people of this kind tested, point by point.

Whole subjects are drawn again within their class, as behind every interval; a band is the middle 95 % of the drawn curves.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from scanwise.evaluation.sample import SubjectBootstrap
from scanwise.records import BoolArray, FloatArray, IntArray, Predictions

GRID = 101
"""Points of a band from left to right."""
DRAWS = 200
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Band:
    """A band of a curve.

    Attributes:
        x: (G,) from left to right.
        low: (G,) lower limit at each.
        high: (G,) upper limit at each.
    """

    x: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, x: FloatArray, drawn: FloatArray) -> Self:
        """The middle of drawn curves (B, G); draws without a value at a point do not count there."""
        with np.errstate(all="ignore"):
            low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        return cls(x, low, high)


def draw_weights(predictions: Predictions, draws: int = DRAWS, seed: int = 0) -> FloatArray:
    """(B, N) how often each draw of whole subjects has each row.

    Raises:
        DataError: if the predictions have no labels.
    """
    sample = SubjectBootstrap.of(predictions, predictions.subjects, draws, seed)
    return np.asarray(sample.drawn[:, sample.of_subject], dtype=np.float64)


def roc_band(scores: FloatArray, positive: BoolArray, weights: FloatArray) -> Band:
    """The band of sensitivity at each false positive rate.

    Args:
        scores: (N,) probability of the class.
        positive: (N,) which rows are of it.
        weights: (B, N) of `draw_weights`.

    >>> band = roc_band(np.array([0.9, 0.8, 0.1]), np.array([True, True, False]), np.ones((5, 3)))
    >>> float(band.low.min()), float(band.high.max())
    (1.0, 1.0)
    """
    hits, misses = _cumulated(scores, positive, weights)
    grid = np.linspace(0, 1, GRID)
    drawn = [_step(grid, _share(false), _share(true)) for false, true in zip(misses, hits, strict=True)]
    return Band.of(grid, np.array(drawn))


def precision_recall_band(scores: FloatArray, positive: BoolArray, weights: FloatArray) -> Band:
    """The band of precision at each sensitivity; arguments as of `roc_band`."""
    hits, misses = _cumulated(scores, positive, weights)
    grid = np.linspace(0, 1, GRID)
    drawn = []
    for true, false in zip(hits, misses, strict=True):
        called = true + false
        precision = np.divide(true, called, out=np.full(len(true), np.nan), where=called > 0)
        first = np.searchsorted(_share(true), grid - 1e-9)
        drawn.append(precision[np.maximum(1, np.minimum(first, len(precision) - 1))])
    return Band.of(grid, np.array(drawn))


def net_benefit_band(scores: FloatArray, positive: BoolArray, weights: FloatArray, thresholds: FloatArray) -> Band:
    """The band of the net benefit of acting from each threshold on; arguments as of `roc_band`."""
    cuts = np.asarray(thresholds, dtype=np.float64)
    gain = np.where(positive[:, None], 1.0, -cuts / (1 - cuts)) * (scores[:, None] >= cuts)
    return Band.of(cuts, (weights @ gain) / weights.sum(axis=1, keepdims=True))


def _cumulated(scores: FloatArray, positive: BoolArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(B, P) positives and negatives called, from none to all, a step each distinct score."""
    order = np.argsort(-scores, kind="stable")
    last: IntArray = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    drawn = weights[:, order]
    start = np.zeros((len(weights), 1))
    hits = np.cumsum(drawn * positive[order], axis=1)[:, last]
    misses = np.cumsum(drawn * ~positive[order], axis=1)[:, last]
    return np.concatenate([start, hits], axis=1), np.concatenate([start, misses], axis=1)


def _share(counts: FloatArray) -> FloatArray:
    return counts / counts[-1] if counts[-1] else np.full(len(counts), np.nan)


def _step(grid: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """The greatest y that is reached at or left of each place."""
    reached = np.searchsorted(x, grid + 1e-9, side="right") - 1
    return y[np.maximum(0, reached)]


def wilson_interval(hits: FloatArray, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The 95 % interval of a share of independent cases (Wilson 1927); (0, 1) where there are none.

    >>> low, high = wilson_interval(np.array([9.0]), np.array([10.0]))
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.596], [0.982])
    """
    z2, cases = 1.959964**2, np.asarray(counts, dtype=np.float64)
    middle = (hits + z2 / 2) / (cases + z2)
    share = np.divide(hits, cases, out=np.zeros_like(middle), where=cases > 0)
    reach = np.sqrt(z2 * (cases * share * (1 - share) + z2 / 4)) / (cases + z2)
    return np.maximum(0, middle - reach), np.minimum(1, middle + reach)
