"""Search for augmented copies: one scan mirrored, turned, shifted, zoomed, cropped, bent, of other gray values or saved again.

Candidates are the scans whose local features resemble each other most; a pair counts only once its textures agree window by window
after alignment, and many of their points lie in the same places. Neighbouring slices of a person come near to that, but they lie in
the same place already: a pair that was moved needs less similarity than one that was not. Scans of different people do not come near.
The search makes copies of some scans itself and looks for them too: the share that it finds is what it may claim.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from scanwise.auditing.candidates import find_candidates, rank_within
from scanwise.auditing.copy_kinds import make_copies
from scanwise.auditing.evidence import CopyPairs
from scanwise.auditing.scan_stack import ScanStack
from scanwise.cohort.row_files import blocks_of, read_rows, store_rows
from scanwise.records import BoolArray, FloatArray, IntArray, StrArray
from scanwise.registration.feature_matching import FeatureMatches, match_features
from scanwise.registration.keypoints import Keypoints
from scanwise.registration.likeness import Likeness, measure_likeness
from scanwise.workers import OWN_PROCESS, Workers

CANDIDATES = 6
"""Candidates of each scan on every other side; from its own side half as many."""
FEWEST, LEAST_SHARE = 8, 0.15
"""Points of two scans that must agree in place, and their share of those that both could show."""
TRIES = 3
"""Candidates of each scan whose likeness is measured: those with most such points, across sides and within."""
ZOOM = (0.5, 2.0)
"""Allowed zoom between two scans, in every direction."""
OVERLAP, TEXTURE = 0.3, 0.05
"""Share of a scan that both must show, and share of that which must have texture."""
WEIGHT = 2.0
"""Weight of the share of points in the logarithm of what two scans lack in similarity: copies whose texture suffered still agree in the
places of their points, and things of one outline do not."""
LEAST, MOST = 0.95, 0.996
"""Similarity of a copy that was moved, and the largest that is searched of one in the same place. On four sets 0.6 % of scans reach the
first with a scan that is not their copy; neighbouring slices, which lie in the same place, hardly reach the second."""
PLACE = (0.03, 0.05)
"""Displacement, as a share of the side, up to which two scans lie in the same place, and from which a scan was moved."""
ALIKE, MANY = 0.9, 0.25
"""Similarity from which two scans look alike, and share of scans with two such partners in the same place from which they are slices
of series."""
SPREAD = 3.0
"""Robust standard deviations by which a copy in the same place must then stand out among the second ones of such partners."""
RATIO, SLACK = 2.5, 0.003
"""Factor and offset by which a pair may lack more similarity than the best pair of one of its scans."""
HUB, NEIGHBOUR = 0.1, 0.02
"""Bounds for two scans that resemble a third: what their likeness may lack beside the product of its two, and what it must lack beside
the lesser one."""
CORNERS = np.array([[0.15, 0.15, 0.85, 0.85], [0.15, 0.85, 0.15, 0.85]], dtype=np.float32)
"""Points, as shares of the side, whose displacement is measured."""
MADE = "\0made"
"""Side of the copies made here."""
PIECE = 1024
"""Pairs whose scans are in memory at once."""


def find_copies(
    pixels: NDArray[np.uint8],
    sides: StrArray | None = None,
    of: str = "",
    seed: int = 0,
    workers: Workers = OWN_PROCESS,
) -> CopyPairs:
    """Pairs of scans that are copies of each other, and the share of copies made here that the search finds.

    Args:
        pixels: (N, S, S) scans in the convention of `registration.DETAIL`.
        sides: (N,) the side of each scan; candidates then come from its own side and from the others.
        of: one side, to search only for copies of its scans on the others; a few scans against many take a fraction of the time.
        seed: of the copies made here.
        workers: who looks for points and compares pairs.
    """
    shown = np.flatnonzero(np.concatenate([_not_blank(read_rows(pixels, block)) for block in blocks_of(len(pixels))]))
    side = np.zeros(len(shown), dtype="U1") if sides is None else sides[shown]
    searched = side != of if of else np.ones(len(shown), dtype=np.bool_)
    if len(shown) < 2 or not searched.any() or (of and searched.all()):
        return CopyPairs.none()
    scans = ScanStack(pixels, shown)
    own_copies = make_copies(scans, np.flatnonzero(searched), seed)
    images = replace(scans, added=own_copies.pixels)
    side = np.concatenate([side, np.full(len(own_copies.pixels), MADE)])
    searched = np.concatenate([searched, np.zeros(len(own_copies.pixels), dtype=np.bool_)])
    asking = ~searched if of else np.ones(len(images), dtype=np.bool_)
    pairs = align_candidates(images, side, asking, searched, workers)
    in_place = _similarity_in_place(pairs.take(pairs.rows[:, 1] < len(shown)), len(shown))
    pairs = pairs.take(pairs.similarity >= _required_similarity(pairs.displacement, in_place))
    made_here = pairs.rows[:, 1] >= len(shown)
    own, pairs = pairs.take(made_here), pairs.take(~made_here)
    pairs = pairs.take(_consistent(images, pairs, workers))
    recall = own_copies.recall(own.rows - np.array([0, len(shown)]), pairs.rows)
    return replace(pairs, rows=shown[pairs.rows], recall=recall)


def _required_similarity(displacement: FloatArray, in_place: float) -> FloatArray:
    """(P,) the least similarity of copies: `in_place` of those in the same place, less of those that were moved."""
    near, far = PLACE
    return np.asarray(LEAST + (in_place - LEAST) * np.clip((far - displacement) / (far - near), 0, 1))


def _similarity_in_place(pairs: CopyPairs, count: int) -> float:
    """The similarity by which copies stand out among neighbouring slices of `count` scans.

    A slice has two neighbours, a copy has one origin: so it is the second partner in the same place that counts. The logarithm of
    what it lacks in similarity is about normal.
    """
    near = pairs.take((pairs.displacement < PLACE[1]) & (pairs.similarity >= ALIKE))
    similarity = np.repeat(near.similarity, 2)
    second = similarity[rank_within(near.rows.reshape(-1), similarity) == 1]
    if len(second) < MANY * count:
        return LEAST
    lacking = np.log(np.maximum(1 - second, 1e-4))
    middle = float(np.median(lacking))
    spread = 1.4826 * float(np.median(np.abs(lacking - middle)))
    return float(np.clip(1 - np.exp(middle - SPREAD * spread), LEAST, MOST))


def _not_blank(scans: NDArray[np.uint8]) -> BoolArray:
    """(n,) whether a scan has more than one gray value."""
    flat = scans.reshape(len(scans), -1)
    return np.asarray(flat.min(axis=1) < flat.max(axis=1))


def align_candidates(
    images: ScanStack, sides: StrArray, asking: BoolArray, searched: BoolArray, workers: Workers = OWN_PROCESS
) -> CopyPairs:
    """Candidates that could be copies by the places of their points, with their likeness; arguments as in `find_candidates`."""
    side = images.side
    points = _detect_points(images, workers)
    rows, mirrored = find_candidates(points, sides, asking, searched, CANDIDATES)
    matches = _match_pairs(points, rows, mirrored, side, workers)
    possible = (matches.count >= FEWEST) & (matches.share >= LEAST_SHARE) & _plausible(matches.transform, side)
    rows, count = rows[possible], matches.count[possible]
    across = sides[rows[:, 0]] != sides[rows[:, 1]]
    tried = np.minimum(*(rank_within(2 * ends + across, count) for ends in rows.T)) < TRIES
    rows, transform, share = rows[tried], matches.transform[possible][tried], matches.share[possible][tried]
    likeness = _likeness(images, rows, transform, workers)
    similarity = np.where(likeness > 0, 1 - (1 - likeness) * np.exp(-WEIGHT * share), 0)
    pairs = CopyPairs(rows, similarity, likeness, _displacement(transform, side), transform)
    return pairs.take(rank_within(rows @ np.array([len(images), 1]), similarity) == 0)  # of a pair and its mirror image


def _detect_points(images: ScanStack, workers: Workers) -> Keypoints:
    """The points of all scans, on disk."""
    blocks = (images.take(np.arange(block.start, block.stop)) for block in blocks_of(len(images)))
    parts = workers.map(Keypoints.detect, blocks)
    return Keypoints(*store_rows((part.places, part.sizes, part.angles, part.descriptions) for part in parts))


def _match_pairs(points: Keypoints, rows: IntArray, mirrored: BoolArray, side: int, workers: Workers) -> FeatureMatches:
    """The best affine map of each pair, as `match_features` finds it."""

    def pieces() -> Iterator[tuple[Keypoints, IntArray, BoolArray]]:
        for piece in blocks_of(len(rows), PIECE):
            scans, places = _scans_of(rows[piece])
            fields = (points.places, points.sizes, points.angles, points.descriptions)
            yield Keypoints(*(read_rows(field, scans) for field in fields)), places, mirrored[piece]

    matches = list(workers.map(partial(_match_piece, side), pieces()))
    return FeatureMatches(
        np.concatenate([part.transform for part in matches]),
        np.concatenate([part.count for part in matches]),
        np.concatenate([part.share for part in matches]),
    )


def _match_piece(side: int, piece: tuple[Keypoints, IntArray, BoolArray]) -> FeatureMatches:
    points, rows, mirrored = piece
    return match_features(points, rows, mirrored, side)


def _likeness(images: ScanStack, rows: IntArray, transform: FloatArray, workers: Workers) -> FloatArray:
    """(P,) likeness of pairs, 0 where they show too little of each other."""

    def pieces() -> Iterator[tuple[NDArray[np.uint8], IntArray, FloatArray]]:
        for piece in blocks_of(len(rows), PIECE):
            scans, places = _scans_of(rows[piece])
            yield images.take(scans), places, transform[piece]

    measured = list(workers.map(_compare_piece, pieces()))
    overlap, texture = (np.concatenate([getattr(part, name) for part in measured]) for name in ("overlap", "texture"))
    enough = (overlap >= OVERLAP) & (texture >= TEXTURE)
    return np.where(enough, np.concatenate([part.value for part in measured]), 0)


def _compare_piece(piece: tuple[NDArray[np.uint8], IntArray, FloatArray]) -> Likeness:
    return measure_likeness(*piece)


def _scans_of(rows: IntArray) -> tuple[IntArray, IntArray]:
    """The scans of pairs (P, 2), each once, and the pairs by their places among these."""
    scans, places = np.unique(rows, return_inverse=True)
    return scans, places.reshape(-1, 2)


def _displacement(transform: FloatArray, side: int) -> FloatArray:
    """(P,) largest movement of a point, as a share of the side."""
    corners = CORNERS * side
    moved = transform[:, :, :2] @ corners + transform[:, :, 2:] - corners
    return np.asarray(np.linalg.norm(moved, axis=1).max(axis=1, initial=0) / side)


def _plausible(transform: FloatArray, side: int) -> BoolArray:
    """(P,) whether maps zoom within `ZOOM` in every direction and move the middle by no more than the diagonal."""
    sizes = np.linalg.svd(transform[:, :, :2], compute_uv=False)
    middle = np.full((2, 1), (side - 1) / 2, dtype=np.float32)
    moved = np.linalg.norm(transform[:, :, :2] @ middle + transform[:, :, 2:] - middle, axis=(1, 2))
    return np.asarray((sizes[:, 1] >= ZOOM[0]) & (sizes[:, 0] <= ZOOM[1]) & (moved <= np.sqrt(2) * side))


def _consistent(images: ScanStack, pairs: CopyPairs, workers: Workers) -> BoolArray:
    """(P,) whether a pair is among the best of one of its scans, and the best pair of the other scan does not contradict it.

    Let B match C better than A. If A and B are copies, so are A and C, and A can be laid over C by way of B. They resemble each
    other about as much as the product of their likeness to B: if much less, B is a hub that resembles everything. If A resembles C
    as much as B, and the two are no pair, they are neighbouring slices, and B, a copy of C, only resembles A.
    """
    lack = 1 - pairs.similarity
    best = _best_pairs(pairs)
    least = lack[best[pairs.rows]]
    kept: BoolArray = np.asarray((lack[:, None] <= RATIO * least + SLACK).any(axis=1))
    open_pairs = np.flatnonzero(kept & (lack > least.min(axis=1)))
    second = least[open_pairs, 1] < least[open_pairs, 0]  # whether B is the second scan of its pair
    ends = pairs.rows[open_pairs]
    first, middle = np.where(second[:, None], ends, ends[:, ::-1]).T
    better = best[middle]
    forward = pairs.rows[better, 0] == middle
    third = np.where(forward, pairs.rows[better, 1], pairs.rows[better, 0])
    transform = _compose(
        _oriented(pairs.transform[open_pairs], second), _oriented(pairs.transform[better], forward)
    ).astype(np.float32)
    likeness = _likeness(images, np.stack([first, third], axis=1), transform, workers)
    count = int(pairs.rows.max(initial=0)) + 1
    is_pair = np.isin(np.minimum(first, third) * count + np.maximum(first, third), pairs.rows @ np.array([count, 1]))
    own = pairs.likeness[open_pairs]
    hub = likeness < own * pairs.likeness[better] - HUB
    neighbour = likeness > own - NEIGHBOUR
    kept[open_pairs[~is_pair & (hub | neighbour)]] = False
    return kept


def _best_pairs(pairs: CopyPairs) -> IntArray:
    """(N,) the pair of most similarity of each scan."""
    scan, pair = pairs.rows.T.reshape(-1), np.tile(np.arange(len(pairs)), 2)
    first = rank_within(scan, pairs.similarity[pair]) == 0
    best = np.zeros(int(pairs.rows.max(initial=0)) + 1, dtype=np.int64)
    best[scan[first]] = pair[first]
    return best


def _oriented(transform: FloatArray, forward: BoolArray) -> FloatArray:
    """(B, 2, 3) these maps, inverted where not `forward`."""
    inverse = np.linalg.inv(transform[:, :, :2])
    inverse = np.concatenate([inverse, -inverse @ transform[:, :, 2:]], axis=2)
    return np.where(forward[:, None, None], transform, inverse)


def _compose(first: FloatArray, second: FloatArray) -> FloatArray:
    """(B, 2, 3) the first map followed by the second."""
    return np.concatenate(
        [second[:, :, :2] @ first[:, :, :2], second[:, :, :2] @ first[:, :, 2:] + second[:, :, 2:]], axis=2
    )
