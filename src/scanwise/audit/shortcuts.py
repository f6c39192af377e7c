"""What tells the class without looking at the anatomy: the border, the background, the file, the acquisition.

Each source of such knowledge becomes a few numbers a scan. A linear classifier learns the class from them on four
fifths of the people and is tried on the rest. An area under the ROC curve of 0.5 means that the source knows nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanwise.audit import border_features
from scanwise.audit.evidence import AuditFinding, Evidence, IntervalChart, make_finding
from scanwise.audit.subject_statistics import SubjectEstimate, classes_with_subjects, subject_folds, subject_indices
from scanwise.pooling import common_label
from scanwise.records import FloatArray, IntArray, Severity, StrArray

FAMILY = 0.99
"""Confidence in all intervals together: a hospital audits many cohorts, and a false alarm costs trust each time."""
GAP = 0.1
"""How far above 0.5 an area must lie to be worth a warning."""
FOLDS = 5
FEWEST = 5
"""People that a class needs to take part: one a fold."""
BINS = 10
LISTED = 8
NAMES = 30
"""Values of a column that are told apart; the rarer ones count as one."""
RIDGE = 1e-2
"""Penalty, as a share of the number of scans; features are standardised."""


@dataclass(frozen=True, slots=True)
class ShortcutSource:
    """Where a class may be known from.

    Attributes:
        check: "shortcuts.border".
        name: in words.
        features: (N, D).
        advice: what to do where it tells the class.
    """

    check: str
    name: str
    features: FloatArray
    advice: str


def examine(evidence: Evidence) -> list[AuditFinding]:
    """The area under the ROC curve of each source, with intervals that hold for all of them together."""
    people, labels = subject_indices(evidence), evidence.cohort.labels
    kept = classes_with_subjects(people, labels, len(evidence.cohort.classes), FEWEST)
    if len(kept) < 2:
        few = f"not judged, for fewer than two classes have {FEWEST} subjects"
        return [make_finding("shortcuts", "note", f"What tells the class without the anatomy: {few}.")]
    rows = np.flatnonzero(np.isin(labels, kept))
    classes = np.searchsorted(kept, labels[rows])
    _, who = np.unique(people[rows], return_inverse=True)
    told = [source for source in shortcut_sources(evidence) if np.ptp(source.features[rows], axis=0).any()]
    if not told:
        return [make_finding("shortcuts", "note", "Border, background, files and columns are the same in all scans.")]
    confidence = 1 - (1 - FAMILY) / len(told)
    fold = subject_folds(who, classes, FOLDS, evidence.seed)
    areas = [
        clustered_auroc(out_of_fold_scores(s.features[rows], classes, fold), classes, who, confidence) for s in told
    ]
    found = [_said(evidence, source, estimate) for source, estimate in zip(told, areas, strict=True)]
    return [_overview(evidence, told, areas, kept), *(one for one in found if one is not None)]


def shortcut_sources(evidence: Evidence) -> Iterator[ShortcutSource]:
    """All that may tell the class; features that are the same in all scans are left in."""
    files = evidence.files
    boxes = border_features.content_boxes(evidence.pixels.shape[1], len(evidence), files)
    yield ShortcutSource(
        "shortcuts.border",
        "the border",
        border_features.border_features(evidence.pixels, boxes),
        "Look at the edges of the scans for marks, frames and collimation, and crop or mask them.",
    )
    background = border_features.background_features(evidence.pixels)
    if background is not None:
        yield ShortcutSource(
            "shortcuts.background",
            "the background",
            background,
            "Look at what lies outside the body for text, tables, noise and shades, and mask it.",
        )
    same = "Save all scans again in the same way, from the originals if there are any."
    if "bytes" in files:
        sizes = border_features.unexplained_file_size(evidence.pixels, files["bytes"])
        yield ShortcutSource("shortcuts.bytes", "the file size beyond what the picture explains", _numbers(sizes), same)
    if {"width", "height"} <= files.keys():
        shape = np.column_stack([_numbers(files["width"]), _numbers(files["height"])])
        yield ShortcutSource(
            "shortcuts.size", "width and height", shape, "Bring all scans to one size before training."
        )
    for column, name in (("mode", "the image mode"), ("format", "the file format"), ("has_exif", "the EXIF header")):
        if column in files:
            yield ShortcutSource(
                f"shortcuts.{column.removeprefix('has_')}", name, _names(files[column].astype(str)), same
            )
    if "quality" in files:
        yield ShortcutSource("shortcuts.quality", "the JPEG quality", _numbers(files["quality"]), same)
    for column, values in evidence.cohort.groups.items():
        yield ShortcutSource(
            f"shortcuts.group.{column}",
            f"the column {column!r}",
            _column(values),
            "Balance it over the classes, or break every result down by it.",
        )


def out_of_fold_scores(features: FloatArray, classes: IntArray, fold: IntArray) -> FloatArray:
    """(N, C) scores of a ridge regression on class indicators that never saw the scan's fold.

    Args:
        features: (N, D). classes: (N,) from 0. fold: (N,) of `subject_statistics.subject_folds`.
    """
    wanted = np.eye(int(classes.max()) + 1)[classes]
    scores = np.zeros(wanted.shape)
    for held in np.unique(fold):
        learnt, judged = fold != held, fold == held
        mean, spread = features[learnt].mean(axis=0), features[learnt].std(axis=0)
        scale = np.where(spread > 1e-9, spread, np.inf)  # what never varies tells nothing
        x = (features[learnt] - mean) / scale
        centre = wanted[learnt].mean(axis=0)
        penalty = RIDGE * len(x) * np.eye(x.shape[1])
        weights = np.linalg.solve(x.T @ x + penalty, x.T @ (wanted[learnt] - centre))
        scores[judged] = (features[judged] - mean) / scale @ weights + centre
    return scores


def clustered_auroc(scores: FloatArray, classes: IntArray, people: IntArray, confidence: float) -> SubjectEstimate:
    """Area under the ROC curve, the mean over classes against the rest, with an interval over subjects.

    The interval is that of placement values summed by subject (DeLong et al. 1988; Obuchowski 1997), and Student's t
    with the degrees of freedom of Welch and Satterthwaite, because a class may be few people.
    """
    count = scores.shape[1]
    shown = [1] if count == 2 else range(count)
    values, pull = [], np.zeros(len(classes))
    for index in shown:
        value, own = _placed(scores[:, index], classes == index)
        values.append(value)
        pull += own / len(shown)
    together = np.bincount(people, pull) ** 2
    class_of = common_label(classes, people, count)
    sums, sizes = np.bincount(class_of, together, count), np.bincount(class_of, minlength=count)
    doubt = float((sums**2 / np.maximum(sizes - 1, 0.5)).sum())
    free = float(sums.sum() ** 2) / doubt if doubt > 0 else np.inf
    return SubjectEstimate.of(
        float(np.mean(values)), pull, people, confidence, concerned=np.arange(len(people)), free=free
    )


def _placed(scores: FloatArray, positive: NDArray[np.bool_]) -> tuple[float, FloatArray]:
    """The area, and by how much each scan pulls it."""
    ups, downs = np.sort(scores[positive]), np.sort(scores[~positive])
    pull = np.zeros(len(scores))
    pull[positive] = _share_below(downs, scores[positive])
    pull[~positive] = 1 - _share_below(ups, scores[~positive])
    value = float(pull[positive].mean())
    pull -= value
    pull[positive] /= len(ups)
    pull[~positive] /= len(downs)
    return value, pull


def _share_below(ordered: FloatArray, values: FloatArray) -> FloatArray:
    """The share of the ordered ones that lie below each value, ties half."""
    places = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(places / (2 * len(ordered)))


def _said(evidence: Evidence, source: ShortcutSource, estimate: SubjectEstimate) -> AuditFinding | None:
    """A warning where the source tells the class by a margin that matters and is no chance."""
    if not (estimate.value >= 0.5 + GAP and estimate.low > 0.5):
        return None
    message = f"The class can be told from {source.name} alone: AUROC {_interval(estimate)}. {source.advice}"
    if evidence.subject is None:
        message += (
            " Nobody is known here, so part of it may be that it tells the person: say who is who with --subject."
        )
    return make_finding(source.check, "warning", message)


def _overview(
    evidence: Evidence, told: list[ShortcutSource], areas: list[SubjectEstimate], kept: IntArray
) -> AuditFinding:
    severity: Severity = "note"
    values, low, high = (np.array([getattr(one, name) for one in areas]) for name in ("value", "low", "high"))
    names = tuple(source.name for source in told)
    listed = ", ".join(f"{name} {_interval(one)}" for name, one in zip(names, areas, strict=True))
    left = [name for index, name in enumerate(evidence.cohort.classes) if index not in kept]
    message = f"AUROC of the class from what is not anatomy, with intervals that hold together at {100 * FAMILY:g} %: {listed}."
    if left:
        message += (
            f" Without {', '.join(left[:LISTED])}{', …' if len(left) > LISTED else ''}: fewer than {FEWEST} subjects."
        )
    return make_finding("shortcuts", severity, message, picture=IntervalChart(names, values, low, high, "AUROC", 0.5))


def _interval(estimate: SubjectEstimate) -> str:
    return f"{estimate.value:.2f} ({max(estimate.low, 0):.2f}–{min(estimate.high, 1):.2f})"


def _column(values: StrArray) -> FloatArray:
    """A column of the manifest: numbers where all values are numbers and many, else names."""
    filled = values[values != ""]
    try:
        numbers = np.where(values == "", "nan", values).astype(np.float64)
    except ValueError:
        return _names(values)
    return _numbers(numbers) if len(np.unique(filled)) > BINS else _names(values)


def _names(values: StrArray) -> FloatArray:
    """(N, D) which value each scan has."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    common = np.sort(np.argsort(-counts, kind="stable")[:NAMES])
    return np.asarray(index.reshape(-1, 1) == common, dtype=np.float64)


def _numbers(values: NDArray[Any]) -> FloatArray:
    """(N, D) the rank of each number, the bin that it is in, and whether it is missing."""
    numbers = values.astype(np.float64)
    missing = ~np.isfinite(numbers)
    if missing.all():
        return np.zeros((len(numbers), 1))
    known = np.sort(numbers[~missing])
    rank = np.where(missing, 0.5, _share_below(known, np.where(missing, 0, numbers)))
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
    inside = np.searchsorted(edges, numbers, side="right")
    inside[missing] = len(edges) + 1
    return np.column_stack([rank, inside[:, None] == np.arange(len(edges) + 2)])
