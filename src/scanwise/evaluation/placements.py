"""The area under the ROC curve of scans that belong to subjects, from where each scan lies among those of the other side.

The placement of a scan of the class is the share of other scans that score below it; of another scan, the share of scans of
the class that score above it (DeLong et al. 1988; Obuchowski 1997). Each side's mean is the area, and with one side held the
area is a mean over the other, of values between 0 and 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scanwise.evaluation.strata import Contributions, gap_interval, sum_by
from scanwise.records import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class AurocEstimate:
    """An area under the ROC curve, and what each subject adds to it on the side or sides that it is on.

    Attributes:
        value: the area.
        own: (K,) sum of each subject's placements, each divided by the number of scans on its side.
        most: (K,) the same if all of them were 1.
    """

    value: float
    own: FloatArray
    most: FloatArray

    def interval(self, strata: IntArray, confidence: float) -> tuple[float, float]:
        """The interval over subjects of the classes `strata` (K,); NaN where the area is not defined."""
        if not np.isfinite(self.value):
            return np.nan, np.nan
        parts = Contributions(np.zeros_like(self.own), self.own, self.most, strata)
        low, high = parts.interval(self.value, confidence)
        return max(low, 0.0), min(high, 1.0)

    def gap_to(self, other: "AurocEstimate", strata: IntArray, confidence: float) -> tuple[float, float, float]:
        """This area less another one of the same scans, and its interval."""
        value = self.value - other.value
        return value, *gap_interval(value, self.own - other.own, self.most, strata, confidence)


def estimate_auroc(scores: FloatArray, positive: BoolArray, of_subject: IntArray, num_subjects: int) -> AurocEstimate:
    """The area under the ROC curve of a score, with each subject's contribution.

    Args:
        scores: (N,) higher is more like the class.
        positive: (N,) whether the row is of the class.
        of_subject: (N,) the index of each row's subject.
        num_subjects: K.

    Returns:
        the area; its value is NaN where a side has no rows.
    """
    hits, misses = scores[positive], scores[~positive]
    if not (len(hits) and len(misses)):
        return AurocEstimate(np.nan, np.zeros(num_subjects), np.zeros(num_subjects))
    placed = np.empty(len(scores))
    placed[positive], placed[~positive] = _share_below(hits, misses), 1 - _share_below(misses, hits)
    shares = np.where(positive, 1 / len(hits), 1 / len(misses))
    own, most = (sum_by(of_subject, weights, num_subjects) for weights in (placed * shares, shares))
    return AurocEstimate(float(placed[positive].mean()), own, most)


def estimate_macro_auroc(probs: FloatArray, labels: IntArray, of_subject: IntArray, num_subjects: int) -> AurocEstimate:
    """The mean of the one-vs-rest areas of the classes present (of class 1 where there are two), as one area."""
    classes = [1] if probs.shape[1] == 2 else range(probs.shape[1])
    areas = [estimate_auroc(probs[:, c], labels == c, of_subject, num_subjects) for c in classes]
    defined = [area for area in areas if np.isfinite(area.value)]
    if not defined:
        return areas[0]
    return AurocEstimate(
        float(np.mean([area.value for area in defined])),
        np.mean([area.own for area in defined], axis=0),
        np.mean([area.most for area in defined], axis=0),
    )


def expected_auroc_margin(counts: Sequence[int], auroc: float = 0.8, confidence: float = 0.95) -> float:
    """Half the width of the interval to expect around an area, before anything is measured.

    The variance is that of Hanley & McNeil (1982), for normal scores of one spread in both classes.

    Args:
        counts: subjects that are tested, of each class; of more than two classes the mean of one against the rest.
        auroc: the area that is hoped for.
        confidence: of the interval.

    Returns:
        half the width; NaN where fewer than two classes are tested.

    >>> round(expected_auroc_margin([20, 20]), 2), round(expected_auroc_margin([100, 100]), 2)
    (0.14, 0.06)
    """
    total, present = sum(counts), [count for count in counts if count]
    if len(present) < 2:
        return math.nan
    from scipy.stats import multivariate_normal, norm  # 60 MiB, which a prediction need not hold

    ahead = norm.ppf(auroc)
    both = (
        multivariate_normal.cdf([ahead, ahead], cov=[[1, 0.5], [0.5, 1]]) - auroc**2
    )  # two pairs that share a subject
    errors = [
        math.sqrt((auroc * (1 - auroc) + (total - 2) * both) / (hits * (total - hits)))
        for hits in (present[:1] if len(present) == 2 else present)
    ]
    return float(norm.ppf((1 + confidence) / 2)) * sum(errors) / len(errors)


def _share_below(rows: FloatArray, among: FloatArray) -> FloatArray:
    """(n,) for each row the share of `among` below it, ties half."""
    among = np.sort(among)
    return (np.searchsorted(among, rows, "left") + np.searchsorted(among, rows, "right")) / (2 * len(among))
