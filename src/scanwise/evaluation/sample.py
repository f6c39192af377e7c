"""Labelled rows, resampled by subject: values, draws and intervals of any metric."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from scanwise import metrics
from scanwise.errors import DataError
from scanwise.evaluation import delong
from scanwise.pooling import common_label, subject_codes
from scanwise.records import BoolArray, FloatArray, IntArray, Predictions, StrArray
from scanwise.risk import exact_fraction

RANKED = {
    "auroc": metrics.class_auroc,
    "average_precision": metrics.class_average_precision,
    "sensitivity_at_90": metrics.class_sensitivity_at_90,
}

LEAVES = 500
"""At most so many groups of subjects are left out, one at a time, to learn how skewed an estimate is."""


Bounds = tuple[float, float]
ANYWHERE: Bounds = (-np.inf, np.inf)


@dataclass(frozen=True, slots=True)
class Estimand:
    """One metric to be estimated.

    Attributes:
        name: of the metric.
        index: the class that it is about, or None.
        statistic: sample to (N, D), of which sums suffice; None for metrics that rank.
        finish: (…, D) sums, or for metrics that rank their values of each class (…, C), to values (…).
        within: whether only rows of the class count.
        shared: the name of its statistic where other questions have the same one, so that it is summed once.
        among: (N,) of a share, the rows that it is a share of, where these are not told by its name.
    """

    name: str
    index: int | None
    statistic: Callable[["SubjectBootstrap"], FloatArray] | None
    finish: Callable[[FloatArray], FloatArray]
    within: bool = False
    shared: str = ""
    among: BoolArray | None = None

    def count(self, sample: "SubjectBootstrap") -> int:
        """Units that the metric is about."""
        return int((sample.labels == self.index).sum()) if self.within else len(sample.labels)


@dataclass(frozen=True, slots=True)
class SubjectBootstrap:
    """Rows with labels, and the weights that resampling their subjects gives.

    Attributes:
        probs: (N, C).
        labels: (N,).
        predictions: where both are from.
        of_subject: (N,) the index of each row's subject.
        classes: (K,) the class of each subject, its most common label.
        drawn: (B, K) how often each draw has each subject.
        without: (L, K) weights with one group of subjects left out, the others of its class made up for it.
        left: (L,) the class of that group.
        kept: what took long and more than one question needs: metrics that rank, and sums that are shared.
    """

    probs: FloatArray
    labels: IntArray
    predictions: Predictions
    of_subject: IntArray
    classes: IntArray
    drawn: FloatArray
    without: FloatArray
    left: IntArray
    kept: dict[str, FloatArray] = field(default_factory=dict)

    @classmethod
    def of(
        cls, predictions: Predictions, subjects: StrArray, draws: int, seed: int, *, within_class: bool = True
    ) -> Self:
        """Rows with their draws: within class, or over all subjects where how common a class is is itself in question."""
        if draws < 2:
            raise DataError(f"An interval needs draws; {draws} are too few. The default is 2000.")
        probs, labels, _ = metrics.check_metric_inputs(predictions.probs, require_labels(predictions), None)
        of_subject, _ = subject_codes(subjects, len(labels))
        classes = common_label(labels, of_subject, probs.shape[1])
        classes = classes if within_class else np.zeros_like(classes)
        without, left = _left_out(classes)
        drawn = _draw(classes, draws, np.random.default_rng(seed))
        return cls(probs, labels, predictions, of_subject, classes, drawn, without, left)

    def answer(self, question: Estimand) -> tuple[float, FloatArray, FloatArray]:
        """The value, its (B,) values over draws and its (L,) values with groups left out."""
        if question.statistic is None:
            values = question.finish(self._by_class(question.name))
        else:
            values = question.finish(self._sums(question.statistic, question.shared))
        split = 1 + len(self.drawn)
        return float(values[0]), values[1:split], values[split:]

    def _sums(self, statistic: Callable[["SubjectBootstrap"], FloatArray], shared: str) -> FloatArray:
        """(1 + B + L, D) a statistic summed over all rows, over each draw, and with each group left out."""
        if shared in self.kept:
            return self.kept[shared]
        rows = statistic(self)
        sums = np.zeros((len(self.classes), rows.shape[1]))
        np.add.at(sums, self.of_subject, rows)
        found = np.concatenate([sums.sum(axis=0, keepdims=True), self.drawn @ sums, self.without @ sums])
        if shared:
            self.kept[shared] = found
        return found

    def area(self, index: int | None) -> delong.AurocEstimate:
        """The area under the ROC curve of a class, or of all, taken apart by subject."""
        of_subject, count = self.of_subject, len(self.classes)
        if index is None:
            return delong.estimate_macro_auroc(self.probs, self.labels, of_subject, count)
        return delong.estimate_auroc(self.probs[:, index], self.labels == index, of_subject, count)

    def _by_class(self, name: str) -> FloatArray:
        """(1 + B + L, C) a metric that ranks, of each class against the rest."""
        if name not in self.kept:
            of_classes = RANKED[name]
            weights = np.concatenate([self.drawn, self.without]).astype(np.float32)[:, self.of_subject]
            value = of_classes(self.probs, self.labels)[None]
            self.kept[name] = np.concatenate([value, of_classes(self.probs, self.labels, weights)])
        return self.kept[name]

    def interval(
        self, value: float, drawn: FloatArray, without: FloatArray, confidence: float, bounds: Bounds = ANYWHERE
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

    def _of_second(self, question: Estimand) -> bool:
        """Whether an overall metric is, of two classes, that of the second."""
        return question.name == "sensitivity_at_90" and self.probs.shape[1] == 2

    def resting_on(self, question: Estimand) -> int:
        """The subjects that a share of 0 or 1 rests on: for ranks the rarer side, for a class those in its denominator."""
        index, classes = question.index, self.classes
        if question.among is not None:
            return len(np.unique(self.of_subject[question.among]))
        if question.name in ("auroc", "average_precision"):
            sizes = np.bincount(classes, minlength=self.probs.shape[1])
            sides = [min(n, len(classes) - n) for n in (sizes if index is None else sizes[[index]]) if n]
            return int(min(sides))
        if index is None:
            return len(np.unique(self.of_subject[self.labels == 1])) if self._of_second(question) else len(classes)
        if question.name == "precision":
            rows = self.probs.argmax(axis=1) == index
        elif question.name == "specificity":
            rows = self.labels != index
        else:
            rows = self.labels == index
        return len(np.unique(self.of_subject[rows]))


def require_labels(predictions: Predictions) -> IntArray:
    """The labels, or an error where they are not known."""
    if predictions.labels is None:
        raise DataError("These predictions have no labels to be measured against.")
    return predictions.labels


def _draw(classes: IntArray, draws: int, random: np.random.Generator) -> FloatArray:
    """(B, K) how often each of K subjects is drawn, as many of each class as there are."""
    counts = np.zeros((draws, len(classes)))
    place = np.arange(draws)[:, None]
    for index in np.unique(classes):
        members = np.flatnonzero(classes == index)
        chosen = random.integers(len(members), size=(draws, len(members)))
        flat = np.bincount((chosen + place * len(members)).ravel(), minlength=draws * len(members))
        counts[:, members] = flat.reshape(draws, len(members))
    return counts


def _left_out(classes: IntArray) -> tuple[FloatArray, IntArray]:
    """(L, K) weights that leave out a group of subjects of one class each and make up for it by the others of that class.

    Groups are single subjects up to `LEAVES` subjects, and a few subjects each beyond.
    """
    size = -(-len(classes) // LEAVES)
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
    """How fast the spread changes with the value: a sixth of the skewness of the influences, over all classes."""
    influences = []
    for index in np.unique(left):
        values = without[left == index]
        influences.append((values.mean() - values) * (len(values) - 1) / len(values))
    flat = np.concatenate(influences) if influences else np.zeros(1)
    flat = flat[np.isfinite(flat)]
    spread = float((flat**2).sum()) ** 1.5
    return float((flat**3).sum()) / (6 * spread) if spread > 0 else 0.0
