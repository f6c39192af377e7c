"""The place of each scan among those of its person: from a column `position`, a DICOM header, or the number of a slice."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scanwise.cohort.decoding import slice_names
from scanwise.records import FloatArray, IntArray, StrArray

POSITION = "position"
"""Column of a manifest, or of what a header tells."""


def scan_positions(paths: StrArray, groups: Mapping[str, StrArray]) -> FloatArray:
    """(N,) where a scan lies along its person, in any unit; NaN where nothing tells.

    >>> scan_positions(np.array(["a.nii#003", "b.png"]), {}).tolist()
    [3.0, nan]
    """
    slices = [slice_names.split_slice(Path(path))[1] for path in paths.tolist()]
    numbers = np.array([np.nan if index is None else float(index) for index in slices])
    given = [_number(text) for text in groups.get(POSITION, np.array([""] * len(paths))).tolist()]
    return np.where(np.isnan(given), numbers, given)


def places_in_order(subjects: StrArray, positions: FloatArray) -> IntArray:
    """(N, 2) rank of each scan among those of its person, and their number; (0, 1) for people whose order is not known.

    Scans at one position keep the order of their rows.

    >>> places_in_order(np.array(["p", "p", "q"]), np.array([7.0, 2.0, np.nan])).tolist()
    [[1, 2], [0, 2], [0, 1]]
    """
    places = np.tile(np.array([0, 1], dtype=np.int64), (len(subjects), 1))
    order = np.argsort(subjects, kind="stable")
    sizes = np.unique(subjects, return_counts=True)[1]
    for rows in np.split(order, np.cumsum(sizes)[:-1]):
        if not np.isnan(positions[rows]).any():
            places[rows[np.argsort(positions[rows], kind="stable")], 0] = np.arange(len(rows))
            places[rows, 1] = len(rows)
    return places


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return np.nan
    return value if np.isfinite(value) else np.nan
