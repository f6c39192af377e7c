"""Metrics that need the order of the rows: the area under the ROC curve and the average precision."""

from collections.abc import Iterator

import numpy as np

from scanwise.metrics.sums import divide_or
from scanwise.records import BoolArray, FloatArray, IntArray


def weighted_auroc(scores: FloatArray, positive: BoolArray, weights: FloatArray) -> FloatArray:
    """(…,) the share of pairs in order, ties half: for every positive, the weight of the negatives below it."""
    hits, misses = _rising(scores, positive), _rising(scores, ~positive)
    below = np.searchsorted(scores[misses], scores[hits], side="left")
    upto = np.searchsorted(scores[misses], scores[hits], side="right")
    found = []
    for block in _blocks(weights):
        of_hits, passed = block[hits], _running(block[misses])
        pairs = np.einsum("nb,nb->b", of_hits, passed[below])
        if (upto > below).any():
            pairs = (pairs + np.einsum("nb,nb->b", of_hits, passed[upto])) / 2
        found.append(divide_or(pairs, of_hits.sum(axis=0) * passed[-1]))
    return np.concatenate(found).reshape(weights.shape[:-1])


def weighted_average_precision(scores: FloatArray, positive: BoolArray, weights: FloatArray) -> FloatArray:
    """(…,) for every positive, the precision among all that score as high or higher."""
    hits, misses = _rising(-scores, positive), _rising(-scores, ~positive)
    caught = np.searchsorted(-scores[hits], -scores[hits], side="right")
    alarms = np.searchsorted(-scores[misses], -scores[hits], side="right")
    found = []
    for block in _blocks(weights):
        of_hits = block[hits]
        above = _running(of_hits)[caught]
        precise = divide_or(above, above + _running(block[misses])[alarms], otherwise=0.0)
        found.append(divide_or(np.einsum("nb,nb->b", of_hits, precise), of_hits.sum(axis=0)))
    return np.concatenate(found).reshape(weights.shape[:-1])


def weighted_sensitivity_at(
    scores: FloatArray, positive: BoolArray, weights: FloatArray, specificity: float
) -> FloatArray:
    """(…,) the largest share of positives caught by a threshold that lets at least `specificity` of the negatives pass.

    A row is caught where its score is as high as the threshold, which is one of the scores, or above them all.
    """
    hits, misses = _rising(scores, positive), _rising(scores, ~positive)
    caught_from = np.searchsorted(scores[hits], scores[misses], side="right")
    found = []
    for block in _blocks(weights):
        passed, caught = _running(block[misses]), _running(block[hits])
        needed = specificity * passed[-1] - 1e-9 * np.maximum(passed[-1], 1.0)
        # The threshold stands just above the negative that makes the share that passes large enough.
        place = np.minimum((passed[1:] < needed).sum(axis=0), len(misses) - 1)
        above = np.zeros(block.shape[1])
        if len(misses):
            above = caught[-1] - np.take_along_axis(caught, caught_from[place][None], axis=0)[0]
        found.append(np.where(passed[-1] > 0, divide_or(above, caught[-1]), np.nan))
    return np.concatenate(found).reshape(weights.shape[:-1])


def _rising(scores: FloatArray, among: BoolArray) -> IntArray:
    """The rows among these, lowest score first."""
    rows = np.flatnonzero(among)
    return rows[np.argsort(scores[rows], kind="stable")]


def _running(block: FloatArray) -> FloatArray:
    """(n + 1, b) sums of the first 0, 1, … n rows."""
    sums = np.zeros((len(block) + 1, block.shape[1]), dtype=block.dtype)
    np.cumsum(block, axis=0, out=sums[1:])
    return sums


def _blocks(weights: FloatArray) -> Iterator[FloatArray]:
    """(N, b) pieces of the transposed weights that fit a processor's cache."""
    rows = np.atleast_2d(weights)
    step = max(1, 200_000 // rows.shape[1])
    for start in range(0, len(rows), step):
        yield np.ascontiguousarray(rows[start : start + step].T)
