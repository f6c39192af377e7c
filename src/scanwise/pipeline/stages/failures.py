"""Test cases for review: the most confident errors, and small pictures of those in the cells of the confusion matrix."""

from collections.abc import Sequence

import numpy as np

from scanwise import run
from scanwise.csv_files import write_table
from scanwise.pipeline.context import Context
from scanwise.records import IntArray, Predictions
from scanwise.reporting import case_pictures, scan_sheets
from scanwise.run import RunFolder, layout

MOST = 12
COLUMNS = ("path", "subject", "label", "predicted", "probability", "probability_of_label")


def write_failures(context: Context, folder: RunFolder, predictions: Predictions) -> None:
    """Write `figures/failures.png` and `tables/failures`, the most confident errors first, one a subject."""
    rows = most_confident_errors(predictions)
    labels, called = np.asarray(predictions.labels), predictions.predicted
    lines = [
        (
            str(predictions.scans[row]),
            str(predictions.subjects[row]),
            predictions.classes[labels[row]],
            predictions.classes[called[row]],
            float(predictions.probs[row, called[row]]),
            float(predictions.probs[row, labels[row]]),
        )
        for row in rows.tolist()
    ]
    write_table(COLUMNS, lines, folder.tables / layout.FAILURES)
    if not len(rows):
        return
    pixels = context.store.read(_rows_of(context, predictions.scans[rows].tolist()))
    titles = {
        name: stage.title if (stage := context.recipe.stages.get(name)) and stage.title else name
        for name in predictions.classes
    }
    captions = tuple(
        f"truly {titles[truly]}, called {titles[wrongly]}, {100 * sure:.0f} % sure"
        for _, _, truly, wrongly, sure, _ in lines
    )
    with run.writing(folder.figures / layout.FAILURES_SHEET) as temporary:
        temporary.write_bytes(scan_sheets.draw_gallery(pixels, captions))


def write_cases(context: Context, folder: RunFolder, predictions: Predictions, scans: Predictions) -> None:
    """Write `figures/cases.png` and `tables/cases`: small pictures for the cells of the confusion matrix.

    Args:
        predictions: by the unit that decides, over all folds.
        scans: the same by scan.
    """
    cases = case_pictures.choose_cases(predictions, scans)
    write_table(case_pictures.CASE_COLUMNS, cases, folder.tables / layout.CASES)
    if not cases:
        return
    pixels = context.store.read(_rows_of(context, [path for _, path in cases]))
    with run.writing(folder.figures / layout.CASES_SHEET) as temporary:
        temporary.write_bytes(case_pictures.draw_case_sheet(pixels))


def _rows_of(context: Context, paths: Sequence[str]) -> IntArray:
    row_by_path = {path: row for row, path in enumerate(context.cohort.path.tolist())}
    return np.array([row_by_path[path] for path in paths])


def most_confident_errors(predictions: Predictions, most: int = MOST) -> IntArray:
    """Rows that are wrong, the most confident of each subject, the most confident first."""
    wrong = np.flatnonzero(predictions.predicted != np.asarray(predictions.labels))
    order = wrong[np.argsort(-predictions.probs[wrong].max(axis=1), kind="stable")]
    _, first = np.unique(predictions.subjects[order], return_index=True)
    return order[np.sort(first)][:most]
