"""The confusion matrix as a table: each cell with its share and interval, and the cases that are in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scanwise import evaluation
from scanwise.evaluation.bands import wilson_interval
from scanwise.phrases import printable
from scanwise.records import Predictions
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
        cases: their names and confidences, the first of them.
        more: how many are not named.
    """

    count: int
    share: str
    depth: int
    right: bool
    link: str
    title: str
    cases: tuple[tuple[str, str], ...]
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


def build_confusion(predictions: Predictions, titles: Sequence[str], name: str, caption: str) -> ConfusionTable:
    """The confusion matrix of predictions.

    Args:
        predictions: with labels.
        titles: what the classes are called.
        name: what tells its ids from those of another.
        caption: what it is of.
    """
    matrix = evaluation.confusion_counts(predictions)
    rows = []
    for index, title in enumerate(titles):
        total = int(matrix[index].sum())
        cells = tuple(_cell(predictions, titles, name, index, column, total) for column in range(len(titles)))
        rows.append((printable(title), counted(total, predictions.unit), cells))
    return ConfusionTable(caption, tuple(printable(title) for title in titles), tuple(rows))


def _cell(
    predictions: Predictions, titles: Sequence[str], name: str, truly: int, called: int, total: int
) -> ConfusionCell:
    here = np.flatnonzero((np.asarray(predictions.labels) == truly) & (predictions.predicted == called))
    share = len(here) / total if total else 0.0
    text = percent(share, 0) if total else "–"
    if total and predictions.unit == "subject":
        low, high = (float(end[0]) for end in wilson_interval(np.array([len(here)]), np.array([total])))
        text = f"{text} ({between(percent(low, 0, unit=False), percent(high, 0, unit=False))})"
    confidence = predictions.probs[here, called]
    order = here[np.argsort(-confidence, kind="stable")][:NAMED]
    names = predictions.subjects if predictions.unit == "subject" else predictions.scans
    return ConfusionCell(
        len(here),
        text,
        round(50 * share),
        truly == called,
        f"cell-{name}-{truly}-{called}" if len(here) else "",
        f"True {printable(titles[truly])}, predicted {printable(titles[called])}: {counted(len(here), predictions.unit)}",
        tuple((printable(str(names[row])), percent(float(predictions.probs[row, called]), 0)) for row in order),
        max(0, len(here) - NAMED),
    )
