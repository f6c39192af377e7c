"""Metrics that need only sums over rows, and how each follows from its sums."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scanwise.records import FloatArray, IntArray

SMALLEST = float(np.finfo(np.float64).eps)
"""Lower bound of a probability under the logarithm."""


@dataclass(frozen=True, slots=True)
class AdditiveMetric:
    """A metric that is a function of sums over rows.

    Attributes:
        rows: (probs, labels) to (N, D), the values to sum.
        finish: (…, D + 1) sums, the first of them the weight, to the metric (…,).
        cells: (…, C, C) confusion matrices to the metric (…,), where it follows from them.
        is_mean: True for the mean of one value a row.
    """

    rows: Callable[[FloatArray, IntArray], FloatArray]
    finish: Callable[[FloatArray], FloatArray]
    cells: Callable[[FloatArray], FloatArray] | None = None
    is_mean: bool = False

    def statistic(self, probs: FloatArray, labels: IntArray) -> FloatArray:
        """(N, D + 1): one, then the values to sum."""
        return np.column_stack([np.ones(len(labels)), self.rows(probs, labels)])


def metric_of_confusion(finish: Callable[[FloatArray], FloatArray]) -> AdditiveMetric:
    """An additive metric from a function of (…, C, C) confusion matrices."""

    def from_sums(sums: FloatArray) -> FloatArray:
        num_classes = round((sums.shape[-1] - 1) ** 0.5)
        return finish(sums[..., 1:].reshape(*sums.shape[:-1], num_classes, num_classes))

    return AdditiveMetric(confusion_cells, from_sums, cells=finish)


def metric_of_rows(row: Callable[[FloatArray, IntArray], FloatArray]) -> AdditiveMetric:
    """The mean over rows of a function of (probs, labels) that gives (N,)."""
    return AdditiveMetric(
        lambda probs, labels: row(probs, labels)[:, None],
        lambda sums: divide_or(sums[..., 1], sums[..., 0]),
        is_mean=True,
    )


def metric_of_classes(by_class: Callable[[FloatArray], FloatArray], *, weighted: bool) -> AdditiveMetric:
    """The mean of a metric of each class over the classes present, plain or each weighted by its rows."""

    def finish(matrix: FloatArray) -> FloatArray:
        support = matrix.sum(axis=-1)
        values = np.where(support > 0, by_class(matrix), np.nan)
        if not weighted:
            return mean_of_defined(values)
        defined = ~np.isnan(values)
        return divide_or((np.where(defined, values, 0.0) * support).sum(axis=-1), (defined * support).sum(axis=-1))

    return metric_of_confusion(finish)


def confusion_cells(probs: FloatArray, labels: IntArray) -> FloatArray:
    """(N, C²): one in the cell of the confusion matrix that the row is in."""
    count, num_classes = probs.shape
    cells = np.zeros((count, num_classes**2))
    cells[np.arange(count), labels * num_classes + probs.argmax(axis=1)] = 1
    return cells


def accuracy_from_confusion(matrix: FloatArray) -> FloatArray:
    """(…,) accuracy from (…, C, C) confusion matrices."""
    return divide_or(_hits(matrix).sum(axis=-1), matrix.sum(axis=(-2, -1)))


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


def weighted_f1_from_confusion(matrix: FloatArray) -> FloatArray:
    """(…,) mean F1, each class weighted by its rows, from (…, C, C) confusion matrices."""
    support = matrix.sum(axis=-1)
    return divide_or((np.nan_to_num(f1_from_confusion(matrix)) * support).sum(axis=-1), support.sum(axis=-1))


def stage_error_from_confusion(matrix: FloatArray) -> FloatArray:
    """(…,) mean number of stages between predicted and true class, from (…, C, C) confusion matrices."""
    stages = np.arange(float(matrix.shape[-1]))
    distance = np.abs(stages[:, None] - stages)
    return divide_or((matrix * distance).sum(axis=(-2, -1)), matrix.sum(axis=(-2, -1)))


def matthews_from_confusion(matrix: FloatArray) -> FloatArray:
    """(…,) Matthews correlation for any number of classes (Gorodkin 2004); 0 where all labels or predictions are one class."""
    total, labels, predicted = matrix.sum(axis=(-2, -1)), matrix.sum(axis=-1), matrix.sum(axis=-2)
    covariance = _hits(matrix).sum(axis=-1) * total - (labels * predicted).sum(axis=-1)
    spread = (total**2 - (labels**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    return np.where(total > 0, divide_or(covariance, np.sqrt(spread), otherwise=0.0), np.nan)


def kappa_from_confusion(matrix: FloatArray, power: int = 0) -> FloatArray:
    """(…,) Cohen's kappa, for `power` 2 with quadratic weights over class indices; NaN where chance agreement is certain."""
    index = np.arange(matrix.shape[-1])
    cost = np.abs(index[:, None] - index).astype(np.float64) ** power if power else 1.0 - np.eye(len(index))
    total = matrix.sum(axis=(-2, -1))
    by_chance = matrix.sum(axis=-1)[..., :, None] * matrix.sum(axis=-2)[..., None, :]
    kappas: FloatArray = 1 - divide_or(
        (matrix * cost).sum(axis=(-2, -1)) * total, (by_chance * cost).sum(axis=(-2, -1))
    )
    return kappas


def negative_log_likelihoods(probs: FloatArray, labels: IntArray) -> FloatArray:
    """(N,) in nats; probabilities below machine precision count as machine precision."""
    chance: FloatArray = np.clip(probs[np.arange(len(labels)), labels].astype(np.float64), SMALLEST, 1 - SMALLEST)
    return -np.log(chance)


def brier_distances(probs: FloatArray, labels: IntArray) -> FloatArray:
    """(N,) squared distances to the label: 0…1 for two classes, 0…2 for more, as in scikit-learn."""
    of_label = probs[np.arange(len(labels)), labels].astype(np.float64)
    squares: FloatArray = (probs.astype(np.float64) ** 2).sum(axis=1) - 2 * of_label + 1
    return squares / 2 if probs.shape[1] == 2 else squares


def divide_or(above: FloatArray, below: FloatArray, otherwise: float = np.nan) -> FloatArray:
    """above / below, and `otherwise` where below is zero."""
    result = np.full(
        np.broadcast_shapes(np.shape(above), np.shape(below)), otherwise, dtype=np.result_type(above, below)
    )
    np.divide(above, below, out=result, where=np.asarray(below) != 0)
    return result


def mean_of_defined(values: FloatArray) -> FloatArray:
    """Mean over the last axis of the values that are not NaN; NaN where all are."""
    defined = ~np.isnan(values)
    return divide_or(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))


def _hits(matrix: FloatArray) -> FloatArray:
    return np.diagonal(matrix, axis1=-2, axis2=-1)
