"""CV+ keeps its weaker promise, usually the stronger one as well, and equals its definition."""

import numpy as np
import pytest

from scanwise.arrays import softmax
from scanwise.conformal import CrossSets
from scanwise.errors import DataError, ShapeError
from scanwise.records import FloatArray, IntArray


def _network(random: np.random.Generator, count: int, num_classes: int) -> tuple[FloatArray, IntArray]:
    labels = random.integers(0, num_classes, count)
    return softmax(1.5 * random.normal(size=(count, num_classes)) + 3 * np.eye(num_classes)[labels]), labels


def test_cross_sets_keep_their_weaker_promise_and_usually_the_stronger() -> None:
    """Networks are nearest class means of 2 features, learnt on all folds but one of 40 subjects."""
    random = np.random.default_rng(11)
    covered, alpha = [], 0.1
    for _ in range(300):
        labels = random.integers(0, 3, 140)
        points = random.normal(size=(140, 2)) + 1.5 * np.array([[1, 0], [-1, 1], [-1, -1]])[labels]
        folds, draws = np.arange(40) % 5, random.random(140)
        networks = []
        for fold in range(5):
            seen = folds != fold
            means = [
                points[:40][seen & (labels[:40] == c)].mean(axis=0)
                if (seen & (labels[:40] == c)).any()
                else np.zeros(2)
                for c in range(3)
            ]
            networks.append(softmax(-((points[:, None] - np.array(means)) ** 2).sum(axis=2)))
        held_out = np.stack([networks[fold][row] for row, fold in enumerate(folds)])
        sets = CrossSets.fit(held_out, labels[:40], folds, alpha=alpha, score="aps", draws=draws[:40])
        found = sets([probs[40:] for probs in networks], draws[40:])
        covered.append(found[np.arange(100), labels[40:]].mean())
    assert sets.promise == pytest.approx(1 - 0.2 - min(1.6 / 9, (1 - 5 / 40) / 6))
    assert np.mean(covered) >= 1 - alpha - 0.01
    assert "CV+" in sets.warning


def test_cross_sets_equal_a_loop() -> None:
    random = np.random.default_rng(12)
    probs, labels = _network(random, 30, 4)
    folds = random.permutation(np.arange(30) % 3)
    networks = [_network(random, 8, 4)[0] for _ in range(3)]
    found = CrossSets.fit(probs, labels, folds, alpha=0.2, score="lac")(networks)
    for row in range(8):
        for index in range(4):
            below = sum(1 - probs[i, labels[i]] < 1 - networks[folds[i]][row, index] for i in range(30))
            assert found[row, index] == (below < 0.8 * 31)
    tied = CrossSets("lac", 0.5, ((0.25,), (0.25,)))
    assert tied([np.array([[0.75, 0.25]])] * 2).tolist() == [[True, False]]
    with pytest.raises(ShapeError, match="3 networks"):
        CrossSets.fit(probs, labels, folds, alpha=0.2)(networks[:2])
    with pytest.raises(DataError, match="Expected a fold"):
        CrossSets.fit(probs, labels, np.zeros(30, dtype=int), alpha=0.2)
