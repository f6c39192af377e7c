"""The CSV files of a run: what was said of every scan, how often it was right, and every figure of the report.

Numbers are written in full precision; a value that cannot be had is an empty cell.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scanwise.csv_files import DELETE_AND_RESUME, FLAG_COLUMNS, Row, read_csv, write_table
from scanwise.errors import RunError
from scanwise.evaluation import confusion_counts
from scanwise.metrics.sums import (
    f1_from_confusion,
    precision_from_confusion,
    recall_from_confusion,
    specificity_from_confusion,
)
from scanwise.records import (
    METRIC_COLUMNS,
    SIDES,
    BoolArray,
    Cohort,
    Metric,
    Predictions,
    Split,
    Unit,
    load_metrics,
)
from scanwise.run import RunFolder, layout

REPORT_COLUMNS = ("unit", "kind", "class", "precision", "recall", "specificity", "f1", "support")
BASELINE_COLUMNS = ("protocol", "fold", "unit", "name", "model", "value", "low", "high", "count")
LATER_COLUMNS = ("mutual_information", "ood", "ood_flag", "expected_cdr", "cdr_sd", "deferred", "attention")
DIFFERENCE_COLUMNS = ("difference", "difference_low", "difference_high")


def write_prediction_tables(
    run: RunFolder, protocol: str, predictions: Predictions, by_subject: Predictions | None
) -> None:
    """Write the tables of one protocol, folds already concatenated.

    Args:
        run: the run folder.
        protocol: "honest" or "published".
        predictions: the test scans, with their labels.
        by_subject: the same pooled by subject, or None where no subject is known.
    """
    folder = run.tables_of(protocol)
    units = [predictions] if by_subject is None else [predictions, by_subject]
    for unit_predictions in units:
        name = layout.predictions_file(unit_predictions.unit)
        rows = unit_predictions.rows()
        header = list(rows[0]) if rows else []
        write_table(header, ([row[column] for column in header] for row in rows), folder / name)
    write_table(
        REPORT_COLUMNS,
        [row for unit_predictions in units for row in classification_report_rows(unit_predictions)],
        folder / layout.CLASSIFICATION_REPORT,
    )
    header = ["unit", "label", *(f"predicted_{name}" for name in predictions.classes)]
    write_table(
        header,
        [row for unit_predictions in units for row in _confusion_rows(unit_predictions)],
        folder / layout.CONFUSION_MATRIX,
    )


def write_overview_tables(run: RunFolder) -> None:
    """Write the tables that span protocols, from what already lies in the run folder."""
    metrics = load_metrics(run.metrics)
    rows = ([getattr(metric, column) for column in METRIC_COLUMNS] for metric in metrics)
    write_table(METRIC_COLUMNS, rows, run.tables / layout.SUMMARY_STATISTICS)
    write_baseline_table(run, metrics)
    cohort = Cohort.load(run.cohort)
    header = ("protocol", "fold", "side", "class", "scans", "subjects")
    splits = [Split.load(fit.split) for fit in run.fits()]
    counts = [row for split in splits for row in class_distribution_rows(cohort, split)]
    write_table(header, counts, run.tables / layout.CLASS_DISTRIBUTION)
    _write_histories(run)


def write_baseline_table(run: RunFolder, metrics: Sequence[Metric]) -> None:
    """Write the accuracy of each baseline, and the network's lead over it."""
    write_table((*BASELINE_COLUMNS, *DIFFERENCE_COLUMNS), _rival_rows(metrics), run.tables / layout.BASELINES)


def read_predictions(path: Path) -> Predictions:
    """Read a `predictions.csv` or `predictions_subject.csv` back.

    Raises:
        RunError: if it is missing, or is not such a table.
    """
    header, rows = read_csv(path)
    try:
        unit: Unit = "scan" if header[0] == "path" else "subject"
        start, end = header.index("predicted") + 1, header.index("set")
        columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
        classes = tuple(name.removeprefix("p_") for name in header[start:end])
        index_of = {name: index for index, name in enumerate(classes)}
        return Predictions(
            scans=np.array(columns["path"] if unit == "scan" else [""] * len(rows), dtype=np.str_),
            scan_counts=None if unit == "scan" else np.array(columns["scans"], dtype=np.int64),
            subjects=np.array(columns["subject"], dtype=np.str_),
            classes=classes,
            probs=np.array([[float(cell) for cell in row[start:end]] for row in rows]),
            sets=_read_sets(columns["set"], classes),
            entropy=np.array([float(cell) for cell in columns["entropy"]]),
            abstain=np.array([cell == "True" for cell in columns["abstain"]]),
            labels=np.array([index_of[cell] for cell in columns["label"]], dtype=np.int64),
            groups={name: np.array(columns[name], dtype=np.str_) for name in header[2 : start - 2]},
            unit=unit,
            **{name: _read_later(columns.get(name, []), name in FLAG_COLUMNS) for name in LATER_COLUMNS},
        )
    except (ValueError, KeyError, IndexError) as error:
        raise RunError(
            f"{path} is not a table of predictions that scanwise wrote ({error!r}). {DELETE_AND_RESUME}"
        ) from error


def classification_report_rows(predictions: Predictions) -> list[Row]:
    """Precision, recall, specificity and F1 of each class, then their plain and weighted means."""
    matrix = confusion_counts(predictions).astype(np.float64)
    scores = np.stack(
        [
            measure(matrix)
            for measure in (
                precision_from_confusion,
                recall_from_confusion,
                specificity_from_confusion,
                f1_from_confusion,
            )
        ],
        axis=1,
    )
    support = matrix.sum(axis=1)
    rows: list[Row] = [
        (predictions.unit, "class", name, *scores[index], int(support[index]))
        for index, name in enumerate(predictions.classes)
    ]
    present, total = support > 0, int(support.sum())  # a class that nobody in the test has cannot be averaged
    rows.append((predictions.unit, "macro", "", *scores[present].mean(axis=0), total))
    rows.append(
        (predictions.unit, "weighted", "", *np.average(scores[present], axis=0, weights=support[present]), total)
    )
    return rows


def class_distribution_rows(cohort: Cohort, split: Split) -> list[tuple[str, int, str, str, int, int]]:
    """(protocol, fold, side, class, scans, subjects) for every side and class; scans on no side are "left out"."""
    sides = [*SIDES, *([""] if (split.side == "").any() else [])]
    return [
        (split.protocol, split.fold, side or "left out", name, int(here.sum()), len(np.unique(cohort.subject[here])))
        for side in sides
        for index, name in enumerate(cohort.classes)
        for here in [(split.side == side) & (cohort.labels == index)]
    ]


def _confusion_rows(predictions: Predictions) -> list[Row]:
    matrix = confusion_counts(predictions)
    return [(predictions.unit, name, *map(int, matrix[index])) for index, name in enumerate(predictions.classes)]


def _rival_rows(metrics: Sequence[Metric]) -> list[Row]:
    """Every overall test metric of every model, with the network's lead over it where that was measured."""
    overall = [m for m in metrics if not m.group and m.split == "test"]
    leads = {
        (m.protocol, m.fold, m.unit, m.name.removesuffix(" difference"), m.model): (m.value, m.low, m.high)
        for m in overall
        if m.name.endswith(" difference")
    }
    compared = {
        key[:4] for key in ((m.protocol, m.fold, m.unit, m.name, m.model) for m in overall) if key[4] != "network"
    }
    rows: list[Row] = []
    for m in overall:
        key = (m.protocol, m.fold, m.unit, m.name, m.model)
        if key[:4] in compared and not m.name.endswith(" difference"):
            rows.append((*key, m.value, m.low, m.high, m.count, *leads.get(key, ("", "", ""))))
    return rows


def _write_histories(run: RunFolder) -> None:
    histories = [(fit, *read_csv(fit.history)) for fit in run.fits() if fit.history.is_file()]
    header = list(dict.fromkeys(name for _, names, _ in histories for name in names))
    rows: list[Row] = []
    for fit, names, lines in histories:
        for line in lines:
            cells = dict(zip(names, line, strict=True))
            rows.append((fit.protocol, fit.fold, *(_number(cells.get(name, "")) for name in header)))
    write_table(["protocol", "fold", *header], rows, run.tables / layout.HISTORY)


def _number(cell: str) -> object:
    """A cell of a history as the number that it is."""
    try:
        return int(cell) if cell.isdigit() else float(cell)
    except ValueError:
        return cell


def _read_later(cells: Sequence[str], flag: bool) -> Any:
    """A column that may be empty, as numbers or as flags; None where it is."""
    if not any(cells):
        return None
    return np.array([cell == "True" for cell in cells]) if flag else np.array([float(cell) for cell in cells])


def _read_sets(cells: Sequence[str], classes: tuple[str, ...]) -> BoolArray | None:
    if not any(cells):
        return None
    return np.array([_read_set(cell, classes) for cell in cells], dtype=np.bool_)


def _read_set(cell: str, classes: tuple[str, ...]) -> list[bool]:
    """Classes named in a cell, as flags; they stand in class order, so a name may itself hold the "|" that joins them."""
    rest, named = f"{cell}|" if cell else "", []
    for name in classes:
        named.append(rest.startswith(f"{name}|"))
        rest = rest[len(name) + 1 :] if named[-1] else rest
    if rest:
        raise ValueError(f"the set {cell!r} names no classes of {classes}")
    return named
