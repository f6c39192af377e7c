"""The same thresholds and sets as MAPIE and TorchCP where these are right; where they differ, why.

MAPIE comes with the tools of developers. TorchCP does not (it is LGPL and brings much else); the tests that need it run
where it is installed and skip elsewhere.
"""

import math
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedShuffleSplit

from scanwise.arrays import softmax
from scanwise.conformal import SCORES, ConformalSets
from scanwise.records import BoolArray, FloatArray, IntArray

SEED, KNOWN = 7, 240


def _network(num_classes: int, count: int = 640, seed: int = 0) -> tuple[FloatArray, IntArray]:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % num_classes
    return softmax(random.normal(size=(count, num_classes)) + 1.5 * np.eye(num_classes)[labels]), labels


class Given(ClassifierMixin, BaseEstimator):
    """A classifier that hands its input back as probabilities."""

    def fit(self, features: FloatArray, _: IntArray) -> "Given":
        self.classes_ = np.arange(features.shape[1])
        return self

    def predict_proba(self, features: FloatArray) -> FloatArray:
        return features

    def predict(self, features: FloatArray) -> IntArray:
        return np.asarray(features.argmax(axis=1))


def _mapie(score: Any, alpha: float, probs: FloatArray, labels: IntArray, **params: object) -> tuple[float, BoolArray]:
    """MAPIE's threshold from the first rows, and its sets of the others."""
    from mapie.classification import SplitConformalClassifier

    inner = Given().fit(probs, labels)
    fitted = SplitConformalClassifier(
        inner, confidence_level=1 - alpha, conformity_score=score, prefit=True, random_state=SEED
    )
    fitted.conformalize(probs[:KNOWN], labels[:KNOWN])
    found = fitted.predict_set(probs[KNOWN:], conformity_score_params=params)[1][:, :, 0]
    return float(score.quantiles_[0]), found


def _mapie_draws(count: int) -> FloatArray:
    """MAPIE subtracts a share u of the class's own mass where we add 1 - u of it; it draws anew for every call."""
    return np.asarray(1 - np.random.RandomState(SEED).uniform(size=count))


@pytest.fixture
def mapie_scores() -> Any:
    return pytest.importorskip("mapie.conformity_scores", reason="MAPIE is not installed")


@pytest.mark.parametrize("num_classes", [3, 4, 20])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_lac_is_mapies(mapie_scores: Any, num_classes: int, alpha: float) -> None:
    probs, labels = _network(num_classes)
    threshold, found = _mapie(mapie_scores.LACConformityScore(), alpha, probs, labels)
    ours = ConformalSets.fit(probs[:KNOWN], labels[:KNOWN], alpha=alpha, score="lac")
    assert ours.threshold == pytest.approx(threshold, abs=1e-12)
    np.testing.assert_array_equal(ours(probs[KNOWN:]), found)


@pytest.mark.parametrize("num_classes", [3, 4, 20])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_randomised_aps_is_mapies(mapie_scores: Any, num_classes: int, alpha: float) -> None:
    probs, labels = _network(num_classes)
    score = mapie_scores.APSConformityScore()
    threshold, found = _mapie(score, alpha, probs, labels, include_last_label="randomized")
    ours = ConformalSets.fit(probs[:KNOWN], labels[:KNOWN], alpha=alpha, score="aps", draws=_mapie_draws(KNOWN))
    assert ours.threshold == pytest.approx(threshold, abs=1e-12)
    np.testing.assert_array_equal(ours(probs[KNOWN:], _mapie_draws(len(probs) - KNOWN)), found)


def test_mapies_default_aps_is_larger_because_only_its_threshold_is_randomised(mapie_scores: Any) -> None:
    """Scores of calibration rows lose a share of their own mass, those of new classes do not lose any, and the class
    that passes the threshold is put in as well: the sets are ours and more."""
    probs, labels = _network(4)
    score = mapie_scores.APSConformityScore()
    threshold, found = _mapie(score, 0.1, probs, labels)
    ours = ConformalSets.fit(probs[:KNOWN], labels[:KNOWN], alpha=0.1, score="aps", draws=_mapie_draws(KNOWN))
    assert ours.threshold == pytest.approx(threshold, abs=1e-12)
    for seed in range(5):
        sets = ours(probs[KNOWN:], np.random.default_rng(seed).random(len(probs) - KNOWN))
        assert (found | ~sets).all()
        assert found.sum() > 1.1 * sets.sum()


@pytest.mark.parametrize("num_classes", [4, 20])
def test_raps_has_mapies_threshold_at_mapies_lambda_and_k(mapie_scores: Any, num_classes: int) -> None:
    """MAPIE sets calibration rows aside to choose lambda and k (a tenth: it loses the fifth that was asked for); on the
    others the scores are the same.

    Its sets are not, for two reasons. By default the class that passes the threshold is put in as well, which covers
    more than was asked for. With `include_last_label="randomized"` that class is left out by a rule that divides by
    its mass less a penalty, where the calibration scores divided by its mass: new classes are not scored as
    calibration labels were, and nothing is promised then. Ours score both alike.
    """
    probs, labels = _network(num_classes)
    score = mapie_scores.RAPSConformityScore(size_raps=0.2)
    threshold, found = _mapie(score, 0.1, probs, labels)
    split = StratifiedShuffleSplit(n_splits=1, test_size=score.size_raps, random_state=SEED)
    kept = next(split.split(probs[:KNOWN], labels[:KNOWN]))[0]
    penalty, k_reg = float(score.lambda_star), int(score.k_star[0])
    ours = ConformalSets.fit(
        probs[kept], labels[kept], alpha=0.1, penalty=penalty, k_reg=k_reg, draws=_mapie_draws(len(kept))
    )
    assert ours.threshold == pytest.approx(threshold, abs=1e-12)
    sets = ours(probs[KNOWN:], np.random.default_rng(0).random(len(probs) - KNOWN))
    assert (found | ~sets).all()
    assert found.sum() > 1.05 * sets.sum()


def test_mapie_refuses_where_we_answer_with_every_class(mapie_scores: Any) -> None:
    probs, labels = _network(4, 40)
    ours = ConformalSets.fit(probs[:8], labels[:8], alpha=0.1, score="lac")
    assert math.isinf(ours.threshold)
    assert ours(probs).all()
    from mapie.classification import SplitConformalClassifier

    fitted = SplitConformalClassifier(Given().fit(probs, labels), confidence_level=0.9, prefit=True)
    fitted.conformalize(probs[:8], labels[:8])
    with pytest.raises(ValueError, match=r"Number of samples of the score is too low"):
        fitted.predict_set(probs)


@pytest.fixture
def torchcp() -> Any:
    """TorchCP's split predictor, its threshold and its sets, on float64."""
    pytest.importorskip("torchcp.classification.score", reason="TorchCP is not installed")
    import torch
    from torchcp.classification import score as scores
    from torchcp.classification.predictor import SplitPredictor

    def run(name: str, probs: FloatArray, labels: IntArray, alpha: float, **options: object) -> tuple[float, BoolArray]:
        score = getattr(scores, name)(score_type="identity", **options)
        with pytest.warns(DeprecationWarning, match="temperature"):
            predictor = SplitPredictor(score)
        predictor.calculate_threshold(torch.from_numpy(probs[:KNOWN]), torch.from_numpy(labels[:KNOWN]), alpha)
        found = predictor.predict_with_logits(torch.from_numpy(probs[KNOWN:]))
        return float(predictor.q_hat), np.asarray(found).astype(bool)

    return run


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("num_classes", [3, 20])
@pytest.mark.parametrize(
    ("ours", "theirs", "options", "mine"),
    [
        ("lac", "LAC", {}, {}),
        ("aps", "APS", {"randomized": False}, {}),
        ("raps", "RAPS", {"randomized": False, "penalty": 0.0625, "kreg": 2}, {"penalty": 0.0625, "k_reg": 2}),
    ],
)
def test_scores_without_draws_are_torchcps(
    torchcp: Any, ours: str, theirs: str, options: dict[str, Any], mine: dict[str, Any], num_classes: int, alpha: float
) -> None:
    probs, labels = _network(num_classes)
    threshold, found = torchcp(theirs, probs, labels, alpha, **options)
    sets = ConformalSets.fit(probs[:KNOWN], labels[:KNOWN], alpha=alpha, score=ours, **mine)
    assert sets.threshold == pytest.approx(threshold, abs=1e-12)
    mine_too = SCORES[ours].of_all(probs[KNOWN:], np.ones(len(found)), mine.get("penalty", 0.0), mine.get("k_reg", 0))
    edge = np.abs(mine_too - threshold) < 1e-9
    np.testing.assert_array_equal(sets(probs[KNOWN:])[~edge], found[~edge])
    assert sets(probs[KNOWN:])[edge].all()  # scores are sums, and 1 + 2e-16 is no more than 1; TorchCP leaves those out
    assert ours == "lac" or num_classes > 3 or alpha > 0.05 or not found[edge].all()


@pytest.mark.parametrize("score", ["aps", "raps", "saps"])
def test_scores_with_draws_have_torchcps_law(torchcp: Any, score: str) -> None:
    """TorchCP draws for every class of a new row, we once for the row. One class alone lies across the threshold, so
    that only one draw decides: each set is one of two, with the same chances."""
    import torch

    torch.manual_seed(0)
    probs, labels = _network(6, 12_000)
    options = {"aps": {}, "raps": {"penalty": 0.05, "kreg": 1}, "saps": {"weight": 0.1}}[score]
    mine = {"aps": {}, "raps": {"penalty": 0.05, "k_reg": 1}, "saps": {"penalty": 0.1}}[score]
    threshold, found = torchcp(score.upper(), probs, labels, 0.1, **options)
    fitted = ConformalSets(score, 0.1, threshold, randomised=True, **mine)  # type: ignore[arg-type]
    new = probs[KNOWN:]
    draws = np.random.default_rng(0).random(len(new))
    sets, least, most = (fitted(new, u) for u in (draws, np.full(len(new), 1 - 1e-9), np.zeros(len(new))))
    assert ((least <= found) & (found <= most)).all()
    assert (most.sum(axis=1) - least.sum(axis=1)).max() <= 1
    assert found.sum(axis=1).mean() == pytest.approx(sets.sum(axis=1).mean(), rel=0.01)
    known = ConformalSets.fit(
        probs[:KNOWN], labels[:KNOWN], alpha=0.1, score=score, draws=np.random.default_rng(1).random(KNOWN), **mine
    )  # type: ignore[arg-type]
    assert abs(known.threshold - threshold) < 0.1  # of the same law, from other draws


def test_torchcps_saps_without_draws_scores_labels_and_classes_differently(torchcp: Any) -> None:
    """A label of rank one scores zero in calibration, its whole mass in prediction: what is promised is not kept."""
    probs, labels = _network(6, 4000)
    probs = softmax(3 * np.log(probs))
    threshold, found = torchcp("SAPS", probs, labels, 0.5, weight=0.1, randomized=False)
    ours = ConformalSets.fit(probs[:KNOWN], labels[:KNOWN], alpha=0.5, score="saps", penalty=0.1)
    row, truth = np.arange(len(found)), labels[KNOWN:]
    assert threshold < ours.threshold
    assert found[row, truth].mean() < 0.4
    assert ours(probs[KNOWN:])[row, truth].mean() > 0.45


def test_torchcp_forgets_nothing_of_the_scores() -> None:
    """Every score that has a peer is compared above; a new one must be, or say here that it has none."""
    assert set(SCORES) == {"lac", "aps", "raps", "saps", "ordinal"}  # no peer has the ordinal score
