"""Tests of exchangeability: no more false alarms than they say, people counted once, and shifts found."""

import numpy as np
import pytest

from scanwise.conformal import ShiftTest, compare_features, compare_scores
from scanwise.errors import DataError, ShapeError
from scanwise.records import FloatArray, StrArray


def _people(random: np.random.Generator, counts: list[int], shift: float, width: int) -> tuple[FloatArray, StrArray]:
    """Values (N, width) of people with so many scans each, alike within a person; `shift` moves the first column."""
    owner = np.repeat(np.arange(len(counts)), counts)
    own, noise = random.normal(size=(len(counts), width)), random.normal(size=(len(owner), width))
    values = np.sqrt(0.9) * own[owner] + np.sqrt(0.1) * noise
    values[:, 0] += shift
    return values, np.char.add(f"{random.integers(1 << 40)}:", owner.astype(str))


def _compare(kind: str, random: np.random.Generator, shift: float, seed: int) -> ShiftTest:
    width = 1 if kind == "scores" else 30
    known, known_subjects = _people(random, [8] * 25, 0.0, width)
    new, new_subjects = _people(random, random.integers(1, 12, 20).tolist(), shift, width)
    subjects = {"calibration_subjects": known_subjects, "new_subjects": new_subjects}
    if kind == "scores":
        return compare_scores(known[:, 0].round(1), new[:, 0].round(1), permutations=99, seed=seed, **subjects)
    return compare_features(known, new, permutations=99, seed=seed, **subjects)


@pytest.mark.parametrize("kind", ["scores", "features"])
def test_people_drawn_alike_raise_as_few_alarms_as_stated(kind: str) -> None:
    """Scans of a person correlate at 0.9: whoever counts scans raises an alarm nearly always."""
    random = np.random.default_rng(0)
    found = np.array([_compare(kind, random, 0.0, trial).p_value for trial in range(400)])
    for level in (0.05, 0.1, 0.5):
        noise = 4 * np.sqrt(level * (1 - level) / 400)
        assert (found <= level + 1e-9).mean() <= level + noise
        assert (found <= level + 1e-9).mean() >= level - noise - 0.02  # ties of few values make it a little shy
    assert found.min() >= 0.01


@pytest.mark.parametrize(("kind", "shift"), [("scores", 1.5), ("features", 3.0)])
def test_a_shift_is_found(kind: str, shift: float) -> None:
    random = np.random.default_rng(1)
    found = [_compare(kind, random, shift, trial) for trial in range(40)]
    assert np.mean([each.p_value <= 0.05 for each in found]) > 0.9
    assert (found[0].calibration, found[0].new) == (25, 20)


def test_the_gap_equals_scipy_where_everyone_has_one_scan() -> None:
    from scipy.stats import ks_2samp

    random = np.random.default_rng(2)
    for _ in range(20):
        known, new = random.integers(0, 9, 30) / 3, random.integers(1, 11, 17) / 3
        names = [np.char.add(side, np.arange(len(x)).astype(str)) for side, x in (("a", known), ("b", new))]
        found = compare_scores(known, new, calibration_subjects=names[0], new_subjects=names[1], permutations=4000)
        assert found.statistic == pytest.approx(ks_2samp(known, new).statistic, abs=1e-12)


def test_each_subject_is_as_heavy_as_another() -> None:
    """One person of a hundred scans beside four of one: a gap of a fifth, not of nearly all."""
    known = np.concatenate([np.full(100, 5.0), [1.0, 2, 3, 4]])
    subjects = np.array(["a"] * 100 + list("bcde"))
    found = compare_scores(known, np.arange(1.0, 5), calibration_subjects=subjects, new_subjects=np.array(list("wxyz")))
    assert found.statistic == pytest.approx(0.2)


def test_guesses_are_those_of_regressions_that_left_the_subject_out() -> None:
    from sklearn.linear_model import Ridge
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(3)
    known, new = random.normal(size=(22, 60)), random.normal(size=(18, 60)) + 0.4
    names = np.arange(40).astype(str)
    found = compare_features(known, new, calibration_subjects=names[:22], new_subjects=names[22:])
    rows, truth = np.concatenate([known, new]), np.repeat([0, 1], [22, 18])
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    alpha, guess = (rows**2).sum() / 40, []  # the squared singular values sum to this, over 40 of them
    for row in range(40):
        rest = np.arange(40) != row
        guess.append(Ridge(alpha=alpha).fit(rows[rest], truth[rest]).predict(rows[[row]])[0])
    assert 0.5 < roc_auc_score(truth, guess) < 1
    assert found.statistic == pytest.approx(roc_auc_score(truth, guess), abs=1e-9)


def test_constant_features_and_infinite_scores_break_nothing() -> None:
    names = np.arange(20).astype(str)
    subjects = {"calibration_subjects": names[:12], "new_subjects": names[12:]}
    assert compare_features(np.ones((12, 3)), np.ones((8, 3)), **subjects).p_value == 1
    scores = np.where(np.arange(20) % 4 == 0, np.inf, 1.0)
    assert compare_scores(scores[:12], scores[12:], **subjects).p_value > 0.5
    assert "are not seen to differ (p = 1)" in str(compare_scores(np.ones(12), np.ones(8), **subjects))


def test_bad_input_is_refused() -> None:
    names = np.arange(20).astype(str)
    subjects = {"calibration_subjects": names[:12], "new_subjects": names[12:]}
    with pytest.raises(DataError, match="Rows: 13"):
        compare_scores(np.zeros(12), np.array([0, np.nan, 0, 0, 0, 0, 0, 0]), **subjects)
    with pytest.raises(DataError, match="1 subjects are on both sides, such as '11'"):
        compare_scores(np.zeros(12), np.zeros(8), calibration_subjects=names[:12], new_subjects=names[11:19])
    with pytest.raises(DataError, match="needs scans on both sides"):
        compare_scores(np.zeros(12), np.zeros(0), calibration_subjects=names[:12], new_subjects=names[:0])
    with pytest.raises(ShapeError, match="subject of each of 12"):
        compare_scores(np.zeros(12), np.zeros(8), calibration_subjects=names[:11], new_subjects=names[12:])
    with pytest.raises(ShapeError, match="one number a scan"):
        compare_scores(np.zeros((12, 2)), np.zeros((8, 2)), **subjects)
    with pytest.raises(ShapeError, match=r"\(N, D\) and \(M, D\)"):
        compare_features(np.zeros((12, 2)), np.zeros((8, 3)), **subjects)
    with pytest.raises(DataError, match="at least one permutation"):
        compare_scores(np.zeros(12), np.zeros(8), permutations=0, **subjects)
