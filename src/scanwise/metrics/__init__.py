"""Metrics that equal scikit-learn's and that a bootstrap can take by the thousand: one `MetricSpec` each.

A row of `METRICS` is called with `probs` (N, C), `labels` (N,) and optionally `weights`: (N,) gives one number, (B, N)
gives (B,), one for each row of weights, in one vectorised call. An integer weight counts a row that many times. All but
those that rank (AUROC, average precision, sensitivity at a specificity) need only sums over rows, so that sums over the
rows of a subject are enough to resample subjects.

A class is *absent* when no row of positive weight has it as its label. Absent classes are left out of macro averages:
these equal scikit-learn's with `labels=` the classes that are present. NaN says that a metric is undefined.

>>> import numpy as np
>>> probs, labels = np.array([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]), np.array([0, 0, 1])
>>> METRICS["auroc"](probs, labels), round(METRICS["accuracy"](probs, labels), 2)
(0.75, 0.67)
>>> round(METRICS["nll"](np.array([[0.5, 0.5]]), np.array([1])), 4)
0.6931
>>> METRICS["stage_error"](np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0]]), np.array([0, 2]))
1.0
"""

from scanwise.metrics.binned import assign_bins, classwise_calibration_error
from scanwise.metrics.inputs import check_metric_inputs, confusion_matrix
from scanwise.metrics.spec import (
    UNBOUNDED,
    Bounds,
    ConfusionMetric,
    MetricSpec,
    MetricValue,
    RankMetric,
    macro_average,
)
from scanwise.metrics.sums import (
    AdditiveMetric,
    confusion_cells,
    metric_of_classes,
    metric_of_confusion,
    metric_of_rows,
)
from scanwise.metrics.table import CLASS_METRICS, METRICS, OTHER_METRICS, find_metric, lower_is_better, needs_order

__all__ = [
    "CLASS_METRICS",
    "METRICS",
    "OTHER_METRICS",
    "UNBOUNDED",
    "AdditiveMetric",
    "Bounds",
    "ConfusionMetric",
    "MetricSpec",
    "MetricValue",
    "RankMetric",
    "assign_bins",
    "check_metric_inputs",
    "classwise_calibration_error",
    "confusion_cells",
    "confusion_matrix",
    "find_metric",
    "lower_is_better",
    "macro_average",
    "metric_of_classes",
    "metric_of_confusion",
    "metric_of_rows",
    "needs_order",
]
