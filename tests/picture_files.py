"""Files of pictures: as Pillow writes them, and of depths and orders that it reads but does not write."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

GRAY = np.random.default_rng(0).integers(0, 256, (12, 10), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def packed(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(pixels: np.ndarray, **options: object) -> bytes:
    return packed(Image.fromarray(pixels), **options)


def png16(values: np.ndarray, filters: tuple[int, ...] = (0,), clear: tuple[int, ...] = ()) -> bytes:
    """A PNG of 16 bits a channel: (H, W) gray, (H, W, 2) with alpha, (H, W, 3) or (H, W, 4) colours.

    `clear` is the one colour that is transparent; of the filters, only none (0) and up (2) can be asked for.
    """
    height, width = values.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    rows = np.frombuffer(values.astype(">u2").tobytes(), np.uint8).reshape(height, -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    lines = []
    for number, (row, over) in enumerate(zip(rows, above, strict=True)):
        kind_of_row = filters[number % len(filters)]
        lines.append(bytes([kind_of_row]) + (row - over if kind_of_row == 2 else row).tobytes())
    clear_chunk = _chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear)) if clear else b""
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            clear_chunk,
            _chunk(b"IDAT", zlib.compress(b"".join(lines))),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(
    values: np.ndarray, photometric: int = 1, order: str = "<", *, separate: bool = False, extra: int | None = None
) -> bytes:
    """An uncompressed TIFF: (H, W) or (H, W, C), its channels pixel by pixel or `separate`, one behind the other."""
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    planes = [values[..., index] for index in range(channels)] if separate else [values]
    strips = [plane.astype(values.dtype.newbyteorder(order)).tobytes() for plane in planes]
    tags = {
        256: ("I", [width]), 257: ("I", [height]), 258: ("H", [8 * values.dtype.itemsize] * channels), 259: ("H", [1]),
        262: ("H", [photometric]), 273: ("I", [0] * len(strips)), 277: ("H", [channels]), 278: ("I", [height]),
        279: ("I", [len(strip) for strip in strips]), 284: ("H", [2 if separate else 1]),
        **({} if extra is None else {338: ("H", [extra])}),
        339: ("H", [{"u": 1, "i": 2, "f": 3}[values.dtype.kind]] * channels),
    }  # fmt: skip
    sizes = {tag: len(numbers) * struct.calcsize(kind) for tag, (kind, numbers) in tags.items()}
    position = 8 + 2 + 12 * len(tags) + 4
    positions = {}
    for tag, size in sizes.items():
        if size > 4:
            positions[tag], position = position, position + size
    for index, strip in enumerate(strips):
        tags[273][1][index], position = position, position + len(strip)
    entries, arrays = b"", b""
    for tag, (kind, numbers) in tags.items():
        packed = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        value = struct.pack(f"{order}I", positions[tag]) if tag in positions else packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(numbers)) + value
        arrays += packed if tag in positions else b""
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(tags))
    return start + entries + bytes(4) + arrays + b"".join(strips)
