"""Scans that weigh most in the answer for their subject, of a network with attention over the scans of a person."""

import numpy as np

from scanwise.cohort.anatomical_order import places_in_order, scan_positions
from scanwise.phrases import printable
from scanwise.pooling import subject_codes
from scanwise.records import FloatArray, IntArray, Predictions
from scanwise.reporting.components import ReportTable
from scanwise.reporting.run_data import RunData
from scanwise.reporting.wording import counted, fixed, percent
from scanwise.run import layout

FIFTHS = 5
NAMED = 3
"""Scans that are named of each subject."""
SHOWN = 10
"""Subjects of a table that stand open."""


def build_scan_weights(contents: RunData) -> list[ReportTable]:
    """Concentration of the weights by true class, and the scans that weigh most of each subject; none without attention."""
    scans = contents.predictions.get(("honest", "scan"))
    if scans is None or scans.attention is None or scans.labels is None:
        return []
    codes, names = subject_codes(scans.subjects, len(scans))
    return [_concentration(contents, scans, codes), _heaviest(scans, codes, names.tolist())]


def effective_number(weights: FloatArray, codes: IntArray) -> FloatArray:
    """(K,) one over the sum of squared weights (N,) of each code: as many scans, weighing alike, would be as concentrated.

    >>> effective_number(np.array([0.5, 0.5, 1.0]), np.array([0, 0, 1])).tolist()
    [2.0, 1.0]
    """
    return np.asarray(1 / np.bincount(codes, weights=weights**2))


def _concentration(contents: RunData, scans: Predictions, codes: IntArray) -> ReportTable:
    weights, counts = _weights(scans), np.bincount(codes)
    effective, class_of = effective_number(weights, codes), _labels(scans)[np.unique(codes, return_index=True)[1]]
    places = places_in_order(scans.subjects, scan_positions(scans.scans, scans.groups))
    ordered = bool((np.bincount(codes, weights=places[:, 1] == counts[codes]) == counts).all()) and bool(
        (counts > 1).any()
    )
    fifth = np.minimum(FIFTHS * places[:, 0] // np.maximum(places[:, 1], 1), FIFTHS - 1)
    rows = []
    for index, title in enumerate(contents.titles()):
        own = class_of == index
        if not own.any():
            continue
        cells = [
            title,
            f"{int(own.sum()):,}",
            fixed(float(np.median(counts[own])), 0),
            fixed(float(np.median(effective[own])), 1),
        ]
        if ordered:
            here = own[codes]
            shares = np.bincount(fifth[here], weights=weights[here], minlength=FIFTHS) / own.sum()
            cells += [percent(float(share), int(own.sum())) for share in shares]
        rows.append(tuple(cells))
    columns = ["True class", "Subjects", "Scans each", "As if so many weighed alike"]
    columns += [f"Weight of fifth {number}" for number in range(1, FIFTHS + 1)] if ordered else []
    caption = "Attention to the scans of a subject, medians by true class"
    caption += "; fifths are of the anatomical order of a subject’s scans" if ordered else ""
    return ReportTable(caption, tuple(columns), tuple(rows), _file())


def _heaviest(scans: Predictions, codes: IntArray, names: list[str]) -> ReportTable:
    weights, rows = _weights(scans), []
    for code, name in enumerate(names):
        own = np.flatnonzero(codes == code)
        first = own[np.argsort(-weights[own], kind="stable")][:NAMED]
        cells = [f"{printable(str(scans.scans[row]))}: {percent(float(weights[row]), 1)}" for row in first]
        label = scans.classes[_labels(scans)[own[0]]]
        rows.append(
            (printable(name), printable(label), counted(len(own), "scan"), *cells, *[""] * (NAMED - len(cells)))
        )
    columns = ("Subject", "True class", "Scans", *(f"Weight {number}" for number in range(1, NAMED + 1)))
    caption = "Scans with the largest weight, by subject"
    short = ReportTable(caption, columns, tuple(rows[:SHOWN]), _file()) if len(rows) > SHOWN else None
    return ReportTable(caption, columns, tuple(rows), _file(), short=short)


def _weights(scans: Predictions) -> FloatArray:
    return np.zeros(len(scans)) if scans.attention is None else scans.attention


def _labels(scans: Predictions) -> IntArray:
    return np.zeros(len(scans), dtype=np.int64) if scans.labels is None else scans.labels


def _file() -> str:
    return layout.table_link(layout.PREDICTIONS)
