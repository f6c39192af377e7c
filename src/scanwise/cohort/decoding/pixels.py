"""Common ground of all decoders: pixels, slices, files, and the error that quarantines one."""

import re
import stat
import warnings
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


MAX_PIXELS = 100_000_000


EMPTY = "the file is empty (0 bytes)"


Kind = Literal["dicom", "nifti", "picture"]


Slices = Sequence[int | None]


class UnreadableScan(Exception):  # noqa: N818 - it never leaves the cohort room: it becomes a line of quarantine.csv
    """A file that is not a scan; the message is the reason."""


def hush(package: str) -> None:
    """Keep the warnings of a package that decodes off the terminal and logs: they are in words of the file, which may be
    a name, and what they warn of is decided here."""
    wanted = ("ignore", None, Warning, re.compile(rf"{package}\."), 0)
    if wanted not in warnings.filters:
        warnings.filterwarnings("ignore", category=Warning, module=rf"{package}\.")


def open_file(file: Path) -> BufferedReader:
    """Open a file for reading; pipes and devices, which may never end, are not opened.

    Raises:
        UnreadableScan: if it is none.
        OSError: if it cannot be opened.
    """
    mode = file.stat().st_mode
    if stat.S_ISREG(mode):
        return file.open("rb")
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    raise UnreadableScan(f"not a file but {kinds.get(stat.S_IFMT(mode), 'a device')}")
