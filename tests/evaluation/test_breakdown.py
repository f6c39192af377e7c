"""Results of each group: the figures of its rows alone, honest gaps, and columns that make no groups."""

from dataclasses import replace

import numpy as np
import pytest

from scanwise import metrics
from scanwise.arrays import softmax
from scanwise.evaluation import break_down, breakdown
from scanwise.records import Metric, Predictions


def _said(seed: int = 0, subjects: int = 60, scans: int = 2, bad_site: float = 0.0) -> Predictions:
    """Subjects of two sites; at the second the network is worse by `bad_site`."""
    random = np.random.default_rng(seed)
    labels = (np.arange(subjects) % 2).repeat(scans)
    site = (np.arange(subjects) // 2 % 2).repeat(scans)
    own = random.normal(size=(subjects, 2)).repeat(scans, axis=0)
    probs = softmax(own + (1.5 - bad_site * site)[:, None] * np.eye(2)[labels])
    count = len(labels)
    return Predictions(
        np.array([f"{row}.png" for row in range(count)]), np.arange(subjects).repeat(scans).astype(str), ("a", "b"),
        probs, None, np.zeros(count), np.zeros(count, dtype=bool), labels,
        {"site": np.array(["north", "south"])[site]},
    )  # fmt: skip


def _by(found: list[Metric]) -> dict[tuple[str, str], Metric]:
    return {(m.name, m.group): m for m in found}


def test_figures_of_a_group_are_those_of_its_rows() -> None:
    said = _said()
    found = _by(break_down(said, draws=200))
    for site in ("north", "south"):
        here = said.groups["site"] == site
        part = found["accuracy", f"site={site}"]
        assert part.value == pytest.approx(metrics.METRICS["accuracy"](said.probs[here], said.labels[here]))  # type: ignore[index]
        assert part.count == here.sum()
        assert part.low <= part.value <= part.high
        recall = metrics.CLASS_METRICS["recall"].by_class(said.probs[here], said.labels[here])  # type: ignore[index]
        assert found["recall", f"site={site} · class=b"].value == pytest.approx(recall[1])


def test_the_gap_is_the_difference_and_is_found_only_where_there_is_one() -> None:
    same, worse = (_by(break_down(_said(4, 400, bad_site=gap), draws=500)) for gap in (0.0, 2.0))
    gap = worse["accuracy gap", "site=north"]
    assert gap.value == pytest.approx(worse["accuracy", "site=north"].value - worse["accuracy", "site=south"].value)
    assert gap.low > 0
    assert same["accuracy gap", "site=north"].low < 0 < same["accuracy gap", "site=north"].high
    assert ("accuracy gap", "site=south") not in same  # of two groups one gap says it all


def test_more_groups_need_wider_intervals() -> None:
    said = _said(1, 120)
    two = _by(break_down(said, draws=2000))["accuracy gap", "site=north"]
    names = np.array([f"{site}{int(row) % 3}" for row, site in zip(said.subjects, said.groups["site"], strict=True)])
    six = [m for m in break_down(replace(said, groups={"site": names}), draws=2000) if m.name == breakdown.GAP]
    assert len(six) == 6
    alone = [
        m
        for m in break_down(replace(said, groups={"site": names}), draws=2000, confidence=0.6)
        if m.name == "accuracy gap"
    ]
    for wide, narrow in zip(six, alone, strict=True):
        assert wide.high - wide.low > narrow.high - narrow.low
    assert two.value != 0


def test_small_groups_are_counted_and_not_reported() -> None:
    said = _said()
    site = np.where(said.subjects.astype(int) < 3, "tiny", said.groups["site"])
    found = break_down(replace(said, groups={"site": site}), draws=100)
    told = [m for m in found if "tiny" in m.group]
    assert [(m.name, m.count) for m in told] == [("not_reported", 3)]


def test_numbers_become_ranges_in_order() -> None:
    said = _said()
    ages = np.array([str(40 + int(subject) % 50) for subject in said.subjects])
    (column,) = breakdown.group_columns({"age": ages})
    assert len(column.groups) == 4
    starts = [float(group.split(" to ")[0]) for group in column.groups]
    assert starts == sorted(starts)
    assert starts[0] == 40
    counts = [int((column.values == group).sum()) for group in column.groups]
    assert max(counts) < 2 * min(counts)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([f"scanner no {row}" for row in range(500)], "500 values"),
        ([f"the patient said that {row % 7} nights were bad and worried" for row in range(500)], "free text"),
        (["one"] * 500, "one value"),
        ([""] * 500, "no row has a value"),
    ],
)
def test_columns_that_make_no_groups_say_why(values: list[str], reason: str) -> None:
    (column,) = breakdown.group_columns({"x": np.array(values)})
    assert reason in column.refused
    said = _said(subjects=250)
    assert break_down(replace(said, groups={"x": np.array(values)}), draws=100) == []
