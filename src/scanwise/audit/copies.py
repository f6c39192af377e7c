"""Augmented copies: one scan flipped, turned, shifted, zoomed, brightened or saved again, standing elsewhere.

Found by what scans show in one common pose, and believed only after the two were laid over each other: an aligned copy
explains nearly all detail of its origin. Neighbouring slices of a person come near to that as well, but they lie alike
already; so the more a scan had to be moved, the less it must explain. Different people do not come near.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from scanwise import registration
from scanwise.audit.duplicates import SAME_SCAN
from scanwise.audit.evidence import AuditFinding, CopyPairs, Evidence, PairSheet, make_finding, short_file_name
from scanwise.audit.pose_matching import (
    SIDE,
    PoseNormalisedScans,
    align_pairs,
    compose_transforms,
    mirrored_poses,
    orient_transforms,
    poses_of_second,
    to_thumbnail_pixels,
)
from scanwise.records import BoolArray, FloatArray, IntArray, Severity, StrArray

CANDIDATES = 6
"""Scans that each one is laid over, of all or of another side; of its own side half of that."""
SIMILARITY = 0.99
"""What a scan must explain of another that lies just so; neighbouring slices of the public MRI set reach 0.962."""
ALLOWANCE = 0.04
"""By how much less, for each of 104 pixels that it had to be moved …"""
MIN_SIMILARITY = 0.8
"""… down to this; different people of the public MRI set reach 0.754, and of copies that were cut, noised and saved at low
quality 1 % lie below 0.874."""
COARSE_SIMILARITY = 0.8
"""The same on the first try at half the resolution, on which everything explains more."""
WORSE, SLACK = 2.5, 0.005
"""By how much more may be unexplained than in the best pair of a scan."""
UNMOVED = 3.0
"""Pixels of 104 that a scan may be moved to be said to lie just so."""
FULL_TRIES = 3
"""Candidates of each scan that are tried in full."""
FIRST, SECOND = (SIDE // 2, 4), (SIDE, 5)
"""Side of the canonical picture and steps, on the first try and in full."""
SAMPLE_PAIRS = 300
"""Pairs that tell how well scans explain each other that are no copies."""
RANKS = ((6, 0.05), (20, 0.2))
"""From and to which place of its neighbours the other scan of these is drawn: at least, and as a share of all scans. Nearer
places would be copies where all scans have many."""
FAR, NARROWEST, MOST = 5.0, 0.1, 0.99
"""By how many robust deviations a copy must lie off those; the least that a deviation is taken for; the most that is asked."""
ROUNDING = 1e-4
"""Share of the detail that is rounding error."""
SIMPLE = 0.85
"""What a pair must explain from which it is said that little can be told."""
SHOWN = 24
"""Pairs in a picture."""


def find_copies(pixels: NDArray[np.uint8], sides: StrArray | None = None, of: str = "") -> CopyPairs:
    """The pairs of scans that are one under a flip, a rotation, a shift, a zoom and any change of intensity.

    Args:
        pixels: (N, S, S) thumbnails.
        sides: (N,) the side of each scan; candidates are then sought on the own side and on the others.
        of: a side of which alone copies on the others are sought; a few strangers beside many scans take a fraction of the time.
    """
    shown = np.flatnonzero(pixels.reshape(len(pixels), -1).min(axis=1) < pixels.reshape(len(pixels), -1).max(axis=1))
    if len(shown) < 2:
        return _none()
    scans = PoseNormalisedScans.of(pixels[shown])
    sides = None if sides is None else sides[shown]
    if sides is not None and of and not (sides == of).any() ^ (sides == of).all():
        return _none()
    rows, mirrors = _candidates(scans, sides, of)
    found = _verified(scans, rows, mirrors, sides)
    return replace(found, rows=shown[found.rows])


def examine(evidence: Evidence) -> list[AuditFinding]:
    """Copies on two sides, under two labels, and within one side; what `duplicates` has found is left to it."""
    known = evidence.cohort
    side = evidence.split.side if evidence.split is not None else known.given
    found = find_copies(evidence.pixels, side) if evidence.copies is None else evidence.copies
    found = found.take(np.argsort(-found.similarity, kind="stable"))
    one, other = found.rows.T
    alike = np.einsum("pd,pd->p", evidence.vectors[one], evidence.vectors[other])
    doubles = ((known.pixels[one] == known.pixels[other]) & (known.pixels[one] != "")) | (alike >= SAME_SCAN)
    found = found.take(~doubles)
    one, other = found.rows.T
    nowhere = np.zeros(len(found), dtype=np.bool_)
    across = nowhere if side is None else (side[one] != side[other]) & (side[one] != "") & (side[other] != "")
    torn = (known.labels[one] != known.labels[other]) & ~across
    within = ~across & ~torn
    # Two scans of one person stay together whatever is done; then it is no matter whether they are one.
    strangers = ~nowhere if evidence.subject is None else evidence.subject[one] != evidence.subject[other]
    cases: tuple[tuple[str, Severity, BoolArray, str], ...] = (
        (
            "sides",
            "leak",
            across,
            "on another side of the split. Keep copies on the side of their origin, or leave them out.",
        ),
        ("labels", "warning", torn, "under another label. One of the labels is wrong: look, or remove both."),
        (
            "within",
            "warning" if side is None and (within & strangers).any() else "note",
            within,
            "among the rest. They are no further people: whoever splits must keep them with their origin.",
        ),
    )
    noted = [
        _noted(evidence, found.take(here), name, severity, told) for name, severity, here, told in cases if here.any()
    ]
    return noted + _simple(found)


def _simple(found: CopyPairs) -> list[AuditFinding]:
    """That little can be told, where any two scans explain each other well."""
    if found.min_similarity < SIMPLE:
        return []
    message = (
        "These scans are so alike that any two of them, turned to fit, explain most of each other. Only pairs that explain "
        f"{100 * found.min_similarity:.1f} % are called copies here; copies that were changed more cannot be told."
    )
    return [make_finding("copies.simple", "note", message)]


def _noted(evidence: Evidence, found: CopyPairs, name: str, severity: Severity, where: str) -> AuditFinding:
    known = evidence.cohort
    side = evidence.split.side if evidence.split is not None else known.given
    rows = np.unique(found.rows)
    message = (
        f"{len(rows):,} scans in {len(found):,} pairs are one scan flipped, turned, zoomed, brightened or saved again, "
        f"with its copy {where}"
    )
    shown = found.take(np.arange(min(SHOWN, len(found))))

    def named(row: int) -> str:
        sided = "" if side is None else str(side[row])
        return f"{sided} {known.classes[known.labels[row]]} {short_file_name(known.path[row])}".strip()

    captions = tuple(
        f"{describe_transform(shown, pair)}: {named(one)} = {named(other)}"
        for pair, (one, other) in enumerate(shown.rows.tolist())
    )
    return make_finding(f"copies.{name}", severity, message, known.path[rows], PairSheet(shown.rows, captions))


def describe_transform(found: CopyPairs, pair: int) -> str:
    """What was done to one scan of a pair to make the other: "mirrored, turned by 12°, zoomed by 1.10"."""
    linear = found.transform[pair, :, :2].astype(np.float64)
    size = float(np.linalg.det(linear))
    left, _, right = np.linalg.svd(linear * np.array([1.0, np.sign(size)]))
    turn = left @ right
    angle = float(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])))
    zoom = abs(size) ** 0.5
    words = ["mirrored"] if size < 0 else []
    words += [f"turned by {angle:.0f}°"] if abs(angle) >= 1 else []
    words += [f"zoomed by {zoom:.2f}"] if abs(zoom - 1) >= 0.01 else []
    return ", ".join(words) or "hardly moved"


def _candidates(scans: PoseNormalisedScans, sides: StrArray | None, of: str = "") -> tuple[IntArray, IntArray]:
    """(P, 2) pairs that look alike, and which of `MIRRORS` the second one needs."""
    everyone = np.arange(len(scans.vectors))
    if sides is None:
        asked = [(everyone, everyone, CANDIDATES)]
    elif of:
        asked = [(np.flatnonzero(sides == of), np.flatnonzero(sides != of), CANDIDATES)]
    else:
        groups = [np.flatnonzero(sides == side) for side in np.unique(sides)]
        asked = [(a, b, CANDIDATES // 2 if a is b else CANDIDATES) for a in groups for b in groups]
    rows, mirrors, values = (np.concatenate(part) for part in zip(*(_alike(scans, *ask) for ask in asked), strict=True))
    order = np.argsort(-values, kind="stable")
    rows, mirrors = np.sort(rows[order], axis=1), mirrors[order]  # a mirror is its own inverse
    first = np.unique(rows @ np.array([len(everyone), 1]), return_index=True)[1]
    return rows[first], mirrors[first]


def _alike(
    scans: PoseNormalisedScans, one: IntArray, other: IntArray, count: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """The best `count` of `other` for each of `one`: pairs, mirrors and likeness."""
    asked = np.concatenate([scans.vectors[one] * signs for signs in scans.signs])  # at once, for an index is made once
    near, alike = registration.nearest_neighbours(asked, scans.vectors[other], count + 1)
    places = np.concatenate(np.split(other[near], 4), axis=1)
    values = np.concatenate(np.split(alike, 4), axis=1)
    mirrors = np.repeat(np.arange(4), near.shape[1])
    values = np.where(places == one[:, None], -np.inf, values)
    best = np.argsort(-values, axis=1, kind="stable")[:, :count]
    value = np.take_along_axis(values, best, axis=1)
    kept = np.isfinite(value)
    pairs = np.stack([np.repeat(one, best.shape[1]), np.take_along_axis(places, best, axis=1).reshape(-1)], axis=1)
    return pairs[kept.reshape(-1)], mirrors[best][kept], value[kept]


def _verified(scans: PoseNormalisedScans, rows: IntArray, mirrors: IntArray, sides: StrArray | None) -> CopyPairs:
    """Of these pairs those that are one scan; each scan is tried in full with its most promising partners alone."""
    least = max(MIN_SIMILARITY, _standing_out(scans))
    coarse = align_pairs(scans, rows, mirrored_poses(scans, rows, mirrors), *FIRST)
    hopeful = coarse.similarity >= _needed(coarse.displacement, COARSE_SIMILARITY)
    across = np.zeros(len(rows), dtype=np.bool_) if sides is None else sides[rows[:, 0]] != sides[rows[:, 1]]
    hopeful &= _rank(coarse, hopeful, across) < FULL_TRIES
    rows, begun = rows[hopeful], poses_of_second(scans, coarse.take(hopeful))
    fine = align_pairs(scans, rows, begun, *SECOND)
    believed = fine.similarity >= _needed(fine.displacement, least)
    fine = fine.take(believed)
    return replace(to_thumbnail_pixels(fine.take(_kept(scans, fine))), min_similarity=least)


def _standing_out(scans: PoseNormalisedScans) -> float:
    """What a pair must explain to stand out among pairs that look alike and are, nearly all of them, no copies.

    Simple pictures (a blob in noise, the ring of a skull) explain each other well, whoever they are of. What such pairs
    leave unexplained tells it: its logarithm is about normal, and a copy must lie `FAR` robust deviations below the median.
    """
    rows, mirrors = _lookalikes(scans)
    coarse = align_pairs(scans, rows, mirrored_poses(scans, rows, mirrors), *FIRST)
    fine = align_pairs(scans, rows, poses_of_second(scans, coarse), *SECOND)
    left = np.log(np.maximum(1 - fine.similarity[fine.similarity > 0], ROUNDING))
    if not len(left):
        return 0.0
    middle = float(np.median(left))
    spread = 1.4826 * float(np.median(np.abs(left - middle)))
    return min(1 - float(np.exp(middle - FAR * max(spread, NARROWEST))), MOST)


def _lookalikes(scans: PoseNormalisedScans) -> tuple[IntArray, IntArray]:
    """`SAMPLE_PAIRS` scans, each with one that is near it, but not so near as copies are; and the mirror that this one needs."""
    count = len(scans.vectors)
    random = np.random.default_rng(0)
    one = np.resize(random.permutation(count)[:SAMPLE_PAIRS], min(SAMPLE_PAIRS, count * (count - 1)))
    alike = np.stack([(scans.vectors[one] * signs) @ scans.vectors.T for signs in scans.signs])
    alike[:, np.arange(len(one)), one] = -np.inf
    order = np.argsort(-alike.max(axis=0), axis=1, kind="stable")
    low, high = (min(max(least, int(share * count)), count - 2) for least, share in RANKS)
    other = order[np.arange(len(one)), random.integers(low, high + 1, len(one))]
    return np.stack([one, other], axis=1), alike[:, np.arange(len(one)), other].argmax(axis=0)


def _needed(moved: FloatArray, least: float) -> FloatArray:
    """What a pair must explain, by how far one was moved."""
    return np.asarray(np.maximum(SIMILARITY - ALLOWANCE * moved, least))


def _kept(scans: PoseNormalisedScans, found: CopyPairs) -> BoolArray:
    """(P,) whether a pair is among the best of one of its scans, and the best one of the other does not deny it.

    Where A is B, and C is B even more, A is C. So these two are tried as well. Where they lie just so and are not one,
    they are neighbouring slices, and B, a copy of C, is no more than like A.
    """
    left = 1 - found.similarity
    best = _best(found.rows, left)
    least = left[best[found.rows]]
    kept: BoolArray = np.asarray((left[:, None] <= WORSE * least + SLACK).any(axis=1))
    asked = np.flatnonzero(kept & (left > least.min(axis=1)))
    second = least[asked, 1] < least[asked, 0]  # whether B, with the better partner, is the second scan of its pair
    one, middle = np.where(second[:, None], found.rows[asked], found.rows[asked][:, ::-1]).T
    better = best[middle]
    onward = found.rows[better, 0] == middle
    other = np.where(onward, found.rows[better, 1], found.rows[better, 0])
    way = compose_transforms(
        orient_transforms(found.transform[asked], second), orient_transforms(found.transform[better], onward)
    )
    tried = CopyPairs(np.stack([one, other], axis=1), left[asked], left[asked], way)
    tried = align_pairs(scans, tried.rows, poses_of_second(scans, tried), *SECOND)
    kept[asked[(tried.displacement < UNMOVED) & (tried.similarity < _needed(tried.displacement, 0))]] = False
    return kept


def _best(rows: IntArray, left: FloatArray) -> IntArray:
    """(N,) the pair of each scan that leaves least unexplained."""
    scan, pair = rows.T.reshape(-1), np.tile(np.arange(len(rows)), 2)
    order = np.lexsort((left[pair], scan))
    first = order[np.flatnonzero(np.diff(scan[order], prepend=-1))]
    found = np.zeros(int(rows.max(initial=0)) + 1, dtype=np.int64)
    found[scan[first]] = pair[first]
    return found


def _rank(found: CopyPairs, hopeful: BoolArray, across: BoolArray) -> IntArray:
    """(P,) the lower of the places that a pair takes among the hopeful pairs of its two scans, across sides or not."""
    value = np.where(hopeful, found.similarity, -np.inf)
    best = np.full(len(found), len(found))
    for column in (0, 1):
        scan = 2 * found.rows[:, column] + across
        order = np.lexsort((-value, scan))
        start = np.flatnonzero(np.diff(scan[order], prepend=-1))
        place = np.arange(len(order)) - np.repeat(start, np.diff(np.append(start, len(order))))
        best[order] = np.minimum(best[order], place)
    return best


def _none() -> CopyPairs:
    return CopyPairs(np.empty((0, 2), dtype=np.int64), np.empty(0), np.empty(0), np.empty((0, 2, 3), dtype=np.float32))
