"""Prediction sets: equal to a loop, and covering what they promise."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from scanwise.arrays import softmax
from scanwise.conformal import SCORES, ConditionalSets, ConformalSets, coverage_lines, draws_from, size_lines
from scanwise.errors import DataError, RecipeError, ShapeError
from scanwise.records import BoolArray, FloatArray, IntArray
from scanwise.risk import clopper_pearson, coverage_band


def _network(random: np.random.Generator, count: int, num_classes: int) -> tuple[FloatArray, IntArray]:
    """Probabilities of an overconfident network that is right more often than not, and labels."""
    labels = random.integers(0, num_classes, count)
    logits = 1.5 * random.normal(size=(count, num_classes)) + 3 * np.eye(num_classes)[labels]
    return softmax(logits), labels


def _names(count: int, each: int = 1) -> np.ndarray:
    return np.array([f"s{i // each}" for i in range(count)])


def _loop_scores(score: str, row: FloatArray, draw: float, penalty: float, k_reg: int) -> list[float]:
    """The definition of each score, class by class."""
    num_classes = len(row)
    if score == "lac":
        return [1 - p for p in row]
    order = sorted(range(num_classes), key=lambda c: (-row[c], c))
    if score == "saps":
        tail = [max(row) + (place - 1 + draw) * penalty for place in range(1, num_classes)]
        along = [draw * max(row), *tail]
        return [along[order.index(c)] for c in range(num_classes)]
    if score == "ordinal":
        order = order[:1]
        while len(order) < num_classes:
            low, high = min(order) - 1, max(order) + 1
            down = row[low] if low >= 0 else -1
            up = row[high] if high < num_classes else -1
            order.append(low if down >= up else high)
    found = [0.0] * num_classes
    for place, c in enumerate(order):
        found[c] = sum(row[other] for other in order[:place]) + draw * row[c]
        if score == "raps":
            found[c] += penalty * max(0, place + 1 - k_reg)
    return found


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("randomised", [False, True])
@pytest.mark.parametrize("score", SCORES)
def test_thresholds_and_sets_equal_a_loop(score: str, randomised: bool, tied: bool) -> None:
    random = np.random.default_rng(0)
    for num_classes, penalty, k_reg in [(2, 0.0, 0), (3, 0.05, 1), (7, 0.2, 2), (12, 0.01, 0), (90, 0.0, 0)]:
        probs, labels = _network(random, 120, num_classes)
        if tied:
            probs = np.round(probs * 8) + 0.1
            probs /= probs.sum(axis=1, keepdims=True)
        draws = random.random(120) if randomised else None
        ours = ConformalSets.fit(
            probs[:60], labels[:60], alpha=0.2, score=score, penalty=penalty, k_reg=k_reg,
            draws=None if draws is None else draws[:60],
        )  # fmt: skip
        numbers = np.ones(120) if draws is None else draws
        scores = [_loop_scores(score, p, u, penalty, k_reg) for p, u in zip(probs, numbers, strict=True)]
        known = sorted(scores[i][labels[i]] for i in range(60))
        assert ours.threshold == pytest.approx(known[math.ceil(61 * 0.8 - 1e-9) - 1], abs=1e-12)
        sets = ours(probs[60:], None if draws is None else draws[60:])
        np.testing.assert_array_equal(sets, np.array(scores[60:]) <= ours.threshold + 1e-10)
        every = SCORES[score].of_all(probs, numbers, penalty, k_reg)
        np.testing.assert_allclose(every, scores, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("num_classes", [6, 40])
@pytest.mark.parametrize("score", SCORES)
def test_score_of_labels_agrees_with_the_sets_in_every_precision(score: str, num_classes: int, dtype: type) -> None:
    random = np.random.default_rng(1)
    probs, labels = _network(random, 3000, num_classes)
    probs, draws = probs.astype(dtype), random.random(3000)
    entry = SCORES[score]
    every = entry.of_all(probs, draws, 0.1, 2)
    np.testing.assert_allclose(
        entry.of_labels(probs, labels, draws, 0.1, 2), every[np.arange(3000), labels], atol=1e-12
    )
    cut = float(every[0, 0])  # a threshold that is met exactly
    np.testing.assert_array_equal(entry.within(probs, cut, draws, 0.1, 2), every <= cut + 1e-10)


def _coverage(
    score: str, n: int, num_classes: int, alpha: float, *, randomised: bool, allow_empty: bool = True, trials: int = 400
) -> tuple[float, float]:
    """Mean coverage of fresh scans over many calibration sets, and its standard error."""
    random = np.random.default_rng(n + num_classes)
    fresh, covered = 40, np.empty(trials)
    for trial in range(trials):
        probs, labels = _network(random, n + fresh, num_classes)
        draws = random.random(n + fresh)
        sets = ConformalSets.fit(
            probs[:n], labels[:n], alpha=alpha, score=score, penalty=0.05, k_reg=1,
            draws=draws[:n] if randomised else None, allow_empty=allow_empty,
        )  # fmt: skip
        found = sets(probs[n:], draws[n:] if randomised else None)
        covered[trial] = found[np.arange(fresh), labels[n:]].mean()
    return float(covered.mean()), float(covered.std() / math.sqrt(trials))


@pytest.mark.parametrize("alpha", [0.1, 0.05])
@pytest.mark.parametrize("n", [20, 50])
@pytest.mark.parametrize("randomised", [True, False])
@pytest.mark.parametrize("score", SCORES)
def test_coverage_is_what_was_promised(score: str, randomised: bool, n: int, alpha: float) -> None:
    mean, error = _coverage(score, n, 4, alpha, randomised=randomised)
    assert mean >= 1 - alpha - 4 * error  # 32 cases at once
    if randomised or score == "lac":
        assert mean <= 1 - alpha + 1 / (n + 1) + 4 * error


def test_never_empty_covers_more_and_says_so() -> None:
    allowed, _ = _coverage("lac", 50, 4, 0.2, randomised=False)
    never, _ = _coverage("lac", 50, 4, 0.2, randomised=False, allow_empty=False)
    assert never > allowed + 0.01
    random = np.random.default_rng(0)
    probs, labels = _network(random, 200, 4)
    sets = ConformalSets.fit(probs, labels, alpha=0.3, score="lac", allow_empty=False)
    assert "more than was asked" in sets.warning
    assert sets(probs).any(axis=1).all()
    assert not replace(sets, allow_empty=True)(probs).any(axis=1).all()


def _clustered(random: np.random.Generator, subjects: int, scans: int) -> tuple[FloatArray, IntArray]:
    """Scans of a subject share a label and most of their logits."""
    labels = random.integers(0, 3, subjects).repeat(scans)
    own = random.normal(size=(subjects, 3)).repeat(scans, axis=0)
    return softmax(2 * own + 0.5 * random.normal(size=(subjects * scans, 3)) + 2 * np.eye(3)[labels]), labels


def test_subjects_get_the_coverage_that_was_promised_to_them() -> None:
    random = np.random.default_rng(3)
    trials, subjects, scans = 1500, 12, 16
    names = _names(subjects * scans, scans)
    hits = {"naive": 0.0, "random": 0.0, "every": 0.0, "every by random": 0.0}
    for _ in range(trials):
        probs, labels = _clustered(random, subjects, scans)
        new, truth = _clustered(random, 1, scans)
        draws, fresh = random.random(len(labels)), random.random(scans)

        def covered(probs: FloatArray, labels: IntArray, draws: FloatArray, **options: object) -> BoolArray:
            sets = ConformalSets.fit(probs, labels, alpha=0.1, draws=draws, **options)  # type: ignore[arg-type]
            return sets(new, fresh)[np.arange(scans), truth]  # noqa: B023

        once = covered(probs, labels, draws, subjects=names)
        hits["naive"] += covered(probs, labels, draws).mean()
        hits["random"] += once.mean()
        hits["every by random"] += once.all()
        hits["every"] += covered(probs, labels, draws, subjects=names, every_scan=True).all()
    rates = {name: count / trials for name, count in hits.items()}
    error = 2.5 * math.sqrt(0.09 / trials)
    assert rates["naive"] < 0.89
    assert rates["random"] >= 0.9 - error
    assert 0.9 - error <= rates["every"] <= 0.9 + 1 / 13 + error
    assert rates["every by random"] < rates["every"] - 0.02


def test_guarantees_are_named() -> None:
    probs, labels = _network(np.random.default_rng(0), 40, 3)

    def guarantee(**options: object) -> str:
        return ConformalSets.fit(probs, labels, alpha=0.1, **options).guarantee  # type: ignore[arg-type]

    assert guarantee() == "new scan"
    assert guarantee(subjects=_names(40)) == "new subject"
    assert guarantee(subjects=_names(40, 2)) == "random scan of a new subject"
    assert guarantee(subjects=_names(40, 2), every_scan=True) == "every scan of a new subject"
    assert ConformalSets.fit(probs, labels, alpha=0.1, subjects=_names(40, 2)).calibration_count == 20
    with pytest.raises(DataError, match="subject of each row"):
        guarantee(every_scan=True)


def test_too_few_give_the_full_set_and_a_warning() -> None:
    probs, labels = _network(np.random.default_rng(0), 8, 4)
    sets = ConformalSets.fit(probs, labels, alpha=0.1)
    assert sets(probs).all()
    assert (
        sets.warning == "8 calibration scans cannot guarantee 90% coverage, which needs 9: every set holds every class."
    )
    by_subject = ConformalSets.fit(*_network(np.random.default_rng(0), 64, 4), alpha=0.1, subjects=_names(64, 8))
    assert "8 calibration subjects" in by_subject.warning


def test_ordinal_sets_have_no_gap() -> None:
    random = np.random.default_rng(4)
    probs, labels = random.dirichlet([0.5] * 5, 400), random.integers(0, 5, 400)
    draws = random.random(400)
    found = ConformalSets.fit(probs, labels, alpha=0.4, score="ordinal", draws=draws)(probs, draws)
    edges = np.abs(np.diff(found.astype(int), axis=1, prepend=0, append=0)).sum(axis=1)
    assert (edges <= 2).all()
    aps = ConformalSets.fit(probs, labels, alpha=0.4, score="aps", draws=draws)(probs, draws)
    assert (np.abs(np.diff(aps.astype(int), axis=1, prepend=0, append=0)).sum(axis=1) > 2).any()


@pytest.mark.parametrize("score", ["raps", "saps"])
def test_tuning_makes_sets_smaller_and_leaves_small_sides_alone(score: str) -> None:
    random = np.random.default_rng(5)
    count = 4000
    labels = random.integers(0, 30, count)
    logits = random.normal(size=(count, 30)) + 4.0 * np.eye(30)[labels]  # a long tail that APS collects
    probs, draws = softmax(logits), random.random(count)
    tune, known, new = slice(0, 1000), slice(1000, 2000), slice(2000, None)
    penalty, k_reg = ConformalSets.tune(
        probs[tune], labels[tune], alpha=0.05, score=score, subjects=_names(1000), draws=draws[tune]
    )
    assert penalty > 0

    def found(**options: object) -> BoolArray:
        sets = ConformalSets.fit(probs[known], labels[known], alpha=0.05, draws=draws[known], **options)  # type: ignore[arg-type]
        return sets(probs[new], draws[new])

    tuned = found(score=score, penalty=penalty, k_reg=k_reg)
    assert tuned.sum() < 0.8 * found(score="aps").sum()
    assert tuned.sum() <= 1.02 * min(found(score=score, penalty=other).sum() for other in (0.001, 0.1, 1.0))
    low, high = coverage_band(1000, 2000, 0.05, 0.001), coverage_band(1000, 2000, 0.05, 0.999)
    assert low <= tuned[np.arange(2000), labels[new]].mean() <= high
    few = ConformalSets.tune(probs[:30], labels[:30], alpha=0.05, score=score, subjects=_names(30), draws=draws[:30])
    assert few == (0.0, 0)
    assert ConformalSets.tune(probs[tune], labels[tune], alpha=0.05, score="lac") == (0.0, 0)


def test_raps_without_penalty_is_aps() -> None:
    probs, labels = _network(np.random.default_rng(6), 200, 5)
    draws = draws_from([str(i) for i in range(200)])
    raps, aps = (ConformalSets.fit(probs, labels, alpha=0.1, score=score, draws=draws) for score in ("raps", "aps"))
    assert raps.threshold == aps.threshold
    np.testing.assert_array_equal(raps(probs, draws), aps(probs, draws))


def test_draws_are_uniform_and_belong_to_the_scan() -> None:
    draws = draws_from([f"{i:064x}" for i in range(5000)])
    assert ((draws >= 0) & (draws < 1)).all()
    assert np.histogram(draws, 10, (0, 1))[0].min() > 430
    assert draws_from(["b", "a"]).tolist() == draws_from(["a", "b"]).tolist()[::-1]


@pytest.mark.parametrize("n", [5, 50])
def test_json_gives_the_same_sets_back(n: int) -> None:
    probs, labels = _network(np.random.default_rng(7), n, 4)
    sets = ConformalSets.fit(probs, labels, alpha=0.1, penalty=0.1, k_reg=1, draws=np.zeros(n), subjects=_names(n))
    assert ConformalSets.from_dict(json.loads(json.dumps(sets.to_dict(), allow_nan=False))) == sets
    with pytest.raises(DataError, match="Was the file changed"):
        ConformalSets.from_dict({**sets.to_dict(), "score": "lacc"})
    with pytest.raises(DataError, match="alpha must lie"):
        ConformalSets.from_dict({**sets.to_dict(), "alpha": 1.0})


def test_bad_input_is_refused() -> None:
    probs, labels = _network(np.random.default_rng(8), 20, 3)
    with pytest.raises(DataError, match="sum to one"):
        ConformalSets.fit(10 * probs, labels, alpha=0.1)
    with pytest.raises(DataError, match="outside 0…2"):
        ConformalSets.fit(probs, labels + 1, alpha=0.1)
    with pytest.raises(ShapeError, match="label of each of 20"):
        ConformalSets.fit(probs, labels[:-1], alpha=0.1)
    with pytest.raises(DataError, match="N is 0"):
        ConformalSets.fit(probs[:0], labels[:0], alpha=0.1)
    for alpha in (0.0, 1.0):
        with pytest.raises(DataError, match="alpha must lie"):
            ConformalSets.fit(probs, labels, alpha=alpha)
    with pytest.raises(RecipeError, match="Did you mean 'raps'"):
        ConformalSets.fit(probs, labels, alpha=0.1, score="rasp")
    with pytest.raises(DataError, match="penalty and k_reg"):
        ConformalSets.fit(probs, labels, alpha=0.1, penalty=-1)
    with pytest.raises(DataError, match=r"draw outside \[0, 1\)"):
        ConformalSets.fit(probs, labels, alpha=0.1, draws=np.ones(20))
    fitted = ConformalSets.fit(probs, labels, alpha=0.1, draws=np.zeros(20))
    with pytest.raises(DataError, match="fitted with draws"):
        fitted(probs)


def test_one_class_only_in_calibration_still_covers_it() -> None:
    probs, _ = _network(np.random.default_rng(9), 200, 3)
    sets = ConformalSets.fit(probs[:100], np.zeros(100, dtype=int), alpha=0.1, score="lac")
    low, high = clopper_pearson(int(sets(probs[100:])[:, 0].sum()), 100, 0.999)
    assert low <= 0.95
    assert high >= 0.9


def _uneven(random: np.random.Generator, count: int) -> tuple[FloatArray, IntArray]:
    """Three classes of which the last is rare and hard."""
    labels = random.choice(3, count, p=[0.5, 0.35, 0.15])
    skill = np.array([4.0, 2.0, 0.5])[labels]
    return softmax(random.normal(size=(count, 3)) + skill[:, None] * np.eye(3)[labels]), labels


@pytest.mark.extended
@pytest.mark.parametrize("by", ["class", "group"])
def test_conditional_sets_cover_in_every_cell(by: str) -> None:
    random = np.random.default_rng(10)
    hits, plain, counts = np.zeros(3), np.zeros(3), np.zeros(3)
    for _ in range(500):
        probs, labels = _uneven(random, 240)
        draws, cells = random.random(240), labels
        if by == "group":  # each group is good at something else, whatever the class
            cells = random.integers(0, 3, 240)
            probs = probs ** np.array([1.0, 0.5, 0.1])[cells][:, None]
            probs /= probs.sum(axis=1, keepdims=True)
        groups = cells.astype(str)
        sets = ConditionalSets.fit(
            probs[:200], labels[:200], alpha=0.1, groups=None if by == "class" else groups[:200], draws=draws[:200]
        )
        found = sets(probs[200:], draws[200:], None if by == "class" else groups[200:])
        whole = ConformalSets.fit(probs[:200], labels[:200], alpha=0.1, draws=draws[:200])(probs[200:], draws[200:])
        row, truth = np.arange(40), labels[200:]
        counts += np.bincount(cells[200:], minlength=3)
        hits += np.bincount(cells[200:], found[row, truth], 3)
        plain += np.bincount(cells[200:], whole[row, truth], 3)
    error = 4 * np.sqrt(0.09 / counts) + 0.005  # the trials share thresholds
    assert (hits / counts >= 0.9 - error).all()
    assert (hits / counts <= 0.9 + 1 / 20 + error).all()
    assert (plain / counts).min() < 0.87


def test_small_cells_are_merged_and_a_note_says_so() -> None:
    probs, _ = _uneven(np.random.default_rng(0), 60)
    labels = np.repeat([0, 1, 2], [45, 10, 5])
    sets = ConditionalSets.fit(probs, labels, alpha=0.1)
    assert sets.cells == (("0",), ("1", "2"))
    assert sets.notes == ("class 1, 2: too few each; coverage is guaranteed for them together",)
    assert sets.sets[1].calibration_count == 15
    several = ConditionalSets.fit(probs, labels, alpha=0.1, groups=np.array(list("aabbccdddd") * 6))
    assert several.cells == (("a",), ("b",), ("c",), ("d",))
    by_subject = ConditionalSets.fit(probs, labels, alpha=0.1, subjects=_names(60, 3))
    assert by_subject.cells == (("0", "1", "2"),)  # 15, 4 and 2 subjects
    few = ConditionalSets.fit(probs[:6], labels[:6], alpha=0.1)
    assert few.cells == (("0", "1", "2"),)
    assert few(probs).all()
    assert "cannot guarantee" in few.notes[1]


def test_conditional_sets_travel_and_refuse() -> None:
    probs, labels = _uneven(np.random.default_rng(1), 100)
    groups = np.array(["a", "b"] * 50)
    sets = ConditionalSets.fit(probs, labels, alpha=0.1, groups=groups)
    assert ConditionalSets.from_dict(json.loads(json.dumps(sets.to_dict(), allow_nan=False))) == sets
    assert sets(probs[:2], groups=np.array(["new", "a"]))[0].all()
    with pytest.raises(DataError, match="go by group"):
        sets(probs)
    with pytest.raises(DataError, match="group of each of 100"):
        ConditionalSets.fit(probs, labels, alpha=0.1, groups=groups[:3])
    with pytest.raises(DataError, match="Was the file changed"):
        ConditionalSets.from_dict({**sets.to_dict(), "by": "sex"})


def test_coverage_lines_count_subjects() -> None:
    sets = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], dtype=bool)
    labels, subjects = np.array([0, 1, 0, 1]), np.array(["a", "a", "b", "c"])
    fitted = ConformalSets("lac", 0.1, 0.5, calibration_count=99)
    (line,) = coverage_lines(sets, labels, subjects, fitted, classes=("x", "y"))
    assert line.coverage == pytest.approx(1 / 3)
    assert line.interval == clopper_pearson(1, 3)
    assert (line.subjects, line.scans) == (3, 4)
    by_size = size_lines(sets, labels, subjects)
    assert [(line.name, line.scans) for line in by_size] == [("0", 1), ("1", 2), ("2", 1)]
    assert [line.coverage for line in by_size] == [0, 0.5, 1]


def test_the_band_holds_the_coverage_as_often_as_it_says() -> None:
    random = np.random.default_rng(13)
    inside = []
    for _ in range(400):
        probs, labels = _network(random, 110, 3)
        draws = random.random(110)
        fitted = ConformalSets.fit(probs[:50], labels[:50], alpha=0.1, draws=draws[:50])
        sets = fitted(probs[50:], draws[50:])
        (line,) = coverage_lines(sets, labels[50:], _names(60), fitted, classes=("a", "b", "c"))
        inside.append(line.band[0] <= line.coverage <= line.band[1])
    assert 0.93 < np.mean(inside) < 0.99
