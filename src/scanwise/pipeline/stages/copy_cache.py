"""The search for copies, kept in the cache: the same scans are searched once, whichever audits, fits and resumed runs look at them.

The search is the longest part of an audit, and what it finds depends on the pixels, on their sides and on the code alone. The file
holds row numbers and figures: nothing of a name or a picture.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scanwise.auditing.evidence import CopyPairs
from scanwise.cohort.row_files import blocks_of, read_rows
from scanwise.cohort.store import cache_folder
from scanwise.errors import DataError, StorageError
from scanwise.records import StrArray
from scanwise.records.array_files import read_arrays
from scanwise.run import writing
from scanwise.workers import OWN_PROCESS, Workers

SEARCHING = ("scanwise.auditing", "scanwise.registration")
"""The packages whose code decides what is found: a change of any file in them searches anew."""
FIELDS = ("rows", "similarity", "likeness", "displacement", "transform")


def find_copies_once(
    pixels: NDArray[np.uint8],
    sides: StrArray | None = None,
    of: str = "",
    seed: int = 0,
    workers: Workers = OWN_PROCESS,
) -> CopyPairs:
    """The result of `copy_search.find_copies` with these arguments, from the cache where it is there."""
    from scanwise.auditing import copy_search  # late: it imports torch

    file = cache_folder() / "copies" / f"{_key(pixels, sides, of, seed)}.npz"
    with suppress(OSError, DataError, KeyError, ValueError):  # not there, or damaged
        return _read(file)
    pairs = copy_search.find_copies(pixels, sides, of, seed, workers)
    with suppress(StorageError):  # what cannot be kept is searched again
        _write(pairs, file)
    return pairs


def _key(pixels: NDArray[np.uint8], sides: StrArray | None, of: str, seed: int) -> str:
    """Hash of all that the result depends on."""
    about = [_hash_code(SEARCHING), pixels.shape, None if sides is None else sides.tolist(), of, seed]
    digest = hashlib.sha256(json.dumps(about).encode())
    for block in blocks_of(len(pixels)):
        digest.update(np.ascontiguousarray(read_rows(pixels, block)).data)
    return digest.hexdigest()[:32]


@cache
def _hash_code(packages: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for package in packages:
        modules = (file for file in resources.files(package).iterdir() if file.name.endswith(".py"))
        for module in sorted(modules, key=lambda file: file.name):
            digest.update(module.name.encode() + module.read_bytes())
    return digest.hexdigest()


def _read(file: Path) -> CopyPairs:
    arrays = read_arrays(file)
    counts = zip(arrays["kinds"].tolist(), arrays["recall"].tolist(), strict=True)
    recall = {kind: (int(hits), int(count)) for kind, (hits, count) in counts}
    return CopyPairs(**{name: arrays[name] for name in FIELDS}, recall=recall)


def _write(pairs: CopyPairs, file: Path) -> None:
    kinds = np.array(list(pairs.recall), dtype=np.str_)
    recall = np.array(list(pairs.recall.values()), dtype=np.int64).reshape(-1, 2)
    arrays = {name: getattr(pairs, name) for name in FIELDS}
    with writing(file) as temporary, temporary.open("wb") as opened:
        np.savez(opened, kinds=kinds, recall=recall, **arrays)
