"""What rests on people and not on scans: intervals over subjects, and folds that part nobody."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from scanwise.audit.evidence import Evidence
from scanwise.pooling import common_label
from scanwise.records import FloatArray, IntArray, StrArray
from scanwise.risk import clopper_pearson


@dataclass(frozen=True, slots=True)
class SubjectEstimate:
    """A figure, its interval over subjects, and how far each scan pulls it.

    Attributes:
        value: the figure itself.
        low: lower end; NaN where fewer than two people are concerned.
        high: upper end.
        pull: (N,) the influence of each scan of the cohort, summing to zero; 0 for a scan that does not enter.
    """

    value: float
    low: float
    high: float
    pull: FloatArray

    @classmethod
    def of(
        cls,
        value: float,
        pull: FloatArray,
        people: IntArray,
        confidence: float = 0.95,
        *,
        concerned: IntArray,
        free: float | None = None,
    ) -> Self:
        """The figure `value`, whose error is the sum of what each subject pulls (Liang and Zeger 1986; Student's t).

        Args:
            pull: (N,).
            people: (N,) the index of each scan's subject.
            confidence: of the interval.
            concerned: the rows that the figure rests on.
            free: degrees of freedom; by default the number of subjects less one.
        """
        from scipy.stats import t

        count = len(np.unique(people[concerned]))
        if count < 2:
            return cls(value, math.nan, math.nan, pull)
        together = np.bincount(people, pull)
        error = math.sqrt(count / (count - 1) * float((together**2).sum()))
        wide = error * float(t.ppf((1 + confidence) / 2, free or count - 1))
        return cls(value, value - wide, value + wide, pull)

    @classmethod
    def mean(cls, values: FloatArray, rows: IntArray, people: IntArray, confidence: float = 0.95) -> Self:
        """The mean of values between 0 and 1, one for each of `rows`.

        Where all are 0, or all are 1, resampling says nothing of the next subject; the interval is then Clopper and
        Pearson's on as many subjects.
        """
        value = float(values.mean())
        pull = np.zeros(len(people))
        np.add.at(pull, rows, (values - value) / len(values))
        if value in (0.0, 1.0):
            count = len(np.unique(people[rows]))
            return cls(value, *clopper_pearson(count if value else 0, count, confidence), pull)
        found = cls.of(value, pull, people, confidence, concerned=rows)
        return cls(value, float(np.clip(found.low, 0, 1)), float(np.clip(found.high, 0, 1)), pull)

    def less(self, other: "SubjectEstimate", people: IntArray, confidence: float = 0.95) -> "SubjectEstimate":
        """This less the other: people who stand in both count once, so what they share cancels."""
        pull = self.pull - other.pull
        concerned = np.flatnonzero((self.pull != 0) | (other.pull != 0))
        return SubjectEstimate.of(self.value - other.value, pull, people, confidence, concerned=concerned)

    def percent(self) -> str:
        """A share in words.

        >>> Estimate(0.5, 0.41, 0.6, np.zeros(2)).percent()
        '50.0 % (41.0–60.0)'
        """
        known = "" if math.isnan(self.low) else f" ({100 * self.low:.1f}–{100 * self.high:.1f})"
        return f"{100 * self.value:.1f} %{known}"


def subject_indices(evidence: Evidence) -> IntArray:
    """(N,) the index of each scan's subject; a scan of whom nobody knows stands for itself."""
    if evidence.subject is None:
        return np.arange(len(evidence))
    unknown = evidence.subject == ""
    _, people = np.unique(evidence.subject, return_inverse=True)
    people = people.reshape(-1).astype(np.int64)
    people[unknown] = people.max() + 1 + np.arange(int(unknown.sum()))
    return np.unique(people, return_inverse=True)[1].reshape(-1)


def join_subjects(subject: StrArray, same: IntArray) -> StrArray:
    """(N,) the subjects, of whom those that share a scan are one, under the name that most of their scans have.

    Args:
        subject: (N,) names; empty where a scan's subject is not known.
        same: (P, 2) rows that are one scan, such as copies.

    >>> joined(np.array(["a", "a", "b", "c"]), np.array([[1, 2]])).tolist()
    ['a', 'a', 'a', 'c']
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, people, sizes = np.unique(subject, return_inverse=True, return_counts=True)
    place = np.where(subject == "", len(names) + np.arange(len(subject)), people.reshape(-1))
    count = len(names) + len(subject)
    edges = (np.ones(len(same)), (place[same[:, 0]], place[same[:, 1]]))
    group = connected_components(coo_array(edges, shape=(count, count)), directed=False)[1]
    order = np.argsort(sizes, kind="stable")
    order = order[names[order] != ""]
    name_of = np.full(count, "", dtype=subject.dtype)
    name_of[group[order]] = names[order]  # the largest comes last, and stays
    return name_of[group[place]]


def classes_with_subjects(people: IntArray, labels: IntArray, count: int, fewest: int) -> IntArray:
    """The classes, of `count`, that at least `fewest` subjects have."""
    return np.flatnonzero(np.bincount(common_label(labels, people, count), minlength=count) >= fewest)


def subject_folds(people: IntArray, labels: IntArray, count: int, seed: int) -> IntArray:
    """(N,) the fold of each scan: no subject in two folds, the subjects of every class dealt evenly."""
    classes = common_label(labels, people, int(labels.max()) + 1)
    random = np.random.default_rng(seed)
    fold_of = np.empty(len(classes), dtype=np.int64)
    dealt = 0
    for index in np.unique(classes):  # one class goes on where the last one stopped, so that folds are of one size
        members = random.permutation(np.flatnonzero(classes == index))
        fold_of[members] = (dealt + np.arange(len(members))) % count
        dealt += len(members)
    return fold_of[people]
