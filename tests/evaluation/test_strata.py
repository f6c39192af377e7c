"""Intervals class by class: against enumeration of every outcome, and in trials with rare classes and unequal people."""

import importlib.util
from collections import defaultdict
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scanwise.evaluation import measure_predictions, paired_difference
from scanwise.evaluation.comparison import mcnemar_test
from scanwise.evaluation.sample import SubjectBootstrap
from scanwise.evaluation.strata import Contributions, PredictedCells, gap_interval, shares_of_rows
from scanwise.metrics import METRICS
from scanwise.risk import mid_p_limits

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "intervals.py"


@pytest.fixture(scope="module")
def trials() -> ModuleType:
    """The cohorts of the benchmark: subjects with unequal numbers of scans, rare classes."""
    spec = importlib.util.spec_from_file_location("intervals", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells_of(right: tuple[int, ...], sizes: tuple[int, ...]) -> PredictedCells:
    """One scan a subject; of each class the first are right, the others called the next class."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    wrong = np.concatenate([np.arange(size) >= hits for size, hits in zip(sizes, right, strict=True)])
    predicted = (labels + wrong) % len(sizes)
    return PredictedCells(labels, predicted, len(sizes), np.arange(len(labels)), labels)


def truth_of(name: str, sizes: tuple[int, ...], recalls: tuple[float, ...]) -> float:
    matrix = np.zeros((len(sizes), len(sizes)))
    for index, (size, recall) in enumerate(zip(sizes, recalls, strict=True)):
        matrix[index, index] += size * recall
        matrix[index, (index + 1) % len(sizes)] += size * (1 - recall)
    return float(function_of(name)(matrix))


def function_of(name: str):  # type: ignore[no-untyped-def]
    function = METRICS[name].function
    return function.cells  # type: ignore[union-attr]


def coverage(name: str, sizes: tuple[int, ...], recalls: tuple[float, ...]) -> tuple[float, float]:
    """Exact probability that the interval holds the truth, and its mean width, over every outcome."""
    truth, held, width = truth_of(name, sizes, recalls), 0.0, 0.0
    for right in product(*(range(size + 1) for size in sizes)):
        chance = float(np.prod([stats.binom.pmf(k, n, r) for k, n, r in zip(right, sizes, recalls, strict=True)]))
        if chance > 1e-5:
            low, high = cells_of(right, sizes).interval(function_of(name), 0.95)
            held += chance * (low <= truth <= high)
            width += chance * (high - low)
    return held, width


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_mid_p_counts_half_of_what_was_seen(count: int) -> None:
    for hits in range(count + 1):
        low, high = mid_p_limits(np.array([hits / count]), np.array([float(count)]), 0.9)
        if hits < count:
            tail = stats.binom.cdf(hits, count, high[0]) - stats.binom.pmf(hits, count, high[0]) / 2
            assert tail == pytest.approx(0.05, abs=1e-9)
        if hits:
            tail = stats.binom.sf(hits, count, low[0]) + stats.binom.pmf(hits, count, low[0]) / 2
            assert tail == pytest.approx(0.05, abs=1e-9)
        assert (low[0] == 0) == (hits == 0)
        assert (high[0] == 1) == (hits == count)


@pytest.mark.parametrize(
    ("sizes", "recalls"),
    [
        ((30, 1), (0.9, 0.8)),
        ((30, 2), (0.9, 0.8)),
        ((56, 4), (0.9, 0.8)),
        ((16, 4), (0.9, 0.8)),
        ((30, 30), (0.9, 0.8)),
        ((30, 1), (0.95, 0.95)),
        ((30, 2), (0.95, 0.9)),
        ((6, 6), (0.9, 0.7)),
        ((30, 4, 1), (0.9, 0.8, 0.7)),
    ],
)
@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1", "accuracy", "kappa"])
def test_a_class_of_few_does_not_make_a_metric_certain(
    name: str, sizes: tuple[int, ...], recalls: tuple[float, ...]
) -> None:
    """The bootstrap within class held balanced accuracy in .075, .512 and .606 of the first three."""
    held, width = coverage(name, sizes, recalls)
    assert held > (0.9 if name in ("accuracy", "macro_f1", "kappa") else 0.94)
    assert width < 1.2 * 0.31 or min(sizes) < 16 or name == "kappa"


def test_balanced_accuracy_is_put_together_from_mid_p_of_its_classes() -> None:
    low, high = cells_of((50, 3), (56, 4)).interval(function_of("balanced_accuracy"), 0.95)
    shares, counts = np.array([50 / 56, 3 / 4]), np.array([56.0, 4.0])
    ends = mid_p_limits(shares, counts)
    value = shares.mean()
    assert low == pytest.approx(value - np.sqrt((((shares - ends[0]) / 2) ** 2).sum()))
    assert high == pytest.approx(value + np.sqrt((((ends[1] - shares) / 2) ** 2).sum()))


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 9)), min_size=2, max_size=20),
    st.sampled_from(["accuracy", "balanced_accuracy", "macro_f1", "kappa", "matthews", "macro_precision"]),
)
def test_an_interval_holds_its_value_whatever_the_subjects_are(rows: list[tuple[int, int, int]], name: str) -> None:
    labels, predicted, scans = (np.array(column) for column in zip(*rows, strict=True))
    of_subject = np.arange(len(rows)).repeat(scans)
    strata = np.unique(labels, return_inverse=True)[1]
    cells = PredictedCells(labels[of_subject], predicted[of_subject], 3, of_subject, strata)
    value = float(function_of(name)(cells.matrix))
    if np.isfinite(value):
        low, high = cells.interval(function_of(name), 0.95)
        assert low <= value <= high


@given(st.integers(2, 12), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_copies_of_scans_tell_nothing_new(subjects: int, times: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels, predicted = np.arange(subjects) % 2, random.integers(0, 2, subjects)
    once = PredictedCells(labels, predicted, 2, np.arange(subjects), labels)
    owners = np.arange(subjects).repeat(times)
    often = PredictedCells(labels[owners], predicted[owners], 2, owners, labels)
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        ends = [cells.interval(function_of(name), 0.95) for cells in (once, often)]
        assert ends[0] == pytest.approx(ends[1], abs=1e-6)


def test_unequal_scans_make_fewer_people() -> None:
    """One subject with all but a few of the scans leaves hardly anybody."""
    few = Contributions(
        np.zeros(10), np.array([200.0] + [1.0, 0.0] * 4 + [1.0]), np.array([200.0] + [1.0] * 9), np.zeros(10, int)
    )
    even = Contributions(np.zeros(10), np.array([1.0] * 9 + [0.0]), np.ones(10), np.zeros(10, int))
    low, high = few.interval(205 / 209, 0.95)
    assert high - low > 200 * 0.85
    low, high = even.interval(9, 0.95)
    assert (9 - low) / 10 < 0.4


def test_the_mix_of_classes_is_certain_where_every_subject_has_as_many_scans() -> None:
    strata = np.array([0, 0, 0, 1])
    assert shares_of_rows(np.arange(4).repeat(5), strata, 0.95).tolist() == [1, 1]
    unequal = shares_of_rows(np.arange(4).repeat([1, 30, 9, 4]), strata, 0.95)
    assert (unequal < 0.7).all()
    assert unequal[1] < unequal[0]


def test_no_difference_seen_is_no_certainty() -> None:
    """Thirty subjects whom both classifiers treat alike: of others, a tenth may be treated unlike."""
    low, high = gap_interval(0.0, np.zeros(30), np.full(30, 1 / 30), np.zeros(30, int), 0.95)
    other = mid_p_limits(np.zeros(1), np.array([30.0]))[1][0]
    assert (low, high) == pytest.approx((-other, other))


def tally(
    trials: ModuleType, sizes: tuple[int, ...], scans: str, count: int, names: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, float]]:
    """Shares of trials in which intervals hold the truth, and in which equally good classifiers differ."""
    random = np.random.default_rng(1)
    truth = trials.truth_of(random, sizes, 2.0)
    held: dict[str, int] = defaultdict(int)
    apart: dict[str, int] = defaultdict(int)
    for trial in range(count):
        first, second = trials.cohort(random, sizes, scans, 2.0, 2)
        for m in measure_predictions(
            first, subjects=first.subjects, draws=200, seed=trial, names=names, by_class=False
        ):
            held[m.name] += m.low <= truth[m.name] <= m.high
        for m in paired_difference(first, second, draws=200, seed=trial):
            apart[m.name] += m.low > 0 or m.high < 0
        apart["McNemar"] += mcnemar_test(first, second)[2] < 0.05
    return tuple({name: hits / count for name, hits in part.items()} for part in (held, apart))  # type: ignore[return-value]


NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "kappa", "brier", "average_precision")


@pytest.mark.extended
def test_intervals_hold_the_truth_for_unequal_people_and_a_rare_class(trials: ModuleType) -> None:
    held, apart = tally(trials, (56, 4), "1-200", 60, ("accuracy", "balanced_accuracy", "auroc", "brier"))
    assert all(stats.binomtest(round(share * 60), 60, 0.95).pvalue > 1e-4 or share > 0.95 for share in held.values())
    assert all(
        stats.binomtest(round(share * 60), 60, 0.05, alternative="greater").pvalue > 1e-3 for share in apart.values()
    )


@pytest.mark.slow
@pytest.mark.parametrize("scans", ["1", "10", "1-200"])
@pytest.mark.parametrize("sizes", [(30, 1), (30, 2), (56, 4), (16, 4), (30, 30), (40, 10, 3)])
def test_intervals_hold_the_truth_over_1000_trials(trials: ModuleType, sizes: tuple[int, ...], scans: str) -> None:
    """Metrics that depend on how the classes are mixed hold less often where a few people with up to 200 scans decide it."""
    held, apart = tally(trials, sizes, scans, 1000, NAMES)
    print(f"{sizes} {scans}: {held} apart {apart}")  # noqa: T201
    mixed = {"macro_f1", "kappa"}
    assert min(share for name, share in held.items() if name not in mixed) > 0.9
    assert min(held[name] for name in mixed) > (0.87 if scans == "1-200" else 0.9)
    assert max(apart.values()) < 0.08


def test_the_benchmark_asks_for_metrics_that_there_are(trials: ModuleType) -> None:
    assert set(NAMES) <= set(trials.NAMES) <= set(METRICS)


@pytest.mark.parametrize("scans", ["1", "1-200"])
def test_rarer_sides_count_people_not_scans(trials: ModuleType, scans: str) -> None:
    (found,) = trials.cohort(np.random.default_rng(0), (30, 10), scans, 2.0)
    rarest = SubjectBootstrap.of(found, found.subjects, 50, 0).rarest(1)
    assert rarest == pytest.approx(10) if scans == "1" else 1 < rarest < 9
