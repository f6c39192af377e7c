"""Uncertainty of predictions, distances to training scans, and selective classification: when to abstain."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from scanwise.arrays import check_features, check_probs, ends_of_ties, refuse_rows
from scanwise.errors import DataError, ShapeError
from scanwise.pooling import subject_codes
from scanwise.records import BoolArray, FloatArray, IntArray, StrArray
from scanwise.risk import clopper_pearson_arrays, conformal_quantile, minimum_answered


def predictive_entropy(probs: FloatArray) -> FloatArray:
    """(N,) entropy in nats of probabilities (N, C): the total uncertainty.

    >>> predictive_entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(4)
    array([0.6931, 0.    ])
    """
    return _entropy(check_probs(probs))


def mutual_information(members: FloatArray) -> FloatArray:
    """(N,) entropy of the mean less mean entropy of the members (N, T, C): epistemic uncertainty.

    Depeweg et al. 2018; zero where the members agree, at most log C.

    >>> mutual_information(np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]])).round(4)
    array([0.6931, 0.    ])
    """
    members = _check_members(members)
    gap: FloatArray = _entropy(members.mean(axis=1)) - _entropy(members).mean(axis=1)
    return np.asarray(np.maximum(gap, 0.0))  # rounding may leave -1e-17


def expected_value(probs: FloatArray, values: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    """(N,) mean and (N,) standard deviation of a number that each class has, such as its CDR or its stage.

    >>> mean, spread = expected_value(np.array([[0.5, 0.0, 0.5]]), [0, 0.5, 1])
    >>> mean.tolist(), spread.tolist()
    ([0.5], [0.5])
    """
    probs, of_class = check_probs(probs), np.asarray(values, dtype=np.float64)
    if of_class.shape != (probs.shape[1],) or not np.isfinite(of_class).all():
        raise ShapeError(f"Expected a finite value for each of {probs.shape[1]} classes; found {list(values)}.")
    mean = probs @ of_class
    spread = (probs * (of_class - mean[:, None]) ** 2).sum(axis=1)
    return mean, np.sqrt(spread)


def risk_coverage_curve(uncertainty: FloatArray, wrong: BoolArray) -> tuple[FloatArray, FloatArray]:
    """The risk-coverage curve (El-Yaniv and Wiener 2010): answer the most certain scans, abstain on the rest.

    Scans of the same uncertainty are answered together.

    Args:
        uncertainty: (N,) higher is less certain.
        wrong: (N,) whether the answer would be wrong.

    Returns:
        Share answered and error among the answered, at each distinct uncertainty, rising.

    >>> covered, risk = risk_coverage_curve(np.array([0.1, 0.2, 0.3, 0.3]), np.array([False, False, True, False]))
    >>> covered.tolist(), risk.tolist()
    ([0.25, 0.5, 1.0], [0.0, 0.0, 0.25])
    """
    uncertainty, wrong = _check_uncertainty(uncertainty, wrong)
    order = np.argsort(uncertainty, kind="stable")
    last = ends_of_ties(uncertainty[order])
    answered = last + 1
    return answered / len(uncertainty), np.cumsum(wrong[order])[last] / answered


def aurc(uncertainty: FloatArray, wrong: BoolArray) -> float:
    """Area under the risk-coverage curve: mean error among the answered, over every number answered.

    Scans of the same uncertainty are taken in random order, in expectation.
    """
    uncertainty, wrong = _check_uncertainty(uncertainty, wrong)
    order = np.argsort(uncertainty, kind="stable")
    sizes = np.diff(ends_of_ties(uncertainty[order]), prepend=-1)
    share = np.add.reduceat(wrong[order].astype(np.float64), np.cumsum(sizes) - sizes) / sizes
    expected = np.cumsum(np.repeat(share, sizes))
    return float((expected / np.arange(1, len(uncertainty) + 1)).mean())


def excess_aurc(uncertainty: FloatArray, wrong: BoolArray) -> float:
    """AURC less that of the best order, all correct answers first (E-AURC; Geifman et al. 2019)."""
    uncertainty, wrong = _check_uncertainty(uncertainty, wrong)
    return aurc(uncertainty, wrong) - aurc(wrong.astype(np.float64), wrong)


@dataclass(frozen=True, slots=True)
class Abstention:
    """A threshold on uncertainty above which the classifier abstains, with a bound on the error among the answered.

    Attributes:
        threshold: answer where uncertainty is at most this; -infinity where no threshold qualifies, and nothing is answered.
        risk: the error allowed among the answered.
        delta: the chance, over calibration sets, that the bound does not hold.
        count: number of calibration subjects.
        answered: share of those that it answers.
        refused: why no threshold qualifies; empty where one does.
        wrong: the bounded error, in words.
    """

    threshold: float
    risk: float
    delta: float
    count: int
    answered: float
    refused: str = ""
    wrong: str = "error"

    @classmethod
    def fit(
        cls,
        uncertainty: FloatArray,
        wrong: BoolArray,
        *,
        grid: FloatArray,
        risk: float = 0.1,
        delta: float = 0.1,
        subjects: StrArray,
    ) -> Self:
        """Learn the most permissive threshold whose error is bounded, by Learn-then-Test (Angelopoulos et al. 2021).

        Thresholds are tested in the order of `grid`, strictest first, each by an exact binomial test of "the error
        among the answered is more than `risk`" at level `delta`. The first failure ends it, so that no correction for
        many tests is due (fixed-sequence testing).

        Args:
            uncertainty: (N,) a row per subject.
            wrong: (N,) whether the subject's answer would be wrong.
            grid: (G,) thresholds to try, rising, fixed without these subjects: `abstention_grid` of others.
            risk: the error allowed among the answered.
            delta: the chance that the bound may fail.
            subjects: (N,) each once: pool scans by subject first.

        Raises:
            DataError: if a subject has more than one row, or the grid does not rise.
        """
        uncertainty, wrong = _check_uncertainty(uncertainty, wrong)
        thresholds = np.asarray(grid, dtype=np.float64)
        if thresholds.ndim != 1 or not len(thresholds) or (np.diff(thresholds) < 0).any():
            raise DataError("The thresholds to try must rise: they are tested from the strictest on.")
        _, names = subject_codes(subjects, len(uncertainty))
        if len(names) < len(uncertainty):
            raise DataError(
                f"{len(uncertainty)} rows are of {len(names)} subjects; an abstention threshold needs one row per subject. "
                "Pool the scans of each subject first."
            )
        needed = minimum_answered(risk, delta)
        if len(uncertainty) < needed:
            why = f"it takes {needed} without an error, and there are {len(uncertainty)}"
            return cls(-math.inf, risk, delta, len(uncertainty), 0.0, why)
        answered = (uncertainty <= thresholds[:, None]).sum(axis=1)
        errors = (wrong & (uncertainty <= thresholds[:, None])).sum(axis=1)
        passed = clopper_pearson_arrays(errors, answered, 1 - 2 * delta)[1] <= risk
        kept = len(passed) if passed.all() else int(np.argmin(passed))
        if kept == 0:
            why = f"the {answered[0]} most certain have {errors[0]} errors, too many for a bound of {risk:g}"
            return cls(-math.inf, risk, delta, len(uncertainty), 0.0, why)
        share = float(answered[kept - 1] / len(uncertainty))
        return cls(float(thresholds[kept - 1]), risk, delta, len(uncertainty), share)

    def __call__(self, uncertainty: FloatArray) -> BoolArray:
        """(N,) whether to abstain."""
        return np.asarray(np.asarray(uncertainty) > self.threshold)

    def __str__(self) -> str:
        if self.refused:
            return f"no threshold qualifies: {self.refused}"
        return f"answers {self.answered:.0%} at ≤ {self.risk:.0%} {self.wrong} ({1 - self.delta:.0%} sure)"


def abstention_grid(
    uncertainty: FloatArray, count: int, *, risk: float = 0.1, delta: float = 0.1, steps: int = 50
) -> FloatArray:
    """Thresholds for `Abstention.fit`: quantiles of the uncertainty (N,) of other subjects, such as the validation side.

    The strictest is expected to answer, of `count` new subjects, twice as many as an error-free test takes.
    """
    uncertainty, _ = _check_uncertainty(uncertainty, np.zeros(len(uncertainty), dtype=np.bool_))
    start = min(1.0, 2 * minimum_answered(risk, delta) / max(count, 1))
    return np.asarray(np.quantile(uncertainty, np.linspace(start, 1.0, steps)))


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Distance of a scan to the nearest training scans in feature space (Sun et al. 2022).

    Attributes:
        features: (M, D) unit-length features of training scans.
        k: the neighbour whose distance counts.
        threshold: above it a scan is flagged.
        false_alarm: largest share of scans like the held-out ones that is flagged, on average.
    """

    features: FloatArray
    k: int
    threshold: float
    false_alarm: float

    @classmethod
    def fit(
        cls,
        train: FloatArray,
        held_out: FloatArray,
        *,
        false_alarm: float = 0.01,
        k: int = 10,
        subjects: StrArray | None = None,
    ) -> Self:
        """Keep training features (M, D) and learn the threshold on held-out ones (N, D) of other subjects.

        The threshold is the conformal quantile, hierarchical where the subjects of the held-out scans are given: a new
        scan of the same kind is flagged with probability at most `false_alarm`.
        """
        kept = _unit(train)
        k = min(k, len(kept))
        unfitted = cls(kept, k, math.inf, false_alarm)
        threshold = conformal_quantile(unfitted.score(held_out), false_alarm, subjects)
        return cls(kept, k, threshold, false_alarm)

    def score(self, features: FloatArray) -> FloatArray:
        """(N,) distance to the k-th nearest training scan; higher is more unusual."""
        given = _unit(features)
        if given.shape[1] != self.features.shape[1]:
            raise ShapeError(f"Expected {self.features.shape[1]} features a scan; found {given.shape[1]}.")
        distances = np.empty(len(given))
        step = max(1, 4_000_000 // len(self.features))
        for start in range(0, len(given), step):
            near = given[start : start + step] @ self.features.T
            kth = np.partition(near, len(self.features) - self.k, axis=1)[:, len(self.features) - self.k]
            distances[start : start + step] = np.sqrt(np.maximum(2 - 2 * kth, 0))
        return distances

    def __call__(self, features: FloatArray) -> BoolArray:
        """(N,) whether each scan is unlike training."""
        return np.asarray(self.score(features) > self.threshold)


@dataclass(frozen=True, slots=True)
class Mahalanobis:
    """Distance of a scan to the nearest class mean, in units of the common spread (Lee et al. 2018).

    Attributes:
        means: (C, D) mean features of each class.
        whitening: (D, D) maps a difference to one of unit spread; shrunk after Ledoit and Wolf.
    """

    means: FloatArray
    whitening: FloatArray

    @classmethod
    def fit(cls, train: FloatArray, labels: IntArray) -> Self:
        """Learn class means and the common covariance from training features (M, D)."""
        from sklearn.covariance import ledoit_wolf

        train, labels = check_features(train), np.asarray(labels)
        present = np.unique(labels)
        means = np.stack([train[labels == index].mean(axis=0) for index in present])
        centred = train - means[np.searchsorted(present, labels)]
        covariance, _ = ledoit_wolf(centred, assume_centered=True)
        values, vectors = np.linalg.eigh(covariance)
        return cls(means, vectors / np.sqrt(np.maximum(values, values.max() * 1e-12)))

    def score(self, features: FloatArray) -> FloatArray:
        """(N,) distance to the nearest class mean; higher is more unusual."""
        given, means = check_features(features) @ self.whitening, self.means @ self.whitening
        squares = (given**2).sum(axis=1)[:, None] - 2 * given @ means.T + (means**2).sum(axis=1)
        return np.asarray(np.sqrt(np.maximum(squares.min(axis=1), 0)))


def energy_score(logits: FloatArray) -> FloatArray:
    """(N,) minus the log of the summed exponentials of logits (N, C) (Liu et al. 2020); higher is more unusual.

    Reported beside the others and never the default: a network may be confident about any input.
    """
    logits = np.asarray(logits, dtype=np.float64)
    top = logits.max(axis=-1)
    return np.asarray(-(top + np.log(np.exp(logits - top[..., None]).sum(axis=-1))))


def _entropy(probs: FloatArray) -> FloatArray:
    probs = probs.astype(np.float64, copy=False)
    logs = np.log(probs, out=np.zeros_like(probs), where=probs > 0)
    return np.asarray(0.0 - (probs * logs).sum(axis=-1))


def _check_members(members: FloatArray) -> FloatArray:
    members = np.asarray(members)
    if members.ndim != 3:
        raise ShapeError(f"Probabilities of members must be (N, T, C); they are {members.shape}.")
    count, num_members, num_classes = members.shape
    return check_probs(members.reshape(-1, num_classes)).reshape(count, num_members, num_classes)


def _check_uncertainty(uncertainty: FloatArray, wrong: BoolArray) -> tuple[FloatArray, BoolArray]:
    uncertainty, wrong = np.asarray(uncertainty, dtype=np.float64), np.asarray(wrong, dtype=np.bool_)
    if uncertainty.ndim != 1 or uncertainty.shape != wrong.shape:
        raise ShapeError(f"Expected uncertainty and wrong of one length; found {uncertainty.shape} and {wrong.shape}.")
    if not len(uncertainty):
        raise DataError("There is nothing to answer: N is 0.")
    refuse_rows(np.isnan(uncertainty), "an uncertainty that is not a number")
    return uncertainty, wrong


def _unit(features: FloatArray) -> FloatArray:
    features = check_features(features)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: FloatArray = features / np.where(length > 0, length, 1.0)
    return scaled
