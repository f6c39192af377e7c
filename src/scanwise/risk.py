"""Finite-sample guarantees: exact conformal quantiles, minimum counts, and binomial bounds."""

import math
from fractions import Fraction

import numpy as np

from scanwise.arrays import refuse_rows
from scanwise.errors import DataError
from scanwise.pooling import subject_codes
from scanwise.records import FloatArray, IntArray, StrArray

FINEST = 1e-9
"""Smallest share, and smallest distance from one, that a share may have."""
SLACK = 1e-9
"""Sums of reciprocals that should be whole may miss by rounding; this much, in subjects, is tolerated."""


def conformal_quantile(scores: FloatArray, alpha: float, subjects: StrArray | None = None) -> float:
    """Threshold that a new score does not exceed with probability at least 1 - alpha.

    Without subjects it is the ceil((n + 1)(1 - alpha))-th smallest of n exchangeable scores (Vovk et al. 2005): the
    new score is one more, hence n + 1. With subjects it is the quantile of the hierarchical law that gives each of K
    subjects the mass 1 / (K + 1), spread evenly over its scores, and infinity the last 1 / (K + 1): valid for a random
    scan of a new subject (Dunn et al. 2022; Lee et al. 2023). Both agree where each subject has one score.

    Args:
        scores: (N,) nonconformity, higher is more unusual; infinity is allowed.
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
    share = float(exact_fraction(alpha, "alpha"))
    if conformal_rank(len(names), alpha) > len(names):
        return math.inf
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum((1 / np.bincount(of_subject))[of_subject[order]])
    index = int(np.searchsorted(mass, (len(names) + 1) * (1 - share) - SLACK))
    return float(scores[order[index]]) if index < len(scores) else math.inf


def conformal_rank(count: int, alpha: float) -> int:
    """Index of the threshold among n sorted scores: ceil((n + 1)(1 - alpha)), free of float rounding.

    >>> conformal_rank(9, 0.1), conformal_rank(19, 0.05), conformal_rank(9, 1 - 0.9)
    (9, 19, 9)
    """
    if count < 1:
        raise DataError("A threshold needs at least one score; there are none. Give the calibration side some scans.")
    return math.ceil((count + 1) * (1 - exact_fraction(alpha, "alpha")))


def minimum_count(alpha: float) -> int:
    """Smallest number of scores that can guarantee coverage of 1 - alpha.

    >>> [minimum_count(alpha) for alpha in (0.1, 0.05, 0.01)]
    [9, 19, 99]
    """
    share = exact_fraction(alpha, "alpha")
    return math.ceil((1 - share) / share)


def exact_fraction(share: float, name: str) -> Fraction:
    """A share as the fraction of its decimal: 0.1 is one tenth, not 0.1000000000000000055…

    Raises:
        DataError: unless 0 < share < 1, and neither end is nearer than `FINEST`: no number of subjects would show it.
    """
    if not 0 < share < 1:
        raise DataError(f"{name} must lie between 0 and 1, both excluded; it is {share}.")
    if not FINEST <= share <= 1 - FINEST:
        raise DataError(
            f"{name} is {share}, too near to {0 if share < 0.5 else 1} to mean anything: no number of subjects tells it "
            f"from that. Give a share between {FINEST} and 1 - {FINEST}, such as 0.1."
        )
    return Fraction(float(share)).limit_denominator(10**9)


def minimum_answered(risk: float, delta: float) -> int:
    """Number of subjects answered without an error that bounds the error by `risk`: (1 - risk)^n <= delta.

    >>> minimum_answered(0.1, 0.1)
    22
    """
    share, chance = float(exact_fraction(risk, "risk")), float(exact_fraction(delta, "delta"))
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

    tail = (1 - float(exact_fraction(confidence, "confidence"))) / 2
    failures = counts - successes
    low = betaincinv(np.maximum(successes, 1), failures + 1, tail)
    high = betaincinv(successes + 1, np.maximum(failures, 1), 1 - tail)
    return np.where(successes == 0, 0.0, low), np.where(failures == 0, 1.0, high)


def mid_p_limits(shares: FloatArray, counts: FloatArray, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Mid-P limits of binomial shares (Berry and Armitage 1995): exact but for half of the outcome that was seen.

    On average over outcomes they hold the truth as often as they say, where Clopper and Pearson's hold it more often. Counts
    may be effective numbers, any above zero.

    >>> low, high = mid_p_limits(np.array([1.0, 0.5]), np.array([10.0, 10.0]))
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.741, 0.212], [1.0, 0.788])
    """
    tail = (1 - float(exact_fraction(confidence, "confidence"))) / 2
    shares, counts = np.asarray(shares, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    opposite, upper = _mid_p_upper(np.stack([1 - shares, shares]), counts, tail)
    return 1 - opposite, upper


def _mid_p_upper(shares: FloatArray, counts: FloatArray, tail: float) -> FloatArray:
    """The share at which half of what was seen, and all of what is less, has this probability.

    By Newton's method, kept inside what is known to be too low and too high, from Jeffreys' limit, which is near.
    """
    from scipy.special import betainc, betaincinv, gammaln

    hits, misses = shares * counts, np.maximum((1 - shares) * counts, 0.0)
    inner = misses > 1e-9
    misses = np.where(inner, misses, 1.0)
    scale = gammaln(hits + misses + 1) - gammaln(hits + 1) - gammaln(misses + 1)
    low, high = np.zeros_like(hits), np.ones_like(hits)
    limit = betaincinv(hits + 0.5, misses + 0.5, 1 - tail)
    for _ in range(60):
        limit = np.clip(limit, 1e-300, 1 - 1e-16)
        seen = np.exp(scale + hits * np.log(limit) + misses * np.log1p(-limit))
        excess = 1 - betainc(hits + 1, misses, limit) - seen / 2 - tail
        low, high = np.where(excess > 0, limit, low), np.where(excess > 0, high, limit)
        slope = seen / 2 * (misses / (1 - limit) + hits / limit)
        step = limit + np.divide(excess, slope, out=np.full_like(slope, 2.0), where=slope > 0)
        before, limit = limit, np.where((step >= low) & (step <= high), step, (low + high) / 2)
        if np.abs(limit - before).max(initial=0.0) < 1e-12:
            break
    return np.where(inner, limit, 1.0)


def coverage_band(calibration: int, test: int, alpha: float, probability: float) -> float:
    """A quantile of the share covered on the test side, before any test scan is seen.

    With k = ceil((n + 1)(1 - alpha)) and distinct exchangeable scores, the coverage of a threshold is Beta(k, n + 1 - k)
    and the number covered among `test` units is beta-binomial (Vovk 2012; Angelopoulos and Bates 2023, section 3.2).

    Args:
        calibration: n, the number of calibration units.
        test: number of test units.
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
    exact_fraction(probability, "probability")
    rank = conformal_rank(calibration, alpha)
    if rank > calibration:
        return 1.0
    covered = np.arange(test + 1)
    ways = gammaln(test + 1) - gammaln(covered + 1) - gammaln(test - covered + 1)
    a, b = rank, calibration + 1 - rank
    cumulative = np.cumsum(np.exp(ways + betaln(covered + a, test - covered + b) - betaln(a, b)))
    return min(int(np.searchsorted(cumulative, probability)), test) / test
