"""Common ground of all decoders: pixels, slices, files, and the error that quarantines one."""

import logging
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import SEEK_END, BufferedReader, BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


MAX_PIXELS = 100_000_000


STEEPEST = 20
"""A pixel is at most so many times as high as it is wide, or the other way; more is a mistake of the header."""


BLOCK = 2**20
"""Values that are worked on at once."""


LACK = "needs more memory than there is"
"""The beginning of the reason where the machine, not the file, is at fault at that moment."""
BROKEN = "damaged: its decoder broke down over it, or took too long"
"""Reason against a file over which a process that decodes ended."""


EMPTY = "the file is empty (0 bytes)"


Kind = Literal["dicom", "nifti", "picture"]


Slices = Sequence[int | None]


@dataclass(frozen=True, slots=True)
class ScanBytes:
    """The content of a file that is on no disk, such as an upload.

    Attributes:
        name: a label, which is never looked for.
        data: the content.
        index: one of its slices; None for all, or for the only one.
    """

    name: str
    data: bytes = field(repr=False)
    index: int | None = None

    @property
    def suffix(self) -> str:
        """The ending of the label, with its dot."""
        dot = self.name.rfind(".")
        return self.name[dot:] if dot > 0 else ""


@dataclass(frozen=True, slots=True)
class RemoteScan:
    """A file at an fsspec URL, which is read where it lies.

    Attributes:
        url: of the file, with whatever it needs to be read.
        index: one of its slices; None for all, or for the only one.
    """

    url: str = field(repr=False)
    index: int | None = None

    def __str__(self) -> str:
        from scanwise.cohort.decoding.remote_files import shown_url

        return shown_url(self.url) if self.index is None else f"{shown_url(self.url)}#{self.index}"

    @property
    def name(self) -> str:
        """The last part of the URL."""
        from scanwise.cohort.decoding.remote_files import split_query

        return split_query(self.url)[0].rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return Path(self.name).suffix


Source = Path | ScanBytes | RemoteScan
"""A file here or elsewhere, or the content of one."""


class UnreadableScan(Exception):  # noqa: N818 - it never leaves the cohort room: it becomes a line of quarantine.csv
    """A file that is not a scan; the message is the reason."""


def hush(package: str, log: str = "") -> None:
    """Keep what a package that decodes warns of off the terminal and logs: it is in words of the file, which may be a name,
    and what follows from it is decided here."""
    wanted = ("ignore", None, Warning, re.compile(rf"{package}\."), 0)
    if wanted not in warnings.filters:
        warnings.filterwarnings("ignore", category=Warning, module=rf"{package}\.")
    logger = logging.getLogger(log or package)
    if logger.level != logging.CRITICAL + 1:  # to set it empties the caches of all loggers
        logger.setLevel(logging.CRITICAL + 1)


def row_blocks(values: NDArray[Any]) -> Iterator[slice]:
    """Rows in turn, some at once, so that floats of all of them are never there together."""
    rows = max(1, BLOCK // max(1, values[:1].size))
    for start in range(0, len(values), rows):
        yield slice(start, start + rows)


def reason_of(error: Exception) -> str:
    """Why a file is not read, by whatever a decoder has raised."""
    if isinstance(error, UnreadableScan):
        return str(error)
    if isinstance(error, MemoryError):
        return LACK
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    return f"damaged, or of a kind that is not read here ({type(error).__name__})"


def open_file(file: Source) -> BufferedReader | BytesIO:
    """Open a file, or the content of one, for reading; pipes and devices, which may never end, are not opened.

    Raises:
        UnreadableScan: if it is none.
        OSError: if it cannot be opened.
    """
    if isinstance(file, ScanBytes):
        return BytesIO(file.data)
    if isinstance(file, RemoteScan):
        from scanwise.cohort.decoding.remote_files import RemoteStream

        return BufferedReader(RemoteStream(file.url))
    mode = file.stat().st_mode
    if stat.S_ISREG(mode):
        return file.open("rb")
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    raise UnreadableScan(f"not a file but {kinds.get(stat.S_IFMT(mode), 'a device')}")


def length_of(stream: BinaryIO) -> int:
    """Bytes of an open file; it is read on from where it was."""
    here = stream.tell()
    length = stream.seek(0, SEEK_END)
    stream.seek(here)
    return length


def size_in_proportion(height: int, width: int, ratio: float) -> tuple[int, int]:
    """(H, W) with pixels as high as they are wide.

    Args:
        height, width: of the pixels as stored.
        ratio: height of one pixel by its width; one that cannot be, or would make the picture too large, changes nothing.

    >>> size_in_proportion(10, 20, 2.0), size_in_proportion(10, 20, 0.5), size_in_proportion(10, 20, float("nan"))
    ((20, 20), (10, 40), (10, 20))
    """
    if not 1 / STEEPEST <= ratio <= STEEPEST or height * width * max(ratio, 1 / ratio) > MAX_PIXELS:
        return height, width
    return (round(height * ratio), width) if ratio > 1 else (height, round(width / ratio))


def enlarge(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """(H, W, C) pixels brought to a size (H, W)."""
    if pixels.shape[:2] == size:
        return pixels
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    resized = np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR), dtype=np.uint8)
    return resized.reshape(*size, pixels.shape[2])
