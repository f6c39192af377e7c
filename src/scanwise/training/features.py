"""Feature maps of a frozen backbone: computed once, cached as float16 on disk, read by every later epoch.

    FOLDER/about.json      what they come from; with another backbone or other scans they are computed again
           train_0.f16     (N, …) maps of the unchanged training scans, row after row
           train_1.f16     maps of the first augmented view, and so on
           validation_0.f16

Maps with height and width have their channels last, as the network computes them and the head reads them.
Each file is written atomically and ends in a checksum, so that a training that was killed resumes with those that are whole.
"""

import hashlib
import logging
import math
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scanwise.cohort.store import Store
from scanwise.errors import RunError, TrainingError
from scanwise.models import Network
from scanwise.recipe import Augment
from scanwise.records import FloatArray, IntArray
from scanwise.run import is_writer, read_json, write_json, writing
from scanwise.training.augment import Augmentations, apply_augmentations, draw_augmentations
from scanwise.training.sampling import derive_seed

log = logging.getLogger("scanwise")

Float16Array = NDArray[np.float16]
CHECK, BLOCK = 4, 2**24
VIEW = -1  # separates the seeds of views from those of epochs


class FeatureSource(Protocol):
    """Feature maps of the scans of a split."""

    @property
    def views(self) -> int: ...

    def __len__(self) -> int: ...

    def read(self, view: int, positions: IntArray, out: Tensor | None = None) -> Tensor:
        """(n, …) maps of these scans in one view, as float32; written into `out`, (n, …) of an earlier read, if it is given."""
        ...


@dataclass(frozen=True, slots=True)
class RecomputedFeatures:
    """Feature maps that are computed again at every read: float32, and slow.

    Attributes:
        network: the network, in evaluation mode where the backbone is frozen.
        store: store of the whole cohort.
        rows: (N,) rows of the split.
        changes: changes of the scans in each view.
    """

    network: Network
    store: Store
    rows: IntArray
    changes: tuple[Augmentations, ...]

    @property
    def views(self) -> int:
        return len(self.changes)

    def __len__(self) -> int:
        return len(self.rows)

    @torch.no_grad()
    def read(self, view: int, positions: IntArray, out: Tensor | None = None) -> Tensor:
        images = torch.from_numpy(self.store.read(self.rows[positions])).to(self.network.mean.device)
        changed = apply_augmentations(images.permute(0, 3, 1, 2), self.changes[view].take(torch.from_numpy(positions)))
        maps = self.network.forward_features(changed)
        return maps if out is None else out.copy_(maps)


@dataclass(frozen=True, slots=True)
class CachedFeatures:
    """Feature maps on disk: one memory-mapped float16 array (N, …) per view, channels last."""

    arrays: tuple[Float16Array, ...]

    @property
    def views(self) -> int:
        return len(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def read(self, view: int, positions: IntArray, out: Tensor | None = None) -> Tensor:
        kept = torch.from_numpy(self.arrays[view])
        if out is None:
            maps = torch.empty(len(positions), *kept.shape[1:])
        else:
            maps = out.permute(0, 2, 3, 1) if out.ndim == 4 else out
        # Gathered and widened in one pass; two would go through memory twice.
        torch._foreach_copy_(maps.unbind(), [kept[row] for row in positions.tolist()])
        return maps.permute(0, 3, 1, 2) if maps.ndim == 4 else maps


def draw_views(count: int, views: int, section: Augment, seed: int) -> tuple[Augmentations, ...]:
    """Changes of each scan in each view: none in the first, a draw of its own in every other."""
    generators = (torch.Generator().manual_seed(derive_seed(seed, VIEW, view)) for view in range(1, views))
    return (Augmentations(), *(draw_augmentations(count, section, generator) for generator in generators))


def cache_features(
    folder: Path, sides: dict[str, RecomputedFeatures], backbone: str, batch: int
) -> dict[str, FeatureSource]:
    """Write the feature maps of all splits and views, or open them, and return their sources.

    Args:
        folder: for the files.
        sides: maps to cache, by name.
        backbone: hash of the weights behind the maps.
        batch: batch size of the backbone.

    If the disk has no room they are computed again in every epoch, with a warning.

    Raises:
        TrainingError: if a map does not fit into 16 bits.
    """
    shape = list(_to_half(next(iter(sides.values())).read(0, np.arange(1))).shape[1:])
    size = 2 * int(np.prod(shape)) * sum(len(side) * side.views for side in sides.values())
    about = {"key": _key(sides, backbone), "shape": shape}
    if not _is_current(folder, about):
        if not is_writer():  # the first process found no room
            return dict(sides)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        free = shutil.disk_usage(folder).free
        if size > 0.9 * free:
            log.warning(
                "The features of the frozen backbone take %.1f GB and %s has %.1f GB left: they are computed anew in every "
                "epoch, which is slow. Free some space, or lower train.stages views.", size / 1e9, folder, free / 1e9,
            )  # fmt: skip
            shutil.rmtree(folder)
            return dict(sides)
        write_json(about, folder / "about.json")
    return {name: _cache_side(folder, name, side, shape, batch) for name, side in sides.items()}


def pool_features(source: FeatureSource, batch: int = 256) -> FloatArray:
    """(N, D) means over the positions of each scan's first view, to find neighbours."""
    maps = (source.read(0, rows) for rows in _chunks(len(source), batch))
    return np.concatenate([_pool(part.cpu()).numpy() for part in maps]).astype(np.float64)


def _pool(maps: Tensor) -> Tensor:
    """(n, D) of (n, D, h, w), (n, tokens, D) or (n, D)."""
    if maps.ndim == 4:
        return maps.mean((2, 3))
    return maps.mean(1) if maps.ndim == 3 else maps


def _cache_side(folder: Path, name: str, side: RecomputedFeatures, shape: list[int], batch: int) -> CachedFeatures:
    files, dims = [folder / f"{name}_{view}.f16" for view in range(side.views)], (len(side), *shape)
    for view, file in enumerate(files):
        if not _is_whole(file, 2 * math.prod(dims)):
            check = 0
            with writing(file) as temporary, temporary.open("wb") as out:
                for rows in _chunks(len(side), batch):
                    maps = _to_half(side.read(view, rows)).tobytes()
                    out.write(maps)  # no memory map: a full disk must be an error
                    check = zlib.crc32(maps, check)
                out.write(check.to_bytes(CHECK))
    return CachedFeatures(tuple(np.memmap(file, np.float16, "c", shape=dims) for file in files))


def _is_whole(file: Path, size: int) -> bool:
    """Whether a file has so many bytes, and those that were written."""
    if not file.is_file() or file.stat().st_size != size + CHECK:
        return False
    check = 0
    with file.open("rb") as opened:
        while part := opened.read(min(BLOCK, size - opened.tell())):
            check = zlib.crc32(part, check)
        return opened.read(CHECK) == check.to_bytes(CHECK)


def _to_half(maps: Tensor) -> Float16Array:
    half = maps.half()
    if not torch.isfinite(half).all():
        raise TrainingError(
            "The feature maps of the frozen backbone do not fit into 16 bits (or are no numbers). Check model.weights, "
            "model.mean and model.std, or set views: 0 in this stage."
        )
    array: Float16Array = (half.permute(0, 2, 3, 1) if half.ndim == 4 else half).cpu().contiguous().numpy()
    return array


def _chunks(count: int, batch: int) -> Iterator[IntArray]:
    return (np.arange(start, min(start + batch, count)) for start in range(0, count, batch))


def _is_current(folder: Path, about: dict[str, Any]) -> bool:
    try:
        return bool(read_json(folder / "about.json") == about)
    except RunError:  # none, or a damaged one
        return False


def _key(sides: dict[str, RecomputedFeatures], backbone: str) -> str:
    """Hash of everything behind feature maps: weights, pixels, and their changes."""
    digest = hashlib.sha256(backbone.encode())
    for name, side in sides.items():
        digest.update(name.encode() + "".join(side.store.digest[side.rows].tolist()).encode())
        for changes in side.changes:
            for drawn in (changes.mirrored, changes.tone, changes.affine, changes.bend):
                digest.update(b"-" if drawn is None else drawn.numpy().tobytes())
    return digest.hexdigest()
