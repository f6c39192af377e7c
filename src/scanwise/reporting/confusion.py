"""The confusion matrix as a table: each cell with its share and interval, and the cases that are in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from scanwise import evaluation
from scanwise.evaluation.bands import wilson_interval
from scanwise.phrases import printable
from scanwise.records import IntArray, Predictions, StrArray
from scanwise.reporting.wording import between, counted, percent

NAMED = 12
"""Cases of a cell that are named, the most confident first; the table of predictions has them all."""


@dataclass(frozen=True, slots=True)
class ConfusionCell:
    """A cell: how many, their share of the true class, and who they are.

    Attributes:
        count: how many cases.
        share: of the true class, in words, with its interval where cases are independent.
        depth: the share as the depth of colour, in per cent.
        right: whether the predicted class is the true one.
        link: id of the list of cases; empty for a cell without any.
        title: of that list.
        cases: their names, confidences and pictures (data URIs, empty for none), the first of them.
        more: how many are not named.
    """

    count: int
    share: str
    depth: int
    right: bool
    link: str
    title: str
    cases: tuple[tuple[str, str, str], ...]
    more: int


@dataclass(frozen=True, slots=True)
class ConfusionTable:
    """A confusion matrix: a row each true class, with its title, its size and its cells."""

    caption: str
    titles: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[ConfusionCell, ...]], ...]

    @property
    def cells(self) -> list[ConfusionCell]:
        """Cells with cases, the errors first."""
        cells = [cell for _, _, row in self.rows for cell in row if cell.count]
        return sorted(cells, key=lambda cell: cell.right)


def build_confusion(
    predictions: Predictions,
    titles: Sequence[str],
    name: str,
    caption: str,
    pictures: Mapping[str, str] = MappingProxyType({}),
) -> ConfusionTable:
    """The confusion matrix of predictions.

    Args:
        predictions: with labels.
        titles: what the classes are called.
        name: what tells its ids from those of another.
        caption: what it is of.
        pictures: of cases by name, as data URIs.
    """
    matrix = evaluation.confusion_counts(predictions)
    rows = []
    for index, title in enumerate(titles):
        total = int(matrix[index].sum())
        cells = tuple(_cell(predictions, titles, name, index, column, total, pictures) for column in range(len(titles)))
        rows.append((printable(title), counted(total, predictions.unit), cells))
    return ConfusionTable(caption, tuple(printable(title) for title in titles), tuple(rows))


def pick_cases(predictions: Predictions, truly: int, called: int) -> IntArray:
    """Rows of a cell that are named, the most confident first."""
    here = _rows(predictions, truly, called)
    return here[np.argsort(-predictions.probs[here, called], kind="stable")][:NAMED]


def case_names(predictions: Predictions) -> StrArray:
    """(N,) names of the cases: of subjects, or of scans."""
    return predictions.subjects if predictions.unit == "subject" else predictions.scans


def _rows(predictions: Predictions, truly: int, called: int) -> IntArray:
    return np.flatnonzero((np.asarray(predictions.labels) == truly) & (predictions.predicted == called))


def _cell(
    predictions: Predictions,
    titles: Sequence[str],
    name: str,
    truly: int,
    called: int,
    total: int,
    pictures: Mapping[str, str],
) -> ConfusionCell:
    here = _rows(predictions, truly, called)
    share = len(here) / total if total else 0.0
    text = percent(share, 0) if total else "–"
    if total and predictions.unit == "subject":
        low, high = (float(end[0]) for end in wilson_interval(np.array([len(here)]), np.array([total])))
        text = f"{text} ({between(percent(low, 0, unit=False), percent(high, 0, unit=False))})"
    names = case_names(predictions)
    return ConfusionCell(
        len(here),
        text,
        round(50 * share),
        truly == called,
        f"cell-{name}-{truly}-{called}" if len(here) else "",
        f"True {printable(titles[truly])}, predicted {printable(titles[called])}: {counted(len(here), predictions.unit)}",
        tuple(
            (printable(case), percent(float(predictions.probs[row, called]), 0), pictures.get(case, ""))
            for row in pick_cases(predictions, truly, called)
            for case in [str(names[row])]
        ),
        max(0, len(here) - NAMED),
    )
