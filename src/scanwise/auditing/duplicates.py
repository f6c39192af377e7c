"""Duplicates: scans with the same pixels, or the same but for recompression or resizing.

A perceptual hash would match any two centred heads on black. Here blurred pixels are compared, which an encoder hardly
changes, with a threshold that neither a neighbouring slice nor another person reaches.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scanwise.auditing.evidence import AuditFinding, Evidence, PairSheet, caption_names, make_finding
from scanwise.phrases import count_of
from scanwise.records import Cohort, FloatArray, IntArray, Severity, Split
from scanwise.registration import nearest_neighbours

NEIGHBOURS = 8
"""Nearest scans that each one is compared with: itself, and a few more in case of several copies."""
BLOCK = 4
"""Side of the blocks of pixels whose means are compared first: all pairs then cost a sixteenth."""
POOLED = 0.995
"""Correlation of those means from which two scans are compared in full. A pair that reaches `SAME_SCAN` differs by 0.0004 of its
variance at most, and so do its means: this holds while they keep a twenty-fifth of the variance."""
SAME_SCAN = 0.9998
"""Correlation of blurred thumbnails from which two scans are the same: JPEG at quality 40, and half the size, leave at least that
much on scans. Neighbouring slices and different people correlate 0.9991 at most on four cohorts."""


def examine(evidence: Evidence) -> list[AuditFinding]:
    """Exact and near duplicates, across sides, across labels and within; no finding where there are none."""
    exact = exact_duplicates(evidence.cohort)
    near = near_duplicates(evidence, exact)
    findings = _report_groups(evidence, exact, "exact", "have exactly the same pixels as another")
    return findings + _report_groups(
        evidence, near, "near", "are the same as another but for recompression or resizing"
    )


def exact_duplicates(cohort: Cohort) -> list[IntArray]:
    """Groups of rows with the same pixels; blank scans are in none."""
    return _rows_by_key(cohort.pixels.tolist())


def near_duplicates(evidence: Evidence, same: Sequence[IntArray] = ()) -> list[IntArray]:
    """(2,) pairs of rows that differ by no more than an encoder does; pairs within a group of `same` are left out."""
    group = np.arange(len(evidence))
    for rows in same:
        group[rows] = rows[0]
    coarse = _block_means(evidence.vectors)
    neighbours, values = nearest_neighbours(coarse, coarse, NEIGHBOURS)
    row, rank = np.nonzero(values >= POOLED)
    pairs = np.unique(np.sort(np.stack([row, neighbours[row, rank]], axis=1), axis=1), axis=0)
    pairs = pairs[_correlations(evidence.vectors, pairs) >= SAME_SCAN]
    return list(pairs[group[pairs[:, 0]] != group[pairs[:, 1]]])


def _block_means(vectors: FloatArray) -> FloatArray:
    """(N, D // 16) means of blocks of four by four pixels, in rows of length 1, for a first comparison."""
    side = round(vectors.shape[1] ** 0.5)
    kept = max(side // BLOCK * BLOCK, 1)
    step = min(BLOCK, kept)
    square = vectors.reshape(-1, side, side)[:, :kept, :kept]
    small = square.reshape(-1, kept // step, step, kept // step, step).mean(axis=(2, 4)).reshape(len(vectors), -1)
    norm = np.linalg.norm(small, axis=1, keepdims=True)
    return np.asarray(small / np.where(norm > 0, norm, 1), dtype=np.float32)


def _correlations(vectors: FloatArray, pairs: IntArray) -> FloatArray:
    """(P,) products of the rows of each pair."""
    values = np.empty(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), 4096):
        left, right = pairs[start : start + 4096].T
        values[start : start + 4096] = np.einsum("pd,pd->p", vectors[left], vectors[right])
    return values


def _report_groups(evidence: Evidence, groups: Sequence[IntArray], kind: str, relation: str) -> list[AuditFinding]:
    """One finding for groups under two labels, one for those on two sides, one for the rest."""
    labels = evidence.cohort.labels
    side = _sides(evidence.cohort, evidence.split)
    across_labels = [rows for rows in groups if len(set(labels[rows].tolist())) > 1]
    across_sides = [rows for rows in groups if len(set(side[rows].tolist()) - {""}) > 1]
    apart = {int(rows[0]) for rows in (*across_labels, *across_sides)}
    rest = [rows for rows in groups if int(rows[0]) not in apart]
    cases: tuple[tuple[str, Severity, list[IntArray], str, str], ...] = (
        (
            "labels",
            "warning",
            across_labels,
            " under another label",
            "One of the labels is wrong: review them, or remove both.",
        ),
        (
            "sides",
            "leak",
            across_sides,
            " on another side of the split",
            "Keep one of each, or put them on the same side.",
        ),
        ("twice", "warning" if kind == "exact" else "note", rest, "", "They count twice; keep one of each."),
    )
    return [
        make_finding(
            f"duplicates.{kind}.{name}",
            severity,
            f"{sum(map(len, members)):,} scans in {count_of(len(members), 'group')} {relation}{where}. {advice}",
            evidence.cohort.path[np.concatenate(members)],
            _pair_sheet(evidence.cohort, side, members),
        )
        for name, severity, members, where, advice in cases
        if members
    ]


def _pair_sheet(cohort: Cohort, side: NDArray[np.str_], groups: Sequence[IntArray]) -> PairSheet:
    rows = [pair for group in groups for pair in pairwise(group.tolist())]

    names = caption_names(cohort, np.array(rows))

    def caption(row: int) -> str:
        return f"{side[row]} {cohort.classes[cohort.labels[row]]} {names[row]}".strip()

    return PairSheet(np.array(rows), tuple(f"{caption(left)} = {caption(right)}" for left, right in rows))


def _sides(cohort: Cohort, split: Split | None) -> NDArray[np.str_]:
    if split is not None:
        return split.side
    return np.full(len(cohort), "") if cohort.given is None else cohort.given


def _rows_by_key(keys: Sequence[str]) -> list[IntArray]:
    """Rows with the same key, for keys that are not empty and come more than once."""
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        if key:
            rows.setdefault(key, []).append(row)
    return [np.array(members) for members in rows.values() if len(members) > 1]
