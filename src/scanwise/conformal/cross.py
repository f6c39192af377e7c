"""Prediction sets without a calibration side: CV+, from the scores of people that a member of the network has not seen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from scanwise.arrays import number_from
from scanwise.conformal.scores import ROUNDING, SCORES
from scanwise.conformal.sets import GUARANTEES, ConformalSets, Guarantee, check_scored_rows, draws_or_ones
from scanwise.errors import DataError, ShapeError, lookup
from scanwise.records import BoolArray, FloatArray, IntArray
from scanwise.risk import exact_fraction


@dataclass(frozen=True, slots=True)
class CrossSets:
    """Scores of people under the member that did not learn from them (CV+; Barber et al. 2021, Romano et al. 2020).

    A new person is compared with each of the n people under the member of that one's fold. A class enters the set where fewer
    than (1 - level)(n + 1) of them have a lower score than it. `level` lies so far below alpha that the coverage is at least
    1 - 2 alpha by the theorem for folds of one size, whatever the data; usually it is near 1 - level. The members
    themselves must not depend on the people of their fold in any way.

    Attributes:
        score: an entry of `SCORES`.
        alpha: half of the allowed miscoverage.
        scores: for each fold the rising scores of its people.
        penalty: lambda of RAPS and SAPS.
        k_reg: the rank after which RAPS penalises.
        randomised: whether draws are needed.
        guarantee: the unit that coverage is guaranteed for.
    """

    score: str
    alpha: float
    scores: tuple[tuple[float, ...], ...]
    penalty: float = 0.0
    k_reg: int = 0
    randomised: bool = False
    guarantee: Guarantee = "new subject"

    @classmethod
    def fit(
        cls,
        probs: FloatArray,
        labels: IntArray,
        folds: IntArray,
        *,
        alpha: float,
        score: str = "raps",
        penalty: float = 0.0,
        k_reg: int = 0,
        draws: FloatArray | None = None,
        guarantee: Guarantee = "new subject",
    ) -> Self:
        """Keep the scores of people, fold by fold.

        Args:
            probs: (N, C) probabilities of each person from the member that left their fold out.
            labels: (N,) class indices.
            folds: (N,) the fold of each person, 0 … T - 1; each person has one row.
            alpha: half of the allowed miscoverage; 0.1 guarantees 80 %.
            score: an entry of `SCORES`.
            penalty: lambda of RAPS and SAPS, at least 0, and not learnt from these people.
            k_reg: the rank after which RAPS penalises, as well.
            draws: (N,) of [0, 1), from `draws_from`; None for scores that are not randomised.
            guarantee: what a row is, of the person.

        Raises:
            DataError: if rows are not probabilities, labels out of range, alpha impossible, or a fold is empty.
            ShapeError: if the arrays disagree in N.

        >>> probs, folds = np.tile([[0.8, 0.2]], (90, 1)), np.arange(90) % 3
        >>> sets = CrossSets.fit(probs, np.zeros(90, int), folds, alpha=0.1, score="lac")
        >>> sets(np.tile([[[0.8, 0.2]]], (1, 3, 1))).tolist(), round(sets.coverage, 6), round(sets.level, 3)
        ([[True, False]], 0.8, 0.078)
        """
        probs, labels, numbers = check_scored_rows(probs, labels, draws)
        exact_fraction(alpha, "alpha")
        folds = np.asarray(folds)
        count = int(folds.max(initial=0)) + 1
        if folds.shape != (len(probs),) or count < 2 or set(folds.tolist()) != set(range(count)):
            raise DataError(f"Expected a fold 0, 1, … for each of {len(probs)} rows, two or more and none empty.")
        unusual = lookup(SCORES, score, "conformal score").of_labels(probs, labels, numbers, penalty, k_reg)
        kept = tuple(tuple(np.sort(unusual[folds == fold]).tolist()) for fold in range(count))
        return cls(score, alpha, kept, penalty, k_reg, draws is not None, guarantee)

    def __call__(self, probs: FloatArray, draws: FloatArray | None = None) -> BoolArray:
        """(N, C) the prediction sets.

        Args:
            probs: (N, T, C) probabilities that the member of each fold gives, as those that the scores were made from.
            draws: (N,) of [0, 1) from `draws_from`, if and only if the score is randomised.
        """
        if probs.ndim != 3 or probs.shape[1] != self.members:
            raise ShapeError(f"Expected the probabilities (N, {self.members}, C) of all members; found {probs.shape}.")
        if self.randomised != (draws is not None):
            raise DataError(
                f"These sets were fitted {'with' if self.randomised else 'without'} draws and must be made so too."
            )
        numbers, below = draws_or_ones(draws, len(probs)), np.zeros((len(probs), probs.shape[2]), dtype=np.int64)
        for member, of_fold in enumerate(self.scores):
            given = SCORES[self.score].of_all(probs[:, member], numbers, self.penalty, self.k_reg)
            below += np.searchsorted(np.array(of_fold), given - ROUNDING, side="left")
        return np.asarray(below < (1 - self.level) * (self.calibration_count + 1))

    @property
    def members(self) -> int:
        """T: members of the network, one a fold."""
        return len(self.scores)

    @property
    def calibration_count(self) -> int:
        """n, the people that the scores are of."""
        return sum(map(len, self.scores))

    @property
    def level(self) -> float:
        """Miscoverage that the comparison itself aims at: alpha less half of what the theorem takes for n people in T folds."""
        folds, count = self.members, self.calibration_count
        taken = min(2 * (folds - 1) / (count + folds), (1 - folds / count) / (folds + 1))
        return max(self.alpha - taken / 2, 0.0)

    @property
    def coverage(self) -> float:
        """The coverage that is guaranteed: 1 - 2 alpha, or 0 where there are too few people for any."""
        enough = self.level * (self.calibration_count + 1) >= 1
        return max(0.0, float(1 - 2 * exact_fraction(self.alpha, "alpha"))) if enough else 0.0

    @property
    def warning(self) -> str:
        """The guarantee in words, which is weaker than that of sets with a calibration side."""
        if not self.coverage:
            return (
                f"{self.calibration_count} subjects in {self.members} folds cannot guarantee coverage of "
                f"{1 - 2 * self.alpha:.0%}: every set holds every class."
            )
        return (
            f"The prediction sets are cross-conformal: they were made from the {self.calibration_count} subjects of training, "
            f"each judged by a member that did not see them. They guarantee {self.coverage:.0%} coverage, not "
            f"{1 - self.alpha:.0%}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON; `sets_from_dict` reads them."""
        return {**asdict(self), "scores": [list(of_fold) for of_fold in self.scores]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the values of `to_dict`."""
        names = set(cls.__dataclass_fields__)
        if set(values) != names or values["score"] not in SCORES or values["guarantee"] not in GUARANTEES:
            raise DataError(f"Cross-conformal sets are saved as {sorted(names)}; found others. Was the file changed?")
        exact_fraction(number_from(values, "alpha"), "alpha")
        number_from(values, "penalty", low=0)
        scores = tuple(_rising(of_fold) for of_fold in values["scores"])
        if len(scores) < 2:
            raise DataError("Cross-conformal sets have scores of two folds or more. Was the file changed?")
        return cls(**{**values, "scores": scores})


PredictionSets = ConformalSets | CrossSets
"""Sets of either kind: both state the unit that they cover (`guarantee`) and how often (`coverage`), and make sets of probabilities."""


def sets_from_dict(values: Mapping[str, Any]) -> PredictionSets:
    """Read the values of `to_dict` of either kind."""
    return CrossSets.from_dict(values) if "scores" in values else ConformalSets.from_dict(values)


def _rising(values: Sequence[Any]) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if not numbers or any(math.isnan(value) for value in numbers) or list(numbers) != sorted(numbers):
        raise DataError("The scores of each fold of cross-conformal sets are numbers that rise. Was the file changed?")
    return numbers
