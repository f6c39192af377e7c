"""Several classifiers on the same people: who is better, by how much, and how sure that is.

Whatever is compared has answered the same rows, so the luck of who was tested falls on all alike: differences, ranks
and McNemar's counts are taken row by row, and resampled by subject with the same draws for everyone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scanwise import metrics
from scanwise.errors import DataError
from scanwise.evaluation.estimates import overall_estimand
from scanwise.evaluation.sample import SubjectBootstrap, require_labels
from scanwise.records import FloatArray, Predictions

LOWER_IS_BETTER = ("nll", "brier", "ece", "stage_error")
NAMES = (
    "accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "auroc", "average_precision", "sensitivity_at_90",
    "matthews", "kappa", "quadratic_kappa", "stage_error", "nll", "brier", "ece",
)  # fmt: skip
"""What can be compared; the stage metrics only where classes are in order."""


@dataclass(frozen=True, slots=True)
class McNemarTest:
    """Of two classifiers, on how many units one alone is right, and how surprising that is if both are as good.

    Attributes:
        first: name of one.
        second: name of the other.
        only_first: units on which the first alone is right.
        only_second: units on which the second alone is right.
        p_value: two-sided; exact where every unit is a subject.
        adjusted: the same, after Holm, over all pairs that were compared.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    p_value: float
    adjusted: float = float("nan")


@dataclass(frozen=True, slots=True)
class RankInterval:
    """The place of one classifier by one metric, 1 the best, and where it falls in 95 % of draws.

    Attributes:
        name: of the classifier.
        metric: by which.
        value: of the metric.
        place: among all.
        low: a better place is rare.
        high: a worse place is rare.
        best: share of draws in which it is first (ties shared).
    """

    name: str
    metric: str
    value: float
    place: float
    low: float
    high: float
    best: float


def mcnemar_test(first: Predictions, second: Predictions) -> tuple[int, int, float]:
    """(first alone right, second alone right, two-sided p-value) on the same rows.

    Where every row is a subject it is McNemar's exact test (the binomial one). Where subjects have several rows these
    are no independent trials; then it is Obuchowski's (1998) for clusters: the mean difference over its spread between
    subjects.

    Raises:
        DataError: if the two are not about the same rows with the same labels.
    """
    check_same_rows([first, second])
    right = [(said.predicted == require_labels(said)).astype(np.int64) for said in (first, second)]
    gap = right[0] - right[1]
    only_first, only_second = int((gap > 0).sum()), int((gap < 0).sum())
    _, of_subject = np.unique(first.subjects, return_inverse=True)
    if len(np.unique(of_subject)) == len(gap):
        from scipy.stats import binomtest

        total = only_first + only_second
        return only_first, only_second, float(binomtest(only_first, total).pvalue) if total else 1.0
    from scipy.special import ndtr

    sums = np.bincount(of_subject, weights=gap)
    spread = float(np.sqrt((sums**2).sum()))
    return only_first, only_second, float(2 * ndtr(-abs(sums.sum()) / spread)) if spread else 1.0


def pairwise_mcnemar_tests(said: Mapping[str, Predictions]) -> list[McNemarTest]:
    """McNemar's test of every pair, with p-values adjusted for how many pairs there are (Holm 1979)."""
    names = list(said)
    pairs = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
    found = [McNemarTest(a, b, *mcnemar_test(said[a], said[b])) for a, b in pairs]
    adjusted = holm_adjusted([one.p_value for one in found])
    return [replace(one, adjusted=value) for one, value in zip(found, adjusted, strict=True)]


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """P-values that hold together, however many were looked at (Holm 1979).

    >>> [round(p, 3) for p in holm_adjusted([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    values = np.empty(len(p_values))
    values[order] = np.minimum(1.0, np.maximum.accumulate(scaled)) if len(p_values) else scaled
    return [float(value) for value in values]


def rank_classifiers(
    said: Mapping[str, Predictions], metric: str, *, draws: int = 2000, confidence: float = 0.95, seed: int = 0
) -> list[RankInterval]:
    """The classifiers from best to worst by a metric, with the range of places that the luck of who was tested gives.

    Each draw of subjects ranks all of them, ties at the mean place. Where the ranges of two overlap, which of them is
    better is not settled.

    Raises:
        DataError: if they are not about the same rows with the same labels.
    """
    check_same_rows(list(said.values()))
    values, drawn = [], []
    for one in said.values():
        value, over_draws, _ = SubjectBootstrap.of(one, one.subjects, draws, seed).answer(overall_estimand(metric))
        values.append(value)
        drawn.append(over_draws)
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    places = _places(sign * np.stack(drawn))
    now = _places(sign * np.array(values)[:, None])[:, 0]
    least = places.min(axis=0)
    first = (places == least) / (places == least).sum(axis=0)
    tail = 100 * (1 - confidence) / 2
    ends = np.percentile(places, [tail, 100 - tail], axis=1, method="inverted_cdf")
    found = [
        RankInterval(
            name, metric, values[k], float(now[k]), float(ends[0, k]), float(ends[1, k]), float(first[k].mean())
        )
        for k, name in enumerate(said)
    ]
    return sorted(found, key=lambda rank: rank.place)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of one metric over several seeds; the deviation of one seed is NaN."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def check_same_rows(parts: Sequence[Predictions]) -> None:
    """Raise unless all are about the same rows, in the same order, with the same labels and classes."""
    for other in parts[1:]:
        same = len(other) == len(parts[0]) and (other.subjects == parts[0].subjects).all()
        same = same and (other.scans == parts[0].scans).all() and other.classes == parts[0].classes
        if not (same and np.array_equal(require_labels(other), require_labels(parts[0]))):
            raise DataError(
                "A comparison needs the same rows, in the same order, with the same labels and classes on all sides. "
                "Fit the recipes on the same data with the same split and seed of the split."
            )


def comparable_metrics(predictions: Predictions, ordered: bool) -> list[str]:
    """The names of `NAMES` that mean something for these predictions."""
    stages = ("quadratic_kappa", "stage_error")
    names = [name for name in NAMES if ordered or name not in stages]
    return [
        name for name in names if np.isfinite(metrics.METRICS[name](predictions.probs, require_labels(predictions)))
    ]


def _places(costs: FloatArray) -> FloatArray:
    """(K, B) the place of each of K in each draw, lowest cost first, ties at the mean place; NaN is last."""
    costs = np.where(np.isnan(costs), np.inf, costs)
    below = (costs[:, None, :] > costs[None, :, :]).sum(axis=1)
    alike = (costs[:, None, :] == costs[None, :, :]).sum(axis=1)
    places: FloatArray = below + (alike + 1) / 2
    return places
