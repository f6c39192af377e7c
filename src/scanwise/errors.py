"""Every error, with what happened, what was expected and what to do.

ScanwiseError                 every error that scanwise raises on purpose          exit code 2
├── RecipeError               a recipe, or a `--set`, says something it may not
├── DataError                 the folder, the manifest or the scans cannot be used
│   └── ShapeError            arrays that belong together differ in shape
├── LeakageError              a split that claims to be honest is not              exit code 1
├── RunError                  a run folder is missing, taken, damaged or altered
├── StorageError              the disk is full or cannot be written
├── LaunchError               a job cannot be handed over, or a container was given what it cannot use
├── TrainingError             training cannot go on; the last good checkpoint is kept
└── WeightsError              weights that do not fit the network, or cannot be had
"""

import errno
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import PurePath
from traceback import extract_tb
from typing import ClassVar, TypeVar

from scanwise.redaction import without_secrets

T = TypeVar("T")


class ScanwiseError(Exception):
    """The base of every error that scanwise raises on purpose; its message holds no secrets."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(without_secrets(str(message)))


class RecipeError(ScanwiseError):
    """A recipe, or a `--set`, says something it may not."""


class DataError(ScanwiseError):
    """The folder, the manifest or the scans cannot be used as they are."""


class ShapeError(DataError):
    """Arrays that belong together differ in shape."""


class LeakageError(ScanwiseError):
    """A split that claims to be honest has the same subject, or the same pixels, on two sides."""

    exit_code: ClassVar[int] = 1


class RunError(ScanwiseError):
    """A run folder or bundle is missing, taken, damaged or altered."""


class StorageError(ScanwiseError):
    """The disk is full or cannot be written."""


class LaunchError(ScanwiseError):
    """A job cannot be handed over, or a container was given what it cannot use."""


class TrainingError(ScanwiseError):
    """Training cannot go on; the last good checkpoint is kept."""


class WeightsError(ScanwiseError):
    """Weights that do not fit the network, or that cannot be had."""


def place_of(error: BaseException) -> str:
    """Kind and place of an error, and nothing that its message may quote of a header: "ValueError, pydicom/valuerep.py:439"."""
    frames = extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    return f"{type(error).__name__}, {'/'.join(PurePath(frames[-1].filename).parts[-2:])}:{frames[-1].lineno}"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The hint that ends a message about an unknown word; empty when nothing is near.

    >>> did_you_mean("epoch", ["epochs", "batch"])
    " Did you mean 'epochs'?"
    """
    near = get_close_matches(word, list(choices), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """Take an entry of a table of choices, or say which there are."""
    if name not in table:
        raise RecipeError(f"There is no {what} {name!r}; choose one of {', '.join(table)}.{did_you_mean(name, table)}")
    return table[name]


_ROOM = "Free some space, or choose another disk."
_PERMISSION = "Choose a place that you may read and write, or change its permissions."
_FAILING = "The disk or its connection may be failing: choose another."
OS_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "Choose a place that can be written.",
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.ENOENT: "Check the path.",
    errno.ENOTDIR: "A part of that path is a file: check the path.",
    errno.EEXIST: "Something else has that name: choose another.",
    errno.EISDIR: "A folder has that name: choose another.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ELOOP: "Its links lead in a circle: check the path.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n), or lower the number of processes.",
    errno.ENOMEM: "Close other programs, or use a machine with more memory.",
    errno.EFBIG: "Raise the limit of the size of files (ulimit -f), or choose another disk.",
    errno.EBUSY: "Another program holds it: close that, or choose another place.",
    errno.EAGAIN: "Raise the limit of processes (ulimit -u), or end some.",
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.ENOTCONN, errno.ETIMEDOUT), _FAILING),
}
"""Advice about errors of the operating system, by their number."""


def describe_os_error(error: OSError) -> str:
    """The error and the advice about it, in two sentences; empty where the number of the error is not known.

    >>> describe_os_error(OSError(errno.EISDIR, "Is a directory"))
    'Is a directory. A folder has that name: choose another.'
    """
    advice = OS_ADVICE.get(error.errno or 0, "")
    return f"{error.strerror}. {advice}" if advice else ""
