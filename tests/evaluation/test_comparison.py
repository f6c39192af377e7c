"""Several classifiers on the same rows: McNemar, ranks, and what may not be compared."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference
from statsmodels.stats.multitest import multipletests

from scanwise.arrays import softmax
from scanwise.errors import DataError
from scanwise.evaluation import comparison
from scanwise.evaluation.estimates import measure_predictions
from scanwise.records import Predictions


def _said(seed: int, skill: float, subjects: int = 60, scans: int = 1) -> Predictions:
    labels = (np.arange(subjects) % 3).repeat(scans)
    own = np.random.default_rng(99).normal(size=(subjects, 3)).repeat(scans, axis=0)
    noise = 0.5 * np.random.default_rng(seed).normal(size=own.shape)
    count = len(labels)
    return Predictions(
        np.array([f"{row}.png" for row in range(count)]), np.arange(subjects).repeat(scans).astype(str), ("a", "b", "c"),
        softmax(own + noise + skill * np.eye(3)[labels]), None, np.zeros(count), np.zeros(count, dtype=bool), labels,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_of_subjects_equals_statsmodels(seed: int) -> None:
    one, other = _said(seed, 1.5), _said(seed + 10, 0.5)
    right = [one.predicted == one.labels, other.predicted == other.labels]
    table = np.array([[(a & b).sum() for b in (right[1], ~right[1])] for a in (right[0], ~right[0])])
    only_first, only_second, p_value = comparison.mcnemar_test(one, other)
    assert (only_first, only_second) == (table[0, 1], table[1, 0])
    assert p_value == pytest.approx(reference(table, exact=True).pvalue, abs=1e-9)


def test_mcnemar_of_clusters_does_not_count_scans_as_people() -> None:
    one, other = _said(1, 1.2, 20), _said(2, 0.6, 20)
    repeated = [
        replace(
            said,
            **{
                name: getattr(said, name).repeat(30, axis=0)
                for name in ("subjects", "probs", "entropy", "abstain", "labels")
            },
            scans=np.array([str(row) for row in range(600)]),
        )
        for said in (one, other)
    ]
    assert comparison.mcnemar_test(*repeated)[2] == pytest.approx(comparison.mcnemar_test(one, other)[2])


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=9))
def test_exchanges_are_counted_one_by_one(sums: list[int]) -> None:
    """Against all 2^K signs."""
    signs = np.array(list(product((-1, 1), repeat=len(sums))))
    expected = (np.abs(signs @ np.array(sums)) >= abs(sum(sums))).mean()
    assert comparison.exchange_probability(np.array(sums)) == pytest.approx(expected, abs=1e-9)


def test_mcnemar_rarely_alarms_where_both_are_as_good() -> None:
    alarms = 0
    for trial in range(300):
        one, other = _said(2 * trial, 1.0, 40, 4), _said(2 * trial + 1, 1.0, 40, 4)
        alarms += comparison.mcnemar_test(one, other)[2] < 0.05
    assert alarms <= stats.binom.ppf(0.999, 300, 0.05)


@pytest.mark.extended
def test_p_values_are_adjusted_as_statsmodels_does() -> None:
    p_values = np.random.default_rng(0).random(8) ** 3
    np.testing.assert_allclose(
        comparison.holm_adjusted(p_values.tolist()), multipletests(p_values, method="holm")[1], atol=1e-12
    )
    said = {name: _said(seed, skill) for name, seed, skill in (("x", 1, 2.0), ("y", 2, 1.0), ("z", 3, 0.0))}
    pairs = comparison.pairwise_mcnemar_tests(said)
    assert [(one.first, one.second) for one in pairs] == [("x", "y"), ("x", "z"), ("y", "z")]
    assert all(one.adjusted >= one.p_value for one in pairs)


@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_ranks_follow_the_metric_and_say_what_is_not_settled(metric: str) -> None:
    said = {"good": _said(1, 2.5), "twin": _said(2, 2.5), "bad": _said(3, 0.0)}
    ranks = comparison.rank_classifiers(said, metric, draws=400)
    values = {
        m.name: m.value
        for m in measure_predictions(said["bad"], subjects=said["bad"].subjects, draws=50, names=[metric])
    }
    assert [rank.name for rank in ranks][-1] == "bad"
    assert ranks[-1].value == pytest.approx(values[metric])
    assert (ranks[-1].low, ranks[-1].high, ranks[-1].best) == (3, 3, 0)
    assert ranks[0].low == 1
    assert sum(rank.best for rank in ranks) == pytest.approx(1)
    same = comparison.rank_classifiers({"one": said["good"], "two": said["good"]}, metric, draws=50)
    assert [(rank.rank, rank.best) for rank in same] == [(1.5, 0.5), (1.5, 0.5)]


def test_other_rows_are_refused() -> None:
    one = _said(1, 1.0)
    assert one.labels is not None
    for other in (
        replace(one, subjects=one.subjects[::-1]),
        replace(one, labels=one.labels[::-1]),
        replace(one, classes=("a", "b", "d")),
        _said(1, 1.0, 59),
    ):
        with pytest.raises(DataError, match="same rows"):
            comparison.mcnemar_test(one, other)
        with pytest.raises(DataError, match="same rows"):
            comparison.rank_classifiers({"one": one, "other": other}, "accuracy", draws=10)


def test_known_metrics_leave_out_what_means_nothing() -> None:
    one = _said(1, 1.0)
    assert "stage_error" in comparison.comparable_metrics(one, ordered=True)
    assert "stage_error" not in comparison.comparable_metrics(one, ordered=False)
    alone = replace(one, labels=np.zeros(len(one), dtype=int))
    assert "auroc" not in comparison.comparable_metrics(alone, ordered=False)
