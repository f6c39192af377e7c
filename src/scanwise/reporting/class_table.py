"""The rows of a table with a figure a class, and of the means over classes below them."""

from collections.abc import Callable, Sequence

from scanwise.csv_files import Row
from scanwise.records import Metric
from scanwise.reporting.components import CLASSES_SHOWN, ReportTable, describe_pick, pick_classes, shorten_table
from scanwise.reporting.wording import percent, with_interval

CLASS_METRICS = ("precision", "recall", "specificity", "f1")
MEANS = {
    "macro": ("Mean of classes", ("macro_precision", "balanced_accuracy", "macro_specificity", "macro_f1")),
    "weighted": ("Mean weighted by size", ("weighted_precision", "accuracy", "weighted_specificity", "weighted_f1")),
}
"""Rows below the classes: their title, and the metric that each mean is."""
Find = Callable[[str, str], Metric | None]
"""A metric by name and group."""


def class_cells(row: Row, title: Callable[[str], str], find: Find) -> tuple[str, ...]:
    """The cells of a row of `tables.classification_report_rows`, each with the interval that was measured for it."""
    _, kind, name, *scores, support = row
    total = int(str(support))
    head, names = MEANS.get(str(kind), (title(str(name)), CLASS_METRICS))
    group = f"class={name}" if kind == "class" else ""
    if not total:
        return (head, *["–"] * len(names))
    measured = [find(metric, group) for metric in names]
    values = [
        with_interval(metric) if metric else percent(float(str(score)), total)
        for metric, score in zip(measured, scores, strict=True)
    ]
    return (head, *values)


def shorten_by_f1(table: ReportTable, lines: Sequence[Row]) -> ReportTable:
    """A table with the rows of `tables.classification_report_rows`, short where classes are many: some, and the means."""
    classes = [float(str(line[-2])) for line in lines if line[1] == "class"], [int(str(line[-1])) for line in lines]
    count = len(classes[0])
    if count <= CLASSES_SHOWN:
        return table
    rows = [*pick_classes(classes[1][:count], classes[0]), *range(count, len(lines))]
    return shorten_table(table, rows, describe_pick(count, "with the lowest F1"))
