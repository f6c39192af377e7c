"""Labelled rows, resampled by subject: values, draws and intervals of any metric."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from scanwise.errors import DataError
from scanwise.evaluation import delong
from scanwise.metrics import UNBOUNDED, Bounds, MetricSpec, check_metric_inputs
from scanwise.pooling import common_label, subject_codes
from scanwise.records import BoolArray, FloatArray, IntArray, Predictions, StrArray
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
        among: (N,) of a share, the rows that it is a share of, where `spec.rests_on` does not give them.
    """

    spec: MetricSpec
    index: int | None
    statistic: Callable[["SubjectBootstrap"], FloatArray] | None
    finish: Callable[[FloatArray], FloatArray]
    shared: str = ""
    among: BoolArray | None = None

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
        classes: (K,) the class of each subject, its most common label.
        drawn: (B, K) how often each draw has each subject.
        without: (L, K) weights with one group of subjects left out, the others of its class made up for it.
        left: (L,) the class of that group.
        cache: results that take long and that several estimands need: metrics that rank, and shared sums.
    """

    probs: FloatArray
    labels: IntArray
    predictions: Predictions
    of_subject: IntArray
    classes: IntArray
    drawn: FloatArray
    without: FloatArray
    left: IntArray
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
        classes = classes if within_class else np.zeros_like(classes)
        without, left = _leave_out_weights(classes)
        drawn = _draw_counts(classes, draws, np.random.default_rng(seed))
        return cls(probs, labels, predictions, of_subject, classes, drawn, without, left)

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
        by_subject = np.zeros((len(self.classes), rows.shape[1]))
        np.add.at(by_subject, self.of_subject, rows)
        sums = np.concatenate(
            [by_subject.sum(axis=0, keepdims=True), self.drawn @ by_subject, self.without @ by_subject]
        )
        if shared:
            self.cache[shared] = sums
        return sums

    def auroc(self, index: int | None) -> delong.AurocEstimate:
        """The area under the ROC curve of a class, or of all, with each subject's contribution."""
        of_subject, count = self.of_subject, len(self.classes)
        if index is None:
            return delong.estimate_macro_auroc(self.probs, self.labels, of_subject, count)
        return delong.estimate_auroc(self.probs[:, index], self.labels == index, of_subject, count)

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

        Draws of n subjects in k classes spread too little, by the root of (n - k) / n, and a spread that is itself
        estimated calls for Student's t in place of the normal. Hesterberg (2015) takes wider percentiles for both. But
        no percentile lies beyond the worst draw, and of ten subjects with a heavy tail that is too near; so it is the
        distance from the value that is stretched here.
        """
        from scipy.special import ndtr, ndtri, stdtrit

        groups = len(np.unique(self.classes))
        free = len(self.classes) - groups
        drawn = drawn[np.isfinite(drawn)]
        if free < 1 or not len(drawn):
            return np.nan, np.nan
        level = 1 - (1 - float(exact_fraction(confidence, "confidence"))) / 2
        below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
        bias = ndtri(np.clip(below, 1 / (len(drawn) + 1), 1 - 1 / (len(drawn) + 1)))
        z = bias + ndtri(level) * np.array([-1, 1])
        share = ndtr(bias + z / np.maximum(1 - _acceleration(without, self.left) * z, 0.1))
        stretch = stdtrit(free, level) / ndtri(level) * np.sqrt(1 + groups / free)
        low, high = np.clip(value + stretch * (np.quantile(drawn, share) - value), *bounds)
        return float(min(low, value)), float(max(high, value))

    def subjects_behind(self, estimand: Estimand) -> int:
        """Number of subjects that a share of 0 or 1 rests on: for ranks the rarer side, for a class those in its denominator."""
        index, rests_on = estimand.index, estimand.spec.rests_on
        if estimand.among is not None:
            return self._count_subjects(estimand.among)
        if rests_on == "rarer side":
            sizes = np.bincount(self.classes, minlength=self.probs.shape[1])
            sides = [min(n, len(self.classes) - n) for n in (sizes if index is None else sizes[[index]]) if n]
            return int(min(sides))
        if index is None:  # of two classes, a metric that ranks is that of the second
            of_second = estimand.statistic is None and self.probs.shape[1] == 2
            return self._count_subjects(self.labels == 1) if of_second else len(self.classes)
        if rests_on == "prediction":
            return self._count_subjects(self.probs.argmax(axis=1) == index)
        return self._count_subjects((self.labels == index) == (rests_on == "label"))

    def _count_subjects(self, rows: BoolArray) -> int:
        return len(np.unique(self.of_subject[rows]))


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


def _leave_out_weights(classes: IntArray) -> tuple[FloatArray, IntArray]:
    """(L, K) weights that leave out a group of subjects of one class each and make up for it by the others of that class.

    Groups are single subjects up to `MAX_GROUPS` subjects, and a few subjects each beyond.
    """
    size = -(-len(classes) // MAX_GROUPS)
    rows, left = [], []
    for index in np.unique(classes):
        members = np.flatnonzero(classes == index)
        for group in np.array_split(members, -(-len(members) // size)):
            if len(group) < len(members):
                row = np.ones(len(classes))
                row[members] = len(members) / (len(members) - len(group))
                row[group] = 0
                rows.append(row)
                left.append(index)
    return np.array(rows).reshape(len(rows), len(classes)), np.array(left, dtype=np.int64)


def _acceleration(without: FloatArray, left: IntArray) -> float:
    """The acceleration of BCa: a sixth of the skewness of the influences, over all classes."""
    influences = []
    for index in np.unique(left):
        values = without[left == index]
        influences.append((values.mean() - values) * (len(values) - 1) / len(values))
    flat = np.concatenate(influences) if influences else np.zeros(1)
    flat = flat[np.isfinite(flat)]
    spread = float((flat**2).sum()) ** 1.5
    return float((flat**3).sum()) / (6 * spread) if spread > 0 else 0.0
