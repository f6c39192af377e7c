"""The figures of each group of a column (site, sex, modality, range of slices), and how far groups are apart.

Groups may share subjects or not: every interval comes from the same draws of whole subjects. A group of fewer than
`SMALLEST` subjects is counted and not reported: its figures would be luck, and might tell who somebody is. The more
groups, the more of them look bad by chance; intervals of gaps are widened so that all of a column hold together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from scanwise.evaluation.estimates import LEAKY_METRICS, estimate_with_interval, mean_of_sums, measure_predictions
from scanwise.evaluation.sample import RANKED, Estimand, SubjectBootstrap, require_labels
from scanwise.records import BoolArray, FloatArray, Metric, Predictions, StrArray

SMALLEST = 5
MOST = 20
RANGES = 4
LONGEST = 40
MANY = 12
NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "coverage", "precision", "recall", "f1", "specificity")
GAP = "accuracy gap"
UNREPORTED = "not_reported"


@dataclass(frozen=True, slots=True)
class GroupColumn:
    """A column that results can be broken down by, or why not.

    Attributes:
        name: as the cohort calls it.
        values: (N,) the group of each row, "" where it is not known; numbers of many values as ranges.
        refused: in words, why it is not used; empty where it is.
    """

    name: str
    values: StrArray
    refused: str = ""

    @property
    def groups(self) -> list[str]:
        """Its groups; ranges and numbers in their order, else by name."""
        known = sorted(set(self.values.tolist()) - {""})
        return sorted(known, key=_start)


def group_columns(groups: Mapping[str, StrArray]) -> list[GroupColumn]:
    """The columns of some rows, each as groups or with the reason why it makes none."""
    return [_column(name, values) for name, values in groups.items()]


def _column(name: str, values: StrArray) -> GroupColumn:
    values = np.array([value.strip() for value in values.tolist()], dtype=np.str_)
    known = np.unique(values[values != ""])
    if len(known) < 2:
        return GroupColumn(name, values, "all rows have one value" if len(known) else "no row has a value")
    if len(known) <= MOST and max(map(len, known.tolist())) <= LONGEST:
        return GroupColumn(name, values)
    numbers = _numbers(values)
    if numbers is not None:
        return GroupColumn(name, _ranges(numbers, values != ""))
    if len(known) <= MOST or np.char.count(known, " ").mean() > 2:
        return GroupColumn(name, values, "it holds free text; give a column of short names to break results down by")
    return GroupColumn(name, values, f"it has {len(known):,} values, more than {MOST}; merge them into fewer groups")


def _numbers(values: StrArray) -> FloatArray | None:
    try:
        found = np.array([float(value or "nan") for value in values.tolist()])
    except ValueError:
        return None
    return found if np.isfinite(found[values != ""]).all() else None


def _ranges(numbers: FloatArray, known: BoolArray) -> StrArray:
    """Ranges that hold about as many rows each, called by their least and greatest value."""
    cuts = np.unique(np.quantile(numbers[known], np.arange(1, RANGES) / RANGES, method="inverted_cdf"))
    place = np.searchsorted(cuts, numbers, side="left")
    names = np.full(len(numbers), "", dtype=np.dtype("U48"))
    for index in np.unique(place[known]):
        here = known & (place == index)
        names[here] = f"{numbers[here].min():g} to {numbers[here].max():g}"
    return names


def _start(name: str) -> tuple[float, str]:
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
    smallest: int = SMALLEST,
    accuracy_only: bool = False,
) -> list[Metric]:
    """The figures of every group of every column that makes groups.

    Args:
        predictions: with labels and groups; rows of one subject may be in several groups.
        draws: bootstrap draws.
        confidence: of every interval, and of all gaps of a column together.
        seed: of the draws.
        smallest: a group of fewer subjects is counted (`UNREPORTED`) and not reported.
        accuracy_only: for leaky protocols.

    Returns:
        metrics with the group `COLUMN=VALUE` (`COLUMN=VALUE · class=NAME` for a class), among them `GAP`: the group's
        accuracy less that of all other groups. Of more than `MANY` classes none of single classes and none that
        ranks: their cells are near empty, and they take the longest.
    """
    found: list[Metric] = []
    many = len(predictions.classes) > MANY
    names = [name for name in NAMES if not (many and name in RANKED)]
    for column in group_columns(predictions.groups):
        if column.refused:
            continue
        kept = []
        for group in column.groups:
            here = column.values == group
            people = len(np.unique(predictions.subjects[here]))
            if people < smallest:
                nan = float("nan")
                found.append(Metric(UNREPORTED, nan, nan, nan, predictions.unit, people, f"{column.name}={group}"))
            else:
                kept.append(group)
        for group in kept:
            part = select_rows(predictions, column.values == group)
            measured = measure_predictions(
                part, subjects=part.subjects, draws=draws, confidence=confidence, seed=seed,
                names=[name for name in names if not accuracy_only or name in (*LEAKY_METRICS, "precision", "recall", "f1")],
                accuracy_only=accuracy_only, by_class=not many,
            )  # fmt: skip
            found += [replace(m, group=_named(column.name, group, m.group)) for m in measured]
        if len(kept) > 1:
            found += _gaps(predictions, column, kept, draws, 1 - (1 - confidence) / len(kept), seed)
    return found


def _named(column: str, group: str, within: str) -> str:
    return f"{column}={group} · {within}" if within else f"{column}={group}"


def select_rows(predictions: Predictions, rows: BoolArray) -> Predictions:
    """Only these rows."""
    arrays = ("scans", "subjects", "probs", "sets", "entropy", "abstain", "labels", "mutual_information", "ood",
              "ood_flag", "expected_cdr", "cdr_sd", "deferred")  # fmt: skip
    kept: dict[str, Any] = {
        name: None if (values := getattr(predictions, name)) is None else values[rows] for name in arrays
    }
    return replace(predictions, **kept, groups={name: values[rows] for name, values in predictions.groups.items()})


def _gaps(
    predictions: Predictions, column: GroupColumn, groups: list[str], draws: int, confidence: float, seed: int
) -> list[Metric]:
    """Each group's accuracy less that of the others; with two groups one gap says it all."""
    sample = SubjectBootstrap.of(predictions, predictions.subjects, draws, seed)
    right = (predictions.predicted == require_labels(predictions)).astype(np.float64)
    used = np.isin(column.values, groups)
    found = []
    for group in groups if len(groups) > 2 else groups[:1]:
        inside = (column.values == group).astype(np.float64)
        rest = used - inside
        rows = np.column_stack([inside, inside * right, rest, rest * right])
        question = Estimand(GAP, None, partial(_rows, rows), _difference)
        value, low, high = estimate_with_interval(sample, question, confidence)
        count = int(inside.sum())
        found.append(Metric(GAP, value, low, high, predictions.unit, count, f"{column.name}={group}"))
    return found


def _rows(rows: FloatArray, _: SubjectBootstrap) -> FloatArray:
    return rows


def _difference(sums: FloatArray) -> FloatArray:
    return mean_of_sums(sums[..., :2]) - mean_of_sums(sums[..., 2:])
