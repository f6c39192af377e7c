"""Intervals put together class by class, from what each subject adds to a value and what it could add.

A class of few subjects may show no spread at all: one subject is right, or four of four. Resampling then calls its share
certain. Here each class has the interval of a bounded mean, which for shares is the mid-P one, and the distances of the
classes are added as squares (MOVER; Zou and Donner 2008). A subject counts by how far it can move the value, so that
unequal numbers of scans cost certainty: fewer effective subjects, and fewer degrees of freedom (Satterthwaite 1946).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from scanwise.records import FloatArray, IntArray
from scanwise.risk import exact_fraction, mid_p_limits

UNSEEN = 0.5
"""Weight, in subjects, of the largest spread possible beside the spread that was seen: that of a few subjects is itself
uncertain, and too small where the one who differs most is missing."""
NO_SPREAD = 1e-12
FLAT = 1e-6
"""Gradients smaller than this share of the largest are rounding."""
Cells = Callable[[FloatArray], FloatArray]
"""(…, C, C) confusion matrices to values (…,)."""


@dataclass(frozen=True, slots=True)
class Contributions:
    """Contributions of K subjects to a value, each between the least and the most that its scans could add.

    Attributes:
        low: (K,) the least.
        actual: (K,) as it is.
        high: (K,) the most.
        strata: (K,) the class of each subject, from 0.
    """

    low: FloatArray
    actual: FloatArray
    high: FloatArray
    strata: IntArray

    @classmethod
    def of_rows(
        cls, low: FloatArray, actual: FloatArray, high: FloatArray, of_subject: IntArray, strata: IntArray
    ) -> Self:
        """The same from (N,) rows, added up by subject."""
        least, own, most = (sum_by(of_subject, rows, len(strata)) for rows in (low, actual, high))
        return cls(least, own, most, strata)

    def interval(self, value: float, confidence: float) -> tuple[float, float]:
        """The interval of a value that is linear in these contributions."""
        limits = self.limits(confidence)
        return combine(value, limits.span * (limits.share - limits.low), limits.span * (limits.high - limits.share))

    def limits(self, confidence: float, unseen: float = UNSEEN) -> "ClassLimits":
        """Position of each class between its least and its most, with limits."""
        size = int(self.strata.max()) + 1
        span = sum_by(self.strata, self.high - self.low, size)
        weights = (self.high - self.low) / np.where(span > 0, span, 1.0)[self.strata]
        places = np.zeros(len(weights))
        np.divide(self.actual - self.low, self.high - self.low, out=places, where=weights > 0)
        share, low, high = limits_of_means(places, weights, self.strata, confidence, unseen)
        return ClassLimits(span, share, low, high)


@dataclass(frozen=True, slots=True)
class ClassLimits:
    """Limits of each of S classes, all arrays (S,).

    Attributes:
        span: how far the class can move the value.
        share: where it lies, from 0 (the least) to 1 (the most).
        low: lower limit of that.
        high: upper limit of that.
    """

    span: FloatArray
    share: FloatArray
    low: FloatArray
    high: FloatArray


def limits_of_means(
    places: FloatArray, weights: FloatArray, strata: IntArray, confidence: float, unseen: float = UNSEEN
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean of values between 0 and 1 in each class, and its limits; a class without weight is 0 to 1.

    The effective number of subjects is Kish's, 1 / Σ w². Where the values spread less than those of a yes-or-no question,
    it grows by that much (Korn and Graubard 1998), with Student's t for the uncertainty of the spread, and never beyond
    what such a question gives. Where no spread was seen, subjects unlike all of these may still be as many as mid-P allows.

    Args:
        places: (K,) values.
        weights: (K,) summing to one in each class.
        strata: (K,) the class of each, from 0.
        confidence: of the limits.
        unseen: see `UNSEEN`.

    Returns:
        (S,) means, lower and upper limits.
    """
    size = int(strata.max()) + 1
    mean, second, fourth = (sum_by(strata, part, size) for part in (weights * places, weights**2, weights**4))
    mean, here = np.clip(mean, 0.0, 1.0), second > 0
    second = np.where(here, second, 1.0)
    variance = sum_by(strata, (weights * (places - mean[strata])) ** 2, size)
    freedom = np.maximum(second**2 / np.where(here, fourth, 1.0) - 1, 0.5)
    low, high = limits_of_shares(mean, variance, 1 / second, freedom, confidence, unseen)
    return mean, np.where(here, low, 0.0), np.where(here, high, 1.0)


def limits_of_shares(
    mean: FloatArray,
    variance: FloatArray,
    count: FloatArray,
    freedom: FloatArray,
    confidence: float,
    unseen: float = UNSEEN,
) -> tuple[FloatArray, FloatArray]:
    """Limits (S,) of shares with an estimated variance, as far as it was seen; see `limits_of_means`.

    Args:
        mean: (S,) between 0 and 1.
        variance: (S,) of the mean, as the plain mean of squares gives it; 0 where no spread was seen.
        count: (S,) the effective number of subjects.
        freedom: (S,) degrees of freedom of the variance.
        confidence: of the limits.
        unseen: see `UNSEEN`.
    """
    from scipy.special import ndtri, stdtrit

    level = (1 + float(exact_fraction(confidence, "confidence"))) / 2
    seen = (variance * count > NO_SPREAD) & (count > 1 + 1e-9)
    free = np.where(seen, np.maximum(count - 1, 1e-9), 1.0)
    largest = np.where(seen, np.maximum(mean * (1 - mean), NO_SPREAD), 1.0)
    ratio = np.where(seen, variance * count**2 / free / largest, 1.0)
    ratio = (free * ratio + unseen) / (free + unseen)
    reach = np.minimum(ndtri(level) ** 2, stdtrit(freedom, level) ** 2 * ratio)
    effective = np.where(seen, count * ndtri(level) ** 2 / reach, count)
    (low, _), (high, other) = mid_p_limits(
        np.stack([mean, np.zeros_like(mean)]), np.stack([effective, count]), confidence
    )
    return np.where(seen, low, mean * (1 - other)), np.where(seen, high, mean + (1 - mean) * other)


def shares_of_rows(of_subject: IntArray, strata: IntArray, confidence: float) -> FloatArray:
    """(S,) the least number of rows of each class, as a share of that seen, if other subjects of it had come; 1 / this, the most.

    With as many scans of every subject it is 1. Where numbers differ, the classes are mixed by chance; how much they differ
    is pooled over classes, in units of the mean of a class.
    """
    from scipy.special import stdtrit

    size, rows = int(strata.max()) + 1, sum_by(of_subject, np.ones(len(of_subject)), len(strata))
    people = np.bincount(strata, minlength=size)
    mean = sum_by(strata, rows, size) / np.maximum(people, 1)
    free = len(strata) - int((people > 0).sum())
    if free < 1:
        return np.ones(size)
    spread = np.sqrt(((rows / mean[strata] - 1) ** 2).sum() / free)
    reach = stdtrit(free, (1 + float(exact_fraction(confidence, "confidence"))) / 2)
    return np.asarray(np.exp(-reach * spread / np.sqrt(np.maximum(people, 1))))


def sum_by(index: IntArray, values: FloatArray, size: int) -> FloatArray:
    """(size,) the values (N,) of each index (N,), added up."""
    return np.asarray(np.bincount(index, values, size), dtype=np.float64)


def combine(value: float, below: FloatArray, above: FloatArray) -> tuple[float, float]:
    """The interval from how far each of independent parts may be below and above (S,)."""
    low, high = (float(np.sqrt((np.maximum(part, 0.0) ** 2).sum())) for part in (below, above))
    return value - low, value + high


def gap_interval(
    value: float, gaps: FloatArray, most: FloatArray, strata: IntArray, confidence: float
) -> tuple[float, float]:
    """The interval of a difference of two classifiers that every subject was tested by.

    Subjects better served by the first and those better served by the second are two shares of each class: where nobody
    differs, some of those not seen may. Both shares come from the same subjects, so their correlation counts.

    Args:
        value: the difference.
        gaps: (K,) what each subject adds to it.
        most: (K,) the most that it could add, either way.
        strata: (K,) the class of each subject.
        confidence: of the interval.
    """
    zeros = np.zeros_like(gaps)
    better, worse = (
        Contributions(zeros, np.minimum(part, most), most, strata)
        for part in (np.maximum(gaps, 0.0), np.maximum(-gaps, 0.0))
    )
    first, second = better.limits(confidence, 0.0), worse.limits(confidence, 0.0)
    together = _correlation_of_opposites(better, worse, first, second)

    def reach(up: FloatArray, down: FloatArray) -> FloatArray:
        up, down = up * first.span, down * first.span
        return np.asarray(np.sqrt(up**2 + down**2 + 2 * together * up * down))

    return combine(
        value,
        reach(first.share - first.low, second.high - second.share),
        reach(first.high - first.share, second.share - second.low),
    )


def _correlation_of_opposites(
    better: Contributions, worse: Contributions, first: ClassLimits, second: ClassLimits
) -> FloatArray:
    """(S,) how strongly one share is large where the other is small: minus their correlation, at least 0."""
    size, strata = len(first.span), better.strata
    away = [part.actual - part.high * limits.share[strata] for part, limits in ((better, first), (worse, second))]
    together = -sum_by(strata, away[0] * away[1], size)
    spreads = np.sqrt(sum_by(strata, away[0] ** 2, size) * sum_by(strata, away[1] ** 2, size))
    return np.asarray(np.clip(np.divide(together, spreads, out=np.zeros(size), where=spreads > 0), 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class PredictedCells:
    """Rows in the cells of a confusion matrix, with their subjects; labels are fixed, predictions may vary.

    Attributes:
        labels: (N,).
        predicted: (N,).
        num_classes: C.
        of_subject: (N,) the index of each row's subject.
        strata: (K,) the class of each subject, from 0.
    """

    labels: IntArray
    predicted: IntArray
    num_classes: int
    of_subject: IntArray
    strata: IntArray

    @property
    def matrix(self) -> FloatArray:
        """(C, C) rows of each label predicted as each class."""
        size = self.num_classes
        return np.bincount(self.labels * size + self.predicted, minlength=size**2).reshape(size, size).astype(float)

    def interval(self, function: Cells, confidence: float) -> tuple[float, float]:
        """The interval of a function of the matrix.

        Within each class predictions are moved to the cells that lower or raise the value most, as far as the limits of the
        class go, and the value is computed anew: it need not be linear.
        """
        value, slopes = float(function(self.matrix)), self._slopes(function, self.matrix)
        rows = slopes[self.labels]
        actual = rows[np.arange(len(rows)), self.predicted]
        own = Contributions.of_rows(rows.min(axis=1), actual, rows.max(axis=1), self.of_subject, self.strata)
        limits = own.limits(confidence)
        used = limits.span > 0
        lower = np.divide(limits.share - limits.low, limits.share, out=np.zeros(len(used)), where=limits.share > 0)
        upper = np.divide(limits.high - limits.share, 1 - limits.share, out=np.zeros(len(used)), where=limits.share < 1)
        worst = function(self._moved(slopes.argmin(axis=1), lower))
        best = function(self._moved(slopes.argmax(axis=1), upper))
        below = np.where(np.isfinite(worst), value - worst, limits.span * (limits.share - limits.low))
        above = np.where(np.isfinite(best), best - value, limits.span * (limits.high - limits.share))
        mixed = function(self._mixed(confidence)) - value
        mixed = mixed[np.isfinite(mixed)]
        return combine(
            value,
            np.concatenate([np.where(used, below, 0.0), -mixed]),
            np.concatenate([np.where(used, above, 0.0), mixed]),
        )

    def gap_to(self, other: Self, function: Cells, confidence: float) -> tuple[float, float, float]:
        """The function of this matrix less that of another classifier on the same rows, with its interval."""
        value = float(function(self.matrix) - function(other.matrix))
        slopes = self._slopes(function, (self.matrix + other.matrix) / 2)  # half way: times the change it is the gap
        rows = slopes[self.labels]
        index = np.arange(len(rows))
        change = np.asarray(rows[index, self.predicted] - rows[index, other.predicted], dtype=np.float64)
        gaps = sum_by(self.of_subject, change, len(self.strata))
        span = np.asarray(rows.max(axis=1) - rows.min(axis=1), dtype=np.float64)
        most = sum_by(self.of_subject, span, len(self.strata))
        return value, *gap_interval(value, gaps, most, self.strata, confidence)

    def _slopes(self, function: Cells, matrix: FloatArray) -> FloatArray:
        """(C, C) change of the value for one more row in each cell; 0 where the value is not defined there."""
        size, step = self.num_classes, 1e-6 * max(1.0, float(matrix.sum()))
        more = matrix + step * np.eye(size**2).reshape(-1, size, size)
        slopes = np.nan_to_num((function(more) - function(matrix)) / step, nan=0.0).reshape(size, size)
        flat = np.ptp(slopes, axis=1) <= FLAT * np.ptp(slopes, axis=1).max()
        slopes[flat] = slopes[flat, :1]
        return np.asarray(slopes)

    def _moved(self, target: IntArray, shares: FloatArray) -> FloatArray:
        """(S, C, C) the matrix with this share of a class's predictions moved to the target (C,) of their labels."""
        return self.matrix + shares[:, None, None] * (
            self._by_class(target[self.labels]) - self._by_class(self.predicted)
        )

    def _mixed(self, confidence: float) -> FloatArray:
        """(2 S, C, C) the matrix with the rows of each class as few, and as many, as other subjects might have."""
        parts = self._by_class(self.predicted)
        few = shares_of_rows(self.of_subject, self.strata, confidence)[:, None, None]
        return np.concatenate([self.matrix + (few - 1) * parts, self.matrix + (1 / few - 1) * parts])

    def _by_class(self, predicted: IntArray) -> FloatArray:
        """(S, C, C) the matrices of the subjects of each class."""
        size, count = self.num_classes, int(self.strata.max()) + 1
        cells = (self.strata[self.of_subject] * size + self.labels) * size + predicted
        return np.bincount(cells, minlength=count * size**2).reshape(count, size, size).astype(float)
