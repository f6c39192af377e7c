"""Distance of scans from training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from scanwise.records.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class ScanNovelty:
    """Measurements of a detector on scans.

    Attributes:
        distances: (N,) to training scans; 1 is usual.
        blank: (N,) whether all pixels of the scan are equal.
    """

    distances: FloatArray
    blank: BoolArray

    def take(self, rows: IntArray) -> Self:
        """The scans in these rows."""
        return type(self)(self.distances[rows], self.blank[rows])

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Scans of several parts, one behind the other."""
        return cls(np.concatenate([part.distances for part in parts]), np.concatenate([part.blank for part in parts]))
