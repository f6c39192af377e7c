"""Metrics that need the order of the rows: area under the ROC curve, average precision, sensitivity at a specificity."""

from collections.abc import Iterator

import numpy as np

from scanwise.metrics.sums import divide_or
from scanwise.records import BoolArray, FloatArray, IntArray


def weighted_auroc(scores: FloatArray, positive: BoolArray, weights: FloatArray) -> FloatArray:
    """(…,) area under the ROC curve: the share of pairs in order, ties half; for every positive, the weight of the negatives below it."""
    hits, misses = _rising(scores, positive), _rising(scores, ~positive)
    below = np.searchsorted(scores[misses], scores[hits], side="left")
    up_to = np.searchsorted(scores[misses], scores[hits], side="right")
    values = []
    for block in _blocks(weights):
        hit_weights, passed = block[hits], _running(block[misses])
        pairs = np.einsum("nb,nb->b", hit_weights, passed[below])
        if (up_to > below).any():
            pairs = (pairs + np.einsum("nb,nb->b", hit_weights, passed[up_to])) / 2
        values.append(divide_or(pairs, hit_weights.sum(axis=0) * passed[-1]))
    return np.concatenate(values).reshape(weights.shape[:-1])


def weighted_average_precision(scores: FloatArray, positive: BoolArray, weights: FloatArray) -> FloatArray:
    """(…,) average precision: for every positive, the precision among all that score as high or higher."""
    hits, misses = _rising(-scores, positive), _rising(-scores, ~positive)
    detected = np.searchsorted(-scores[hits], -scores[hits], side="right")
    alarms = np.searchsorted(-scores[misses], -scores[hits], side="right")
    values = []
    for block in _blocks(weights):
        hit_weights = block[hits]
        above = _running(hit_weights)[detected]
        precise = divide_or(above, above + _running(block[misses])[alarms], otherwise=0.0)
        values.append(divide_or(np.einsum("nb,nb->b", hit_weights, precise), hit_weights.sum(axis=0)))
    return np.concatenate(values).reshape(weights.shape[:-1])


def weighted_sensitivity_at(
    scores: FloatArray, positive: BoolArray, weights: FloatArray, specificity: float
) -> FloatArray:
    """(…,) the largest sensitivity of a threshold with at least this specificity.

    A row is detected where its score is at least the threshold, which is one of the scores, or above them all.
    """
    hits, misses = _rising(scores, positive), _rising(scores, ~positive)
    detected_from = np.searchsorted(scores[hits], scores[misses], side="right")
    values = []
    for block in _blocks(weights):
        passed, detected = _running(block[misses]), _running(block[hits])
        needed = specificity * passed[-1] - 1e-9 * np.maximum(passed[-1], 1.0)
        # The threshold lies just above the negative that makes the specificity large enough.
        index = np.minimum((passed[1:] < needed).sum(axis=0), len(misses) - 1)
        above = np.zeros(block.shape[1])
        if len(misses):
            above = detected[-1] - np.take_along_axis(detected, detected_from[index][None], axis=0)[0]
        values.append(np.where(passed[-1] > 0, divide_or(above, detected[-1]), np.nan))
    return np.concatenate(values).reshape(weights.shape[:-1])


def _rising(scores: FloatArray, among: BoolArray) -> IntArray:
    """Indices of the rows in `among`, lowest score first."""
    rows = np.flatnonzero(among)
    return rows[np.argsort(scores[rows], kind="stable")]


def _running(block: FloatArray) -> FloatArray:
    """(n + 1, b) sums of the first 0, 1, … n rows."""
    sums = np.zeros((len(block) + 1, block.shape[1]), dtype=block.dtype)
    np.cumsum(block, axis=0, out=sums[1:])
    return sums


def _blocks(weights: FloatArray) -> Iterator[FloatArray]:
    """(N, b) blocks of the transposed weights that fit a processor's cache."""
    rows = np.atleast_2d(weights)
    step = max(1, 200_000 // rows.shape[1])
    for start in range(0, len(rows), step):
        yield np.ascontiguousarray(rows[start : start + step].T)
