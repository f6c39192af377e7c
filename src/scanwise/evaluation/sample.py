"""Labelled rows, resampled by subject: values, draws and intervals of any metric."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from scanwise.errors import DataError
from scanwise.evaluation import placements
from scanwise.evaluation.strata import Cells, PredictedCells, limits_of_shares
from scanwise.metrics import UNBOUNDED, Bounds, MetricSpec, check_metric_inputs
from scanwise.pooling import common_label, subject_codes
from scanwise.records import FloatArray, IntArray, Predictions, StrArray
from scanwise.risk import exact_fraction

MAX_GROUPS = 500
"""Groups of subjects left out, one at a time, to estimate the skewness of an estimate; at most this many."""


@dataclass(frozen=True, slots=True)
class Estimand:
    """A metric of all rows, or of one class.

    Attributes:
        spec: the metric.
        index: the class, or None for all rows.
        statistic: sample to (N, D), of which sums suffice; None for metrics that rank.
        finish: (…, D) sums, or for metrics that rank their values of each class (…, C), to values (…).
        shared: name of the statistic where other estimands have the same one, so that it is summed once.
        cells: (…, C, C) confusion matrices to values (…,), where the metric follows from them.
        row_bounds: smallest and largest value of a row, of a mean whose statistic is the weight and the weighted value (N, 2).
    """

    spec: MetricSpec
    index: int | None
    statistic: Callable[["SubjectBootstrap"], FloatArray] | None
    finish: Callable[[FloatArray], FloatArray]
    shared: str = ""
    cells: Cells | None = None
    row_bounds: Bounds | None = None

    def count(self, sample: "SubjectBootstrap") -> int:
        """Number of units that the metric is about."""
        return len(sample.labels) if self.index is None else int((sample.labels == self.index).sum())


@dataclass(frozen=True, slots=True)
class SubjectBootstrap:
    """Rows with labels, and the weights from resampling their subjects.

    Attributes:
        probs: (N, C).
        labels: (N,).
        predictions: source of both.
        of_subject: (N,) the index of each row's subject.
        strata: (K,) the class of each subject, its most common label, counted from 0 over the classes present.
        drawn: (B, K) how often each draw has each subject.
        without: (L, K) weights with one group of subjects left out, the others of its class made up for it.
        left: (L,) the class of that group; classes of one subject are joined with the next smallest for draws.
        sizes: (L,) rows of that group.
        seed: of the draws.
        cache: results that take long and that several estimands need: metrics that rank, and shared sums.
    """

    probs: FloatArray
    labels: IntArray
    predictions: Predictions
    of_subject: IntArray
    strata: IntArray
    drawn: FloatArray
    without: FloatArray
    left: IntArray
    sizes: IntArray
    seed: int
    cache: dict[str, FloatArray] = field(default_factory=dict)

    @classmethod
    def of(
        cls, predictions: Predictions, subjects: StrArray, draws: int, seed: int, *, within_class: bool = True
    ) -> Self:
        """Rows with their draws: within class, or over all subjects where the prevalence of a class is itself in question."""
        if draws < 2:
            raise DataError(f"An interval needs draws; {draws} are too few. The default is 2000.")
        probs, labels, _ = check_metric_inputs(predictions.probs, require_labels(predictions))
        of_subject, _ = subject_codes(subjects, len(labels))
        classes = common_label(labels, of_subject, probs.shape[1])
        strata = np.unique(classes, return_inverse=True)[1] if within_class else np.zeros_like(classes)
        joined = _join_lone(strata)
        without, left, sizes = _leave_out_weights(joined, np.bincount(of_subject))
        drawn = _draw_counts(joined, draws, np.random.default_rng(seed))
        return cls(probs, labels, predictions, of_subject, strata, drawn, without, left, sizes, seed)

    @property
    def cells(self) -> PredictedCells:
        """The rows in the cells of the confusion matrix."""
        return PredictedCells(self.labels, self.probs.argmax(axis=1), self.probs.shape[1], self.of_subject, self.strata)

    def values(self, estimand: Estimand) -> tuple[float, FloatArray, FloatArray]:
        """The value, its (B,) values over draws and its (L,) values with groups left out."""
        if estimand.statistic is None:
            values = estimand.finish(self._rank_values(estimand.spec))
        else:
            values = estimand.finish(self._sums(estimand.statistic, estimand.shared))
        split = 1 + len(self.drawn)
        return float(values[0]), values[1:split], values[split:]

    def _sums(self, statistic: Callable[["SubjectBootstrap"], FloatArray], shared: str) -> FloatArray:
        """(1 + B + L, D) a statistic summed over all rows, over each draw, and with each group left out."""
        if shared in self.cache:
            return self.cache[shared]
        rows = statistic(self)
        by_subject = np.zeros((len(self.strata), rows.shape[1]))
        np.add.at(by_subject, self.of_subject, rows)
        sums = np.concatenate(
            [by_subject.sum(axis=0, keepdims=True), self.drawn @ by_subject, self.without @ by_subject]
        )
        if shared:
            self.cache[shared] = sums
        return sums

    def auroc(self, index: int | None) -> placements.AurocEstimate:
        """The area under the ROC curve of a class, or of all, with each subject's contribution."""
        of_subject, count = self.of_subject, len(self.strata)
        if index is None:
            return placements.estimate_macro_auroc(self.probs, self.labels, of_subject, count)
        return placements.estimate_auroc(self.probs[:, index], self.labels == index, of_subject, count)

    def _rank_values(self, spec: MetricSpec) -> FloatArray:
        """(1 + B + L, C) a metric that ranks, of each class against the rest."""
        if spec.name not in self.cache:
            weights = np.concatenate([self.drawn, self.without]).astype(np.float32)[:, self.of_subject]
            value = spec.by_class(self.probs, self.labels)[None]
            self.cache[spec.name] = np.concatenate([value, spec.by_class(self.probs, self.labels, weights)])
        return self.cache[spec.name]

    def interval(
        self, value: float, drawn: FloatArray, without: FloatArray, confidence: float, bounds: Bounds = UNBOUNDED
    ) -> tuple[float, float]:
        """The BCa interval, stretched for few subjects and kept within bounds; NaN where no class has two subjects.

        Draws of n subjects spread too little, by the root of (n - 1) / n in each class, and a spread that is itself estimated
        calls for Student's t in place of the normal, with the degrees of freedom of the classes as their influences count
        (Satterthwaite 1946). Hesterberg (2015) takes wider percentiles for both. But no percentile lies beyond the worst
        draw, and of ten subjects with a heavy tail that is too near; so it is the distance from the value that is stretched.
        """
        from scipy.special import ndtr, ndtri, stdtrit

        drawn = drawn[np.isfinite(drawn)]
        if not len(self.left) or not len(drawn):
            return np.nan, np.nan
        influences = _influences(without, self.left)
        factor, freedom = self._correction(influences)
        level = 1 - (1 - float(exact_fraction(confidence, "confidence"))) / 2
        below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
        bias = ndtri(np.clip(below, 1 / (len(drawn) + 1), 1 - 1 / (len(drawn) + 1)))
        z = bias + ndtri(level) * np.array([-1, 1])
        share = ndtr(bias + z / np.maximum(1 - _acceleration(influences) * z, 0.1))
        stretch = stdtrit(freedom, level) / ndtri(level) * np.sqrt(factor)
        low, high = np.clip(value + stretch * (np.quantile(drawn, share) - value), *bounds)
        return float(min(low, value)), float(max(high, value))

    def rank_interval(
        self, value: float, drawn: FloatArray, without: FloatArray, index: int | None, confidence: float
    ) -> tuple[float, float]:
        """The interval of a metric that ranks, between 0 and 1: that of a share of the subjects on the rarer side.

        Its spread comes from the draws. Percentiles of draws of three subjects, or of a single one, tell too little.
        """
        count, drawn = self.rarest(index), drawn[np.isfinite(drawn)]
        variance = float(drawn.var()) if count > 1 + 1e-9 and len(drawn) else 0.0
        _, freedom = self._correction(_influences(without, self.left)) if len(self.left) else (1.0, 1.0)
        mean, spread, size, free = (np.array([n]) for n in (value, variance, count, min(freedom, max(count - 1, 0.5))))
        low, high = limits_of_shares(mean, spread, size, free, confidence)
        return float(low[0]), float(high[0])

    def _correction(self, influences: FloatArray) -> tuple[float, float]:
        """Factor by which the variance of draws is too small, and degrees of freedom, from the variance of each class.

        A class of subjects with unequal numbers of scans has as many subjects as they count for.
        """
        size = int(self.left.max()) + 1
        sums = [np.bincount(self.left, self.sizes.astype(np.float64) ** power, size) for power in (1, 2, 4)]
        first, second, fourth = (np.where(part > 0, part, 1.0) for part in sums)
        free = np.maximum(first**2 / second - 1, 0.5)
        variance = np.bincount(self.left, influences**2, size)
        variance = variance if variance.sum() > 0 else second
        corrected = variance * (free + 1) / free
        freedom = corrected.sum() ** 2 / (corrected**2 / np.maximum(second**2 / fourth - 1, 0.5)).sum()
        return float(corrected.sum() / variance.sum()), float(freedom)

    def rarest(self, index: int | None) -> float:
        """Effective number of subjects on the smaller side of a class against the rest; of the smallest class where it is None."""
        present = np.unique(self.labels) if index is None else [index]
        sides = [rows for one_class in present for rows in (self.labels == one_class, self.labels != one_class)]
        counts = [np.bincount(self.of_subject[rows]).astype(np.float64) for rows in sides]
        return float(min((scans.sum() ** 2 / (scans**2).sum() for scans in counts if scans.any()), default=0.0))


def require_labels(predictions: Predictions) -> IntArray:
    """The labels of predictions.

    Raises:
        DataError: if there are none.
    """
    if predictions.labels is None:
        raise DataError("These predictions have no labels to be measured against.")
    return predictions.labels


def _draw_counts(classes: IntArray, draws: int, random: np.random.Generator) -> FloatArray:
    """(B, K) how often each of K subjects is drawn, as many of each class as there are."""
    counts = np.zeros((draws, len(classes)))
    offset = np.arange(draws)[:, None]
    for index in np.unique(classes):
        members = np.flatnonzero(classes == index)
        chosen = random.integers(len(members), size=(draws, len(members)))
        flat = np.bincount((chosen + offset * len(members)).ravel(), minlength=draws * len(members))
        counts[:, members] = flat.reshape(draws, len(members))
    return counts


def _join_lone(strata: IntArray) -> IntArray:
    """(K,) the classes for draws: one of a single subject, which shows no spread, joined with the next smallest."""
    counts = np.bincount(strata)
    order = np.argsort(counts, kind="stable")
    lone = order[: int((counts == 1).sum())]
    return np.where(np.isin(strata, lone), order[min(len(lone), len(order) - 1)], strata)


def _leave_out_weights(classes: IntArray, scans: IntArray) -> tuple[FloatArray, IntArray, IntArray]:
    """(L, K) weights that leave out a group of subjects of one class each and make up for it by the others of that class.

    Groups are single subjects up to `MAX_GROUPS` subjects, and a few subjects each beyond. (L,) their class, and (L,) their
    scans, of `scans` (K,).
    """
    size = -(-len(classes) // MAX_GROUPS)
    rows, left, sizes = [], [], []
    for index in np.unique(classes):
        members = np.flatnonzero(classes == index)
        for group in np.array_split(members, -(-len(members) // size)):
            if len(group) < len(members):
                row = np.ones(len(classes))
                row[members] = len(members) / (len(members) - len(group))
                row[group] = 0
                rows.append(row)
                left.append(index)
                sizes.append(scans[group].sum())
    weights = np.array(rows).reshape(len(rows), len(classes))
    return weights, np.array(left, dtype=np.int64), np.array(sizes, dtype=np.int64)


def _influences(without: FloatArray, left: IntArray) -> FloatArray:
    """(L,) influence of each group on the value, from the values without it; 0 where that is not defined."""
    count = np.bincount(left)
    mean = np.bincount(left, without, len(count)) / np.maximum(count, 1)
    return np.nan_to_num((mean[left] - without) * ((count - 1) / np.maximum(count, 1))[left], nan=0.0)


def _acceleration(influences: FloatArray) -> float:
    """The acceleration of BCa: a sixth of the skewness of the influences, over all classes."""
    spread = float((influences**2).sum()) ** 1.5
    return float((influences**3).sum()) / (6 * spread) if spread > 0 else 0.0
