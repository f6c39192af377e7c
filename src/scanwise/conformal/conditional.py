"""A threshold for each class or group: coverage that holds in every cell (Mondrian; Vovk 2003)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from scanwise.arrays import check_probs
from scanwise.conformal.sets import ConformalSets, check_scored_rows
from scanwise.errors import DataError
from scanwise.pooling import subject_codes
from scanwise.records import BoolArray, FloatArray, IntArray, StrArray
from scanwise.risk import minimum_count


@dataclass(frozen=True, slots=True)
class ConditionalSets:
    """A `ConformalSets` for each cell: the true class of a scan, or the value of one of its group columns.

    A cell below the minimum count is merged with the other such cells, and where these together are still too few
    with the smallest cell that is not: cells stay a partition, so that the guarantee holds in every merged cell, and
    over everyone. It is exact for cells that are large enough whatever is drawn; which small ones merge depends on the
    counts that happen to be drawn, for which no shortfall is seen in trials (tests/conformal/test_trials.py).

    Attributes:
        by: "class", or "group".
        cells: the values in each cell; class indices as text where `by` is "class".
        sets: the sets of each cell.
    """

    by: Literal["class", "group"]
    cells: tuple[tuple[str, ...], ...]
    sets: tuple[ConformalSets, ...]

    @classmethod
    def fit(
        cls,
        probs: FloatArray,
        labels: IntArray,
        *,
        alpha: float,
        groups: StrArray | None = None,
        score: str = "raps",
        penalty: float = 0.0,
        k_reg: int = 0,
        subjects: StrArray | None = None,
        draws: FloatArray | None = None,
    ) -> Self:
        """Learn a threshold for each class, or with `groups` for each of their values.

        Args:
            probs: (N, C) calibrated probabilities.
            labels: (N,) class indices.
            alpha: allowed miscoverage in each cell.
            groups: (N,) the group of each row; None to go by class.
            score: an entry of `SCORES`.
            penalty: lambda of RAPS and SAPS.
            k_reg: the rank after which RAPS penalises.
            subjects: (N,) the subject of each row, as for `ConformalSets.fit`.
            draws: (N,) of [0, 1), as for `ConformalSets.fit`.

        >>> probs = np.tile([[0.8, 0.2]], (20, 1))
        >>> fitted = ConditionalSets.fit(probs, np.repeat([0, 1], [15, 5]), alpha=0.1, score="lac")
        >>> fitted.cells
        (('0', '1'),)
        """
        probs, labels, _ = check_scored_rows(probs, labels, draws)
        values = labels.astype(str) if groups is None else np.asarray(groups).astype(str)
        if len(values) != len(probs):
            raise DataError(f"Expected the group of each of {len(probs)} rows; found {len(values)}.")
        owners = np.arange(len(probs)).astype(str) if subjects is None else np.asarray(subjects)
        subject_codes(owners, len(probs))
        every = [str(c) for c in range(probs.shape[1])] if groups is None else np.unique(values).tolist()
        counts = {value: len(np.unique(owners[values == value])) for value in every}
        cells = _merged(counts, minimum_count(alpha))
        sets = []
        for cell in cells:
            rows = np.isin(values, cell)
            sets.append(
                ConformalSets.fit(
                    probs[rows],
                    labels[rows],
                    alpha=alpha,
                    score=score,
                    penalty=penalty,
                    k_reg=k_reg,
                    subjects=None if subjects is None else owners[rows],
                    draws=None if draws is None else draws[rows],
                )
            )
        return cls("class" if groups is None else "group", cells, tuple(sets))

    def __call__(self, probs: FloatArray, draws: FloatArray | None = None, groups: StrArray | None = None) -> BoolArray:
        """(N, C) prediction sets; a group that calibration has not seen gets every class, as it has no guarantee.

        Args:
            probs: (N, C) probabilities.
            draws: (N,) of [0, 1), if and only if fitted with draws.
            groups: (N,) the group of each row, if and only if fitted by group.
        """
        probs = check_probs(probs)
        if (groups is None) != (self.by == "class"):
            raise DataError(f"These sets go by {self.by}; give groups exactly when they go by group.")
        sets_found = np.ones(probs.shape, dtype=np.bool_)
        for cell, sets in zip(self.cells, self.sets, strict=True):
            if self.by == "class":
                columns = [int(name) for name in cell]
                sets_found[:, columns] = sets(probs, draws)[:, columns]
            else:
                rows = np.isin(np.asarray(groups).astype(str), cell)
                if rows.any():
                    sets_found[rows] = sets(probs[rows], None if draws is None else draws[rows])
        return sets_found

    @property
    def notes(self) -> tuple[str, ...]:
        """Cells that were merged, and cells without a guarantee."""
        return self.notes_for(self.by)

    def notes_for(self, by: str, classes: Sequence[str] = ()) -> tuple[str, ...]:
        """The notes, with the name of the column and, by class, the names of the classes."""
        sets_found = []
        for cell, sets in zip(self.cells, self.sets, strict=True):
            names = [classes[int(value)] for value in cell] if classes and self.by == "class" else cell
            called = f"{by} {', '.join(name or '(none)' for name in names)}"
            if len(cell) > 1:
                sets_found.append(f"{called}: too few each; coverage is guaranteed for them together")
            if sets.warning:
                sets_found.append(f"{called}: {sets.warning}")
        return tuple(sets_found)

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON; `from_dict` reads them."""
        return {"by": self.by, "cells": [list(c) for c in self.cells], "sets": [s.to_dict() for s in self.sets]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the values of `to_dict`."""
        if values.get("by") not in ("class", "group") or len(values["cells"]) != len(values["sets"]):
            raise DataError("Conditional sets are saved as by, cells and as many sets. Was the file changed?")
        sets = tuple(ConformalSets.from_dict(each) for each in values["sets"])
        return cls(values["by"], tuple(tuple(cell) for cell in values["cells"]), sets)


def _merged(counts: Mapping[str, int], least: int) -> tuple[tuple[str, ...], ...]:
    """Cells of values such that each has `least` units, as far as there are so many."""
    large = sorted((value for value in counts if counts[value] >= least), key=lambda value: counts[value])
    small = tuple(value for value in counts if counts[value] < least)
    if not small:
        return tuple((value,) for value in counts)
    if sum(counts[value] for value in small) < least and large:
        small = (*small, large.pop(0))
    own = tuple((value,) for value in counts if value in large)
    return (*own, tuple(value for value in counts if value in small))
