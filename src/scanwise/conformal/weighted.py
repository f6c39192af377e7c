"""Prediction sets where new scans are drawn otherwise than the calibration scans, but look the same once drawn.

Under *covariate shift* the mix of scans changes (more old people, another scanner's contrast) while a given scan keeps
its chances of being each class. Calibration scans are then weighted by how much likelier they are among the new ones.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from scanwise.arrays import check_features, check_probs, refuse_rows
from scanwise.conformal.scores import ROUNDING, SCORES
from scanwise.conformal.sets import check_scored_rows, draws_or_ones
from scanwise.errors import DataError, ShapeError, lookup
from scanwise.pooling import subject_codes
from scanwise.records import BoolArray, FloatArray, IntArray, StrArray
from scanwise.risk import exact_fraction, minimum_count


@dataclass(frozen=True, slots=True)
class WeightedSets:
    """Calibration scores with weights; each new row has a threshold of its own (Tibshirani et al. 2019).

    What is promised: coverage of at least 1 - alpha over new rows, *if* labels given scans have the same law on both
    sides, *if* the weights are the true likelihood ratio up to a factor, and where calibration has scans of every kind
    that is new. With weights that were estimated, on other scans than these, coverage may fall below by half the mean
    absolute error of the weights (mean one; Lei and Candès 2021), which nobody knows. A shift of labels given scans,
    such as another disease, voids all of it.

    Attributes:
        score: an entry of `SCORES`.
        alpha: allowed miscoverage.
        scores: (n,) of the calibration rows, rising.
        weights: (n,) of these rows.
        penalty: lambda of RAPS and SAPS.
        k_reg: the rank after which RAPS penalises.
        randomised: whether draws are needed.
    """

    score: str
    alpha: float
    scores: FloatArray
    weights: FloatArray
    penalty: float = 0.0
    k_reg: int = 0
    randomised: bool = False

    @classmethod
    def fit(
        cls,
        probs: FloatArray,
        labels: IntArray,
        weights: FloatArray,
        *,
        alpha: float,
        score: str = "raps",
        penalty: float = 0.0,
        k_reg: int = 0,
        subjects: StrArray,
        draws: FloatArray | None = None,
    ) -> Self:
        """Keep the scores of calibration rows beside their weights.

        Args:
            probs: (N, C) calibrated probabilities.
            labels: (N,) class indices.
            weights: (N,) likelihood ratio, new to calibration, of each row; any common factor.
            alpha: allowed miscoverage.
            score: an entry of `SCORES`.
            penalty: lambda of RAPS and SAPS.
            k_reg: the rank after which RAPS penalises.
            subjects: (N,) each once: pool scans by subject first.
            draws: (N,) of [0, 1), or None.

        Raises:
            DataError: if a weight is negative or not finite, all are zero, or a subject has two rows.

        >>> probs, labels = np.tile([[0.8, 0.2]], (9, 1)), np.zeros(9, int)
        >>> names = np.arange(9).astype(str)
        >>> sets = WeightedSets.fit(probs, labels, np.ones(9), alpha=0.1, score="lac", subjects=names)
        >>> sets(probs[:1], np.ones(1)).tolist(), sets(probs[:1], np.array([2.0])).tolist()
        ([[True, False]], [[True, True]])
        """
        chosen = lookup(SCORES, score, "conformal score")
        probs, labels, numbers = check_scored_rows(probs, labels, draws)
        exact_fraction(alpha, "alpha")
        weights = _check_weights(weights, len(probs))
        if len(subject_codes(subjects, len(probs))[1]) < len(probs):
            raise DataError("A subject has several rows; weights are of subjects here. Pool the scans of each first.")
        if not weights.sum() > 0:
            raise DataError(
                "Every weight is zero: no calibration scan is like the new ones, so nothing can be promised."
            )
        strange = chosen.of_labels(probs, labels, numbers, penalty, k_reg)
        order = np.argsort(strange, kind="stable")
        return cls(score, alpha, strange[order], weights[order], penalty, k_reg, draws is not None)

    def __call__(self, probs: FloatArray, weights: FloatArray, draws: FloatArray | None = None) -> BoolArray:
        """(N, C) prediction sets of probabilities (N, C) whose rows have the weights (N,), by the same measure."""
        probs = check_probs(probs)
        if self.randomised != (draws is not None):
            raise DataError("Give draws exactly when the scores were fitted with them.")
        cuts = self.thresholds(_check_weights(weights, len(probs)))
        every = SCORES[self.score].of_all(probs, draws_or_ones(draws, len(probs)), self.penalty, self.k_reg)
        return np.asarray(every <= cuts[:, None] + ROUNDING)

    def thresholds(self, weights: FloatArray) -> FloatArray:
        """(N,) the cut of each new row of weight (N,): the weighted quantile, the row itself counting as infinite."""
        mass = np.cumsum(self.weights)
        needed: FloatArray = float(1 - exact_fraction(self.alpha, "alpha")) * (mass[-1] + weights)
        place = np.searchsorted(mass, needed - 1e-12 * mass[-1])
        return np.asarray(np.append(self.scores, math.inf)[place])

    @property
    def effective_count(self) -> float:
        """How many rows of equal weight would be worth as much (Kish): the square of the sum over the sum of squares."""
        return float(self.weights.sum() ** 2 / (self.weights**2).sum())

    @property
    def warning(self) -> str:
        """Why the sets say little; empty where the weights leave enough calibration rows."""
        if self.effective_count < minimum_count(self.alpha):
            return (
                f"The {len(self.scores)} calibration subjects are worth {self.effective_count:.1f} after weighting, and "
                f"{1 - self.alpha:.0%} coverage needs {minimum_count(self.alpha)}: most sets hold every class."
            )
        return ""


@dataclass(frozen=True, slots=True)
class LikelihoodRatio:
    """How much likelier features are among new scans: the odds of a logistic classifier between the two.

    Attributes:
        mean: (D,) taken off features.
        scale: (D,) features are divided by.
        coefficients: (D,) of the classifier.
        intercept: of the classifier, for sides of equal size.
    """

    mean: FloatArray
    scale: FloatArray
    coefficients: FloatArray
    intercept: float

    @classmethod
    def fit(cls, known: FloatArray, new: FloatArray, *, penalty: float = 1.0) -> Self:
        """Learn from features (M, D) like those of calibration and (K, D) of new scans, neither of them used again.

        Rows that weights are then asked for must be others: a classifier is too sure of what it learnt on.
        """
        from sklearn.linear_model import LogisticRegression

        known, new = check_features(known), check_features(new)
        if known.shape[1] != new.shape[1]:
            raise ShapeError(f"Features must be (M, D) and (K, D); they are {known.shape} and {new.shape}.")
        rows = np.concatenate([known, new])
        mean, scale = rows.mean(axis=0), rows.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        fitted = LogisticRegression(C=1 / penalty, max_iter=1000)
        fitted.fit((rows - mean) / scale, np.repeat([0, 1], [len(known), len(new)]))
        intercept = float(fitted.intercept_[0]) - math.log(len(new) / len(known))
        return cls(mean, scale, fitted.coef_[0], intercept)

    def __call__(self, features: FloatArray) -> FloatArray:
        """(N,) the likelihood ratio of features (N, D), up to a factor near one."""
        features = check_features(features)
        if features.shape[1] != len(self.mean):
            raise ShapeError(f"Features must be (N, {len(self.mean)}); they are {features.shape}.")
        odds = (features - self.mean) / self.scale @ self.coefficients + self.intercept
        return np.asarray(np.exp(odds.clip(-30, 30)))


def _check_weights(weights: FloatArray, count: int) -> FloatArray:
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (count,):
        raise ShapeError(f"Expected the weight of each of {count} rows; found weights of shape {weights.shape}.")
    refuse_rows(~(np.isfinite(weights) & (weights >= 0)), "a weight that is negative, NaN or infinite")
    return weights
