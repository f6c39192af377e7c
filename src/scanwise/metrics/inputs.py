"""Checks of what every metric is computed from, and the confusion matrix."""

import numpy as np

from scanwise.arrays import check_labels, check_probs
from scanwise.errors import DataError, ShapeError
from scanwise.metrics.sums import confusion_cells
from scanwise.records import FloatArray, IntArray


def check_metric_inputs(
    probs: FloatArray, labels: IntArray, weights: FloatArray | None = None
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Probabilities (N, C), labels (N,) and float weights (N,) or (B, N); without weights each row weighs one.

    Raises:
        DataError: if rows do not sum to one, a label is out of range, or a weight is negative or not finite.
        ShapeError: if the three disagree in N.
    """
    probs = check_probs(probs)
    labels = check_labels(labels, probs.shape[1], len(probs))
    if weights is None:
        return probs, labels, np.ones(len(probs))
    weights = np.asarray(weights)
    if weights.ndim not in (1, 2) or weights.shape[-1] != len(probs):
        raise ShapeError(f"Weights must be (N,) or (B, N) with N = {len(probs)}; they are {weights.shape}.")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise DataError("Weights must be finite and not negative.")
    return probs, labels, weights if weights.dtype.kind == "f" else weights.astype(np.float64)


def confusion_matrix(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C, C) or (B, C, C): the weight of the rows of each label (first axis) predicted as each class (second).

    >>> confusion_matrix(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    array([[1., 0.],
           [1., 0.]])
    """
    probs, labels, weights = check_metric_inputs(probs, labels, weights)
    num_classes = probs.shape[1]
    return (weights @ confusion_cells(probs, labels)).reshape(*weights.shape[:-1], num_classes, num_classes)
