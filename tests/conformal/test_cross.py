"""Cross-conformal sets: what they promise is kept on exchangeable people, and not by scores of people who were seen."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanwise.arrays import softmax
from scanwise.conformal import SCORES, ConformalSets, CrossSets, sets_from_dict
from scanwise.errors import DataError, ShapeError
from scanwise.records import FloatArray, IntArray

TRIALS, CLASSES, FEATURES = 200, 3, 6


def _people(random: np.random.Generator, count: int) -> tuple[FloatArray, IntArray]:
    labels = random.integers(0, CLASSES, count)
    return random.normal(size=(count, FEATURES)) + 0.8 * np.eye(CLASSES, FEATURES)[labels], labels


def _nearest(seen: FloatArray, labels: IntArray, asked: FloatArray) -> FloatArray:
    """Probabilities of a learner that knows by heart whom it has seen: by the nearest person of each class."""
    away = ((asked[:, None] - seen) ** 2).sum(axis=2)
    nearest = [away[:, labels == c].min(axis=1, initial=50.0) for c in range(CLASSES)]
    return softmax(-np.stack(nearest, axis=1))


def _coverage(seed: int, people: int, folds: int, alpha: float, score: str, *, seen: bool = False) -> float:
    """Share of new persons whose set holds their class; `seen` takes the scores of people from a member that saw them."""
    random, covered = np.random.default_rng(seed), 0
    for _ in range(TRIALS):
        features, labels = _people(random, people + 1)
        fold, new = random.permutation(people) % folds, slice(people, None)
        taught = [np.flatnonzero(fold != member) for member in range(folds)]
        members = np.stack([_nearest(features[rows], labels[rows], features) for rows in taught], axis=1)
        own = members[np.arange(people), (fold + seen) % folds]
        draws = random.random(people + 1) if SCORES[score].randomised else None
        known, drawn = (None, None) if draws is None else (draws[:people], draws[new])
        sets = CrossSets.fit(own, labels[:people], fold, alpha=alpha, score=score, draws=known)
        covered += int(sets(members[new], drawn)[0, labels[people]])
    return covered / TRIALS


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    people=st.integers(15, 40),
    folds=st.integers(3, 8),
    alpha=st.sampled_from([0.1, 0.2, 0.35]),
    score=st.sampled_from(["lac", "raps"]),
)
def test_at_least_one_less_twice_alpha_of_exchangeable_people_are_covered(
    seed: int, people: int, folds: int, alpha: float, score: str
) -> None:
    promise = 1 - 2 * alpha
    assert _coverage(seed, people, folds, alpha, score) >= promise - 4 * np.sqrt(promise * (1 - promise) / TRIALS)


def test_scores_of_people_whom_the_member_has_seen_break_the_promise() -> None:
    assert _coverage(0, 40, 8, 0.1, "lac") > 0.8
    assert _coverage(0, 40, 8, 0.1, "lac", seen=True) < 0.6


def test_a_class_enters_by_comparison_with_each_person_under_the_member_of_their_fold() -> None:
    random, folds = np.random.default_rng(1), np.arange(60) % 3
    own, labels = softmax(random.normal(size=(60, 4))), random.integers(0, 4, 60)
    members = softmax(random.normal(size=(5, 3, 4)))
    sets = CrossSets.fit(own, labels, folds, alpha=0.2, score="lac")
    scores = 1 - own[np.arange(60), labels]
    below = (scores < 1 - members[:, folds].transpose(0, 2, 1)).sum(axis=2)
    assert (sets(members) == (below < (1 - sets.level) * 61)).all()


def test_the_promise_is_weaker_and_said_and_a_file_keeps_it() -> None:
    random = np.random.default_rng(2)
    own, labels, folds = softmax(random.normal(size=(90, 2))), random.integers(0, 2, 90), np.arange(90) % 10
    sets = CrossSets.fit(own, labels, folds, alpha=0.1, score="lac")
    assert sets.coverage == pytest.approx(0.8)
    assert ConformalSets.fit(own, labels, alpha=0.1, score="lac").coverage == pytest.approx(0.9)
    assert "guarantee 80% coverage, not 90%" in sets.warning
    assert sets_from_dict(json.loads(json.dumps(sets.to_dict()))) == sets


def test_too_few_people_promise_nothing_and_name_every_class() -> None:
    own, labels = np.tile([[0.9, 0.1]], (9, 1)), np.zeros(9, dtype=np.int64)
    sets = CrossSets.fit(own, labels, np.arange(9) % 3, alpha=0.1, score="lac")
    assert sets.coverage == 0
    assert "every set holds every class" in sets.warning
    assert sets(np.tile([[[0.9, 0.1]]], (1, 3, 1))).all()


def test_members_draws_and_files_that_do_not_belong_are_refused() -> None:
    own, labels = np.tile([[0.9, 0.1]], (30, 1)), np.zeros(30, dtype=np.int64)
    sets = CrossSets.fit(own, labels, np.arange(30) % 3, alpha=0.1, score="lac")
    with pytest.raises(ShapeError, match="of all members"):
        sets(np.tile([[[0.9, 0.1]]], (1, 2, 1)))
    with pytest.raises(DataError, match="without draws"):
        sets(np.tile([[[0.9, 0.1]]], (1, 3, 1)), np.zeros(1))
    with pytest.raises(DataError, match="none empty"):
        CrossSets.fit(own, labels, np.arange(30) % 3 * 2, alpha=0.1, score="lac")
    with pytest.raises(DataError, match="numbers that rise"):
        sets_from_dict({**sets.to_dict(), "scores": [[0.2, 0.1], [0.1]]})
