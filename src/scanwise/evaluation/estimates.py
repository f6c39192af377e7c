"""Every metric of a set of predictions, and of a network less a baseline, with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from scanwise.errors import DataError, ShapeError, lookup
from scanwise.evaluation.calibrated_range import calibrated_errors
from scanwise.evaluation.sample import Estimand, SubjectBootstrap
from scanwise.evaluation.strata import Contributions, combine, shares_of_rows, sum_by
from scanwise.metrics import (
    CLASS_METRICS,
    METRICS,
    OTHER_METRICS,
    AdditiveMetric,
    ConfusionMetric,
    MetricSpec,
    RankMetric,
    macro_average,
    metric_of_confusion,
)
from scanwise.records import FloatArray, Metric, Predictions, StrArray

SET_METRICS = ("coverage", "mean_set_size", "empty_share", "singleton_share", "abstain_share")
FLAG_SHARE = "ood_flag_share"
CONFUSION = "confusion"
"""Name of the statistic that all metrics of the confusion matrix share."""
ECE, CALIBRATED_ECE = "ece", "calibrated_ece"


def measure_predictions(
    predictions: Predictions,
    *,
    subjects: StrArray,
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    names: Sequence[str] | None = None,
    accuracy_only: bool = False,
    ordered: bool = False,
    by_class: bool = True,
    ratings: Sequence[float] | None = None,
) -> list[Metric]:
    """Every metric of a set of predictions, overall and by class, each with an interval over subjects.

    Metrics of the confusion matrix, means of bounded values and areas under the ROC curve have intervals put together class
    by class (see `strata`); they hold for few subjects and for unequal numbers of scans. Other metrics that rank have that of
    a share of the subjects on the rarer side, with the spread of draws of whole subjects. Log loss has a BCa interval
    (Efron 1987) from such draws within class, with the acceleration of several samples (Davison and Hinkley 1997, section
    5.3), stretched for few subjects (see `SubjectBootstrap.interval`). The calibration error has the interval
    that chance leaves it, and beside it, as `CALIBRATED_ECE`, its mean and range if the classifier were calibrated. An
    interval is NaN where it cannot be defined: a mean without bounds, of one subject or without any spread. Metrics that are undefined, such as the recall of a class without
    scans, are left out.

    Args:
        predictions: of scans or of subjects, with labels.
        subjects: (N,) the subject of each row.
        draws: bootstrap draws.
        confidence: of every interval.
        seed: of the draws; the same seed gives the same intervals.
        names: only these metrics.
        accuracy_only: only metrics with `MetricSpec.leaky_protocol`, and no prediction sets: for leaky protocols.
        ordered: whether classes are stages in order, so that quadratic kappa and stage error mean something.
        by_class: measure each class besides; of many classes that takes the longest.
        ratings: (C,) the Clinical Dementia Rating of each class; the error of the expected rating is measured then.

    Raises:
        DataError: if labels are missing, or a row has no subject.
        ShapeError: if subjects and predictions differ in length.
    """
    sample = SubjectBootstrap.of(predictions, subjects, draws, seed)
    estimands = _overall_estimands(len(predictions.classes), accuracy_only, ordered)
    if by_class:
        estimands += _class_estimands(len(predictions.classes), accuracy_only)
    if not accuracy_only:
        estimands += _other_estimands(predictions, by_class, ratings)
    metrics = []
    for estimand in estimands:
        if names is not None and estimand.spec.name not in names:
            continue
        value, low, high = estimate_with_interval(sample, estimand, confidence)
        if not np.isfinite(value):
            continue
        group = "" if estimand.index is None else f"class={predictions.classes[estimand.index]}"
        count = estimand.count(sample)
        metrics.append(Metric(estimand.spec.name, value, low, high, predictions.unit, count, group))
        if estimand.spec.name == ECE:
            metrics[-1:] = [
                m
                for m in _calibration_errors(metrics[-1], sample, draws, confidence)
                if names is None or m.name in names
            ]
    return metrics


def _calibration_errors(observed: Metric, sample: SubjectBootstrap, draws: int, confidence: float) -> list[Metric]:
    """The calibration error with its interval, and what a calibrated classifier would show on these rows.

    The observed error is at most the true one plus that of chance, and at least the true one less that of chance: the
    absolute gaps of each bin obey the triangle inequality. So the interval holds 0 exactly where chance explains the error.
    """
    errors = calibrated_errors(sample.probs, sample.of_subject, draws, sample.seed)
    chance = float(np.quantile(errors, confidence))
    low, high = (float(np.quantile(errors, (1 + sign * confidence) / 2)) for sign in (-1, 1))
    expected = replace(observed, name=CALIBRATED_ECE, value=float(errors.mean()), low=low, high=high)
    return [replace(observed, low=max(0.0, observed.value - chance), high=min(1.0, observed.value + chance)), expected]


def estimate_with_interval(
    sample: SubjectBootstrap, estimand: Estimand, confidence: float
) -> tuple[float, float, float]:
    """The value of one metric and its interval over subjects."""
    spec = estimand.spec
    if estimand.cells is not None:
        value = float(estimand.cells(sample.cells.matrix))
        ends = sample.cells.interval(estimand.cells, confidence) if np.isfinite(value) else (np.nan, np.nan)
        return value, *_within(ends, spec.bounds)
    if spec.placements:
        area = sample.auroc(estimand.index)
        return area.value, *area.interval(sample.strata, confidence)
    if estimand.row_bounds is not None and estimand.statistic is not None:
        return _bounded_mean(sample, estimand.statistic(sample), estimand.row_bounds, confidence)
    value, drawn, without = sample.values(estimand)
    if not np.isfinite(value):
        return value, np.nan, np.nan
    if estimand.statistic is None:
        return value, *sample.rank_interval(value, drawn, without, estimand.index, confidence)
    if np.allclose(drawn, value, rtol=0, atol=1e-9):
        return value, np.nan, np.nan
    return value, *sample.interval(value, drawn, without, confidence, spec.bounds)


def _within(ends: tuple[float, float], bounds: tuple[float, float]) -> tuple[float, float]:
    return max(ends[0], bounds[0]), min(ends[1], bounds[1])


def _bounded_mean(
    sample: SubjectBootstrap, rows: FloatArray, bounds: tuple[float, float], confidence: float
) -> tuple[float, float, float]:
    """The mean of values within bounds, from rows of weight and weighted value (N, 2)."""
    weights, values = rows[:, 0], rows[:, 1]
    total = weights.sum()
    if total == 0:
        return np.nan, np.nan, np.nan
    value = float(values.sum() / total)
    low, high = (weights * bound for bound in bounds)
    middle = weights * value  # a class adds what it is above or below the mean
    least, actual, most = ((part - middle) / total for part in (low, values, high))
    own = Contributions.of_rows(least, actual, most, sample.of_subject, sample.strata)
    limits = own.limits(confidence)
    below, above = limits.span * (limits.share - limits.low), limits.span * (limits.high - limits.share)
    shares = (
        sum_by(sample.strata, own.actual, len(below)),
        sum_by(sample.strata[sample.of_subject], weights / total, len(below)),
    )
    mixed = _mixed(*shares, shares_of_rows(sample.of_subject, sample.strata, confidence))
    ends = combine(value, np.concatenate([below, -mixed]), np.concatenate([above, mixed]))
    return value, *_within(ends, bounds)


def _mixed(excess: FloatArray, weight: FloatArray, few: FloatArray) -> FloatArray:
    """(2 S,) change of a mean if the rows of each class were as few, and as many, as other subjects might have.

    Args:
        excess: (S,) what each class adds to the mean, by being above it.
        weight: (S,) its share of all rows.
        few: (S,) of `shares_of_rows`.
    """
    return np.concatenate([(scale - 1) * excess / (1 + (scale - 1) * weight) for scale in (few, 1 / few)])


def paired_difference(
    network: Predictions,
    baseline: Predictions,
    *,
    names: Sequence[str] = ("accuracy", "balanced_accuracy", "macro_f1", "auroc"),
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    model: str = "baseline",
) -> list[Metric]:
    """Network minus baseline in each metric, with intervals from the same draws of subjects for both.

    Args:
        network: predictions of the network.
        baseline: predictions of the baseline for the same rows.
        names: entries of `metrics.METRICS`.
        draws: bootstrap draws.
        confidence: of every interval.
        seed: of the draws.
        model: name of the baseline.

    Raises:
        DataError: if the two are not about the same rows with the same labels.
    """
    sample = SubjectBootstrap.of(network, network.subjects, draws, seed)
    if not (network.has_rows_of(baseline) and np.array_equal(network.labels, baseline.labels)):  # type: ignore[arg-type]
        raise DataError(
            "A paired difference needs the same rows, in the same order, with the same labels on both sides."
        )
    other = SubjectBootstrap.of(baseline, baseline.subjects, draws, seed)
    differences = []
    for name in names:
        value, low, high = _difference(sample, other, overall_estimand(name, len(network.classes)), confidence)
        if np.isfinite(value):
            differences.append(Metric(f"{name} difference", value, low, high, network.unit, len(network), model=model))
    return differences


def _difference(
    sample: SubjectBootstrap, other: SubjectBootstrap, estimand: Estimand, confidence: float
) -> tuple[float, float, float]:
    """One metric of one sample less that of another of the same rows, and its interval."""
    if estimand.cells is not None:
        return sample.cells.gap_to(other.cells, estimand.cells, confidence)
    if estimand.spec.placements:
        return sample.auroc(estimand.index).gap_to(other.auroc(estimand.index), sample.strata, confidence)
    first, second = sample.values(estimand), other.values(estimand)
    value, drawn, without = first[0] - second[0], first[1] - second[1], first[2] - second[2]
    if not np.isfinite(value):
        return value, np.nan, np.nan
    return value, *sample.interval(value, drawn, without, confidence)


def overall_estimand(name: str, num_classes: int = 2) -> Estimand:
    """One entry of `metrics.METRICS` over all rows, of which there are C classes."""
    spec = lookup(METRICS, name, "metric")
    function = spec.function
    if not isinstance(function, AdditiveMetric):
        return Estimand(spec, None, None, macro_average)
    statistic, cells = _statistic_of(function), function.cells
    bounds = row_bounds(spec, num_classes) if function.is_mean else None
    return Estimand(spec, None, statistic, function.finish, "" if cells is None else CONFUSION, cells, bounds)


def row_bounds(spec: MetricSpec, num_classes: int) -> tuple[float, float] | None:
    """Smallest and largest value of a row of a mean; None where rows are not bounded."""
    low, high = spec.bounds
    high = high if spec.largest is None else spec.largest(num_classes)
    return (low, high) if np.isfinite(high - low) else None


def mean_of_sums(sums: FloatArray) -> FloatArray:
    """(…,) the second of two sums over the first; NaN where that is zero."""
    means = np.full(sums.shape[:-1], np.nan)
    np.divide(sums[..., 1], sums[..., 0], out=means, where=sums[..., 0] > 0)
    return means


def _overall_estimands(num_classes: int, accuracy_only: bool, ordered: bool) -> list[Estimand]:
    """Metrics over all rows, in the order of tables."""
    return [
        overall_estimand(name, num_classes)
        for name, spec in METRICS.items()
        if (ordered or not spec.needs_order) and (spec.leaky_protocol or not accuracy_only)
    ]


def _class_estimands(num_classes: int, accuracy_only: bool) -> list[Estimand]:
    """Metrics of each class, in the order of tables."""
    specs = [*CLASS_METRICS.values(), *(spec for spec in METRICS.values() if isinstance(spec.function, RankMetric))]
    specs = [spec for spec in specs if spec.leaky_protocol or not accuracy_only]
    return [_class_estimand(spec, index) for index in range(num_classes) for spec in specs]


def _class_estimand(spec: MetricSpec, index: int) -> Estimand:
    if not isinstance(spec.function, ConfusionMetric):
        return Estimand(spec, index, None, lambda of_classes: of_classes[..., index])
    by_class = spec.function.by_class
    sums = metric_of_confusion(lambda matrix: np.where(matrix.sum(-1) > 0, by_class(matrix), np.nan)[..., index])
    return Estimand(spec, index, _statistic_of(sums), sums.finish, CONFUSION, sums.cells)


def _other_estimands(predictions: Predictions, by_class: bool, ratings: Sequence[float] | None) -> list[Estimand]:
    """Metrics of prediction sets, of flags, and of ratings, as far as there are any."""
    count = len(predictions.classes)
    estimands = []
    if predictions.sets is not None:
        estimands += [_mean_estimand(name, _set_statistic(name), count) for name in SET_METRICS]
        classes = range(count) if by_class else ()
        estimands += [
            _mean_estimand(name, _set_statistic(name, c), count, c) for c in classes for name in SET_METRICS[:2]
        ]
    if predictions.ood_flag is not None:
        estimands.append(_mean_estimand(FLAG_SHARE, _flag_statistic, count))
    if ratings is not None:
        estimands.append(_rating_estimand(ratings))
    return estimands


def _mean_estimand(
    name: str, statistic: Callable[[SubjectBootstrap], FloatArray], num_classes: int, index: int | None = None
) -> Estimand:
    spec = OTHER_METRICS[name]
    return Estimand(spec, index, statistic, mean_of_sums, row_bounds=row_bounds(spec, num_classes))


def _statistic_of(metric: AdditiveMetric) -> Callable[[SubjectBootstrap], FloatArray]:
    return lambda sample: metric.statistic(sample.probs, sample.labels)


def _rating_estimand(ratings: Sequence[float]) -> Estimand:
    """The distance from the expected rating (the mean over the probabilities) to that of the true class."""
    of_class = np.asarray(ratings, dtype=np.float64)

    def statistic(sample: SubjectBootstrap) -> FloatArray:
        error = np.abs(sample.probs @ of_class - of_class[sample.labels])
        return np.column_stack([np.ones(len(error)), error])

    bounds = 0.0, float(np.ptp(of_class))
    return Estimand(OTHER_METRICS["cdr_error"], None, statistic, mean_of_sums, row_bounds=bounds)


def _set_statistic(name: str, index: int | None = None) -> Callable[[SubjectBootstrap], FloatArray]:
    def statistic(sample: SubjectBootstrap) -> FloatArray:
        sets = sample.predictions.sets
        if sets is None or sets.shape != sample.probs.shape:
            raise ShapeError(f"Prediction sets must be of shape {sample.probs.shape}.")
        size = sets.sum(axis=1)
        values = {
            "coverage": sets[np.arange(len(sets)), sample.labels],
            "mean_set_size": size,
            "empty_share": size == 0,
            "singleton_share": size == 1,
            "abstain_share": sample.predictions.abstain,
        }[name]
        weight = np.ones(len(sets)) if index is None else (sample.labels == index).astype(np.float64)
        return np.column_stack([weight, weight * values])

    return statistic


def _flag_statistic(sample: SubjectBootstrap) -> FloatArray:
    """Rows that are flagged as unlike training."""
    flags = sample.predictions.ood_flag
    return np.column_stack([np.ones(len(sample.labels)), np.zeros(len(sample.labels)) if flags is None else flags])
