"""Files under the names that the published projects gave them, and one table a column that results are broken down by.

docs/files.md tells every column. Each file is written as CSV and as Parquet.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from scanwise.csv_files import Row, write_table
from scanwise.evaluation import confusion_counts
from scanwise.evaluation.sample import require_labels
from scanwise.metrics import METRICS
from scanwise.records import Metric, Predictions, load_metrics
from scanwise.run import RunFolder

BREAKDOWN_COLUMNS = ("protocol", "fold", "unit", "group", "class", "name", "value", "low", "high", "count")
DECISION_CURVE_COLUMNS = ("unit", "class", "threshold", "network", "everybody")
OPERATING_POINT_COLUMNS = (
    "fold",
    "unit",
    "class",
    "rule",
    "threshold",
    "rate",
    "chosen",
    "value",
    "low",
    "high",
    "count",
    "chosen_low",
    "chosen_high",
)


def write_legacy_tables(run: RunFolder, name: str, protocol: str, predictions: Predictions) -> None:
    """Write `NAME_classification_results` and `NAME_summary_statistics` of the test scans of one protocol.

    Args:
        run: the run folder.
        name: first part of the file names.
        protocol: "honest" or "published".
        predictions: the test scans, with labels, folds already concatenated.
    """
    folder = run.tables_of(protocol)
    header = ["image_path", "image_type", "true_label", "prediction", *(f"p_{c}" for c in predictions.classes)]
    rows = [_result(predictions, row) for row in range(len(predictions))]
    write_table([*header, "correct_prediction"], rows, folder / f"{name}_classification_results.csv")
    summary = _summary(predictions)
    write_table(list(summary), [list(summary.values())], folder / f"{name}_summary_statistics.csv")


def _result(predictions: Predictions, row: int) -> Row:
    path, truly, called = (
        str(predictions.scans[row]),
        int(require_labels(predictions)[row]),
        int(predictions.predicted[row]),
    )
    kind = path.split("/")[-2] if "/" in path else predictions.classes[truly]
    probs = [float(p) for p in predictions.probs[row]]
    return (path, kind, predictions.classes[truly], predictions.classes[called], *probs, truly == called)


def _summary(predictions: Predictions) -> dict[str, Any]:
    """One row: how many images, accuracy, AUROC, average precision, and every cell of the confusion matrix."""
    matrix, labels = confusion_counts(predictions), require_labels(predictions)
    summary: dict[str, Any] = {"images": len(predictions)}
    summary |= {
        name: float(METRICS[name](predictions.probs, labels)) for name in ("accuracy", "auroc", "average_precision")
    }
    for truly, called in np.ndindex(*matrix.shape):
        summary[f"true_{predictions.classes[truly]}_called_{predictions.classes[called]}"] = int(matrix[truly, called])
    return summary


def write_breakdowns(run: RunFolder) -> list[str]:
    """Write `breakdown_COLUMN` of every column that metrics.json has groups of; returns their columns."""
    by_column: dict[str, list[Row]] = {}
    for m in load_metrics(run.metrics):
        column, group, of_class = parse_group(m)
        if column and m.model == "network" and m.split == "test":
            row = (m.protocol, m.fold, m.unit, group, of_class, m.name, m.value, m.low, m.high, m.count)
            by_column.setdefault(column, []).append(row)
    for column, rows in by_column.items():
        write_table(BREAKDOWN_COLUMNS, rows, run.tables / f"{breakdown_file(column)}.csv")
    return list(by_column)


def breakdown_file(column: str) -> str:
    """The name of a column's file, of letters that every disk takes.

    >>> breakdown_file("Scanner / site")
    'breakdown_Scanner_site'
    """
    return f"breakdown_{re.sub(r'[^0-9A-Za-z-]+', '_', column).strip('_') or 'column'}"


def parse_group(metric: Metric) -> tuple[str, str, str]:
    """(column, value, class) that a metric is about; no column where it is about everybody or a class alone."""
    column, equals, rest = metric.group.partition("=")
    if not equals or column in ("class", "risk"):
        return "", "", ""
    group, _, of_class = rest.partition(" · class=")
    return column, group, of_class


def write_operating_point_tables(
    run: RunFolder, points: Sequence[dict[str, Any]], curves: Sequence[dict[str, Any]]
) -> None:
    """Write `operating_points` and `decision_curve` of the honest protocol."""
    for columns, rows, name in (
        (OPERATING_POINT_COLUMNS, points, "operating_points"),
        (DECISION_CURVE_COLUMNS, curves, "decision_curve"),
    ):
        if rows:
            write_table(columns, [[row[column] for column in columns] for row in rows], run.tables / f"{name}.csv")
