"""Augmented copies: one scan flipped, rotated, shifted, zoomed, brightened or saved again as another file.

Candidates are the most similar scans in a common pose; a pair counts only after alignment: an aligned copy explains nearly all
detail of its original. Neighbouring slices of a person come near to that, but their pose agrees already; so the more a scan had
to be moved, the less it must explain. Scans of different people do not come near.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from scanwise import registration
from scanwise.audit.duplicates import SAME_SCAN
from scanwise.audit.evidence import (
    AuditFinding,
    CopyPairs,
    Evidence,
    PairSheet,
    caption_names,
    make_finding,
)
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
from scanwise.phrases import count_of
from scanwise.records import BoolArray, FloatArray, IntArray, Severity, StrArray

CANDIDATES = 6
"""Candidates of each scan, from all scans or from another side; from its own side half as many."""
SIMILARITY = 0.99
"""Detail that a copy in the same pose must explain; neighbouring slices of the public MRI set reach 0.962."""
ALLOWANCE = 0.04
"""Reduction of that threshold for each of 104 pixels of displacement …"""
MIN_SIMILARITY = 0.8
"""… down to this value; different people of the public MRI set reach 0.754, and of copies that were cropped, noised and saved at low
quality 1 % lie below 0.874."""
COARSE_SIMILARITY = 0.8
"""Lower limit of the threshold in the first alignment, at half the resolution, where all pairs explain more."""
RESIDUAL_RATIO, RESIDUAL_SLACK = 2.5, 0.005
"""Factor and offset by which more detail may be unexplained than in the best pair of a scan."""
UNMOVED = 3.0
"""Displacement, in pixels of 104, up to which two scans have the same pose."""
FULL_TRIES = 3
"""Candidates of each scan that are aligned at full resolution."""
FIRST, SECOND = (SIDE // 2, 4), (SIDE, 5)
"""Side of the canonical picture and number of steps, in the first alignment and at full resolution."""
SAMPLE_PAIRS = 300
"""Pairs that measure how well scans that are not copies explain each other."""
RANKS = ((6, 0.05), (20, 0.2))
"""Ranks among its neighbours between which the other scan of such a pair is drawn: a minimum, and a share of all scans. Nearer
ones would be copies where all scans have many."""
DEVIATIONS, MIN_DEVIATION, MAX_SIMILARITY = 5.0, 0.1, 0.99
"""Robust standard deviations by which a copy must differ from such pairs; the smallest deviation assumed; the largest threshold."""
ROUNDING = 1e-4
"""Unexplained share of the detail that is rounding error."""
SIMPLE = 0.85
"""Threshold from which a finding says that changed copies cannot be detected."""
SHOWN = 24
"""Pairs in a picture."""


def find_copies(pixels: NDArray[np.uint8], sides: StrArray | None = None, of: str = "") -> CopyPairs:
    """Pairs of scans that are copies under a flip, a rotation, a shift, a zoom and any change of intensity.

    Args:
        pixels: (N, S, S) thumbnails.
        sides: (N,) the side of each scan; candidates then come from its own side and from the others.
        of: one side, to search only for copies of its scans on the others; a few scans against many take a fraction of the time.
    """
    shown = np.flatnonzero(pixels.reshape(len(pixels), -1).min(axis=1) < pixels.reshape(len(pixels), -1).max(axis=1))
    if len(shown) < 2:
        return _no_pairs()
    scans = PoseNormalisedScans.of(pixels[shown])
    sides = None if sides is None else sides[shown]
    if sides is not None and of and not (sides == of).any() ^ (sides == of).all():
        return _no_pairs()
    rows, mirrors = _candidates(scans, sides, of)
    copies = _verified(scans, rows, mirrors, sides)
    return replace(copies, rows=shown[copies.rows])


def examine(evidence: Evidence) -> list[AuditFinding]:
    """Copies across sides, under another label and within one side; those that `duplicates` reports are left to it."""
    cohort = evidence.cohort
    side = evidence.split.side if evidence.split is not None else cohort.given
    copies = find_copies(evidence.pixels, side) if evidence.copies is None else evidence.copies
    copies = copies.take(np.argsort(-copies.similarity, kind="stable"))
    left, right = copies.rows.T
    correlation = np.einsum("pd,pd->p", evidence.vectors[left], evidence.vectors[right])
    exact = (cohort.pixels[left] == cohort.pixels[right]) & (cohort.pixels[left] != "")
    copies = copies.take(~(exact | (correlation >= SAME_SCAN)))
    left, right = copies.rows.T
    none = np.zeros(len(copies), dtype=np.bool_)
    across = none if side is None else (side[left] != side[right]) & (side[left] != "") & (side[right] != "")
    relabelled = (cohort.labels[left] != cohort.labels[right]) & ~across
    within = ~across & ~relabelled
    # Scans of one subject stay together in any split, so it does not matter whether they are copies.
    unrelated = ~none if evidence.subject is None else evidence.subject[left] != evidence.subject[right]
    cases: tuple[tuple[str, Severity, BoolArray, str], ...] = (
        (
            "sides",
            "leak",
            across,
            "on another side of the split. Keep copies on the side of their original, or leave them out.",
        ),
        (
            "labels",
            "warning",
            relabelled,
            "under another label. One of the labels is wrong: review them, or remove both.",
        ),
        (
            "within",
            "warning" if side is None and (within & unrelated).any() else "note",
            within,
            "in the same part of the data. They are no additional people: any split must keep them with their original.",
        ),
    )
    findings = [
        _report_copies(evidence, copies.take(rows), name, severity, rest)
        for name, severity, rows, rest in cases
        if rows.any()
    ]
    return findings + _indistinct(copies)


def _indistinct(copies: CopyPairs) -> list[AuditFinding]:
    """A note that changed copies cannot be detected, where any two scans explain each other well."""
    if copies.min_similarity < SIMPLE:
        return []
    message = (
        "Copies with larger changes cannot be detected here: these scans are so similar that any two of them, once aligned, "
        f"explain most of each other. Only pairs that explain {100 * copies.min_similarity:.1f} % count as copies."
    )
    return [make_finding("copies.simple", "note", message)]


def _report_copies(evidence: Evidence, copies: CopyPairs, name: str, severity: Severity, rest: str) -> AuditFinding:
    cohort = evidence.cohort
    side = evidence.split.side if evidence.split is not None else cohort.given
    rows = np.unique(copies.rows)
    message = (
        f"{count_of(len(rows), 'scan')} in {count_of(len(copies), 'pair')} are the same scan flipped, rotated, zoomed, "
        f"brightened or saved again, with the copy {rest}"
    )
    shown = copies.take(np.arange(min(SHOWN, len(copies))))

    names = caption_names(cohort, shown.rows)

    def caption(row: int) -> str:
        prefix = "" if side is None else str(side[row])
        return f"{prefix} {cohort.classes[cohort.labels[row]]} {names[row]}".strip()

    captions = tuple(
        f"{describe_transform(shown, pair)}: {caption(left)} = {caption(right)}"
        for pair, (left, right) in enumerate(shown.rows.tolist())
    )
    return make_finding(f"copies.{name}", severity, message, cohort.path[rows], PairSheet(shown.rows, captions))


def describe_transform(copies: CopyPairs, pair: int) -> str:
    """The change between the scans of a pair, such as "mirrored, rotated by 12°, zoomed by 1.10"."""
    linear = copies.transform[pair, :, :2].astype(np.float64)
    size = float(np.linalg.det(linear))
    u, _, vh = np.linalg.svd(linear * np.array([1.0, np.sign(size)]))
    rotation = u @ vh
    angle = float(np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0])))
    zoom = abs(size) ** 0.5
    words = ["mirrored"] if size < 0 else []
    words += [f"rotated by {angle:.0f}°"] if abs(angle) >= 1 else []
    words += [f"zoomed by {zoom:.2f}"] if abs(zoom - 1) >= 0.01 else []
    return ", ".join(words) or "hardly changed"


def _candidates(scans: PoseNormalisedScans, sides: StrArray | None, of: str = "") -> tuple[IntArray, IntArray]:
    """(P, 2) similar pairs, and the index in `MIRRORS` that the second scan needs."""
    everyone = np.arange(len(scans.vectors))
    if sides is None:
        searches = [(everyone, everyone, CANDIDATES)]
    elif of:
        searches = [(np.flatnonzero(sides == of), np.flatnonzero(sides != of), CANDIDATES)]
    else:
        groups = [np.flatnonzero(sides == side) for side in np.unique(sides)]
        searches = [(a, b, CANDIDATES // 2 if a is b else CANDIDATES) for a in groups for b in groups]
    rows, mirrors, values = (
        np.concatenate(part) for part in zip(*(_most_similar(scans, *search) for search in searches), strict=True)
    )
    order = np.argsort(-values, kind="stable")
    rows, mirrors = np.sort(rows[order], axis=1), mirrors[order]  # a mirror is its own inverse
    first = np.unique(rows @ np.array([len(everyone), 1]), return_index=True)[1]
    return rows[first], mirrors[first]


def _most_similar(
    scans: PoseNormalisedScans, queries: IntArray, references: IntArray, count: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """The `count` references most similar to each query: pairs, mirrors and similarities."""
    patterns = np.concatenate([scans.vectors[queries] * signs for signs in scans.signs])  # at once, to build one index
    near, similarity = registration.nearest_neighbours(patterns, scans.vectors[references], count + 1)
    neighbours = np.concatenate(np.split(references[near], 4), axis=1)
    values = np.concatenate(np.split(similarity, 4), axis=1)
    mirrors = np.repeat(np.arange(4), near.shape[1])
    values = np.where(neighbours == queries[:, None], -np.inf, values)
    best = np.argsort(-values, axis=1, kind="stable")[:, :count]
    value = np.take_along_axis(values, best, axis=1)
    kept = np.isfinite(value)
    pairs = np.stack(
        [np.repeat(queries, best.shape[1]), np.take_along_axis(neighbours, best, axis=1).reshape(-1)], axis=1
    )
    return pairs[kept.reshape(-1)], mirrors[best][kept], value[kept]


def _verified(scans: PoseNormalisedScans, rows: IntArray, mirrors: IntArray, sides: StrArray | None) -> CopyPairs:
    """The pairs that are copies; each scan is aligned at full resolution with its most promising partners alone."""
    least = max(MIN_SIMILARITY, _similarity_of_others(scans))
    coarse = align_pairs(scans, rows, mirrored_poses(scans, rows, mirrors), *FIRST)
    promising = coarse.similarity >= _required_similarity(coarse.displacement, COARSE_SIMILARITY)
    across = np.zeros(len(rows), dtype=np.bool_) if sides is None else sides[rows[:, 0]] != sides[rows[:, 1]]
    promising &= _rank(coarse, promising, across) < FULL_TRIES
    rows, initial = rows[promising], poses_of_second(scans, coarse.take(promising))
    fine = align_pairs(scans, rows, initial, *SECOND)
    accepted = fine.similarity >= _required_similarity(fine.displacement, least)
    fine = fine.take(accepted)
    return replace(to_thumbnail_pixels(fine.take(_consistent(scans, fine))), min_similarity=least)


def _similarity_of_others(scans: PoseNormalisedScans) -> float:
    """Threshold above which a pair differs from similar pairs that are, nearly all of them, not copies.

    Simple pictures (a blob in noise, the ring of a skull) of different people explain each other well. The logarithm of the
    share that such pairs leave unexplained is about normal; a copy must lie `DEVIATIONS` robust deviations below its median.
    """
    rows, mirrors = _similar_pairs(scans)
    coarse = align_pairs(scans, rows, mirrored_poses(scans, rows, mirrors), *FIRST)
    fine = align_pairs(scans, rows, poses_of_second(scans, coarse), *SECOND)
    residual = np.log(np.maximum(1 - fine.similarity[fine.similarity > 0], ROUNDING))
    if not len(residual):
        return 0.0
    middle = float(np.median(residual))
    spread = 1.4826 * float(np.median(np.abs(residual - middle)))
    return min(1 - float(np.exp(middle - DEVIATIONS * max(spread, MIN_DEVIATION))), MAX_SIMILARITY)


def _similar_pairs(scans: PoseNormalisedScans) -> tuple[IntArray, IntArray]:
    """`SAMPLE_PAIRS` scans, each with a neighbour less near than copies are, and the mirror that the neighbour needs."""
    count = len(scans.vectors)
    random = np.random.default_rng(0)
    queries = np.resize(random.permutation(count)[:SAMPLE_PAIRS], min(SAMPLE_PAIRS, count * (count - 1)))
    similarity = np.stack([(scans.vectors[queries] * signs) @ scans.vectors.T for signs in scans.signs])
    similarity[:, np.arange(len(queries)), queries] = -np.inf
    order = np.argsort(-similarity.max(axis=0), axis=1, kind="stable")
    low, high = (min(max(least, int(share * count)), count - 2) for least, share in RANKS)
    others = order[np.arange(len(queries)), random.integers(low, high + 1, len(queries))]
    mirrors = similarity[:, np.arange(len(queries)), others].argmax(axis=0)
    return np.stack([queries, others], axis=1), mirrors


def _required_similarity(displacement: FloatArray, least: float) -> FloatArray:
    """The threshold of a pair, which falls with its displacement."""
    return np.asarray(np.maximum(SIMILARITY - ALLOWANCE * displacement, least))


def _consistent(scans: PoseNormalisedScans, pairs: CopyPairs) -> BoolArray:
    """(P,) whether a pair is among the best of one of its scans, and the best pair of the other scan does not contradict it.

    If A is a copy of B, and B matches C even better, then A is a copy of C: so A and C are aligned as well. If they have the
    same pose and are not copies, they are neighbouring slices, and B, a copy of C, only resembles A.
    """
    residual = 1 - pairs.similarity
    best = _best_pair(pairs.rows, residual)
    least = residual[best[pairs.rows]]
    kept: BoolArray = np.asarray((residual[:, None] <= RESIDUAL_RATIO * least + RESIDUAL_SLACK).any(axis=1))
    open_pairs = np.flatnonzero(kept & (residual > least.min(axis=1)))
    second = (
        least[open_pairs, 1] < least[open_pairs, 0]
    )  # whether B, with the better pair, is the second scan of its pair
    ends = pairs.rows[open_pairs]
    first, middle = np.where(second[:, None], ends, ends[:, ::-1]).T
    better = best[middle]
    forward = pairs.rows[better, 0] == middle
    third = np.where(forward, pairs.rows[better, 1], pairs.rows[better, 0])
    transform = compose_transforms(
        orient_transforms(pairs.transform[open_pairs], second), orient_transforms(pairs.transform[better], forward)
    )
    rows = np.stack([first, third], axis=1)
    unaligned = CopyPairs(rows, residual[open_pairs], residual[open_pairs], transform)
    aligned = align_pairs(scans, rows, poses_of_second(scans, unaligned), *SECOND)
    different = aligned.similarity < _required_similarity(aligned.displacement, 0)
    kept[open_pairs[(aligned.displacement < UNMOVED) & different]] = False
    return kept


def _best_pair(rows: IntArray, residual: FloatArray) -> IntArray:
    """(N,) the pair of each scan that leaves least unexplained."""
    scan, pair = rows.T.reshape(-1), np.tile(np.arange(len(rows)), 2)
    order = np.lexsort((residual[pair], scan))
    first = order[np.flatnonzero(np.diff(scan[order], prepend=-1))]
    best = np.zeros(int(rows.max(initial=0)) + 1, dtype=np.int64)
    best[scan[first]] = pair[first]
    return best


def _rank(pairs: CopyPairs, promising: BoolArray, across: BoolArray) -> IntArray:
    """(P,) the better of the ranks of a pair among the promising pairs of its two scans, across sides or within."""
    value = np.where(promising, pairs.similarity, -np.inf)
    best = np.full(len(pairs), len(pairs))
    for column in (0, 1):
        scan = 2 * pairs.rows[:, column] + across
        order = np.lexsort((-value, scan))
        start = np.flatnonzero(np.diff(scan[order], prepend=-1))
        rank = np.arange(len(order)) - np.repeat(start, np.diff(np.append(start, len(order))))
        best[order] = np.minimum(best[order], rank)
    return best


def _no_pairs() -> CopyPairs:
    return CopyPairs(np.empty((0, 2), dtype=np.int64), np.empty(0), np.empty(0), np.empty((0, 2, 3), dtype=np.float32))
