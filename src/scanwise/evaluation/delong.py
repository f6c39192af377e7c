"""DeLong's interval of an area under the ROC curve, for scans that belong to subjects; it needs no resampling."""

from dataclasses import dataclass

import numpy as np

from scanwise.records import BoolArray, FloatArray, IntArray
from scanwise.risk import exact_fraction


@dataclass(frozen=True, slots=True)
class AurocEstimate:
    """An area under the ROC curve and the contribution of each subject to its error.

    Attributes:
        value: the area.
        positive: (K,) the share of each of K subjects in the error, from its rows that are of the class.
        negative: (K,) the same from its rows that are not.
        sides: how many subjects have rows of the class, and how many have others.
    """

    value: float
    positive: FloatArray
    negative: FloatArray
    sides: tuple[int, int]

    @property
    def parts(self) -> tuple[float, float, float]:
        """Variance from the positive and from the negative subjects, and twice the covariance of both."""
        few, many = (np.sqrt(n / (n - 1)) if n > 1 else np.inf for n in self.sides)
        if not np.isfinite(few + many):
            return np.nan, np.nan, np.nan
        return (
            float(few**2 * (self.positive**2).sum()),
            float(many**2 * (self.negative**2).sum()),
            float(2 * few * many * (self.positive * self.negative).sum()),
        )

    @property
    def variance(self) -> float:
        """Variance of the area; NaN where a side has a single subject."""
        return max(0.0, sum(self.parts)) if np.isfinite(self.parts[0]) else np.nan


def estimate_auroc(scores: FloatArray, positive: BoolArray, of_subject: IntArray, num_subjects: int) -> AurocEstimate:
    """The area under the ROC curve of a score, with each subject's contribution (Obuchowski 1997; DeLong et al. 1988).

    Where a subject has rows on both sides the covariance takes the geometric mean of the two corrections for few
    subjects, where Obuchowski has that of all subjects; where none has, and each row is a subject, this is DeLong's.

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
        return AurocEstimate(np.nan, np.zeros(num_subjects), np.zeros(num_subjects), (0, 0))
    above_negatives = _share_below(hits, misses)
    below_positives = 1 - _share_below(misses, hits)
    value = float(above_negatives.mean())
    shares = [
        np.bincount(of_subject[rows], weights=below - value, minlength=num_subjects) / len(below)
        for rows, below in ((positive, above_negatives), (~positive, below_positives))
    ]
    sides = len(np.unique(of_subject[positive])), len(np.unique(of_subject[~positive]))
    return AurocEstimate(value, shares[0], shares[1], sides)


def estimate_macro_auroc(probs: FloatArray, labels: IntArray, of_subject: IntArray, num_subjects: int) -> AurocEstimate:
    """The mean of the one-vs-rest areas of the classes present (of class 1 where there are two), as one area."""
    classes = [1] if probs.shape[1] == 2 else range(probs.shape[1])
    areas = [estimate_auroc(probs[:, c], labels == c, of_subject, num_subjects) for c in classes]
    defined = [area for area in areas if np.isfinite(area.value)]
    if not defined:
        return areas[0]
    return AurocEstimate(
        float(np.mean([area.value for area in defined])),
        np.mean([area.positive for area in defined], axis=0),
        np.mean([area.negative for area in defined], axis=0),
        (min(area.sides[0] for area in defined), min(area.sides[1] for area in defined)),
    )


def delong_interval(area: AurocEstimate, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of an area, on the scale of its log-odds and widened as Student's t is for few subjects.

    The log-odds keep it inside 0 and 1. The degrees of freedom are Welch's (Satterthwaite 1946), one side being the
    subjects with the class and the other those without. NaN where a side has one subject, or the area is 0 or 1.
    """
    from scipy.special import expit, logit, stdtrit

    variance = area.variance
    if not (np.isfinite(variance) and 0 < area.value < 1) or variance == 0:
        return np.nan, np.nan
    first, second, _ = area.parts
    spread = first**2 / (area.sides[0] - 1) + second**2 / (area.sides[1] - 1)
    freedom = max(1.0, (first + second) ** 2 / spread) if spread > 0 else np.inf
    reach = stdtrit(freedom, (1 + float(exact_fraction(confidence, "confidence"))) / 2) * np.sqrt(variance)
    middle, scale = logit(area.value), area.value * (1 - area.value)
    return float(expit(middle - reach / scale)), float(expit(middle + reach / scale))


def _share_below(rows: FloatArray, among: FloatArray) -> FloatArray:
    """(n,) for each row the share of `among` below it, ties half."""
    among = np.sort(among)
    return (np.searchsorted(among, rows, "left") + np.searchsorted(among, rows, "right")) / (2 * len(among))
