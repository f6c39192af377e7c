"""The place of a scan among those of its person: ties, gaps, one scan, and many."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scanwise.cohort.anatomical_order import places_in_order, scan_positions


def test_a_column_comes_before_the_number_of_a_slice() -> None:
    paths = np.array(["a.nii#000", "a.nii#001", "b.png", "c.png"])
    positions = scan_positions(paths, {"position": np.array(["", "-3.5", "12", "top"])})
    assert np.array_equal(positions, [0.0, -3.5, 12.0, np.nan], equal_nan=True)


def test_a_person_without_a_known_order_has_none() -> None:
    subjects = np.array(["p", "q", "p", "q", "r"])
    places = places_in_order(subjects, np.array([2.0, 1.0, 1.0, np.nan, 5.0]))
    assert places.tolist() == [[1, 2], [0, 1], [0, 2], [0, 1], [0, 1]]


def test_scans_at_one_position_keep_the_order_of_their_rows() -> None:
    assert places_in_order(np.array(["p"] * 3), np.array([4.0, 4.0, 1.0])).tolist() == [[1, 3], [2, 3], [0, 3]]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-100, 100)), min_size=1, max_size=40))
def test_ranks_of_a_person_are_0_to_n(rows: list[tuple[str, float]]) -> None:
    subjects, positions = np.array([name for name, _ in rows]), np.array([position for _, position in rows])
    places = places_in_order(subjects, positions)
    for name in np.unique(subjects):
        own = subjects == name
        assert sorted(places[own, 0].tolist()) == list(range(own.sum()))
        assert (places[own, 1] == own.sum()).all()
        assert (np.diff(positions[own][np.argsort(places[own, 0])]) >= 0).all()
