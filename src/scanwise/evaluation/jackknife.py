"""The interval of a figure between 0 and 1 that is no sum over scans, by leaving out one group of subjects after the other."""

from collections.abc import Callable

import numpy as np

from scanwise.evaluation.strata import limits_of_shares
from scanwise.pooling import subject_codes
from scanwise.records import BoolArray, StrArray

MAX_PARTS = 200
"""Groups of subjects that are left out in turn, at most."""


def jackknife_interval(
    value: float, without: Callable[[BoolArray], float], subjects: StrArray, confidence: float
) -> tuple[float, float]:
    """The interval of a share-like figure from its values without a part of the subjects.

    Args:
        value: the figure on all rows.
        without: the figure on these rows (N,) alone.
        subjects: (N,) the subject of each row.
        confidence: of the interval.
    """
    of_subject, names = subject_codes(subjects, len(subjects))
    count = len(names)
    parts = np.arange(count) % min(count, MAX_PARTS)
    size = int(parts.max()) + 1
    variance = 0.0
    if size > 1:
        values = np.array([without(parts[of_subject] != part) for part in range(size)])
        variance = float((((values - values.mean()) * (size - 1) / size) ** 2).sum())
    scans = np.bincount(of_subject).astype(np.float64)
    effective = scans.sum() ** 2 / (scans**2).sum()
    given = np.array([value]), np.array([variance]), np.array([effective]), np.array([max(effective - 1, 0.5)])
    low, high = limits_of_shares(*given, confidence)
    return float(low[0]), float(high[0])
