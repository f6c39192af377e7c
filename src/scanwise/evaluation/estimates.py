"""Every metric of some predictions, and of a network less a rival, with intervals."""

from collections.abc import Callable, Sequence

import numpy as np

from scanwise import metrics
from scanwise.errors import DataError, ShapeError, lookup
from scanwise.evaluation import delong
from scanwise.evaluation.sample import ANYWHERE, RANKED, Bounds, Estimand, SubjectBootstrap
from scanwise.metrics.sums import confusion_cells
from scanwise.records import FloatArray, Metric, Predictions, StrArray
from scanwise.risk import clopper_pearson

LEAKY_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "auroc")
"""What may be said of a leaky protocol, besides precision and recall; it leaves out all that calls for calibration."""

MEANS = ("macro_precision", "weighted_precision", "macro_specificity", "weighted_specificity")
OF_STAGES = ("quadratic_kappa", "stage_error")
OVERALL = (
    *LEAKY_METRICS, *MEANS, "average_precision", "sensitivity_at_90", "matthews", "kappa", *OF_STAGES, "nll", "brier", "ece",
)  # fmt: skip
BY_CLASS = ("precision", "recall", "f1", "specificity", "auroc", "average_precision", "sensitivity_at_90")
CONFUSION = "confusion"
OF_SETS = ("coverage", "mean_set_size", "empty_share", "singleton_share", "abstain_share")
FLAGGED = "ood_flag_share"
SHARES = {*LEAKY_METRICS, *MEANS, *BY_CLASS, *OF_SETS, FLAGGED}
SHARES |= {"sensitivity", "positive_predictive_value", "negative_predictive_value"}
SHARES -= {"mean_set_size"}
"""Metrics between 0 and 1, whose interval is Clopper and Pearson's where every draw gives 0, or every draw 1."""
AGREEMENTS = ("matthews", "kappa", "quadratic_kappa")
LOSSES = ("nll", "brier", "stage_error", "cdr_error", "mean_set_size")


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
    """Every metric of some predictions, overall and by class, each with an interval over subjects.

    Intervals are BCa (Efron 1987) from draws of whole subjects within class, with the acceleration of several
    samples (Davison and Hinkley 1997, section 5.3), stretched for few subjects (see `SubjectBootstrap.interval`); those of areas
    under the ROC curve are DeLong's over subjects (see `delong`). Where every draw gives the same 0 or 1, the interval is
    Clopper and Pearson's on as many subjects as the metric rests on. They are NaN where no class has two subjects, or
    every draw gives the same other value. Metrics that are undefined, such as the recall of a class without scans, are
    left out.

    Args:
        predictions: what is said of some scans, or of some subjects, with labels.
        subjects: (N,) the subject of each row.
        draws: bootstrap draws.
        confidence: of every interval.
        seed: of the draws; the same seed gives the same intervals.
        names: only these metrics.
        accuracy_only: leave out metrics that rest on probabilities being calibrated, and sets: for leaky protocols.
        ordered: whether classes are stages in order, so that quadratic kappa and stage error mean something.
        by_class: measure each class besides; of many classes that takes the longest.
        ratings: (C,) the Clinical Dementia Rating of each class; the error of the expected rating is measured then.

    Raises:
        DataError: if labels are not known, or a row has no subject.
        ShapeError: if subjects and predictions differ in length.
    """
    sample = SubjectBootstrap.of(predictions, subjects, draws, seed)
    asked = [
        question for question in _questions(predictions, accuracy_only, ordered) if by_class or question.index is None
    ]
    if ratings is not None and not accuracy_only:
        asked.append(_of_ratings(ratings))
    found = []
    for question in asked:
        if names is not None and question.name not in names:
            continue
        value, low, high = estimate_with_interval(sample, question, confidence)
        if not np.isfinite(value):
            continue
        group = "" if question.index is None else f"class={predictions.classes[question.index]}"
        count = question.count(sample)
        found.append(Metric(question.name, value, low, high, predictions.unit, count, group))
    return found


def estimate_with_interval(
    sample: SubjectBootstrap, question: Estimand, confidence: float
) -> tuple[float, float, float]:
    """The value of one metric and its interval over subjects."""
    if question.name == "auroc":
        area = sample.area(question.index)
        low, high = delong.delong_interval(area, confidence)
        if np.isfinite(low):
            return area.value, low, high
    value, drawn, without = sample.answer(question)
    known = drawn[np.isfinite(drawn)]  # a draw may hold no row that the metric is about
    if not np.allclose(known, value, rtol=0, atol=1e-9):
        return value, *sample.interval(value, drawn, without, confidence, metric_bounds(question.name))
    if question.name in SHARES and value in (0.0, 1.0):  # resampling only successes says nothing of the next subject
        size = sample.resting_on(question)
        return value, *clopper_pearson(size if value else 0, size, confidence)
    return value, np.nan, np.nan


def metric_bounds(name: str) -> Bounds:
    """Where a metric can lie at all."""
    if name in SHARES or name in ("ece", "share"):
        return 0.0, 1.0
    if name in AGREEMENTS:
        return -1.0, 1.0
    return (0.0, np.inf) if name in LOSSES else ANYWHERE


def paired_difference(
    network: Predictions,
    rival: Predictions,
    *,
    names: Sequence[str] = ("accuracy", "balanced_accuracy", "macro_f1", "auroc"),
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    model: str = "rival",
) -> list[Metric]:
    """Network minus rival in each metric, with intervals from the same draws of subjects for both.

    Args:
        network: predictions of the network.
        rival: predictions of the rival for the same rows.
        names: entries of `metrics.METRICS`.
        draws: bootstrap draws.
        confidence: of every interval.
        seed: of the draws.
        model: name of the rival.

    Raises:
        DataError: if the two are not about the same rows with the same labels.
    """
    sample = SubjectBootstrap.of(network, network.subjects, draws, seed)
    same = len(network) == len(rival) and (network.subjects == rival.subjects).all()
    if not (same and (network.scans == rival.scans).all() and np.array_equal(network.labels, rival.labels)):  # type: ignore[arg-type]
        raise DataError(
            "A paired difference needs the same rows, in the same order, with the same labels on both sides."
        )
    other = SubjectBootstrap.of(rival, rival.subjects, draws, seed)
    found = []
    for name in names:
        question = overall_estimand(name)
        mine, theirs = sample.answer(question), other.answer(question)
        value, drawn, without = mine[0] - theirs[0], mine[1] - theirs[1], mine[2] - theirs[2]
        if np.isfinite(value):
            low, high = sample.interval(value, drawn, without, confidence)
            found.append(Metric(f"{name} difference", value, low, high, network.unit, len(network), model=model))
    return found


def _questions(predictions: Predictions, accuracy_only: bool, ordered: bool) -> list[Estimand]:
    """All that can be asked of these predictions, in the order of tables."""
    names = LEAKY_METRICS if accuracy_only else OVERALL
    asked = [overall_estimand(name) for name in names if name not in OF_STAGES or ordered]
    for index in range(len(predictions.classes)):
        by_class = [name for name in BY_CLASS if not accuracy_only or name in ("precision", "recall", "f1", "auroc")]
        asked += [_of_class(name, index) for name in by_class]
    if predictions.sets is not None and not accuracy_only:
        asked += [Estimand(name, None, _of_sets(name), mean_of_sums) for name in OF_SETS]
        asked += [
            Estimand("coverage", c, _of_sets("coverage", c), mean_of_sums, True)
            for c in range(len(predictions.classes))
        ]
    if predictions.ood_flag is not None and not accuracy_only:
        asked.append(Estimand(FLAGGED, None, _flags, mean_of_sums))
    return asked


def overall_estimand(name: str) -> Estimand:
    """The question of one entry of `metrics.METRICS` about all rows."""
    if name in RANKED:
        return Estimand(name, None, None, metrics.macro_average)
    metric = lookup(metrics.ADDITIVE_METRICS, name, "metric")
    shared = CONFUSION if metric.rows is confusion_cells else ""
    statistic = lambda sample: metric.statistic(sample.probs, sample.labels)  # noqa: E731
    return Estimand(name, None, statistic, metric.finish, shared=shared)


def _of_class(name: str, index: int) -> Estimand:
    if name in RANKED:
        return Estimand(name, index, None, lambda of_classes: of_classes[..., index], True)
    finish = {
        "precision": metrics.precision_from_confusion,
        "recall": metrics.recall_from_confusion,
        "f1": metrics.f1_from_confusion,
        "specificity": metrics.specificity_from_confusion,
    }[name]
    sums = metrics.metric_of_confusion(lambda matrix: np.where(matrix.sum(-1) > 0, finish(matrix), np.nan)[..., index])
    return Estimand(
        name, index, lambda sample: sums.statistic(sample.probs, sample.labels), sums.finish, True, CONFUSION
    )


def _of_ratings(ratings: Sequence[float]) -> Estimand:
    """How far the expected rating (the mean over the probabilities) is from that of the true class."""
    known = np.asarray(ratings, dtype=np.float64)

    def statistic(sample: SubjectBootstrap) -> FloatArray:
        error = np.abs(sample.probs @ known - known[sample.labels])
        return np.column_stack([np.ones(len(error)), error])

    return Estimand("cdr_error", None, statistic, mean_of_sums)


def _of_sets(name: str, index: int | None = None) -> Callable[[SubjectBootstrap], FloatArray]:
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


def _flags(sample: SubjectBootstrap) -> FloatArray:
    """Which rows are taken for scans of another kind."""
    flags = sample.predictions.ood_flag
    return np.column_stack([np.ones(len(sample.labels)), np.zeros(len(sample.labels)) if flags is None else flags])


def mean_of_sums(sums: FloatArray) -> FloatArray:
    """(…,) the second of two sums over the first; NaN where that is zero."""
    means = np.full(sums.shape[:-1], np.nan)
    np.divide(sums[..., 1], sums[..., 0], out=means, where=sums[..., 0] > 0)
    return means
