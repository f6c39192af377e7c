"""The page of an external validation: a frozen run on other people, beside what it did on its own."""

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from scanwise import evaluation
from scanwise.evaluation import bands
from scanwise.evaluation.sample import require_labels
from scanwise.phrases import printable
from scanwise.records import Finding, Metric, Predictions
from scanwise.redaction import without_secrets
from scanwise.reporting import curves, figures, tables
from scanwise.reporting.class_table import CLASS_METRICS, class_cells, shorten_by_f1
from scanwise.reporting.components import CLASSES_SHOWN, ReportFigure, ReportTable, embed_svg, shorten_table
from scanwise.reporting.finding_text import word_findings
from scanwise.reporting.groups import build_group_section, build_operating_point_table
from scanwise.reporting.legacy_tables import parse_group
from scanwise.reporting.page import render_page
from scanwise.reporting.performance import build_confusion_or_figure, draw_curves
from scanwise.reporting.question import ask_question
from scanwise.reporting.svg import MANY_CLASSES
from scanwise.reporting.verdicts import describe_counts
from scanwise.reporting.wording import SPACE, between, counted, fixed, in_full, percent, term, value_of, with_interval
from scanwise.run import layout

SIDE_BY_SIDE = (
    "accuracy", "balanced_accuracy", "macro_f1", "auroc", "average_precision", "matthews", "kappa", "quadratic_kappa",
    "stage_error", "cdr_error", "nll", "brier", "ece", "calibrated_ece", "coverage", "mean_set_size",
)  # fmt: skip
CALIBRATION_LINES = {
    "calibration_in_the_large": "Calibration in the large (0 is ideal; below, the class is predicted too often)",
    "calibration_slope": "Calibration slope (1 is ideal; below, the network is overconfident)",
}
Rows = Sequence[Mapping[str, Any]]


def build_external_page(
    source: str,
    predictions: Predictions,
    own: Sequence[Metric],
    measured: Sequence[Metric],
    drift: Rows,
    recalibration: Rows,
    transport: Rows,
    findings: Sequence[Finding],
    guaranteed: float | None,
) -> str:
    """The page as text.

    Args:
        source: where the other people are from.
        predictions: the answers for them, with labels, by subject where known.
        own: metrics of the run's own test set, in the same unit.
        measured: metrics of the other people.
        drift: rows of `evaluation.shift.drift`.
        recalibration: rows of a learning curve over n local subjects.
        transport: rows of `evaluation.transport`.
        findings: what a reader must know.
        guaranteed: coverage that the sets guarantee, 0 where there were too few people for any; None without sets.
    """
    own_unit = [m for m in measured if m.unit == predictions.unit]
    shift = [_drift(drift), _lines(own_unit), _recalibration(recalibration) if recalibration else None]
    titles = [printable(name) for name in predictions.classes]
    confusion, matrix = build_confusion_or_figure(predictions, titles, "external", f"Here, by {predictions.unit}")
    grave, notes = word_findings(findings)
    accuracy = _find(own_unit, "accuracy")
    people = len(np.unique(predictions.subjects)) if predictions.unit == "subject" else None
    return render_page(
        "external.html.jinja",
        {
            "scanwise": metadata.version("scanwise"),
            "source": printable(without_secrets(source)),
            "answer": _answer(own_unit, own, guaranteed),
            "trivial": describe_majority(predictions, accuracy) if accuracy else "",
            "question": ask_question(titles, predictions.groups, len(predictions), people),
            "accuracy": value_of(accuracy) if accuracy else "",
            "grave": grave,
            "notes": notes,
            "counts": describe_counts([finding.severity for finding in findings]),
            "confusion": confusion,
            "drawings": [*matrix, *_drawings(predictions)],
            "performance": [_side_by_side(own_unit, own), _per_class(predictions, own_unit)],
            "shift": [table for table in shift if table],
            "transport": build_operating_point_table(transport, "chosen on the run’s validation set")
            if transport
            else None,
            "groups": build_group_section(own_unit, folder="") if any(parse_group(m)[0] for m in own_unit) else None,
        },
    )


def _find(measured: Sequence[Metric], name: str) -> Metric | None:
    return next((m for m in measured if m.name == name and not m.group), None)


def _answer(measured: Sequence[Metric], own: Sequence[Metric], guaranteed: float | None) -> list[str]:
    """Performance here beside that on the run's own test set, and whether the coverage guarantee held."""
    sentences = []
    accuracy, coverage = _find(measured, "accuracy"), _find(measured, "coverage")
    there = _find(own, "accuracy")
    if accuracy and there:
        tested = counted(there.count, there.unit)
        sentences.append(
            f"Accuracy {in_full(accuracy)}; on the {tested} of its own test set it was {with_interval(there)}."
        )
    if coverage and guaranteed:
        kept = (
            "The interval is compatible with that."
            if coverage.high >= guaranteed
            else "The guarantee did not carry over."
        )
        target = f"{fixed(100 * guaranteed, 1).removesuffix('.0')}{SPACE}%"
        sentences.append(
            f"Prediction sets are guaranteed {target} coverage on people like those of the run; coverage here is {with_interval(coverage)}. {kept}"
        )
    return sentences


def describe_majority(predictions: Predictions, accuracy: Metric) -> str:
    """A caution where always naming the class that is most common here would do about as well; empty where it would not."""
    shares = np.bincount(np.asarray(predictions.labels), minlength=len(predictions.classes)) / len(predictions)
    if not accuracy.low <= shares.max():
        return ""
    name = printable(predictions.classes[int(shares.argmax())])
    return (
        f"Always naming “{name}”, the most common class here, would reach {percent(float(shares.max()), len(predictions))}: this "
        "accuracy says little. Read the balanced accuracy and the AUROC."
    )


def _side_by_side(measured: Sequence[Metric], own: Sequence[Metric]) -> ReportTable:
    rows, notes = [], []
    for name in SIDE_BY_SIDE:
        metric = _find(measured, name)
        if metric is None:
            continue
        before = _find(own, name)
        rows.append((term(name).title, with_interval(metric), with_interval(before) if before else "–"))
        notes.append(term(name).meaning)
    columns = ("Figure", "Here", "On its own test set")
    return ReportTable(
        "The frozen run here and on its own test set", columns, tuple(rows), layout.METRICS, tuple(notes)
    )


def _per_class(predictions: Predictions, measured: Sequence[Metric]) -> ReportTable:
    by_key = {(m.name, m.group): m for m in measured}
    lines = tables.classification_report_rows(predictions)
    rows = tuple(class_cells(row, printable, lambda name, group: by_key.get((name, group))) for row in lines)
    notes = tuple(counted(int(str(row[-1])), str(row[0])) for row in lines)
    columns = ("Class", *(term(m).title for m in CLASS_METRICS))
    table = ReportTable("Each class", columns, rows, layout.table_link(layout.CLASSIFICATION_REPORT), notes)
    return shorten_by_f1(table, lines)


def _drift(rows: Rows) -> ReportTable:
    cells = []
    for row in rows:
        plain = row["what"] in ("mean entropy", "AUROC of how strange")
        what = str(row["what"]).capitalize().replace("Auroc", "AUROC") + (
            f": {printable(row['class'])}" if row["class"] else ""
        )
        cells.append((what, *(_with(row, when, plain) for when in ("before", "now"))))
    table = ReportTable("Drift", ("What", "Test set of the run", "Here"), tuple(cells), layout.table_link(layout.DRIFT))
    if len({row["class"] for row in rows} - {""}) <= CLASSES_SHOWN:
        return table
    moved = sorted(range(len(rows)), key=lambda index: -_moved(rows[index]))[:CLASSES_SHOWN]
    kept = sorted({*moved, *(index for index, row in enumerate(rows) if not row["class"])})
    return shorten_table(table, kept, f"of classes the {CLASSES_SHOWN} shares that moved most")


def _moved(row: Mapping[str, Any]) -> float:
    """Change in the share of a class; below all others for a row without a class."""
    return abs(float(row["now"]) - float(row["before"])) if row["class"] else -1.0


def _with(row: Mapping[str, Any], when: str, plain: bool) -> str:
    value, low, high = (float(row[f"{when}{end}"]) for end in ("", "_low", "_high"))
    if value != value:
        return "–"
    ends = [fixed(end, 2) if plain else percent(end, 100, unit=False) for end in (low, high)]
    text = fixed(value, 2) if plain else percent(value, 100)
    return f"{text} ({between(*ends)})" if low == low else text


def _lines(measured: Sequence[Metric]) -> ReportTable | None:
    rows = [
        (f"{printable(m.group.removeprefix('class='))}: {CALIBRATION_LINES[m.name]}", _plain(m))
        for m in measured
        if m.name in CALIBRATION_LINES
    ]
    if not rows:
        return None
    table = ReportTable("Calibration of each class", ("Class", "Here"), tuple(rows), layout.METRICS)
    common = 2 * CLASSES_SHOWN
    return shorten_table(table, range(common), f"the first {CLASSES_SHOWN} classes") if len(rows) > common else table


def _plain(m: Metric) -> str:
    return fixed(m.value, 2) + (f" ({fixed(m.low, 2)} to {fixed(m.high, 2)})" if m.low == m.low else "")


def _recalibration(rows: Rows) -> ReportTable:
    names = list(dict.fromkeys(row["name"] for row in rows))
    sizes = list(dict.fromkeys(row["subjects"] for row in rows))
    by_key = {(row["subjects"], row["name"]): row for row in rows}
    cells = []
    for size in sizes:
        title = counted(size, "local subject") if size else "None: the run as it came"
        cells.append((title, *(_mean(by_key.get((size, name))) for name in names)))
    columns = ("Recalibrated with", *(term(name).title for name in names))
    caption = (
        "What recalibrating with local subjects would give, tried on the others (mean, 5th to 95th percentile of draws)"
    )
    return ReportTable(caption, columns, tuple(cells), layout.table_link(layout.RECALIBRATION))


def _mean(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    text = fixed(float(row["mean"]), 3)
    return (
        f"{text} (nothing is drawn)"
        if row["repeats"] == 1
        else f"{text} ({fixed(float(row['low']), 3)} to {fixed(float(row['high']), 3)})"
    )


def _drawings(predictions: Predictions) -> list[ReportFigure]:
    titles, labels = [printable(name) for name in predictions.classes], require_labels(predictions)
    weights = bands.draw_weights(predictions) if len(titles) <= MANY_CLASSES else None
    drawings = draw_curves(predictions, titles, "external", f"Here, by {predictions.unit}", weights)
    bins = {"here": evaluation.reliability_bins(predictions.probs, labels, 10)}
    drawings.append(
        embed_svg(
            figures.draw_reliability("reliability", bins, predictions.unit),
            "On the dotted line, confidence equals accuracy.",
        )
    )
    target = 1 if len(titles) == 2 else 0
    chances = predictions.probs[:, target]
    drawings.append(
        embed_svg(
            curves.draw_probabilities("probabilities", chances, labels, target, titles, predictions.unit),
            f"The probability of “{titles[target]}”, by true class.",
        )
    )
    return drawings
