"""Twins of a leak: pairs of one scan on the test side and one in training, to be seen side by side."""

from collections.abc import Iterator

import numpy as np

from scanwise.auditing.evidence import Evidence, FindingPicture, PairSheet, caption_names
from scanwise.records import IntArray, StrArray

PAIRS_SHOWN = 3


def find_twins(evidence: Evidence, picture: FindingPicture | None) -> PairSheet | None:
    """Pairs of a leak across the sides of the split, at most `PAIRS_SHOWN`, each of other scans.

    The pairs of the finding's own picture where it has some across sides; else the most similar scans of one person, or where
    nobody is known scans with the same pixels.

    Args:
        evidence: the cohort and its split.
        picture: of the finding; None where it has none.

    Returns:
        rows (P, 2), the test scan first and its twin in training second, each pair with the names of both; None where there
        is no split, or no such pair.
    """
    side = evidence.cohort.given if evidence.split is None else evidence.split.side
    if side is None:
        return None
    candidates = picture.rows.tolist() if isinstance(picture, PairSheet) else _pairs_of_people(evidence, side)
    pairs: list[tuple[int, int]] = []
    for left, right in candidates:
        scan, origin = (right, left) if side[left] == "train" else (left, right)
        fresh = not {scan, origin} & {row for pair in pairs for row in pair}
        if side[origin] == "train" and side[scan] not in ("", "train") and fresh:
            pairs.append((scan, origin))
        if len(pairs) == PAIRS_SHOWN:
            break
    if not pairs:
        return None
    rows = np.array(pairs)
    names = caption_names(evidence.cohort, rows)
    return PairSheet(rows, tuple(f"{side[scan]} scan {names[scan]} | {names[origin]}" for scan, origin in pairs))


def _pairs_of_people(evidence: Evidence, side: StrArray) -> Iterator[tuple[int, int]]:
    """The most similar pair of scans across sides of each person who stands in training and elsewhere, best pairs first.

    Where nobody is known, scans with the same pixels count as one person's.
    """
    _, person = np.unique(evidence.cohort.pixels if evidence.subject is None else evidence.subject, return_inverse=True)
    elsewhere = (side != "") & (side != "train")
    shared = np.intersect1d(person[side == "train"], person[elsewhere])[: 10 * PAIRS_SHOWN]
    best: list[tuple[float, int, int]] = []
    for index in shared.tolist():
        train: IntArray = np.flatnonzero((person == index) & (side == "train"))
        other: IntArray = np.flatnonzero((person == index) & elsewhere)
        likeness = evidence.vectors[other] @ evidence.vectors[train].T
        row, column = np.unravel_index(int(likeness.argmax()), likeness.shape)
        best.append((float(likeness[row, column]), int(other[row]), int(train[column])))
    for _, scan, origin in sorted(best, reverse=True):
        yield scan, origin
