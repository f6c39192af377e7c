"""Quantiles, bounds and pooling: what finite samples can promise."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from scanwise import pooling
from scanwise.arrays import check_labels, check_logits, check_probs, log_softmax, softmax
from scanwise.errors import DataError, RecipeError, ShapeError
from scanwise.pooling import pool_by_subject, subject_codes
from scanwise.records import Logits
from scanwise.risk import clopper_pearson, conformal_quantile, conformal_rank, coverage_band, minimum_count


@pytest.mark.parametrize(("alpha", "least"), [(0.1, 9), (0.05, 19), (0.01, 99), (1 - 0.9, 9), (0.5, 1), (0.3, 3)])
def test_nothing_is_promised_below_the_minimum_count(alpha: float, least: int) -> None:
    assert minimum_count(alpha) == least
    assert conformal_quantile(np.arange(least, dtype=float), alpha) == least - 1
    if least > 1:
        assert conformal_quantile(np.arange(least - 1, dtype=float), alpha) == math.inf


@pytest.mark.parametrize(
    ("n", "alpha", "rank"), [(9, 0.1, 9), (20, 0.1, 19), (99, 0.1, 90), (999, 0.05, 950), (6, 0.3, 5)]
)
def test_the_rank_is_exact_where_floats_are_not(n: int, alpha: float, rank: int) -> None:
    assert conformal_rank(n, alpha) == rank
    shuffled = np.random.default_rng(n).permutation(n) + 1.0
    assert conformal_quantile(shuffled, alpha) == rank


def test_one_scan_a_subject_gives_the_plain_quantile() -> None:
    random = np.random.default_rng(0)
    for count in range(1, 60):
        scores = random.integers(0, 20, count).astype(float)
        subjects = np.array([f"s{i}" for i in random.permutation(count)])
        for alpha in (0.05, 0.1, 0.3, 1 / 3):
            assert conformal_quantile(scores, alpha, subjects) == conformal_quantile(scores, alpha)


def test_the_hierarchical_quantile_equals_a_loop() -> None:
    random = np.random.default_rng(1)
    for _ in range(200):
        sizes = random.integers(1, 6, random.integers(1, 25))
        owner = np.repeat(np.arange(len(sizes)), sizes)
        scores = random.normal(size=len(owner)).round(1)
        alpha = float(random.choice([0.1, 0.2, 0.35]))
        mass, expected = 0.0, math.inf
        for score, subject in sorted(zip(scores, owner, strict=True)):
            mass += 1 / (sizes[subject] * (len(sizes) + 1))
            if mass >= 1 - alpha - 1e-12:
                expected = score
                break
        assert conformal_quantile(scores, alpha, np.char.add("s", owner.astype(str))) == expected


def test_subject_coverage_holds_where_scans_repeat_and_the_naive_quantile_fails() -> None:
    """12 subjects of 32 scans whose scores correlate at 0.9: about .877 for the plain quantile, .90 and more for ours."""
    random = np.random.default_rng(0)
    trials, subjects, scans = 8000, 12, 32
    ours, naive = 0.0, 0.0
    names = np.repeat([f"s{i}" for i in range(subjects)], scans)
    own = np.sqrt(0.9) * random.normal(size=(trials, subjects + 1, 1))
    scores = own + np.sqrt(0.1) * random.normal(size=(trials, subjects + 1, scans))
    for trial in scores:
        seen, new = trial[:-1].ravel(), trial[-1, 0]
        ours += new <= conformal_quantile(seen, 0.1, names)
        naive += new <= conformal_quantile(seen, 0.1)
    assert naive / trials < 0.89
    assert ours / trials >= 0.9 - 2 * math.sqrt(0.09 / trials)


def test_coverage_of_a_threshold_is_beta_binomial() -> None:
    random = np.random.default_rng(3)
    trials = random.random((4000, 120))
    covered = [(scores[50:] <= conformal_quantile(scores[:50], 0.1)).mean() for scores in trials]
    for probability in (0.05, 0.25, 0.5, 0.75, 0.95):
        band = coverage_band(50, 70, 0.1, probability)
        reference = stats.betabinom(70, 46, 5).ppf(probability) / 70
        assert band == pytest.approx(reference, abs=1e-12)
        below = np.mean(np.array(covered) <= band)
        assert probability - 0.03 < below
        assert np.mean(np.array(covered) < band) < probability + 0.03
    assert coverage_band(8, 70, 0.1, 0.05) == 1.0


def test_clopper_pearson_equals_scipy() -> None:
    for count in (1, 7, 50):
        for successes in range(count + 1):
            reference = stats.binomtest(successes, count).proportion_ci(0.9, method="exact")
            assert clopper_pearson(successes, count, 0.9) == pytest.approx((reference.low, reference.high), abs=1e-9)
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    with pytest.raises(DataError, match="between 0 and the count"):
        clopper_pearson(3, 2)


def _logits(**changes: object) -> Logits:
    values: dict[str, object] = {
        "logits": np.array([[[1.0, 0.0]], [[0.0, 3.0]], [[2.0, 0.0]], [[0.0, 0.0]]], dtype=np.float32),
        "labels": np.array([0, 1, 0, 1]),
        "scans": np.array(["a", "b", "c", "d"]),
        "subjects": np.array(["z", "y", "z", "y"]),
        "classes": ("no", "yes"),
        "groups": {"sex": np.array(["f", "m", "f", "m"]), "site": np.array(["1", "2", "3", "2"])},
        "features": np.arange(8, dtype=np.float32).reshape(4, 2),
    }
    return Logits(**{**values, **changes})  # type: ignore[arg-type]


def test_pooling_gives_one_row_a_subject() -> None:
    pooled = pool_by_subject(_logits())
    assert pooled.subjects.tolist() == ["z", "y"]
    assert pooled.scan_counts is not None
    assert pooled.scan_counts.tolist() == [2, 2]
    assert pooled.labels.tolist() == [0, 1]
    assert pooled.groups["sex"].tolist() == ["f", "m"]
    assert pooled.groups["site"].tolist() == ["", "2"]
    assert pooled.logits.dtype == np.float32
    assert pooled.features is not None
    assert pooled.features.tolist() == [[2, 3], [4, 5]]
    expected = log_softmax(np.array([[1.0, 0], [2, 0]])).mean(axis=0)
    np.testing.assert_allclose(pooled.logits[0, 0], expected, atol=1e-6)


def test_pooling_breaks_ties_upwards_and_keeps_unknown_labels() -> None:
    tied = pool_by_subject(_logits(labels=np.array([1, 1, 0, 0])))
    assert tied.labels.tolist() == [1, 1]
    assert pool_by_subject(_logits(labels=np.full(4, -1))).labels.tolist() == [-1, -1]


def test_pooling_once_more_changes_nothing() -> None:
    once = pool_by_subject(_logits())
    twice = pool_by_subject(once)
    np.testing.assert_allclose(softmax(once.logits), softmax(twice.logits), atol=1e-6)
    assert twice.subjects.tolist() == once.subjects.tolist()


def test_softmax_is_stable() -> None:
    big = np.array([[1e4, 0.0], [-1e4, -1e4]])
    np.testing.assert_array_equal(softmax(big), [[1, 0], [0.5, 0.5]])
    np.testing.assert_allclose(np.exp(log_softmax(big)), softmax(big))
    assert softmax(np.float16([[0.25, 0.75]])).dtype == np.float64


def test_subjects_come_in_order_of_first_appearance() -> None:
    codes, names = subject_codes(np.array(["q", "b", "q", "a"]), 4)
    assert codes.tolist() == [0, 1, 0, 2]
    assert names.tolist() == ["q", "b", "a"]


def test_a_band_widens_with_fewer_calibration_units() -> None:
    lows = [coverage_band(n, 100, 0.1, 0.05) for n in (20, 50, 200, 1000)]
    assert all(a < b for a, b in pairwise(lows))


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 2, math.nan])
def test_alpha_must_lie_between_0_and_1(alpha: float) -> None:
    with pytest.raises(DataError, match="alpha must lie between 0 and 1"):
        conformal_quantile(np.ones(5), alpha)


def test_bad_rows_are_named() -> None:
    with pytest.raises(DataError, match="at least one score"):
        conformal_quantile(np.array([]), 0.1)
    with pytest.raises(DataError, match="Rows: 1"):
        conformal_quantile(np.array([1.0, np.nan]), 0.1)
    with pytest.raises(ShapeError, match="subject of each of 2 rows"):
        conformal_quantile(np.ones(2), 0.1, np.array(["a"]))
    with pytest.raises(DataError, match=r"1 of 2 rows have no subject.*Rows: 1"):
        conformal_quantile(np.ones(2), 0.1, np.array(["a", ""]))
    with pytest.raises(DataError, match=r"NaN or infinite\. Rows: 1"):
        check_logits(np.array([[0.0, 1], [np.inf, 0]]))
    with pytest.raises(DataError, match=r"sum to one.*Rows: 0"):
        check_probs(np.array([[0.2, 0.2], [0.5, 0.5]]))
    with pytest.raises(DataError, match="Rows: 0"):
        check_probs(np.array([[np.nan, 0.2], [0.5, 0.5]]))
    with pytest.raises(DataError, match="Rows: 1"):
        check_probs(np.array([[0.5, 0.5], [1.5, -0.5]]))
    with pytest.raises(DataError, match=r"outside 0…1\. Rows: 2"):
        check_labels(np.array([0, 1, 2]), 2, 3)
    with pytest.raises(DataError, match="whole numbers"):
        check_labels(np.array([0.0]), 2, 1)
    with pytest.raises(ShapeError, match="label of each of 3"):
        check_labels(np.array([0]), 2, 3)
    with pytest.raises(ShapeError, match="two classes or more"):
        check_probs(np.ones((3, 1)))
    for check in (check_probs, check_logits):
        with pytest.raises(DataError, match="N is 0"):
            check(np.empty((0, 2)))


def test_ways_to_pool_scans_of_a_subject() -> None:
    random = np.random.default_rng(0)
    logits = 3 * random.normal(size=(7, 2, 3))
    scans = np.array([f"{row}.png" for row in range(7)])
    who = np.array(list("aabbbbc"))
    given = Logits(logits, np.array([0, 0, 1, 1, 1, 1, 2]), scans, who, ("x", "y", "z"))
    probs = softmax(logits)
    by_prob = softmax(pooling.pool_by_subject(given, "mean_prob").logits)
    np.testing.assert_allclose(by_prob[1], probs[2:6].mean(axis=0), atol=1e-9)
    votes = softmax(pooling.pool_by_subject(given, "majority").logits)
    named = (logits[2:6].argmax(axis=-1)[..., None] == np.arange(3)).sum(axis=0)
    np.testing.assert_allclose(votes[1], (named + 0.5) / (named + 0.5).sum(axis=-1, keepdims=True), atol=1e-9)
    alone = pooling.pool_by_subject(given, "mean_prob")
    np.testing.assert_allclose(softmax(alone.logits)[2], probs[6], atol=1e-9)  # one scan is its own mean
    np.testing.assert_array_equal(
        pooling.pool_by_subject(given).logits, pooling.pool_by_subject(given, "mean_logit").logits
    )
    with pytest.raises(RecipeError, match="no pooling 'mean_probs'"):
        pooling.pool_by_subject(given, "mean_probs")
