"""Every scan decoded and resized once, into one memory-mapped uint8 array that all epochs, stages and runs share.

A store is a folder named by the hash of what is in it (the files' content and the settings):

    KEY/pixels.u8   the array (N, size, size, C), row after row
        store.json  its shape, the hashes of each row, which files were refused for which reason, and checksums

It is built under a temporary name while holding a lock, so that two processes build it once, and half a store
never exists. Opening it reads every byte and compares checksums (1.9 GB a second and core on a server of 2024, where the
scans of most cohorts take less than 1 GB); one that is damaged is made anew.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from scanwise.cohort.decoding.pixels import Pixels, UnreadableScan, open_file
from scanwise.cohort.decoding.readers import DecodedScan, decode_files, files_together, may_pass, reading_threads
from scanwise.cohort.decoding.slice_names import split_slice
from scanwise.cohort.decoding.streams import read_files, read_one_by_one
from scanwise.errors import RunError, StorageError
from scanwise.migrations import FORMATS, check_format
from scanwise.progress_bar import track
from scanwise.recipe import Data
from scanwise.records import IntArray, StrArray
from scanwise.run import read_json, write_json, writing
from scanwise.workers import OWN_PROCESS, Workers

T = TypeVar("T")

log = logging.getLogger("scanwise")

PIXELS, ABOUT = "pixels.u8", "store.json"
BLOCK = 2**24
"""Bytes that have a checksum of their own."""
TOGETHER, HELD = 256, 2**26
"""Scans, and bytes of decoded ones, that are decoded at once."""
VERSION = 2  # of the convention in `readers`; raising it makes new stores


@dataclass(frozen=True, slots=True)
class Store:
    """Decoded scans, in the order of a cohort.

    Attributes:
        array: (M, size, size, C) uint8, memory-mapped, read-only.
        rows: (N,) the row of each scan of the cohort.
        sha256: (N,) hash of each file.
        digest: (N,) hash of each scan's pixels.
    """

    array: Pixels
    rows: IntArray
    sha256: StrArray
    digest: StrArray

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: IntArray | Sequence[int]) -> Pixels:
        """Copies of these scans, (n, size, size, C) uint8."""
        return self.array[self.rows[np.asarray(indices, dtype=np.int64)]]

    def take(self, indices: IntArray) -> Self:
        """The store of a cohort that keeps only these scans, in this order."""
        return replace(self, rows=self.rows[indices], sha256=self.sha256[indices], digest=self.digest[indices])


def cache_folder() -> Path:
    """Folder of the stores: `SCANWISE_CACHE`, or the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("SCANWISE_CACHE") or user_cache_path("scanwise"))


def build_store(
    root: Path, paths: StrArray, settings: Data, *, progress: bool = False, workers: Workers = OWN_PROCESS
) -> tuple[Store, dict[str, str]]:
    """Open the store of these scans (files, or `file#slice`), or make it.

    Returns:
        the store, in the order of `paths` without those that cannot be read, and these with their reasons.

    Raises:
        StorageError: if the disk has no room; nothing is left behind.
    """
    names = [str(path) for path in paths]
    content = _hash_files(root, names, progress)
    key = _key(names, content, settings)
    folder = cache_folder() / "stores" / key
    earlier = _open(folder)
    if earlier is not None and not _passes_now(root, earlier[1], settings):
        return earlier
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"Cannot make {folder.parent}: {error.strerror}. Point SCANWISE_CACHE elsewhere.") from error
    with FileLock(str(folder) + ".lock"):
        opened = _open(folder)  # another process may have made it meanwhile
        if opened is None or (earlier is not None and opened[1] == earlier[1]):
            for left in folder.parent.glob(f".{key}.*"):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            if opened is None and folder.is_dir():
                log.warning("The decoded scans in %s are damaged: they are decoded again.", folder)
            _refuse_full_disk(folder.parent, len(names) * settings.size**2 * settings.channels)
            with writing(folder) as temporary:
                _fill(temporary, root, names, settings, progress, workers)
            opened = _open(folder)
    if opened is None:
        raise StorageError(
            f"What was just written into {folder} reads back otherwise. Point SCANWISE_CACHE to another disk."
        )
    return opened


def _hash_files(root: Path, names: Sequence[str], progress: bool) -> list[str]:
    """The hash of the file of each scan; a file of many scans is read once."""

    def hash_file(file: Path) -> str:
        try:
            with open_file(file) as opened:
                return hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            return f"unreadable: {error.strerror}"
        except UnreadableScan as reason:
            return f"unreadable: {reason}"

    files = [split_slice(root / name)[0] for name in names]
    todo = list(dict.fromkeys(files))
    with ThreadPoolExecutor(reading_threads()) as pool:
        hashes = _bar(pool.map(hash_file, todo), len(todo), "hashing files", progress)
        of = dict(zip(todo, hashes, strict=True))
    return [of[file] for file in files]


def _key(names: Sequence[str], content: Sequence[str], settings: Data) -> str:
    # Names are in the key because rows are looked up by position; a renamed file makes a new store.
    settings_text = json.dumps([VERSION, settings.of_pixels, list(names), list(content)])
    return hashlib.sha256(settings_text.encode()).hexdigest()[:32]


def _fill(folder: Path, root: Path, names: Sequence[str], settings: Data, progress: bool, workers: Workers) -> None:
    """Decode in parallel, write in order."""
    folder.mkdir()
    scans: list[tuple[str, str]] = []
    refused: dict[str, str] = {}
    checks: list[int] = []
    shape = [settings.size, settings.size, settings.channels]
    with (folder / PIXELS).open("wb") as file:
        files = [root / name for name in names]
        decoded = _bar(_decode(files, settings, shape, workers), len(names), "decoding scans", progress)
        for name, scan in zip(names, decoded, strict=True):
            if isinstance(scan, str):
                refused[name] = scan
                continue
            if len(scans) % _rows_of_block(shape) == 0:
                checks.append(0)
            row = scan.pixels.tobytes()
            file.write(row)  # not a memory map: a full disk must be an error, not a SIGBUS
            checks[-1] = zlib.crc32(row, checks[-1])
            scans.append((scan.sha256, scan.digest))
    about = {
        "format": FORMATS["store"],
        "shape": [len(scans), *shape],
        "scans": scans,
        "refused": refused,
        "checks": checks,
    }
    write_json({**about, "check": _check_of(about)}, folder / ABOUT)


def _decode(
    files: Sequence[Path], settings: Data, shape: Sequence[int], workers: Workers
) -> Iterator[DecodedScan | str]:
    """The scans of files in turn, by the workers that are given, or by those of `streams`."""
    if workers is OWN_PROCESS:
        return read_files(files, settings)
    together = files_together(files, max(1, min(TOGETHER, HELD // math.prod(shape))))
    return chain.from_iterable(workers.map(partial(decode_files, settings=settings), together))


def _open(folder: Path) -> tuple[Store, dict[str, str]] | None:
    """The store in a folder after a look at every byte; None if there is none, or it is not what was written."""
    try:
        about = dict(read_json(folder / ABOUT))
    except (RunError, ValueError, TypeError):
        return None
    if about.pop("check", None) != _check_of(about):
        return None
    check_format("store", about.get("format"), folder)
    shape = tuple(about["shape"])
    pixels = folder / PIXELS
    if not pixels.is_file() or pixels.stat().st_size != math.prod(shape):
        return None
    array: NDArray[np.uint8] = np.memmap(pixels, np.uint8, "r", shape=shape) if shape[0] else np.empty(shape, np.uint8)
    block = _rows_of_block(shape[1:])
    with ThreadPoolExecutor(reading_threads()) as pool:
        checks = pool.map(lambda row: zlib.crc32(array[row : row + block].data), range(0, shape[0], block))
        if list(checks) != about["checks"]:
            return None
    hashes = np.array(about["scans"], dtype=np.str_).reshape(-1, 2)
    return Store(array, np.arange(shape[0]), hashes[:, 0], hashes[:, 1]), dict(about["refused"])


def _passes_now(root: Path, refused: Mapping[str, str], settings: Data) -> bool:
    """Whether a scan that was refused for what may pass, such as want of memory, is not refused any more."""
    again = [root / name for name, reason in refused.items() if may_pass(reason)]
    return any(isinstance(scan, DecodedScan) for scan in read_one_by_one(again, settings))


def _rows_of_block(shape: Sequence[int]) -> int:
    return max(1, BLOCK // math.prod(shape))


def _check_of(about: Mapping[str, object]) -> int:
    return zlib.crc32(json.dumps(about).encode())


def kept_rows(paths: StrArray, refused: dict[str, str]) -> IntArray:
    """Indices of the paths that a store holds, in order."""
    return np.array([index for index, path in enumerate(paths.tolist()) if path not in refused], dtype=np.int64)


def _refuse_full_disk(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise StorageError(
            f"The decoded scans need {size / 1e6:,.0f} MB, and {folder} has {free / 1e6:,.0f} MB free. "
            "Free some space, point SCANWISE_CACHE to another disk, or lower data.size."
        )


def _bar(items: Iterator[T], total: int, what: str, progress: bool) -> Iterator[T]:
    return track(items, what, total, progress)
