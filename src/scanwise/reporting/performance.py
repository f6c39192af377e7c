"""Performance on the test set: figures of all cases, curves with bands, and each class; by the unit that decides first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np

from scanwise import evaluation, metrics
from scanwise.evaluation import bands
from scanwise.records import FloatArray, IntArray, Metric, Predictions, Unit
from scanwise.reporting import curves as lines_of
from scanwise.reporting import figures, tables
from scanwise.reporting.case_pictures import read_case_pictures
from scanwise.reporting.class_table import CLASS_METRICS, class_cells, shorten_by_f1
from scanwise.reporting.components import CLASSES_SHOWN, ReportFigure, ReportTable, embed_svg
from scanwise.reporting.confusion import ConfusionTable, build_confusion
from scanwise.reporting.run_data import RunData
from scanwise.reporting.summary import protocol_title
from scanwise.reporting.svg import MANY_CLASSES
from scanwise.reporting.wording import counted, term, with_interval
from scanwise.run import layout

OVERALL_METRICS = (*(name for name, spec in metrics.METRICS.items() if not spec.needs_calibration), "cdr_error")


@dataclass(frozen=True, slots=True)
class UnitPerformance:
    """Performance of one protocol by one unit; `decides` tells the unit of the headline from the other, which is folded."""

    unit: Unit
    decides: bool
    confusion: ConfusionTable | None
    figures: tuple[ReportFigure, ...]
    tables: tuple[ReportTable, ...]


def build_performance(contents: RunData, protocol: str) -> list[UnitPerformance]:
    """Confusion matrix, curves and the figures of each class, the unit that decides first."""
    units = sorted(contents.units(protocol), key=lambda unit: unit != contents.unit(protocol))
    return [_performance(contents, protocol, unit) for unit in units]


def _performance(contents: RunData, protocol: str, unit: Unit) -> UnitPerformance:
    predictions, name = contents.predictions[protocol, unit], f"{protocol}-{unit}"
    where, titles = f"{protocol_title(contents, protocol)}, by {unit}", [contents.title(c) for c in predictions.classes]
    decides = unit == contents.unit(protocol)
    pictures = read_case_pictures(contents.run) if decides and protocol == contents.shown[0] else {}
    confusion, drawings = build_confusion_or_figure(predictions, titles, name, where, pictures)
    if protocol == "honest":
        weights = bands.draw_weights(predictions) if decides and len(titles) <= MANY_CLASSES else None
        drawings += draw_curves(predictions, titles, name, where, weights)
        if decides:
            drawings += build_histograms(predictions, titles, name)
    lines = tables.classification_report_rows(predictions)
    rows = tuple(class_cells(row, contents.title, partial(_find_of_class, contents, protocol, unit)) for row in lines)
    counts = tuple(counted(int(str(row[-1])), unit) for row in lines)
    columns = ("Class", *(term(m).title for m in CLASS_METRICS))
    file = layout.table_link(layout.CLASSIFICATION_REPORT, protocol)
    of_classes = shorten_by_f1(ReportTable(f"{where}: per class", columns, rows, file, counts), lines)
    overall = _overall_table(contents, protocol, unit, where)
    return UnitPerformance(unit, decides, confusion, tuple(drawings), (*([overall] if overall else []), of_classes))


def _overall_table(contents: RunData, protocol: str, unit: Unit, where: str) -> ReportTable | None:
    """Every figure that is about all test cases; accuracy alone where not honest."""
    names = OVERALL_METRICS if protocol == "honest" else OVERALL_METRICS[:5]
    measured = [m for name in names if (m := contents.numbers.find(name, protocol, unit))]
    rows = tuple((term(m.name).title, with_interval(m)) for m in measured)
    notes = tuple(term(m.name).meaning for m in measured)
    count = f"{counted(measured[0].count, unit)} together" if measured else ""
    file = layout.table_link(layout.SUMMARY_STATISTICS)
    return ReportTable(f"{where}: {count}", ("Figure", "Value"), rows, file, notes) if rows else None


def build_confusion_or_figure(
    predictions: Predictions,
    titles: Sequence[str],
    name: str,
    where: str,
    pictures: Mapping[str, str] = MappingProxyType({}),
) -> tuple[ConfusionTable | None, list[ReportFigure]]:
    """The confusion matrix as a table with its cases; of many classes as a drawing."""
    if len(titles) <= CLASSES_SHOWN:
        return build_confusion(predictions, titles, name, f"{where}: confusion matrix", pictures), []
    matrix = evaluation.confusion_counts(predictions)
    figure = figures.draw_confusion_matrix(f"confusion-{name}", matrix, titles, predictions.unit)
    share = "Each row is a true class; the deeper the colour, the larger the share of that row."
    return None, [embed_svg(figure, f"{where}: confusion matrix. {share}")]


def draw_curves(
    predictions: Predictions, titles: Sequence[str], name: str, where: str, weights: FloatArray | None
) -> list[ReportFigure]:
    """ROC and precision-recall curves.

    Args:
        predictions: with labels.
        titles: what the classes are called.
        name: what tells these drawings' ids from others'.
        where: protocol and unit, for the captions.
        weights: (B, N) of `bands.draw_weights`, for bands; None for curves alone.
    """
    curves, few = build_roc_curves(predictions, titles, weights), len(titles) <= MANY_CLASSES
    if not curves:
        return []
    band = " Shaded: 95 % bands." if weights is not None else ""
    areas = ", with its AUROC" if few else ""
    roc = embed_svg(
        figures.draw_roc(f"roc-{name}", curves, predictions.unit),
        f"{where}: each class against all others{areas}.{band}",
    )
    precise = build_precision_recall_curves(predictions, titles, weights)
    rare = " Dotted: the precision of calling all positive." if few else ""
    recall = lines_of.draw_precision_recall(f"recall-{name}", precise, predictions.unit)
    return [roc, embed_svg(recall, f"{where}: precision against sensitivity.{rare}{band}")]


def build_roc_curves(
    predictions: Predictions, titles: Sequence[str], weights: FloatArray | None = None
) -> list[figures.RocCurve]:
    """A curve a class that some test cases have and some have not; one of two classes says it all."""
    labels, areas = true_labels(predictions), _areas(predictions)
    return [
        figures.RocCurve(
            titles[index],
            *evaluation.roc_curve(predictions.probs, labels, index),
            float(areas[index]),
            None if weights is None else bands.roc_band(predictions.probs[:, index], labels == index, weights),
        )
        for index in _drawn_classes(titles, areas)
    ]


def build_precision_recall_curves(
    predictions: Predictions, titles: Sequence[str], weights: FloatArray | None = None
) -> list[lines_of.PrecisionRecallCurve]:
    """A precision-recall curve of each class that has one of `build_roc_curves`."""
    labels, areas = true_labels(predictions), _areas(predictions)
    precise = metrics.METRICS["average_precision"].by_class(predictions.probs, labels)
    return [
        lines_of.PrecisionRecallCurve(
            titles[index],
            *evaluation.precision_recall_curve(predictions.probs, labels, index),
            float(precise[index]),
            float((labels == index).mean()),
            None
            if weights is None
            else bands.precision_recall_band(predictions.probs[:, index], labels == index, weights),
        )
        for index in _drawn_classes(titles, areas)
    ]


def _areas(predictions: Predictions) -> FloatArray:
    return metrics.METRICS["auroc"].by_class(predictions.probs, true_labels(predictions))


def _drawn_classes(titles: Sequence[str], areas: FloatArray) -> list[int]:
    """Classes with a curve: the second of two, else all that can be told from the rest."""
    return [index for index in ([1] if len(titles) == 2 else range(len(titles))) if np.isfinite(areas[index])]


def build_histograms(predictions: Predictions, titles: Sequence[str], name: str) -> list[ReportFigure]:
    """The probability of each class by true class; of the second where there are two, of none where there are many."""
    if len(titles) > CLASSES_SHOWN:
        return []
    labels = true_labels(predictions)
    return [
        embed_svg(
            lines_of.draw_probabilities(
                f"chances-{name}-{index}", predictions.probs[:, index], labels, index, titles, predictions.unit
            ),
            f"The probability of “{titles[index]}”, by true class: the further apart, the better.",
            folded=True,
        )
        for index in ([1] if len(titles) == 2 else range(len(titles)))
        if (labels == index).any()
    ]


def _find_of_class(contents: RunData, protocol: str, unit: str, name: str, group: str) -> Metric | None:
    return contents.numbers.find(name, protocol, unit, group=group)


def true_labels(predictions: Predictions) -> IntArray:
    """The true classes; predictions of a run have them."""
    return np.asarray(predictions.labels, dtype=np.int64)
