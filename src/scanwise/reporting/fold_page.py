"""The page of a cross-validation: the answer over all folds, then each fold and the candidates."""

from collections.abc import Sequence
from importlib import metadata

import numpy as np

from scanwise.csv_files import Row
from scanwise.evaluation import bands
from scanwise.phrases import printable
from scanwise.records import Metric, Predictions
from scanwise.reporting.components import ReportTable
from scanwise.reporting.page import render_page
from scanwise.reporting.performance import build_confusion_or_figure, draw_curves
from scanwise.reporting.question import ask_question
from scanwise.reporting.run_data import POOLED, RunMetrics
from scanwise.reporting.summary import HEADLINES, weigh_baselines
from scanwise.reporting.svg import MANY_CLASSES
from scanwise.reporting.wording import counted, fixed, model_title, range_of, term, value_of, with_interval
from scanwise.run import layout


def build_fold_page(
    predictions: Predictions,
    titles: Sequence[str],
    measured: Sequence[Metric],
    choices: Sequence[Row],
    combination: str,
    by_scan: Predictions | None = None,
    explained: str = "",
) -> str:
    """The page as text.

    Args:
        predictions: of all folds, each person once, by the unit that decides.
        titles: what the classes are called.
        measured: metrics of every fold and of all together (fold -1), of the network and its baselines.
        choices: rows (fold, candidate, settings, criterion, unit, value, chosen) of every candidate.
        combination: `choose` or `average`.
        by_scan: predictions by scan, whose columns may name the modality.
        explained: the candidate that was best in the first fold, whose report has heatmaps; "" where there was one alone.
    """
    numbers, unit = RunMetrics(tuple(measured)), predictions.unit
    accuracy = numbers.find("accuracy", "honest", unit)
    confusion, matrix = build_confusion_or_figure(predictions, titles, "folds", f"All folds, by {unit}")
    weights = bands.draw_weights(predictions) if len(titles) <= MANY_CLASSES else None
    scans = by_scan or predictions
    people = len(np.unique(predictions.subjects)) if unit == "subject" else None
    folds = {m.fold for m in measured} - {POOLED}
    return render_page(
        "fold.html.jinja",
        {
            "scanwise": metadata.version("scanwise"),
            "question": ask_question(titles, scans.groups, len(scans), people),
            "value": value_of(accuracy) if accuracy else "–",
            "detail": _detail(accuracy, len(folds)) if accuracy else "The accuracy was not measured.",
            "verdict": weigh_baselines(numbers, "honest", unit),
            "confusion": confusion,
            "drawings": [*matrix, *draw_curves(predictions, titles, "folds", f"All folds, by {unit}", weights)],
            "folds_table": _fold_table(numbers, unit, sorted(folds)),
            "baselines": _baseline_table(numbers, unit),
            "candidates": _candidate_table(choices, combination),
            "combination": combination,
            "explained": printable(explained),
        },
    )


def _detail(accuracy: Metric, folds: int) -> str:
    interval = f", 95\u00a0% interval {range_of(accuracy)}" if range_of(accuracy) else ""
    return (
        f"accuracy by {accuracy.unit}{interval}, on {counted(accuracy.count, accuracy.unit)}, each tested once in "
        f"{counted(folds, 'fold')}"
    )


def _fold_table(numbers: RunMetrics, unit: str, folds: Sequence[int]) -> ReportTable:
    rows = []
    for fold in [*folds, POOLED]:
        values = [numbers.find(name, "honest", unit, fold=fold) for name in HEADLINES]
        count = next((m.count for m in values if m), 0)
        cells = (with_interval(m) if m else "–" for m in values)
        rows.append(("All folds" if fold == POOLED else f"Fold {fold + 1}", *cells, f"{count:,}"))
    columns = ("Fold", *(term(name).title for name in HEADLINES), f"{unit.capitalize()}s")
    return ReportTable(f"Fold by fold, by {unit}", columns, tuple(rows), f"{layout.NESTED}/{layout.METRICS}")


def _baseline_table(numbers: RunMetrics, unit: str) -> ReportTable | None:
    rows = []
    for m in numbers.rivals("honest", unit):
        others = [numbers.find(name, "honest", unit, m.model) for name in HEADLINES[1:]]
        rows.append((model_title(m.model), with_interval(m), *(with_interval(o) if o else "–" for o in others)))
    columns = ("Model", *(term(name).title for name in HEADLINES))
    file = f"{layout.NESTED}/{layout.table_link(layout.BASELINES)}"
    return ReportTable("Baselines, all folds together", columns, tuple(rows), file) if rows else None


def _candidate_table(choices: Sequence[Row], combination: str) -> ReportTable:
    rows = tuple(
        (
            f"Fold {int(str(fold)) + 1}: {printable(str(candidate))}",
            printable(str(settings)) or "as the recipe says",
            fixed(float(str(value)), 3),
            "yes" if chosen else "no",
        )
        for fold, candidate, settings, _, _, value, chosen in choices
    )
    criterion = term(str(choices[0][3])).title if choices else "Criterion"
    columns = (
        "Candidate",
        "Settings",
        f"{criterion} in validation",
        "Averaged" if combination == "average" else "Chosen",
    )
    file = f"{layout.NESTED}/{layout.table_link(layout.CHOICES)}"
    return ReportTable("Candidates of each fold", columns, rows, file)
