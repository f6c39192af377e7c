"""Scans in a row that are read when they are asked for: some of an array on disk, and others behind them."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scanwise.cohort.row_files import read_rows
from scanwise.records import IntArray


@dataclass(frozen=True, slots=True)
class ScanStack:
    """Scans without a copy of them.

    Attributes:
        pixels: (N, S, S) uint8, memory-mapped where they are many.
        rows: (n,) those of them that are in the stack.
        added: (M, S, S) scans behind these.
    """

    pixels: NDArray[np.uint8]
    rows: IntArray
    added: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, dtype=np.uint8))

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Self:
        """All scans of an array (N, S, S)."""
        return cls(pixels, np.arange(len(pixels)))

    def __len__(self) -> int:
        return len(self.rows) + len(self.added)

    @property
    def side(self) -> int:
        """Side of a scan, in pixels."""
        return int(self.pixels.shape[1])

    def take(self, places: IntArray) -> NDArray[np.uint8]:
        """(P, S, S) copies of the scans at these places of the stack."""
        taken = np.empty((len(places), self.side, self.side), dtype=np.uint8)
        own = places < len(self.rows)
        taken[own] = read_rows(self.pixels, self.rows[places[own]])
        if not own.all():
            taken[~own] = self.added[places[~own] - len(self.rows)]
        return taken
