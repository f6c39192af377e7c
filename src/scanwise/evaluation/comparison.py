"""Several classifiers on the same people: which is better, by how much, and how certain that is.

All classifiers predict the same rows, so the choice of test subjects affects all alike: differences, ranks and McNemar's
counts are taken row by row, and resampled by subject with the same draws for all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scanwise.errors import DataError
from scanwise.evaluation.estimates import overall_estimand
from scanwise.evaluation.sample import SubjectBootstrap, require_labels
from scanwise.metrics import METRICS, lower_is_better
from scanwise.records import FloatArray, IntArray, Predictions


@dataclass(frozen=True, slots=True)
class McNemarTest:
    """Units on which only one of two classifiers is right, and the p-value if both were equally good.

    Attributes:
        first: name of one.
        second: name of the other.
        only_first: units on which the first alone is right.
        only_second: units on which the second alone is right.
        p_value: two-sided, over exchanges of the two for whole subjects; exact.
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
    """The rank of one classifier by one metric, 1 the best, with its range in 95 % of draws.

    Attributes:
        name: of the classifier.
        metric: name of the metric.
        value: of the metric.
        rank: among all.
        low: lower end of the range; a better rank is rare.
        high: upper end of the range; a worse rank is rare.
        best: share of draws in which it is first (ties shared).
    """

    name: str
    metric: str
    value: float
    rank: float
    low: float
    high: float
    best: float


def mcnemar_test(first: Predictions, second: Predictions) -> tuple[int, int, float]:
    """(first alone right, second alone right, two-sided p-value) on the same rows.

    If both were equally good, it would be as likely for each subject that the two had each other's answers. The p-value is
    the share of all such exchanges, subject by subject, with as large a difference of right rows: exact for any number of
    scans a subject, and where every row is a subject McNemar's exact test (the binomial one).

    Raises:
        DataError: if the two are not about the same rows with the same labels.
    """
    check_same_rows([first, second])
    right = [(part.predicted == require_labels(part)).astype(np.int64) for part in (first, second)]
    gap = right[0] - right[1]
    only_first, only_second = int((gap > 0).sum()), int((gap < 0).sum())
    _, of_subject = np.unique(first.subjects, return_inverse=True)
    sums = np.rint(np.bincount(of_subject, weights=gap)).astype(np.int64)
    return only_first, only_second, exchange_probability(sums)


def exchange_probability(sums: IntArray) -> float:
    """Probability that sums (K,) with signs drawn at random add up to as much, either way, as with their own signs.

    >>> exchange_probability(np.array([1, 1, 1, 1])), round(exchange_probability(np.array([3, 1])), 9)
    (0.125, 0.5)
    """
    from scipy.stats import binomtest

    sizes, counts = np.unique(np.abs(sums[sums != 0]), return_counts=True)
    if not sums.sum():
        return 1.0
    if len(sizes) == 1:
        return float(binomtest(int((sums > 0).sum()), int(counts[0])).pvalue)
    # The characteristic function of a sum of independent signs is a product of cosines; its transform is the distribution.
    most = int((sizes * counts).sum())
    angles = 2 * np.pi * np.arange(2 * most + 1) / (2 * most + 1)
    function = np.prod([np.cos(angles * size) ** count for size, count in zip(sizes, counts, strict=True)], axis=0)
    chances = np.fft.fft(function).real / len(angles)
    reached = abs(int(sums.sum()))
    as_much = float(chances[reached : len(angles) - reached + 1].sum())  # the second half holds the negative sums
    return min(1.0, max(as_much, 2.0 ** (1 - int(counts.sum()))))


def pairwise_mcnemar_tests(systems: Mapping[str, Predictions]) -> list[McNemarTest]:
    """McNemar's test of every pair, with p-values adjusted for how many pairs there are (Holm 1979)."""
    names = list(systems)
    pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
    tests = [McNemarTest(a, b, *mcnemar_test(systems[a], systems[b])) for a, b in pairs]
    adjusted = holm_adjusted([test.p_value for test in tests])
    return [replace(test, adjusted=value) for test, value in zip(tests, adjusted, strict=True)]


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for the number of tests (Holm 1979).

    >>> [round(p, 3) for p in holm_adjusted([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    values = np.empty(len(p_values))
    values[order] = np.minimum(1.0, np.maximum.accumulate(scaled)) if len(p_values) else scaled
    return [float(value) for value in values]


def rank_classifiers(
    systems: Mapping[str, Predictions], metric: str, *, draws: int = 2000, confidence: float = 0.95, seed: int = 0
) -> list[RankInterval]:
    """The classifiers from best to worst by a metric, with the range of ranks over draws of subjects.

    Each draw of subjects ranks all of them, ties at the mean rank. Where the ranges of two overlap, the data do not
    settle which of them is better.

    Raises:
        DataError: if they are not about the same rows with the same labels.
    """
    check_same_rows(list(systems.values()))
    values, drawn = [], []
    for predictions in systems.values():
        sample = SubjectBootstrap.of(predictions, predictions.subjects, draws, seed)
        value, over_draws, _ = sample.values(overall_estimand(metric, len(predictions.classes)))
        values.append(value)
        drawn.append(over_draws)
    sign = 1.0 if lower_is_better(metric) else -1.0
    ranks = _rank_costs(sign * np.stack(drawn))
    observed = _rank_costs(sign * np.array(values)[:, None])[:, 0]
    least = ranks.min(axis=0)
    first = (ranks == least) / (ranks == least).sum(axis=0)
    tail = 100 * (1 - confidence) / 2
    ends = np.percentile(ranks, [tail, 100 - tail], axis=1, method="inverted_cdf")
    intervals = [
        RankInterval(
            name, metric, values[k], float(observed[k]), float(ends[0, k]), float(ends[1, k]), float(first[k].mean())
        )
        for k, name in enumerate(systems)
    ]
    return sorted(intervals, key=lambda interval: interval.rank)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of one metric over several seeds; the deviation of one seed is NaN."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def check_same_rows(parts: Sequence[Predictions]) -> None:
    """Check that all are about the same rows, in the same order, with the same labels and classes.

    Raises:
        DataError: if they are not.
    """
    for other in parts[1:]:
        same = other.has_rows_of(parts[0]) and other.classes == parts[0].classes
        if not (same and np.array_equal(require_labels(other), require_labels(parts[0]))):
            raise DataError(
                "A comparison needs the same rows, in the same order, with the same labels and classes on all sides. "
                "Fit the recipes on the same data with the same split and seed of the split."
            )


def comparable_metrics(predictions: Predictions, ordered: bool) -> list[str]:
    """Names of the metrics to compare by, as far as they are defined for these predictions."""
    specs = [spec for spec in METRICS.values() if spec.compared and (ordered or not spec.needs_order)]
    labels = require_labels(predictions)
    return [spec.name for spec in specs if np.isfinite(spec(predictions.probs, labels))]


def _rank_costs(costs: FloatArray) -> FloatArray:
    """(K, B) the rank of each of K in each draw, lowest cost first, ties at the mean rank; NaN is last."""
    costs = np.where(np.isnan(costs), np.inf, costs)
    below = (costs[:, None, :] > costs[None, :, :]).sum(axis=1)
    equal = (costs[:, None, :] == costs[None, :, :]).sum(axis=1)
    ranks: FloatArray = below + (equal + 1) / 2
    return ranks
