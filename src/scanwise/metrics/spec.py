"""One row per metric: its name, its words, its function, and every property that other rooms need of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scanwise.errors import DataError
from scanwise.metrics.inputs import check_metric_inputs, confusion_matrix
from scanwise.metrics.sums import AdditiveMetric, mean_of_defined
from scanwise.records import BoolArray, FloatArray, IntArray

MetricValue = float | FloatArray
"""A float without weights or with weights (N,); an array (B,) with weights (B, N)."""
Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-np.inf, np.inf)


@dataclass(frozen=True, slots=True)
class ConfusionMetric:
    """A metric of each class that follows from confusion matrices.

    Attributes:
        by_class: (…, C, C) confusion matrices to (…, C); NaN where undefined.
    """

    by_class: Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, slots=True)
class RankMetric:
    """A metric of the order of one class's scores; over all classes, the macro average.

    Attributes:
        one_vs_rest: scores (N,), whether each row is of the class (N,), weights (N,) or (B, N); to a value each.
    """

    one_vs_rest: Callable[[FloatArray, BoolArray, FloatArray], FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """A metric and everything that is derived from it: tables, intervals, rankings, early stopping, wording.

    Attributes:
        name: key in recipes, metrics.json and CSV files.
        title: heading in tables.
        meaning: explanation in half a sentence, for a reader who does not know the metric.
        function: how it follows from probabilities and labels; None where it needs more (sets, thresholds, flags).
        bounds: smallest and largest possible value.
        higher_is_better: False for losses.
        percent: written as a percentage.
        largest: largest value of a row of C classes, for a mean over rows whose `bounds` do not say; None for no limit.
        placements: its interval comes from where each case lies among the others, as for the area under the ROC curve.
        leaky_protocol: reported under a leaky protocol too.
        compared: part of model comparisons.
        needs_order: meaningful for ordered classes only.
        needs_calibration: judges the probabilities themselves, so calibration changes it.
    """

    name: str
    title: str
    meaning: str
    function: AdditiveMetric | ConfusionMetric | RankMetric | None = None
    bounds: Bounds = (0.0, 1.0)
    higher_is_better: bool = True
    percent: bool = False
    largest: Callable[[int], float] | None = None
    placements: bool = False
    leaky_protocol: bool = False
    compared: bool = True
    needs_order: bool = False
    needs_calibration: bool = False

    def __call__(self, probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> MetricValue:
        """The metric over all classes, for each row of weights.

        Args:
            probs: (N, C) rows that sum to one.
            labels: (N,) class indices.
            weights: none, (N,) or (B, N).

        Raises:
            DataError: if the metric has no value over all classes, or is not computed from probabilities and labels.
        """
        if isinstance(self.function, RankMetric):
            return _float_or_array(macro_average(self.by_class(probs, labels, weights)))
        if not isinstance(self.function, AdditiveMetric):
            raise DataError(f"{self.name} cannot be computed over all classes from probabilities and labels alone.")
        probs, labels, weights = check_metric_inputs(probs, labels, weights)
        return _float_or_array(self.function.finish(weights @ self.function.statistic(probs, labels)))

    def by_class(self, probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
        """(C,) or (B, C): the metric of each class against the rest; NaN where undefined.

        Raises:
            DataError: if the metric is not one of single classes.
        """
        if isinstance(self.function, ConfusionMetric):
            return self.function.by_class(confusion_matrix(probs, labels, weights))
        if not isinstance(self.function, RankMetric):
            raise DataError(f"{self.name} is not a metric of single classes.")
        probs, labels, weights = check_metric_inputs(probs, labels, weights)
        classes = range(probs.shape[1])
        return np.stack([self.function.one_vs_rest(probs[:, c], labels == c, weights) for c in classes], axis=-1)


def macro_average(values: FloatArray) -> FloatArray:
    """(…,) of values (…, C) that of class 1 for two classes, else the mean of those that are defined."""
    return values[..., 1] if values.shape[-1] == 2 else mean_of_defined(values)


def _float_or_array(values: FloatArray) -> MetricValue:
    return float(values) if np.ndim(values) == 0 else values
