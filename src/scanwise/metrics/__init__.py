"""How good a classifier is, in numbers that equal scikit-learn's and that a bootstrap can take by the thousand.

Every metric takes `probs` (N, C), `labels` (N,) and optionally `weights`: (N,) gives one number, (B, N) gives (B,), one
for each row of weights, in one vectorised call. An integer weight counts a row that many times. All but those that
rank (AUROC, average precision, sensitivity at a specificity) need only sums over rows: `ADDITIVE_METRICS` says which, so that
sums over the rows of a subject are enough to resample subjects.

A class is *absent* when no row of positive weight has it as its label. Absent classes are left out of macro averages:
these equal scikit-learn's with `labels=` the classes that are present. NaN says that a metric is undefined.
"""

from collections.abc import Callable

import numpy as np

from scanwise.arrays import check_labels, check_probs
from scanwise.errors import DataError, ShapeError
from scanwise.metrics.ranks import weighted_auroc, weighted_average_precision, weighted_sensitivity_at
from scanwise.metrics.sums import (
    ADDITIVE_METRICS,
    AdditiveMetric,
    assign_bins,
    bin_statistics,
    calibration_error_from_bins,
    confusion_cells,
    divide_or,
    f1_from_confusion,
    mean_of_defined,
    metric_of_confusion,
    precision_from_confusion,
    recall_from_confusion,
    specificity_from_confusion,
    stage_error_from_confusion,
)
from scanwise.records import FloatArray, IntArray

__all__ = [
    "ADDITIVE_METRICS",
    "METRICS",
    "AdditiveMetric",
    "MetricValue",
    "accuracy",
    "assign_bins",
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "brier_decomposition",
    "check_metric_inputs",
    "class_auroc",
    "class_average_precision",
    "class_sensitivity_at_90",
    "classwise_calibration_error",
    "confusion_matrix",
    "expected_calibration_error",
    "f1",
    "f1_from_confusion",
    "kappa",
    "macro_average",
    "macro_f1",
    "macro_precision",
    "macro_specificity",
    "matthews",
    "metric_of_confusion",
    "nll",
    "precision",
    "precision_from_confusion",
    "quadratic_kappa",
    "recall",
    "recall_from_confusion",
    "sensitivity_at_90",
    "specificity",
    "specificity_from_confusion",
    "squared_calibration_error",
    "stage_error",
    "stage_error_from_confusion",
    "weighted_f1",
    "weighted_precision",
    "weighted_specificity",
]

MetricValue = float | FloatArray
"""A float without weights or with weights (N,); an array (B,) with weights (B, N)."""


def accuracy(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Share of rows whose most probable class is the label.

    >>> accuracy(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    0.5
    """
    return _additive("accuracy", probs, labels, weights)


def balanced_accuracy(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Mean recall of the classes that are present; `sklearn.metrics.balanced_accuracy_score`."""
    return _additive("balanced_accuracy", probs, labels, weights)


def macro_f1(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Mean F1 of the classes that are present; a class that is never predicted has F1 zero.

    A class that is predicted but absent does not enter as a further zero (scikit-learn's default counts it; give
    `labels=np.unique(y_true)` there for the same number). Its predictions cost the present classes their recall.
    """
    return _additive("macro_f1", probs, labels, weights)


def weighted_f1(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Mean F1, each class as heavy as its rows."""
    return _additive("weighted_f1", probs, labels, weights)


def macro_precision(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Mean precision of the classes that are present; the mean recall is the balanced accuracy."""
    return _additive("macro_precision", probs, labels, weights)


def weighted_precision(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Mean precision, each class as heavy as its rows; the mean recall so weighted is the accuracy."""
    return _additive("weighted_precision", probs, labels, weights)


def macro_specificity(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Mean specificity of the classes that are present and have rows outside them."""
    return _additive("macro_specificity", probs, labels, weights)


def weighted_specificity(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Mean specificity, each class as heavy as its rows."""
    return _additive("weighted_specificity", probs, labels, weights)


def matthews(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 where labels or predictions are all one class."""
    return _additive("matthews", probs, labels, weights)


def kappa(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Cohen's kappa; NaN where chance agreement is certain."""
    return _additive("kappa", probs, labels, weights)


def quadratic_kappa(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Cohen's kappa with quadratic weights over class indices: for ordered classes only."""
    return _additive("quadratic_kappa", probs, labels, weights)


def stage_error(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Mean number of stages between the predicted and the true class: for ordered classes only.

    >>> stage_error(np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0]]), np.array([0, 2]))
    1.0
    """
    return _additive("stage_error", probs, labels, weights)


def nll(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Mean negative log-likelihood in nats; probabilities below machine precision count as that.

    >>> round(nll(np.array([[0.5, 0.5]]), np.array([1])), 4)
    0.6931
    """
    return _additive("nll", probs, labels, weights)


def brier(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Mean squared distance of probabilities to the label: 0…1 for two classes, 0…2 for more, as scikit-learn has it."""
    return _additive("brier", probs, labels, weights)


def precision(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C,) or (B, C): share of the rows predicted as each class that are it; 0 where it is never predicted."""
    return precision_from_confusion(confusion_matrix(probs, labels, weights))


def recall(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C,) or (B, C): share of the rows of each class that are predicted as it; NaN where it is absent."""
    return recall_from_confusion(confusion_matrix(probs, labels, weights))


def f1(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C,) or (B, C): harmonic mean of precision and recall of each class; NaN where it is absent."""
    return f1_from_confusion(confusion_matrix(probs, labels, weights))


def specificity(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C,) or (B, C): share of the rows of other classes that are not predicted as it; NaN where there are none."""
    return specificity_from_confusion(confusion_matrix(probs, labels, weights))


def confusion_matrix(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C, C) or (B, C, C): the weight of the rows of each label (first axis) predicted as each class (second).

    >>> confusion_matrix(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    array([[1., 0.],
           [1., 0.]])
    """
    probs, labels, weights = check_metric_inputs(probs, labels, weights)
    num_classes = probs.shape[1]
    return (weights @ confusion_cells(probs, labels)).reshape(*weights.shape[:-1], num_classes, num_classes)


def auroc(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Area under the ROC curve; of class 1 for two classes, else the mean of one-vs-rest over the classes present.

    Ties count half. NaN where no class has rows both in and out of it.

    >>> auroc(np.array([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]), np.array([0, 0, 1]))
    0.75
    """
    return _plain(macro_average(class_auroc(probs, labels, weights)))


def average_precision(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Area under the precision-recall steps; of class 1 for two classes, else the mean over the classes present."""
    return _plain(macro_average(class_average_precision(probs, labels, weights)))


def class_auroc(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C,) or (B, C): area under the ROC curve of each class against the rest; NaN where undefined."""
    probs, labels, weights = check_metric_inputs(probs, labels, weights)
    return np.stack([weighted_auroc(probs[:, c], labels == c, weights) for c in range(probs.shape[1])], axis=-1)


def class_average_precision(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C,) or (B, C): average precision of each class against the rest; NaN where it is absent."""
    probs, labels, weights = check_metric_inputs(probs, labels, weights)
    return np.stack(
        [weighted_average_precision(probs[:, c], labels == c, weights) for c in range(probs.shape[1])], axis=-1
    )


def sensitivity_at_90(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
    """Sensitivity of the threshold that leaves 90 % of the others alone; of class 1 for two classes, else the mean.

    The threshold is found on these very rows, so it flatters a little; `evaluation.operating` carries one over from
    other rows.
    """
    return _plain(macro_average(class_sensitivity_at_90(probs, labels, weights)))


def class_sensitivity_at_90(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C,) or (B, C): sensitivity at 90 % specificity of each class against the rest; NaN where undefined."""
    probs, labels, weights = check_metric_inputs(probs, labels, weights)
    return np.stack(
        [weighted_sensitivity_at(probs[:, c], labels == c, weights, 0.9) for c in range(probs.shape[1])], axis=-1
    )


def macro_average(values: FloatArray) -> FloatArray:
    """(…,) of values (…, C) that of class 1 where there are two, else the mean of those that are defined."""
    return values[..., 1] if values.shape[-1] == 2 else mean_of_defined(values)


def expected_calibration_error(
    probs: FloatArray,
    labels: IntArray,
    weights: FloatArray | None = None,
    *,
    num_bins: int = 15,
    equal_mass: bool = False,
) -> MetricValue:
    """Average gap between confidence and accuracy over bins of confidence (Naeini et al. 2015).

    Args:
        probs: (N, C) rows that sum to one.
        labels: (N,) class indices.
        weights: none, (N,) or (B, N).
        num_bins: bins over the confidence, the largest probability; each holds its upper edge.
        equal_mass: bins with as many rows each, cut once on the rows without weights, instead of bins of equal width.

    >>> probs = np.array([[0.9, 0.1], [0.9, 0.1]])
    >>> round(expected_calibration_error(probs, np.array([0, 1])), 2)
    0.4
    """
    probs, labels, weights = check_metric_inputs(probs, labels, weights)
    confidence = probs.max(axis=1)
    bins = assign_bins(confidence, num_bins, equal_mass)
    return _plain(
        calibration_error_from_bins(
            weights @ bin_statistics(bins, confidence, probs.argmax(axis=1) == labels, num_bins)
        )
    )


def squared_calibration_error(
    probs: FloatArray, labels: IntArray, *, num_bins: int = 15, equal_mass: bool = False
) -> float:
    """Squared gap between confidence and accuracy over bins, debiased (Kumar et al. 2019).

    The error above is never below what chance alone makes of small bins. This one takes off the variance of each
    bin's accuracy: zero on average for a calibrated classifier, at times negative. Its unit is a squared share. Bins
    of one row say nothing and are left out.
    """
    probs, labels, _ = check_metric_inputs(probs, labels, None)
    said, right = probs.max(axis=1).astype(np.float64), probs.argmax(axis=1) == labels
    bins = assign_bins(said, num_bins, equal_mass)
    count = np.bincount(bins, minlength=num_bins)
    kept = count > 1
    gap, share = (np.bincount(bins, values, num_bins)[kept] / count[kept] for values in (said - right, right))
    squares = gap**2 - share * (1 - share) / (count[kept] - 1)
    return float(divide_or((count[kept] * squares).sum(), count[kept].sum()))


def classwise_calibration_error(
    probs: FloatArray, labels: IntArray, weights: FloatArray | None = None, *, num_bins: int = 15
) -> MetricValue:
    """Mean over classes of the calibration error of that class's probability (Kull et al. 2019)."""
    probs, labels, weights = check_metric_inputs(probs, labels, weights)
    gaps = [
        calibration_error_from_bins(
            weights @ bin_statistics(assign_bins(probs[:, c], num_bins), probs[:, c], labels == c, num_bins)
        )
        for c in range(probs.shape[1])
    ]
    return _plain(np.mean(gaps, axis=0))


def brier_decomposition(probs: FloatArray, labels: IntArray, num_bins: int = 15) -> dict[str, float]:
    """Brier score of each class summed, as reliability - resolution + uncertainty + rest (Murphy 1973).

    The first three come from bins of equal width; `rest` is what the spread inside bins adds (Stephenson et al. 2008),
    so that the four make up the sum of squared distances exactly.

    >>> parts = brier_decomposition(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1]))
    >>> round(parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["rest"] - parts["total"], 12)
    0.0
    """
    probs, labels, _ = check_metric_inputs(probs, labels, None)
    parts = dict.fromkeys(("reliability", "resolution", "uncertainty", "rest", "total"), 0.0)
    for index in range(probs.shape[1]):
        said, is_class = probs[:, index].astype(np.float64), (labels == index).astype(np.float64)
        bins, base = assign_bins(said, num_bins), is_class.mean()
        counts = np.bincount(bins, minlength=num_bins)
        share = counts / len(labels)
        mean_said = np.bincount(bins, said, num_bins) / np.maximum(counts, 1)
        mean_seen = np.bincount(bins, is_class, num_bins) / np.maximum(counts, 1)
        parts["reliability"] += float(share @ (mean_said - mean_seen) ** 2)
        parts["resolution"] += float(share @ (mean_seen - base) ** 2)
        parts["uncertainty"] += float(base * (1 - base))
        inside = said - mean_said[bins]
        parts["rest"] += float((inside**2 - 2 * inside * (is_class - mean_seen[bins])).mean())
        parts["total"] += float(((said - is_class) ** 2).mean())
    return parts


def check_metric_inputs(
    probs: FloatArray, labels: IntArray, weights: FloatArray | None
) -> tuple[FloatArray, IntArray, FloatArray]:
    """The three in the shapes that this module needs, or an error that names the rows; no weights become ones."""
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


METRICS: dict[str, Callable[..., MetricValue]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
    "auroc": auroc,
    "average_precision": average_precision,
    "sensitivity_at_90": sensitivity_at_90,
    "macro_precision": macro_precision,
    "weighted_precision": weighted_precision,
    "macro_specificity": macro_specificity,
    "weighted_specificity": weighted_specificity,
    "matthews": matthews,
    "kappa": kappa,
    "quadratic_kappa": quadratic_kappa,
    "stage_error": stage_error,
    "nll": nll,
    "brier": brier,
    "ece": expected_calibration_error,
}


def _additive(name: str, probs: FloatArray, labels: IntArray, weights: FloatArray | None) -> MetricValue:
    probs, labels, weights = check_metric_inputs(probs, labels, weights)
    metric = ADDITIVE_METRICS[name]
    return _plain(metric.finish(weights @ metric.statistic(probs, labels)))


def _plain(values: FloatArray) -> MetricValue:
    return float(values) if np.ndim(values) == 0 else values
