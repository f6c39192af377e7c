"""People as the unit of a trained network: what is refused, what is said, and the order of their scans."""

from collections.abc import Sequence

import numpy as np

from scanwise.cohort.anatomical_order import scan_positions
from scanwise.cohort.decoding.slice_names import file_of_scan
from scanwise.errors import DataError
from scanwise.phrases import count_of
from scanwise.recipe import Recipe
from scanwise.records import Cohort, Finding, IntArray

CHECK = "model.bag"


def check_people_known(recipe: Recipe, cohort: Cohort) -> None:
    """Refuse a network of people where it is not known whose the scans are.

    Raises:
        DataError: with the ways to say it.
    """
    if recipe.model.by_subject and not cohort.subjects_known:
        raise DataError(
            "model.unit: subject learns people, and it is not known whose scans these are. Give --subject (a column, a table or a "
            "pattern over the paths), or set model.unit to scan."
        )


def bag_findings(recipe: Recipe, cohort: Cohort) -> list[Finding]:
    """Notes on people with more scans than a training step takes, with one, and with scans of two classes."""
    if not recipe.model.by_subject:
        return []
    people, codes, counts = np.unique(cohort.subject, return_inverse=True, return_counts=True)
    pairs = np.unique(codes * len(cohort.classes) + cohort.labels) // len(cohort.classes)
    mixed = int((np.bincount(pairs, minlength=len(people)) > 1).sum())
    most, notes = recipe.model.bag, []
    many = int((counts > most).sum())
    if many:
        notes.append(
            f"{many:,} of {count_of(len(people), 'subject')} have more than {count_of(most, 'scan')} (the most is {counts.max():,}): "
            f"in each epoch {most:,} of them are drawn at random for training. Prediction uses all. model.bag sets the number."
        )
    if (counts == 1).any():
        notes.append(
            f"{int((counts == 1).sum()):,} of {count_of(len(people), 'subject')} have one scan, which is their whole answer."
        )
    if mixed:
        notes.append(
            f"{mixed:,} of {count_of(len(people), 'subject')} have scans of more than one class: each is taught with the most "
            "common of them."
        )
    return [Finding(CHECK, "note", note) for note in notes]


def rows_in_order(recipe: Recipe, cohort: Cohort, rows: IntArray) -> IntArray:
    """Rows of a side, for a network of people in anatomical order where that is known."""
    if not recipe.model.by_subject:
        return rows
    return rows[np.argsort(scan_positions(cohort.path[rows], cohort.take(rows).groups), kind="stable")]


def people_of_files(recipe: Recipe, names: Sequence[str], subjects: list[str] | None) -> list[str] | None:
    """Subjects of scans: as given, or for a network of people each file with several slices, where nothing names anybody.

    Args:
        recipe: of the network.
        names: of the scans, such as `a.nii.gz#003`.
        subjects: of the scans, or None.
    """
    if subjects is not None or not recipe.model.by_subject:
        return subjects
    files = [file_of_scan(name) for name in names]
    return files if len(set(files)) < len(files) else None


def measured_units(recipe: Recipe, subjects_known: bool) -> tuple[str, ...]:
    """Units of figures: subjects where they are known, and scans but for a network that was taught people alone."""
    if recipe.model.by_subject:
        return ("subjects",)
    return ("scans", "subjects") if subjects_known else ("scans",)
