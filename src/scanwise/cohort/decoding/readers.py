"""Files in, pixels in one convention out.

The convention: uint8, upright, gray (H, W, 1) or colour (H, W, 3), transparent parts black; `pictures`, `dicom` and
`nifti` say what becomes of other depths. What a file is, its first bytes tell, not its name.
"""

import hashlib
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from scanwise.cohort.decoding import pictures
from scanwise.cohort.decoding.memory import FILES
from scanwise.cohort.decoding.pixels import (
    BROKEN,
    EMPTY,
    LACK,
    Kind,
    Pixels,
    ScanBytes,
    Slices,
    Source,
    UnreadableScan,
    length_of,
    open_file,
    reason_of,
)
from scanwise.cohort.decoding.remote_files import UNFETCHED
from scanwise.cohort.decoding.slice_names import split_slice

if TYPE_CHECKING:
    from scanwise.recipe import Data

_most_workers = 8
HEAD = 2048  # bytes that tell what a file is: DICOM says so at 128, NIfTI at 344, or there once unpacked

FileSlices = tuple[Source, Slices]
"""A file, and the slices of it that are asked for."""

_TOGETHER = 512  # slices of one file that one worker holds at once

# A DICOM file without a preamble begins with an element of group 2 or 8: a type or a small length follows.
_ELEMENT = rb"(?:[A-Z]{2}|[\x01-\xff]\x00\x00\x00)"
_BARE_DICOM = re.compile(
    rb"\x02\x00[\x00-\x03\x10\x12\x13\x16-\x18\x26]\x00" + _ELEMENT
    + rb"|\x08\x00[\x00\x01\x05\x08\x12-\x18]\x00" + _ELEMENT
    + rb"|\x00\x08\x00[\x00\x01\x05\x08\x12-\x18](?:[A-Z]{2}|\x00\x00\x00[\x01-\xff])",
    re.DOTALL,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DecodedScan:
    """One decoded scan.

    Attributes:
        pixels: (size, size, C) uint8.
        sha256: hash of the file.
        digest: hash of the pixels before resizing; empty for a scan of one single value.
        area: number of pixels before resizing.
        measured: (P,) what was measured on its pixels, or None.
    """

    pixels: Pixels
    sha256: str
    digest: str
    area: int = 0
    measured: NDArray[np.floating[Any]] | None = None


def files_together(paths: Iterable[Source], scans: int) -> Iterator[list[FileSlices]]:
    """The files of these paths with the slices that are asked of each, some files at a time: until they hold so many scans."""
    todo = _by_file(paths)
    while files := list(_up_to(todo, scans)):
        yield files


def decode_files(files: Sequence[FileSlices], settings: "Data") -> list[DecodedScan | str]:
    """The scans of some files on one core, each or the reason why there is none, as `streams.read_files` gives them."""
    return [scan for file, slices in files for scan in read_slices(file, slices, settings)]


def read_file(path: Source, settings: "Data") -> DecodedScan | str:
    """One scan, or the reason why there is none; the path is a file or `file#slice`."""
    file, index = locate_scan(path)
    return read_slices(file, [index], settings)[0]


def read_slices(file: Source, slices: Slices, settings: "Data") -> list[DecodedScan | str]:
    """Some scans of one file, in the order of `slices`; None is the only one that it holds."""
    try:
        with open_file(file) as stream, FILES.reserve(0 if isinstance(file, ScanBytes) else length_of(stream)):
            return list(_decode_slices(stream.read(), slices, settings))
    except Exception as error:  # noqa: BLE001 - decoders raise whatever a file leads them to, and the others go on
        return [reason_of(error)] * len(slices)


def may_pass(reason: str) -> bool:
    """Whether what a scan was refused for may be gone the next time: want of memory, a network, a process that was killed.

    >>> may_pass(f"{LACK}: about 9 MB"), may_pass(BROKEN), may_pass(EMPTY)
    (True, True, False)
    """
    return reason.startswith((LACK, BROKEN)) or UNFETCHED in reason


def read_scan(data: bytes, settings: "Data") -> DecodedScan:
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


def _decode_slices(data: bytes, slices: Slices, settings: "Data") -> Iterator[DecodedScan | str]:
    """Raises `UnreadableScan` for all of them, or gives the reason of one."""
    if not data:
        raise UnreadableScan(EMPTY)
    content = hashlib.sha256(data).hexdigest()
    for index, image in zip(slices, _images(data, slices, settings), strict=True):
        if isinstance(image, str):
            yield image
        else:
            # Slices of one file are different scans, and what is drawn from their hashes must differ.
            content_hash = content if index is None else hashlib.sha256(f"{content}#{index}".encode()).hexdigest()
            yield DecodedScan(resize(image, settings), content_hash, digest(image), image.shape[0] * image.shape[1])


def _images(data: bytes, slices: Slices, settings: "Data") -> Iterator[Pixels | str]:
    from scanwise.cohort.decoding import dicom, nifti

    kind = kind_of(data[:HEAD])
    if kind == "dicom":
        return dicom.decode_dicom(data, slices, settings)
    if kind == "nifti":
        return nifti.decode_nifti(data, slices, settings)
    return pictures.decode_pages(data, slices)


def locate_scan(scan: Source) -> tuple[Source, int | None]:
    """The file of a scan, and which of its slices it is."""
    return split_slice(scan) if isinstance(scan, Path) else (replace(scan, index=None), scan.index)


def _by_file(paths: Iterable[Source]) -> Iterator[FileSlices]:
    """Neighbours of one file together, up to `_TOGETHER` of them."""
    for file, group in groupby(map(locate_scan, paths), key=lambda located: located[0]):
        rest = iter([index for _, index in group])
        while some := list(islice(rest, _TOGETHER)):
            yield file, some


def _up_to(todo: Iterator[FileSlices], scans: int) -> Iterator[FileSlices]:
    """The next files, until they hold so many scans."""
    for file, slices in todo:
        yield file, slices
        scans -= len(slices)
        if scans <= 0:
            return


def reading_threads() -> int:
    """Threads that read and decode: decoders let go of the interpreter."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(_most_workers, allowed or 1)


def decode_on_one_core() -> None:
    """Use one worker from now on, because other processes of this machine work beside this one."""
    global _most_workers
    _most_workers = 1


def resize(image: Pixels, settings: "Data") -> Pixels:
    """Bring (H, W, 1 or 3) to (size, size, C) by area-aware bilinear resampling."""
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    mode = "L" if settings.channels == 1 else "RGB"
    picture = picture if picture.mode == mode else picture.convert(mode)
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
    content = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    content.update(np.ascontiguousarray(image).data)
    return content.hexdigest()
