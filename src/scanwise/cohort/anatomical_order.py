"""The place of each scan among those of its person: from a column `position`, a DICOM header, or the number of a slice.

Where none of these is there, neighbouring slices look alike and the pixels may tell the chain. Its end with less background
comes first, whatever that is, so that all people are put in one direction by the same rule.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from scanwise.cohort.decoding import slice_names
from scanwise.records import FloatArray, IntArray, StrArray

FEWEST_IN_CHAIN = 6
BACKGROUND = 32
"""Values below it are background."""
BESIDE, FALLING, TILT = 0.9, 0.7, 0.3
"""Least share of scans whose most similar one stands beside them; least rank correlation of distance and unlikeness, and of place
and background."""
POSITION = "position"
"""Column of a manifest, or of what a header tells."""


def scan_positions(paths: StrArray, groups: Mapping[str, StrArray]) -> FloatArray:
    """(N,) where a scan lies along its person, in any unit; NaN where nothing tells.

    >>> scan_positions(np.array(["a.nii#003", "b.png"]), {}).tolist()
    [3.0, nan]
    """
    slices = [slice_names.index_of_scan(path) for path in paths.tolist()]
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


def recovered_positions(
    subjects: StrArray, positions: FloatArray, read_small: Callable[[Sequence[IntArray]], Iterable[FloatArray]]
) -> FloatArray:
    """(N,) positions, with those of people without any known one recovered from the pixels where these tell.

    Args:
        subjects: (N,).
        positions: (N,) from `scan_positions`.
        read_small: from the rows of each person to (n, D) small copies of these scans, NaN for one that cannot be read.
    """
    recovered = positions.copy()
    order = np.argsort(subjects, kind="stable")
    sizes = np.unique(subjects, return_counts=True)[1]
    people = [
        rows
        for rows in np.split(order, np.cumsum(sizes)[:-1])
        if len(rows) >= FEWEST_IN_CHAIN and np.isnan(positions[rows]).all()
    ]
    for rows, small in zip(people, read_small(people), strict=True):
        recovered[rows] = chain_ranks(small)
    return recovered


def chain_ranks(small: FloatArray) -> FloatArray:
    """(n,) rank of each scan along the chain that neighbours make; NaN where the pixels do not tell one.

    The order is that of the second eigenvector of the graph of likeness (Fiedler; Atkins et al. 1998). It is believed if each scan's most
    similar one stands beside it, and likeness falls with the distance in the chain. Two neighbours that look alike may change places.

    Args:
        small: (n, D) values from 0 to 255.
    """
    nothing = np.full(len(small), np.nan)
    spread = small.std(axis=1)
    if np.isnan(small).any() or (spread < 1e-6).any():
        return nothing
    shapes = (small - small.mean(axis=1, keepdims=True)) / (spread[:, None] * np.sqrt(small.shape[1]))
    likeness = shapes @ shapes.T
    from scipy.stats import spearmanr  # it takes seconds and 60 MiB, which those whose order is known need not pay

    apart = 1 - likeness
    np.fill_diagonal(apart, np.inf)
    typical = float(np.median(apart.min(axis=1)))
    if typical <= 1e-9:  # copies
        return nothing
    weights = np.exp(-apart / typical)
    graph = np.diag(weights.sum(axis=1)) - weights
    ranks = np.argsort(np.argsort(np.linalg.eigh(graph)[1][:, 1], kind="stable")).astype(np.float64)
    first, second = np.triu_indices(len(small), 1)
    agreement = spearmanr(np.abs(ranks[first] - ranks[second]), likeness[first, second])[0]
    beside = (np.abs(ranks - ranks[apart.argmin(axis=1)]) == 1).mean()
    background = (small < BACKGROUND).mean(axis=1)
    tilt = spearmanr(ranks, background)[0] if np.ptp(background) else 0.0
    if beside < BESIDE or agreement > -FALLING or not abs(tilt) > TILT:
        return nothing
    return ranks if tilt > 0 else len(ranks) - 1 - ranks


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return np.nan
    return value if np.isfinite(value) else np.nan
