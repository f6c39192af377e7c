"""Data sets of Kaggle, fetched once through kagglehub and kept in its cache.

What is complete in that cache is used without asking anybody: fill it on a connected machine, carry the folder over, and
hospitals without internet have the same command.
"""

import contextlib
import errno
import logging
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from scanwise.errors import DataError, StorageError
from scanwise.run import writing

_HANDLE = re.compile(r"(?:https?://(?:www\.)?kaggle\.com/datasets/)?(\w[\w.-]*)/(\w[\w.-]*?)(?:/versions/(\d+))?/?")
_LOGIN = "Log in with KAGGLE_API_TOKEN, or with a token in ~/.kaggle (kaggle.com, Settings, API)."


@dataclass(frozen=True, slots=True)
class DatasetHandle:
    """`owner/name`, and which of its versions; 0 is the newest."""

    owner: str
    name: str
    version: int = 0

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}" + (f"/versions/{self.version}" if self.version else "")


def download_dataset(handle: str, out: Path | None = None, *, anew: bool = False) -> Path:
    """Bring a data set here; returns the folder that `--data` takes.

    Args:
        handle: `owner/name`, `owner/name/versions/3`, or its address on kaggle.com.
        out: a new folder to copy it to; without it the folder in the cache is given.
        anew: ask Kaggle for the newest version even where the cache has one.

    Raises:
        DataError: without network, credentials or kagglehub, or if there is no such data set; in one line.
        StorageError: if the disk is full.
    """
    wanted = parse_handle(handle)
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} already holds something. Choose another folder with --out.")
    present = None if anew else cached_version(wanted)
    folder = present or _download(wanted, anew)
    if out is None:
        return folder
    with writing(out) as temporary:
        shutil.copytree(folder, temporary)
    return out


def parse_handle(handle: str) -> DatasetHandle:
    """Parse a handle that a user typed.

    >>> parse_handle("https://www.kaggle.com/datasets/me/scans"), str(parse_handle("me/scans/versions/3"))
    (DatasetHandle(owner='me', name='scans', version=0), 'me/scans/versions/3')
    """
    match = _HANDLE.fullmatch(handle.strip())
    if match is None:
        raise DataError(f"{handle!r} is no data set of Kaggle; expected OWNER/NAME, as its address ends on kaggle.com.")
    return DatasetHandle(match[1], match[2], int(match[3] or 0))


def cached_version(handle: DatasetHandle) -> Path | None:
    """The newest complete version in kagglehub's cache, or the one that is named."""
    folder = _cache() / "datasets" / handle.owner / handle.name
    versions = [int(mark.stem) for mark in folder.glob("*.complete") if mark.stem.isdigit()]
    for version in sorted(versions, reverse=True):
        path = folder / "versions" / str(version)
        if path.is_dir() and handle.version in (0, version):
            return path
    return None


def _cache() -> Path:
    return Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub")


def _download(handle: DatasetHandle, anew: bool) -> Path:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what is printed to the terminal is the folder alone
            import kagglehub

            logging.getLogger("kagglehub").setLevel(logging.WARNING)
            return Path(kagglehub.dataset_download(str(handle), force_download=anew))
    except ImportError as error:
        raise DataError(f"Fetching {handle} needs kagglehub: run `pip install 'scanwise[kaggle]'`.") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"No room for {handle} in {_cache()}. Point KAGGLEHUB_CACHE elsewhere.") from error
        raise DataError(_reason(handle, error)) from error


def _reason(handle: DatasetHandle, error: Exception) -> str:
    """One line of what went wrong and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"Kaggle does not give {handle} to you (HTTP {status}). {_LOGIN} Some data sets ask for consent first."
    if status == 404:
        return f"Kaggle has no data set {handle}, or it is private (HTTP 404). Check its address. {_LOGIN}"
    if status is not None:
        return f"Kaggle could not give {handle} (HTTP {status}). Try again later."
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"ConnectionError", "Timeout"}:
        return (
            f"Kaggle cannot be reached, and {_cache()} has no complete copy of {handle}. Without internet, fetch it on "
            "another machine and carry that folder over."
        )
    if "DataCorruptionError" in names:
        return f"What arrived of {handle} is damaged. Run it again."
    return f"Fetching {handle} failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}. {_LOGIN}"
