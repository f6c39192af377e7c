"""What holds of every score, shape, precision and tie, on examples that a machine thinks up."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scanwise.arrays import softmax
from scanwise.calibration import CALIBRATORS, Temperature
from scanwise.conformal import SCORES, ConditionalSets, ConformalSets
from scanwise.errors import DataError
from scanwise.records import FloatArray, IntArray
from scanwise.risk import conformal_quantile, conformal_rank, minimum_count
from scanwise.uncertainty import aurc, risk_coverage_curve

ALPHAS = st.sampled_from([0.01, 0.05, 0.1, 0.2, 1 / 3, 0.5, 0.9])
DTYPES = st.sampled_from([np.float16, np.float32, np.float64])


@dataclass(frozen=True)
class Case:
    """Rows to learn from and to make sets of, and how."""

    probs: FloatArray
    labels: IntArray
    draws: FloatArray | None
    score: str
    penalty: float
    k_reg: int

    def fit(self, alpha: float, **more: object) -> ConformalSets:
        options = {"score": self.score, "penalty": self.penalty, "k_reg": self.k_reg, "draws": self.draws, **more}
        return ConformalSets.fit(self.probs, self.labels, alpha=alpha, **options)  # type: ignore[arg-type]


@st.composite
def cases(draw: st.DrawFn, tied: bool | None = None) -> Case:
    """Few values make ties and zeros, many make none; a class may be missing; some have one row."""
    count, num_classes = draw(st.integers(1, 40)), draw(st.integers(2, 12) | st.sampled_from([17, 40]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    few = draw(st.booleans()) if tied is None else tied
    dtype = draw(DTYPES) if tied is not False else np.float64
    weights = random.integers(0, 4, (count, num_classes)) if few else random.exponential(size=(count, num_classes)) ** 2
    weights = weights + (weights.sum(axis=1, keepdims=True) == 0)
    probs = (weights / weights.sum(axis=1, keepdims=True)).astype(dtype)
    present = draw(st.integers(1, num_classes))
    draws = random.integers(0, 5, count) / 5 if draw(st.booleans()) else random.random(count)
    return Case(
        probs,
        random.integers(0, present, count),
        draws if draw(st.booleans()) else None,
        draw(st.sampled_from(sorted(SCORES))),
        draw(st.sampled_from([0.0, 0.01, 0.3, 2.0])),
        draw(st.integers(0, 3)),
    )


@given(cases(), ALPHAS)
def test_sets_hold_as_many_calibration_labels_as_the_rank_says(case: Case, alpha: float) -> None:
    sets = case.fit(alpha)
    found, count = sets(case.probs, case.draws), len(case.probs)
    rank = conformal_rank(count, alpha)
    assert found.shape == case.probs.shape
    assert found.dtype == np.bool_
    if count < minimum_count(alpha):
        assert found.all()
        assert sets.warning
    else:
        assert found[np.arange(count), case.labels].sum() >= rank


@given(cases(), ALPHAS, ALPHAS)
def test_sets_only_grow_as_less_may_be_missed(case: Case, one: float, other: float) -> None:
    less, more = sorted([one, other])
    wide, narrow = case.fit(less), case.fit(more)
    assert wide.threshold >= narrow.threshold
    assert (wide(case.probs, case.draws) | ~narrow(case.probs, case.draws)).all()


@given(cases(), ALPHAS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(case: Case, alpha: float, shuffler: object) -> None:
    order = np.arange(len(case.probs))
    shuffler.shuffle(order)  # type: ignore[attr-defined]
    draws = None if case.draws is None else case.draws[order]
    other = Case(case.probs[order], case.labels[order], draws, case.score, case.penalty, case.k_reg)
    sets, again = case.fit(alpha), other.fit(alpha)
    assert sets == again
    np.testing.assert_array_equal(sets(case.probs, case.draws)[order], sets(other.probs, draws))


@given(cases(tied=False), ALPHAS, st.randoms(use_true_random=False))
def test_the_names_of_classes_do_not_matter(case: Case, alpha: float, shuffler: object) -> None:
    """Without ties, classes in another order give the same sets in that order; ordered ones may only be turned round."""
    num_classes = case.probs.shape[1]
    order = np.arange(num_classes)[::-1].copy()
    if case.score != "ordinal":
        shuffler.shuffle(order)  # type: ignore[attr-defined]
    place = np.argsort(order)
    other = Case(case.probs[:, order], place[case.labels], case.draws, case.score, case.penalty, case.k_reg)
    sets, again = case.fit(alpha), other.fit(alpha)
    assert again.threshold == pytest.approx(sets.threshold, abs=1e-9)
    known = sets.threshold if math.isfinite(sets.threshold) else 0.5
    scores = SCORES[case.score].of_all(case.probs, np.ones(len(case.probs)), case.penalty, case.k_reg)
    assume(np.abs(scores - known).min() > 1e-7 or case.draws is None)
    np.testing.assert_array_equal(sets(case.probs, case.draws)[:, order], again(other.probs, case.draws))


@given(cases(), st.floats(-0.5, 3))
def test_within_is_below_the_threshold_whatever_the_threshold(case: Case, threshold: float) -> None:
    entry, draws = SCORES[case.score], np.ones(len(case.probs)) if case.draws is None else case.draws
    scores = entry.of_all(case.probs, draws, case.penalty, case.k_reg)
    clear = np.abs(scores - threshold) > 1e-9  # on the edge, rounding decides
    found = entry.within(case.probs, threshold, draws, case.penalty, case.k_reg)
    assert (found == (scores <= threshold))[clear].all()
    row = np.arange(len(case.probs))
    own = entry.of_labels(case.probs, case.labels, draws, case.penalty, case.k_reg)
    np.testing.assert_allclose(own, scores[row, case.labels], atol=1e-9)


@given(cases(), ALPHAS)
def test_sets_are_the_most_probable_classes_or_an_unbroken_range(case: Case, alpha: float) -> None:
    found = case.fit(alpha)(case.probs, case.draws)
    if case.score == "ordinal":
        edges = np.abs(np.diff(found.astype(int), axis=1, prepend=0, append=0)).sum(axis=1)
        assert (edges <= 2).all()
    else:
        least_in = np.where(found, case.probs.astype(np.float64), np.inf).min(axis=1)
        most_out = np.where(found, -np.inf, case.probs.astype(np.float64)).max(axis=1)
        assert (least_in >= most_out - 1e-9).all()


@given(cases(), ALPHAS)
def test_never_empty_is_never_empty_and_adds_the_best_class_alone(case: Case, alpha: float) -> None:
    allowed, never = case.fit(alpha)(case.probs, case.draws), case.fit(alpha, allow_empty=False)(case.probs, case.draws)
    assert never.any(axis=1).all()
    assert (never.sum(axis=1) == np.maximum(allowed.sum(axis=1), 1)).all()
    empty = ~allowed.any(axis=1)
    assert never[empty, case.probs[empty].argmax(axis=1)].all()


@given(cases(), ALPHAS, st.integers(2, 4))
def test_scans_taken_twice_of_everyone_change_no_threshold_over_subjects(case: Case, alpha: float, times: int) -> None:
    names = np.arange(len(case.probs)).astype(str)
    plain, once = case.fit(alpha), case.fit(alpha, subjects=names)
    assert plain.threshold == once.threshold
    draws = None if case.draws is None else case.draws.repeat(times)
    more = Case(
        case.probs.repeat(times, axis=0), case.labels.repeat(times), draws, case.score, case.penalty, case.k_reg
    )
    assert more.fit(alpha, subjects=names.repeat(times)).threshold == plain.threshold
    assert more.fit(alpha, subjects=names.repeat(times), every_scan=True).threshold == plain.threshold


@given(cases(), ALPHAS)
def test_sets_come_back_from_json(case: Case, alpha: float) -> None:
    sets = case.fit(alpha)
    found = sets(case.probs, case.draws)
    again = ConformalSets.from_dict(json.loads(json.dumps(sets.to_dict(), allow_nan=False)))
    np.testing.assert_array_equal(again(case.probs, case.draws), found)


@given(cases(), ALPHAS, st.integers(1, 5))
def test_conditional_sets_hold_enough_labels_in_every_cell(case: Case, alpha: float, num_groups: int) -> None:
    count = len(case.probs)
    groups = (np.arange(count) % num_groups).astype(str)
    options = {"score": case.score, "penalty": case.penalty, "k_reg": case.k_reg, "draws": case.draws}
    for by in (None, groups):
        sets = ConditionalSets.fit(case.probs, case.labels, alpha=alpha, groups=by, **options)  # type: ignore[arg-type]
        found = sets(case.probs, case.draws, by)
        values = case.labels.astype(str) if by is None else by
        assert sorted(value for cell in sets.cells for value in cell) == sorted(
            map(str, range(case.probs.shape[1])) if by is None else set(groups.tolist())
        )
        for cell in sets.cells:
            rows = np.isin(values, cell)
            if rows.sum() < minimum_count(alpha):
                assert found[rows][np.arange(rows.sum()), case.labels[rows]].all()
            else:
                assert found[rows, case.labels[rows]].sum() >= conformal_rank(int(rows.sum()), alpha)


SCORE_VALUES = st.floats(-10, 10, width=16) | st.sampled_from([math.inf, -math.inf])


@given(st.lists(SCORE_VALUES, min_size=1, max_size=60), ALPHAS)
def test_quantiles_bear_infinities_and_ties(scores: list[float], alpha: float) -> None:
    values = np.array(scores)
    cut, rank = conformal_quantile(values, alpha), conformal_rank(len(values), alpha)
    assert cut == (sorted(scores)[rank - 1] if rank <= len(scores) else math.inf)
    subjects = np.array([f"s{row % 7}" for row in range(len(scores))])
    by_subject = conformal_quantile(values, alpha, subjects)
    assert by_subject == math.inf or by_subject in scores
    assert by_subject >= conformal_quantile(values, 0.95, subjects)
    with pytest.raises(DataError, match=f"Rows: {len(scores)}"):
        conformal_quantile(np.append(values, np.nan), alpha)


@given(st.integers(1, 30), st.integers(2, 6), DTYPES, st.data())
def test_what_is_not_a_probability_is_refused_by_row(
    count: int, num_classes: int, dtype: type, data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, count - 1))
    wrong = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, -0.5, 3.0]))
    probs = np.full((count, num_classes), 1 / num_classes, dtype=dtype)
    probs[row, data.draw(st.integers(0, num_classes - 1))] = wrong
    with pytest.raises(DataError, match=rf"1 of {count} rows have probabilities .* Rows: {row}\."):
        ConformalSets.fit(probs, np.zeros(count, dtype=int), alpha=0.1)


LOGIT_VALUES = st.sampled_from([0.0, 1.0, -1.0, 0.5, 30.0, -30.0, 6e4, -6e4])


@given(
    st.integers(1, 25), st.integers(1, 3), st.integers(2, 5), DTYPES, st.sampled_from(sorted(CALIBRATORS)), st.data()
)
def test_calibrators_give_probabilities_whatever_the_logits(
    count: int, members: int, num_classes: int, dtype: type, method: str, data: st.DataObject
) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    extreme = data.draw(LOGIT_VALUES)
    logits = random.integers(-3, 4, (count, members, num_classes)).astype(dtype)
    logits[random.random(logits.shape) < 0.2] = extreme
    labels = random.integers(0, num_classes, count)
    subjects = (np.arange(count) % 9).astype(str)
    fitted = CALIBRATORS[method].fit(logits, labels, subjects)
    probs = fitted(logits)
    assert probs.shape == (count, num_classes)
    assert np.isfinite(probs).all()
    assert (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-9)
    if isinstance(fitted, Temperature) and members == 1:
        best = logits[:, 0].astype(np.float64)
        assert (probs[np.arange(count), best.argmax(axis=1)] == probs.max(axis=1)).all()


@given(
    st.integers(1, 20),
    st.integers(2, 5),
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.sampled_from(sorted(CALIBRATORS)),
    st.data(),
)
def test_logits_that_are_not_finite_are_refused_by_row(
    count: int, num_classes: int, wrong: float, method: str, data: st.DataObject
) -> None:
    rows = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=5)))
    logits = np.zeros((count, num_classes), dtype=data.draw(DTYPES))
    logits[rows, data.draw(st.integers(0, num_classes - 1))] = wrong
    with pytest.raises(DataError, match=rf"Rows: {', '.join(map(str, rows))}\.$"):
        CALIBRATORS[method].fit(logits, np.zeros(count, dtype=int), np.arange(count).astype(str))


@given(st.integers(1, 20), st.integers(2, 6), st.floats(-50, 50), st.integers(0, 2**32))
def test_softmax_forgets_what_is_added_to_every_class(count: int, num_classes: int, added: float, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(count, num_classes)) * 5
    np.testing.assert_allclose(softmax(logits + added), softmax(logits), atol=1e-9)


@given(st.lists(st.tuples(SCORE_VALUES, st.booleans()), min_size=1, max_size=40))
def test_risk_coverage_bears_infinities_and_ends_with_everyone(rows: list[tuple[float, bool]]) -> None:
    doubt, wrong = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    covered, risk = risk_coverage_curve(doubt, wrong)
    assert covered[-1] == 1
    assert risk[-1] == pytest.approx(wrong.mean())
    assert (np.diff(covered) > 0).all()
    assert 0 <= aurc(doubt, wrong) <= 1
