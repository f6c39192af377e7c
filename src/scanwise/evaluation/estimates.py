"""Every metric of a set of predictions, and of a network less a baseline, with intervals."""

from collections.abc import Callable, Sequence

import numpy as np

from scanwise.errors import DataError, ShapeError, lookup
from scanwise.evaluation import delong
from scanwise.evaluation.sample import Estimand, SubjectBootstrap
from scanwise.metrics import (
    CLASS_METRICS,
    METRICS,
    OTHER_METRICS,
    AdditiveMetric,
    ConfusionMetric,
    MetricSpec,
    RankMetric,
    confusion_cells,
    macro_average,
    metric_of_confusion,
)
from scanwise.records import FloatArray, Metric, Predictions, StrArray
from scanwise.risk import clopper_pearson

SET_METRICS = ("coverage", "mean_set_size", "empty_share", "singleton_share", "abstain_share")
FLAG_SHARE = "ood_flag_share"
CONFUSION = "confusion"
"""Name of the statistic that all metrics of the confusion matrix share."""


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

    Intervals are BCa (Efron 1987) from draws of whole subjects within class, with the acceleration of several
    samples (Davison and Hinkley 1997, section 5.3), stretched for few subjects (see `SubjectBootstrap.interval`); those
    of areas under the ROC curve are DeLong's over subjects (see `delong`). Where every draw gives the same 0 or 1, the
    interval is Clopper and Pearson's on as many subjects as the metric rests on. They are NaN where no class has two
    subjects, or every draw gives the same other value. Metrics that are undefined, such as the recall of a class without
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
    estimands = _overall_estimands(accuracy_only, ordered)
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
    return metrics


def estimate_with_interval(
    sample: SubjectBootstrap, estimand: Estimand, confidence: float
) -> tuple[float, float, float]:
    """The value of one metric and its interval over subjects."""
    spec = estimand.spec
    if spec.delong:
        area = sample.auroc(estimand.index)
        low, high = delong.delong_interval(area, confidence)
        if np.isfinite(low):
            return area.value, low, high
    value, drawn, without = sample.values(estimand)
    defined = drawn[np.isfinite(drawn)]  # a draw may hold no row that the metric is about
    if not np.allclose(defined, value, rtol=0, atol=1e-9):
        return value, *sample.interval(value, drawn, without, confidence, spec.bounds)
    if spec.proportion and value in (0.0, 1.0):  # resampling only successes says nothing of the next subject
        size = sample.subjects_behind(estimand)
        return value, *clopper_pearson(size if value else 0, size, confidence)
    return value, np.nan, np.nan


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
        estimand = overall_estimand(name)
        first, second = sample.values(estimand), other.values(estimand)
        value, drawn, without = first[0] - second[0], first[1] - second[1], first[2] - second[2]
        if np.isfinite(value):
            low, high = sample.interval(value, drawn, without, confidence)
            differences.append(Metric(f"{name} difference", value, low, high, network.unit, len(network), model=model))
    return differences


def overall_estimand(name: str) -> Estimand:
    """One entry of `metrics.METRICS` over all rows."""
    spec = lookup(METRICS, name, "metric")
    function = spec.function
    if not isinstance(function, AdditiveMetric):
        return Estimand(spec, None, None, macro_average)
    shared = CONFUSION if function.rows is confusion_cells else ""
    return Estimand(spec, None, _statistic_of(function), function.finish, shared)


def mean_of_sums(sums: FloatArray) -> FloatArray:
    """(…,) the second of two sums over the first; NaN where that is zero."""
    means = np.full(sums.shape[:-1], np.nan)
    np.divide(sums[..., 1], sums[..., 0], out=means, where=sums[..., 0] > 0)
    return means


def _overall_estimands(accuracy_only: bool, ordered: bool) -> list[Estimand]:
    """Metrics over all rows, in the order of tables."""
    return [
        overall_estimand(name)
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
    return Estimand(spec, index, _statistic_of(sums), sums.finish, CONFUSION)


def _other_estimands(predictions: Predictions, by_class: bool, ratings: Sequence[float] | None) -> list[Estimand]:
    """Metrics of prediction sets, of flags, and of ratings, as far as there are any."""
    estimands = []
    if predictions.sets is not None:
        estimands += [Estimand(OTHER_METRICS[name], None, _set_statistic(name), mean_of_sums) for name in SET_METRICS]
        coverage, classes = OTHER_METRICS["coverage"], range(len(predictions.classes)) if by_class else ()
        estimands += [Estimand(coverage, c, _set_statistic("coverage", c), mean_of_sums) for c in classes]
    if predictions.ood_flag is not None:
        estimands.append(Estimand(OTHER_METRICS[FLAG_SHARE], None, _flag_statistic, mean_of_sums))
    if ratings is not None:
        estimands.append(_rating_estimand(ratings))
    return estimands


def _statistic_of(metric: AdditiveMetric) -> Callable[[SubjectBootstrap], FloatArray]:
    return lambda sample: metric.statistic(sample.probs, sample.labels)


def _rating_estimand(ratings: Sequence[float]) -> Estimand:
    """The distance from the expected rating (the mean over the probabilities) to that of the true class."""
    of_class = np.asarray(ratings, dtype=np.float64)

    def statistic(sample: SubjectBootstrap) -> FloatArray:
        error = np.abs(sample.probs @ of_class - of_class[sample.labels])
        return np.column_stack([np.ones(len(error)), error])

    return Estimand(OTHER_METRICS["cdr_error"], None, statistic, mean_of_sums)


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
