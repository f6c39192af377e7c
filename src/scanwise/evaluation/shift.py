"""Distribution shift: changes of inputs, predictions and calibration on another set of people."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from scanwise.evaluation import placements
from scanwise.evaluation.estimates import estimate_with_interval, mean_of_sums, row_bounds
from scanwise.evaluation.sample import Estimand, SubjectBootstrap, require_labels
from scanwise.metrics import MetricSpec
from scanwise.records import FloatArray, Metric, Predictions

MAX_STEPS = 30
MAX_COEFFICIENT = 50.0
"""A larger one means that the data is separable, and is no number to report."""
SHARE = MetricSpec(name="share", title="Share", meaning="a share of cases")
MEAN = MetricSpec(
    name="mean",
    title="Mean",
    meaning="a mean over cases",
    bounds=(0.0, np.inf),
    largest=lambda count: float(np.log(count)),
)


def measure_drift(
    before: Predictions, now: Predictions, *, draws: int = 2000, confidence: float = 0.95, seed: int = 0
) -> list[dict[str, Any]]:
    """Differences of inputs and predictions between the people of a run's test side and others, with intervals.

    Returns:
        dictionaries of `what`, `class`, `before`, `before_low`, `before_high`, `now`, `now_low` and `now_high`: the
        share of each true and each predicted class, the mean confidence and entropy, the share flagged as unlike
        training; and, without `before`, the AUROC that tells the two sets apart by how unlike they are.
    """
    samples = [SubjectBootstrap.of(part, part.subjects, draws, seed, within_class=False) for part in (before, now)]
    quantities: list[tuple[str, str, Callable[[Predictions], FloatArray]]] = []
    for index, name in enumerate(now.classes):
        quantities.append(("share truly", name, partial(_label_share, index)))
        quantities.append(("share called", name, partial(_predicted_share, index)))
    quantities += [
        ("mean confidence", "", lambda part: part.probs.max(axis=1)),
        ("mean entropy", "", lambda part: part.entropy),
    ]
    if before.ood_flag is not None and now.ood_flag is not None:
        quantities.append(("share flagged as strange", "", _flagged))
    rows = []
    for what, name, values in quantities:
        spec = MEAN if what == "mean entropy" else SHARE
        estimates = [_mean(spec, sample, values(sample.predictions), confidence) for sample in samples]
        ends = {f"{when}{end}": v for when, part in zip(("before", "now"), estimates, strict=True) for end, v in zip(("", "_low", "_high"), part, strict=True)}  # fmt: skip
        rows.append({"what": what, "class": name, **ends})
    if before.ood is not None and now.ood is not None:
        nan = float("nan")
        value, low, high = shift_auroc(before, now, confidence)
        rows.append({"what": "AUROC of how strange", "class": "", "before": nan, "before_low": nan, "before_high": nan,
                     "now": value, "now_low": low, "now_high": high})  # fmt: skip
    return rows


def shift_auroc(before: Predictions, now: Predictions, confidence: float = 0.95) -> tuple[float, float, float]:
    """AUROC of the out-of-distribution score between two sets of people: 0.5 where they are alike."""
    scores = np.concatenate([np.asarray(before.ood), np.asarray(now.ood)]).astype(np.float64)
    other = np.arange(len(scores)) >= len(before)
    people = np.concatenate([np.char.add("a", before.subjects), np.char.add("b", now.subjects)])
    names, of_subject = np.unique(people, return_inverse=True)
    area = placements.estimate_auroc(scores, other, of_subject, len(names))
    return (area.value, *area.interval(np.char.startswith(names, "b").astype(np.int64), confidence))


def calibration_intercepts_and_slopes(
    predictions: Predictions, *, draws: int = 500, confidence: float = 0.95, seed: int = 0
) -> list[Metric]:
    """Calibration-in-the-large and slope of each class's probability (Cox 1958; Van Calster et al. 2016).

    Both are of the log-odds of a class: in the large, the intercept with slope one (below 0: predicted too often); the
    slope of a logistic regression of the truth on them (below 1: overconfident). Intervals resample all subjects alike, not within
    class, because the prevalence of a class decides the intercept. Left out are classes that all rows have, or none,
    and fits that separate the classes perfectly.
    """
    sample = SubjectBootstrap.of(predictions, predictions.subjects, draws, seed, within_class=False)
    weights = np.concatenate([np.ones((1, len(sample.strata))), sample.drawn, sample.without])[:, sample.of_subject]
    metrics = []
    for index in [1] if len(predictions.classes) == 2 else range(len(predictions.classes)):
        positive = (sample.labels == index).astype(np.float64)
        if not 0 < positive.sum() < len(positive):
            continue
        chances = np.clip(predictions.probs[:, index].astype(np.float64), 1e-6, 1 - 1e-6)
        odds = np.log(chances / (1 - chances))
        large, line = fit_intercepts(odds, positive, weights), fit_slopes(odds, positive, weights)[:, 1]
        for name, values in (("calibration_in_the_large", large), ("calibration_slope", line)):
            if not np.isfinite(values[0]):
                continue
            drawn, without = values[1 : 1 + draws], values[1 + draws :]
            low, high = sample.interval(
                values[0], drawn, np.where(np.isfinite(without), without, values[0]), confidence
            )
            group = f"class={predictions.classes[index]}"
            metrics.append(
                Metric(name, float(values[0]), low, high, predictions.unit, len(predictions), group, split="external")
            )
    return metrics


def fit_intercepts(odds: FloatArray, positive: FloatArray, weights: FloatArray) -> FloatArray:
    """(B,) intercepts of logistic regressions with the log-odds as offset, one for each row of weights (B, N)."""
    coefficients = np.zeros(len(weights))
    for _ in range(MAX_STEPS):
        chances = _logistic_function(coefficients[:, None] + odds)
        spread = (weights * chances * (1 - chances)).sum(axis=1)
        step = (weights * (positive - chances)).sum(axis=1) / np.maximum(spread, 1e-12)
        coefficients = np.clip(coefficients + np.clip(step, -2, 2), -MAX_COEFFICIENT, MAX_COEFFICIENT)
        if np.abs(step).max() < 1e-11:
            break
    return np.where(np.abs(coefficients) < MAX_COEFFICIENT, coefficients, np.nan)


def fit_slopes(odds: FloatArray, positive: FloatArray, weights: FloatArray) -> FloatArray:
    """(B, 2) intercept and slope of logistic regressions of the truth on the log-odds, by Newton's steps."""
    coefficients = np.zeros((len(weights), 2))
    for _ in range(MAX_STEPS):
        chances = _logistic_function(coefficients[:, :1] + coefficients[:, 1:] * odds)
        curve, error = weights * chances * (1 - chances), weights * (positive - chances)
        a, b, c = curve.sum(axis=1), curve @ odds, curve @ odds**2
        first, second = error.sum(axis=1), error @ odds
        size = np.maximum(a * c - b * b, 1e-12)
        step = np.stack([(c * first - b * second) / size, (a * second - b * first) / size], axis=1)
        coefficients = np.clip(coefficients + np.clip(step, -2, 2), -MAX_COEFFICIENT, MAX_COEFFICIENT)
        if np.abs(step).max() < 1e-11:
            break
    return np.where((np.abs(coefficients) < MAX_COEFFICIENT).all(axis=1, keepdims=True), coefficients, np.nan)


def _logistic_function(odds: FloatArray) -> FloatArray:
    from scipy.special import expit

    chances: FloatArray = expit(odds)
    return chances


def _mean(
    spec: MetricSpec, sample: SubjectBootstrap, values: FloatArray, confidence: float
) -> tuple[float, float, float]:
    rows = np.column_stack([np.ones(len(values)), values])
    bounds = row_bounds(spec, sample.probs.shape[1])
    estimand = Estimand(spec, None, partial(_rows, rows), mean_of_sums, row_bounds=bounds)
    return estimate_with_interval(sample, estimand, confidence)


def _rows(rows: FloatArray, _: SubjectBootstrap) -> FloatArray:
    return rows


def _label_share(index: int, predictions: Predictions) -> FloatArray:
    return np.asarray(require_labels(predictions) == index, dtype=np.float64)


def _predicted_share(index: int, predictions: Predictions) -> FloatArray:
    return np.asarray(predictions.predicted == index, dtype=np.float64)


def _flagged(predictions: Predictions) -> FloatArray:
    return np.asarray(predictions.ood_flag, dtype=np.float64)
