"""Files in, batches for an engine out: which scans could be read, and what is kept of each beside its pixels."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np

from scanwise.baselines.summaries import small_pixels
from scanwise.bundle.engines import Inputs, Tokens
from scanwise.bundle.predictors import PIXELS, Hashed
from scanwise.cohort.decoding.pixels import Source
from scanwise.cohort.decoding.readers import DecodedScan
from scanwise.cohort.decoding.streams import Measure, read_files
from scanwise.novelty import appearance_features
from scanwise.recipe import Data
from scanwise.records import FloatArray, IntArray


class FileReader(Protocol):
    """Anything that tells the scans of a file, and decodes them."""

    def scans_of(self, file: Source, settings: Data) -> list[tuple[Source, str]]:
        """The scans of one file, and the end of the name of each."""
        ...

    def read(
        self, scans: Sequence[Source], settings: Data, measure: Measure | None = None
    ) -> Iterator[DecodedScan | str]:
        """A scan, or the reason why there is none, for each in turn; with what can be measured as it is decoded."""
        ...


class LocalReader:
    """A reader that decodes in this process."""

    def scans_of(self, file: Source, settings: Data) -> list[tuple[Source, str]]:
        """The scans of one file, and the end of the name of each."""
        from scanwise.cohort.slice_expansion import scans_of

        return scans_of(file, settings)

    def read(
        self, scans: Iterable[Source], settings: Data, measure: Measure | None = None
    ) -> Iterator[DecodedScan | str]:
        """A scan, or the reason why there is none, for each in turn."""
        return read_files(scans, settings, measure)


class ExpandedReader(LocalReader):
    """A reader of scans that a listing found in files, which are not opened once more to be counted."""

    def scans_of(self, file: Source, settings: Data) -> list[tuple[Source, str]]:
        """The scan itself."""
        return [(file, "")]


LOCAL, EXPANDED = LocalReader(), ExpandedReader()
TOGETHER = 32
"""Scans that are stacked at once, whatever the size of a batch."""


@dataclass(slots=True)
class ScanReader:
    """A reader of scans; the lists fill while batches are drawn.

    Attributes:
        reading: the scans as they are decoded.
        tokens: (N, L) of the scans, or None.
        hashed: what the hash of a scan is made from.
        appearing: keep the appearance of the scans too.
        kept: rows of the scans that could be read.
        hashes: of these.
        quarantine: (row, reason) of the others.
    """

    reading: Iterable[DecodedScan | str]
    tokens: Tokens | None
    hashed: Hashed
    appearing: bool = False
    kept: list[int] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    quarantine: list[tuple[int, str]] = field(default_factory=list)
    _appearance: list[FloatArray] = field(default_factory=list)

    def batches(self, size: int) -> Iterator[Inputs]:
        """Pixels and tokens of at most `size` scans at a time."""
        waiting: list[DecodedScan] = []
        together = size * max(1, TOGETHER // size)
        for row, scan in enumerate(self.reading):
            if isinstance(scan, DecodedScan):
                self.hashes.append(scan.digest if self.hashed == PIXELS else scan.sha256)
                self.kept.append(row)
                waiting.append(scan)
            else:
                self.quarantine.append((row, scan))
            if len(waiting) == together:
                yield from self._stacked(waiting, size)
                waiting.clear()
        if waiting:
            yield from self._stacked(waiting, size)

    @property
    def appearance(self) -> FloatArray:
        """(n, P) appearance of the scans that could be read."""
        return np.concatenate(self._appearance) if self._appearance else np.empty((0, 0), np.float32)

    def _stacked(self, waiting: Sequence[DecodedScan], size: int) -> Iterator[Inputs]:
        pixels = np.stack([scan.pixels for scan in waiting])
        if self.appearing:
            measured = [scan.measured for scan in waiting if scan.measured is not None]
            whole = len(measured) == len(waiting)
            self._appearance.append(np.stack(measured) if whole else appearance_features(pixels))
        tokens = None if self.tokens is None else self.tokens[self.kept[-len(waiting) :]]
        for start in range(0, len(waiting), size):
            yield pixels[start : start + size], None if tokens is None else tokens[start : start + size]


def read_small_pixels(
    paths: Sequence[Source], settings: Data, files: FileReader, people: Sequence[IntArray]
) -> Iterator[FloatArray]:
    """(n, D) small copies of the scans in the rows of each person, one after another; NaN for those that cannot be read."""
    reading = files.read([paths[row] for rows in people for row in rows.tolist()], settings)
    copies = (small_pixels(scan.pixels[None])[0] if isinstance(scan, DecodedScan) else None for scan in reading)
    for rows in people:
        some = list(islice(copies, len(rows)))
        width = next((len(copy) for copy in some if copy is not None), 1)
        yield np.stack([np.full(width, np.nan) if copy is None else copy for copy in some])
