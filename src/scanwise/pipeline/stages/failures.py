"""The gravest mistakes, to be looked at: test scans that the network called wrong and was surest about."""

import numpy as np

from scanwise import run
from scanwise.csv_files import write_table
from scanwise.pipeline.context import Context
from scanwise.records import IntArray, Predictions
from scanwise.reporting import scan_sheets
from scanwise.run import Run, layout

MOST = 12
COLUMNS = ("path", "subject", "label", "predicted", "probability", "probability_of_label")


def write_failures(context: Context, folder: Run, said: Predictions) -> None:
    """Write `figures/failures.png` and `tables/failures`, the surest mistakes first, one a subject."""
    rows = most_confident_errors(said)
    place = {path: row for row, path in enumerate(context.cohort.path.tolist())}
    labels, called = np.asarray(said.labels), said.predicted
    lines = [
        (
            str(said.scans[row]),
            str(said.subjects[row]),
            said.classes[labels[row]],
            said.classes[called[row]],
            float(said.probs[row, called[row]]),
            float(said.probs[row, labels[row]]),
        )
        for row in rows.tolist()
    ]
    write_table(COLUMNS, lines, folder.tables / layout.FAILURES)
    if not len(rows):
        return
    pixels = context.store.read(np.array([place[path] for path in said.scans[rows].tolist()]))
    titles = {
        name: stage.title if (stage := context.recipe.stages.get(name)) and stage.title else name
        for name in said.classes
    }
    captions = tuple(
        f"truly {titles[truly]}, called {titles[wrongly]}, {100 * sure:.0f} % sure"
        for _, _, truly, wrongly, sure, _ in lines
    )
    with run.writing(folder.figures / layout.FAILURES_SHEET) as temporary:
        temporary.write_bytes(scan_sheets.gallery(pixels, captions))


def most_confident_errors(said: Predictions, most: int = MOST) -> IntArray:
    """Rows that are wrong, the surest of each subject, the surest subjects first."""
    wrong = np.flatnonzero(said.predicted != np.asarray(said.labels))
    order = wrong[np.argsort(-said.probs[wrong].max(axis=1), kind="stable")]
    _, first = np.unique(said.subjects[order], return_index=True)
    return order[np.sort(first)][:most]
