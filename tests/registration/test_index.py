"""The index finds what all pairs find, measures how much it misses, and steps in where references are many."""

import numpy as np
import pytest

from scanwise.registration import nearest_neighbours, vectors
from scanwise.registration.index import CODED, RECALL, NeighbourIndex, exact_neighbours


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Rows of length 1 around some hundred centres, as slices of people are."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((count // 20, 48))
    rows = np.repeat(centres, 20, axis=0) + 0.5 * random.standard_normal((count // 20 * 20, 48))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def noise(count: int) -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((count, 48)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def found(places: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean([len(set(one) & set(other)) / len(other) for one, other in zip(places, wanted, strict=True)]))


@pytest.mark.parametrize("rows", [clustered(4000), noise(4000)], ids=["people", "noise"])
def test_the_index_finds_nearly_all_that_all_pairs_find(rows: np.ndarray) -> None:
    index = NeighbourIndex.build(rows, rows, 6)
    assert index.recall >= RECALL
    places, values = index.search(rows, 6)
    wanted, likeness = exact_neighbours(rows, rows, 6)
    assert found(places, wanted) >= RECALL
    assert values[:, 0] == pytest.approx(likeness[:, 0], abs=1e-5)
    assert (np.diff(values, axis=1) <= 0).all()


@pytest.mark.extended
@pytest.mark.parametrize("rows", [clustered(4000), noise(4000)], ids=["people", "noise"])
def test_codes_find_what_is_asked_of_them_and_likeness_is_exact(rows: np.ndarray) -> None:
    index = NeighbourIndex.build(rows, rows, 6, CODED)
    assert index.recall >= CODED
    places, values = index.search(rows, 6)
    assert found(places, exact_neighbours(rows, rows, 6)[0]) >= CODED - 0.03
    assert values == pytest.approx((rows[:, None] * rows[places]).sum(axis=2), abs=1e-5)
    assert (np.diff(values, axis=1) <= 0).all()


def test_codes_find_the_same_for_a_query_whatever_is_asked_beside_it() -> None:
    rows = clustered(4000)
    index = NeighbourIndex.build(rows, rows, 6, CODED)
    places, values = index.search(rows, 6)
    for part in (slice(0, 1), slice(1, 40), slice(40, 4000)):
        some, likeness = index.search(rows[part], 6)
        assert np.array_equal(some, places[part])
        assert np.array_equal(likeness, values[part])


def test_people_need_few_cells_and_noise_needs_many() -> None:
    """Where the cells tell nothing the index does not pretend that they do."""
    few, many = (NeighbourIndex.build(rows, rows, 6).probed for rows in (clustered(4000), noise(4000)))
    assert few < 0.3 < many


def test_neighbours_ask_the_index_where_references_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clustered(2000)
    wanted, _ = nearest_neighbours(rows, rows, 5)
    monkeypatch.setattr(vectors, "INDEXED", 2000)
    monkeypatch.setattr(vectors, "exact_neighbours", lambda *_: pytest.fail("all pairs were compared"))
    places, _ = nearest_neighbours(rows, rows, 5)
    assert found(places, wanted) >= RECALL


@pytest.mark.parametrize("recall", [RECALL, CODED])
def test_what_the_cells_do_not_hold_is_said(recall: float) -> None:
    index = NeighbourIndex.build(noise(40), noise(40), 2, recall)
    places, values = index.search(noise(40), 60)
    assert (places[:, 40:] == -1).all()
    assert np.isneginf(values[:, 40:]).all()


@pytest.mark.parametrize("recall", [RECALL, CODED])
def test_no_queries_have_no_neighbours(recall: float) -> None:
    places, values = NeighbourIndex.build(noise(400), noise(400), 2, recall).search(noise(0), 2)
    assert places.shape == values.shape == (0, 2)


@pytest.mark.parametrize("count", [1, 700])
def test_queries_in_the_order_of_their_cells_find_what_they_find_in_theirs(count: int) -> None:
    rows = clustered(4000)
    index = NeighbourIndex.build(rows, rows, 6)
    places, values = index.search(rows[:count], 6)
    likeness, wanted = index.cells.search(rows[:count], 6)
    assert np.array_equal(places, wanted)
    assert np.array_equal(values, likeness)
