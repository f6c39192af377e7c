"""Copies that the audit makes of some scans itself, by kind of change: the share of them that the search finds is what it can claim."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy import ndimage

from scanwise.auditing.scan_stack import ScanStack
from scanwise.records import FloatArray, IntArray

Image = NDArray[np.uint8]
Change = Callable[[Image, np.random.Generator], Image]

MOST_SCANS, FEWEST_SCANS, SHARE = 24, 4, 0.1
"""Scans that copies are made of, one of each kind: this share of all, within these bounds."""

SIZES, LOST = (28, 40, 56, 80, 112), 3.0
"""Sides that a scan is reduced to before it is changed, where it loses no more than these gray values (root mean square): copies of
a small scan are made before it is enlarged."""


@dataclass(frozen=True, slots=True)
class CopyKind:
    """One kind of change.

    Attributes:
        name: in words, of the copies.
        change: makes a copy of a scan.
    """

    name: str
    change: Change


def _moved(image: Image, linear: FloatArray, shift: FloatArray) -> Image:
    """The scan under an affine map about its middle; `shift` as a share of the side."""
    middle = np.array([(size - 1) / 2 for size in image.shape])
    back = np.linalg.inv(linear)
    offset = middle - back @ (middle + shift * np.array(image.shape))
    moved = ndimage.affine_transform(image.astype(np.float32), back, offset, order=1)
    return _to_bytes(moved)


def _turn(degrees: float, zoom: float = 1.0) -> FloatArray:
    angle = np.radians(degrees)
    return zoom * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _to_bytes(image: FloatArray) -> Image:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _mirrored(image: Image, random: np.random.Generator) -> Image:
    return np.ascontiguousarray(image[:, ::-1] if random.random() < 0.7 else image[::-1])


def _turned(image: Image, random: np.random.Generator) -> Image:
    return _moved(image, _turn(random.choice([-1, 1]) * random.uniform(5, 30)), np.zeros(2))


def _shifted(image: Image, random: np.random.Generator) -> Image:
    return _moved(image, _turn(0, random.choice([0.85, 1.15])), random.uniform(-0.1, 0.1, 2))


def _cropped(image: Image, random: np.random.Generator) -> Image:
    keep = random.uniform(0.75, 0.9)
    return _moved(image, _turn(0, 1 / keep), random.uniform(-0.5, 0.5, 2) * (1 / keep - 1))


def _bent(image: Image, random: np.random.Generator) -> Image:
    side = image.shape[0]
    field = ndimage.gaussian_filter(random.standard_normal((2, *image.shape)), (0, side / 14, side / 14))
    field *= 0.01 * side / field.std(axis=(1, 2), keepdims=True)
    points = np.mgrid[:side, : image.shape[1]] + field
    return _to_bytes(ndimage.map_coordinates(image.astype(np.float32), points, order=1, mode="nearest"))


def _recoloured(image: Image, random: np.random.Generator) -> Image:
    return _to_bytes(255 * (image / 255) ** random.choice([0.65, 1.5]) * random.uniform(0.8, 1.1))


def _equalised(image: Image, random: np.random.Generator) -> Image:
    del random
    smooth = image.astype(np.float32)
    width = image.shape[0] / 12
    mean = ndimage.gaussian_filter(smooth, width)
    spread = np.sqrt(np.maximum(ndimage.gaussian_filter(smooth**2, width) - mean**2, 0) + 100)
    return _to_bytes(np.where(image > 0, 110 + 45 * (smooth - mean) / spread, 0))


def _noisy(image: Image, random: np.random.Generator) -> Image:
    return _to_bytes(image + random.normal(0, random.uniform(5, 10), image.shape))


def _blurred(image: Image, random: np.random.Generator) -> Image:
    return _to_bytes(ndimage.gaussian_filter(image.astype(np.float32), image.shape[0] / 224 * random.uniform(0.8, 1.5)))


def _all_at_once(image: Image, random: np.random.Generator) -> Image:
    image = image[:, ::-1] if random.random() < 0.5 else image
    linear = _turn(random.uniform(-25, 25), random.uniform(0.8, 1.25))
    image = _moved(image, linear, random.uniform(-0.08, 0.08, 2))
    return _noisy(_recoloured(image, random), random)


COPY_KINDS: tuple[CopyKind, ...] = (
    CopyKind("mirrored", _mirrored),
    CopyKind("turned", _turned),
    CopyKind("shifted and zoomed", _shifted),
    CopyKind("cropped", _cropped),
    CopyKind("bent", _bent),
    CopyKind("of other brightness and contrast", _recoloured),
    CopyKind("of locally equalised contrast", _equalised),
    CopyKind("noisy", _noisy),
    CopyKind("blurred", _blurred),
    CopyKind("changed in several ways at once", _all_at_once),
)


@dataclass(frozen=True, slots=True)
class MadeCopies:
    """Copies of some scans.

    Attributes:
        pixels: (M, S, S).
        origin: (M,) the row of the scan that each was made of.
        kind: (M,) the index of its kind in `COPY_KINDS`.
    """

    pixels: Image
    origin: IntArray
    kind: IntArray

    def recall(self, own: IntArray, copies: IntArray) -> Mapping[str, tuple[int, int]]:
        """Copies of each kind that were found with their origin or with another copy of it, and all of that kind.

        Args:
            own: (P, 2) pairs of a scan and a copy made here.
            copies: (Q, 2) pairs of scans that are copies.
        """
        alike = {(int(a), int(b)) for pair in copies for a, b in (pair, pair[::-1])}
        recognised = np.zeros(len(self.origin), dtype=np.bool_)
        for scan, copy in own.tolist():
            origin = int(self.origin[copy])
            recognised[copy] |= scan == origin or (scan, origin) in alike
        return {
            kind.name: (int(recognised[self.kind == index].sum()), int((self.kind == index).sum()))
            for index, kind in enumerate(COPY_KINDS)
            if (self.kind == index).any()
        }


def make_copies(scans: ScanStack, rows: IntArray, seed: int) -> MadeCopies:
    """One copy of each kind of some of the scans at these places."""
    random = np.random.default_rng(seed)
    count = min(len(rows), max(FEWEST_SCANS, min(MOST_SCANS, round(SHARE * len(rows)))))
    some = np.sort(random.choice(rows, count, replace=False))
    origin, kind = np.repeat(some, len(COPY_KINDS)), np.tile(np.arange(len(COPY_KINDS)), len(some))
    side = scans.side
    own = {int(row): _resized(scan, _own_side(scan)) for row, scan in zip(some, scans.take(some), strict=True)}
    copies = [
        _resized(COPY_KINDS[index].change(own[row], random), side)
        for row, index in zip(origin.tolist(), kind.tolist(), strict=True)
    ]
    return MadeCopies(np.stack(copies), origin, kind)


def _own_side(image: Image) -> int:
    """The least side at which a scan keeps its detail."""
    whole = int(image.shape[0])
    for side in (side for side in SIZES if side < whole):
        lost = _resized(_resized(image, side), whole).astype(np.float32) - image
        if np.sqrt(np.square(lost).mean()) <= LOST:
            return side
    return whole


def _resized(image: Image, side: int) -> Image:
    return np.asarray(Picture.fromarray(image).resize((side, side), Picture.Resampling.BILINEAR))
