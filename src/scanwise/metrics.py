"""How good a classifier is, in numbers that equal scikit-learn's and that a bootstrap can take by the thousand.

Every metric takes `probs` (N, C), `labels` (N,) and optionally `weights`: (N,) gives one number, (B, N) gives (B,), one
for each row of weights, in one vectorised call. An integer weight counts a row that many times. All but the two
that rank (AUROC, average precision) need only sums over rows: `ADDITIVE` says which, so that sums over the rows of a
subject are enough to resample subjects.

A class is *absent* when no row of positive weight has it as its label. Absent classes are left out of macro averages:
these equal scikit-learn's with `labels=` the classes that are present. NaN says that a metric is undefined.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scanwise.errors import DataError, ShapeError
from scanwise.records import BoolArray, FloatArray, IntArray
from scanwise.risk import check_labels, check_probs

Value = float | FloatArray
"""A float without weights or with weights (N,); an array (B,) with weights (B, N)."""

SMALLEST = float(np.finfo(np.float64).eps)
"""No probability counts as less when its logarithm is taken."""


def accuracy(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> Value:
    """Share of rows whose most probable class is the label.

    >>> accuracy(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    0.5
    """
    return _additive("accuracy", probs, labels, weights)


def balanced_accuracy(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> Value:
    """Mean recall of the classes that are present; `sklearn.metrics.balanced_accuracy_score`."""
    return _additive("balanced_accuracy", probs, labels, weights)


def macro_f1(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> Value:
    """Mean F1 of the classes that are present; a class that is never predicted has F1 zero.

    A class that is predicted but absent does not enter as a further zero (scikit-learn's default counts it; give
    `labels=np.unique(y_true)` there for the same number). Its predictions cost the present classes their recall.
    """
    return _additive("macro_f1", probs, labels, weights)


def weighted_f1(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> Value:
    """Mean F1, each class as heavy as its rows."""
    return _additive("weighted_f1", probs, labels, weights)


def matthews(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> Value:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 where labels or predictions are all one class."""
    return _additive("matthews", probs, labels, weights)


def kappa(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> Value:
    """Cohen's kappa; NaN where chance agreement is certain."""
    return _additive("kappa", probs, labels, weights)


def quadratic_kappa(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> Value:
    """Cohen's kappa with quadratic weights over class indices: for ordered classes only."""
    return _additive("quadratic_kappa", probs, labels, weights)


def nll(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> Value:
    """Mean negative log-likelihood in nats; probabilities below `SMALLEST` count as that.

    >>> round(nll(np.array([[0.5, 0.5]]), np.array([1])), 4)
    0.6931
    """
    return _additive("nll", probs, labels, weights)


def brier(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> Value:
    """Mean squared distance of probabilities to the label: 0…1 for two classes, 0…2 for more, as scikit-learn has it."""
    return _additive("brier", probs, labels, weights)


def precision(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C,) or (B, C): share of the rows predicted as each class that are it; 0 where it is never predicted."""
    return precision_of(confusion_matrix(probs, labels, weights))


def recall(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C,) or (B, C): share of the rows of each class that are predicted as it; NaN where it is absent."""
    return recall_of(confusion_matrix(probs, labels, weights))


def f1(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C,) or (B, C): harmonic mean of precision and recall of each class; NaN where it is absent."""
    return f1_of(confusion_matrix(probs, labels, weights))


def specificity(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C,) or (B, C): share of the rows of other classes that are not predicted as it; NaN where there are none."""
    return specificity_of(confusion_matrix(probs, labels, weights))


def confusion_matrix(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C, C) or (B, C, C): the weight of the rows of each label (first axis) predicted as each class (second).

    >>> confusion_matrix(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    array([[1., 0.],
           [1., 0.]])
    """
    probs, labels, weights = check(probs, labels, weights)
    num_classes = probs.shape[1]
    return (weights @ _cells(probs, labels)).reshape(*weights.shape[:-1], num_classes, num_classes)


def auroc(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> Value:
    """Area under the ROC curve; of class 1 for two classes, else the mean of one-vs-rest over the classes present.

    Ties count half. NaN where no class has rows both in and out of it.

    >>> auroc(np.array([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]), np.array([0, 0, 1]))
    0.75
    """
    return _plain(macro_of_classes(class_auroc(probs, labels, weights)))


def average_precision(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> Value:
    """Area under the precision-recall steps; of class 1 for two classes, else the mean over the classes present."""
    return _plain(macro_of_classes(class_average_precision(probs, labels, weights)))


def class_auroc(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C,) or (B, C): area under the ROC curve of each class against the rest; NaN where undefined."""
    probs, labels, weights = check(probs, labels, weights)
    return np.stack([_area(probs[:, c], labels == c, weights) for c in range(probs.shape[1])], axis=-1)


def class_average_precision(probs: FloatArray, labels: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """(C,) or (B, C): average precision of each class against the rest; NaN where it is absent."""
    probs, labels, weights = check(probs, labels, weights)
    return np.stack([_steps(probs[:, c], labels == c, weights) for c in range(probs.shape[1])], axis=-1)


def macro_of_classes(values: FloatArray) -> FloatArray:
    """(…,) of values (…, C) that of class 1 where there are two, else the mean of those that are defined."""
    return values[..., 1] if values.shape[-1] == 2 else _mean_of_known(values)


def expected_calibration_error(
    probs: FloatArray,
    labels: IntArray,
    weights: FloatArray | None = None,
    *,
    num_bins: int = 15,
    equal_mass: bool = False,
) -> Value:
    """Average gap between confidence and accuracy over bins of confidence (Naeini et al. 2015).

    Args:
        probs: (N, C) rows that sum to one.
        labels: (N,) class indices.
        weights: none, (N,) or (B, N).
        num_bins: bins over the confidence, the largest probability; each holds its upper edge.
        equal_mass: bins with as many rows each, cut once on the rows without weights, instead of bins of equal width.

    >>> probs = np.array([[0.9, 0.1], [0.9, 0.1]])
    >>> round(expected_calibration_error(probs, np.array([0, 1])), 2)
    0.4
    """
    probs, labels, weights = check(probs, labels, weights)
    confidence = probs.max(axis=1)
    bins = bins_of(confidence, num_bins, equal_mass)
    return _plain(_ece(weights @ _bin_rows(bins, confidence, probs.argmax(axis=1) == labels, num_bins)))


def squared_calibration_error(
    probs: FloatArray, labels: IntArray, *, num_bins: int = 15, equal_mass: bool = False
) -> float:
    """Squared gap between confidence and accuracy over bins, debiased (Kumar et al. 2019).

    The error above is never below what chance alone makes of small bins. This one takes off the variance of each
    bin's accuracy: zero on average for a calibrated classifier, at times negative. Its unit is a squared share. Bins
    of one row say nothing and are left out.
    """
    probs, labels, _ = check(probs, labels, None)
    said, right = probs.max(axis=1).astype(np.float64), probs.argmax(axis=1) == labels
    bins = bins_of(said, num_bins, equal_mass)
    count = np.bincount(bins, minlength=num_bins)
    kept = count > 1
    gap, share = (np.bincount(bins, values, num_bins)[kept] / count[kept] for values in (said - right, right))
    squares = gap**2 - share * (1 - share) / (count[kept] - 1)
    return float(_ratio((count[kept] * squares).sum(), count[kept].sum()))


def classwise_calibration_error(
    probs: FloatArray, labels: IntArray, weights: FloatArray | None = None, *, num_bins: int = 15
) -> Value:
    """Mean over classes of the calibration error of that class's probability (Kull et al. 2019)."""
    probs, labels, weights = check(probs, labels, weights)
    gaps = [
        _ece(weights @ _bin_rows(bins_of(probs[:, c], num_bins), probs[:, c], labels == c, num_bins))
        for c in range(probs.shape[1])
    ]
    return _plain(np.mean(gaps, axis=0))


def brier_decomposition(probs: FloatArray, labels: IntArray, num_bins: int = 15) -> dict[str, float]:
    """Brier score of each class summed, as reliability - resolution + uncertainty + rest (Murphy 1973).

    The first three come from bins of equal width; `rest` is what the spread inside bins adds (Stephenson et al. 2008),
    so that the four make up the sum of squared distances exactly.

    >>> parts = brier_decomposition(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1]))
    >>> round(parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["rest"] - parts["total"], 12)
    0.0
    """
    probs, labels, _ = check(probs, labels, None)
    parts = dict.fromkeys(("reliability", "resolution", "uncertainty", "rest", "total"), 0.0)
    for index in range(probs.shape[1]):
        said, is_class = probs[:, index].astype(np.float64), (labels == index).astype(np.float64)
        bins, base = bins_of(said, num_bins), is_class.mean()
        counts = np.bincount(bins, minlength=num_bins)
        share = counts / len(labels)
        mean_said = np.bincount(bins, said, num_bins) / np.maximum(counts, 1)
        mean_seen = np.bincount(bins, is_class, num_bins) / np.maximum(counts, 1)
        parts["reliability"] += float(share @ (mean_said - mean_seen) ** 2)
        parts["resolution"] += float(share @ (mean_seen - base) ** 2)
        parts["uncertainty"] += float(base * (1 - base))
        inside = said - mean_said[bins]
        parts["rest"] += float((inside**2 - 2 * inside * (is_class - mean_seen[bins])).mean())
        parts["total"] += float(((said - is_class) ** 2).mean())
    return parts


def bins_of(confidence: FloatArray, num_bins: int, equal_mass: bool = False) -> IntArray:
    """(N,) the bin of each confidence, from 0; each bin holds its upper edge."""
    if num_bins < 1:
        raise DataError(f"A calibration error needs one bin or more; num_bins is {num_bins}.")
    if equal_mass:
        edges = np.quantile(confidence, np.arange(1, num_bins) / num_bins, method="inverted_cdf")
    else:
        edges = np.arange(1, num_bins) / num_bins
    return np.searchsorted(edges, confidence, side="left")


def precision_of(matrix: FloatArray) -> FloatArray:
    """Precision of each class from (…, C, C) confusion matrices; 0 where it is never predicted."""
    return _ratio(_hits(matrix), matrix.sum(axis=-2), otherwise=0.0)


def recall_of(matrix: FloatArray) -> FloatArray:
    """Recall of each class from (…, C, C) confusion matrices; NaN where it is absent."""
    return _ratio(_hits(matrix), matrix.sum(axis=-1))


def f1_of(matrix: FloatArray) -> FloatArray:
    """F1 of each class from (…, C, C) confusion matrices; NaN where it is absent."""
    support = matrix.sum(axis=-1)
    return np.where(support > 0, _ratio(2 * _hits(matrix), support + matrix.sum(axis=-2), otherwise=0.0), np.nan)


def specificity_of(matrix: FloatArray) -> FloatArray:
    """Specificity of each class from (…, C, C) confusion matrices; NaN where every row is of the class."""
    others = matrix.sum(axis=(-2, -1))[..., None] - matrix.sum(axis=-1)
    return _ratio(others - matrix.sum(axis=-2) + _hits(matrix), others)


def check(probs: FloatArray, labels: IntArray, weights: FloatArray | None) -> tuple[FloatArray, IntArray, FloatArray]:
    """The three in the shapes that this module needs, or an error that names the rows; no weights become ones."""
    probs = check_probs(probs)
    labels = check_labels(labels, probs.shape[1], len(probs))
    if weights is None:
        return probs, labels, np.ones(len(probs))
    weights = np.asarray(weights)
    if weights.ndim not in (1, 2) or weights.shape[-1] != len(probs):
        raise ShapeError(f"Weights must be (N,) or (B, N) with N = {len(probs)}; they are {weights.shape}.")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise DataError("Weights must be finite and not negative.")
    return probs, labels, weights if weights.dtype.kind == "f" else weights.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Additive:
    """A metric that is a function of sums over rows.

    Attributes:
        rows: (probs, labels) to (N, D), what to sum.
        finish: (…, D + 1) sums, the first of them the weight, to the metric (…,).
    """

    rows: Callable[[FloatArray, IntArray], FloatArray]
    finish: Callable[[FloatArray], FloatArray]

    def statistic(self, probs: FloatArray, labels: IntArray) -> FloatArray:
        """(N, D + 1): one, then what to sum."""
        return np.column_stack([np.ones(len(labels)), self.rows(probs, labels)])


def _cells(probs: FloatArray, labels: IntArray) -> FloatArray:
    """(N, C²): one in the cell of the confusion matrix that the row is in."""
    count, num_classes = probs.shape
    cells = np.zeros((count, num_classes**2))
    cells[np.arange(count), labels * num_classes + probs.argmax(axis=1)] = 1
    return cells


def of_confusion(finish: Callable[[FloatArray], FloatArray]) -> Additive:
    """An additive metric from a function of (…, C, C) confusion matrices."""

    def from_sums(sums: FloatArray) -> FloatArray:
        num_classes = round((sums.shape[-1] - 1) ** 0.5)
        return finish(sums[..., 1:].reshape(*sums.shape[:-1], num_classes, num_classes))

    return Additive(_cells, from_sums)


def _of_mean(row: Callable[[FloatArray, IntArray], FloatArray]) -> Additive:
    return Additive(lambda probs, labels: row(probs, labels)[:, None], lambda sums: _ratio(sums[..., 1], sums[..., 0]))


def _accuracy(matrix: FloatArray) -> FloatArray:
    return _ratio(_hits(matrix).sum(axis=-1), matrix.sum(axis=(-2, -1)))


def _weighted_f1(matrix: FloatArray) -> FloatArray:
    support = matrix.sum(axis=-1)
    return _ratio((np.nan_to_num(f1_of(matrix)) * support).sum(axis=-1), support.sum(axis=-1))


def _matthews(matrix: FloatArray) -> FloatArray:
    total, labels, predicted = matrix.sum(axis=(-2, -1)), matrix.sum(axis=-1), matrix.sum(axis=-2)
    covariance = _hits(matrix).sum(axis=-1) * total - (labels * predicted).sum(axis=-1)
    spread = (total**2 - (labels**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    return np.where(total > 0, _ratio(covariance, np.sqrt(spread), otherwise=0.0), np.nan)


def _kappa(matrix: FloatArray, power: int = 0) -> FloatArray:
    index = np.arange(matrix.shape[-1])
    cost = np.abs(index[:, None] - index).astype(np.float64) ** power if power else 1.0 - np.eye(len(index))
    total = matrix.sum(axis=(-2, -1))
    by_chance = matrix.sum(axis=-1)[..., :, None] * matrix.sum(axis=-2)[..., None, :]
    kappas: FloatArray = 1 - _ratio((matrix * cost).sum(axis=(-2, -1)) * total, (by_chance * cost).sum(axis=(-2, -1)))
    return kappas


def _surprise(probs: FloatArray, labels: IntArray) -> FloatArray:
    chance: FloatArray = np.clip(probs[np.arange(len(labels)), labels].astype(np.float64), SMALLEST, 1 - SMALLEST)
    return -np.log(chance)


def _distance(probs: FloatArray, labels: IntArray) -> FloatArray:
    of_label = probs[np.arange(len(labels)), labels].astype(np.float64)
    squares: FloatArray = (probs.astype(np.float64) ** 2).sum(axis=1) - 2 * of_label + 1
    return squares / 2 if probs.shape[1] == 2 else squares


def _top_bins(probs: FloatArray, labels: IntArray) -> FloatArray:
    confidence = probs.max(axis=1)
    return _bin_rows(bins_of(confidence, 15), confidence, probs.argmax(axis=1) == labels, 15)


def _bin_rows(bins: IntArray, said: FloatArray, seen: BoolArray, num_bins: int) -> FloatArray:
    """(N, 3 · bins): for the row's bin one, what was said and what was seen."""
    rows, place = np.zeros((len(bins), 3 * num_bins)), np.arange(len(bins))
    rows[place, bins], rows[place, num_bins + bins], rows[place, 2 * num_bins + bins] = 1, said, seen
    return rows


def _ece(sums: FloatArray) -> FloatArray:
    count, said, seen = np.split(sums, 3, axis=-1)
    return _ratio(np.abs(said - seen).sum(axis=-1), count.sum(axis=-1))


ADDITIVE: dict[str, Additive] = {
    "accuracy": of_confusion(_accuracy),
    "balanced_accuracy": of_confusion(lambda matrix: _mean_of_known(recall_of(matrix))),
    "macro_f1": of_confusion(lambda matrix: _mean_of_known(f1_of(matrix))),
    "weighted_f1": of_confusion(_weighted_f1),
    "matthews": of_confusion(_matthews),
    "kappa": of_confusion(_kappa),
    "quadratic_kappa": of_confusion(lambda matrix: _kappa(matrix, power=2)),
    "nll": _of_mean(_surprise),
    "brier": _of_mean(_distance),
    "ece": Additive(_top_bins, lambda sums: _ece(sums[..., 1:])),
}

METRICS: dict[str, Callable[..., Value]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
    "auroc": auroc,
    "average_precision": average_precision,
    "matthews": matthews,
    "kappa": kappa,
    "quadratic_kappa": quadratic_kappa,
    "nll": nll,
    "brier": brier,
    "ece": expected_calibration_error,
}


def _additive(name: str, probs: FloatArray, labels: IntArray, weights: FloatArray | None) -> Value:
    probs, labels, weights = check(probs, labels, weights)
    metric = ADDITIVE[name]
    return _plain(metric.finish(weights @ metric.statistic(probs, labels)))


def _area(scores: FloatArray, positive: BoolArray, weights: FloatArray) -> FloatArray:
    """(…,) the share of pairs in order, ties half: for every positive, the weight of the negatives below it."""
    hits, misses = _rising(scores, positive), _rising(scores, ~positive)
    below = np.searchsorted(scores[misses], scores[hits], side="left")
    upto = np.searchsorted(scores[misses], scores[hits], side="right")
    found = []
    for block in _blocks(weights):
        of_hits, passed = block[hits], _running(block[misses])
        pairs = np.einsum("nb,nb->b", of_hits, passed[below])
        if (upto > below).any():
            pairs = (pairs + np.einsum("nb,nb->b", of_hits, passed[upto])) / 2
        found.append(_ratio(pairs, of_hits.sum(axis=0) * passed[-1]))
    return np.concatenate(found).reshape(weights.shape[:-1])


def _steps(scores: FloatArray, positive: BoolArray, weights: FloatArray) -> FloatArray:
    """(…,) for every positive, the precision among all that score as high or higher."""
    hits, misses = _rising(-scores, positive), _rising(-scores, ~positive)
    caught = np.searchsorted(-scores[hits], -scores[hits], side="right")
    alarms = np.searchsorted(-scores[misses], -scores[hits], side="right")
    found = []
    for block in _blocks(weights):
        of_hits = block[hits]
        above = _running(of_hits)[caught]
        precise = _ratio(above, above + _running(block[misses])[alarms], otherwise=0.0)
        found.append(_ratio(np.einsum("nb,nb->b", of_hits, precise), of_hits.sum(axis=0)))
    return np.concatenate(found).reshape(weights.shape[:-1])


def _rising(scores: FloatArray, among: BoolArray) -> IntArray:
    """The rows among these, lowest score first."""
    rows = np.flatnonzero(among)
    return rows[np.argsort(scores[rows], kind="stable")]


def _running(block: FloatArray) -> FloatArray:
    """(n + 1, b) sums of the first 0, 1, … n rows."""
    sums = np.zeros((len(block) + 1, block.shape[1]), dtype=block.dtype)
    np.cumsum(block, axis=0, out=sums[1:])
    return sums


def _blocks(weights: FloatArray) -> Iterator[FloatArray]:
    """(N, b) pieces of the transposed weights that fit a processor's cache."""
    rows = np.atleast_2d(weights)
    step = max(1, 200_000 // rows.shape[1])
    for start in range(0, len(rows), step):
        yield np.ascontiguousarray(rows[start : start + step].T)


def _hits(matrix: FloatArray) -> FloatArray:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _ratio(above: FloatArray, below: FloatArray, otherwise: float = np.nan) -> FloatArray:
    """above / below, and `otherwise` where below is zero."""
    result = np.full(
        np.broadcast_shapes(np.shape(above), np.shape(below)), otherwise, dtype=np.result_type(above, below)
    )
    np.divide(above, below, out=result, where=np.asarray(below) != 0)
    return result


def _mean_of_known(values: FloatArray) -> FloatArray:
    """Mean over the last axis of what is not NaN; NaN where all is."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))


def _plain(values: FloatArray) -> Value:
    return float(values) if np.ndim(values) == 0 else values
