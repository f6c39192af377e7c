"""The same scan twice: pixel by pixel, or as recompression and resizing leave it.

A hash of small pictures would call any two centred heads on black the same. Here blurred pixels are compared, which an
encoder hardly touches, and so closely that another slice or another person is none.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scanwise.audit.evidence import AuditFinding, Evidence, PairSheet, make_finding, short_file_name
from scanwise.records import Cohort, FloatArray, IntArray, Severity, Split
from scanwise.registration import nearest_neighbours

NEIGHBOURS = 8
"""Scans that each one is compared with: itself among them, and a few where there are more than two copies."""
BLOCK = 4
"""Side of the blocks of pixels whose means scans are looked up by: all pairs then cost a sixteenth."""
POOLED = 0.995
"""Correlation of those means from which two scans are compared in full. A pair that reaches `ALIKE` differs by 0.0004 of its
variance at most, and so do its means: this holds while they keep a twenty-fifth of the variance."""
ALIKE = 0.9998
"""Correlation of blurred thumbnails from which two scans are one: JPEG at quality 40, and half the size, leave at least that
much on scans. Neighbouring slices and different people correlate 0.9991 at most on four cohorts."""


def examine(evidence: Evidence) -> list[AuditFinding]:
    """Exact and near duplicates, across sides, across labels and within; none is a note of its own."""
    same = exact_duplicates(evidence.cohort)
    found = _noted(evidence, same, "exact", "have exactly the same pixels as another")
    alike = near_duplicates(evidence, same)
    return found + _noted(evidence, alike, "near", "are the same as another but for recompression or resizing")


def exact_duplicates(known: Cohort) -> list[IntArray]:
    """Rows that share all their pixels, a group a picture; a scan of one single value is in none."""
    return _groups(known.pixels.tolist())


def near_duplicates(evidence: Evidence, same: Sequence[IntArray] = ()) -> list[IntArray]:
    """(2,) pairs of rows that differ by no more than an encoder leaves; pairs within a group of `same` are left out."""
    group = np.arange(len(evidence))
    for rows in same:
        group[rows] = rows[0]
    coarse = _pooled(evidence.vectors)
    places, values = nearest_neighbours(coarse, coarse, NEIGHBOURS)
    one, rank = np.nonzero(values >= POOLED)
    pairs = np.unique(np.sort(np.stack([one, places[one, rank]], axis=1), axis=1), axis=0)
    pairs = pairs[_likeness(evidence.vectors, pairs) >= ALIKE]
    return list(pairs[group[pairs[:, 0]] != group[pairs[:, 1]]])


def _pooled(vectors: FloatArray) -> FloatArray:
    """(N, D // 16) means of blocks of four pixels, in rows of length 1: what two scans are looked up by."""
    side = round(vectors.shape[1] ** 0.5)
    kept = max(side // BLOCK * BLOCK, 1)
    step = min(BLOCK, kept)
    square = vectors.reshape(-1, side, side)[:, :kept, :kept]
    small = square.reshape(-1, kept // step, step, kept // step, step).mean(axis=(2, 4)).reshape(len(vectors), -1)
    norm = np.linalg.norm(small, axis=1, keepdims=True)
    return np.asarray(small / np.where(norm > 0, norm, 1), dtype=np.float32)


def _likeness(vectors: FloatArray, pairs: IntArray) -> FloatArray:
    """(P,) products of the rows of each pair."""
    found = np.empty(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), 4096):
        one, other = pairs[start : start + 4096].T
        found[start : start + 4096] = np.einsum("pd,pd->p", vectors[one], vectors[other])
    return found


def _noted(evidence: Evidence, groups: Sequence[IntArray], kind: str, what: str) -> list[AuditFinding]:
    """One finding for groups under two labels, one for those on two sides, one for the rest."""
    labels = evidence.cohort.labels
    side = _sides(evidence.cohort, evidence.split)
    torn = [rows for rows in groups if len(set(labels[rows].tolist())) > 1]
    parted = [rows for rows in groups if len(set(side[rows].tolist()) - {""}) > 1]
    apart = {int(rows[0]) for rows in (*torn, *parted)}
    rest = [rows for rows in groups if int(rows[0]) not in apart]
    cases: tuple[tuple[str, Severity, list[IntArray], str, str], ...] = (
        ("labels", "warning", torn, " under another label", "One of the labels is wrong: look, or remove both."),
        ("sides", "leak", parted, " on another side of the split", "Remove one of each, or put both on one side."),
        ("twice", "warning" if kind == "exact" else "note", rest, "", "They count twice; remove one of each."),
    )
    return [
        make_finding(
            f"duplicates.{kind}.{name}",
            severity,
            f"{sum(map(len, here)):,} scans in {len(here):,} group{'s' * (len(here) > 1)} {what}{where}. {advice}",
            evidence.cohort.path[np.concatenate(here)],
            _pairs(evidence.cohort, side, here),
        )
        for name, severity, here, where, advice in cases
        if here
    ]


def _pairs(known: Cohort, side: NDArray[np.str_], groups: Sequence[IntArray]) -> PairSheet:
    rows = [pair for group in groups for pair in pairwise(group.tolist())]

    def named(row: int) -> str:
        return f"{side[row]} {known.classes[known.labels[row]]} {short_file_name(known.path[row])}".strip()

    return PairSheet(np.array(rows), tuple(f"{named(one)} = {named(other)}" for one, other in rows))


def _sides(known: Cohort, split: Split | None) -> NDArray[np.str_]:
    if split is not None:
        return split.side
    return np.full(len(known), "") if known.given is None else known.given


def _groups(keys: Sequence[str]) -> list[IntArray]:
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        if key:
            rows.setdefault(key, []).append(row)
    return [np.array(some) for some in rows.values() if len(some) > 1]
