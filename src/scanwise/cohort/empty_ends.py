"""Empty slices at the ends of volumes: air above the head, or padding."""

import math

import numpy as np

from scanwise.cohort.decoding.slice_names import file_of_scan
from scanwise.phrases import count_of
from scanwise.records import Cohort, Finding

LEAST = 0.05
"""Least share of slices, of all or of an end, that is worth a word."""


def empty_end_findings(cohort: Cohort) -> list[Finding]:
    """A note on volumes whose first or last slices have one value all over, with the range that leaves these out."""
    files = np.array([file_of_scan(path) for path in cohort.path.tolist()])
    order = np.lexsort((cohort.path, files))
    _, starts, sizes = np.unique(files[order], return_index=True, return_counts=True)
    first, last, empty, total, paths = [], [], 0, 0, []
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        rows = order[start : start + size]
        full = np.flatnonzero(cohort.pixels[rows] != "")
        if size < 2 or cohort.path[rows[0]] == files[rows[0]] or not len(full):
            continue
        ends = np.concatenate([rows[: full[0]], rows[full[-1] + 1 :]])
        first.append(full[0] / size)
        last.append(1 - (full[-1] + 1) / size)
        empty, total = empty + len(ends), total + size
        paths += cohort.path[ends].tolist()
    if not total or empty < LEAST * total:
        return []
    message = f"{empty:,} of {total:,} slices of {count_of(len(first), 'volume')} are empty: they lie at the ends, and teach nothing."
    low, high = (math.floor(100 * min(shares) + 1e-9) / 100 for shares in (first, last))
    if max(low, high) >= LEAST:
        message += f" data.slices=[{low:g}, {1 - high:g}] leaves out those that are empty in every volume."
    return [Finding("cohort.empty_slices", "note", message, tuple(paths[:50]))]
