"""Files in, pixels in one convention out.

The convention: uint8, upright, gray (H, W, 1) or colour (H, W, 3), transparent parts black. Pixels of more than
8 bits (and floats) of pictures are stretched from the scan's own minimum and maximum to 0–255, because a 12-bit scan
in a 16-bit file would otherwise be black; `dicom` and `nifti` say what theirs become. What a file is, its first bytes
tell, not its name.
"""

import hashlib
import io
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from scanwise.cohort.decoding.pixels import MAX_PIXELS, Kind, Pixels, Slices, UnreadableScan
from scanwise.cohort.decoding.slice_names import split_slice
from scanwise.recipe import Data

# What decoders raise on damaged files; anything else is our own mistake and must be seen.
_DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_EMPTY = "the file is empty (0 bytes)"
_NO_IMAGE = "not an image in a format that scanwise reads"
HEAD = 2048  # bytes that tell what a file is: DICOM says so at 128, NIfTI at 344, or there once unpacked

_AHEAD = 256  # scans that are decoded ahead of the reader
_TOGETHER = 512  # slices of one file that one worker holds at once

# DICOM of before 1993 has no preamble; it begins with an element of group 2 or 8: a type or a small length follows.
_BARE_DICOM = re.compile(
    rb"(?:\x02\x00\x00\x00UL|\x08\x00[\x00\x01\x05\x08\x12-\x18]\x00(?:[A-Z]{2}|[\x01-\xff]\x00\x00\x00))", re.S
)


@dataclass(frozen=True, slots=True)
class DecodedScan:
    """One decoded scan.

    Attributes:
        pixels: (size, size, C) uint8.
        sha256: hash of the file.
        digest: hash of the pixels before resizing; empty for a scan of one single value.
    """

    pixels: Pixels
    sha256: str
    digest: str


def read_files(paths: Iterable[Path], settings: Data) -> Iterator[DecodedScan | str]:
    """A scan, or the reason why there is none, for each path in turn; a path is a file or `file#slice`.

    Neighbouring slices of one file are read together, and a few scans are decoded ahead of the reader.
    """
    todo = _by_file(paths)
    with ThreadPoolExecutor(workers()) as pool:
        while chunk := list(_up_to(todo, _AHEAD)):
            for decoded in pool.map(lambda some: read_slices(some[0], some[1], settings), chunk):
                yield from decoded


def read_file(path: Path, settings: Data) -> DecodedScan | str:
    """One scan, or the reason why there is none; the path is a file or `file#slice`."""
    file, index = split_slice(path)
    return read_slices(file, [index], settings)[0]


def read_slices(file: Path, slices: Slices, settings: Data) -> list[DecodedScan | str]:
    """Some scans of one file, in the order of `slices`; None is the only one that it holds."""
    try:
        data = file.read_bytes()
        return list(_decode_slices(data, slices, settings))
    except UnreadableScan as reason:
        return [str(reason)] * len(slices)
    except OSError as error:
        return [f"cannot be opened: {error.strerror}"] * len(slices)


def read_scan(data: bytes, settings: Data) -> DecodedScan:
    """Decode the bytes of a file that holds one scan, and bring it to the size and channels of a recipe.

    Raises:
        UnreadableScan: with the reason, for `quarantine.csv`.
    """
    (decoded,) = _decode_slices(data, [None], settings)
    if isinstance(decoded, str):
        raise UnreadableScan(decoded)
    return decoded


def kind_of(head: bytes) -> Kind:
    """The kind of a file by its first `HEAD` bytes; what is neither DICOM nor NIfTI may be a picture, or nothing.

    >>> kind_of(bytes(128) + b"DICM"), kind_of(bytes(344) + b"n+1\\0"), kind_of(b"GIF89a")
    ('dicom', 'nifti', 'picture')
    """
    if head[128:132] == b"DICM" or _BARE_DICOM.match(head):
        return "dicom"
    inside = _unpacked(head) if head.startswith(b"\x1f\x8b") else head
    if inside[344:348] in (b"n+1\0", b"ni1\0") or inside[4:8] in (b"n+2\0", b"ni2\0"):
        return "nifti"
    return "picture"


def _unpacked(head: bytes) -> bytes:
    """The beginning of what is gzipped."""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD)
    except zlib.error:
        return b""


def _decode_slices(data: bytes, slices: Slices, settings: Data) -> Iterator[DecodedScan | str]:
    """Raises `UnreadableScan` for all of them, or gives the reason of one."""
    if not data:
        raise UnreadableScan(_EMPTY)
    content = hashlib.sha256(data).hexdigest()
    for index, image in zip(slices, _images(data, slices, settings), strict=True):
        if isinstance(image, str):
            yield image
        else:
            # Slices of one file are different scans, and what is drawn from their hashes must differ.
            content_hash = content if index is None else hashlib.sha256(f"{content}#{index}".encode()).hexdigest()
            yield DecodedScan(resize(image, settings), content_hash, digest(image))


def _images(data: bytes, slices: Slices, settings: Data) -> Iterator[Pixels | str]:
    from scanwise.cohort.decoding import dicom, nifti

    kind = kind_of(data[:HEAD])
    if kind == "dicom":
        return dicom.decode_dicom(data, slices, settings)
    if kind == "nifti":
        return nifti.decode_nifti(data, slices, settings)
    if any(index is not None for index in slices):
        raise UnreadableScan("holds no slices: it is neither DICOM nor NIfTI, or damaged")
    return iter([decode_picture(data)] * len(slices))


def _by_file(paths: Iterable[Path]) -> Iterator[tuple[Path, Slices]]:
    """Neighbours of one file together, up to `_TOGETHER` of them."""
    for file, group in groupby(map(split_slice, paths), key=lambda located: located[0]):
        rest = iter([index for _, index in group])
        while some := list(islice(rest, _TOGETHER)):
            yield file, some


def _up_to(todo: Iterator[tuple[Path, Slices]], scans: int) -> Iterator[tuple[Path, Slices]]:
    """The next files, until they hold so many scans."""
    for file, slices in todo:
        yield file, slices
        scans -= len(slices)
        if scans <= 0:
            return


def workers() -> int:
    """Threads that read and decode: decoders let go of the interpreter."""
    return min(8, os.cpu_count() or 1)


def identify(file: Path) -> None:
    """Look at the beginning of a file that should be a picture.

    Raises:
        UnreadableScan: if it is none that Pillow knows, or empty.
        OSError: if it cannot be opened.
    """
    with file.open("rb") as opened:
        if not opened.read(1):
            raise UnreadableScan(_EMPTY)
        opened.seek(0)
        try:
            with Image.open(opened):
                pass
        except UnidentifiedImageError as error:
            raise UnreadableScan(_NO_IMAGE) from error
        except _DAMAGED as error:
            raise UnreadableScan(f"damaged or truncated: {error}") from error


def decode_picture(data: bytes) -> Pixels:
    """Decode a PNG or JPEG (or what else Pillow reads) of any mode into (H, W, 1) or (H, W, 3) uint8.

    A colour image whose channels are all equal comes out gray.

    Raises:
        UnreadableScan: empty, truncated, damaged or not an image.
    """
    if not data:
        raise UnreadableScan(_EMPTY)
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableScan(f"claims {image.width} × {image.height} pixels; the limit is {MAX_PIXELS:,}")
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _to_uint8(upright)
    except UnidentifiedImageError as error:
        raise UnreadableScan(_NO_IMAGE) from error
    except _DAMAGED as error:
        raise UnreadableScan(f"damaged or truncated: {error}") from error


def resize(image: Pixels, settings: Data) -> Pixels:
    """Bring (H, W, 1 or 3) to (size, size, C) by area-aware bilinear resampling."""
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture = picture.convert("L" if settings.channels == 1 else "RGB")
    square = (settings.size, settings.size)
    if settings.shape == "pad":
        picture = ImageOps.pad(picture, square, Image.Resampling.BILINEAR)
    else:
        picture = picture.resize(square, Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.uint8).reshape(settings.size, settings.size, settings.channels)


def digest(image: Pixels) -> str:
    """Hash of decoded pixels and their shape; empty where every pixel is the same."""
    if image.min() == image.max():
        return ""
    return hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).hexdigest()


def _to_uint8(image: Image.Image) -> Pixels:
    """Any mode to (H, W, 1) or (H, W, 3)."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _stretch(np.asarray(image))[:, :, None]
    if image.mode in ("1", "L") and not image.has_transparency_data:
        return np.asarray(image.convert("L"))[:, :, None]
    if image.has_transparency_data:
        ink = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", ink.size, (0, 0, 0, 255)), ink)
    colour = np.asarray(image.convert("RGB"))
    gray = bool((colour == colour[:, :, :1]).all())
    return colour[:, :, :1] if gray else colour


def _stretch(values: NDArray[Any]) -> Pixels:
    if not np.isfinite(values).all():
        raise UnreadableScan("holds NaN or infinite pixels")
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.zeros(values.shape, dtype=np.uint8)
    return np.rint((values.astype(np.float64) - low) * (255.0 / (high - low))).astype(np.uint8)
