"""NIfTI volumes in, slices out: canonical orientation, cut along one axis, intensities by percentiles of the volume.

A volume is brought to the axes right, front, top (nibabel's closest canonical orientation) and cut along the recipe's
`data.axis`, or where it is one slice only, along the axis of that. Slices are shown as radiologists see them: the front
or the top of the head above, and the patient's right hand on the left side (in sagittal slices the front on the left).
Where a recipe keeps proportions (`data.shape: pad`), voxels that are not cubes are made as high as they are wide. Of
volumes over time the first is taken.
"""

import gzip
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scanwise.cohort.decoding.memory import PIXELS
from scanwise.cohort.decoding.pixels import (
    MAX_PIXELS,
    Pixels,
    Slices,
    Source,
    UnreadableScan,
    enlarge,
    hush,
    open_file,
    size_in_proportion,
)

if TYPE_CHECKING:
    from scanwise.recipe import Data

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
MAX_VOXELS = 500_000_000
_CIFTI = range(3000, 3100)  # codes of its intents
_COST = 18  # bytes a voxel, with all copies, beside those in the file
_GZIP = b"\x1f\x8b"
_DEFLATE = 1032  # times that gzip can shrink
_THICK = 2.0  # slices this many times as thick as their pixels are wide were acquired so


@dataclass(frozen=True, slots=True)
class VolumeSummary:
    """The slices of a volume, as its header tells them.

    Attributes:
        count: slices along the axis that it is cut along.
        remark: what is doubtful of that axis, and what is left out; "" if nothing is.
    """

    count: int
    remark: str = ""


def read_summary(file: Source, settings: "Data") -> VolumeSummary:
    """Count the slices of a file; reads its header only.

    Raises:
        UnreadableScan: if the header is damaged, or claims what cannot be read.
    """
    image = read_image(file)
    lengths = canonical_shape(image)
    axis = cutting_axis(lengths, settings)
    remarks = (_remark(_sides(image), axis, settings), _remark_on_times(image.shape))
    return VolumeSummary(_count(lengths, axis), ". ".join(filter(None, remarks)))


def read_image(file: Source) -> Any:
    """Read the header of a file, as nibabel has it; its voxels are not read.

    Raises:
        UnreadableScan: if the header is damaged, or claims what cannot be read.
    """
    with open_file(file) as raw:
        return _open(raw)


def decode_nifti(data: bytes, slices: Slices, settings: "Data") -> Iterator[Pixels | str]:
    """Some slices of a volume, (H, W, 1) each, or the reason why there is none.

    Raises:
        UnreadableScan: if the volume as a whole cannot be read.
    """
    image = _open(io.BytesIO(data))
    _refuse_short(image, data)
    lengths = canonical_shape(image)
    axis = cutting_axis(lengths, settings)
    count = _count(lengths, axis)
    wanted = [_index(index, count) for index in slices]
    size = shown_size(lengths, image, settings)
    with PIXELS.reserve(math.prod(lengths) * (image.get_data_dtype().itemsize + _COST)):
        volume = _volume(image)
        low, high = _range(volume, settings)
        for index in wanted:
            result = index if isinstance(index, str) else _cut(volume, axis, index, low, high, settings)
            yield result if isinstance(result, str) else enlarge(result, size)


def canonical_shape(image: Any) -> tuple[int, int, int]:
    """Lengths of the axes right, front and top."""
    lengths = [0, 0, 0]
    for length, position in zip((*image.shape[:3], 1)[:3], orientation_of(image)[:, 0].astype(int), strict=True):
        lengths[position] = length
    return lengths[0], lengths[1], lengths[2]


def cutting_axis(lengths: Sequence[int], settings: "Data") -> int:
    """The canonical axis that a volume is cut along: the recipe's, unless another one is a single slice and that is not."""
    axis = AXES[settings.axis]
    return lengths.index(1) if 1 in lengths and lengths[axis] != 1 else axis


def affine_of(image: Any) -> NDArray[np.float64] | None:
    """(4, 4) from voxels to millimetres right, front, top; None where the header says nothing that can be.

    The sform is taken, then the qform, each if it spans a space: some programs write one and leave the other empty.
    """
    for read, code in ((image.header.get_sform, "sform_code"), (image.header.get_qform, "qform_code")):
        if int(image.header[code]) > 0:
            try:
                affine = np.asarray(read(), dtype=np.float64)
            except Exception:  # noqa: BLE001, S112 - a quaternion that cannot be
                continue
            if _spans(affine):
                return affine
    if int(image.header["sform_code"]) <= 0 and int(image.header["qform_code"]) <= 0 and _spans(image.affine):
        return np.asarray(image.affine, dtype=np.float64)  # by nibabel's convention
    return None


def _spans(affine: NDArray[np.float64]) -> bool:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not (lengths > 0).all():
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-3)


def _open(raw: Any) -> Any:
    """The image of a stream, gzipped or not; its voxels are still unread."""
    import nibabel

    hush("nibabel", "nibabel.global")
    try:
        magic = raw.read(2)
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=raw) if magic == _GZIP else raw
        head = stream.read(348)
        stream.seek(0)
        kind = nibabel.Nifti2Image if head[4:7] in (b"n+2", b"ni2") else nibabel.Nifti1Image
        _refuse_pair(head)
        image = kind.from_stream(stream)
        _check(image)
    except (UnreadableScan, MemoryError):
        raise
    except Exception as error:
        if "data code" in str(error):
            raise UnreadableScan("holds a type of voxels that is not read here; convert it to float32") from error
        raise UnreadableScan(f"damaged or truncated: its header cannot be read ({type(error).__name__})") from error
    return image


def _refuse_pair(head: bytes) -> None:
    if b"ni1" in (head[344:347], head[4:7].replace(b"2", b"1")):
        raise UnreadableScan("a NIfTI pair (.hdr and .img); convert it to one .nii file")


def _check(image: Any) -> None:
    """Refuse from the header alone what cannot become gray slices, or would not fit into memory."""
    shape = image.shape
    if int(image.header["intent_code"]) in _CIFTI:
        raise UnreadableScan("a CIFTI file of the surface of the brain, not a volume; leave it out")
    if len(shape) < 2 or math.prod(shape[4:]) != 1:
        raise UnreadableScan(f"has the shape {_by(shape)}; expected a volume, or volumes over time")
    if min(shape) < 1:
        raise UnreadableScan(f"claims {_by(shape)} voxels")
    if math.prod(shape[:3]) > MAX_VOXELS:
        raise UnreadableScan(f"claims {_by(shape[:3])} voxels; the limit is {MAX_VOXELS:,}")
    if image.get_data_dtype().kind not in "iuf":
        raise UnreadableScan("holds colours or complex numbers; expected one number a voxel")


def _refuse_short(image: Any, data: bytes) -> None:
    """Refuse a header that claims more voxels than the file can hold, before any memory is made for them."""
    claimed = math.prod(image.shape[:3]) * image.get_data_dtype().itemsize
    if claimed > len(data) * (_DEFLATE if data[:2] == _GZIP else 1):
        raise UnreadableScan(f"damaged or truncated: {len(data):,} bytes cannot hold the {claimed:,} of its voxels")


def orientation_of(image: Any) -> NDArray[np.float64]:
    """(3, 2) which canonical axis each axis of the file is, and whether it runs the other way."""
    from nibabel.orientations import io_orientation

    affine = affine_of(image)
    if affine is None:  # a header that says nothing of places
        return np.array([[0, 1], [1, 1], [2, 1]], dtype=np.float64)
    orientation: NDArray[np.float64] = io_orientation(affine)  # type: ignore[no-untyped-call]
    return orientation


def _count(lengths: Sequence[int], axis: int) -> int:
    if math.prod(lengths) // lengths[axis] > MAX_PIXELS:
        raise UnreadableScan(f"claims slices of a volume of {_by(lengths)}; the limit is {MAX_PIXELS:,} pixels a slice")
    return lengths[axis]


def _remark(sides: Sequence[float], axis: int, settings: "Data") -> str:
    names = {number: name for name, number in AXES.items()}
    if axis != AXES[settings.axis]:
        return f"One {names[axis]} slice, and shown so although data.axis is {settings.axis}"
    thick = int(np.argmax(sides))
    if thick == axis or not all(sides[thick] >= _THICK * side for side in np.delete(sides, thick)):
        return ""
    return (
        f"Thickest along the {names[thick]} axis, so probably acquired as {names[thick]} slices, but cut into "
        f"{names[axis]} ones; set data.axis to {names[thick]} to see them as acquired"
    )


def _remark_on_times(shape: Sequence[int]) -> str:
    times = math.prod(shape[3:])
    return (
        f"The first of {times} volumes over time (or directions, or echoes) is used, and the others are not"
        if times > 1
        else ""
    )


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
    except (UnreadableScan, MemoryError):
        raise
    except Exception as error:
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


def _range(volume: NDArray[np.float32], settings: "Data") -> tuple[float, float]:
    """The values that become black and white, over all finite voxels of the volume."""
    finite = volume[np.isfinite(volume)]
    if not len(finite):
        raise UnreadableScan("every voxel is NaN or infinite")
    low, high = np.percentile(finite, settings.percentiles)
    if low == high:  # nearly all voxels are background: the percentiles fall together, and the rest would be lost
        low, high = finite.min(), finite.max()
    return float(low), float(high)


def _cut(volume: NDArray[np.float32], axis: int, index: int, low: float, high: float, settings: "Data") -> Pixels | str:
    slab = np.take(volume, index, axis=axis)
    holes = ~np.isfinite(slab)
    if holes.any() and settings.nan == "refuse":
        return f"holds {int(holes.sum())} NaN or infinite voxels; data.nan=black makes these black"
    scale = 255.0 / (high - low) if high > low else 0.0
    gray = np.clip((np.where(holes, low, slab) - low) * scale, 0, 255)
    return np.rint(gray).astype(np.uint8)[::-1, ::-1].T[:, :, None]


def shown_size(lengths: Sequence[int], image: Any, settings: "Data") -> tuple[int, int]:
    """(H, W) of a slice of a canonical volume; where proportions are to be kept, with pixels as high as they are wide."""
    axis = cutting_axis(lengths, settings)
    width, height = (length for dimension, length in enumerate(lengths) if dimension != axis)
    if settings.shape != "pad":
        return height, width
    across, along = (side for dimension, side in enumerate(_sides(image)) if dimension != axis)
    return size_in_proportion(height, width, along / across if across > 0 else math.nan)


def _sides(image: Any) -> list[float]:
    """Lengths of a voxel along the axes right, front and top; 1 where the header does not say."""
    order = orientation_of(image)[:, 0].astype(int)
    sides = dict(zip(order.tolist(), (*map(float, image.header.get_zooms()[:3]), 1.0), strict=False))
    return [sides.get(dimension, 1.0) for dimension in range(3)]


def _by(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
