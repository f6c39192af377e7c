"""NIfTI volumes in, slices out: canonical orientation, cut along one axis, intensities by percentiles of the volume.

A volume is brought to the axes right, front, top (nibabel's closest canonical orientation) and cut along the recipe's
`data.axis`. Slices are shown as radiologists see them: the front or the top of the head above, and the patient's right
hand on the left side (in sagittal slices the front on the left). Where a recipe keeps proportions (`data.shape: pad`),
voxels that are not cubes are made as high as they are wide. Of volumes over time the first is taken.
"""

import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanwise.cohort.decoding.pixels import (
    MAX_PIXELS,
    Pixels,
    Slices,
    UnreadableScan,
    enlarge,
    open_file,
    size_in_proportion,
)
from scanwise.recipe import Data

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
MAX_VOXELS = 500_000_000

_DAMAGED = (OSError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error, zlib.error)


def count_slices(file: Path, settings: Data) -> int:
    """Count the slices of a file along the axis of a recipe; reads its header only.

    Raises:
        UnreadableScan: if the header is damaged, or claims what cannot be read.
    """
    with open_file(file) as raw:
        return _count(_open(raw), settings)


def decode_nifti(data: bytes, slices: Slices, settings: Data) -> Iterator[Pixels | str]:
    """Some slices of a volume, (H, W, 1) each, or the reason why there is none.

    Raises:
        UnreadableScan: if the volume as a whole cannot be read.
    """
    image = _open(io.BytesIO(data))
    count = _count(image, settings)
    wanted = [_index(index, count) for index in slices]
    volume = _volume(image)
    low, high = _range(volume, settings)
    size = shown_size(volume.shape, image, settings)
    for index in wanted:
        result = index if isinstance(index, str) else _cut(volume, index, low, high, settings)
        yield result if isinstance(result, str) else enlarge(result, size)


def _open(raw: Any) -> Any:
    """The image of a stream, gzipped or not; its voxels are still unread."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        magic = raw.read(2)
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=raw) if magic == b"\x1f\x8b" else raw
        head = stream.read(348)
        stream.seek(0)
        kind = nibabel.Nifti2Image if head[4:7] in (b"n+2", b"ni2") else nibabel.Nifti1Image
        if b"ni1" in (head[344:347], head[4:7].replace(b"2", b"1")):
            raise UnreadableScan("a NIfTI pair (.hdr and .img); convert it to one .nii file")
        image = kind.from_stream(stream)
        _check(image)
    except (ImageFileError, HeaderDataError, *_DAMAGED) as error:
        raise UnreadableScan(f"damaged or truncated: its header cannot be read ({type(error).__name__})") from error
    return image


def _check(image: Any) -> None:
    """Refuse from the header alone what cannot become gray slices, or would not fit into memory."""
    shape = image.shape
    if len(shape) < 2 or math.prod(shape[4:]) != 1:
        raise UnreadableScan(f"has the shape {_by(shape)}; expected a volume, or volumes over time")
    if min(shape) < 1:
        raise UnreadableScan(f"claims {_by(shape)} voxels")
    if math.prod(shape[:3]) > MAX_VOXELS:
        raise UnreadableScan(f"claims {_by(shape[:3])} voxels; the limit is {MAX_VOXELS:,}")
    if image.get_data_dtype().kind not in "iuf":
        raise UnreadableScan("holds colours or complex numbers; expected one number a voxel")


def orientation_of(image: Any) -> NDArray[np.float64]:
    """(3, 2) which canonical axis each axis of the file is, and whether it runs the other way."""
    from nibabel.orientations import io_orientation

    plain = np.array([[0, 1], [1, 1], [2, 1]], dtype=np.float64)
    try:
        orientation: NDArray[np.float64] = io_orientation(image.affine)  # type: ignore[no-untyped-call]
    except (np.linalg.LinAlgError, ValueError):
        return plain
    return orientation if np.isfinite(orientation).all() else plain  # a header that says nothing of places


def _count(image: Any, settings: Data) -> int:
    shape = (*image.shape[:3], 1)[:3]
    axis = int(np.flatnonzero(orientation_of(image)[:, 0] == AXES[settings.axis])[0])
    if math.prod(shape) // shape[axis] > MAX_PIXELS:
        raise UnreadableScan(f"claims slices of a volume of {_by(shape)}; the limit is {MAX_PIXELS:,} pixels a slice")
    return int(shape[axis])


def _index(index: int | None, count: int) -> int | str:
    if index is None:
        return 0 if count == 1 else f"holds {count} slices; name one of them, such as FILE#{count // 2:03d}"
    return index if index < count else f"holds {count} slices, the last of them #{count - 1:03d}"


def _volume(image: Any) -> NDArray[np.float32]:
    """(X, Y, Z) float32: right, front, top."""
    from nibabel.orientations import apply_orientation

    first = (slice(None),) * min(image.ndim, 3) + (0,) * (image.ndim - 3)
    try:
        values = np.asarray(image.dataobj[first], dtype=np.float32)
        _refuse_damaged(image)
    except _DAMAGED as error:
        raise UnreadableScan(f"damaged or truncated: {error}") from error
    canonical: NDArray[np.float32] = apply_orientation(  # type: ignore[no-untyped-call]
        np.atleast_3d(values), orientation_of(image)
    )
    return canonical


def _refuse_damaged(image: Any) -> None:
    """Read on to the end of what is packed, where its checksum stands; of volumes over time that would take too long."""
    stream = image.file_map["image"].fileobj
    if isinstance(stream, gzip.GzipFile) and math.prod(image.shape[3:]) == 1:
        stream.seek(image.dataobj.offset + math.prod(image.shape) * image.get_data_dtype().itemsize)
        stream.read(1)


def _range(volume: NDArray[np.float32], settings: Data) -> tuple[float, float]:
    """The values that become black and white, over all finite voxels of the volume."""
    finite = volume[np.isfinite(volume)]
    if not len(finite):
        raise UnreadableScan("every voxel is NaN or infinite")
    low, high = np.percentile(finite, settings.percentiles)
    if low == high:  # nearly all voxels are background: the percentiles fall together, and the rest would be lost
        low, high = finite.min(), finite.max()
    return float(low), float(high)


def _cut(volume: NDArray[np.float32], index: int, low: float, high: float, settings: Data) -> Pixels | str:
    slab = np.take(volume, index, axis=AXES[settings.axis])
    holes = ~np.isfinite(slab)
    if holes.any() and settings.nan == "refuse":
        return f"holds {int(holes.sum())} NaN or infinite voxels; data.nan=black makes these black"
    scale = 255.0 / (high - low) if high > low else 0.0
    gray = np.clip((np.where(holes, low, slab) - low) * scale, 0, 255)
    return np.rint(gray).astype(np.uint8)[::-1, ::-1].T[:, :, None]


def shown_size(shape: Sequence[int], image: Any, settings: Data) -> tuple[int, int]:
    """(H, W) of a slice of a canonical volume; where proportions are to be kept, with pixels as high as they are wide."""
    axis = AXES[settings.axis]
    width, height = (length for dimension, length in enumerate(shape) if dimension != axis)
    if settings.shape != "pad":
        return height, width
    order = orientation_of(image)[:, 0].astype(int)
    sides = dict(zip(order.tolist(), (*map(float, image.header.get_zooms()[:3]), 1.0), strict=False))
    across, along = (sides.get(dimension, 1.0) for dimension in range(3) if dimension != axis)
    ratio = along / across if across > 0 else math.nan
    return size_in_proportion(height, width, ratio)


def _by(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
