"""Every scan decoded and resized once, into one memory-mapped uint8 array that all epochs, stages and runs share.

A store is a folder named by the hash of what is in it (the files' content and the settings):

    KEY/pixels.u8   the array (N, size, size, C), row after row
        store.json  its shape, the hashes of each row, and which files were refused for which reason

It is built under a temporary name while holding a lock, so that two processes build it once, and half a store
never exists.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from scanwise.cohort.decoding.pixels import Pixels, UnreadableScan, open_file
from scanwise.cohort.decoding.readers import read_files, workers
from scanwise.cohort.decoding.slice_names import split_slice
from scanwise.errors import RunError, StorageError
from scanwise.migrations import FORMATS, check_format
from scanwise.recipe import Data
from scanwise.records import IntArray, StrArray
from scanwise.run import read_json, write_json, writing

T = TypeVar("T")

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


def build_store(root: Path, paths: StrArray, settings: Data, *, progress: bool = False) -> tuple[Store, dict[str, str]]:
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
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"Cannot make {folder.parent}: {error.strerror}. Point SCANWISE_CACHE elsewhere."
            ) from error
        with FileLock(str(folder) + ".lock"):
            if not folder.is_dir():
                for stale in folder.parent.glob(f".{key}.*.part"):  # of a process that was killed
                    shutil.rmtree(stale, ignore_errors=True)
                _refuse_full_disk(folder.parent, len(names) * settings.size**2 * settings.channels)
                with writing(folder) as temporary:
                    _fill(temporary, root, names, settings, progress)
    return _open(folder)


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
    with ThreadPoolExecutor(workers()) as pool:
        hashes = _bar(pool.map(hash_file, todo), len(todo), "hashing files", progress)
        of = dict(zip(todo, hashes, strict=True))
    return [of[file] for file in files]


def _key(names: Sequence[str], content: Sequence[str], settings: Data) -> str:
    # Names are in the key because rows are looked up by position; a renamed file makes a new store.
    settings_text = json.dumps([VERSION, settings.model_dump(exclude={"label"}), list(names), list(content)])
    return hashlib.sha256(settings_text.encode()).hexdigest()[:32]


def _fill(folder: Path, root: Path, names: Sequence[str], settings: Data, progress: bool) -> None:
    """Decode in parallel, write in order."""
    folder.mkdir()
    scans: list[tuple[str, str]] = []
    refused: dict[str, str] = {}
    with (folder / "pixels.u8").open("wb") as file:
        decoded = _bar(read_files([root / name for name in names], settings), len(names), "decoding scans", progress)
        for name, scan in zip(names, decoded, strict=True):
            if isinstance(scan, str):
                refused[name] = scan
                continue
            file.write(scan.pixels.tobytes())  # not a memory map: a full disk must be an error, not a SIGBUS
            scans.append((scan.sha256, scan.digest))
        file.flush()
        os.fsync(file.fileno())
    shape = [len(scans), settings.size, settings.size, settings.channels]
    write_json({"format": FORMATS["store"], "shape": shape, "scans": scans, "refused": refused}, folder / "store.json")


def _open(folder: Path) -> tuple[Store, dict[str, str]]:
    about = read_json(folder / "store.json")
    check_format("store", about.get("format"), folder)
    shape = tuple(about["shape"])
    file = folder / "pixels.u8"
    if not file.is_file() or file.stat().st_size != np.prod(shape):
        raise RunError(f"The store {folder} is damaged (its size is wrong). Delete that folder; it is made anew.")
    array: NDArray[np.uint8] = np.memmap(file, np.uint8, "r", shape=shape) if shape[0] else np.empty(shape, np.uint8)
    hashes = np.array(about["scans"], dtype=np.str_).reshape(-1, 2)
    return Store(array, np.arange(shape[0]), hashes[:, 0], hashes[:, 1]), dict(about["refused"])


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
    return iter(tqdm(items, what, total, unit=" scans", leave=False, disable=not progress, delay=0.5))
