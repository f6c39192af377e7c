"""Who is too few: classes, groups and their cells that cannot be split, calibrated or promised anything, with the numbers.

What counts is people, not scans: a class of two people has two, with however many slices.
"""

from dataclasses import dataclass
from itertools import count

import numpy as np

from scanwise.audit.evidence import AuditFinding, Evidence, IntervalChart, make_finding
from scanwise.audit.subject_statistics import subject_indices
from scanwise.pooling import common_label
from scanwise.recipe import SplitSection
from scanwise.records import SIDES, IntArray, StrArray
from scanwise.risk import minimum_count

ALPHA = 0.1
"""Sets are to cover 90 %."""
CHECKED = 2
"""Subjects on the validation side, which sets the temperature: one alone could be anybody."""
VALUES = 20
"""A column with more values is not what results are broken down by."""
LISTED = 8
BARS = 30
"""Classes in the picture: those of the fewest people."""


@dataclass(frozen=True, slots=True)
class SubjectRequirements:
    """How many subjects of a class or a group there must be in all, with the shares of the default split.

    Attributes:
        split: one for every side.
        calibrate: `CHECKED` of them on the validation side.
        conformal: enough on the calibration side for sets that cover 90 % within the class or group.
    """

    split: int
    calibrate: int
    conformal: int

    @classmethod
    def of(cls, section: SplitSection) -> "SubjectRequirements":
        """
        >>> Needs.of(SplitSection())
        Needs(split=4, calibrate=10, conformal=43)
        """
        least = minimum_count(ALPHA)
        return cls(len(SIDES), _in_all(CHECKED, section.validation), _in_all(least, section.calibration))

    def lacks(self, subjects: int) -> str:
        """What so many subjects are too few for; empty where they are enough for everything."""
        if subjects < self.split:
            return "to be split, calibrated or promised anything"
        if subjects < self.calibrate:
            return "to calibrate, or to promise 90 % within it"
        return "to promise 90 % within it" if subjects < self.conformal else ""

    def __str__(self) -> str:
        least = minimum_count(ALPHA)
        return (
            f"{self.split} are needed for one on every side, {self.calibrate} for {CHECKED} to calibrate on, and "
            f"{self.conformal} for the {least} on the calibration side without which 90 % cannot be promised within it"
        )


def examine(evidence: Evidence) -> list[AuditFinding]:
    """Classes, then the columns with their cells, that are too few people; and whether the whole cohort is."""
    if evidence.subject is None:
        unknown = "not judged, for who is who is not known and scans are not people; say it with --subject"
        return [make_finding("evaluability", "note", f"Whether classes and groups are enough people: {unknown}.")]
    cohort, people, needs = evidence.cohort, subject_indices(evidence), SubjectRequirements.of(SplitSection())
    class_of = common_label(cohort.labels, people, len(cohort.classes))
    found = [*_whole(len(class_of), needs), *_classes(evidence, people, class_of, needs)]
    for name, values in cohort.groups.items():
        found += _group(name, values, people, class_of, cohort.classes, needs)
    return found


def _in_all(least: int, share: float) -> int:
    """The smallest cohort of which `share` is at least so many subjects, rounded as the split rounds."""
    return next(n for n in count(1) if round(share * n) >= least)


def _whole(subjects: int, needs: SubjectRequirements) -> list[AuditFinding]:
    if subjects >= needs.conformal:
        return []
    message = (
        f"The whole cohort is {subjects} subjects, too few {needs.lacks(subjects)} with the default split: {needs}."
    )
    return [make_finding("evaluability.cohort", "warning", message)]


def _classes(
    evidence: Evidence, people: IntArray, class_of: IntArray, needs: SubjectRequirements
) -> list[AuditFinding]:
    """A warning for the classes that cannot be judged at all, and a note of what the others are too few for."""
    cohort = evidence.cohort
    subjects = np.bincount(class_of, minlength=len(cohort.classes))
    scans = np.bincount(cohort.labels, minlength=len(cohort.classes))
    order = np.argsort(subjects, kind="stable")
    found = []
    lost = [index for index in order.tolist() if subjects[index] < needs.split]
    if lost:
        told = [
            f"{cohort.classes[i]} is {_counted(subjects[i], 'subject')} ({_counted(scans[i], 'scan')})" for i in lost
        ]
        message = (
            f"Not evaluable, for too few people: {_listed(told)}. {needs}. Find more people, or merge or drop "
            f"the class{'es' * (len(lost) > 1)} (split.small_classes)."
        )
        found.append(make_finding("evaluability.class", "warning", message, cohort.path[np.isin(cohort.labels, lost)]))
    few = [f"{cohort.classes[i]} ({subjects[i]}) {needs.lacks(subjects[i])}" for i in order if needs.lacks(subjects[i])]
    message = f"Too few: {_listed(few)}. {needs}." if few else "Every class has people enough for promises within it."
    shown = np.sort(order[:BARS])
    values = subjects[shown].astype(np.float64)
    names = tuple(cohort.classes[index] for index in shown)
    picture = IntervalChart(names, values, values, values, "subjects (line: 90 % can be promised)", needs.conformal)
    return [*found, make_finding("evaluability", "note", message, picture=picture)]


def _group(
    name: str,
    values: StrArray,
    people: IntArray,
    class_of: IntArray,
    classes: tuple[str, ...],
    needs: SubjectRequirements,
) -> list[AuditFinding]:
    """Values of a column, and their cells with the classes, that are too few people."""
    kinds, kind = np.unique(values, return_inverse=True)
    if len(kinds) > VALUES:
        return []
    pairs = np.unique(np.column_stack([kind.reshape(-1), people]), axis=0)
    cells = np.zeros((len(kinds), len(classes)), dtype=np.int64)
    np.add.at(cells, (pairs[:, 0], class_of[pairs[:, 1]]), 1)
    sums = cells.sum(axis=1)
    few = [(int(n), f"{kinds[i] or 'unknown'}") for i, n in enumerate(sums) if needs.lacks(n)]
    few += [
        (int(cells[i, c]), f"{kinds[i] or 'unknown'} × {classes[c]}")
        for i in range(len(kinds))
        for c in range(len(classes))
        if needs.lacks(cells[i, c]) and not needs.lacks(sums[i])
    ]
    if not few:
        return []
    few.sort()
    listed = _listed([f"{what} {n}" for n, what in few])
    message = (
        f"Too few subjects for promises of their own in {len(few)} cells of the column {name!r}: {listed}. {needs}."
    )
    return [make_finding(f"evaluability.group.{name}", "note", message)]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _listed(told: list[str]) -> str:
    return "; ".join(told[:LISTED]) + ("; …" if len(told) > LISTED else "")
