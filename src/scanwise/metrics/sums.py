"""Metrics that need only sums over rows, and how each follows from its sums."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scanwise.errors import DataError
from scanwise.records import BoolArray, FloatArray, IntArray

SMALLEST = float(np.finfo(np.float64).eps)
"""No probability counts as less when its logarithm is taken."""


@dataclass(frozen=True, slots=True)
class AdditiveMetric:
    """A metric that is a function of sums over rows.

    Attributes:
        rows: (probs, labels) to (N, D), what to sum.
        finish: (…, D + 1) sums, the first of them the weight, to the metric (…,).
    """

    rows: Callable[[FloatArray, IntArray], FloatArray]
    finish: Callable[[FloatArray], FloatArray]

    def statistic(self, probs: FloatArray, labels: IntArray) -> FloatArray:
        """(N, D + 1): one, then what to sum."""
        return np.column_stack([np.ones(len(labels)), self.rows(probs, labels)])


def metric_of_confusion(finish: Callable[[FloatArray], FloatArray]) -> AdditiveMetric:
    """An additive metric from a function of (…, C, C) confusion matrices."""

    def from_sums(sums: FloatArray) -> FloatArray:
        num_classes = round((sums.shape[-1] - 1) ** 0.5)
        return finish(sums[..., 1:].reshape(*sums.shape[:-1], num_classes, num_classes))

    return AdditiveMetric(confusion_cells, from_sums)


def precision_from_confusion(matrix: FloatArray) -> FloatArray:
    """Precision of each class from (…, C, C) confusion matrices; 0 where it is never predicted."""
    return divide_or(_hits(matrix), matrix.sum(axis=-2), otherwise=0.0)


def recall_from_confusion(matrix: FloatArray) -> FloatArray:
    """Recall of each class from (…, C, C) confusion matrices; NaN where it is absent."""
    return divide_or(_hits(matrix), matrix.sum(axis=-1))


def f1_from_confusion(matrix: FloatArray) -> FloatArray:
    """F1 of each class from (…, C, C) confusion matrices; NaN where it is absent."""
    support = matrix.sum(axis=-1)
    return np.where(support > 0, divide_or(2 * _hits(matrix), support + matrix.sum(axis=-2), otherwise=0.0), np.nan)


def specificity_from_confusion(matrix: FloatArray) -> FloatArray:
    """Specificity of each class from (…, C, C) confusion matrices; NaN where every row is of the class."""
    others = matrix.sum(axis=(-2, -1))[..., None] - matrix.sum(axis=-1)
    return divide_or(others - matrix.sum(axis=-2) + _hits(matrix), others)


def stage_error_from_confusion(matrix: FloatArray, ratings: FloatArray) -> FloatArray:
    """(…,) mean distance between the rating of the predicted and of the true class, from (…, C, C) confusion matrices."""
    distance = np.abs(ratings[:, None] - ratings)
    return divide_or((matrix * distance).sum(axis=(-2, -1)), matrix.sum(axis=(-2, -1)))


def assign_bins(confidence: FloatArray, num_bins: int, equal_mass: bool = False) -> IntArray:
    """(N,) the bin of each confidence, from 0; each bin holds its upper edge."""
    if num_bins < 1:
        raise DataError(f"A calibration error needs one bin or more; num_bins is {num_bins}.")
    if equal_mass:
        edges = np.quantile(confidence, np.arange(1, num_bins) / num_bins, method="inverted_cdf")
    else:
        edges = np.arange(1, num_bins) / num_bins
    return np.searchsorted(edges, confidence, side="left")


def bin_statistics(bins: IntArray, said: FloatArray, seen: BoolArray, num_bins: int) -> FloatArray:
    """(N, 3 · bins): for the row's bin one, what was said and what was seen."""
    rows, place = np.zeros((len(bins), 3 * num_bins)), np.arange(len(bins))
    rows[place, bins], rows[place, num_bins + bins], rows[place, 2 * num_bins + bins] = 1, said, seen
    return rows


def calibration_error_from_bins(sums: FloatArray) -> FloatArray:
    """(…,) the mean gap between what was said and what was seen, from sums of `bin_statistics`."""
    count, said, seen = np.split(sums, 3, axis=-1)
    return divide_or(np.abs(said - seen).sum(axis=-1), count.sum(axis=-1))


def divide_or(above: FloatArray, below: FloatArray, otherwise: float = np.nan) -> FloatArray:
    """above / below, and `otherwise` where below is zero."""
    result = np.full(
        np.broadcast_shapes(np.shape(above), np.shape(below)), otherwise, dtype=np.result_type(above, below)
    )
    np.divide(above, below, out=result, where=np.asarray(below) != 0)
    return result


def mean_of_defined(values: FloatArray) -> FloatArray:
    """Mean over the last axis of what is not NaN; NaN where all is."""
    known = ~np.isnan(values)
    return divide_or(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))


def confusion_cells(probs: FloatArray, labels: IntArray) -> FloatArray:
    """(N, C²): one in the cell of the confusion matrix that the row is in."""
    count, num_classes = probs.shape
    cells = np.zeros((count, num_classes**2))
    cells[np.arange(count), labels * num_classes + probs.argmax(axis=1)] = 1
    return cells


def _of_mean(row: Callable[[FloatArray, IntArray], FloatArray]) -> AdditiveMetric:
    return AdditiveMetric(
        lambda probs, labels: row(probs, labels)[:, None], lambda sums: divide_or(sums[..., 1], sums[..., 0])
    )


def _accuracy(matrix: FloatArray) -> FloatArray:
    return divide_or(_hits(matrix).sum(axis=-1), matrix.sum(axis=(-2, -1)))


def _weighted_f1(matrix: FloatArray) -> FloatArray:
    support = matrix.sum(axis=-1)
    return divide_or((np.nan_to_num(f1_from_confusion(matrix)) * support).sum(axis=-1), support.sum(axis=-1))


def _mean_of(of_classes: Callable[[FloatArray], FloatArray], *, weighted: bool) -> AdditiveMetric:
    """The mean of a figure of each class over the classes that are present, plain or each as heavy as its rows."""

    def finish(matrix: FloatArray) -> FloatArray:
        support = matrix.sum(axis=-1)
        values = np.where(support > 0, of_classes(matrix), np.nan)
        if not weighted:
            return mean_of_defined(values)
        known = ~np.isnan(values)
        return divide_or((np.where(known, values, 0.0) * support).sum(axis=-1), (known * support).sum(axis=-1))

    return metric_of_confusion(finish)


def _matthews(matrix: FloatArray) -> FloatArray:
    total, labels, predicted = matrix.sum(axis=(-2, -1)), matrix.sum(axis=-1), matrix.sum(axis=-2)
    covariance = _hits(matrix).sum(axis=-1) * total - (labels * predicted).sum(axis=-1)
    spread = (total**2 - (labels**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    return np.where(total > 0, divide_or(covariance, np.sqrt(spread), otherwise=0.0), np.nan)


def _kappa(matrix: FloatArray, power: int = 0) -> FloatArray:
    index = np.arange(matrix.shape[-1])
    cost = np.abs(index[:, None] - index).astype(np.float64) ** power if power else 1.0 - np.eye(len(index))
    total = matrix.sum(axis=(-2, -1))
    by_chance = matrix.sum(axis=-1)[..., :, None] * matrix.sum(axis=-2)[..., None, :]
    kappas: FloatArray = 1 - divide_or(
        (matrix * cost).sum(axis=(-2, -1)) * total, (by_chance * cost).sum(axis=(-2, -1))
    )
    return kappas


def _surprise(probs: FloatArray, labels: IntArray) -> FloatArray:
    chance: FloatArray = np.clip(probs[np.arange(len(labels)), labels].astype(np.float64), SMALLEST, 1 - SMALLEST)
    return -np.log(chance)


def _distance(probs: FloatArray, labels: IntArray) -> FloatArray:
    of_label = probs[np.arange(len(labels)), labels].astype(np.float64)
    squares: FloatArray = (probs.astype(np.float64) ** 2).sum(axis=1) - 2 * of_label + 1
    return squares / 2 if probs.shape[1] == 2 else squares


def _top_bins(probs: FloatArray, labels: IntArray) -> FloatArray:
    confidence = probs.max(axis=1)
    return bin_statistics(assign_bins(confidence, 15), confidence, probs.argmax(axis=1) == labels, 15)


def _hits(matrix: FloatArray) -> FloatArray:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


ADDITIVE_METRICS: dict[str, AdditiveMetric] = {
    "accuracy": metric_of_confusion(_accuracy),
    "balanced_accuracy": metric_of_confusion(lambda matrix: mean_of_defined(recall_from_confusion(matrix))),
    "macro_f1": metric_of_confusion(lambda matrix: mean_of_defined(f1_from_confusion(matrix))),
    "weighted_f1": metric_of_confusion(_weighted_f1),
    "macro_precision": _mean_of(precision_from_confusion, weighted=False),
    "weighted_precision": _mean_of(precision_from_confusion, weighted=True),
    "macro_specificity": _mean_of(specificity_from_confusion, weighted=False),
    "weighted_specificity": _mean_of(specificity_from_confusion, weighted=True),
    "matthews": metric_of_confusion(_matthews),
    "kappa": metric_of_confusion(_kappa),
    "quadratic_kappa": metric_of_confusion(lambda matrix: _kappa(matrix, power=2)),
    "stage_error": metric_of_confusion(
        lambda matrix: stage_error_from_confusion(matrix, np.arange(float(matrix.shape[-1])))
    ),
    "nll": _of_mean(_surprise),
    "brier": _of_mean(_distance),
    "ece": AdditiveMetric(_top_bins, lambda sums: calibration_error_from_bins(sums[..., 1:])),
}
