"""Working points: a cut on the probability of a class, chosen on some people and carried over to others.

A ROC curve promises every trade of sensitivity against false alarms; a clinic works at one. The cut is chosen on
validation rows and then held: what it does on other rows, with intervals, is what may be believed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scanwise.arrays import ends_of_ties
from scanwise.errors import DataError, ShapeError, lookup
from scanwise.evaluation.estimates import estimate_with_interval, mean_of_sums
from scanwise.evaluation.sample import Estimand, SubjectBootstrap, require_labels
from scanwise.records import BoolArray, FloatArray, Metric, Predictions

ThresholdRule = Callable[[FloatArray, FloatArray], FloatArray]
Part = tuple[BoolArray, BoolArray]
"""The rows that a rate is a share of, and the rows that would be right."""

RULES: dict[str, ThresholdRule] = {
    "youden": lambda sensitivity, specificity: sensitivity + specificity,
    "specificity 90 %": lambda sensitivity, specificity: np.where(specificity >= 0.9 - 1e-12, sensitivity, -1.0),
    "sensitivity 90 %": lambda sensitivity, specificity: np.where(sensitivity >= 0.9 - 1e-12, specificity, -1.0),
}
"""What a cut is chosen for: (sensitivity, specificity) of every cut to what is largest at the best one."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A row is called of the class where its probability is at least the threshold."""

    name: str
    rule: str
    index: int
    threshold: float

    @classmethod
    def choose(cls, predictions: Predictions, index: int, rule: str) -> "OperatingPoint | None":
        """The cut that is best by a rule on these rows; None where the class, or all else, is absent.

        The threshold is half way between the probabilities on its two sides, so that it does not hang on one row.
        Of equally good cuts the highest is taken: it calls fewest rows.
        """
        best = lookup(RULES, rule, "rule")
        scores = np.asarray(predictions.probs[:, index], dtype=np.float64)
        positive = require_labels(predictions) == index
        if positive.all() or not positive.any():
            return None
        order = np.argsort(-scores, kind="stable")
        ends = ends_of_ties(scores[order])
        caught, alarms = (np.append(0, np.cumsum(here[order])[ends]) for here in (positive, ~positive))
        place = int(np.argmax(best(caught / caught[-1], 1 - alarms / alarms[-1])))
        edges = np.concatenate(([1.0], scores[order][ends], [0.0]))
        return cls(predictions.classes[index], rule, index, float((edges[place] + edges[place + 1]) / 2))

    def calls(self, predictions: Predictions) -> BoolArray:
        """(N,) whether each row is called of the class."""
        if predictions.classes[self.index] != self.name:
            raise DataError(f"This cut is about {self.name!r}, which is another class in these predictions.")
        called: BoolArray = predictions.probs[:, self.index] >= self.threshold
        return called


def operating_rates(
    predictions: Predictions, cut: OperatingPoint, *, draws: int = 2000, confidence: float = 0.95, seed: int = 0
) -> list[Metric]:
    """What a cut does on these rows: sensitivity, specificity and predictive values, each with its interval over subjects; undefined ones are left out."""
    sample = SubjectBootstrap.of(predictions, predictions.subjects, draws, seed)
    found = _rates(sample, _parts(predictions, cut.index, cut.calls(predictions)), confidence)
    return [replace(m, group=f"class={cut.name} · {cut.rule}") for m in found]


def _rates(sample: SubjectBootstrap, parts: Mapping[str, Part], confidence: float) -> list[Metric]:
    found = []
    for name, (among, right) in parts.items():
        question = Estimand(name, None, _share_of(among, right), mean_of_sums, among=among)
        value, low, high = estimate_with_interval(sample, question, confidence)
        if np.isfinite(value):
            found.append(Metric(name, value, low, high, sample.predictions.unit, int(among.sum())))
    return found


def _parts(predictions: Predictions, index: int, called: BoolArray) -> dict[str, Part]:
    """Of each rate the rows that it is a share of, and those that are right."""
    positive = require_labels(predictions) == index
    return {
        "sensitivity": (positive, called),
        "specificity": (~positive, ~called),
        "positive_predictive_value": (called, positive),
        "negative_predictive_value": (~called, ~positive),
    }


def _share_of(among: BoolArray, right: BoolArray) -> Callable[[SubjectBootstrap], FloatArray]:
    return lambda _: np.column_stack([among, among & right]).astype(np.float64)


def decision_curve(predictions: Predictions, index: int, thresholds: FloatArray | None = None) -> dict[str, FloatArray]:
    """Net benefit of acting on the probability of a class, beside acting on everybody (Vickers and Elkin 2006).

    At a threshold p, one case caught is worth as much as (1 - p) / p false alarms. Net benefit is cases caught less
    false alarms so weighed, a row; acting on nobody has zero.

    Args:
        predictions: with labels.
        index: the class.
        thresholds: between 0 and 1, both excluded; unsaid, 0.01 to 0.99.

    Returns:
        `threshold`, `network` and `everybody`, arrays of one length.

    >>> said = Predictions(np.array(["1", "2"]), np.array(["a", "b"]), ("no", "yes"), np.array([[0.9, 0.1], [0.2, 0.8]]),
    ...     None, np.zeros(2), np.zeros(2, bool), np.array([0, 1]))
    >>> decision_curve(said, 1, np.array([0.5]))["network"].tolist()
    [0.5]
    """
    cuts = np.arange(1, 100) / 100 if thresholds is None else np.asarray(thresholds, dtype=np.float64)
    if cuts.ndim != 1 or not ((cuts > 0) & (cuts < 1)).all():
        raise ShapeError("Thresholds must be a row of numbers between 0 and 1, both excluded.")
    positive = require_labels(predictions) == index
    called = predictions.probs[:, index][None, :] >= cuts[:, None]
    odds = cuts / (1 - cuts)
    return {
        "threshold": cuts,
        "network": (called & positive).mean(axis=1) - (called & ~positive).mean(axis=1) * odds,
        "everybody": positive.mean() - (~positive).mean() * odds,
    }


def transfer_thresholds(
    chosen_on: Predictions, tried_on: Predictions, *, draws: int = 2000, confidence: float = 0.95, seed: int = 0
) -> list[dict[str, Any]]:
    """Every cut of every class (of class 1 where there are two): what was promised where it was chosen, and what held.

    Returns:
        dictionaries of `unit`, `class`, `rule`, `threshold`, `rate`, `chosen` (the rate where the cut was chosen),
        `value`, `low`, `high` and `count` (where it was tried).
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
    """The same over folds: each fold's cut is chosen on its own rows and tried on its own others, then calls are pooled.

    What was promised is pooled in the same way. A class is left out where a fold has nothing to choose its cut by.

    Args:
        chosen_on: rows that choose, a fold each.
        tried_on: rows that judge, a fold each.
        together: the rows of `tried_on`, one fold after another.
        draws: behind each interval.
        confidence: of every interval.
        seed: of the draws.

    Returns:
        rows as of `transfer_thresholds`; `threshold` is NaN where there are several.
    """
    sample = SubjectBootstrap.of(together, together.subjects, draws, seed)
    rows: list[dict[str, Any]] = []
    for index in [1] if len(together.classes) == 2 else range(len(together.classes)):
        for rule in RULES:
            cuts = [cut for said in chosen_on if (cut := OperatingPoint.choose(said, index, rule))]
            if len(cuts) < len(chosen_on):
                continue
            promised = [_parts(s, index, cut.calls(s)) for s, cut in zip(chosen_on, cuts, strict=True)]
            called = np.concatenate([cut.calls(s) for s, cut in zip(tried_on, cuts, strict=True)])
            threshold = cuts[0].threshold if len(cuts) == 1 else float("nan")
            for m in _rates(sample, _parts(together, index, called), confidence):
                about = {"unit": m.unit, "class": cuts[0].name, "rule": rule, "threshold": threshold, "rate": m.name}
                among, right = (np.concatenate([part[m.name][k] for part in promised]) for k in (0, 1))
                chosen = float(right[among].mean()) if among.any() else float("nan")
                rows.append(
                    {**about, "chosen": chosen, "value": m.value, "low": m.low, "high": m.high, "count": m.count}
                )
    return rows
