"""Realised coverage of prediction sets: for everyone, for each cell with its own threshold, and for sets of each size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanwise.conformal.conditional import ConditionalSets
from scanwise.conformal.sets import ConformalSets
from scanwise.errors import ShapeError
from scanwise.pooling import subject_codes
from scanwise.records import BoolArray, IntArray, StrArray
from scanwise.risk import clopper_pearson, coverage_band

UNKNOWN = (np.nan, np.nan)


@dataclass(frozen=True, slots=True)
class CoverageLine:
    """Coverage and size of the sets of some rows; coverage, interval and band are NaN where labels are not known.

    Attributes:
        name: everyone, a cell, or the size of the sets.
        subjects: how many people.
        scans: how many rows.
        coverage: share of sets that hold the label, every subject as heavy as another.
        interval: 95 %, Clopper and Pearson's on subjects.
        band: where coverage was to lie 95 times in 100 before the test was seen; exact for one row a subject. NaN
            where there is no such law: sizes, and everyone where each cell has a threshold.
        size: mean number of classes in a set.
    """

    name: str
    subjects: int
    scans: int
    coverage: float
    interval: tuple[float, float]
    band: tuple[float, float]
    size: float


def coverage_lines(
    sets: BoolArray,
    labels: IntArray | None,
    subjects: StrArray,
    fitted: ConformalSets | ConditionalSets,
    *,
    classes: Sequence[str],
    groups: StrArray | None = None,
) -> list[CoverageLine]:
    """A line for everyone and, of conditional sets, for each cell and each value in it.

    Args:
        sets: (N, C) that `fitted` made.
        labels: (N,) class indices, or None.
        subjects: (N,) the subject of each row.
        fitted: the thresholds.
        classes: C names.
        groups: (N,) the group of each row, if fitted by group.

    Raises:
        ShapeError: if conditional sets go by what is not given.
    """
    rows = _Rows(sets, labels, subjects)
    everyone = np.ones(len(sets), dtype=np.bool_)
    if isinstance(fitted, ConformalSets):
        return [rows.line("everyone", everyone, fitted)]
    values = groups if fitted.by == "group" else labels
    if values is None:
        if fitted.by == "group":
            raise ShapeError("These sets go by group; give the group of each row.")
        return [rows.line("everyone", everyone)]
    lines, values = [rows.line("everyone", everyone)], np.asarray(values).astype(str)
    names = {str(c): name for c, name in enumerate(classes)} if fitted.by == "class" else {}
    for cell, own in zip(fitted.cells, fitted.sets, strict=True):
        names_of_cell = [names.get(value, value) or "(none)" for value in cell]
        if (inside := np.isin(values, cell)).any():
            lines.append(rows.line(names_of_cell[0] if len(cell) == 1 else f"{len(cell)} merged", inside, own))
            if len(cell) > 1:
                parts = [(f"  {name}", values == value) for name, value in zip(names_of_cell, cell, strict=True)]
                lines += [rows.line(name, part) for name, part in parts if part.any()]
    known_values = [value for cell in fitted.cells for value in cell]
    if (unseen := ~np.isin(values, known_values)).any():
        lines.append(rows.line("in no cell", unseen))
    return lines


def size_lines(sets: BoolArray, labels: IntArray | None, subjects: StrArray) -> list[CoverageLine]:
    """A line for the sets of each size; beyond four classes sizes are taken together: 5–8, 9–16, …"""
    rows, size = _Rows(sets, labels, subjects), sets.sum(axis=1)
    edges = [0, 1, 2, 3, 4]
    while edges[-1] < sets.shape[1]:
        edges.append(2 * edges[-1])
    lines = []
    for low, high in zip([-1, *edges], edges, strict=False):
        inside = (size > low) & (size <= high)
        if inside.any():
            last = min(high, sets.shape[1])
            lines.append(rows.line(f"{last}" if low + 1 == last else f"{low + 1}–{last}", inside))
    return lines


class _Rows:
    """Sizes, hits and subjects of prediction sets."""

    def __init__(self, sets: BoolArray, labels: IntArray | None, subjects: StrArray) -> None:
        self.size, self.owners = sets.sum(axis=1), subject_codes(subjects, len(sets))[0]
        self.covered = None if labels is None else sets[np.arange(len(sets)), labels]

    def line(self, name: str, rows: BoolArray, fitted: ConformalSets | None = None) -> CoverageLine:
        covered = self.size > 0 if self.covered is None else self.covered
        summary = summarise_coverage(covered, self.size, self.owners, rows)
        counted = (name, summary["subjects"], summary["count"])
        if self.covered is None:
            return CoverageLine(*counted, np.nan, UNKNOWN, UNKNOWN, summary["mean_size"])
        band = UNKNOWN
        if fitted is not None:
            given = (fitted.calibration_count, summary["subjects"], fitted.alpha)
            band = coverage_band(*given, 0.025), coverage_band(*given, 0.975)
        return CoverageLine(
            *counted, summary["coverage"], (summary["low"], summary["high"]), band, summary["mean_size"]
        )


def summarise_coverage(covered: BoolArray, size: IntArray, owners: IntArray, rows: BoolArray) -> dict[str, Any]:
    """Counts, coverage with its interval, and mean size of the sets in `rows`, every subject as heavy as another.

    Args:
        covered: (N,) whether the set holds the label.
        size: (N,) classes in the set.
        owners: (N,) the index of each row's subject.
        rows: (N,) the rows to count; at least one.
    """
    _, index, counts = np.unique(owners[rows], return_inverse=True, return_counts=True)
    share = float((np.bincount(index, covered[rows]) / counts).mean())
    hits = share * len(counts)
    return {
        "count": int(rows.sum()),
        "subjects": len(counts),
        "coverage": share,
        "low": clopper_pearson(int(np.floor(hits + 1e-9)), len(counts))[0],
        "high": clopper_pearson(int(np.ceil(hits - 1e-9)), len(counts))[1],
        "mean_size": float(size[rows].mean()),
    }
