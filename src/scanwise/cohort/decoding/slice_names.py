"""Names of scans in files that hold many: `sub-01/anat/x.nii.gz#045` is slice 45 of that volume, counted from 0.

Listings, stores, quarantines and answers all know a scan by such a name. A file that holds one scan is known by its
path alone. A file that is really called `a#1` is itself: a name is only taken apart where no file has it whole.
"""

import os
import re
from pathlib import Path

_NAMED = re.compile(r"(.+)#(\d+)", re.DOTALL)


def name(path: str, index: int, count: int) -> str:
    """The name of one of `count` slices of a file; the numbers are as long as the last one, so that they sort.

    >>> name("x.nii.gz", 45, 176), name("x.dcm", 45, 2000)
    ('x.nii.gz#045', 'x.dcm#0045')
    """
    return f"{path}#{index:0{max(3, len(str(count - 1)))}d}"


def split_slice(path: Path) -> tuple[Path, int | None]:
    """The file that a scan lies in, and which of its slices it is; None where it names none."""
    match = _NAMED.fullmatch(path.name)
    if match is None or os.path.lexists(path):
        return path, None
    return path.with_name(match[1]), int(match[2])


def index_of_scan(path: str) -> int | None:
    """The slice that a path names; nothing is looked for on a disk.

    >>> index_of_scan("a/x.nii.gz#045"), index_of_scan("a/x.png")
    (45, None)
    """
    match = _NAMED.fullmatch(path)
    return None if match is None else int(match[2])


def file_of_scan(path: str) -> str:
    """The path of the file, whatever slice of it is named.

    >>> file_of_scan("a/x.nii.gz#045"), file_of_scan("a/x.png")
    ('a/x.nii.gz', 'a/x.png')
    """
    match = _NAMED.fullmatch(path)
    return path if match is None else match[1]
