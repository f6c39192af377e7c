"""Pictures in, pixels out: PNG, JPEG, TIFF and a few more, of any mode.

Pixels of more than 8 bits a channel (and floats) are stretched from the picture's own minimum and maximum to 0–255,
because a 12-bit scan in a 16-bit file would otherwise be black. Pages of a TIFF and frames of a GIF or WebP are slices;
thumbnails and masks that a TIFF holds beside its pages are not. Transparent parts are black; where all of a picture is
equally transparent, transparency says nothing and is left out. White-is-zero is turned around.
"""

import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from scanwise.cohort.decoding import foreign_formats, isolated_decoder
from scanwise.cohort.decoding.memory import PIXELS
from scanwise.cohort.decoding.pixels import (
    EMPTY,
    MAX_PIXELS,
    Pixels,
    Slices,
    Source,
    UnreadableScan,
    hush,
    open_file,
    row_blocks,
)

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "GIF", "WEBP", "JPEG2000", "PPM")
"""The formats that are read, by Pillow's names; whatever else Pillow knows is never tried, for some run programs."""

_SEARCHED = 2**20  # bytes in which a picture says what it is
_COSTS = {"1": 8, "L": 8, "P": 20, "I;16": 12, "I;16B": 12, "I": 20, "F": 20}
_DEAREST = 36  # of colours, and all others
_WHITE_IS_ZERO = 0
_PLANES, _SEPARATE = 284, 2
_BITS, _PHOTOMETRIC = 258, 262
_SAMPLE_FORMAT, _SIGNED = 339, 2
_SUBFILE, _REDUCED_OR_MASK = 254, 0b101
_OLD_SUBFILE, _REDUCED = 255, 2

_UNSUPPORTED = re.compile(r"support|cannot handle|not implemented|not available", re.IGNORECASE)
_UNPACKER = "decoder error"  # libtiff's, of what it may know or not

# Where Pillow keeps one byte of two, unpacking a second time in the other byte order gives the other one.
_LITTLE = sys.byteorder == "little"
_OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if _LITTLE else "16L"}


def open_picture(stream: BinaryIO) -> ImageFile.ImageFile:
    """Open a picture; its pixels are still unread.

    Raises:
        UnreadableScan: if it is none of `FORMATS`, with the name of the format that it is.
    """
    hush("PIL")
    try:
        return Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError:
        raise UnreadableScan(foreign_formats.reason_against(_bytes(stream))) from None
    except Image.DecompressionBombError:
        raise UnreadableScan(f"claims more pixels than the limit of {MAX_PIXELS:,}") from None


def count_pages(file: Source) -> int:
    """Number of pages of a file that should be a picture, of which no pixel is read.

    Raises:
        UnreadableScan: if it is none that is read, or empty.
        OSError: if it cannot be opened.
    """
    with open_file(file) as opened:
        if not opened.read(1):
            raise UnreadableScan(EMPTY)
        opened.seek(0)
        with _reasons(opened), open_picture(opened) as image:
            return len(_page_numbers(image))


def decode_picture(data: bytes, page: int | None = None) -> Pixels:
    """Decode a picture of any mode into (H, W, 1) or (H, W, 3) uint8.

    A colour picture whose channels are all equal comes out gray. The page must be said where there are several.

    Raises:
        UnreadableScan: empty, truncated, damaged, of several pages or not a picture.
    """
    (pixels,) = decode_pages(data, [page])
    if isinstance(pixels, str):
        raise UnreadableScan(pixels)
    return pixels


def decode_pages(data: bytes, pages: Slices) -> Iterator[Pixels | str]:
    """Some pages of a picture, as `decode_picture` gives them, or the reason why there is none; None is its only one.

    Raises:
        UnreadableScan: if the file as a whole cannot be read.
    """
    if not data:
        raise UnreadableScan(EMPTY)
    stream = io.BytesIO(data)
    with _reasons(stream), open_picture(stream) as image:
        _refuse_many(image)
        numbers = _page_numbers(image)
        for page in pages:
            if page is None and len(numbers) > 1:
                yield f"holds {len(numbers)} pages; name one of them, such as FILE#{len(numbers) // 2:03d}"
            elif page is not None and (len(numbers) < 2 or page >= len(numbers)):
                yield f"has no page #{page:03d}; it holds {len(numbers)}"
            else:
                yield from _page(image, data, numbers[page or 0])


def _page_numbers(image: ImageFile.ImageFile) -> list[int]:
    """Frames of a file that are pages: no thumbnails or masks of another frame, and no stand-in for an animation."""
    frames = list(range(getattr(image, "n_frames", 1)))
    if len(frames) == 1:
        return [0]
    match image.format:
        case "GIF" | "WEBP":
            return frames
        case "PNG":
            return frames[1:] if image.default_image else frames  # type: ignore[attr-defined]
        case "TIFF":
            return _frames_where(image, frames, _is_page) or [0]
        case "MPO":  # cameras put thumbnails and gain maps beside the picture, all of them smaller
            size = image.size
            return _frames_where(image, frames, lambda frame: frame.size == size)
    return [0]


def _frames_where(
    image: ImageFile.ImageFile, frames: Iterable[int], keep: Callable[[ImageFile.ImageFile], bool]
) -> list[int]:
    """Frames that are kept; afterwards the picture stands at its first."""
    kept = []
    for frame in frames:
        image.seek(frame)
        if keep(image):
            kept.append(frame)
    image.seek(0)
    return kept


def _is_page(frame: ImageFile.ImageFile) -> bool:
    """Whether a frame of a TIFF is neither a thumbnail nor a mask."""
    tags = frame.tag_v2  # type: ignore[attr-defined]
    return not tags.get(_SUBFILE, 0) & _REDUCED_OR_MASK and tags.get(_OLD_SUBFILE) != _REDUCED


def _page(image: ImageFile.ImageFile, data: bytes, number: int) -> Iterator[Pixels | str]:
    """One page or reason; its room is kept until the next one is asked for."""
    try:
        with _reasons(io.BytesIO(data)):
            if image.tell() != number:
                image.seek(number)
            _refuse_many(image)
            with PIXELS.reserve(image.width * image.height * _cost(image)):
                yield _decoded(image, data)
    except UnreadableScan as reason:
        yield str(reason)


def _decoded(image: ImageFile.ImageFile, data: bytes) -> Pixels:
    """The page that a picture stands at."""
    deep = _sixteen_bits(image, data)
    if deep is not None:
        opaque = deep.shape[2] == 3
        return _shades(deep if opaque else deep[:, :, :-1], None if opaque else deep[:, :, -1])
    inverted, signed = _is_inverted(image), _is_signed(image)
    image.load()
    values, alpha = _values(_upright(image))
    shades = _shades(values.view(np.int8) if signed and values.dtype == np.uint8 else values, alpha)
    return 255 - shades if inverted else shades


def _upright(image: Image.Image) -> Image.Image:
    """A loaded picture as it is to be looked at; most stand so, and are not copied."""
    return ImageOps.exif_transpose(image) if image.getexif().get(ExifTags.Base.Orientation, 1) != 1 else image


def _refuse_many(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableScan(f"claims {image.width} × {image.height} pixels; the limit is {MAX_PIXELS:,}")


def _cost(image: ImageFile.ImageFile) -> int:
    """Bytes a pixel, with all copies; of JPEG 2000, those of its decoder too."""
    beside = 20 * len(image.getbands()) if image.format == "JPEG2000" else 0
    return beside + _COSTS.get(image.mode, _DEAREST)


def stretch(values: NDArray[Any], inside: NDArray[np.bool_] | None = None) -> Pixels:
    """Values of any kind from their minimum to their maximum, over the whole or what is `inside`, as 0 to 255.

    Raises:
        UnreadableScan: if there are NaN or infinite ones.
    """
    low, high = _limits(values if inside is None else values[inside])
    shades = np.zeros(values.shape, dtype=np.uint8)
    scale = 255.0 / (high - low) if high > low else 0.0
    for rows in row_blocks(values):
        shades[rows] = np.rint(np.clip((values[rows].astype(np.float64) - low) * scale, 0, 255))
    return shades


def _limits(values: NDArray[Any]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())  # NaN if any value is
    if not np.isfinite([low, high]).all():
        raise UnreadableScan("holds NaN or infinite pixels")
    return low, high


def _shades(values: NDArray[Any], alpha: NDArray[Any] | None) -> Pixels:
    """Gray or colour values of any depth, (H, W) or (H, W, C), as (H, W, 1) or (H, W, 3) uint8 in front of black."""
    if values.ndim == 3 and (values == values[:, :, :1]).all():
        values = values[:, :, 0]
    if alpha is not None and (alpha == alpha.flat[0]).all():
        alpha = None
    shades = values if values.dtype == np.uint8 else stretch(values, None if alpha is None else alpha > 0)
    shades = shades.reshape(*shades.shape[:2], -1)
    if alpha is None:
        return shades
    blended = np.empty(shades.shape, dtype=np.uint8)
    for rows in row_blocks(shades):
        blended[rows] = np.rint(shades[rows] * (alpha[rows, :, None] / np.iinfo(alpha.dtype).max))
    return blended


def _values(image: Image.Image) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Gray or colour values of a loaded picture, and how opaque each pixel is."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        clear = image.info.get("transparency")  # the one gray that is transparent
        return values, np.uint8(255) * (values != clear) if isinstance(clear, int) else None
    if image.has_transparency_data:
        painted = np.asarray(image.convert("RGBA"))
        return painted[:, :, :3], painted[:, :, 3]
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return np.asarray(image if image.mode == mode else image.convert(mode)), None


def _is_inverted(image: Image.Image) -> bool:
    """Whether white is zero, where Pillow does not turn that around itself."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO and image.mode not in ("1", "L", "LA", "P")


def _is_signed(image: Image.Image) -> bool:
    """Whether bytes of a TIFF are numbers from -128 to 127, which Pillow takes for 0 to 255."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and _SIGNED in np.atleast_1d(tags.get(_SAMPLE_FORMAT, 1))


def _sixteen_bits(image: ImageFile.ImageFile, data: bytes) -> NDArray[np.uint16] | None:
    """(H, W, 2, 3 or 4) gray or colour, and alpha, of 16 bits a channel, of which Pillow keeps one byte; None for others."""
    modes = {_raw_mode(tile[3]) for tile in image.tile}
    if getattr(image, "default_image", None) is not None and getattr(image, "is_animated", False):
        return None  # frames of a PNG that moves are composed by Pillow alone
    if image.format == "PPM":
        return _deep_ppm(image, data)
    if image.format == "TIFF" and image.tag_v2.get(_PLANES) == _SEPARATE:  # type: ignore[attr-defined]
        return _separate_planes(image, data)
    if image.format == "JPEG2000":
        return _deep_jpeg2000(image, data)
    if modes == {"LA;16B"}:
        return _joined(*(_unpacked(data, image.tell(), lambda _: "RGBA")[:, :, start::2] for start in (0, 1)))
    if modes and all(mode.startswith(("RGB;16", "RGBA;16", "RGBX;16")) for mode in modes):
        return _joined(*(_unpacked(data, image.tell(), choose) for choose in (str, _with_other_byte)))
    return None


def _separate_planes(image: Any, data: bytes) -> NDArray[np.uint16] | None:
    """Channels of a TIFF that stand one behind the other; of deep ones, Pillow would take the bytes for pixels."""
    bits, packed = image.tag_v2[_BITS], image.tile[0][0] != "raw"
    if len(bits) >= 3 and set(bits) == {16} and not packed:
        order = "16L" if image.tag_v2.prefix == b"II" else "16B"
        high, low = (
            _unpacked(data, image.tell(), partial("{1};{0}".format, end)) for end in (order, _OTHER_BYTE[order])
        )
        return _joined(high, low)
    if set(bits) != {8} or image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        raise UnreadableScan(f"a TIFF of separate planes of {bits[0]} bits, which is not read here; save it as PNG")
    return None


def _deep_jpeg2000(image: ImageFile.ImageFile, data: bytes) -> NDArray[np.uint16] | None:
    """(H, W, 3) of colours of more than 8 bits; of gray ones, Pillow keeps all."""
    start = data.find(b"\xff\x4f\xff\x51")
    channels, bits = int.from_bytes(data[start + 40 : start + 42]), (data[start + 42] & 0x7F) + 1
    if channels == 1 or bits <= 8:
        return None
    if channels != 3:
        raise UnreadableScan(f"a JPEG 2000 of {bits} bits and transparency, which is not read here; save it as PNG")
    return isolated_decoder.decode_jpeg2000(data[start:], image.height, image.width, bits).astype(np.uint16)


def _joined(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return np.left_shift(high, 8, dtype=np.uint16) | low


def _raw_mode(arguments: Any) -> str:
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _with_other_byte(mode: str) -> str:
    channels, end = mode.split(";")
    return f"{channels};{_OTHER_BYTE[end]}"


def _unpacked(data: bytes, frame: int, choose: Callable[[str], str]) -> NDArray[np.uint8]:
    """A frame, upright, whose bytes are unpacked in the way that `choose` makes of Pillow's choice."""
    with open_picture(io.BytesIO(data)) as image:
        image.seek(frame)
        tiles: list[Any] = []
        for tile in image.tile:
            codec, box, offset, arguments = tile
            mode = choose(_raw_mode(arguments))
            changed = (codec, box, offset, (mode, *arguments[1:]) if isinstance(arguments, tuple) else mode)
            tiles.append(changed if type(tile) is tuple else type(tile)(*changed))  # by the version of Pillow
        image.tile = tiles
        image.load()
        return np.asarray(ImageOps.exif_transpose(image))


def _deep_ppm(image: ImageFile.ImageFile, data: bytes) -> NDArray[np.uint16] | None:
    codec, _, offset, arguments = image.tile[0]
    if image.mode != "RGB" or not isinstance(arguments, tuple) or arguments[-1] < 256:
        return None
    count = image.height * image.width * 3
    if codec == "ppm":
        values = np.frombuffer(data, ">u2", count, offset)
    else:
        values = np.array(data[offset:].split()[:count], dtype=np.uint16)
    return values.astype(np.uint16).reshape(image.height, image.width, 3)


@contextmanager
def _reasons(stream: BinaryIO) -> Iterator[None]:
    """Whatever Pillow raises becomes the reason why there is no picture."""
    try:
        yield
    except (UnreadableScan, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        kind = foreign_formats.unsupported_jpeg(_bytes(stream))
        if kind is None and _UNSUPPORTED.search(text):
            kind = f"of a kind that is not read here ({text}); save it as PNG"
        if kind is None and _UNPACKER in text:
            kind = "damaged, or a TIFF of a compression that is not read here; save it as PNG"
        raise UnreadableScan(kind or f"damaged or truncated: {text}") from error


def _bytes(stream: BinaryIO) -> bytes:
    stream.seek(0)
    return stream.read(_SEARCHED)
