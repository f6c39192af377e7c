"""What changes when a classifier meets other people: inputs, answers, and whether its probabilities still mean what they say."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from scanwise.evaluation import delong
from scanwise.evaluation.estimates import estimate_with_interval, mean_of_sums
from scanwise.evaluation.sample import Estimand, SubjectBootstrap, require_labels
from scanwise.records import FloatArray, Metric, Predictions

STEPS = 30
STEEPEST = 50.0
"""A slope beyond says that the data is separable, and is no number to report."""


def measure_drift(
    before: Predictions, now: Predictions, *, draws: int = 2000, confidence: float = 0.95, seed: int = 0
) -> list[dict[str, Any]]:
    """How inputs and answers differ between the people of a run's test side and others, each with its interval.

    Returns:
        dictionaries of `what`, `class`, `before`, `before_low`, `before_high`, `now`, `now_low` and `now_high`: the
        share of each true and each predicted class, the mean confidence and doubt, the share flagged as unlike the
        training scans; and, without `before`, the AUROC that tells the two sets apart by how unlike they are.
    """
    samples = [SubjectBootstrap.of(said, said.subjects, draws, seed, within_class=False) for said in (before, now)]
    asked: list[tuple[str, str, Callable[[Predictions], FloatArray]]] = []
    for index, name in enumerate(now.classes):
        asked.append(("share truly", name, partial(_of_label, index)))
        asked.append(("share called", name, partial(_of_called, index)))
    asked += [
        ("mean confidence", "", lambda said: said.probs.max(axis=1)),
        ("mean entropy", "", lambda said: said.entropy),
    ]
    if before.ood_flag is not None and now.ood_flag is not None:
        asked.append(("share flagged as strange", "", _flagged))
    rows = []
    for what, name, values in asked:
        kind = "mean" if what == "mean entropy" else "share"
        found = [_mean(kind, sample, values(sample.predictions), confidence) for sample in samples]
        ends = {f"{when}{end}": v for when, part in zip(("before", "now"), found, strict=True) for end, v in zip(("", "_low", "_high"), part, strict=True)}  # fmt: skip
        rows.append({"what": what, "class": name, **ends})
    if before.ood is not None and now.ood is not None:
        nan = float("nan")
        value, low, high = shift_auroc(before, now, confidence)
        rows.append({"what": "AUROC of how strange", "class": "", "before": nan, "before_low": nan, "before_high": nan,
                     "now": value, "now_low": low, "now_high": high})  # fmt: skip
    return rows


def shift_auroc(before: Predictions, now: Predictions, confidence: float = 0.95) -> tuple[float, float, float]:
    """How well the out-of-distribution score tells two sets of people apart: 0.5 where they look alike."""
    scores = np.concatenate([np.asarray(before.ood), np.asarray(now.ood)]).astype(np.float64)
    other = np.arange(len(scores)) >= len(before)
    people = np.concatenate([np.char.add("a", before.subjects), np.char.add("b", now.subjects)])
    names, of_subject = np.unique(people, return_inverse=True)
    area = delong.estimate_auroc(scores, other, of_subject, len(names))
    return (area.value, *delong.delong_interval(area, confidence))


def calibration_intercepts_and_slopes(
    said: Predictions, *, draws: int = 500, confidence: float = 0.95, seed: int = 0
) -> list[Metric]:
    """Calibration-in-the-large and slope of each class's probability (Cox 1958; Van Calster et al. 2016).

    Of the log-odds of a class: in the large, the intercept with slope one (below 0: said too often); the slope of a
    logistic regression of the truth on them (below 1: too sure). Intervals resample all subjects alike, not within
    class, for how common a class is decides the intercept. Classes that all rows
    have, or none, and fits that separate the classes perfectly have none.
    """
    sample = SubjectBootstrap.of(said, said.subjects, draws, seed, within_class=False)
    weights = np.concatenate([np.ones((1, len(sample.classes))), sample.drawn, sample.without])[:, sample.of_subject]
    found = []
    for index in [1] if len(said.classes) == 2 else range(len(said.classes)):
        positive = (sample.labels == index).astype(np.float64)
        if not 0 < positive.sum() < len(positive):
            continue
        chances = np.clip(said.probs[:, index].astype(np.float64), 1e-6, 1 - 1e-6)
        odds = np.log(chances / (1 - chances))
        large, line = fit_intercepts(odds, positive, weights), fit_slopes(odds, positive, weights)[:, 1]
        for name, values in (("calibration_in_the_large", large), ("calibration_slope", line)):
            if not np.isfinite(values[0]):
                continue
            drawn, without = values[1 : 1 + draws], values[1 + draws :]
            low, high = sample.interval(
                values[0], drawn, np.where(np.isfinite(without), without, values[0]), confidence
            )
            group = f"class={said.classes[index]}"
            found.append(Metric(name, float(values[0]), low, high, said.unit, len(said), group, split="external"))
    return found


def fit_intercepts(odds: FloatArray, positive: FloatArray, weights: FloatArray) -> FloatArray:
    """(B,) intercepts of logistic regressions with the log-odds as offset, one for each row of weights (B, N)."""
    found = np.zeros(len(weights))
    for _ in range(STEPS):
        chances = _squashed(found[:, None] + odds)
        spread = (weights * chances * (1 - chances)).sum(axis=1)
        step = (weights * (positive - chances)).sum(axis=1) / np.maximum(spread, 1e-12)
        found = np.clip(found + np.clip(step, -2, 2), -STEEPEST, STEEPEST)
        if np.abs(step).max() < 1e-11:
            break
    return np.where(np.abs(found) < STEEPEST, found, np.nan)


def fit_slopes(odds: FloatArray, positive: FloatArray, weights: FloatArray) -> FloatArray:
    """(B, 2) intercept and slope of logistic regressions of the truth on the log-odds, by Newton's steps."""
    found = np.zeros((len(weights), 2))
    for _ in range(STEPS):
        chances = _squashed(found[:, :1] + found[:, 1:] * odds)
        curve, error = weights * chances * (1 - chances), weights * (positive - chances)
        a, b, c = curve.sum(axis=1), curve @ odds, curve @ odds**2
        first, second = error.sum(axis=1), error @ odds
        size = np.maximum(a * c - b * b, 1e-12)
        step = np.stack([(c * first - b * second) / size, (a * second - b * first) / size], axis=1)
        found = np.clip(found + np.clip(step, -2, 2), -STEEPEST, STEEPEST)
        if np.abs(step).max() < 1e-11:
            break
    return np.where((np.abs(found) < STEEPEST).all(axis=1, keepdims=True), found, np.nan)


def _squashed(odds: FloatArray) -> FloatArray:
    from scipy.special import expit

    chances: FloatArray = expit(odds)
    return chances


def _mean(kind: str, sample: SubjectBootstrap, values: FloatArray, confidence: float) -> tuple[float, float, float]:
    rows = np.column_stack([np.ones(len(values)), values])
    return estimate_with_interval(sample, Estimand(kind, None, partial(_rows, rows), mean_of_sums), confidence)


def _rows(rows: FloatArray, _: SubjectBootstrap) -> FloatArray:
    return rows


def _of_label(index: int, said: Predictions) -> FloatArray:
    return np.asarray(require_labels(said) == index, dtype=np.float64)


def _of_called(index: int, said: Predictions) -> FloatArray:
    return np.asarray(said.predicted == index, dtype=np.float64)


def _flagged(said: Predictions) -> FloatArray:
    return np.asarray(said.ood_flag, dtype=np.float64)
