"""The forest: what hangs together, whatever the order, and two kinds of values told apart."""

import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree

from scanwise.auditing.subject_clustering import NEAREST, SpanningForest, TwoComponentMixture, connected_scans


def bunches(count: int, size: int, scatter: float, seed: int = 0, dimensions: int = 40) -> np.ndarray:
    """`size` unit vectors around each of `count` directions, bunch after bunch."""
    random = np.random.default_rng(seed)
    middle = np.repeat(random.standard_normal((count, dimensions)), size, axis=0)
    vectors = middle + scatter * random.standard_normal(middle.shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_is_the_maximum_spanning_tree_of_all_pairs() -> None:
    vectors = bunches(30, 5, 1.0)
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -np.inf)
    hub = np.sort(alike, axis=1)[:, -NEAREST:].mean(axis=1) / 2
    values = alike - hub[:, None] - hub
    tree = minimum_spanning_tree(np.where(np.isfinite(values), 10 - values, 0))
    found = SpanningForest.build(vectors)
    assert len(found.rows) == len(vectors) - 1
    assert found.values.sum() == pytest.approx((10 - tree.data).sum(), rel=1e-5)


def test_cuts_bunches_apart() -> None:
    forest = SpanningForest.build(bunches(20, 6, 0.3))
    kinds = TwoComponentMixture.fit(forest.measured)
    assert kinds.separation > 2
    people = forest.clusters(kinds.threshold).reshape(20, 6)
    assert (people == people[:, :1]).all()
    assert len(np.unique(people)) == 20


def test_no_edge_joins_two_groups() -> None:
    vectors = bunches(20, 6, 0.3)
    groups = np.arange(len(vectors)) % 2
    rows = SpanningForest.build(vectors, groups).rows
    assert len(rows) == len(vectors) - 2
    assert (groups[rows[:, 0]] == groups[rows[:, 1]]).all()


def test_what_is_known_to_be_the_same_is_joined_and_not_judged() -> None:
    vectors = bunches(20, 6, 0.3)
    same = np.array([[0, 119], [0, 1]])
    forest = SpanningForest.build(vectors, same=same)
    people = forest.clusters(np.inf)
    assert people[0] == people[119] == people[1]
    assert len(forest.measured) == len(vectors) - 1 - len(same)


def test_doubles_of_one_scan_hang_together() -> None:
    vectors = np.repeat(bunches(10, 1, 1.0), 15, axis=0)  # more doubles than neighbours that are looked at
    people = SpanningForest.build(vectors).clusters(-0.5).reshape(10, 15)
    assert (people == people[:, :1]).all()


def test_components_number_what_is_joined() -> None:
    assert len(np.unique(connected_scans(5, np.array([[0, 1], [1, 2]])))) == 3


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_two_kinds_are_found_where_they_are(share: float) -> None:
    random = np.random.default_rng(0)
    strong = random.random(4000) < share
    values = np.where(strong, random.normal(0.6, 0.1, 4000), random.normal(0.0, 0.05, 4000))
    kinds = TwoComponentMixture.fit(values)
    assert kinds.share == pytest.approx(share, abs=0.02)
    assert kinds.mean == pytest.approx((0.0, 0.6), abs=0.03)
    assert ((values >= kinds.threshold) == strong).mean() > 0.99


@pytest.mark.parametrize("seed", range(5))
def test_one_skewed_kind_is_not_two(seed: int) -> None:
    values = np.random.default_rng(seed).gumbel(0, 0.05, 2000)  # best of many: how one scan a subject looks
    assert TwoComponentMixture.fit(values).separation < 2
