"""Other people: what drifts is seen, what does not is left alone; slopes equal those of statsmodels."""

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm

from scanwise.arrays import softmax
from scanwise.evaluation import shift
from scanwise.records import Predictions


def _said(seed: int, subjects: int = 150, sharpness: float = 1.0, strange: float = 0.0) -> Predictions:
    """Two classes, probabilities that mean what they say, made too sure by `sharpness`."""
    random = np.random.default_rng(seed)
    odds = 1.5 * random.normal(size=subjects)
    labels = (random.random(subjects) < 1 / (1 + np.exp(-odds))).astype(int)
    probs = softmax(np.column_stack([np.zeros(subjects), sharpness * odds]))
    ood = random.normal(size=subjects) + strange
    return Predictions(
        np.array([f"{row}" for row in range(subjects)]), np.array([f"p{row}" for row in range(subjects)]), ("a", "b"),
        probs, None, -(probs * np.log(probs)).sum(axis=1), np.zeros(subjects, dtype=bool), labels,
        ood=ood, ood_flag=ood > 1.6,
    )  # fmt: skip


def test_slope_and_intercept_equal_statsmodels() -> None:
    said = _said(0)
    odds = np.log(said.probs[:, 1] / said.probs[:, 0])
    weights = np.random.default_rng(1).integers(0, 4, (3, len(said))).astype(float)
    positive = (said.labels == 1).astype(float)  # type: ignore[union-attr]
    lines, large = shift.fit_slopes(odds, positive, weights), shift.fit_intercepts(odds, positive, weights)
    for row, weight in enumerate(weights):
        full = sm.GLM(positive, sm.add_constant(odds), sm.families.Binomial(), freq_weights=weight).fit(tol=1e-14)
        alone = sm.GLM(positive, np.ones(len(odds)), sm.families.Binomial(), freq_weights=weight, offset=odds).fit(
            tol=1e-14
        )
        np.testing.assert_allclose(lines[row], full.params, atol=1e-9)
        assert large[row] == pytest.approx(alone.params[0], abs=1e-9)


def test_a_network_that_is_too_sure_has_a_slope_below_one() -> None:
    honest, sure = (
        {m.name: m for m in shift.calibration_intercepts_and_slopes(_said(2, 600, sharpness))}
        for sharpness in (1.0, 2.5)
    )
    assert honest["calibration_slope"].low < 1 < honest["calibration_slope"].high
    assert sure["calibration_slope"].high < 1
    assert sure["calibration_slope"].value == pytest.approx(honest["calibration_slope"].value / 2.5, abs=1e-6)


@pytest.mark.extended
def test_intervals_of_the_intercept_hold_the_truth() -> None:
    """How common the class is is part of the luck: draws within class would be far too narrow."""
    hits = 0
    for seed in range(200):
        found = {
            m.name: m for m in shift.calibration_intercepts_and_slopes(_said(1000 + seed, 80), draws=200, seed=seed)
        }
        hits += found["calibration_in_the_large"].low <= 0 <= found["calibration_in_the_large"].high
    assert hits >= 178  # of 200 at 95 %; within class about 120 hold


def test_classes_that_nothing_can_be_fitted_to_are_left_out() -> None:
    said = _said(3)
    assert shift.calibration_intercepts_and_slopes(replace(said, labels=np.zeros(len(said), dtype=int)), draws=50) == []
    split = replace(said, labels=(said.probs[:, 1] > 0.5).astype(int))
    assert "calibration_slope" not in {m.name for m in shift.calibration_intercepts_and_slopes(split, draws=50)}


def test_drift_is_seen_where_there_is_some() -> None:
    before, same, other = _said(4, 400), _said(5, 400), _said(6, 400, strange=2.0)

    def rows(now: Predictions) -> dict[tuple[str, str], dict[str, float]]:
        return {(row["what"], row["class"]): row for row in shift.measure_drift(before, now, draws=200)}

    calm, loud = rows(same), rows(other)
    assert calm["AUROC of how strange", ""]["now_low"] < 0.5 < calm["AUROC of how strange", ""]["now_high"]
    assert loud["AUROC of how strange", ""]["now_low"] > 0.8
    assert loud["share flagged as strange", ""]["now_low"] > loud["share flagged as strange", ""]["before_high"]
    assert calm["share called", "b"]["before"] == pytest.approx((before.predicted == 1).mean())
    assert calm["share truly", "a"]["now"] == pytest.approx((same.labels == 0).mean())  # type: ignore[union-attr]
