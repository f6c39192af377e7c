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
    scores = np.array([str(40 + int(subject) % 50) for subject in said.subjects])
    (column,) = breakdown.group_columns({"score": scores})
    assert len(column.groups) == 4
    starts = [float(group.split(" to ")[0]) for group in column.groups]
    assert starts == sorted(starts)
    assert starts[0] == 40
    counts = [int((column.values == group).sum()) for group in column.groups]
    assert max(counts) < 2 * min(counts)


@pytest.mark.parametrize("name", ["age", "Age", "PatientAge", "age_at_scan"])
@pytest.mark.parametrize("written", ["{}", "{}.5", "{},5", "{:03d}Y"])
def test_ages_become_decades_in_order(name: str, written: str) -> None:
    ages = np.array([written.format(age) for age in range(7, 104)] + [""])
    (column,) = breakdown.group_columns({name: ages})
    assert column.groups == [f"{decade} to {decade + 9}" for decade in range(0, 110, 10)]
    assert column.values[ages == written.format(69)] == ["60 to 69"]
    assert column.values[-1] == ""


def test_few_ages_are_decades_too() -> None:
    (column,) = breakdown.group_columns({"age": np.array(["61", "64", "72", "85"])})
    assert column.groups == ["60 to 69", "70 to 79", "80 to 89"]
    (column,) = breakdown.group_columns({"age": np.array(["61", "64"])})
    assert "one decade" in column.refused


@pytest.mark.parametrize(
    ("name", "values", "groups"),
    [
        ("mmse", [str(score) for score in range(10, 30)], 4),
        ("site", [str(site) for site in range(1, 16)], 15),
        ("scanner_id", [str(site) for site in range(1, 16)], 15),
        ("field", ["1.5", "3", "7"], 3),
        ("grade", ["0", "1", "2", "3"], 4),
        ("study", ["ADNI", "OASIS"], 2),
        ("series", ["T1", "FLAIR"], 2),
        ("weight_kg", [f"{weight}.5" for weight in range(40, 100, 3)], 4),
    ],
)
def test_amounts_are_binned_and_codes_are_not(name: str, values: list[str], groups: int) -> None:
    (column,) = breakdown.group_columns({name: np.array(values)})
    assert len(column.groups) == groups


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("study", ["study-0123456789abcdef", "study-fedcba9876543210"]),
        ("series", ["1.2.840.113619.2.1", "1.2.840.113619.2.2"]),
        ("position", ["-10.00", "5.00", "20.00"]),
        ("StudyInstanceUID", ["a", "b"]),
        ("series_instance_uid", ["a", "b"]),
        ("AccessionNumber", ["a", "b"]),
        ("visit", ["1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"]),
        ("who", ["subject-0123456789abcdef", "subject-fedcba9876543210"]),
        ("PatientID", ["7", "8"]),
    ],
)
def test_identifiers_are_never_groups(name: str, values: list[str]) -> None:
    said = _said()
    column = np.resize(np.array(values), len(said))
    (found,) = breakdown.group_columns({name: column})
    assert found.refused == "it names single studies, series, slices, files or persons"
    assert break_down(replace(said, groups={name: column}), draws=100) == []


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
