"""The place of a scan among those of its person: ties, gaps, one scan, and many."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanwise.cohort.anatomical_order import chain_ranks, places_in_order, recovered_positions, scan_positions
from scanwise.records import FloatArray


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


@pytest.mark.extended
@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-100, 100)), min_size=1, max_size=40))
def test_ranks_of_a_person_are_0_to_n(rows: list[tuple[str, float]]) -> None:
    subjects, positions = np.array([name for name, _ in rows]), np.array([position for _, position in rows])
    places = places_in_order(subjects, positions)
    for name in np.unique(subjects):
        own = subjects == name
        assert sorted(places[own, 0].tolist()) == list(range(own.sum()))
        assert (places[own, 1] == own.sum()).all()
        assert (np.diff(positions[own][np.argsort(places[own, 0])]) >= 0).all()


def head(slices: int = 12, seed: int = 0) -> FloatArray:
    """(slices, 400) values of cuts through a lump that shrinks upwards, with spots that come and go."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:20, :20] - 9.5
    spots = random.uniform(-6, 6, (30, 2)), random.uniform(0, 1, 30)
    cuts = []
    for height in np.linspace(0, 1, slices):
        inside = np.hypot(rows, columns) < 9 - 4 * height
        near = [
            np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8 - 20 * (height - z) ** 2)
            for (y, x), z in zip(*spots, strict=True)
        ]
        cuts.append((inside * (90 + 120 * np.sum(near, axis=0)).clip(0, 255)).ravel())
    return np.stack(cuts) + random.normal(0, 1, (slices, 400))


@given(st.integers(0, 50), st.permutations(range(12)))
@settings(max_examples=30, deadline=None)
def test_the_chain_of_neighbours_is_found_whatever_the_order_of_rows(seed: int, order: list[int]) -> None:
    """Two neighbours that look alike may change places, and nothing else."""
    ranks = chain_ranks(head(seed=seed)[order])
    assert np.isnan(ranks).all() or np.abs(ranks - order).max() <= 1
    assert np.array_equal(ranks, chain_ranks(head(seed=seed))[order], equal_nan=True)


def test_most_chains_are_found_exactly() -> None:
    assert sum(chain_ranks(head(seed=seed)).tolist() == list(range(12)) for seed in range(20)) >= 16


def test_where_the_pixels_tell_no_chain_nothing_is_made_up() -> None:
    random = np.random.default_rng(1)
    assert np.isnan(chain_ranks(random.uniform(0, 255, (12, 400)))).all()
    assert np.isnan(chain_ranks(np.tile(head()[:1], (12, 1)))).all()
    assert np.isnan(chain_ranks(np.zeros((12, 400)))).all()
    broken = head()
    broken[3] = np.nan
    assert np.isnan(chain_ranks(broken)).all()
    round_about = np.concatenate([head()[::2], head()[-2::-2]])  # up and down again: no chain
    assert np.isnan(chain_ranks(round_about)).all()
    no_end = head()
    no_end[no_end < 64] = 64  # nothing is background, so that neither end is the first
    assert np.isnan(chain_ranks(no_end)).all()


def test_only_people_of_whom_no_position_is_known_are_recovered() -> None:
    small = np.concatenate([head(seed=seed) for seed in range(3)])
    subjects = np.repeat(["a", "b", "c"], 12)
    positions = np.full(36, np.nan)
    positions[:12] = np.arange(12)[::-1]
    positions[13] = 5.0

    def read_small(people: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        return (small[rows] for rows in people)

    recovered = recovered_positions(subjects, positions, read_small)
    assert recovered[:12].tolist() == list(range(12))[::-1]
    assert np.array_equal(recovered[12:24], positions[12:24], equal_nan=True)
    assert recovered[24:].tolist() == list(range(12))
    assert np.isnan(recovered_positions(subjects[:5], positions[20:25], read_small)).all()  # too few
