"""A test that misses few of the ill: a cut on the evidence of disease whose sensitivity is bounded from below."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from scanwise.arrays import refuse_rows
from scanwise.errors import DataError, ShapeError
from scanwise.pooling import subject_codes
from scanwise.records import BoolArray, FloatArray, StrArray
from scanwise.risk import clopper_pearson, exact_fraction, minimum_answered


@dataclass(frozen=True, slots=True)
class SensitivityFloor:
    """Flag every subject whose evidence reaches a cut, so that at least `floor` of the ill are flagged.

    The promise holds with probability 1 - delta over calibration sides, for ill subjects drawn like those that the cut
    was learnt on; nothing is promised about the healthy.

    Attributes:
        threshold: flag where the evidence is at least this; minus infinity, which flags everyone, where no cut qualifies.
        floor: the sensitivity that is promised.
        delta: the chance, over calibration sides, that it is not kept.
        ill: the ill subjects that it was learnt on.
        specificity: the share of the healthy calibration subjects that is not flagged; NaN where there are none.
        specificity_interval: its 95 % interval, exact: the cut is learnt on the ill alone.
        refused: why no cut qualifies; empty where one does.
    """

    threshold: float
    floor: float
    delta: float
    ill: int
    specificity: float
    specificity_interval: tuple[float, float]
    refused: str = ""

    @classmethod
    def fit(
        cls, evidence: FloatArray, ill: BoolArray, *, floor: float = 0.9, delta: float = 0.1, subjects: StrArray
    ) -> Self:
        """Learn the highest cut that keeps the floor, by Learn-then-Test (Angelopoulos et al. 2021).

        Cuts are tested from the lowest on, each by an exact binomial test of "more than 1 - floor of the ill lie below
        it" at level delta, and the first failure ends it. Sensitivity only falls as the cut rises, so that every cut
        may be tried and no grid need be fixed before: at the cut where the floor is crossed the test fails with
        probability 1 - delta, and no later cut is reached.

        Args:
            evidence: (N,) a row a subject; higher speaks for disease, such as one minus the probability of the healthy
                class.
            ill: (N,) whether the subject is.
            floor: the sensitivity to promise.
            delta: the chance that it may not be kept.
            subjects: (N,) each once: pool scans by subject first.

        Raises:
            DataError: if a subject has two rows, evidence is NaN, or there is none.

        >>> evidence, names = np.arange(40.0), np.arange(40).astype(str)
        >>> str(SensitivityFloor.fit(evidence, np.arange(40) >= 10, floor=0.8, delta=0.1, subjects=names))
        'flags at least 80% of the ill (90% sure), and leaves 100% of the healthy unflagged'
        """
        evidence, ill = np.asarray(evidence, dtype=np.float64), np.asarray(ill, dtype=np.bool_)
        if evidence.ndim != 1 or evidence.shape != ill.shape:
            raise ShapeError(f"Expected evidence and illness of one length; found {evidence.shape} and {ill.shape}.")
        if not len(evidence):
            raise DataError("There is nobody to learn from: N is 0.")
        refuse_rows(np.isnan(evidence), "evidence that is not a number")
        if len(subject_codes(subjects, len(evidence))[1]) < len(evidence):
            raise DataError("A subject has several rows; a floor is of subjects. Pool the scans of each first.")
        known = np.sort(evidence[ill])
        allowed, needed = _misses(len(known), floor, delta), minimum_answered(1 - floor, delta)
        if allowed < 0:
            why = f"{len(known)} ill subjects; it takes {needed}"
            return cls(-math.inf, floor, delta, len(known), *_share(0, int((~ill).sum())), why)
        threshold = float(known[allowed])
        left = int((evidence[~ill] < threshold).sum())
        return cls(threshold, floor, delta, len(known), *_share(left, int((~ill).sum())))

    def __call__(self, evidence: FloatArray) -> BoolArray:
        """(N,) whether each subject is flagged; one whose evidence is not a number is."""
        return np.asarray(~(np.asarray(evidence) < self.threshold))

    def __str__(self) -> str:
        if self.refused:
            return f"no cut qualifies, so everyone is flagged: {self.refused}"
        promised = f"flags at least {self.floor:.0%} of the ill ({1 - self.delta:.0%} sure)"
        return promised + (
            f", and leaves {self.specificity:.0%} of the healthy unflagged" if self.specificity >= 0 else ""
        )


def _misses(count: int, floor: float, delta: float) -> int:
    """The most ill subjects of `count` that may lie below a cut whose test passes; -1 where even none is too many."""
    from scipy.stats import binom

    exact_fraction(floor, "floor")
    exact_fraction(delta, "delta")
    chance = binom.cdf(np.arange(count), count, 1 - floor)  # never all of them: a cut needs one ill subject to lie on
    return int(np.searchsorted(chance, delta * (1 + 1e-12), side="right")) - 1


def _share(hits: int, count: int) -> tuple[float, tuple[float, float]]:
    return (hits / count if count else math.nan), clopper_pearson(hits, count)
