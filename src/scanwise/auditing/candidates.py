"""Candidate copies: pairs of scans whose local features resemble each other and are turned by about the same angle.

Each point votes for the scans of the points most like it; a vote weighs the more, the more its likeness stands out among these.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from scanwise.cohort.row_files import blocks_of, read_rows, release_pages, store_rows
from scanwise.records import BoolArray, FloatArray, IntArray, StrArray
from scanwise.registration.index import NeighbourIndex, exact_neighbours
from scanwise.registration.keypoints import MIRRORED, Keypoints

VOTERS = 64
"""Points of a scan that vote: those of the most contrast."""
CHOICES = 5
"""Points that each one votes for."""
COMPONENTS = 32
"""Principal components of descriptions that are compared."""
SAMPLE = 50_000
"""Descriptions that the components are fitted on."""
INDEXED = 20_000
"""Descriptions from which an index replaces the comparison of all pairs."""
RECALL = 0.8
"""Share of the true choices that an index must find; a copy has many more votes than it needs."""
TURNS = 12
"""Directions of rotation; the votes of two neighbouring ones count together."""
BLOCK = 512
"""Scans whose votes are counted at once."""
DESCRIBED = 2**16
"""Descriptions that are copied at once."""


def find_candidates(
    points: Keypoints, sides: StrArray, asking: BoolArray, searched: BoolArray, count: int
) -> tuple[IntArray, BoolArray]:
    """(P, 2) pairs, the lower row first, and (P,) whether the map between them mirrors.

    Args:
        points: of all scans.
        sides: (N,) the side of each scan.
        asking: (N,) scans whose copies are searched.
        searched: (N,) scans that may be these copies.
        count: candidates of each scan on every other side; from its own side come half as many, unless it is the only one.
    """
    vectors = _components(points)
    rows: list[IntArray] = [np.empty((0, 2), dtype=np.int64)]
    mirrored: list[BoolArray] = [np.empty(0, dtype=np.bool_)]
    groups = [np.flatnonzero(searched & (sides == side)) for side in np.unique(sides[searched])]
    for references in groups:
        index = _VoteIndex.build(points, vectors, references)
        for own in (True, False):
            queries = np.flatnonzero(asking & ((sides == sides[references[0]]) == own))
            pairs, ways = index.search(queries, max(1, count // 2) if own and len(groups) > 1 else count)
            rows.append(pairs)
            mirrored.append(ways)
    ordered, ways = np.sort(np.concatenate(rows), axis=1), np.concatenate(mirrored)
    first = np.unique((ordered @ np.array([len(sides), 1])) * 2 + ways, return_index=True)[1]
    return ordered[first], ways[first]


def _components(points: Keypoints) -> tuple[FloatArray, ...]:
    """(N, K, COMPONENTS) principal components of the voters' descriptions and those of mirrored ones, in rows of length 1; on disk."""
    from scipy.linalg import eigh

    described = points.descriptions[:, :VOTERS]
    scan, point = np.nonzero(points.present[:, :VOTERS])
    step = max(1, len(scan) // SAMPLE)
    some = described[scan[::step], point[::step]].astype(np.float32)
    both = np.concatenate([some, some[:, MIRRORED]])
    middle = both.mean(axis=0)
    size = both.shape[1]
    axes = eigh((both - middle).T @ (both - middle), subset_by_index=(size - COMPONENTS, size - 1))[1]

    def projected() -> Iterator[tuple[FloatArray, FloatArray]]:
        for rows in blocks_of(len(described), BLOCK):
            block = read_rows(described, rows).astype(np.float32)
            plain, mirrored = ((ordered - middle) @ axes for ordered in (block, block[:, :, MIRRORED]))
            yield _of_length_one(plain), _of_length_one(mirrored)

    return store_rows(projected())


def _of_length_one(vectors: FloatArray) -> FloatArray:
    """Vectors (…, D) as float32, divided by their lengths."""
    vectors = vectors.astype(np.float32, copy=False)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6))


@dataclass(frozen=True, slots=True)
class _VoteIndex:
    """Descriptions of the points of some scans, to be voted for.

    Attributes:
        points: of all scans.
        vectors: (N, K, D) of all scans, plain and mirrored.
        scan: (M,) the scan of each description.
        angle: (M,) the direction of its point.
        nearest: gives the (Q, CHOICES + 2) descriptions most like each of (Q, D), and their likeness.
    """

    points: Keypoints
    vectors: tuple[FloatArray, ...]
    scan: IntArray
    angle: FloatArray
    nearest: Callable[[FloatArray], tuple[IntArray, FloatArray]]

    @classmethod
    def build(cls, points: Keypoints, vectors: tuple[FloatArray, ...], references: IntArray) -> Self:
        row, point = np.nonzero(points.present[references, :VOTERS])
        scan = references[row]
        (described,) = store_rows(
            [read_rows(vectors[0], (scan[part], point[part]))] for part in blocks_of(len(scan), DESCRIBED)
        )
        count = min(CHOICES + 2, len(described))
        index = None if len(described) < INDEXED else NeighbourIndex.build(described, described, count, RECALL)
        release_pages(described)

        def nearest(queries: FloatArray) -> tuple[IntArray, FloatArray]:
            return exact_neighbours(queries, described, count) if index is None else index.search(queries, count)

        return cls(points, vectors, scan, points.angles[scan, point], nearest)

    def search(self, queries: IntArray, count: int) -> tuple[IntArray, BoolArray]:
        """The `count` scans with the most votes of each query: pairs, and whether they are mirrored."""
        rows: list[IntArray] = [np.empty((0, 2), dtype=np.int64)]
        mirrored: list[BoolArray] = [np.empty(0, dtype=np.bool_)]
        for start in range(0, len(queries) if len(self.scan) else 0, BLOCK):
            block = queries[start : start + BLOCK]
            ballots = [self._votes(block, way) for way in (False, True)]
            query, option, turn, weight = (np.concatenate(parts).reshape(-1) for parts in zip(*ballots, strict=True))
            query, option = _elected(query, option, turn, weight, count)
            rows.append(np.stack([block[query], option // 2], axis=1))
            mirrored.append(option % 2 == 1)
        return np.concatenate(rows), np.concatenate(mirrored)

    def _votes(self, block: IntArray, mirrored: bool) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
        """(V, C) the query of each vote, the scan and way it is for, the direction of rotation, and its weight."""
        voter, point = np.nonzero(self.points.present[block, :VOTERS])
        scan = block[voter]
        near, alike = self.nearest(read_rows(self.vectors[int(mirrored)], (scan, point)))
        angle = self.points.angles[scan, point] * (-1 if mirrored else 1)
        turn = (self.angle[near] - angle[:, None]) / (2 * np.pi) % 1
        weight = np.where(near < 0, 0, alike - alike[:, -1:]) * (self.scan[near] != scan[:, None])
        query = np.broadcast_to(voter[:, None], near.shape)
        return query, self.scan[near] * 2 + mirrored, (turn * TURNS).astype(np.int64) % TURNS, weight


def _elected(
    query: IntArray, option: IntArray, turn: IntArray, weight: FloatArray, count: int
) -> tuple[IntArray, IntArray]:
    """The `count` options of each query with the most votes; votes for two neighbouring directions count together."""
    options = int(option.max()) + 1
    cast = weight > 0
    choice = (query * options + option)[cast]
    turns = np.concatenate([turn[cast], (turn[cast] + 1) % TURNS])
    keys, key = np.unique(np.tile(choice, 2) * TURNS + turns, return_inverse=True)
    votes = np.bincount(key.reshape(-1), np.tile(weight[cast], 2).astype(np.float64), len(keys))
    best = rank_within(keys // TURNS, votes) == 0
    choice = keys[best] // TURNS
    chosen = choice[rank_within(choice // options, votes[best]) < count]
    return chosen // options, chosen % options


def rank_within(groups: IntArray, values: FloatArray | IntArray) -> IntArray:
    """(N,) the rank of each value in its group (N,), 0 for the largest."""
    order = np.lexsort((-values, groups))
    start = np.flatnonzero(np.diff(groups[order], prepend=-1))
    rank = np.empty(len(groups), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(start, np.diff(np.append(start, len(order))))
    return rank
