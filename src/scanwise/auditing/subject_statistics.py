"""Statistics by subject: cluster-robust intervals, and folds that keep subjects whole."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from scanwise.auditing.evidence import Evidence
from scanwise.pooling import common_label
from scanwise.records import FloatArray, IntArray
from scanwise.risk import clopper_pearson


@dataclass(frozen=True, slots=True)
class SubjectEstimate:
    """An estimate with its interval over subjects, and the influence of each scan.

    Attributes:
        value: the estimate.
        low: lower end of the interval; NaN where it rests on fewer than two subjects.
        high: upper end.
        influence: (N,) of each scan of the cohort on the value, summing to zero; 0 for a scan that does not enter.
    """

    value: float
    low: float
    high: float
    influence: FloatArray

    @classmethod
    def of(
        cls,
        value: float,
        influence: FloatArray,
        people: IntArray,
        confidence: float = 0.95,
        *,
        rows: IntArray,
        degrees_of_freedom: float | None = None,
    ) -> Self:
        """An estimate whose variance is the sum of squared influences by subject (Liang and Zeger 1986; Student's t).

        Args:
            value: the estimate.
            influence: (N,).
            people: (N,) the index of each scan's subject.
            confidence: of the interval.
            rows: the scans that the estimate rests on.
            degrees_of_freedom: by default the number of subjects less one.
        """
        from scipy.stats import t

        count = len(np.unique(people[rows]))
        if count < 2:
            return cls(value, math.nan, math.nan, influence)
        by_subject = np.bincount(people, influence)
        error = math.sqrt(count / (count - 1) * float((by_subject**2).sum()))
        half_width = error * float(t.ppf((1 + confidence) / 2, degrees_of_freedom or count - 1))
        return cls(value, value - half_width, value + half_width, influence)

    @classmethod
    def mean(cls, values: FloatArray, rows: IntArray, people: IntArray, confidence: float = 0.95) -> Self:
        """The mean of values between 0 and 1, one for each of `rows`.

        Where all are 0, or all are 1, their spread says nothing about the next subject; the interval is then that of Clopper
        and Pearson on as many subjects.
        """
        value = float(values.mean())
        influence = np.zeros(len(people))
        np.add.at(influence, rows, (values - value) / len(values))
        if value in (0.0, 1.0):
            count = len(np.unique(people[rows]))
            return cls(value, *clopper_pearson(count if value else 0, count, confidence), influence)
        estimate = cls.of(value, influence, people, confidence, rows=rows)
        return cls(value, float(np.clip(estimate.low, 0, 1)), float(np.clip(estimate.high, 0, 1)), influence)

    def minus(self, other: "SubjectEstimate", people: IntArray, confidence: float = 0.95) -> "SubjectEstimate":
        """The difference of two estimates; subjects in both enter once, so that the error they share cancels."""
        influence = self.influence - other.influence
        rows = np.flatnonzero((self.influence != 0) | (other.influence != 0))
        return SubjectEstimate.of(self.value - other.value, influence, people, confidence, rows=rows)

    def percent(self) -> str:
        """The estimate of a share, with its interval, as text.

        >>> SubjectEstimate(0.5, 0.41, 0.6, np.zeros(2)).percent()
        '50.0 % (41.0–60.0)'
        """
        interval = "" if math.isnan(self.low) else f" ({100 * self.low:.1f}–{100 * self.high:.1f})"
        return f"{100 * self.value:.1f} %{interval}"


def subject_indices(evidence: Evidence) -> IntArray:
    """(N,) the index of each scan's subject; a scan of unknown subject counts as a subject of its own."""
    if evidence.subject is None:
        return np.arange(len(evidence))
    unknown = evidence.subject == ""
    _, people = np.unique(evidence.subject, return_inverse=True)
    people = people.reshape(-1).astype(np.int64)
    people[unknown] = people.max() + 1 + np.arange(int(unknown.sum()))
    return np.unique(people, return_inverse=True)[1].reshape(-1)


def classes_with_subjects(people: IntArray, labels: IntArray, count: int, fewest: int) -> IntArray:
    """The classes, of `count`, with at least `fewest` subjects."""
    return np.flatnonzero(np.bincount(common_label(labels, people, count), minlength=count) >= fewest)


def subject_folds(people: IntArray, labels: IntArray, count: int, seed: int) -> IntArray:
    """(N,) the fold of each scan: no subject in two folds, the subjects of every class spread evenly."""
    classes = common_label(labels, people, int(labels.max()) + 1)
    random = np.random.default_rng(seed)
    fold_of = np.empty(len(classes), dtype=np.int64)
    offset = 0
    for index in np.unique(
        classes
    ):  # each class starts at the fold after the last one's, so that folds are of one size
        members = random.permutation(np.flatnonzero(classes == index))
        fold_of[members] = (offset + np.arange(len(members))) % count
        offset += len(members)
    return fold_of[people]
