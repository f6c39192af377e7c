"""Coverage over a thousand calibration sides: what is promised is kept by every score under every condition.

Means may fall short, or pass the upper bound, by chance: by `slack` standard errors, chosen so that one run in a hundred
of the whole grid fails where every promise is kept exactly.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from scanwise.arrays import softmax
from scanwise.conformal import SCORES, ConditionalSets, ConformalSets
from scanwise.records import BoolArray, FloatArray, IntArray
from scanwise.risk import minimum_count

TRIALS, FRESH = 1000, 40
COUNTS, CLASSES, ALPHAS = (20, 50, 100, 1000), (4, 100), (0.1, 0.05)
CASES = len(SCORES) * 2 * len(COUNTS) * len(CLASSES) * len(ALPHAS)
SLACK = float(norm.isf(0.01 / (2 * CASES)))

pytestmark = pytest.mark.slow


def _network(random: np.random.Generator, labels: IntArray, num_classes: int) -> FloatArray:
    """Probabilities of an overconfident network."""
    logits = 1.5 * random.standard_normal((len(labels), num_classes))
    logits[np.arange(len(labels)), labels] += 3
    return softmax(logits)


def _kinds() -> Iterator[tuple[str, bool, float]]:
    for score in SCORES:
        for randomised in (True, False):
            for alpha in ALPHAS:
                yield score, randomised, alpha


def _held(mean: float, error: float, alpha: float, told: str, most: float = 1.0) -> None:
    print(f"{told}: {mean:.4f} ± {error:.4f}")  # noqa: T201
    assert mean >= 1 - alpha - SLACK * error, told
    assert mean <= most + SLACK * error, told


@pytest.mark.parametrize("num_classes", CLASSES)
@pytest.mark.parametrize("n", COUNTS)
def test_every_score_covers_everyone(n: int, num_classes: int) -> None:
    random = np.random.default_rng([n, num_classes])
    covered = {kind: np.empty(TRIALS) for kind in _kinds()}
    for trial in range(TRIALS):
        labels, draws = random.integers(0, num_classes, n + FRESH), random.random(n + FRESH)
        probs = _network(random, labels, num_classes)
        for (score, randomised, alpha), found in covered.items():
            known, new = (draws[:n], draws[n:]) if randomised else (None, None)
            sets = ConformalSets.fit(
                probs[:n], labels[:n], alpha=alpha, score=score, penalty=0.05, k_reg=1, draws=known
            )
            found[trial] = sets(probs[n:], new)[np.arange(FRESH), labels[n:]].mean()
    for (score, randomised, alpha), found in covered.items():
        exact = randomised or score == "lac"  # no ties, empty sets allowed
        most = 1 - alpha + 1 / (n + 1) if exact and n >= minimum_count(alpha) else 1.0
        told = f"{score}{' randomised' if randomised else ''}, {num_classes} classes, n {n}, alpha {alpha}"
        _held(found.mean(), found.std() / math.sqrt(TRIALS), alpha, told, most)


@pytest.mark.parametrize("by", ["class", "group"])
@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("score", SCORES)
def test_every_cell_is_covered(score: str, n: int, by: str) -> None:
    """Classes of which one is rare and hard, groups of which each blurs the probabilities in its way. Merged cells are
    promised to together, so the coverage of a merged cell is what is looked at."""
    random = np.random.default_rng([n, len(by)])
    hits: dict[tuple[float, tuple[str, ...]], list[tuple[int, int]]] = {}
    for _ in range(TRIALS):
        labels = random.choice(4, n + FRESH, p=[0.4, 0.3, 0.2, 0.1])
        probs, draws = _network(random, labels, 4), random.random(n + FRESH)
        groups = random.integers(0, 3, n + FRESH)
        probs = probs ** np.array([1.0, 0.5, 0.1])[groups][:, None]
        probs /= probs.sum(axis=1, keepdims=True)
        values = labels.astype(str) if by == "class" else groups.astype(str)
        given, asked = (None, None) if by == "class" else (values[:n], values[n:])
        for alpha in ALPHAS:
            sets = ConditionalSets.fit(
                probs[:n], labels[:n], alpha=alpha, groups=given, score=score, penalty=0.05, k_reg=1, draws=draws[:n]
            )
            inside = sets(probs[n:], draws[n:], asked)[np.arange(FRESH), labels[n:]]
            for cell in sets.cells:
                rows = np.isin(values[n:], cell)
                hits.setdefault((alpha, cell), []).append((int(inside[rows].sum()), int(rows.sum())))
    for (alpha, cell), pairs in hits.items():
        if len(pairs) >= 200:  # a way to merge that is rare depends on how many there happen to be
            held, asked_for = np.array(pairs, dtype=float).T
            mean = held.sum() / asked_for.sum()
            error = math.sqrt(((held - mean * asked_for) ** 2).sum()) / asked_for.sum()
            told = f"{score} by {by} {'+'.join(cell)} ({len(pairs)} trials), n {n}, alpha {alpha}"
            _held(float(mean), max(error, 1e-4), alpha, told)


def _people(random: np.random.Generator, count: int, scans: int) -> tuple[FloatArray, IntArray, FloatArray]:
    """Scans of a person share a label and most of their logits."""
    labels = random.integers(0, 4, count).repeat(scans)
    own = random.standard_normal((count, 4)).repeat(scans, axis=0)
    logits = 1.5 * (np.sqrt(0.9) * own + np.sqrt(0.1) * random.standard_normal(own.shape))
    logits[np.arange(len(labels)), labels] += 3
    return softmax(logits), labels, random.random(len(labels))


@pytest.mark.parametrize("n", [20, 50, 100])
@pytest.mark.parametrize("score", SCORES)
def test_new_people_are_covered(score: str, n: int) -> None:
    """A random scan of a new person by the hierarchical quantile, and all scans of a new person at once."""
    random, scans = np.random.default_rng([n, 3]), 8
    names = np.arange(n).astype(str).repeat(scans)
    found: dict[tuple[float, bool], list[float]] = {(alpha, whole): [] for alpha in ALPHAS for whole in (False, True)}
    for _ in range(TRIALS):
        probs, labels, draws = _people(random, n, scans)
        new, truth, fresh = _people(random, 10, scans)
        for alpha, whole in found:
            options: dict[str, Any] = {"alpha": alpha, "score": score, "penalty": 0.05, "k_reg": 1}
            sets = ConformalSets.fit(probs, labels, subjects=names, draws=draws, every_scan=whole, **options)
            inside: BoolArray = sets(new, fresh)[np.arange(len(truth)), truth].reshape(10, scans)
            found[alpha, whole].append(float(inside.all(axis=1).mean() if whole else inside.mean()))
    for (alpha, whole), shares in found.items():
        told = f"{score}, {'all scans' if whole else 'a random scan'} of a new person, {n} people, alpha {alpha}"
        most = 1 - alpha + 1 / (n + 1) if whole else 1.0
        _held(float(np.mean(shares)), float(np.std(shares)) / math.sqrt(TRIALS), alpha, told, most)
