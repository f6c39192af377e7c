"""Bytes of an image file in, pixels in one convention out.

The convention: uint8, upright, gray (H, W, 1) or colour (H, W, 3), transparent parts black. Pixels of more than
8 bits (and floats) are stretched from the scan's own minimum and maximum to 0–255, because a 12-bit scan in a 16-bit
file would otherwise be black.
"""

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from scanwise.recipe import Data

Pixels = NDArray[np.uint8]

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
MAX_PIXELS = 100_000_000


class UnreadableScan(Exception):  # noqa: N818 - it never leaves the cohort room: it becomes a line of quarantine.csv
    """A file that is not a scan; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Scan:
    """One decoded scan.

    Attributes:
        pixels: (size, size, C) uint8.
        sha256: hash of the file.
        digest: hash of the pixels before resizing; empty for a scan of one single value.
    """

    pixels: Pixels
    sha256: str
    digest: str


def read(data: bytes, settings: Data) -> Scan:
    """Decode one file and bring it to the size and channels of a recipe.

    Raises:
        UnreadableScan: with the reason, for `quarantine.csv`.
    """
    image = decode(data)
    return Scan(resize(image, settings), hashlib.sha256(data).hexdigest(), digest(image))


def decode(data: bytes) -> Pixels:
    """Decode a PNG or JPEG (or what else Pillow reads) of any mode into (H, W, 1) or (H, W, 3) uint8.

    A colour image whose channels are all equal comes out gray.

    Raises:
        UnreadableScan: empty, truncated, damaged or not an image.
    """
    if not data:
        raise UnreadableScan("the file is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableScan(f"claims {image.width} × {image.height} pixels; the limit is {MAX_PIXELS:,}")
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _to_uint8(upright)
    except UnidentifiedImageError as error:
        raise UnreadableScan("not an image in a format that scanwise reads") from error
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
