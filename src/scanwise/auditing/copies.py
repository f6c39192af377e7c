"""Findings about augmented copies: one scan mirrored, turned, shifted, zoomed, cropped, bent, of other gray values or saved again."""

import numpy as np

from scanwise.auditing.duplicates import SAME_SCAN
from scanwise.auditing.evidence import (
    AuditFinding,
    CopyPairs,
    Evidence,
    PairSheet,
    caption_names,
    make_finding,
)
from scanwise.cohort.row_files import blocks_of
from scanwise.phrases import count_of
from scanwise.pooling import rows_alike
from scanwise.records import BoolArray, Cohort, FloatArray, IntArray, Severity, StrArray
from scanwise.registration import DETAIL

COLUMNS = ("scan", "origin", "scan_side", "origin_side", "scan_class", "origin_class", "likeness", "change")
"""Columns of the table of all pairs."""
SURE = 0.975
"""Similarity from which copies under two labels are a conflict of labels: half of what a copy may lack otherwise."""
SHOWN = 24
"""Pairs in a picture."""


def examine(evidence: Evidence) -> list[AuditFinding]:
    """Copies across sides, under another label and within one side; those that `duplicates` reports are left to it."""
    cohort = evidence.cohort
    side = _sides_of(evidence)
    searched = evidence.copies
    if searched is None:
        from scanwise.auditing.copy_search import find_copies  # late: it imports torch

        searched = find_copies(evidence.pixels, side, seed=evidence.seed)
    copies = searched.take(np.argsort(-searched.similarity, kind="stable"))
    copies = copies.take(
        ~(_same_pixels(cohort, copies.rows) | (_correlation(evidence.vectors, copies.rows) >= SAME_SCAN))
    )
    left, right = copies.rows.T
    none = np.zeros(len(copies), dtype=np.bool_)
    across = (side[left] != side[right]) & (side[left] != "") & (side[right] != "")
    relabelled = (cohort.labels[left] != cohort.labels[right]) & ~across & (copies.similarity >= SURE)
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
            "note" if (side != "").any() or not (within & unrelated).any() else "warning",
            within,
            "in the same part of the data. They are no additional subjects: any split must keep them with their original.",
        ),
    )
    findings = [
        _report_copies(evidence, copies.take(rows), name, severity, rest)
        for name, severity, rows, rest in cases
        if rows.any()
    ]
    nothing = "" if findings else "No changed copies were recognised. "
    return [*findings, make_finding("copies.found", "note", nothing + searched.describe_recall())]


def list_copies(evidence: Evidence) -> list[tuple[str, ...]]:
    """All pairs as rows of `COLUMNS`, the most alike first, exact copies among them.

    Which of two scans is the copy is not known: the one on the training side counts as the origin, or the first one.
    """
    cohort = evidence.cohort
    side = _sides_of(evidence)
    pairs = evidence.copies or CopyPairs.none()
    equal = rows_alike(cohort.pixels)
    others = pairs.take(~_same_pixels(cohort, pairs.rows))
    listed = [(1.0, "same pixels", a, b) for a, b in equal.tolist()]
    for pair in np.argsort(-others.similarity, kind="stable").tolist():
        first, second = others.rows[pair].tolist()
        listed.append((float(others.similarity[pair]), describe_transform(others, pair), first, second))
    rows = []
    for likeness, change, origin, scan in listed:
        if side[scan] == "train" != side[origin]:
            origin, scan = scan, origin
        ends = (scan, origin)
        names = (str(values[row]) for values in (cohort.path, side) for row in ends)
        classes = (cohort.classes[cohort.labels[row]] for row in ends)
        rows.append((*names, *classes, f"{likeness:.3f}", change))
    return rows


def _correlation(vectors: FloatArray, rows: IntArray) -> FloatArray:
    """(P,) products of the rows of pairs, of which few are in memory at once: a scan may have many copies."""
    parts = (rows[block].T for block in blocks_of(len(rows)))
    return np.concatenate([np.einsum("pd,pd->p", vectors[left], vectors[right]) for left, right in parts])


def _same_pixels(cohort: Cohort, rows: IntArray) -> BoolArray:
    """(P,) whether pairs of scans have the same pixels; `rows_alike` names only as many pairs as join a group."""
    left, right = cohort.pixels[rows.T]
    return np.asarray((left == right) & (left != ""))


def _sides_of(evidence: Evidence) -> StrArray:
    """(N,) the side of each scan, "" where there is none."""
    if evidence.split is not None:
        return evidence.split.side
    given = evidence.cohort.given
    return np.full(len(evidence), "") if given is None else given


def _report_copies(evidence: Evidence, copies: CopyPairs, name: str, severity: Severity, rest: str) -> AuditFinding:
    cohort, side = evidence.cohort, _sides_of(evidence)
    rows = np.unique(copies.rows)
    message = (
        f"{count_of(len(rows), 'scan')} in {count_of(len(copies), 'pair')} are one scan mirrored, turned, moved, bent, "
        f"of other gray values or saved again, with the copy {rest}"
    )
    shown = copies.take(np.arange(min(SHOWN, len(copies))))

    names = caption_names(cohort, shown.rows)

    def caption(row: int) -> str:
        return f"{side[row]} {cohort.classes[cohort.labels[row]]} {names[row]}".strip()

    captions = tuple(
        f"{describe_transform(shown, pair)}: {caption(left)} = {caption(right)}"
        for pair, (left, right) in enumerate(shown.rows.tolist())
    )
    return make_finding(f"copies.{name}", severity, message, cohort.path[rows], PairSheet(shown.rows, captions))


def describe_transform(copies: CopyPairs, pair: int) -> str:
    """The change between the scans of a pair, such as "mirrored, rotated by 12°, zoomed by 1.10, shifted by 4 %"."""
    linear = copies.transform[pair, :, :2].astype(np.float64)
    size = float(np.linalg.det(linear))
    u, _, vh = np.linalg.svd(linear * np.array([1.0, np.sign(size)]))
    rotation = u @ vh
    angle = float(np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0])))
    zoom = abs(size) ** 0.5
    words = ["mirrored"] if size < 0 else []
    words += [f"rotated by {angle:.0f}°"] if abs(angle) >= 1 else []
    words += [f"zoomed by {zoom:.2f}"] if abs(zoom - 1) >= 0.01 else []
    middle = np.full(2, (DETAIL.size - 1) / 2)
    shift = float(np.linalg.norm(linear @ middle + copies.transform[pair, :, 2] - middle)) / DETAIL.size
    words += [f"shifted by {100 * shift:.0f} %"] if shift >= 0.01 else []
    return ", ".join(words) or "in the same place"
