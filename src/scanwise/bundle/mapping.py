"""Map scans to logits, a shard at a time, before anything is judged.

A shard is some scans in a row. Whatever takes memory (pixels, features) is gone when its last scan has passed; what stays of a scan
are its logits and how far it lies from training. Only then are they judged together, so that a person may straddle shards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from scanwise.bundle.engines import Engine, Outputs, Tokens, run_in_shape
from scanwise.bundle.inputs import FileReader, ScanReader
from scanwise.bundle.predictors import Hashed
from scanwise.cohort.decoding.pixels import Source
from scanwise.cohort.decoding.readers import DecodedScan
from scanwise.novelty import NoveltyDetector, appearance_features
from scanwise.progress_bar import track
from scanwise.recipe import Recipe
from scanwise.records import FloatArray, IntArray, Logits, ScanNovelty
from scanwise.records.array_files import read_arrays

SHARD = 1000
"""Scans of a shard, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class AskedScans:
    """Scans that a network is asked about.

    Attributes:
        paths: of the scans, or their contents.
        names: of the scans in answers.
        tokens: (N, …) beside the pixels, or None.
    """

    paths: Sequence[Source]
    names: Sequence[str]
    tokens: Tokens | None

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, start: int, stop: int) -> Self:
        """The scans from `start` up to `stop`."""
        tokens = None if self.tokens is None else self.tokens[start:stop]
        return replace(self, paths=self.paths[start:stop], names=self.names[start:stop], tokens=tokens)

    def shards(self, size: int) -> list[Self]:
        """The same scans, `size` of them a shard."""
        return [self.part(start, start + size) for start in range(0, len(self), size)]


@dataclass(frozen=True, slots=True)
class MappedScans:
    """Logits of scans, and all else that is judged: a row for each of the n that could be read.

    Attributes:
        count: number of scans that were asked about.
        kept: (n,) their rows among these.
        hashes: of the content of each.
        logits: (n, T, C).
        attention: (n, T), or None.
        novelty: distance of each from training, or None.
        quarantine: (row, reason) of the others.
    """

    count: int
    kept: IntArray
    hashes: Sequence[str]
    logits: FloatArray
    attention: FloatArray | None
    novelty: ScanNovelty | None
    quarantine: tuple[tuple[int, str], ...]

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Shards of scans, one behind the other."""
        starts = np.cumsum([0, *(part.count for part in parts)]).tolist()
        some = [part for part in parts if len(part.kept)]
        scores = [part.attention for part in some if part.attention is not None]
        novelty = [part.novelty for part in some if part.novelty is not None]
        return cls(
            count=starts[-1],
            kept=np.concatenate([start + part.kept for start, part in zip(starts, parts, strict=False)]),
            hashes=[content for part in parts for content in part.hashes],
            logits=np.concatenate([part.logits for part in some]) if some else np.empty((0, 1, 0), np.float32),
            attention=np.concatenate(scores) if scores else None,
            novelty=ScanNovelty.join(novelty) if novelty else None,
            quarantine=tuple(
                (start + row, reason)
                for start, part in zip(starts, parts, strict=False)
                for row, reason in part.quarantine
            ),
        )

    def part(self, start: int, stop: int) -> Self:
        """The scans from `start` up to `stop`, of those that were asked about."""
        first, last = np.searchsorted(self.kept, (start, stop)).tolist()
        rows = np.arange(first, last)
        return type(self)(
            count=stop - start,
            kept=self.kept[rows] - start,
            hashes=self.hashes[first:last],
            logits=self.logits[rows],
            attention=None if self.attention is None else self.attention[rows],
            novelty=None if self.novelty is None else self.novelty.take(rows),
            quarantine=tuple((row - start, reason) for row, reason in self.quarantine if start <= row < stop),
        )

    def save(self, path: Path) -> None:
        """Write an npz of plain arrays."""
        arrays: dict[str, Any] = {
            "count": self.count,
            "kept": self.kept,
            "hashes": np.array(self.hashes, dtype=np.str_),
            "logits": self.logits,
            "quarantined": np.array([row for row, _ in self.quarantine], dtype=np.int64),
            "reasons": np.array([reason for _, reason in self.quarantine], dtype=np.str_),
        }
        if self.attention is not None:
            arrays["attention"] = self.attention
        if self.novelty is not None:
            arrays |= {"distances": self.novelty.distances, "blank": self.novelty.blank}
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: if the file is damaged.
        """
        arrays = read_arrays(path)
        novelty = ScanNovelty(arrays["distances"], arrays["blank"]) if "distances" in arrays else None
        return cls(
            count=int(arrays["count"]),
            kept=arrays["kept"],
            hashes=arrays["hashes"].tolist(),
            logits=arrays["logits"],
            attention=arrays.get("attention"),
            novelty=novelty,
            quarantine=tuple(zip(arrays["quarantined"].tolist(), arrays["reasons"].tolist(), strict=True)),
        )


@dataclass(frozen=True, slots=True)
class ScanMapper:
    """A bundle's network, from scans to what is judged.

    Attributes:
        engine: runs the network.
        device: that it runs on.
        shape: rows of every batch, or None for batches of `batch`, whose answers depend on the scans beside them.
        batch: rows of a batch where there is no fixed shape.
        recipe: of the run.
        classes: C names.
        hashed: what the hash of a scan is made from.
        detector: of scans unlike training, or None.
        files: decodes them.
    """

    engine: Engine
    device: str
    shape: int | None
    batch: int
    recipe: Recipe
    classes: tuple[str, ...]
    hashed: Hashed
    detector: NoveltyDetector | None
    files: FileReader

    def shards(self, request: AskedScans, size: int) -> list[AskedScans]:
        """Shards of scans; all in one where an answer depends on the scans beside it."""
        return request.shards(max(1, len(request)) if self.shape is None else size)

    def read(self, shards: Sequence[AskedScans], progress: bool) -> Iterator[DecodedScan | str]:
        """The scans of some shards as one stream, so that those of the next one are decoded ahead."""
        paths = [path for shard in shards for path in shard.paths]
        measure = None if self.detector is None else appearance_features
        return track(self.files.read(paths, self.recipe.data, measure), "predicting", len(paths), progress)

    def map(self, shard: AskedScans, reading: Iterator[DecodedScan | str]) -> MappedScans:
        """Rows of a shard, which is next in a stream."""
        reader = ScanReader(islice(reading, len(shard)), shard.tokens, self.hashed, self.detector is not None)
        if self.shape is None:
            parts = [self.engine.run(*batch) for batch in reader.batches(self.batch)]
        else:
            parts = list(run_in_shape(self.engine, reader.batches(self.shape), self.shape))
        logits, attention, novelty = self._joined(parts, reader)
        return MappedScans(
            len(shard), np.array(reader.kept, dtype=np.int64), reader.hashes, logits, attention, novelty,
            tuple(reader.quarantine),
        )  # fmt: skip

    def _joined(
        self, parts: Sequence[Outputs], reader: ScanReader
    ) -> tuple[FloatArray, FloatArray | None, ScanNovelty | None]:
        """Logits, attention and distances of the scans of a shard; its features end here."""
        if not parts:
            return np.empty((0, 1, len(self.classes)), np.float32), None, None
        scores = [part[2] for part in parts if part[2] is not None]
        logits, features = (np.concatenate([part[index] for part in parts]) for index in (0, 1))
        novelty = None
        if self.detector is not None:
            empty = np.full(len(logits), "")
            scans = Logits(
                logits, np.full(len(logits), -1), empty, empty, self.classes, features=features,
                appearance=reader.appearance,
            )  # fmt: skip
            novelty = self.detector.measure(scans)
        return logits, np.concatenate(scores) if scores else None, novelty


class ShardMap(Protocol):
    """Any way to get a network's word on scans."""

    def __call__(self, request: AskedScans, mapper: ScanMapper, progress: bool) -> MappedScans:
        """The rows of all scans, in order."""
        ...


def map_shards(
    shards: Sequence[AskedScans], mapper: ScanMapper, progress: bool = False
) -> Iterator[tuple[int, MappedScans]]:
    """Number and rows of each shard, by the network of this process."""
    reading = mapper.read(shards, progress)
    for number, shard in enumerate(shards):
        yield number, mapper.map(shard, reading)
    next(reading, None)  # the bar ends


def map_in_memory(request: AskedScans, mapper: ScanMapper, progress: bool) -> MappedScans:
    """Rows of scans by the network of this process; nothing is written."""
    return MappedScans.join([mapped for _, mapped in map_shards(mapper.shards(request, SHARD), mapper, progress)])
