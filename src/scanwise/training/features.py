"""Feature maps of a frozen backbone: computed once, kept as float16 on disk, read by every later epoch.

    FOLDER/about.json      what they were made from; another backbone or other scans make them anew
           train_0.f16     (N, …) the maps of the training scans as they are, row after row
           train_1.f16     of the first augmented view, and so on
           validation_0.f16

Maps of height and width lie with their channels last, as the network computes them and the head reads them.
Each file is written whole or not at all, so that a training that was killed goes on with those that are there.
"""

import hashlib
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scanwise.cohort.store import Store
from scanwise.errors import TrainingError
from scanwise.models import Network
from scanwise.recipe import Augment
from scanwise.records import FloatArray, IntArray
from scanwise.run import is_writer, read_json, write_json, writing
from scanwise.training.augment import Augmentations, apply_augmentations, draw_augmentations
from scanwise.training.sampling import derive_seed

log = logging.getLogger("scanwise")

Float16Array = NDArray[np.float16]
VIEW = -1  # sets the seeds of views apart from those of epochs


class FeatureSource(Protocol):
    """Gives the feature maps of a side's scans."""

    @property
    def views(self) -> int: ...

    def __len__(self) -> int: ...

    def read(self, view: int, positions: IntArray, out: Tensor | None = None) -> Tensor:
        """(n, …) maps of these scans of the side, in one of its views, as float32; written into `out` where it is given,
        which is (n, …) of an earlier read."""
        ...


@dataclass(frozen=True, slots=True)
class RecomputedFeatures:
    """Feature maps that are computed anew whenever they are read: float32, and slow.

    Attributes:
        network: whose `forward_features` is asked, in evaluation mode where the backbone is held.
        store: of the whole cohort.
        rows: (N,) of the side.
        changes: what is done to the side's scans in each view.
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
    """Feature maps on disk: an array (N, …) of float16 a view, memory-mapped, channels last."""

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
        # Taken and widened in one go: first to gather 16 bits would pass twice through memory.
        torch._foreach_copy_(maps.unbind(), [kept[row] for row in positions.tolist()])
        return maps.permute(0, 3, 1, 2) if maps.ndim == 4 else maps


def draw_views(count: int, views: int, section: Augment, seed: int) -> tuple[Augmentations, ...]:
    """What is done to each of a side's scans in each view: nothing in the first, a draw of its own in every other."""
    generators = (torch.Generator().manual_seed(derive_seed(seed, VIEW, view)) for view in range(1, views))
    return (Augmentations(), *(draw_augmentations(count, section, generator) for generator in generators))


def cache_features(
    folder: Path, sides: dict[str, RecomputedFeatures], backbone: str, batch: int
) -> dict[str, FeatureSource]:
    """Write the feature maps of all sides and views, or open them, and give what reads them.

    Args:
        folder: for the files.
        sides: what to keep, by name.
        backbone: hash of the weights that the maps come from.
        batch: scans that the backbone sees at once.

    Where the disk has no room they are computed anew in every epoch, which is said.

    Raises:
        TrainingError: if a map does not fit into 16 bits.
    """
    shape = list(_halve(next(iter(sides.values())).read(0, np.arange(1))).shape[1:])
    size = 2 * int(np.prod(shape)) * sum(len(side) * side.views for side in sides.values())
    about = {"key": _key(sides, backbone), "shape": shape}
    if not _is_of(folder, about):
        if not is_writer():  # of several processes, the first has found no room
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
    return {name: _keep_side(folder, name, side, shape, batch) for name, side in sides.items()}


def pool_features(source: FeatureSource, batch: int = 256) -> FloatArray:
    """(N, D) means over the positions of each scan's first view, for finding neighbours."""
    maps = (source.read(0, rows) for rows in _chunks(len(source), batch))
    return np.concatenate([_pool(part.cpu()).numpy() for part in maps]).astype(np.float64)


def _pool(maps: Tensor) -> Tensor:
    """(n, D) of (n, D, h, w), (n, tokens, D) or (n, D)."""
    if maps.ndim == 4:
        return maps.mean((2, 3))
    return maps.mean(1) if maps.ndim == 3 else maps


def _keep_side(folder: Path, name: str, side: RecomputedFeatures, shape: list[int], batch: int) -> CachedFeatures:
    files = [folder / f"{name}_{view}.f16" for view in range(side.views)]
    for view, file in enumerate(files):
        if not file.is_file():
            with writing(file) as temporary, temporary.open("wb") as out:
                for rows in _chunks(len(side), batch):
                    out.write(_halve(side.read(view, rows)).tobytes())  # no memory map: a full disk must be an error
    dims = (len(side), *shape)
    return CachedFeatures(tuple(np.memmap(file, np.float16, "c", shape=dims) for file in files))


def _halve(maps: Tensor) -> Float16Array:
    half = maps.half()
    if not torch.isfinite(half).all():
        raise TrainingError(
            "The feature maps of the frozen backbone do not fit into 16 bits (or are no numbers). Check model.weights, "
            "model.mean and model.std, or set views: 0 in this stage."
        )
    found: Float16Array = (half.permute(0, 2, 3, 1) if half.ndim == 4 else half).cpu().contiguous().numpy()
    return found


def _chunks(count: int, batch: int) -> Iterator[IntArray]:
    return (np.arange(start, min(start + batch, count)) for start in range(0, count, batch))


def _is_of(folder: Path, about: dict[str, Any]) -> bool:
    return (folder / "about.json").is_file() and read_json(folder / "about.json") == about


def _key(sides: dict[str, RecomputedFeatures], backbone: str) -> str:
    """Hash of all that feature maps depend on: weights, pixels, and what is done to them."""
    told = hashlib.sha256(backbone.encode())
    for name, side in sides.items():
        told.update(name.encode() + "".join(side.store.digest[side.rows].tolist()).encode())
        for changes in side.changes:
            for drawn in (changes.mirrored, changes.tone, changes.affine, changes.bend):
                told.update(b"-" if drawn is None else drawn.numpy().tobytes())
    return told.hexdigest()
