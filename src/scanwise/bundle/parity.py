"""Agreement of two engines on the same scans: classes, sets, flags and probabilities, by scan and by subject."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from scanwise.records import Predictions

LARGEST = 1e-4
"""Difference between probabilities that is allowed."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement over all rows that were compared.

    Attributes:
        rows: number of scans and subjects, each as often as it was compared.
        classes, sets, flags: rows whose class, prediction set, and all of abstain, unlike training and deferred differ.
        difference: largest difference between two probabilities.
    """

    rows: int = 0
    classes: int = 0
    sets: int = 0
    flags: int = 0
    difference: float = 0.0

    @classmethod
    def of(cls, pairs: Iterable[tuple[Predictions | None, Predictions | None]]) -> Self:
        """Compare predictions with others of the same rows; a pair of None has none."""
        total = cls()
        for first, other in pairs:
            if first is not None and other is not None:
                total = total._with(first, other)
        return total

    def _with(self, first: Predictions, other: Predictions) -> Self:
        differing = [
            np.zeros(len(first), np.bool_) if left is None or right is None else np.asarray(left != right)
            for left, right in (
                (first.abstain, other.abstain), (first.ood_flag, other.ood_flag), (first.deferred, other.deferred)
            )
        ]  # fmt: skip
        sets = 0 if first.sets is None or other.sets is None else int((first.sets != other.sets).any(axis=1).sum())
        return type(self)(
            self.rows + len(first),
            self.classes + int((first.predicted != other.predicted).sum()),
            self.sets + sets,
            self.flags + int(np.logical_or.reduce(differing).sum()),
            max(self.difference, float(np.abs(first.probs - other.probs).max(initial=0.0))),
        )

    @property
    def holds(self) -> bool:
        """Whether classes, sets and flags are equal, and probabilities within `LARGEST`."""
        return not (self.classes or self.sets or self.flags) and self.difference <= LARGEST

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"of {self.rows:,} answers another class in {self.classes:,}, another prediction set in {self.sets:,}, another flag in "
            f"{self.flags:,}; largest difference of a probability {self.difference:.1e}"
        )
