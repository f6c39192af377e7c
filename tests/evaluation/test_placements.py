"""Areas under the ROC curve over subjects: contributions against the textbook formulas pair by pair, and what intervals hold."""

import numpy as np
import pytest
from scipy import stats

from scanwise import metrics
from scanwise.arrays import softmax
from scanwise.evaluation import placements
from scanwise.pooling import subject_codes
from scanwise.records import BoolArray, FloatArray, IntArray


def _auroc_interval(probs: FloatArray, labels: IntArray, subjects: IntArray) -> tuple[float, float, float]:
    """(area, low, high) over all classes and subjects."""
    of_subject, names = subject_codes(subjects, len(labels))
    area = placements.estimate_macro_auroc(probs, labels, of_subject, len(names))
    strata = np.array([labels[of_subject == index][0] for index in range(len(names))])
    return (area.value, *area.interval(strata, 0.95))


def _variance(area: placements.AurocEstimate, positive: IntArray) -> float:
    """DeLong's variance from the contributions of subjects who are each on one side."""
    away = area.own - area.value * area.most
    return float(sum(n / (n - 1) * (away[here] ** 2).sum() for here in (positive, ~positive) for n in [here.sum()]))


def _scores(random: np.random.Generator, ties: bool) -> tuple[FloatArray, BoolArray]:
    count = int(random.integers(6, 40))
    positive = np.arange(count) % 3 == 0
    scores = random.normal(size=count) + positive
    return (np.round(scores) if ties else scores), positive


def _pairs(scores: FloatArray, positive: BoolArray) -> FloatArray:
    """(M, N) one where the positive is above the negative, a half where they tie."""
    gap = scores[positive][:, None] - scores[~positive][None, :]
    return (gap > 0) + 0.5 * (gap == 0)


@pytest.mark.parametrize("ties", [False, True])
def test_one_scan_a_subject_is_the_classic_formula(ties: bool) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        scores, positive = _scores(random, ties)
        pairs = _pairs(scores, positive)
        area = placements.estimate_auroc(scores, positive, np.arange(len(scores)), len(scores))
        classic = pairs.mean(axis=1).var(ddof=1) / pairs.shape[0] + pairs.mean(axis=0).var(ddof=1) / pairs.shape[1]
        assert area.value == pytest.approx(pairs.mean(), abs=1e-12)
        assert _variance(area, positive) == pytest.approx(classic, abs=1e-12)


def test_scans_of_subjects_follow_obuchowski() -> None:
    """Subjects of one class each: her sums over clusters, written out."""
    random = np.random.default_rng(1)
    for _ in range(10):
        subjects = np.repeat(np.arange(14), random.integers(1, 6, 14))
        positive = subjects % 2 == 0
        scores = np.round(random.normal(size=14)[subjects] + 0.3 * random.normal(size=len(subjects)) + positive, 1)
        pairs = _pairs(scores, positive)
        theta, total = pairs.mean(), 0.0
        for placed, owners in ((pairs.mean(axis=1), subjects[positive]), (pairs.mean(axis=0), subjects[~positive])):
            sums = np.array([(placed[owners == s] - theta).sum() for s in np.unique(owners)])
            total += len(sums) / (len(sums) - 1) * (sums**2).sum() / len(placed) ** 2
        area = placements.estimate_auroc(scores, positive, subjects, 14)
        assert _variance(area, np.arange(14) % 2 == 0) == pytest.approx(total, abs=1e-12)


def test_copies_of_a_scan_tell_nothing_new() -> None:
    scores, positive = _scores(np.random.default_rng(2), False)
    once = placements.estimate_auroc(scores, positive, np.arange(len(scores)), len(scores))
    owners = np.arange(len(scores)).repeat(5)
    often = placements.estimate_auroc(scores.repeat(5), positive.repeat(5), owners, len(scores))
    sides = positive.astype(int)
    assert often.interval(sides, 0.95) == pytest.approx(once.interval(sides, 0.95))


def test_the_mean_of_classes_is_that_of_the_metric() -> None:
    random = np.random.default_rng(3)
    probs, labels = random.dirichlet([1, 1, 1], 60), np.arange(60) % 3
    area, low, high = _auroc_interval(probs, labels, np.arange(60))
    assert area == pytest.approx(metrics.METRICS["auroc"](probs, labels))
    assert low < area < high
    whole = placements.estimate_macro_auroc(probs, labels, np.arange(60), 60)
    left_out = [metrics.METRICS["auroc"](np.delete(probs, i, 0), np.delete(labels, i)) for i in range(60)]
    jackknife = 59 / 60 * ((left_out - np.mean(left_out)) ** 2).sum()
    away = whole.own - whole.value * whole.most
    assert 60 / 59 * (away**2).sum() == pytest.approx(jackknife, rel=0.1)


def test_a_side_of_one_subject_is_not_known() -> None:
    """Its scan may lie anywhere among the others, so the area may be nearly anything."""
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.8]])
    area, low, high = _auroc_interval(probs, np.array([0, 0, 0, 1]), np.arange(4))
    assert (area, high) == (1, 1)
    assert low < 0.06


def test_nothing_out_of_order_is_not_certainty() -> None:
    """Two of each: what the next of either side does is open, as half of the draws of two shows."""
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.3, 0.7]])
    area, low, high = _auroc_interval(probs, np.array([0, 0, 1, 1]), np.arange(4))
    assert (area, high) == (1, 1)
    assert low < 0.3


def test_one_class_alone_has_no_area() -> None:
    probs = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert np.isnan(_auroc_interval(probs, np.zeros(2, dtype=int), np.arange(2))).all()


def _covered(subjects: int, trials: int, num_classes: int = 2) -> float:
    """How often the interval holds the area in an endless population of ten alike scans a subject."""
    random = np.random.default_rng(subjects)

    def drawn(count: int, scans: int) -> tuple[FloatArray, IntArray]:
        labels = (np.arange(count) % num_classes).repeat(scans)
        own = random.normal(size=(count, num_classes)).repeat(scans, axis=0)
        noise = 0.4 * random.normal(size=(len(labels), num_classes))
        return softmax(own + noise + np.eye(num_classes)[labels]), labels

    truth = float(metrics.METRICS["auroc"](*drawn(60_000, 2)))
    hits = 0
    for _ in range(trials):
        probs, labels = drawn(subjects, 10)
        _, low, high = _auroc_interval(probs, labels, np.arange(subjects).repeat(10))
        hits += low <= truth <= high
    return hits / trials


def test_intervals_hold_the_truth() -> None:
    share = _covered(60, 300)
    assert stats.binomtest(round(share * 300), 300, 0.95).pvalue > 0.001


@pytest.mark.slow
@pytest.mark.parametrize(
    ("subjects", "low", "high"), [(10, 0.9, 1), (30, 0.9, 1), (60, 0.935, 0.965), (200, 0.935, 0.965)]
)
def test_intervals_hold_the_truth_over_5000_trials(subjects: int, low: float, high: float) -> None:
    share = _covered(subjects, 5000)
    print(f"auroc {subjects}: {share:.4f}")  # noqa: T201
    assert low - 0.006 <= share <= high + 0.006


@pytest.mark.parametrize("counts", [(20, 20), (8, 32)])
def test_the_width_that_a_plan_expects_is_that_of_areas_of_normal_scores(counts: tuple[int, int]) -> None:
    random, gap = np.random.default_rng(0), np.sqrt(2) * stats.norm.ppf(0.8)  # whose area is 0.8
    labels = np.repeat([False, True], counts)
    everybody = np.arange(len(labels))
    drawn = [
        placements.estimate_auroc(random.normal(size=len(labels)) + gap * labels, labels, everybody, len(labels)).value
        for _ in range(2000)
    ]
    assert placements.expected_auroc_margin(counts) == pytest.approx(1.96 * np.std(drawn), rel=0.1)


def test_nothing_is_expected_where_one_class_is_tested() -> None:
    assert np.isnan(placements.expected_auroc_margin([40, 0]))
