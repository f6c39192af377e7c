"""Operating points: a threshold on the probability of a class, chosen on one set of rows and applied to another.

A ROC curve shows every trade of sensitivity against false alarms; a clinic works at one. The threshold is chosen on
validation rows and then kept: its rates on other rows, with intervals, are the ones to rely on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanwise.arrays import ends_of_ties
from scanwise.errors import DataError, ShapeError, lookup
from scanwise.evaluation.sample import SubjectBootstrap, require_labels
from scanwise.evaluation.strata import Cells, PredictedCells
from scanwise.metrics.sums import precision_from_confusion, recall_from_confusion
from scanwise.pooling import common_label, subject_codes
from scanwise.records import BoolArray, FloatArray, Metric, Predictions

ThresholdRule = Callable[[FloatArray, FloatArray], FloatArray]
Part = tuple[BoolArray, BoolArray]
"""The rows that a rate is a share of, and the rows that are correct."""

RULES: dict[str, ThresholdRule] = {
    "youden": lambda sensitivity, specificity: sensitivity + specificity,
    "specificity 90 %": lambda sensitivity, specificity: np.where(specificity >= 0.9 - 1e-12, sensitivity, -1.0),
    "sensitivity 90 %": lambda sensitivity, specificity: np.where(sensitivity >= 0.9 - 1e-12, specificity, -1.0),
}
"""(sensitivity, specificity) of every threshold to the criterion that the chosen one maximises."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold: a row is predicted as the class where its probability is at least this."""

    name: str
    rule: str
    index: int
    threshold: float

    @classmethod
    def choose(cls, predictions: Predictions, index: int, rule: str) -> "OperatingPoint | None":
        """The best threshold by a rule on these rows; None where the class, or all else, is absent.

        It is half way between the probabilities on its two sides, so that it does not depend on one row alone. Of
        equally good thresholds the highest is taken: it has the fewest positives.
        """
        criterion = lookup(RULES, rule, "rule")
        scores = np.asarray(predictions.probs[:, index], dtype=np.float64)
        positive = require_labels(predictions) == index
        if positive.all() or not positive.any():
            return None
        order = np.argsort(-scores, kind="stable")
        ends = ends_of_ties(scores[order])
        detected, alarms = (np.append(0, np.cumsum(here[order])[ends]) for here in (positive, ~positive))
        index_of_best = int(np.argmax(criterion(detected / detected[-1], 1 - alarms / alarms[-1])))
        edges = np.concatenate(([1.0], scores[order][ends], [0.0]))
        return cls(
            predictions.classes[index], rule, index, float((edges[index_of_best] + edges[index_of_best + 1]) / 2)
        )

    def positives(self, predictions: Predictions) -> BoolArray:
        """(N,) whether each row is predicted as the class."""
        if predictions.classes[self.index] != self.name:
            raise DataError(f"This threshold is for {self.name!r}, which is another class in these predictions.")
        positives: BoolArray = predictions.probs[:, self.index] >= self.threshold
        return positives


CELLS: dict[str, Cells] = {
    "sensitivity": lambda matrix: recall_from_confusion(matrix)[..., 1],
    "specificity": lambda matrix: recall_from_confusion(matrix)[..., 0],
    "positive_predictive_value": lambda matrix: precision_from_confusion(matrix)[..., 1],
    "negative_predictive_value": lambda matrix: precision_from_confusion(matrix)[..., 0],
}
"""Each rate from the matrix of rows of the class, or not, by whether they are called so."""


def _rates(sample: SubjectBootstrap, parts: Mapping[str, Part], confidence: float) -> list[Metric]:
    """Each rate with its interval, where there are rows that it is a share of."""
    positive, predicted = parts["sensitivity"]
    cells = PredictedCells(positive.astype(np.int64), predicted.astype(np.int64), 2, sample.of_subject, sample.strata)
    metrics = []
    for name, (among, _) in parts.items():
        if among.any():
            value, (low, high) = float(CELLS[name](cells.matrix)), cells.interval(CELLS[name], confidence)
            rows = int(among.sum())
            metrics.append(Metric(name, value, max(low, 0.0), min(high, 1.0), sample.predictions.unit, rows))
    return metrics


def _parts(predictions: Predictions, index: int, predicted: BoolArray) -> dict[str, Part]:
    """For each rate the rows that it is a share of, and the rows that are correct."""
    positive = require_labels(predictions) == index
    return {
        "sensitivity": (positive, predicted),
        "specificity": (~positive, ~predicted),
        "positive_predictive_value": (predicted, positive),
        "negative_predictive_value": (~predicted, ~positive),
    }


def decision_curve(predictions: Predictions, index: int, thresholds: FloatArray | None = None) -> dict[str, FloatArray]:
    """Net benefit of acting on the probability of a class, beside acting on everyone (Vickers and Elkin 2006).

    At a threshold p, one case detected is worth as much as (1 - p) / p false alarms. Net benefit is cases
    detected less false alarms so weighed, per row; acting on no one has zero.

    Args:
        predictions: with labels.
        index: the class.
        thresholds: between 0 and 1, both excluded; default: 0.01 to 0.99.

    Returns:
        `threshold`, `network` and `everybody`, arrays of one length.

    >>> predictions = Predictions(np.array(["1", "2"]), np.array(["a", "b"]), ("no", "yes"), np.array([[0.9, 0.1], [0.2, 0.8]]),
    ...     None, np.zeros(2), np.zeros(2, bool), np.array([0, 1]))
    >>> decision_curve(predictions, 1, np.array([0.5]))["network"].tolist()
    [0.5]
    """
    levels = np.arange(1, 100) / 100 if thresholds is None else np.asarray(thresholds, dtype=np.float64)
    if levels.ndim != 1 or not ((levels > 0) & (levels < 1)).all():
        raise ShapeError("Thresholds must be a row of numbers between 0 and 1, both excluded.")
    positive = require_labels(predictions) == index
    predicted = predictions.probs[:, index][None, :] >= levels[:, None]
    odds = levels / (1 - levels)
    return {
        "threshold": levels,
        "network": (predicted & positive).mean(axis=1) - (predicted & ~positive).mean(axis=1) * odds,
        "everybody": positive.mean() - (~positive).mean() * odds,
    }


def transfer_thresholds(
    chosen_on: Predictions, tried_on: Predictions, *, draws: int = 2000, confidence: float = 0.95, seed: int = 0
) -> list[dict[str, Any]]:
    """Thresholds of every class (of class 1 where there are two): their rates where chosen, and where applied.

    Returns:
        dictionaries of `unit`, `class`, `rule`, `threshold`, `rate`, `chosen` (the rate where the threshold was chosen),
        `value`, `low`, `high` and `count` (where it was applied), `chosen_low` and `chosen_high`.
    """
    return transfer_thresholds_over_folds(
        [chosen_on], [tried_on], tried_on, draws=draws, confidence=confidence, seed=seed
    )


def transfer_thresholds_over_folds(
    chosen_on: Sequence[Predictions],
    tried_on: Sequence[Predictions],
    together: Predictions,
    *,
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The same over folds: each fold's threshold is chosen and applied within the fold, then predictions are pooled.

    Rates where chosen are pooled in the same way. A class is left out where a fold lacks it.

    Args:
        chosen_on: rows to choose on, one entry per fold.
        tried_on: rows to apply to, one entry per fold.
        together: the rows of `tried_on`, one fold after another.
        draws: bootstrap draws.
        confidence: of every interval.
        seed: of the draws.

    Returns:
        rows as of `transfer_thresholds`; `threshold` is NaN where there are several.
    """
    sample = SubjectBootstrap.of(together, together.subjects, draws, seed)
    rows: list[dict[str, Any]] = []
    for index in [1] if len(together.classes) == 2 else range(len(together.classes)):
        for rule in RULES:
            points = [point for part in chosen_on if (point := OperatingPoint.choose(part, index, rule))]
            if len(points) < len(chosen_on):
                continue
            where_chosen = [_parts(s, index, point.positives(s)) for s, point in zip(chosen_on, points, strict=True)]
            predicted = np.concatenate([point.positives(s) for s, point in zip(tried_on, points, strict=True)])
            threshold = points[0].threshold if len(points) == 1 else float("nan")
            for m in _rates(sample, _parts(together, index, predicted), confidence):
                about = {"unit": m.unit, "class": points[0].name, "rule": rule, "threshold": threshold, "rate": m.name}
                among, correct = (np.concatenate([part[m.name][k] for part in where_chosen]) for k in (0, 1))
                chosen = float(correct[among].mean()) if among.any() else float("nan")
                ends = _ends_where_chosen(chosen_on, where_chosen, m.name, confidence)
                measured = {"value": m.value, "low": m.low, "high": m.high, "count": m.count}
                rows.append({**about, "chosen": chosen, **measured, "chosen_low": ends[0], "chosen_high": ends[1]})
    return rows


def _ends_where_chosen(
    chosen_on: Sequence[Predictions], parts: Sequence[Mapping[str, Part]], name: str, confidence: float
) -> tuple[float, float]:
    """The interval of a rate on the rows that the thresholds were chosen on, all folds together."""
    positive, predicted = (np.concatenate([part["sensitivity"][k] for part in parts]) for k in (0, 1))
    subjects = np.concatenate([np.char.add(f"{fold}:", part.subjects) for fold, part in enumerate(chosen_on)])
    of_subject, _ = subject_codes(subjects, len(subjects))
    strata = common_label(positive.astype(np.int64), of_subject, 2)
    cells = PredictedCells(positive.astype(np.int64), predicted.astype(np.int64), 2, of_subject, strata)
    low, high = cells.interval(CELLS[name], confidence)
    return max(low, 0.0), min(high, 1.0)
