"""The same scan twice: pixel by pixel, or as recompression and resizing leave it.

A hash of small pictures would call any two centred heads on black the same. Here blurred pixels are compared, which an
encoder hardly touches, and so closely that another slice or another person is none.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scanwise.audit.evidence import Evidence, Noted, Pairs, note
from scanwise.records import Cohort, IntArray, Severity, Split
from scanwise.registration import neighbours

NEIGHBOURS = 4
"""Scans that each one is compared with: itself among them, and a few where there are more than two copies."""
ALIKE = 0.9998
"""Correlation of blurred thumbnails from which two scans are one: JPEG at quality 40, and half the size, leave at least that
much on scans. Neighbouring slices and different people correlate 0.9991 at most on four cohorts."""


def examine(evidence: Evidence) -> list[Noted]:
    """Exact and near duplicates, across sides, across labels and within; none is a note of its own."""
    same = exact(evidence.cohort)
    found = _noted(evidence, same, "exact", "have exactly the same pixels as another")
    alike = near(evidence, same)
    return found + _noted(evidence, alike, "near", "are the same as another but for recompression or resizing")


def exact(known: Cohort) -> list[IntArray]:
    """Rows that share all their pixels, a group a picture; a scan of one single value is in none."""
    return _groups(known.pixels.tolist())


def near(evidence: Evidence, same: Sequence[IntArray] = ()) -> list[IntArray]:
    """(2,) pairs of rows that differ by no more than an encoder leaves; pairs within a group of `same` are left out."""
    group = np.arange(len(evidence))
    for rows in same:
        group[rows] = rows[0]
    places, values = neighbours(evidence.vectors, evidence.vectors, NEIGHBOURS)
    one, rank = np.nonzero(values >= ALIKE)
    pairs = np.unique(np.sort(np.stack([one, places[one, rank]], axis=1), axis=1), axis=0)
    return list(pairs[group[pairs[:, 0]] != group[pairs[:, 1]]])


def _noted(evidence: Evidence, groups: Sequence[IntArray], kind: str, what: str) -> list[Noted]:
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
        note(
            f"duplicates.{kind}.{name}",
            severity,
            f"{sum(map(len, here)):,} scans in {len(here):,} group{'s' * (len(here) > 1)} {what}{where}. {advice}",
            evidence.cohort.path[np.concatenate(here)],
            _pairs(evidence.cohort, side, here),
        )
        for name, severity, here, where, advice in cases
        if here
    ]


def _pairs(known: Cohort, side: NDArray[np.str_], groups: Sequence[IntArray]) -> Pairs:
    rows = [pair for group in groups for pair in pairwise(group.tolist())]

    def called(row: int) -> str:
        return f"{side[row]} {known.classes[known.labels[row]]} {known.path[row].rpartition('/')[2]}".strip()

    return Pairs(np.array(rows), tuple(f"{called(one)} = {called(other)}" for one, other in rows))


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
