"""Doubt, strangeness and abstention."""

import math

import numpy as np
import pytest
from scipy import stats

from scanwise.errors import DataError, ShapeError
from scanwise.risk import minimum_answered
from scanwise.uncertainty import (
    Abstention,
    Mahalanobis,
    Neighbours,
    abstention_grid,
    aurc,
    energy_score,
    excess_aurc,
    expected_value,
    mutual_information,
    predictive_entropy,
    risk_coverage_curve,
)


def test_entropy_splits_into_data_and_network() -> None:
    members = np.random.default_rng(0).dirichlet([1, 1, 1], (50, 7))
    whole = predictive_entropy(members.mean(axis=1))
    np.testing.assert_allclose(
        stats.entropy(members, axis=2).mean(axis=1) + mutual_information(members), whole, atol=1e-12
    )
    np.testing.assert_allclose(whole, stats.entropy(members.mean(axis=1), axis=1), atol=1e-12)
    assert (mutual_information(np.repeat(members[:, :1], 5, axis=1)) < 1e-12).all()


def test_certainty_is_zero_and_not_minus_zero_nor_nan() -> None:
    entropy = predictive_entropy(np.eye(3))
    assert entropy.tolist() == [0, 0, 0]
    assert not np.signbit(entropy).any()


def test_expected_value_equals_a_loop() -> None:
    probs, cdr = np.random.default_rng(1).dirichlet([1, 1, 1, 1], 20), [0, 0.5, 1, 2]
    mean, spread = expected_value(probs, cdr)
    for row, found, wide in zip(probs, mean, spread, strict=True):
        law = stats.rv_discrete(values=(range(4), row))
        assert found == pytest.approx(law.expect(lambda index: np.array(cdr)[index.astype(int)]))
        assert wide**2 == pytest.approx(law.expect(lambda index: np.array(cdr)[index.astype(int)] ** 2) - found**2)
    with pytest.raises(ShapeError, match="each of 4 classes"):
        expected_value(probs, [0, 1])


def test_aurc_equals_the_mean_over_all_orders_of_ties() -> None:
    random = np.random.default_rng(2)
    doubt, wrong = random.integers(0, 4, 12).astype(float), random.random(12) < 0.4
    shuffled = []
    for _ in range(4000):
        order = np.lexsort((random.random(12), doubt))
        shuffled.append((np.cumsum(wrong[order]) / np.arange(1, 13)).mean())
    assert aurc(doubt, wrong) == pytest.approx(np.mean(shuffled), abs=0.004)


def test_risk_coverage_ends_at_the_error_rate_and_the_best_order_has_no_excess() -> None:
    random = np.random.default_rng(3)
    doubt, wrong = random.random(100), random.random(100) < 0.3
    covered, risk = risk_coverage_curve(doubt, wrong)
    assert covered[-1] == 1
    assert risk[-1] == wrong.mean()
    assert excess_aurc(wrong.astype(float), wrong) == 0
    assert excess_aurc(doubt, wrong) > 0


def test_endless_doubt_is_answered_last_and_all_at_once() -> None:
    doubt, wrong = np.array([-np.inf, 0.0, np.inf, np.inf]), np.array([False, False, True, False])
    covered, risk = risk_coverage_curve(doubt, wrong)
    assert (covered.tolist(), risk.tolist()) == ([0.25, 0.5, 1.0], [0, 0, 0.25])
    assert aurc(doubt, wrong) == pytest.approx((0.5 / 3 + 1 / 4) / 4)


def test_least_answered() -> None:
    assert minimum_answered(0.1, 0.1) == 22
    for risk, delta in [(0.05, 0.1), (0.2, 0.05), (0.5, 0.5)]:
        needed = minimum_answered(risk, delta)
        assert (1 - risk) ** needed <= delta < (1 - risk) ** (needed - 1)


def test_abstention_bounds_the_error_with_the_stated_probability() -> None:
    """A doubt d has error d: among those answered at most t it is t / 2. Half of it answers all; then 0.2 is exceeded."""
    random = np.random.default_rng(4)
    trials, kept, failed, answered = 2000, 0, 0, []
    for _ in range(trials):
        grid = abstention_grid(random.random(100), 150, risk=0.2, delta=0.1)
        doubt = random.random(150)
        found = Abstention.fit(
            doubt, random.random(150) < doubt, grid=grid, risk=0.2, delta=0.1, subjects=np.arange(150).astype(str)
        )
        kept += found.refused == ""
        failed += found.threshold / 2 > 0.2
        answered.append(found.answered)
    assert failed / trials <= 0.1 + 2 * math.sqrt(0.09 / trials)
    assert failed / trials > 0.005  # the bound is not idle
    assert kept / trials > 0.5
    assert np.mean(answered) > 0.1


def test_each_threshold_is_an_exact_binomial_test_and_the_first_failure_ends_it() -> None:
    subjects = np.arange(80).astype(str)
    for errors in range(12):
        found = Abstention.fit(np.zeros(80), np.arange(80) < errors, grid=np.zeros(1), risk=0.1, subjects=subjects)
        assert (found.refused == "") == (stats.binom.cdf(errors, 80, 0.1) <= 0.1)
    doubt = np.repeat([0.0, 1.0], [30, 50])
    early = Abstention.fit(doubt, np.arange(80) < 2, grid=np.array([0.0, 1.0]), risk=0.1, subjects=subjects)
    assert "the 30 most certain have 2 errors" in early.refused


def test_no_threshold_qualifies_is_a_result() -> None:
    subjects = np.arange(60).astype(str)
    always_wrong = Abstention.fit(np.zeros(60), np.ones(60, bool), grid=np.zeros(1), subjects=subjects)
    assert "60 errors" in always_wrong.refused
    assert always_wrong(np.array([-1.0, 0.0])).all()
    few = Abstention.fit(np.zeros(21), np.zeros(21, bool), grid=np.zeros(1), subjects=subjects[:21])
    assert "it takes 22" in few.refused
    enough = Abstention.fit(np.zeros(22), np.zeros(22, bool), grid=np.zeros(1), subjects=subjects[:22])
    assert str(enough) == "answers 100% at ≤ 10% error (90% sure)"


def test_abstention_refuses_scans_of_one_subject() -> None:
    with pytest.raises(DataError, match="Pool the scans"):
        Abstention.fit(np.zeros(30), np.zeros(30, bool), grid=np.zeros(1), subjects=np.repeat(["a", "b"], 15))
    with pytest.raises(DataError, match="must rise"):
        Abstention.fit(np.zeros(30), np.zeros(30, bool), grid=np.array([1.0, 0.0]), subjects=np.arange(30).astype(str))


def test_neighbours_equal_a_loop_and_keep_their_false_alarm_rate() -> None:
    random = np.random.default_rng(5)
    train = random.normal(size=(300, 8)) + 2
    rates = []
    for _ in range(100):
        fitted = Neighbours.fit(train, random.normal(size=(60, 8)) + 2, false_alarm=0.1, k=5)
        rates.append(fitted(random.normal(size=(200, 8)) + 2).mean())
    assert np.mean(rates) <= 0.1 + 2 * np.std(rates) / 10
    assert np.mean(rates) >= 0.1 - 1 / 61 - 2 * np.std(rates) / 10
    new = random.normal(size=(4, 8))
    unit, units = new / np.linalg.norm(new, axis=1, keepdims=True), fitted.features
    expected = [np.sort(np.linalg.norm(units - row, axis=1))[4] for row in unit]
    np.testing.assert_allclose(fitted.score(new), expected, atol=1e-7)
    assert fitted(-train).mean() > 0.99


def test_mahalanobis_equals_the_inverse_covariance() -> None:
    random = np.random.default_rng(6)
    labels = np.arange(2000) % 2
    train = random.normal(size=(2000, 3)) @ np.diag([1.0, 3, 0.2]) + labels[:, None] * 5.0
    fitted = Mahalanobis.fit(train, labels)
    new = random.normal(size=(5, 3))
    expected = [min(math.sqrt(sum(((row - m) / [1, 3, 0.2]) ** 2)) for m in fitted.means) for row in new]
    np.testing.assert_allclose(fitted.score(new), expected, rtol=0.1)


def test_energy_is_stable() -> None:
    assert energy_score(np.array([[1e4, 0.0]])).tolist() == [-1e4]
    np.testing.assert_allclose(energy_score(np.zeros((1, 4))), [-np.log(4)])


def test_bad_input_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(N, T, C\)"):
        mutual_information(np.ones((2, 2)))
    with pytest.raises(DataError, match="sum to one"):
        predictive_entropy(np.ones((2, 2)))
    with pytest.raises(DataError, match="Rows: 1"):
        aurc(np.array([0, np.nan]), np.array([True, False]))
    with pytest.raises(ShapeError, match="one length"):
        aurc(np.zeros(2), np.zeros(3, bool))
    with pytest.raises(DataError, match="features that are NaN"):
        Neighbours.fit(np.full((2, 2), np.nan), np.ones((2, 2)))
