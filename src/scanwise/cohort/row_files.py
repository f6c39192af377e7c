"""Rows of very many scans on disk: written a block at a time, then read as arrays that are memory-mapped.

The files lie beside the decoded scans and have no name: nobody else can open them, and whatever ends the process, they are gone.
"""

import math
import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanwise.cohort.store import cache_folder
from scanwise.errors import StorageError, describe_os_error
from scanwise.records import IntArray

BLOCK = 1024
"""Scans that are held in memory at once."""


def blocks_of(count: int, size: int | None = None) -> Iterator[slice]:
    """Consecutive blocks of `count` rows, `BLOCK` of them in each where no size is given; one empty block of no rows."""
    step = size or BLOCK
    return (slice(start, min(start + step, count)) for start in range(0, max(count, 1), step))


def store_rows(blocks: Iterable[Sequence[NDArray[Any]]]) -> tuple[NDArray[Any], ...]:
    """Arrays (N, …) on disk, read-only, of which each block holds the next rows.

    Args:
        blocks: at least one; each has the next rows of every array.

    Raises:
        StorageError: if the disk has no room.
    """
    folder = cache_folder()
    files: list[Any] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        counts: list[int] = []
        last: Sequence[NDArray[Any]] = ()
        for last in blocks:
            files = files or [tempfile.TemporaryFile(dir=folder) for _ in last]  # noqa: SIM115 - closed once mapped
            for file, rows in zip(files, last, strict=True):
                file.write(np.ascontiguousarray(rows).data)  # no memory map: a full disk must be an error, not a SIGBUS
            counts.append(len(last[0]))
        arrays = [
            _map(file, (sum(counts), *rows.shape[1:]), rows.dtype) for file, rows in zip(files, last, strict=True)
        ]
    except OSError as error:
        reason = describe_os_error(error) or str(error)
        raise StorageError(
            f"Cannot keep the scans' features in {folder}: {reason} Point SCANWISE_CACHE elsewhere."
        ) from error
    finally:
        for file in files:
            file.close()
    return tuple(arrays)


def release_pages(*arrays: NDArray[Any]) -> None:
    """Take what was read of read-only memory-mapped arrays out of memory; what is read again comes from the file."""
    for array in arrays:
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, memoryview):
            base = base.obj
        if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            base.madvise(mmap.MADV_DONTNEED)


def read_rows(array: NDArray[Any], rows: IntArray | slice | tuple[IntArray, ...]) -> NDArray[Any]:
    """A copy of some rows of a read-only array; where it is memory-mapped, its pages leave memory again."""
    copied = np.array(array[rows])
    release_pages(array)
    return copied


def _map(file: Any, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The rows of a file that was written."""
    if not math.prod(shape):
        return np.empty(shape, dtype)
    file.flush()
    mapped = mmap.mmap(file.fileno(), math.prod(shape) * dtype.itemsize, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, dtype).reshape(shape)
