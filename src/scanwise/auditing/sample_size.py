"""Sample size: classes, groups and their cells with too few subjects to be split, calibrated or given a coverage guarantee.

Subjects count, not scans: a class of two people has two, with however many slices.
"""

from dataclasses import dataclass
from itertools import count

import numpy as np

from scanwise.auditing.evidence import AuditFinding, Evidence, IntervalChart, make_finding
from scanwise.auditing.subject_statistics import subject_indices
from scanwise.phrases import count_of
from scanwise.pooling import common_label
from scanwise.recipe import SplitSection
from scanwise.records import SIDES, IntArray, StrArray
from scanwise.risk import minimum_count

ALPHA = 0.1
"""Allowed miscoverage: prediction sets are to cover 90 %."""
CALIBRATION_SUBJECTS = 2
"""Least number of validation subjects, which set the temperature: a single one may be untypical."""
VALUES = 20
"""A column with more values is not a grouping."""
LISTED = 8
BARS = 30
"""Classes in the picture: those of the fewest subjects."""


@dataclass(frozen=True, slots=True)
class SubjectRequirements:
    """Number of subjects that a class or group needs, with the shares of the default split.

    Attributes:
        split: for one subject on every side.
        calibrate: for `CALIBRATION_SUBJECTS` on the validation side.
        conformal: for enough on the calibration side that sets cover 90 % within the class or group.
    """

    split: int
    calibrate: int
    conformal: int

    @classmethod
    def of(cls, section: SplitSection) -> "SubjectRequirements":
        """The requirements under a split.

        >>> SubjectRequirements.of(SplitSection())
        SubjectRequirements(split=4, calibrate=10, conformal=43)
        """
        least = minimum_count(ALPHA)
        return cls(
            len(SIDES), _cohort_size(CALIBRATION_SUBJECTS, section.validation), _cohort_size(least, section.calibration)
        )

    def unmet(self, subjects: int) -> str:
        """The purposes for which so many subjects are too few; empty where they are enough for all."""
        if subjects < self.split:
            return "to be split, calibrated or given a coverage guarantee"
        if subjects < self.calibrate:
            return "to calibrate, or for a 90 % coverage guarantee of its own"
        return "for a 90 % coverage guarantee of its own" if subjects < self.conformal else ""

    def __str__(self) -> str:
        least = minimum_count(ALPHA)
        return (
            f"Needed: {self.split} subjects for one on every side, {self.calibrate} for {CALIBRATION_SUBJECTS} to calibrate "
            f"on, and {self.conformal} for the {least} calibration subjects of a 90 % coverage guarantee"
        )


def examine(evidence: Evidence) -> list[AuditFinding]:
    """The whole cohort, the classes, and the columns with their cells: those of too few subjects."""
    if evidence.subject is None:
        message = (
            "Sample size: not checked, because the subjects are not known and scans are not subjects; pass --subject."
        )
        return [make_finding("evaluability", "note", message, unchecked="sample size")]
    cohort, people, needs = evidence.cohort, subject_indices(evidence), SubjectRequirements.of(SplitSection())
    class_of = common_label(cohort.labels, people, len(cohort.classes))
    findings = [*_small_cohort(len(class_of), needs), *_small_classes(evidence, class_of, needs)]
    for name, values in cohort.groups.items():
        findings += _small_groups(name, values, people, class_of, cohort.classes, needs)
    return findings


def _cohort_size(least: int, share: float) -> int:
    """The smallest cohort of which `share` is at least `least` subjects, rounded as the split rounds."""
    return next(n for n in count(1) if round(share * n) >= least)


def _small_cohort(subjects: int, needs: SubjectRequirements) -> list[AuditFinding]:
    """A warning where the whole cohort has too few subjects."""
    if subjects >= needs.conformal:
        return []
    message = (
        f"The whole cohort has {count_of(subjects, 'subject')}, too few {needs.unmet(subjects)} with the default split. "
        f"{needs}."
    )
    return [make_finding("evaluability.cohort", "warning", message)]


def _small_classes(evidence: Evidence, class_of: IntArray, needs: SubjectRequirements) -> list[AuditFinding]:
    """A warning for classes that cannot be evaluated at all, and a note with the limits of the others."""
    cohort = evidence.cohort
    subjects = np.bincount(class_of, minlength=len(cohort.classes))
    scans = np.bincount(cohort.labels, minlength=len(cohort.classes))
    order = np.argsort(subjects, kind="stable")
    findings = []
    too_small = [index for index in order.tolist() if subjects[index] < needs.split]
    if too_small:
        counts = [
            f"{cohort.classes[i]} has {count_of(subjects[i], 'subject')} ({count_of(scans[i], 'scan')})"
            for i in too_small
        ]
        advice = "it" if len(too_small) == 1 else "them"
        message = (
            f"Not evaluable, because of too few subjects: {_listed(counts)}. {needs}. Add subjects, or merge {advice} with "
            f"another class or drop {advice} (split.small_classes)."
        )
        paths = cohort.path[np.isin(cohort.labels, too_small)]
        findings.append(make_finding("evaluability.class", "warning", message, paths))
    few = [f"{cohort.classes[i]} ({subjects[i]}) {needs.unmet(subjects[i])}" for i in order if needs.unmet(subjects[i])]
    enough = "Every class has enough subjects for a coverage guarantee of its own."
    message = f"Too few subjects: {_listed(few)}. {needs}." if few else enough
    shown = np.sort(order[:BARS])
    values = subjects[shown].astype(np.float64)
    names = tuple(cohort.classes[index] for index in shown)
    axis = "subjects (line: needed for a 90 % coverage guarantee)"
    chart = IntervalChart(names, values, values, values, axis, needs.conformal)
    return [*findings, make_finding("evaluability", "note", message, picture=chart)]


def _small_groups(
    name: str,
    values: StrArray,
    people: IntArray,
    class_of: IntArray,
    classes: tuple[str, ...],
    needs: SubjectRequirements,
) -> list[AuditFinding]:
    """Values of a column, and their cells with the classes, of too few subjects."""
    kinds, kind = np.unique(values, return_inverse=True)
    if len(kinds) > VALUES:
        return []
    pairs = np.unique(np.column_stack([kind.reshape(-1), people]), axis=0)
    cells = np.zeros((len(kinds), len(classes)), dtype=np.int64)
    np.add.at(cells, (pairs[:, 0], class_of[pairs[:, 1]]), 1)
    sums = cells.sum(axis=1)
    few = [(int(n), f"{kinds[i] or 'unknown'}") for i, n in enumerate(sums) if needs.unmet(n)]
    few += [
        (int(cells[i, c]), f"{kinds[i] or 'unknown'} × {classes[c]}")
        for i in range(len(kinds))
        for c in range(len(classes))
        if needs.unmet(cells[i, c]) and not needs.unmet(sums[i])
    ]
    if not few:
        return []
    few.sort()
    listed = _listed([f"{cell} {n}" for n, cell in few])
    message = (
        f"Each group needs at least {needs.conformal} people for its own 90 % coverage guarantee. Below that in the column "
        f"{name!r}: {count_of(len(few), 'cell')} ({listed}). {needs}."
    )
    return [make_finding(f"evaluability.group.{name}", "note", message)]


def _listed(texts: list[str]) -> str:
    return "; ".join(texts[:LISTED]) + ("; …" if len(texts) > LISTED else "")
