"""Small pictures of the cases in a confusion matrix: one sheet in the run folder, a picture a case on the page."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scanwise.csv_files import read_csv
from scanwise.records import Predictions
from scanwise.reporting.components import CLASSES_SHOWN
from scanwise.reporting.confusion import case_names, pick_cases
from scanwise.run import RunFolder, layout

MOST = 120
"""Pictures of a page at most, the errors first; together they stay below 300 KB."""
SIDE, COLUMNS = 64, 12
CASE_COLUMNS = ("case", "path")


def choose_cases(predictions: Predictions, scans: Predictions) -> list[tuple[str, str]]:
    """Cases to be pictured, and the scan that is shown of each: of a subject the one that was most called like the subject.

    Args:
        predictions: by the unit that decides, with labels.
        scans: by scan.
    """
    labels, called = np.asarray(predictions.labels), predictions.predicted
    count = len(predictions.classes)
    if count > CLASSES_SHOWN:
        return []
    ranked = [
        (truly == here, rank, int(row))
        for truly in range(count)
        for here in range(count)
        for rank, row in enumerate(pick_cases(predictions, truly, here))
    ]
    rows = [row for _, _, row in sorted(ranked)[:MOST]]
    names = case_names(predictions)
    if predictions.unit == "scan":
        return [(str(names[row]), str(scans.scans[row])) for row in rows]
    chosen = []
    for row in rows:
        own = np.flatnonzero((scans.subjects == names[row]) & (np.asarray(scans.labels) == labels[row]))
        chosen.append((str(names[row]), str(scans.scans[own[np.argmax(scans.probs[own, called[row]])]])))
    return chosen


def draw_case_sheet(pixels: NDArray[np.uint8]) -> bytes:
    """Scans (N, H, W, 1 or 3) in rows of twelve, 64 pixels each, as PNG bytes."""
    rows = -(-len(pixels) // COLUMNS)
    mode = "L" if pixels.shape[-1] == 1 else "RGB"
    sheet = Image.new(mode, (COLUMNS * SIDE, rows * SIDE))
    for index, scan in enumerate(pixels):
        picture = Image.fromarray(scan.squeeze(-1) if mode == "L" else scan)
        sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.BOX), _corner(index))
    stream = io.BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def read_case_pictures(run: RunFolder) -> dict[str, str]:
    """The picture of each case as a data URI; none where the run has no sheet of them."""
    image, cases_path = run.figures / layout.CASES_SHEET, run.tables / layout.CASES
    if not (image.is_file() and cases_path.is_file()):
        return {}
    _, rows = read_csv(cases_path)
    pictures = {}
    with Image.open(image, formats=["PNG"]) as sheet:
        for index, (case, *_) in enumerate(rows):
            left, top = _corner(index)
            stream = io.BytesIO()
            sheet.crop((left, top, left + SIDE, top + SIDE)).save(stream, "JPEG", quality=70)
            pictures[case] = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
    return pictures


def _corner(index: int) -> tuple[int, int]:
    row, column = divmod(index, COLUMNS)
    return column * SIDE, row * SIDE
