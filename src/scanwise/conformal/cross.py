"""Prediction sets when there are too few subjects to set a calibration side apart: CV+ and its weaker promise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from scanwise.arrays import check_probs
from scanwise.conformal.scores import SCORES
from scanwise.conformal.sets import check_scored_rows, draws_or_ones
from scanwise.errors import DataError, ShapeError, lookup
from scanwise.records import BoolArray, FloatArray, IntArray
from scanwise.risk import exact_fraction


@dataclass(frozen=True, slots=True)
class CrossSets:
    """Scores of every scan under the network that did not see it (CV+; Barber et al. 2021, Romano et al. 2020).

    A class enters the set of a new scan when fewer than (1 - alpha)(n + 1) of the n scores are below its own, each
    compared under the network of that score's fold. Rows must be exchangeable: one row a subject.

    Attributes:
        score: an entry of `SCORES`.
        alpha: what a calibration side of its own would miss.
        scores: for each fold the sorted scores of its rows.
        penalty: lambda of RAPS and SAPS.
        k_reg: the rank after which RAPS penalises.
        randomised: whether draws are needed.
    """

    score: str
    alpha: float
    scores: tuple[tuple[float, ...], ...]
    penalty: float = 0.0
    k_reg: int = 0
    randomised: bool = False

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
    ) -> Self:
        """Keep the scores of rows, fold by fold.

        Args:
            probs: (N, C) probabilities of each row from the network whose training left its fold out.
            labels: (N,) class indices.
            folds: (N,) the fold of each row, 0…F - 1; no subject has two rows.
            alpha: what a calibration side of its own would miss.
            score: an entry of `SCORES`.
            penalty: lambda of RAPS and SAPS.
            k_reg: the rank after which RAPS penalises.
            draws: (N,) of [0, 1), or None.
        """
        probs, labels, numbers = check_scored_rows(probs, labels, draws)
        exact_fraction(alpha, "alpha")
        folds = np.asarray(folds)
        if folds.shape != (len(probs),) or set(folds.tolist()) != set(range(int(folds.max()) + 1)) or folds.max() < 1:
            raise DataError(f"Expected a fold 0, 1, … for each of {len(probs)} rows, with none empty, and two or more.")
        strange = lookup(SCORES, score, "conformal score").of_labels(probs, labels, numbers, penalty, k_reg)
        kept = tuple(tuple(np.sort(strange[folds == fold]).tolist()) for fold in range(int(folds.max()) + 1))
        return cls(score, alpha, kept, penalty, k_reg, draws is not None)

    def __call__(self, probs: Sequence[FloatArray], draws: FloatArray | None = None) -> BoolArray:
        """(N, C) prediction sets from the probabilities (N, C) that each fold's network gives, in the order of folds."""
        if len(probs) != len(self.scores):
            raise ShapeError(f"Expected the probabilities of {len(self.scores)} networks; found {len(probs)}.")
        if self.randomised != (draws is not None):
            raise DataError("Give draws exactly when the scores were fitted with them.")
        below = np.zeros(np.shape(probs[0]))
        for known, of_network in zip(self.scores, probs, strict=True):
            given = check_probs(of_network)
            numbers = draws_or_ones(draws, len(given))
            strange = SCORES[self.score].of_all(given, numbers, self.penalty, self.k_reg)
            below += np.searchsorted(np.array(known), strange, side="left")
        return np.asarray(below < float((1 - exact_fraction(self.alpha, "alpha")) * (self.count + 1)))

    @property
    def count(self) -> int:
        """How many rows the scores are of."""
        return sum(map(len, self.scores))

    @property
    def promise(self) -> float:
        """The coverage that is promised: 1 - 2 alpha less a term that vanishes (Barber et al. 2021, theorem 4).

        >>> sets = CrossSets("lac", 0.1, ((0.1,) * 50, (0.2,) * 50))
        >>> round(sets.promise, 3)
        0.78
        """
        count, folds = self.count, len(self.scores)
        most = max(map(len, self.scores))
        slack = min(2 * (1 - 1 / folds) / (most + 1), (1 - folds / count) / (folds + 1))
        return max(0.0, 1 - 2 * self.alpha - slack)

    @property
    def warning(self) -> str:
        """What is promised, in words."""
        return (
            f"Cross-conformal sets (CV+) over {len(self.scores)} folds promise {self.promise:.1%} coverage, not "
            f"{1 - self.alpha:.0%}, which they usually reach; read the realised coverage beside it."
        )
