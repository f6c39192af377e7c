"""Shortcuts: cues outside the anatomy that predict the class, in the border, the background, the file and the acquisition.

Each source becomes a few numbers a scan. A linear classifier learns the class from them on four fifths of the people and is
tested on the rest. An area under the ROC curve of 0.5 means that the source does not predict the class.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanwise.auditing import border_features
from scanwise.auditing.evidence import AuditFinding, Evidence, IntervalChart, make_finding
from scanwise.auditing.subject_statistics import SubjectEstimate, classes_with_subjects, subject_folds, subject_indices
from scanwise.cohort import LABEL
from scanwise.pooling import common_label
from scanwise.records import FloatArray, IntArray, StrArray
from scanwise.records.columns import is_identifier, numbers_in

FAMILY = 0.99
"""Simultaneous confidence of all intervals: a hospital audits many cohorts, and each false alarm costs trust."""
GAP = 0.1
"""Excess of the AUROC over 0.5 from which there is a warning."""
FOLDS = 5
FEWEST = 5
"""Subjects that a class needs to take part: one a fold."""
BINS = 10
LISTED = 8
NAMES = 30
"""Values of a column that get an indicator of their own; the rarer ones count as one."""
RIDGE = 1e-2
"""Penalty, as a share of the number of scans; features are standardised."""


@dataclass(frozen=True, slots=True)
class ShortcutSource:
    """A source of cues outside the anatomy.

    Attributes:
        check: key of its finding, such as "shortcuts.border".
        name: in words.
        features: (N, D).
        advice: what to do where it predicts the class.
    """

    check: str
    name: str
    features: FloatArray
    advice: str


def examine(evidence: Evidence) -> list[AuditFinding]:
    """AUROC of each source, with simultaneous intervals; a warning for each source that predicts the class."""
    people, labels = subject_indices(evidence), evidence.cohort.labels
    kept = classes_with_subjects(people, labels, len(evidence.cohort.classes), FEWEST)
    if len(kept) < 2:
        message = f"Shortcuts were not checked, because fewer than two classes have {FEWEST} subjects."
        return [make_finding("shortcuts", "note", message)]
    rows = np.flatnonzero(np.isin(labels, kept))
    classes = np.searchsorted(kept, labels[rows])
    _, subjects = np.unique(people[rows], return_inverse=True)
    varying = [source for source in shortcut_sources(evidence) if np.ptp(source.features[rows], axis=0).any()]
    if not varying:
        return [make_finding("shortcuts", "note", "Border, background, files and columns are the same in all scans.")]
    confidence = 1 - (1 - FAMILY) / len(varying)
    fold = subject_folds(subjects, classes, FOLDS, evidence.seed)
    scores = [out_of_fold_scores(source.features[rows], classes, fold) for source in varying]
    estimates = [clustered_auroc(each, classes, subjects, confidence) for each in scores]
    names = [evidence.cohort.classes[index] for index in kept]
    warnings = [
        _warning(evidence, source, estimate, _told_classes(each, classes, names))
        for source, estimate, each in zip(varying, estimates, scores, strict=True)
    ]
    return [_overview(evidence, varying, estimates, kept), *(item for item in warnings if item is not None)]


def shortcut_sources(evidence: Evidence) -> Iterator[ShortcutSource]:
    """All sources of cues outside the anatomy; features that are the same in all scans are left in."""
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
            "Look outside the body for text, tables, noise and shades, and mask them.",
        )
    same = "Save all scans again in the same way, from the originals if there are any."
    if "bytes" in files:
        sizes = border_features.unexplained_file_size(evidence.pixels, files["bytes"])
        yield ShortcutSource(
            "shortcuts.bytes", "the file size beyond what the picture explains", _numeric_features(sizes), same
        )
    if {"width", "height"} <= files.keys():
        shape = np.column_stack([_numeric_features(files["width"]), _numeric_features(files["height"])])
        yield ShortcutSource(
            "shortcuts.size", "width and height", shape, "Bring all scans to one size before training."
        )
    for column, name in (("mode", "the image mode"), ("format", "the file format"), ("has_exif", "the EXIF header")):
        if column in files:
            yield ShortcutSource(
                f"shortcuts.{column.removeprefix('has_')}", name, _indicators(files[column].astype(str)), same
            )
    if "quality" in files:
        yield ShortcutSource("shortcuts.quality", "the JPEG quality", _numeric_features(files["quality"]), same)
    for column, values in evidence.cohort.groups.items():
        if column == LABEL:  # of the labels that a class merges, each tells the class
            continue
        if is_identifier(column, values) and column != "position":  # a network may learn where in the body a slice lies
            continue
        yield ShortcutSource(
            f"shortcuts.group.{column}",
            f"the column {column!r}",
            _column_features(values),
            "Balance it over the classes, or break every result down by it.",
        )


def out_of_fold_scores(features: FloatArray, classes: IntArray, fold: IntArray) -> FloatArray:
    """(N, C) scores of a ridge regression on class indicators that never saw the scan's fold.

    Args:
        features: (N, D). classes: (N,) from 0. fold: (N,) of `subject_statistics.subject_folds`.
    """
    indicators = np.eye(int(classes.max()) + 1)[classes]
    scores = np.zeros(indicators.shape)
    for held_out in np.unique(fold):
        train, test = fold != held_out, fold == held_out
        mean, spread = features[train].mean(axis=0), features[train].std(axis=0)
        scale = np.where(spread > 1e-9, spread, np.inf)  # a constant feature gets no weight
        x = (features[train] - mean) / scale
        centre = indicators[train].mean(axis=0)
        penalty = RIDGE * len(x) * np.eye(x.shape[1])
        weights = np.linalg.solve(x.T @ x + penalty, x.T @ (indicators[train] - centre))
        scores[test] = (features[test] - mean) / scale @ weights + centre
    return scores


def clustered_auroc(scores: FloatArray, classes: IntArray, people: IntArray, confidence: float) -> SubjectEstimate:
    """Area under the ROC curve, the mean over classes against the rest, with an interval over subjects.

    The interval is that of placement values summed by subject (DeLong et al. 1988; Obuchowski 1997), and Student's t
    with the degrees of freedom of Welch and Satterthwaite, because a class may be few people.
    """
    count = scores.shape[1]
    shown = [1] if count == 2 else range(count)
    values, influence = [], np.zeros(len(classes))
    for index in shown:
        value, own = _placement_values(scores[:, index], classes == index)
        values.append(value)
        influence += own / len(shown)
    squares = np.bincount(people, influence) ** 2
    class_of = common_label(classes, people, count)
    sums, sizes = np.bincount(class_of, squares, count), np.bincount(class_of, minlength=count)
    denominator = float((sums**2 / np.maximum(sizes - 1, 0.5)).sum())
    freedom = float(sums.sum() ** 2) / denominator if denominator > 0 else np.inf
    return SubjectEstimate.of(
        float(np.mean(values)), influence, people, confidence, rows=np.arange(len(people)), degrees_of_freedom=freedom
    )


def _placement_values(scores: FloatArray, positive: NDArray[np.bool_]) -> tuple[float, FloatArray]:
    """The AUROC, and the influence of each scan on it."""
    positives, negatives = np.sort(scores[positive]), np.sort(scores[~positive])
    influence = np.zeros(len(scores))
    influence[positive] = _share_below(negatives, scores[positive])
    influence[~positive] = 1 - _share_below(positives, scores[~positive])
    value = float(influence[positive].mean())
    influence -= value
    influence[positive] /= len(positives)
    influence[~positive] /= len(negatives)
    return value, influence


def _share_below(ordered: FloatArray, values: FloatArray) -> FloatArray:
    """The share of the ordered ones that lie below each value, ties half."""
    ranks = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(ranks / (2 * len(ordered)))


def _told_classes(scores: FloatArray, classes: IntArray, names: Sequence[str]) -> str:
    """The classes that scores (N, C) tell from all others, the surest first, in words."""
    if len(names) == 2:
        return f"{names[0]} against {names[1]}"
    values = [_placement_values(scores[:, index], classes == index)[0] for index in range(len(names))]
    clear = [f"{names[index]} {values[index]:.2f}" for index in np.argsort(values)[::-1] if values[index] >= 0.5 + GAP]
    return f"above all {', '.join(clear[:LISTED])}" if clear else "by a little of each"


def _warning(evidence: Evidence, source: ShortcutSource, estimate: SubjectEstimate, which: str) -> AuditFinding | None:
    """A warning where the source predicts the class by a relevant and significant margin."""
    if not (estimate.value >= 0.5 + GAP and estimate.low > 0.5):
        return None
    message = (
        f"The class can be predicted from {source.name} alone ({which}): AUROC {_interval(estimate)}. {source.advice}"
    )
    if evidence.subject is None:
        message += " The subjects are not known, so part of it may be recognition of subjects: pass --subject."
    return make_finding(source.check, "warning", message)


def _overview(
    evidence: Evidence, sources: list[ShortcutSource], estimates: list[SubjectEstimate], kept: IntArray
) -> AuditFinding:
    """AUROC of every source in one chart."""
    values, low, high = (np.array([getattr(each, end) for each in estimates]) for end in ("value", "low", "high"))
    names = tuple(source.name for source in sources)
    listed = ", ".join(f"{name} {_interval(each)}" for name, each in zip(names, estimates, strict=True))
    left_out = [name for index, name in enumerate(evidence.cohort.classes) if index not in kept]
    message = (
        "How well cues beside the content predict the class (AUROC, simultaneous "
        f"{100 * FAMILY:g} % intervals): {listed}."
    )
    if left_out:
        few = ", ".join(left_out[:LISTED]) + (", …" if len(left_out) > LISTED else "")
        message += f" Without {few}: fewer than {FEWEST} subjects."
    return make_finding("shortcuts", "note", message, picture=IntervalChart(names, values, low, high, "AUROC", 0.5))


def _interval(estimate: SubjectEstimate) -> str:
    return f"{estimate.value:.2f} ({max(estimate.low, 0):.2f}–{min(estimate.high, 1):.2f})"


def _column_features(values: StrArray) -> FloatArray:
    """(N, D) features of a manifest column: numeric where its values are numbers and many, else indicators."""
    numbers = numbers_in(values)
    if numbers is None or len(np.unique(values[values != ""])) <= BINS:
        return _indicators(values)
    return _numeric_features(numbers)


def _indicators(values: StrArray) -> FloatArray:
    """(N, D) indicators of the most frequent values."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    common = np.sort(np.argsort(-counts, kind="stable")[:NAMES])
    return np.asarray(index.reshape(-1, 1) == common, dtype=np.float64)


def _numeric_features(values: NDArray[Any]) -> FloatArray:
    """(N, D) the rank of each number, and indicators of its bin, one of them for missing numbers."""
    numbers = values.astype(np.float64)
    missing = ~np.isfinite(numbers)
    if missing.all():
        return np.zeros((len(numbers), 1))
    finite = np.sort(numbers[~missing])
    rank = np.where(missing, 0.5, _share_below(finite, np.where(missing, 0, numbers)))
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, BINS + 1)[1:-1]))
    inside = np.searchsorted(edges, numbers, side="right")
    inside[missing] = len(edges) + 1
    return np.column_stack([rank, inside[:, None] == np.arange(len(edges) + 2)])
