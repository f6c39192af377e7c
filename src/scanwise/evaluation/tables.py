"""Data of the tables and curves of predictions, as plain lists and arrays."""

from typing import Any

import numpy as np

from scanwise.arrays import ends_of_ties
from scanwise.evaluation.sample import require_labels
from scanwise.metrics import assign_bins, check_metric_inputs, confusion_matrix
from scanwise.metrics.sums import f1_from_confusion, precision_from_confusion, recall_from_confusion
from scanwise.records import FloatArray, IntArray, Predictions
from scanwise.risk import clopper_pearson_arrays


def classification_report(predictions: Predictions) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support of each class, then accuracy and the macro and weighted means.

    Rows are as scikit-learn's `classification_report` has them; classes without scans have no recall and no F1 (NaN)
    and are left out of the macro mean.
    """
    matrix = confusion_counts(predictions).astype(np.float64)
    support = matrix.sum(axis=1)
    columns = {
        "precision": precision_from_confusion(matrix),
        "recall": recall_from_confusion(matrix),
        "f1": f1_from_confusion(matrix),
    }
    rows: list[dict[str, Any]] = [
        {"class": name, **{key: float(values[c]) for key, values in columns.items()}, "support": int(support[c])}
        for c, name in enumerate(predictions.classes)
    ]
    present = support > 0
    total, hits = int(support.sum()), float(np.trace(matrix) / support.sum())
    rows.append({"class": "accuracy", "precision": hits, "recall": hits, "f1": hits, "support": total})
    for name, weight in (("macro avg", present.astype(float)), ("weighted avg", support)):
        means = {key: float(np.average(values[present], weights=weight[present])) for key, values in columns.items()}
        rows.append({"class": name, **means, "support": total})
    return rows


def confusion_counts(predictions: Predictions) -> IntArray:
    """(C, C) number of rows of each class (first axis) predicted as each (second)."""
    return confusion_matrix(predictions.probs, require_labels(predictions)).astype(np.int64)


def roc_curve(probs: FloatArray, labels: IntArray, index: int) -> tuple[FloatArray, FloatArray]:
    """False and true positive rates of one class against the rest, from (0, 0) to (1, 1).

    Points inside a straight line are left out. NaN where there are no negatives, or no positives.

    >>> fpr, tpr = roc_curve(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 0, 1]), 1)
    >>> fpr.tolist(), tpr.tolist()
    ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    """
    probs, labels, _ = check_metric_inputs(probs, labels)
    scores, positive = probs[:, index], labels == index
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    hits = np.concatenate(([0], np.cumsum(positive[order])[last])).astype(np.float64)
    misses = np.concatenate(([0], last + 1)) - hits
    bend = np.ones(len(hits), dtype=np.bool_)
    bend[1:-1] = np.diff(hits[1:]) * np.diff(misses[:-1]) != np.diff(hits[:-1]) * np.diff(misses[1:])
    fpr, tpr = (counts[bend] / counts[-1] if counts[-1] else np.full(bend.sum(), np.nan) for counts in (misses, hits))
    return fpr, tpr


def precision_recall_curve(probs: FloatArray, labels: IntArray, index: int) -> tuple[FloatArray, FloatArray]:
    """Recall and precision of one class at every threshold on its probability, from the highest; NaN where it is absent.

    The area under the steps is the average precision of the class.

    >>> recall, precision = precision_recall_curve(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 0, 1]), 1)
    >>> recall.tolist(), precision.round(2).tolist()
    ([1.0, 1.0, 1.0], [1.0, 0.5, 0.33])
    """
    probs, labels, _ = check_metric_inputs(probs, labels)
    scores, positive = probs[:, index], labels == index
    order = np.argsort(-scores, kind="stable")
    ends = ends_of_ties(scores[order])
    hits = np.cumsum(positive[order])[ends].astype(np.float64)
    recall = hits / hits[-1] if hits[-1] else np.full(len(hits), np.nan)
    return recall, hits / (ends + 1)


def reliability_bins(
    probs: FloatArray, labels: IntArray, num_bins: int = 15, *, confidence: float = 0.95
) -> list[dict[str, float]]:
    """Mean confidence and accuracy of each bin of confidence that holds a row; bins have equal width.

    Keys: low and high edge, count, mean confidence, accuracy, and accuracy_low and accuracy_high, its Clopper-Pearson
    interval (which takes rows as independent: pool scans by subject first where they are not).
    """
    probs, labels, _ = check_metric_inputs(probs, labels)
    confidences, correct = probs.max(axis=1).astype(np.float64), probs.argmax(axis=1) == labels
    bins = assign_bins(confidences, num_bins)
    counts, hits = np.bincount(bins, minlength=num_bins), np.bincount(bins[correct], minlength=num_bins)
    means = np.bincount(bins, confidences, num_bins) / np.maximum(counts, 1)
    low, high = clopper_pearson_arrays(hits, counts, confidence)
    return [
        {
            "low": float(b / num_bins),
            "high": float((b + 1) / num_bins),
            "count": int(counts[b]),
            "confidence": float(means[b]),
            "accuracy": float(hits[b] / counts[b]),
            "accuracy_low": float(low[b]),
            "accuracy_high": float(high[b]),
        }
        for b in np.flatnonzero(counts)
    ]
