"""The counts behind the figures: who was taken for whom, what a threshold trades, how far confidence can be trusted."""

from dataclasses import dataclass

import numpy as np

from scanwise.metrics import bins_of, f1_of, precision_of, recall_of, specificity_of
from scanwise.records import BoolArray, FloatArray, IntArray


def confusion(labels: IntArray, predicted: IntArray, num_classes: int) -> IntArray:
    """(C, C) counts, a row a true class, a column a predicted one.

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    flat = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def per_class(matrix: IntArray) -> FloatArray:
    """(C, 4) precision, recall, specificity and F1 from a confusion matrix; NaN where a class is absent."""
    counts = matrix.astype(np.float64)
    return np.stack([measure(counts) for measure in (precision_of, recall_of, specificity_of, f1_of)], axis=1)


@dataclass(frozen=True, slots=True)
class Roc:
    """False and true positive rate at every threshold, and the area under the curve."""

    name: str
    false_positive: FloatArray
    true_positive: FloatArray
    area: float

    @classmethod
    def of(cls, name: str, positive: BoolArray, score: FloatArray) -> "Roc | None":
        """The curve of a score for being positive; None where only one kind is there.

        >>> Roc.of("ill", np.array([False, True, True]), np.array([0.2, 0.1, 0.9])).area
        0.5
        """
        if positive.all() or not positive.any():
            return None
        order = np.argsort(-score, kind="stable")
        last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # tied scores share one threshold
        true = np.concatenate([[0.0], np.cumsum(positive[order])[last] / positive.sum()])
        false = np.concatenate([[0.0], np.cumsum(~positive[order])[last] / (~positive).sum()])
        return cls(name, false, true, float((np.diff(false) * (true[1:] + true[:-1]) / 2).sum()))


@dataclass(frozen=True, slots=True)
class Reliability:
    """Mean confidence and accuracy in bins of equal width over confidence; empty bins are left out."""

    confidence: FloatArray
    accuracy: FloatArray
    count: IntArray

    @classmethod
    def of(cls, probs: FloatArray, labels: IntArray, num_bins: int = 10) -> "Reliability":
        """Bin the most probable class's probability."""
        top, right = probs.max(axis=1), probs.argmax(axis=1) == labels
        place = bins_of(top, num_bins)
        count = np.bincount(place, minlength=num_bins)
        used = count > 0
        confidence = np.bincount(place, weights=top, minlength=num_bins)[used] / count[used]
        accuracy = np.bincount(place, weights=right, minlength=num_bins)[used] / count[used]
        return cls(confidence, accuracy, count[used])
