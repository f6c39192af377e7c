"""Twins of a leak: pairs across the sides, the test scan first, the most alike first, each scan once."""

from dataclasses import replace

import numpy as np

from scanwise.auditing.evidence import Evidence, PairSheet
from scanwise.auditing.twins import PAIRS_SHOWN, find_twins
from scanwise.records import Cohort, Split


def evidence(side: list[str], subject: list[str] | None) -> Evidence:
    count = len(side)
    paths = np.array([f"scans/{row}.png" for row in range(count)])
    pixels = np.array([f"{row:064x}" for row in range(count)])
    cohort = Cohort(
        "data", paths, np.zeros(count, dtype=np.int64), ("a", "b"), False,
        paths if subject is None else np.array(subject), "" if subject is None else "given", pixels, pixels, {},
    )  # fmt: skip
    vectors = np.random.default_rng(0).normal(size=(count, 9)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    who = None if subject is None else np.array(subject)
    return Evidence(
        cohort, np.zeros((count, 8, 8), dtype=np.uint8), vectors, who, Split(np.array(side), "given", 0, "given", True)
    )


def test_pairs_of_the_picture_are_turned_and_kept_where_they_cross_sides() -> None:
    of = evidence(["train", "test", "train", "train", "test", "validation"], None)
    picture = PairSheet(np.array([[0, 1], [2, 3], [4, 2], [4, 3], [5, 3]]), ("",) * 5)
    twins = find_twins(of, picture)
    assert twins is not None
    assert twins.rows.tolist() == [[1, 0], [4, 2], [5, 3]]
    assert twins.captions[0] == "test scan 1.png | 0.png"


def test_without_a_picture_the_most_similar_scans_of_one_person_are_shown() -> None:
    side = ["train"] * 10 + ["test"] * 10
    people = [f"p{row % 5}" for row in range(20)]
    of = evidence(side, people)
    twins = find_twins(of, None)
    assert twins is not None
    assert len(twins.rows) == PAIRS_SHOWN
    likeness = [float(of.vectors[scan] @ of.vectors[origin]) for scan, origin in twins.rows]
    assert likeness == sorted(likeness, reverse=True)
    assert all(
        people[scan] == people[origin] and side[scan] == "test" and side[origin] == "train"
        for scan, origin in twins.rows
    )


def test_where_nobody_is_known_scans_with_the_same_pixels_are_shown() -> None:
    of = evidence(["train", "test", "test", "train"], None)
    same = of.cohort.pixels.copy()
    same[2] = same[0]
    twins = find_twins(replace(of, cohort=replace(of.cohort, pixels=same)), None)
    assert twins is not None
    assert twins.rows.tolist() == [[2, 0]]


def test_no_split_or_no_shared_person_has_no_twins() -> None:
    of = evidence(["train", "test"], ["p", "q"])
    assert find_twins(of, None) is None
    assert find_twins(replace(of, split=None), None) is None
    assert find_twins(evidence(["train", "test"], None), None) is None
