"""Did the sets cover what they promised, for whom, and at what size?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanwise.arrays import check_labels
from scanwise.errors import ShapeError
from scanwise.pooling import subject_codes
from scanwise.records import BoolArray, FloatArray, IntArray, StrArray
from scanwise.risk import clopper_pearson, coverage_band


@dataclass(frozen=True, slots=True)
class CoverageDiagnosis:
    """What became of prediction sets on labelled scans.

    Attributes:
        coverage: share of scans whose set holds the label, every subject as heavy as another.
        low: lower end of its 95 % interval, Clopper and Pearson's on subjects (their shares rounded down).
        high: upper end (their shares rounded up).
        band: the 95 % band in which coverage was to lie before the test was seen; exact for one scan a subject,
            else for as many subjects as there are.
        mean_size: classes in a set.
        sizes: (C + 1,) how many sets have 0, 1, … C classes.
        by_size: coverage of the sets of each size (NaN where there is none).
        cells: a row for each class and each group: column, value, count, subjects, coverage, low, high, mean_size.
    """

    coverage: float
    low: float
    high: float
    band: tuple[float, float]
    mean_size: float
    sizes: IntArray
    by_size: FloatArray
    cells: tuple[Mapping[str, Any], ...]

    def worst(self, least: int = 10) -> Mapping[str, Any] | None:
        """The cell of lowest coverage among those with at least so many subjects; None where there is none."""
        known = [cell for cell in self.cells if cell["subjects"] >= least]
        return min(known, key=lambda cell: float(cell["coverage"]), default=None)


def diagnose(
    sets: BoolArray,
    labels: IntArray,
    *,
    subjects: StrArray,
    alpha: float,
    calibration_count: int,
    groups: Mapping[str, StrArray] | None = None,
) -> CoverageDiagnosis:
    """Hold prediction sets against the labels.

    Args:
        sets: (N, C).
        labels: (N,) class indices.
        subjects: (N,) the subject of each row.
        alpha: what was allowed.
        calibration_count: the units that the threshold was learnt on.
        groups: columns (N,) to break coverage down by, besides the class.

    Raises:
        ShapeError: if the arrays disagree in N.

    >>> sets = np.array([[True, False], [True, True], [False, False]])
    >>> names = np.array(["a", "b", "c"])
    >>> found = diagnose(sets, np.array([0, 1, 1]), subjects=names, alpha=0.1, calibration_count=99)
    >>> round(found.coverage, 2), found.sizes.tolist()
    (0.67, [1, 1, 1])
    """
    sets = np.asarray(sets, dtype=np.bool_)
    if sets.ndim != 2:
        raise ShapeError(f"Prediction sets must be (N, C); they are {sets.shape}.")
    labels = check_labels(labels, sets.shape[1], len(sets))
    owners, names = subject_codes(subjects, len(sets))
    covered, size = sets[np.arange(len(sets)), labels], sets.sum(axis=1)
    sizes = np.bincount(size, minlength=sets.shape[1] + 1)
    by_size = np.full(len(sizes), np.nan)
    by_size[sizes > 0] = np.bincount(size, covered, len(sizes))[sizes > 0] / sizes[sizes > 0]
    columns = {"class": labels.astype(str), **(groups or {})}
    cells = [
        {"column": column, "value": str(value), **summarise_coverage(covered, size, owners, values == value)}
        for column, values in columns.items()
        for value in np.unique(values)
    ]
    whole = summarise_coverage(covered, size, owners, np.ones(len(sets), dtype=np.bool_))
    band = tuple(coverage_band(calibration_count, len(names), alpha, share) for share in (0.025, 0.975))
    return CoverageDiagnosis(
        whole["coverage"],
        whole["low"],
        whole["high"],
        (band[0], band[1]),
        whole["mean_size"],
        sizes,
        by_size,
        tuple(cells),
    )


def summarise_coverage(covered: BoolArray, size: IntArray, owners: IntArray, rows: BoolArray) -> dict[str, Any]:
    """Counts, coverage with its interval, and mean size of the sets in `rows`, every subject as heavy as another.

    Args:
        covered: (N,) whether the set holds the label.
        size: (N,) classes in the set.
        owners: (N,) the index of each row's subject.
        rows: (N,) which to look at; one at least.
    """
    _, place, counts = np.unique(owners[rows], return_inverse=True, return_counts=True)
    share = float((np.bincount(place, covered[rows]) / counts).mean())
    hits = share * len(counts)
    return {
        "count": int(rows.sum()),
        "subjects": len(counts),
        "coverage": share,
        "low": clopper_pearson(int(np.floor(hits + 1e-9)), len(counts))[0],
        "high": clopper_pearson(int(np.ceil(hits - 1e-9)), len(counts))[1],
        "mean_size": float(size[rows].mean()),
    }
