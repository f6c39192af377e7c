"""Weighted sets cover under a shift of scans that unweighted sets do not survive, and say when they cannot."""

import math

import numpy as np
import pytest

from scanwise.arrays import softmax
from scanwise.conformal import SCORES, ConformalSets, LikelihoodRatio, WeightedSets
from scanwise.errors import DataError, ShapeError
from scanwise.records import FloatArray, IntArray

SHIFT = np.array([0.0, 1.2])


def _scans(random: np.random.Generator, count: int, shift: float) -> tuple[FloatArray, FloatArray, IntArray]:
    """Two features, what a network says of them, and labels that are the less like that the larger the second is."""
    features = random.normal(size=(count, 2)) + shift * SHIFT
    logits = features[:, :1] * np.array([-2.0, 0.0, 2.0]) + np.array([0.0, 0.5, 0.0])
    law = softmax(logits / np.exp(0.9 * features[:, 1:]))
    labels = (random.random((count, 1)) > law.cumsum(axis=1)).sum(axis=1).clip(max=2)
    return features, softmax(logits), labels


def _true_ratio(features: FloatArray) -> FloatArray:
    return np.asarray(np.exp(features @ SHIFT - SHIFT @ SHIFT / 2))


def _names(count: int) -> np.ndarray:
    return np.arange(count).astype(str)


def test_true_weights_restore_what_the_shift_takes_and_wrong_ones_do_not() -> None:
    random, trials = np.random.default_rng(0), 300
    covered: dict[str, list[float]] = {"plain": [], "true": [], "learnt": [], "wrong": []}
    for _ in range(trials):
        features, probs, labels = _scans(random, 250, 0)
        new, asked, truth = _scans(random, 100, 1)
        ratio = LikelihoodRatio.fit(_scans(random, 300, 0)[0], _scans(random, 300, 1)[0])
        draws, fresh = random.random(250), random.random(100)
        rows = np.arange(100), truth
        options = {"alpha": 0.1, "score": "aps", "draws": draws}
        covered["plain"].append(ConformalSets.fit(probs, labels, **options)(asked, fresh)[rows].mean())  # type: ignore[arg-type]
        for name, weigh in (("true", _true_ratio), ("learnt", ratio), ("wrong", lambda x: 1 / _true_ratio(x))):
            sets = WeightedSets.fit(probs, labels, weigh(features), subjects=_names(250), **options)  # type: ignore[arg-type]
            covered[name].append(sets(asked, weigh(new), fresh)[rows].mean())
    means = {name: float(np.mean(values)) for name, values in covered.items()}
    errors = {name: float(np.std(values)) / math.sqrt(trials) for name, values in covered.items()}
    assert means["plain"] < 0.87
    assert means["true"] >= 0.9 - 3 * errors["true"]
    assert means["true"] <= 0.93
    assert abs(means["learnt"] - means["true"]) < 0.02
    assert means["wrong"] < means["plain"]


@pytest.mark.parametrize("score", SCORES)
def test_equal_weights_give_the_plain_sets(score: str) -> None:
    random = np.random.default_rng(1)
    _, probs, labels = _scans(random, 160, 0)
    draws = random.random(160)
    options = {"alpha": 0.15, "score": score, "penalty": 0.05, "k_reg": 1}
    plain = ConformalSets.fit(probs[:80], labels[:80], draws=draws[:80], **options)  # type: ignore[arg-type]
    for weight in (1.0, 0.3, 7e5):
        weighted = WeightedSets.fit(
            probs[:80], labels[:80], np.full(80, weight), subjects=_names(80), draws=draws[:80], **options
        )  # type: ignore[arg-type]
        assert (weighted.thresholds(np.full(3, weight)) == plain.threshold).all()
        np.testing.assert_array_equal(
            weighted(probs[80:], np.full(80, weight), draws[80:]), plain(probs[80:], draws[80:])
        )
        assert weighted.effective_count == pytest.approx(80)


def test_thresholds_equal_a_loop() -> None:
    random = np.random.default_rng(2)
    for _ in range(50):
        count = int(random.integers(1, 30))
        _, probs, labels = _scans(random, count, 0)
        weights = random.exponential(size=count) * (random.random(count) < 0.8) + 1e-3
        alpha, asked = float(random.choice([0.1, 0.3])), random.exponential(size=5)
        found = WeightedSets.fit(probs, labels, weights, alpha=alpha, score="lac", subjects=_names(count))
        for weight, cut in zip(asked, found.thresholds(asked), strict=True):
            mass, expected = 0.0, math.inf
            for score, own in sorted(zip(1 - probs[np.arange(count), labels], weights, strict=True)):
                mass += own / (weights.sum() + weight)
                if mass >= 1 - alpha:
                    expected = score
                    break
            assert cut == expected


def test_a_heavy_new_scan_gets_every_class_and_few_effective_scans_are_said() -> None:
    _, probs, labels = _scans(np.random.default_rng(3), 60, 0)
    weights = np.where(np.arange(60) < 4, 100.0, 0.001)
    sets = WeightedSets.fit(probs, labels, weights, alpha=0.1, subjects=_names(60))
    assert sets.effective_count == pytest.approx(4, abs=0.01)
    assert "worth 4.0 after weighting, and 90% coverage needs 9" in sets.warning
    assert sets(probs[:3], np.array([100.0, 1e-3, 1e6])).all(axis=1).tolist() == [True, False, True]
    assert WeightedSets.fit(probs, labels, np.ones(60), alpha=0.1, subjects=_names(60)).warning == ""


def test_the_ratio_is_the_odds_whatever_the_sizes_of_the_sides() -> None:
    random = np.random.default_rng(4)
    known, new = _scans(random, 20_000, 0)[0], _scans(random, 5_000, 1)[0]
    asked = random.normal(size=(50, 2))
    ratio = LikelihoodRatio.fit(known, new)
    np.testing.assert_allclose(np.log(ratio(asked)), np.log(_true_ratio(asked)), atol=0.2)
    constant = LikelihoodRatio.fit(np.column_stack([known, np.ones(20_000)]), np.column_stack([new, np.ones(5_000)]))
    np.testing.assert_allclose(constant(np.column_stack([asked, np.ones(50)])), ratio(asked), rtol=1e-6)


def test_bad_input_is_refused() -> None:
    _, probs, labels = _scans(np.random.default_rng(5), 20, 0)

    def fit(weights: FloatArray, subjects: np.ndarray = _names(20)) -> WeightedSets:  # noqa: B008
        return WeightedSets.fit(probs, labels, weights, alpha=0.1, subjects=subjects)

    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(DataError, match=r"negative, NaN or infinite\. Rows: 3"):
            fit(np.where(np.arange(20) == 3, wrong, 1.0))
    with pytest.raises(DataError, match="Every weight is zero"):
        fit(np.zeros(20))
    with pytest.raises(ShapeError, match="weight of each of 20"):
        fit(np.ones(19))
    with pytest.raises(DataError, match="Pool the scans of each first"):
        fit(np.ones(20), np.array(["a"] * 20))
    with pytest.raises(DataError, match="Give draws exactly"):
        fit(np.ones(20))(probs, np.ones(20), np.zeros(20))
    with pytest.raises(ShapeError, match=r"\(N, 2\)"):
        LikelihoodRatio.fit(np.eye(2), np.eye(2))(np.zeros((3, 5)))
    with pytest.raises(ShapeError, match=r"\(M, D\) and \(K, D\)"):
        LikelihoodRatio.fit(np.eye(2), np.eye(3))
    with pytest.raises(DataError, match="features that are NaN"):
        LikelihoodRatio.fit(np.eye(2), np.full((2, 2), np.nan))
