"""Tables of metrics with intervals that respect who the scans belong to.

Scans of a subject are not independent, so every interval comes from resampling whole subjects, within each class so
that a rare class cannot vanish from a draw.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from scanwise import metrics
from scanwise.errors import DataError, ShapeError, lookup
from scanwise.records import FloatArray, IntArray, Metric, Predictions, StrArray
from scanwise.risk import clopper_pearson, clopper_pearson_arrays, common_label, exact, subject_codes

PLAIN = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "auroc")
"""What may be said of a leaky protocol, besides precision and recall; it leaves out all that calls for calibration."""

OVERALL = (*PLAIN, "average_precision", "matthews", "quadratic_kappa", "nll", "brier", "ece")
BY_CLASS = ("precision", "recall", "f1", "specificity", "auroc")
OF_SETS = ("coverage", "mean_set_size", "empty_share", "singleton_share", "abstain_share")
SHARES = {"accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "auroc", "average_precision", *BY_CLASS, *OF_SETS}
SHARES -= {"mean_set_size"}
"""Metrics between 0 and 1, whose interval is Clopper and Pearson's where every draw gives 0, or every draw 1."""

RANKED = {"auroc": metrics.class_auroc, "average_precision": metrics.class_average_precision}

LEAVES = 500
"""At most so many groups of subjects are left out, one at a time, to learn how skewed an estimate is."""


def measure(
    predictions: Predictions,
    *,
    subjects: StrArray,
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    names: Sequence[str] | None = None,
    accuracy_only: bool = False,
    ordered: bool = False,
) -> list[Metric]:
    """Every metric of some predictions, overall and by class, each with an interval over subjects.

    Intervals are BCa (Efron 1987) from draws of whole subjects within class, with the acceleration of several
    samples (Davison and Hinkley 1997, section 5.3) and widened as Student's t is for few subjects (Hesterberg 2015).
    Where every draw gives the same 0 or 1, the interval is Clopper and Pearson's on as many subjects as the metric
    rests on. They are NaN where no class has two subjects, or every draw gives the same other value. Metrics that are undefined, such
    as the recall of a class without scans, are left out.

    Args:
        predictions: what is said of some scans, or of some subjects, with labels.
        subjects: (N,) the subject of each row.
        draws: bootstrap draws.
        confidence: of every interval.
        seed: of the draws; the same seed gives the same intervals.
        names: only these metrics.
        accuracy_only: leave out metrics that rest on probabilities being calibrated, and sets: for leaky protocols.
        ordered: whether classes are stages in order, so that quadratic kappa means something.

    Raises:
        DataError: if labels are not known, or a row has no subject.
        ShapeError: if subjects and predictions differ in length.
    """
    sample = Sample.of(predictions, subjects, draws, seed)
    asked = [q for q in _questions(predictions, accuracy_only, ordered) if names is None or q.name in names]
    found = []
    for question in asked:
        value, drawn, without = sample.answer(question)
        if not np.isfinite(value):
            continue
        low, high = sample.interval(value, drawn, without, confidence)
        if np.allclose(drawn, value, rtol=0, atol=1e-9):  # resampling only successes says nothing of the next subject
            low = high = np.nan
            if question.name in SHARES and value in (0.0, 1.0):
                size = sample.resting_on(question)
                low, high = clopper_pearson(size if value else 0, size, confidence)
        group = "" if question.index is None else f"class={predictions.classes[question.index]}"
        count = question.count(sample)
        found.append(Metric(question.name, value, low, high, predictions.unit, count, group))
    return found


def paired_difference(
    network: Predictions,
    rival: Predictions,
    *,
    names: Sequence[str] = ("accuracy", "balanced_accuracy", "macro_f1"),
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
    sample = Sample.of(network, network.subjects, draws, seed)
    same = len(network) == len(rival) and (network.subjects == rival.subjects).all()
    if not (same and (network.scans == rival.scans).all() and np.array_equal(network.labels, rival.labels)):  # type: ignore[arg-type]
        raise DataError(
            "A paired difference needs the same rows, in the same order, with the same labels on both sides."
        )
    other = Sample.of(rival, rival.subjects, draws, seed)
    found = []
    for name in names:
        question = _overall(name)
        mine, theirs = sample.answer(question), other.answer(question)
        value, drawn, without = mine[0] - theirs[0], mine[1] - theirs[1], mine[2] - theirs[2]
        if np.isfinite(value):
            low, high = sample.interval(value, drawn, without, confidence)
            found.append(Metric(f"{name} difference", value, low, high, network.unit, len(network), model=model))
    return found


def classification_report(predictions: Predictions) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support of each class, then accuracy and the macro and weighted means.

    Rows are as scikit-learn's `classification_report` has them; classes without scans have no recall and no F1 (NaN)
    and are left out of the macro mean.
    """
    matrix = confusion(predictions).astype(np.float64)
    support = matrix.sum(axis=1)
    columns = {
        "precision": metrics.precision_of(matrix),
        "recall": metrics.recall_of(matrix),
        "f1": metrics.f1_of(matrix),
    }
    rows: list[dict[str, Any]] = [
        {"class": name, **{key: float(values[c]) for key, values in columns.items()}, "support": int(support[c])}
        for c, name in enumerate(predictions.classes)
    ]
    present = support > 0
    total, hits = int(support.sum()), float(np.trace(matrix) / support.sum())
    rows.append({"class": "accuracy", "precision": hits, "recall": hits, "f1": hits, "support": total})
    for name, weight in (("macro avg", present.astype(float)), ("weighted avg", support)):
        means = {key: float(np.average(values[present], weights=weight[present])) for key, values in columns.items()}
        rows.append({"class": name, **means, "support": total})
    return rows


def confusion(predictions: Predictions) -> IntArray:
    """(C, C) how many rows of each class (first axis) were predicted as each (second)."""
    return metrics.confusion_matrix(predictions.probs, _labels(predictions)).astype(np.int64)


def roc_curve(probs: FloatArray, labels: IntArray, index: int) -> tuple[FloatArray, FloatArray]:
    """False and true positive rates of one class against the rest, from (0, 0) to (1, 1).

    Points inside a straight line are left out. NaN where there are no negatives, or no positives.

    >>> fpr, tpr = roc_curve(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 0, 1]), 1)
    >>> fpr.tolist(), tpr.tolist()
    ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    """
    probs, labels, _ = metrics.check(probs, labels, None)
    scores, positive = probs[:, index], labels == index
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    hits = np.concatenate(([0], np.cumsum(positive[order])[last])).astype(np.float64)
    misses = np.concatenate(([0], last + 1)) - hits
    bend = np.ones(len(hits), dtype=np.bool_)
    bend[1:-1] = np.diff(hits[1:]) * np.diff(misses[:-1]) != np.diff(hits[:-1]) * np.diff(misses[1:])
    fpr, tpr = (counts[bend] / counts[-1] if counts[-1] else np.full(bend.sum(), np.nan) for counts in (misses, hits))
    return fpr, tpr


def reliability(
    probs: FloatArray, labels: IntArray, num_bins: int = 15, *, equal_mass: bool = False, confidence: float = 0.95
) -> list[dict[str, float]]:
    """What was said and what came true in each bin of confidence that holds a row.

    Keys: low and high edge, count, mean confidence, accuracy, and accuracy_low and accuracy_high, its Clopper-Pearson
    interval (which takes rows as independent: pool scans by subject first where they are not).
    """
    probs, labels, _ = metrics.check(probs, labels, None)
    said, right = probs.max(axis=1).astype(np.float64), probs.argmax(axis=1) == labels
    bins = metrics.bins_of(said, num_bins, equal_mass)
    counts, hits = np.bincount(bins, minlength=num_bins), np.bincount(bins[right], minlength=num_bins)
    means = np.bincount(bins, said, num_bins) / np.maximum(counts, 1)
    low, high = clopper_pearson_arrays(hits, counts, confidence)
    rows = []
    for b in np.flatnonzero(counts):
        edges = (said[bins == b].min(), said[bins == b].max()) if equal_mass else (b / num_bins, (b + 1) / num_bins)
        rows.append(
            {
                "low": float(edges[0]),
                "high": float(edges[1]),
                "count": int(counts[b]),
                "confidence": float(means[b]),
                "accuracy": float(hits[b] / counts[b]),
                "accuracy_low": float(low[b]),
                "accuracy_high": float(high[b]),
            }
        )
    return rows


@dataclass(frozen=True, slots=True)
class Question:
    """One metric to be estimated.

    Attributes:
        name: of the metric.
        index: the class that it is about, or None.
        statistic: sample to (N, D), of which sums suffice; None for metrics that rank.
        finish: (…, D) sums, or for metrics that rank their values of each class (…, C), to values (…).
        within: whether only rows of the class count.
    """

    name: str
    index: int | None
    statistic: Callable[["Sample"], FloatArray] | None
    finish: Callable[[FloatArray], FloatArray]
    within: bool = False

    def count(self, sample: "Sample") -> int:
        """Units that the metric is about."""
        return int((sample.labels == self.index).sum()) if self.within else len(sample.labels)


@dataclass(frozen=True, slots=True)
class Sample:
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
        ranked: what metrics that rank gave, for they take the longest and more than one question needs them.
    """

    probs: FloatArray
    labels: IntArray
    predictions: Predictions
    of_subject: IntArray
    classes: IntArray
    drawn: FloatArray
    without: FloatArray
    left: IntArray
    ranked: dict[str, FloatArray] = field(default_factory=dict)

    @classmethod
    def of(cls, predictions: Predictions, subjects: StrArray, draws: int, seed: int) -> Self:
        if draws < 2:
            raise DataError(f"An interval needs draws; {draws} are too few. The default is 2000.")
        probs, labels, _ = metrics.check(predictions.probs, _labels(predictions), None)
        of_subject, _ = subject_codes(subjects, len(labels))
        classes = common_label(labels, of_subject, probs.shape[1])
        without, left = _left_out(classes)
        drawn = _draw(classes, draws, np.random.default_rng(seed))
        return cls(probs, labels, predictions, of_subject, classes, drawn, without, left)

    def answer(self, question: Question) -> tuple[float, FloatArray, FloatArray]:
        """The value, its (B,) values over draws and its (L,) values with groups left out."""
        if question.statistic is None:
            values = question.finish(self._by_class(question.name))
        else:
            rows = question.statistic(self)
            sums = np.zeros((len(self.classes), rows.shape[1]))
            np.add.at(sums, self.of_subject, rows)
            everyone = sums.sum(axis=0, keepdims=True)
            values = question.finish(np.concatenate([everyone, self.drawn @ sums, self.without @ sums]))
        split = 1 + len(self.drawn)
        return float(values[0]), values[1:split], values[split:]

    def _by_class(self, name: str) -> FloatArray:
        """(1 + B + L, C) a metric that ranks, of each class against the rest."""
        if name not in self.ranked:
            of_classes = RANKED[name]
            weights = np.concatenate([self.drawn, self.without]).astype(np.float32)[:, self.of_subject]
            value = of_classes(self.probs, self.labels)[None]
            self.ranked[name] = np.concatenate([value, of_classes(self.probs, self.labels, weights)])
        return self.ranked[name]

    def interval(self, value: float, drawn: FloatArray, without: FloatArray, confidence: float) -> tuple[float, float]:
        """The BCa interval, widened for few subjects; NaN where no class has two subjects."""
        from scipy.special import ndtr, ndtri, stdtrit

        free = len(self.classes) - len(np.unique(self.classes))
        drawn = drawn[np.isfinite(drawn)]
        if free < 1 or not len(drawn):
            return np.nan, np.nan
        tail = (1 - float(exact(confidence, "confidence"))) / 2
        below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
        bias = ndtri(np.clip(below, 1 / (len(drawn) + 1), 1 - 1 / (len(drawn) + 1)))
        wide = stdtrit(free, 1 - tail) * np.sqrt(1 + len(np.unique(self.classes)) / free)
        z = bias + np.array([-wide, wide])
        share = ndtr(bias + z / np.maximum(1 - _acceleration(without, self.left) * z, 0.1))
        low, high = np.quantile(drawn, share)
        return float(min(low, value)), float(max(high, value))

    def resting_on(self, question: Question) -> int:
        """The subjects that a share of 0 or 1 rests on: for ranks the rarer side, for a class those in its denominator."""
        index, classes = question.index, self.classes
        if question.name == "auroc":
            sizes = np.bincount(classes, minlength=self.probs.shape[1])
            sides = [min(n, len(classes) - n) for n in (sizes if index is None else sizes[[index]]) if n]
            return int(min(sides))
        if index is None:
            return len(classes)
        if question.name == "precision":
            rows = self.probs.argmax(axis=1) == index
        elif question.name == "specificity":
            rows = self.labels != index
        else:
            rows = self.labels == index
        return len(np.unique(self.of_subject[rows]))


def _questions(predictions: Predictions, accuracy_only: bool, ordered: bool) -> list[Question]:
    """All that can be asked of these predictions, in the order of tables."""
    names = PLAIN if accuracy_only else OVERALL
    asked = [_overall(name) for name in names if name != "quadratic_kappa" or ordered]
    for index in range(len(predictions.classes)):
        by_class = [name for name in BY_CLASS if not accuracy_only or name in ("precision", "recall", "f1", "auroc")]
        asked += [_of_class(name, index) for name in by_class]
    if predictions.sets is not None and not accuracy_only:
        asked += [Question(name, None, _of_sets(name), _mean) for name in OF_SETS]
        asked += [
            Question("coverage", c, _of_sets("coverage", c), _mean, True) for c in range(len(predictions.classes))
        ]
    return asked


def _overall(name: str) -> Question:
    if name in RANKED:
        return Question(name, None, None, metrics.macro_of_classes)
    metric = lookup(metrics.ADDITIVE, name, "metric")
    return Question(name, None, lambda sample: metric.statistic(sample.probs, sample.labels), metric.finish)


def _of_class(name: str, index: int) -> Question:
    if name == "auroc":
        return Question(name, index, None, lambda of_classes: of_classes[..., index], True)
    finish = {
        "precision": metrics.precision_of,
        "recall": metrics.recall_of,
        "f1": metrics.f1_of,
        "specificity": metrics.specificity_of,
    }[name]
    cells = metrics.of_confusion(lambda matrix: np.where(matrix.sum(-1) > 0, finish(matrix), np.nan)[..., index])
    return Question(name, index, lambda sample: cells.statistic(sample.probs, sample.labels), cells.finish, True)


def _of_sets(name: str, index: int | None = None) -> Callable[[Sample], FloatArray]:
    def statistic(sample: Sample) -> FloatArray:
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


def _mean(sums: FloatArray) -> FloatArray:
    means = np.full(sums.shape[:-1], np.nan)
    np.divide(sums[..., 1], sums[..., 0], out=means, where=sums[..., 0] > 0)
    return means


def _labels(predictions: Predictions) -> IntArray:
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
