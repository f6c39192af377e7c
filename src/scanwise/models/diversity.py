"""Diversity of the members of an ensemble, and whether they are one network counted several times."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from scanwise.errors import ShapeError
from scanwise.records import FloatArray

_ONE = 1e-6  # KL in nats below which two predictions are equal, up to the rounding of float32


@dataclass(frozen=True, slots=True)
class Diversity:
    """Differences between T members over N scans.

    Attributes:
        members: T.
        disagreement: share of scans with different classes from two members, mean over pairs.
        kl: Kullback-Leibler divergence in nats from one member's probabilities to another's, mean over scans and pairs.
    """

    members: int
    disagreement: float
    kl: float

    @classmethod
    def of(cls, probs: FloatArray) -> Self:
        """Measure probabilities (N, T, C).

        Raises:
            ShapeError: if they are not (N, T, C).

        >>> Diversity.of(np.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])).disagreement
        0.5
        """
        if probs.ndim != 3:
            raise ShapeError(f"The diversity of members is measured on (N, T, C) probabilities, not {probs.shape}.")
        count = probs.shape[1]
        if count == 1:
            return cls(1, 0.0, 0.0)
        named = probs.argmax(2)
        logs = np.log(np.maximum(probs.astype(np.float64), 1e-12))
        pairs = [(first, second) for first in range(count) for second in range(count) if first != second]
        apart = [np.mean(named[:, first] != named[:, second]) for first, second in pairs]
        kls = [np.mean((np.exp(logs[:, first]) * (logs[:, first] - logs[:, second])).sum(1)) for first, second in pairs]
        return cls(count, float(np.mean(apart)), float(max(np.mean(kls), 0.0)))

    @property
    def is_ensemble(self) -> bool:
        """True if the members differ; members with equal predictions are one network."""
        return self.members > 1 and (self.disagreement > 0 or self.kl > _ONE)

    def __str__(self) -> str:
        if not self.is_ensemble:
            return (
                "one network"
                if self.members == 1
                else f"one network: its {self.members} members give equal predictions"
            )
        return (
            f"ensemble of {self.members}: two members differ on {self.disagreement:.1%} of scans, KL {self.kl:.2g} nats"
        )


def member_agreement(probs: FloatArray, base: FloatArray) -> FloatArray:
    """(T,) share of scans where each member of (N, T, C) predicts the class of the base (N, C)."""
    return np.asarray((probs.argmax(2) == base.argmax(1)[:, None]).mean(0))
