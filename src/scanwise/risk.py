"""What finite samples can promise: exact quantiles, least counts, binomial bounds, and one row a subject.

What several stages share about risk lies here, and the checks of arrays that come in from anywhere.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from scanwise.errors import DataError, ShapeError, lookup
from scanwise.records import BoolArray, FloatArray, IntArray, Logits, StrArray

SLACK = 1e-9
"""Sums of reciprocals that should be whole may miss by rounding; this much, in subjects, is forgiven."""


def conformal_quantile(scores: FloatArray, alpha: float, subjects: StrArray | None = None) -> float:
    """The threshold that a new score stays under with probability at least 1 - alpha.

    Without subjects it is the ceil((n + 1)(1 - alpha))-th smallest of n exchangeable scores (Vovk et al. 2005): the
    new score is one more, hence n + 1. With subjects it is the quantile of the hierarchical law that gives each of K
    subjects the mass 1 / (K + 1), spread evenly over its scores, and infinity the last 1 / (K + 1): valid for a random
    scan of a new subject (Dunn et al. 2022; Lee et al. 2023). Both agree where each subject has one score.

    Args:
        scores: (N,) nonconformity, higher is stranger; infinity is allowed.
        alpha: allowed miscoverage, read as the decimal that it prints as.
        subjects: (N,) the subject of each score.

    Returns:
        The threshold; infinity where N (or K) is below `minimum_count(alpha)`.

    Raises:
        DataError: if a score is NaN, there is none, or alpha is not between 0 and 1.
        ShapeError: if scores and subjects differ in length.

    >>> conformal_quantile(np.arange(1.0, 10.0), 0.1)
    9.0
    >>> conformal_quantile(np.arange(1.0, 9.0), 0.1)
    inf
    >>> conformal_quantile(np.array([1.0, 5.0, 2.0]), 0.5, np.array(["a", "a", "b"]))
    2.0
    """
    scores = np.asarray(scores, dtype=np.float64)
    refuse_rows(np.isnan(scores), "a score that is not a number")
    if subjects is None:
        rank = conformal_rank(len(scores), alpha)
        return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else math.inf
    of_subject, names = subject_codes(subjects, len(scores))
    share = float(exact(alpha, "alpha"))
    if conformal_rank(len(names), alpha) > len(names):
        return math.inf
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum((1 / np.bincount(of_subject))[of_subject[order]])
    place = int(np.searchsorted(mass, (len(names) + 1) * (1 - share) - SLACK))
    return float(scores[order[place]]) if place < len(scores) else math.inf


def conformal_rank(count: int, alpha: float) -> int:
    """ceil((n + 1)(1 - alpha)), free of float rounding: which of n sorted scores is the threshold.

    >>> conformal_rank(9, 0.1), conformal_rank(19, 0.05), conformal_rank(9, 1 - 0.9)
    (9, 19, 9)
    """
    if count < 1:
        raise DataError("A threshold needs at least one score; there are none. Give the calibration side some scans.")
    return math.ceil((count + 1) * (1 - exact(alpha, "alpha")))


def minimum_count(alpha: float) -> int:
    """The fewest scores from which coverage of 1 - alpha can be promised at all.

    >>> [minimum_count(alpha) for alpha in (0.1, 0.05, 0.01)]
    [9, 19, 99]
    """
    share = exact(alpha, "alpha")
    return math.ceil((1 - share) / share)


def exact(share: float, name: str) -> Fraction:
    """A share as the fraction that its decimal means: 0.1 is one tenth, not 0.1000000000000000055…

    Raises:
        DataError: unless 0 < share < 1.
    """
    if not 0 < share < 1:
        raise DataError(f"{name} must lie between 0 and 1, both excluded; it is {share}.")
    return Fraction(float(share)).limit_denominator(10**9)


def least_answered(risk: float, delta: float) -> int:
    """How many subjects answered without an error it takes to bound the error by `risk`: (1 - risk)^n <= delta.

    >>> least_answered(0.1, 0.1)
    22
    """
    share, chance = float(exact(risk, "risk")), float(exact(delta, "delta"))
    return math.ceil(math.log(chance) / math.log1p(-share) - 1e-9)


def clopper_pearson(successes: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a binomial share (Clopper and Pearson 1934); (0, 1) where count is 0.

    >>> low, high = clopper_pearson(10, 10)
    >>> round(low, 4), high
    (0.6915, 1.0)
    """
    if not 0 <= successes <= count:
        raise DataError(f"Successes must lie between 0 and the count; they are {successes} of {count}.")
    low, high = clopper_pearson_arrays(np.array([successes]), np.array([count]), confidence)
    return float(low[0]), float(high[0])


def clopper_pearson_arrays(
    successes: IntArray, counts: IntArray, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """`clopper_pearson` of many shares at once: two arrays of the shape of `successes`."""
    from scipy.special import betaincinv

    tail = (1 - float(exact(confidence, "confidence"))) / 2
    failures = counts - successes
    low = betaincinv(np.maximum(successes, 1), failures + 1, tail)
    high = betaincinv(successes + 1, np.maximum(failures, 1), 1 - tail)
    return np.where(successes == 0, 0.0, low), np.where(failures == 0, 1.0, high)


def coverage_band(calibration: int, test: int, alpha: float, probability: float) -> float:
    """A quantile of the share that will be covered, before any test scan is seen.

    With k = ceil((n + 1)(1 - alpha)) and distinct exchangeable scores, the coverage of a threshold is Beta(k, n + 1 - k)
    and the number covered among `test` units is beta-binomial (Vovk 2012; Angelopoulos and Bates 2023, section 3.2).

    Args:
        calibration: n, the units that the threshold was learnt on.
        test: the units that it is tried on.
        alpha: allowed miscoverage.
        probability: which quantile; 0.025 and 0.975 make a 95 % band.

    Returns:
        The smallest share c / test with P(covered <= c) >= probability; 1 where the threshold is infinite.

    >>> coverage_band(99, 100, 0.1, 0.025), coverage_band(99, 100, 0.1, 0.975)
    (0.81, 0.97)
    """
    from scipy.special import betaln, gammaln

    if test < 1:
        raise DataError("A coverage band needs at least one test unit; there are none.")
    exact(probability, "probability")
    rank = conformal_rank(calibration, alpha)
    if rank > calibration:
        return 1.0
    covered = np.arange(test + 1)
    ways = gammaln(test + 1) - gammaln(covered + 1) - gammaln(test - covered + 1)
    a, b = rank, calibration + 1 - rank
    cumulative = np.cumsum(np.exp(ways + betaln(covered + a, test - covered + b) - betaln(a, b)))
    return min(int(np.searchsorted(cumulative, probability)), test) / test


def log_softmax(logits: FloatArray) -> FloatArray:
    """Log-probabilities over the last axis, in float64; what is subtracted is the same for every class of a row.

    >>> log_softmax(np.array([0.0, 0.0])).round(4)
    array([-0.6931, -0.6931])
    """
    logits = np.asarray(logits, dtype=np.float64)
    shifted: FloatArray = logits - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities over the last axis, in float64."""
    logits = np.asarray(logits, dtype=np.float64)
    shifted: FloatArray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


def _mean_of_logits(values: FloatArray, of_subject: IntArray, counts: IntArray) -> FloatArray:
    return mean_by(log_softmax(values), of_subject, counts)


def _mean_of_probs(values: FloatArray, of_subject: IntArray, counts: IntArray) -> FloatArray:
    return np.asarray(np.log(np.clip(mean_by(softmax(values), of_subject, counts), 1e-12, None)))


def _votes(values: FloatArray, of_subject: IntArray, counts: IntArray) -> FloatArray:
    """Log-shares of the scans that name each class, half a vote added to each so that none is impossible."""
    named = values.argmax(axis=-1)[..., None] == np.arange(values.shape[-1])
    votes = mean_by(named.astype(np.float64), of_subject, counts) * counts.reshape(-1, *[1] * (values.ndim - 1)) + 0.5
    return np.asarray(np.log(votes / votes.sum(axis=-1, keepdims=True)))


POOLINGS: dict[str, Callable[[FloatArray, IntArray, IntArray], FloatArray]] = {
    "mean_logit": _mean_of_logits,
    "mean_prob": _mean_of_probs,
    "majority": _votes,
}
"""How the scans of a subject become one answer: (logits (N, T, C), subject codes, counts) to logits (K, T, C)."""


def pool_by_subject(logits: Logits, how: str = "mean_logit") -> Logits:
    """One row a subject, in order of first appearance, by one of `POOLINGS`, member by member.

    Unsaid, it is the mean over its scans of log-softmax logits. A subject's label is its most common one, the later class where two are as common; -1 is an unknown label. `scans` becomes the number of
    scans, as text; a group keeps its value where all scans of the subject agree, and is "" where not; features are
    averaged.

    Raises:
        DataError: if a scan has no subject, or a logit is NaN or infinite.

    >>> scans = np.array(["1.png", "2.png", "3.png"])
    >>> both = Logits(np.zeros((3, 1, 2)), np.array([0, 1, 1]), scans, np.array(["b", "b", "a"]), ("no", "yes"))
    >>> pooled = pool_by_subject(both)
    >>> pooled.subjects.tolist(), pooled.scans.tolist(), pooled.labels.tolist()
    (['b', 'a'], ['2', '1'], [1, 1])
    """
    values = check_logits(logits.logits)
    of_subject, names = subject_codes(logits.subjects, len(logits))
    counts = np.bincount(of_subject, minlength=len(names))
    pooled = lookup(POOLINGS, how, "pooling")(values, of_subject, counts).astype(values.dtype)
    features = logits.features
    return replace(
        logits,
        logits=pooled,
        labels=common_label(logits.labels + 1, of_subject, len(logits.classes) + 1) - 1,
        scans=counts.astype(str),
        subjects=names,
        groups={name: _agreed(column, of_subject, counts) for name, column in logits.groups.items()},
        features=None if features is None else mean_by(features, of_subject, counts).astype(features.dtype),
        appearance=None,
    )


def subject_codes(subjects: StrArray, count: int) -> tuple[IntArray, StrArray]:
    """(N,) the index of each row's subject and (K,) the subjects, in order of first appearance.

    Raises:
        ShapeError: if there are not `count` subjects.
        DataError: if a subject is "".
    """
    subjects = np.asarray(subjects)
    if subjects.shape != (count,):
        raise ShapeError(f"Expected the subject of each of {count} rows; found subjects of shape {subjects.shape}.")
    if subjects.dtype.kind == "U":
        refuse_rows(subjects == "", "no subject; who it is decides what may be promised")
    names, first, codes = np.unique(subjects, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place[codes], names[order]


def common_label(labels: IntArray, of_subject: IntArray, num_classes: int) -> IntArray:
    """(K,) the most common label of each subject; the later class where two are as common."""
    labels = check_labels(labels, num_classes, len(of_subject))
    num_subjects = int(of_subject.max()) + 1
    counts = np.bincount(of_subject * num_classes + labels, minlength=num_subjects * num_classes)
    latest: IntArray = (num_classes - 1) - counts.reshape(num_subjects, num_classes)[:, ::-1].argmax(axis=1)
    return latest


def ends_of_ties(values: FloatArray) -> IntArray:
    """Of sorted values, where each run of equal ones ends; infinities are equal to each other.

    >>> ends_of_ties(np.array([1.0, 1.0, 2.0, np.inf, np.inf]))
    array([1, 2, 4])
    """
    return np.flatnonzero(np.append(values[1:] != values[:-1], True))


def mean_by(values: FloatArray, codes: IntArray, counts: IntArray) -> FloatArray:
    """(K, …) the mean of the rows (N, …) of each code, in float64."""
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    sums = np.add.reduceat(np.asarray(values, dtype=np.float64)[order], starts, axis=0)
    means: FloatArray = sums / counts.reshape(-1, *[1] * (values.ndim - 1))
    return means


def _agreed(column: StrArray, of_subject: IntArray, counts: IntArray) -> StrArray:
    first = np.argsort(of_subject, kind="stable")[np.concatenate(([0], np.cumsum(counts)[:-1]))]
    agrees = np.bincount(of_subject, weights=column == column[first][of_subject]) == counts
    return np.where(agrees, column[first], "")


def check_logits(logits: FloatArray) -> FloatArray:
    """(N, C) or (N, T, C) finite logits as they are, or an error that names the rows.

    They are logits whatever values they have, also between 0 and 1.
    """
    logits = np.asarray(logits)
    if logits.ndim not in (2, 3) or logits.shape[-1] < 2 or (logits.ndim == 3 and logits.shape[1] < 1):
        raise ShapeError(f"Logits must be (N, C) or (N, T, C) of two classes or more; they are {logits.shape}.")
    if len(logits) == 0:
        raise DataError("There are no logits: N is 0.")
    finite: BoolArray = np.logical_and.reduce(np.isfinite(logits.reshape(len(logits), -1)), axis=1)
    refuse_rows(~finite, "logits that are NaN or infinite")
    return logits if logits.dtype.kind == "f" else logits.astype(np.float64)


def check_probs(probs: FloatArray) -> FloatArray:
    """(N, C) probabilities as they are, or an error that names the rows.

    Rows must be finite, not negative and sum to one within what float16 can hold.
    """
    probs = np.asarray(probs)
    if probs.ndim != 2 or probs.shape[1] < 2:
        raise ShapeError(f"Probabilities must be (N, C) of two classes or more; they are {probs.shape}.")
    if len(probs) == 0:
        raise DataError("There are no probabilities: N is 0.")
    sums = probs.sum(axis=1, dtype=np.float64)
    tolerance = 1e-2 if probs.dtype == np.float16 else 1e-3
    wrong = ~(np.abs(sums - 1) <= tolerance)
    if probs.min() < 0:
        wrong |= (probs < 0).any(axis=1)
    refuse_rows(wrong, "probabilities that are negative, NaN or do not sum to one (logits? calibrate them first)")
    return probs if probs.dtype.kind == "f" else probs.astype(np.float64)


def check_labels(labels: IntArray, num_classes: int, count: int) -> IntArray:
    """(N,) class indices as they are, or an error that names the rows."""
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise ShapeError(f"Expected the label of each of {count} rows; found labels of shape {labels.shape}.")
    if labels.dtype.kind not in "iu":
        raise DataError(f"Labels must be class indices, whole numbers; they are {labels.dtype}.")
    refuse_rows((labels < 0) | (labels >= num_classes), f"a label outside 0…{num_classes - 1}")
    return labels.astype(np.int64, copy=False)


def check_features(features: FloatArray) -> FloatArray:
    """(N, D) finite features in float64, or an error that names the rows."""
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or not len(features):
        raise ShapeError(f"Features must be (N, D) with N at least 1; they are {features.shape}.")
    refuse_rows(~np.logical_and.reduce(np.isfinite(features), axis=1), "features that are NaN or infinite")
    return features


def check_draws(draws: FloatArray, count: int) -> FloatArray:
    """(N,) numbers in [0, 1) as they are, or an error that names the rows."""
    draws = np.asarray(draws, dtype=np.float64)
    if draws.shape != (count,):
        raise ShapeError(f"Expected the draw of each of {count} rows; found draws of shape {draws.shape}.")
    refuse_rows(~((draws >= 0) & (draws < 1)), "a draw outside [0, 1)")
    return draws


def refuse_rows(wrong: BoolArray, what: str) -> None:
    """Raise a DataError that names the rows where `wrong` is true, if any."""
    if wrong.any():
        rows = np.flatnonzero(wrong)
        shown = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
        raise DataError(f"{len(rows)} of {len(wrong)} rows have {what}. Rows: {shown}.")


def number_from(values: Mapping[str, Any], name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number between `low` and `high` from a saved dictionary, or a DataError."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise DataError(f"{name!r} must be a number from {low} to {high}; it is {value!r}. Was the file changed?")
    return float(value)
