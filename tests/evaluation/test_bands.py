"""Bands hold the curve of those who were drawn, and cover that of the population about as often as they say."""

import numpy as np
import pytest

from scanwise import evaluation
from scanwise.evaluation import bands
from scanwise.records import Predictions


def people(seed: int, count: int = 120, scans: int = 1) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 2, count), scans)
    person = np.repeat(rng.normal(size=count), scans)
    chance = 1 / (1 + np.exp(-(1.2 * labels - 0.6 + person)))
    names = np.array([f"s{row}" for row in range(count * scans)])
    subjects = np.repeat([f"p{row}" for row in range(count)], scans)
    return Predictions(
        names, subjects, ("no", "yes"), np.column_stack([1 - chance, chance]), None, np.zeros(len(names)),
        np.zeros(len(names), dtype=bool), labels, {}, "scan",
    )  # fmt: skip


def parts(predictions: Predictions):
    return predictions.probs[:, 1], np.asarray(predictions.labels) == 1, bands.draw_weights(predictions)


def test_the_curve_itself_is_within_its_band() -> None:
    predictions = people(0)
    scores, positive, weights = parts(predictions)
    band = bands.roc_band(scores, positive, weights)
    false, true = evaluation.roc_curve(predictions.probs, predictions.labels, 1)
    at = np.interp(band.x, false, true)
    assert ((band.low <= at + 0.02) & (at <= band.high + 0.02)).all()
    assert (np.diff(band.low) >= -1e-12).all()
    precise = bands.precision_recall_band(scores, positive, weights)
    assert (precise.low <= precise.high).all()
    assert 0 <= precise.low.min() <= precise.high.max() <= 1


def test_net_benefit_without_resampling_is_that_of_the_decision_curve() -> None:
    predictions = people(1)
    curve = evaluation.decision_curve(predictions, 1)
    band = bands.net_benefit_band(
        predictions.probs[:, 1], np.asarray(predictions.labels) == 1, np.ones((2, len(predictions))), curve["threshold"]
    )
    np.testing.assert_allclose(band.low, curve["network"], atol=1e-12)


def test_scans_of_a_person_are_drawn_together() -> None:
    weights = bands.draw_weights(people(2, 40, 5)).reshape(bands.DRAWS, 40, 5)
    assert (weights == weights[..., :1]).all()


@pytest.mark.extended
def test_bands_cover_the_curve_of_the_population() -> None:
    """Sensitivity at 30 % false alarms, over 200 cohorts; 95 % wanted, bands of percentiles give a little less."""
    population = people(99, 200_000)
    false, true = evaluation.roc_curve(population.probs, population.labels, 1)
    truth = float(np.interp(0.3, false, true))
    held = []
    for seed in range(200):
        band = bands.roc_band(*parts(people(seed)))
        held.append(band.low[30] <= truth <= band.high[30])
    assert 0.88 <= np.mean(held) <= 0.99


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"), [(9, 10, 0.5958, 0.9821), (0, 10, 0.0, 0.2775), (0, 0, 0.0, 1.0)]
)
def test_wilson_is_that_of_the_reference(hits: int, count: int, low: float, high: float) -> None:
    """statsmodels.stats.proportion.proportion_confint(…, method="wilson")."""
    found = bands.wilson_interval(np.array([float(hits)]), np.array([float(count)]))
    np.testing.assert_allclose(np.ravel(found), [low, high], atol=1e-4)
