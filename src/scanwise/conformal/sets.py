"""One threshold on a conformal score, learnt from calibration subjects, and the prediction sets it gives."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np

from scanwise.arrays import check_draws, check_labels, check_probs, number_from
from scanwise.conformal.scores import SCORES
from scanwise.errors import DataError, lookup
from scanwise.pooling import subject_codes
from scanwise.records import BoolArray, FloatArray, IntArray, StrArray
from scanwise.risk import conformal_quantile, exact_fraction, minimum_count

Guarantee = Literal["new scan", "new subject", "random scan of a new subject", "every scan of a new subject"]
GUARANTEES: tuple[Guarantee, ...] = (
    "new scan",
    "new subject",
    "random scan of a new subject",
    "every scan of a new subject",
)

PENALTIES = (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Values of lambda that `tune` tries."""


@dataclass(frozen=True, slots=True)
class ConformalSets:
    """A threshold on a score, and all that is needed to apply it.

    Attributes:
        score: an entry of `SCORES`.
        alpha: allowed miscoverage.
        threshold: infinity where there were too few calibration units for any guarantee.
        penalty: lambda of RAPS and SAPS.
        k_reg: the rank after which RAPS penalises.
        randomised: whether draws are needed, with which scores have no ties and coverage is not exceeded.
        calibration_count: n, the scans or, with subjects, the subjects that the threshold was learnt on.
        guarantee: the unit that coverage is guaranteed for.
        allow_empty: whether a set may be empty; if not, the most probable class is added and coverage is exceeded.
    """

    score: str
    alpha: float
    threshold: float
    penalty: float = 0.0
    k_reg: int = 0
    randomised: bool = False
    calibration_count: int = 0
    guarantee: Guarantee = "new scan"
    allow_empty: bool = True

    @classmethod
    def fit(
        cls,
        probs: FloatArray,
        labels: IntArray,
        *,
        alpha: float,
        score: str = "raps",
        penalty: float = 0.0,
        k_reg: int = 0,
        subjects: StrArray | None = None,
        draws: FloatArray | None = None,
        allow_empty: bool = True,
        every_scan: bool = False,
    ) -> Self:
        """Learn the threshold from calibration scans; no sort is needed.

        Args:
            probs: (N, C) calibrated probabilities.
            labels: (N,) class indices.
            alpha: allowed miscoverage; 0.1 guarantees 90 %.
            score: an entry of `SCORES`.
            penalty: lambda of RAPS and SAPS, at least 0.
            k_reg: the rank after which RAPS penalises.
            subjects: (N,) the subject of each row. Without them the rows themselves must be exchangeable, which
                scans of the same subject are not. With them coverage is guaranteed for a random scan of a new subject.
            draws: (N,) of [0, 1), from `draws_from`; None for scores that are not randomised.
            allow_empty: whether a set may be empty.
            every_scan: with subjects, guarantee that all scans of a new subject are covered at once.

        Raises:
            DataError: if rows are not probabilities, labels out of range, or alpha, penalty or k_reg impossible.
            ShapeError: if the arrays disagree in N.

        >>> probs = np.tile([[0.8, 0.2]], (9, 1))
        >>> sets = ConformalSets.fit(probs, np.zeros(9, int), alpha=0.1, score="lac")
        >>> round(sets.threshold, 3), sets(probs[:1]).tolist(), sets.warning
        (0.2, [[True, False]], '')
        """
        chosen = lookup(SCORES, score, "conformal score")
        probs, labels, numbers = check_scored_rows(probs, labels, draws)
        _check_tuning(penalty, k_reg)
        scores = chosen.of_labels(probs, labels, numbers, penalty, k_reg)
        count, guarantee = len(probs), GUARANTEES[0]
        if subjects is None:
            if every_scan:
                raise DataError("every_scan is a guarantee for subjects; give the subject of each row.")
            threshold = conformal_quantile(scores, alpha)
        else:
            of_subject, names = subject_codes(subjects, len(probs))
            count, guarantee = len(names), GUARANTEES[1 if len(names) == len(probs) else 3 if every_scan else 2]
            if every_scan:
                threshold = conformal_quantile(_largest(scores, of_subject, count), alpha)
            else:
                threshold = conformal_quantile(scores, alpha, subjects)
        return cls(score, alpha, threshold, penalty, k_reg, draws is not None, count, guarantee, allow_empty)

    def __call__(self, probs: FloatArray, draws: FloatArray | None = None) -> BoolArray:
        """(N, C) the prediction sets of probabilities (N, C).

        Args:
            probs: (N, C) probabilities, calibrated as those that the threshold was learnt on.
            draws: (N,) of [0, 1) from `draws_from`, if and only if the score is randomised.
        """
        probs = check_probs(probs)
        if self.randomised != (draws is not None):
            raise DataError(
                f"These sets were fitted {'with' if self.randomised else 'without'} draws and must be made so too. "
                "Give `draws_from` of the hash of each scan exactly when they are randomised."
            )
        if math.isinf(self.threshold):
            return np.ones(probs.shape, dtype=np.bool_)
        numbers = draws_or_ones(draws, len(probs))
        sets = SCORES[self.score].within(probs, self.threshold, numbers, self.penalty, self.k_reg)
        if not self.allow_empty:
            sets[np.arange(len(probs)), probs.argmax(axis=1)] |= ~sets.any(axis=1)
        return sets

    @property
    def coverage(self) -> float:
        """The coverage that is guaranteed: 1 - alpha, or 0 where there are too few calibration units for any."""
        return 0.0 if math.isinf(self.threshold) else float(1 - exact_fraction(self.alpha, "alpha"))

    @property
    def warning(self) -> str:
        """A note where sets hold every class or cover more than 1 - alpha; empty where they are exact."""
        if math.isinf(self.threshold):
            unit = "scans" if self.guarantee == "new scan" else "subjects"
            return (
                f"{self.calibration_count} calibration {unit} cannot guarantee {1 - self.alpha:.0%} coverage, which "
                f"needs {minimum_count(self.alpha)}: every set holds every class."
            )
        if not self.allow_empty:
            return "Sets are never empty, so they cover more than was asked for."
        return ""

    @classmethod
    def tune(
        cls,
        probs: FloatArray,
        labels: IntArray,
        *,
        alpha: float,
        score: str = "raps",
        subjects: StrArray | None = None,
        draws: FloatArray | None = None,
    ) -> tuple[float, int]:
        """Choose lambda and k_reg on validation subjects: the smallest mean set at this alpha.

        Every pair of `PENALTIES` and ranks 0…C - 1 (up to 20) is tried. Subjects are split into two halves, class by
        class; thresholds learnt on either half make sets of the other, and the mean number of classes in them is
        compared. Ties go to the smaller lambda, then the smaller k_reg. Tuning and thresholds must not share
        subjects: thresholds come from calibration subjects.

        Returns:
            (lambda, k_reg); (0.0, 0) for scores without them, or where half the subjects is below `minimum_count`.
        """
        chosen = lookup(SCORES, score, "conformal score")
        probs, labels, numbers = check_scored_rows(probs, labels, draws)
        exact_fraction(alpha, "alpha")
        subjects = np.arange(len(probs)).astype(str) if subjects is None else np.asarray(subjects)
        of_subject, names = subject_codes(subjects, len(probs))
        if not chosen.tunable or len(names) // 2 < minimum_count(alpha):
            return 0.0, 0
        first = np.zeros(len(names), dtype=np.int64)
        first[of_subject[::-1]] = labels[::-1]  # the label of a subject's first row
        turn = np.empty(len(names), dtype=np.int64)
        turn[np.argsort(first, kind="stable")] = np.arange(len(names)) % 2
        halves = [turn[of_subject] == side for side in (0, 1)]

        def mean_size(penalty: float, k_reg: int) -> float:
            scores = chosen.of_labels(probs, labels, numbers, penalty, k_reg)
            total = 0
            for half in halves:
                threshold = conformal_quantile(scores[half], alpha, subjects[half])
                total += int(chosen.within(probs[~half], threshold, numbers[~half], penalty, k_reg).sum())
            return total / len(probs)

        ranks = range(min(probs.shape[1], 20)) if "k_reg" in chosen.tunable else range(1)
        pairs = [(0.0, 0)] + [(penalty, k_reg) for penalty in PENALTIES[1:] for k_reg in ranks]
        return min(pairs, key=lambda pair: (round(mean_size(*pair), 9), pair))

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON (an infinite threshold is null); `from_dict` reads them."""
        return {**asdict(self), "threshold": None if math.isinf(self.threshold) else self.threshold}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the values of `to_dict`."""
        names = set(cls.__dataclass_fields__)
        if set(values) != names or values["score"] not in SCORES or values["guarantee"] not in GUARANTEES:
            raise DataError(f"Conformal sets are saved as {sorted(names)}; found {dict(values)}. Was the file changed?")
        threshold = math.inf if values["threshold"] is None else number_from(values, "threshold")
        exact_fraction(number_from(values, "alpha"), "alpha")
        number_from(values, "penalty", low=0)
        return cls(**{**values, "threshold": threshold})


def draws_from(hashes: Sequence[str]) -> FloatArray:
    """(N,) numbers in [0, 1), each a function of a scan's hash alone: the same scan always gets the same set.

    >>> draws_from(["ab12", "ab12"]).round(4).tolist() == [draws_from(["ab12"]).round(4)[0]] * 2
    True
    """
    digests = [hashlib.sha256(b"scanwise conformal draw 1:" + text.encode()).digest() for text in hashes]
    return np.array([int.from_bytes(digest[:8], "big") >> 11 for digest in digests], dtype=np.float64) / 2.0**53


def _largest(scores: FloatArray, of_subject: IntArray, count: int) -> FloatArray:
    largest = np.full(count, -np.inf)
    np.maximum.at(largest, of_subject, scores)
    return largest


def check_scored_rows(
    probs: FloatArray, labels: IntArray, draws: FloatArray | None
) -> tuple[FloatArray, IntArray, FloatArray]:
    probs = check_probs(probs)
    return probs, check_labels(labels, probs.shape[1], len(probs)), draws_or_ones(draws, len(probs))


def draws_or_ones(draws: FloatArray | None, count: int) -> FloatArray:
    """The draws, or ones: a score that is not randomised counts all of a class's own mass."""
    return np.ones(count) if draws is None else check_draws(draws, count)


def _check_tuning(penalty: float, k_reg: int) -> None:
    if not 0 <= penalty < math.inf or k_reg < 0:
        raise DataError(f"penalty and k_reg must be at least 0; they are {penalty} and {k_reg}.")
