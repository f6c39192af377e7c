"""The plan of a prediction: what it reads and writes, and the memory, disk and time that it needs.

Some scans are tried, the largest files among them, and their answers thrown away: what a process holds then, it holds for any number
of scans. What grows with these is added.
"""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scanwise import bundle
from scanwise.bundle.mapping import SHARD, AskedScans, MappedScans, ScanMapper, map_in_memory
from scanwise.cohort.decoding.pixels import RemoteScan, ScanBytes, Source
from scanwise.cohort.decoding.readers import locate_scan
from scanwise.cohort.decoding.remote_files import size_of
from scanwise.errors import RunError
from scanwise.phrases import count_of
from scanwise.pipeline.commands.predict_files import (
    device_of,
    list_scans_to_predict,
    outputs_of_listing,
    predict_listings,
)
from scanwise.records import IntArray
from scanwise.run import spell_time

TRIAL = 512
"""Scans that are tried, at most."""
BATCHES = 2
"""Batches before time is taken: the first ones start threads and settle how others run."""
SECONDS = 5.0
"""Time for the scans after these, about."""
AHEAD = 512
"""Scans that are decoded before the network has taken them, at most."""
HELD = 1_700
"""Bytes that the command holds a scan, beside what the network said: names, hashes, a row of the table (docs/scale.md)."""
LATER = 200 * 2**20
"""Bytes that the command takes only after a trial, such as for writing the table: measured beside plans (docs/scale.md)."""
RAY = 700 * 2**20
"""Bytes of the processes of Ray itself on a machine, by version 2.60; an estimate."""


@dataclass(slots=True)
class TrialMap:
    """A way to ask the network that takes note of what the answers cost.

    Attributes:
        kept: bytes of the rows of a scan, as a shard has them.
        held: bytes beside them that a shard holds of a scan until it is mapped.
        seconds: of a scan.
    """

    kept: int = 0
    held: int = 0
    seconds: float = 0.0

    def __call__(self, request: AskedScans, mapper: ScanMapper, progress: bool) -> MappedScans:
        """The rows of as many scans as there is time for; the others are set aside."""
        if self.seconds:  # of a network that is asked again about the scans that can be read
            return map_in_memory(request, mapper, progress)
        first = min(len(request), BATCHES * (mapper.shape or mapper.batch))
        warm, seconds = _timed(request.part(0, first), mapper)
        parts, self.seconds = [warm], seconds / first
        count = min(len(request), first + int(SECONDS / self.seconds))
        if count > first:
            more, seconds = _timed(request.part(first, count), mapper)
            parts, self.seconds = [warm, more], seconds / more.count
        if count < len(request):
            unread = tuple((row, "not tried") for row in range(len(request) - count))
            parts.append(MappedScans(len(unread), np.empty(0, np.int64), [], warm.logits[:0], None, None, unread))
        mapped = MappedScans.join(parts)
        self.kept = _bytes_of(mapped) // max(1, len(mapped.kept))
        data = mapper.recipe.data
        blank = np.zeros((1, data.size, data.size, data.channels), np.uint8)
        _, features, _ = mapper.engine.run(blank, None if request.tokens is None else request.tokens[:1])
        self.held = features.nbytes + blank.nbytes * AHEAD // SHARD
        return mapped


def _timed(scans: AskedScans, mapper: ScanMapper) -> tuple[MappedScans, float]:
    """Rows of some scans, and the seconds that they took."""
    start = time.perf_counter()
    return map_in_memory(scans, mapper, False), time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class PredictionPlan:
    """The plan of a prediction; sizes in bytes.

    Attributes:
        scans, files, subjects: their numbers.
        read: size of the files.
        shard: scans of one.
        mapping: memory of a process that maps shards.
        held: memory for names, answers and the table of all scans.
        disk: of all shards.
        seconds: of one process, a scan.
    """

    scans: int
    files: int
    subjects: int
    read: int
    shard: int
    mapping: int
    held: int
    disk: int
    seconds: float

    def lines(self, out: Path | None, engine: str, workers: int) -> list[str]:
        """The plan in words, verdict first.

        Args:
            out: the table, or None for the terminal.
            engine: "local" or "ray".
            workers: of Ray.
        """
        people = f" of {count_of(self.subjects, 'subject')}" if self.subjects else ""
        each = (
            ", and 40 MB for each core that decodes"
            if engine == "local"
            else f" for each of {count_of(workers, 'worker')}"
        )
        time = spell_time(self.scans * self.seconds / (workers if engine == "ray" else 1))
        lines = [
            f"{count_of(self.scans, 'scan')}{people} in {count_of(self.files, 'file')} ({_size(self.read)}).",
            f"memory: about {_size(self.mapping + (self.held + LATER if engine == 'local' else 0))}{each}",
            f"time: about {time}, by a trial of some of them with nothing else running",
        ]
        if engine == "ray":
            lines.insert(
                2,
                f"memory of this command: about {_size(self.mapping + self.held + LATER)}, and {_size(RAY)} for Ray on each machine",
            )
        if out is not None:
            shards = count_of(-(-self.scans // self.shard), "shard")
            lines.append(
                f"disk: about {_size(self.disk)} beside {out} until it is written, in {shards}; every file is read once more for their keys"
            )
        return lines


def plan_prediction(
    loaded: bundle.Bundle, scans: Sequence[Path | str], *, shard: int, device: str, threads: int, **options: Any
) -> PredictionPlan:
    """Try some of the scans that `predict_files` would read, the largest files among them, and add up.

    Args:
        loaded: the bundle.
        scans: files and folders.
        shard: scans of a shard.
        device, threads: as in `predict_files`.
        options: those of `list_scans_to_predict`.

    Raises:
        DataError: if there is nothing to predict, or the scans of the trial cannot be read.
        RunError: if the system does not tell how much memory was used.
    """
    device = device_of(loaded, device, threads)
    listing = list_scans_to_predict(loaded, scans, **options)
    sources = listing.sources()
    located = [locate_scan(source)[0] for source in sources]
    with ThreadPoolExecutor() as pool:
        files = dict(zip(todo := list(dict.fromkeys(located)), pool.map(_size_of, todo), strict=True))
    sizes = [files[file] for file in located]
    mapper = loaded.mapper(device)
    rows = _trial_rows(sizes)
    trial = TrialMap()
    tried = listing.take(rows)
    outputs = outputs_of_listing(loaded, tried, [sources[row] for row in rows], device=device, shards=trial)
    predict_listings(loaded, [(tried, outputs)])
    whole = len(listing) if mapper.shape is None else min(shard, len(listing))
    subjects = set() if listing.subject is None else set(listing.subject.tolist()) - {""}
    return PredictionPlan(
        scans=len(listing),
        files=len(files),
        subjects=len(subjects),
        read=sum(files.values()),
        shard=whole,
        mapping=_peak() + whole * (trial.held + trial.kept),
        held=len(listing) * (HELD + 2 * trial.kept),
        disk=len(listing) * trial.kept,
        seconds=trial.seconds,
    )


def _bytes_of(mapped: MappedScans) -> int:
    """Bytes of the rows of scans, as a shard has them on the disk."""
    arrays = [mapped.logits, mapped.kept, np.array(mapped.hashes, dtype=np.str_)]
    if mapped.attention is not None:
        arrays.append(mapped.attention)
    if mapped.novelty is not None:
        arrays += [mapped.novelty.distances, mapped.novelty.blank]
    return sum(values.nbytes for values in arrays)


def _trial_rows(sizes: Sequence[int]) -> IntArray:
    """Rows of the largest scans and of as many others spread over all, in turn."""
    count = min(len(sizes), TRIAL // 2)
    largest = np.argsort(sizes, kind="stable")[::-1][:count]
    spread = np.linspace(0, len(sizes) - 1, count).astype(np.int64)
    return np.array(list(dict.fromkeys(np.stack([largest, spread], axis=1).ravel().tolist())), dtype=np.int64)


def _size_of(file: Source) -> int:
    """Bytes of a file; 0 where nobody tells."""
    if isinstance(file, ScanBytes):
        return len(file.data)
    with suppress(OSError):
        return size_of(file.url) if isinstance(file, RemoteScan) else file.stat().st_size
    return 0


def _peak() -> int:
    """Bytes of memory that this process has held at most.

    Raises:
        RunError: if the system does not tell.
    """
    try:
        import resource
    except ImportError as error:
        raise RunError("--plan measures memory, and this system does not tell how much a process has used.") from error
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _size(count: int) -> str:
    """A number of bytes for people.

    >>> _size(900), _size(2_500_000), _size(3 * 2**30)
    ('0.9 kB', '2.5 MB', '3.2 GB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if count < 100 * size else f"{count / size:,.0f} {unit}"
    return f"{count / 1e3:.1f} kB"
