"""Metrics of each group of a column (site, sex, modality, decade of age), and the gaps between groups.

Groups may share subjects or not: every interval comes from the same draws of whole subjects. A group of fewer than
`MIN_SUBJECTS` subjects is counted and not reported: its metrics would be noise, and might identify a person. The more
groups, the more of them look bad by chance; intervals of gaps are widened so that all of a column hold together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scanwise.evaluation.estimates import measure_predictions
from scanwise.evaluation.sample import SubjectBootstrap, require_labels
from scanwise.evaluation.strata import Contributions
from scanwise.metrics import RankMetric, find_metric
from scanwise.records import BoolArray, FloatArray, Metric, Predictions, StrArray
from scanwise.records.columns import are_codes, is_age, is_identifier, numbers_in

MIN_SUBJECTS = 5
MAX_GROUPS = 20
NUM_RANGES = 4
MAX_NAME_LENGTH = 40
MANY_CLASSES = 12
NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "coverage", "precision", "recall", "f1", "specificity")
GAP = "accuracy gap"
UNREPORTED = "not_reported"


@dataclass(frozen=True, slots=True)
class GroupColumn:
    """A column that results can be broken down by, or the reason why not.

    Attributes:
        name: of the column in the cohort.
        values: (N,) the group of each row, "" where it is missing; ages as decades, other amounts as ranges.
        refused: the reason why it is not used; empty where it is.
    """

    name: str
    values: StrArray
    refused: str = ""

    @property
    def groups(self) -> list[str]:
        """Names of the groups; ranges and numbers in their order, else by name."""
        names = sorted(set(self.values.tolist()) - {""})
        return sorted(names, key=_range_start)


def group_columns(groups: Mapping[str, StrArray]) -> list[GroupColumn]:
    """Columns of these rows, each as groups or with the reason why it makes none."""
    return [_column(name, values) for name, values in groups.items()]


def _column(name: str, values: StrArray) -> GroupColumn:
    values = np.array([value.strip() for value in values.tolist()], dtype=np.str_)
    names = np.unique(values[values != ""])
    if is_identifier(name, values):
        return GroupColumn(name, values, "it names single studies, series, slices, files or persons")
    if len(names) < 2:
        return GroupColumn(name, values, "all rows have one value" if len(names) else "no row has a value")
    numbers = numbers_in(values)
    if numbers is not None and is_age(name, numbers):
        decades = GroupColumn(name, _decades(numbers))
        return decades if len(decades.groups) > 1 else replace(decades, refused="all ages are of one decade")
    if numbers is not None and not are_codes(name, numbers):
        return GroupColumn(name, _ranges(numbers, values != ""))
    if len(names) <= MAX_GROUPS and max(map(len, names.tolist())) <= MAX_NAME_LENGTH:
        return GroupColumn(name, values)
    if len(names) <= MAX_GROUPS or np.char.count(names, " ").mean() > 2:
        return GroupColumn(name, values, "it holds free text; give a column of short names to break results down by")
    return GroupColumn(
        name, values, f"it has {len(names):,} values, more than {MAX_GROUPS}; merge them into fewer groups"
    )


def _decades(ages: FloatArray) -> StrArray:
    """The decade of each age: `60 to 69`; "" where it is not known."""
    names = ["" if age != age else f"{10 * int(age // 10)} to {10 * int(age // 10) + 9}" for age in ages.tolist()]
    return np.array(names, dtype=np.str_)


def _ranges(numbers: FloatArray, present: BoolArray) -> StrArray:
    """Ranges of about as many rows each, named by their least and greatest value."""
    cuts = np.unique(np.quantile(numbers[present], np.arange(1, NUM_RANGES) / NUM_RANGES, method="inverted_cdf"))
    ranges = np.searchsorted(cuts, numbers, side="left")
    names = np.full(len(numbers), "", dtype=np.dtype("U48"))
    for index in np.unique(ranges[present]):
        here = present & (ranges == index)
        names[here] = f"{numbers[here].min():g} to {numbers[here].max():g}"
    return names


def _range_start(name: str) -> tuple[float, str]:
    try:
        return float(name.split(" to ")[0]), name
    except ValueError:
        return float("inf"), name


def break_down(
    predictions: Predictions,
    *,
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    smallest: int = MIN_SUBJECTS,
    accuracy_only: bool = False,
) -> list[Metric]:
    """Metrics of every group of every column that makes groups.

    Args:
        predictions: with labels and groups; rows of one subject may be in several groups.
        draws: bootstrap draws.
        confidence: of every interval, and of all gaps of a column together.
        seed: of the draws.
        smallest: a group of fewer subjects is counted (`UNREPORTED`) and not reported.
        accuracy_only: for leaky protocols.

    Returns:
        metrics with the group `COLUMN=VALUE` (`COLUMN=VALUE · class=NAME` for a class), among them `GAP`: the group's
        accuracy less that of all other groups. Of more than `MANY_CLASSES` classes none of single classes and none that
        ranks: their cells are near empty, and they take the longest.
    """
    metrics: list[Metric] = []
    many = len(predictions.classes) > MANY_CLASSES
    names = [name for name in NAMES if not (many and _ranks(name))]
    for column in group_columns(predictions.groups):
        if column.refused:
            continue
        reported = []
        for group in column.groups:
            here = column.values == group
            people = len(np.unique(predictions.subjects[here]))
            if people < smallest:
                nan = float("nan")
                metrics.append(Metric(UNREPORTED, nan, nan, nan, predictions.unit, people, f"{column.name}={group}"))
            else:
                reported.append(group)
        for group in reported:
            part = select_rows(predictions, column.values == group)
            measured = measure_predictions(
                part, subjects=part.subjects, draws=draws, confidence=confidence, seed=seed,
                names=names, accuracy_only=accuracy_only, by_class=not many,
            )  # fmt: skip
            metrics += [replace(m, group=_named(column.name, group, m.group)) for m in measured]
        if len(reported) > 1:
            metrics += _gaps(predictions, column, reported, draws, 1 - (1 - confidence) / len(reported), seed)
    return metrics


def _ranks(name: str) -> bool:
    spec = find_metric(name)
    return spec is not None and isinstance(spec.function, RankMetric)


def _named(column: str, group: str, within: str) -> str:
    return f"{column}={group} · {within}" if within else f"{column}={group}"


def select_rows(predictions: Predictions, rows: BoolArray) -> Predictions:
    """Predictions of these rows only."""
    arrays = ("scans", "scan_counts", "subjects", "probs", "sets", "entropy", "abstain", "labels", "mutual_information", "ood",
              "ood_flag", "expected_cdr", "cdr_sd", "deferred")  # fmt: skip
    kept: dict[str, Any] = {
        name: None if (values := getattr(predictions, name)) is None else values[rows] for name in arrays
    }
    return replace(predictions, **kept, groups={name: values[rows] for name, values in predictions.groups.items()})


def _gaps(
    predictions: Predictions, column: GroupColumn, groups: list[str], draws: int, confidence: float, seed: int
) -> list[Metric]:
    """Each group's accuracy less that of the others; two groups have a single gap."""
    sample = SubjectBootstrap.of(predictions, predictions.subjects, draws, seed)
    correct = (predictions.predicted == require_labels(predictions)).astype(np.float64)
    used = np.isin(column.values, groups)
    gaps = []
    for group in groups if len(groups) > 2 else groups[:1]:
        inside = (column.values == group).astype(np.float64)
        rest = used - inside
        weights = inside / inside.sum() - rest / rest.sum()
        value = float((weights * correct).sum())
        shares = np.minimum(weights, 0.0), weights * correct, np.maximum(weights, 0.0)
        own = Contributions.of_rows(*shares, sample.of_subject, sample.strata)
        low, high = own.interval(value, confidence)
        gaps.append(
            Metric(
                GAP,
                value,
                max(low, -1.0),
                min(high, 1.0),
                predictions.unit,
                int(inside.sum()),
                f"{column.name}={group}",
            )
        )
    return gaps
