"""A run folder at an fsspec URL, such as s3://bucket/run: worked on in a copy here, sent after every checkpoint.

The copy lies in the cache and is fetched anew from the URL when the run goes on, so a run that was killed on one machine
goes on on another. Files are sent in the order in which they were written: what stands at the URL is always what a
process killed a little earlier would have left.
"""

import hashlib
import logging
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import fsspec

from scanwise.cohort.decoding.remote_files import is_remote
from scanwise.cohort.store import cache_folder
from scanwise.errors import RunError, StorageError

log = logging.getLogger("scanwise")

LEFT_HERE = ("features",)
"""Folders that are large, quick to make again, and gone when the training ends."""

WITHOUT_FOLDERS = ("s3", "s3a", "gs", "gcs", "abfs", "az")
"""Stores that need none; asked for one, some would make a bucket, and a mistyped name must not."""


@dataclass(slots=True)
class RemoteRun:
    """A place for a run that is not on this machine.

    Attributes:
        url: of the run folder.
        folder: the copy on this machine.
        filesystem: that reaches it.
        root: the URL as the file system spells it.
        sent: of each file that stands there, the size and time that it had here.
    """

    url: str
    folder: Path
    filesystem: Any
    root: str
    sent: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def open(cls, url: str, *, resume: bool = False) -> Self:
        """Make sure that the place can be written, before anything is computed, and fetch what is there to go on with.

        Raises:
            RunError: if a run is there and `resume` is not asked for.
            StorageError: if the place cannot be reached or written, such as with wrong credentials.
        """
        filesystem, root = _reach(url)
        names = _list(filesystem, root, url)
        if names and not resume:
            raise RunError(f"{url} already holds a run. Go on with --resume, or choose another --out.")
        folder = local_folder(url)
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed; what counts is what was sent
        folder.mkdir(parents=True)
        here = cls(url.rstrip("/"), folder, filesystem, root)
        here._prove()
        here._fetch(names)
        return here

    def send(self) -> None:
        """Send what has changed; where that fails it is said, and tried again after the next epoch."""
        try:
            self._send()
        except Exception as error:  # noqa: BLE001 - a store may throw anything, and training is worth more
            log.warning("%s cannot be written now (%s). Training goes on; it is tried again.", self.url, _told(error))

    def finish(self) -> None:
        """Send what is left, a few times if need be.

        Raises:
            StorageError: if it cannot be sent; all is kept here.
        """
        for pause in (1, 5, None):
            try:
                return self._send()
            except Exception as error:
                if pause is None:
                    raise StorageError(
                        f"The run is finished but {self.url} cannot be written ({_told(error)}). All of it lies in {self.folder}; "
                        "copy it there by hand."
                    ) from error
                time.sleep(pause)
        return None

    def _send(self) -> None:
        files = {
            str(path.relative_to(self.folder).as_posix()): path for path in self.folder.rglob("*") if path.is_file()
        }
        stamps = {name: _stamp(path) for name, path in files.items() if _travels(name)}
        for name in set(self.sent) - set(stamps):  # before the rest: what was deleted must not come back
            self.filesystem.rm_file(f"{self.root}/{name}")
            del self.sent[name]
        changed = [name for name, stamp in stamps.items() if self.sent.get(name) != stamp]
        for name in sorted(changed, key=lambda name: stamps[name][1]):
            self._make_folder_of(f"{self.root}/{name}")
            self.filesystem.put_file(str(files[name]), f"{self.root}/{name}")
            self.sent[name] = stamps[name]

    def _prove(self) -> None:
        probe = f"{self.root}/.scanwise-was-here"
        try:
            self._make_folder_of(probe)
            self.filesystem.pipe_file(probe, b"scanwise")
            self.filesystem.rm_file(probe)
        except Exception as error:
            raise StorageError(
                f"{self.url} cannot be written: {_told(error)}. Check the address, the credentials and what they allow; "
                "nothing was computed yet."
            ) from error

    def _make_folder_of(self, name: str) -> None:
        if not set(_protocols(self.filesystem)) & set(WITHOUT_FOLDERS):
            self.filesystem.makedirs(name.rpartition("/")[0], exist_ok=True)

    def _fetch(self, names: list[str]) -> None:
        try:
            for name in names:
                target = self.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                self.filesystem.get_file(f"{self.root}/{name}", str(target))
                self.sent[name] = _stamp(target)
        except Exception as error:
            raise StorageError(f"The run at {self.url} cannot be fetched: {_told(error)}. Try again.") from error


def local_folder(out: str | Path) -> Path:
    """The working folder of a run: the folder itself, or the local copy of a URL."""
    if not is_remote(str(out)):
        return Path(out)
    return cache_folder() / "runs" / hashlib.sha256(str(out).rstrip("/").encode()).hexdigest()[:24]


def fetch_run(url: str, part: str = "") -> Path:
    """Copy a run, or a part of it such as `bundle`, to the cache, to read it.

    Raises:
        RunError: if there is nothing.
        StorageError: if the place cannot be reached.
    """
    filesystem, root = _reach(f"{url.rstrip('/')}/{part}".rstrip("/"))
    names = _list(filesystem, root, url)
    if not names:
        raise RunError(f"There is no {part or 'run'} at {url}. Check the address, or finish the run with --resume.")
    folder = cache_folder() / "fetched" / hashlib.sha256(f"{filesystem.protocol}{root}".encode()).hexdigest()[:24]
    shutil.rmtree(folder, ignore_errors=True)
    RemoteRun(url, folder, filesystem, root)._fetch(names)
    return folder


def _reach(url: str) -> tuple[Any, str]:
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
        filesystem.invalidate_cache()
    except ImportError as error:
        raise StorageError(
            f"{url} needs another package: {error}. For s3:// run `pip install 'scanwise[s3]'`."
        ) from error
    except Exception as error:
        raise StorageError(f"{url} cannot be reached: {_told(error)}. Check the address and credentials.") from error
    return filesystem, str(root).rstrip("/")


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocols = filesystem.protocol
    return (protocols,) if isinstance(protocols, str) else tuple(protocols)


def _list(filesystem: Any, root: str, url: str) -> list[str]:
    try:
        paths = [str(name) for name in filesystem.find(root)]
    except FileNotFoundError:
        return []
    except Exception as error:
        raise StorageError(
            f"{url} cannot be reached: {_told(error)}. Check the address and credentials; nothing was computed yet."
        ) from error
    names = [name.removeprefix(root).lstrip("/") for name in paths if not name.endswith("/")]
    if any(".." in name.split("/") for name in names):
        raise StorageError(f"{url} holds names with '..' in them; rename these objects.")
    return [name for name in names if name and _travels(name)]


def _travels(name: str) -> bool:
    """Whether a file belongs at the URL: none that is half-written, and none that is quick to make again."""
    *folders, last = name.split("/")
    return not last.startswith(".") and not set(folders) & set(LEFT_HERE)


def _stamp(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else 'no reason given'}"
