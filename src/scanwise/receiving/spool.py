"""A private folder of received images, by series, that survives a restart; what was acknowledged is on the disk.

SPOOL/series/KEY/scans/NAME.dcm   the images; KEY and NAME are hashes of their UIDs
SPOOL/series/KEY/results/         results, one folder for each version of the series
SPOOL/series/KEY/state.json       versions: the scans behind each, its result or why there is none, and what was delivered
SPOOL/series/KEY/emptied/         images on their way out

An image is known by its SOP Instance UID: what is sent again is not kept again, and makes no new result. Of a series that was emptied the
state alone stays, which names nobody.
"""

import errno
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from scanwise.errors import StorageError
from scanwise.migrations import FORMATS, check_format
from scanwise.run import owning, read_json, write_json, writing

SCANS, RESULTS, STATE, EMPTIED = "scans", "results", "state.json", "emptied"
_AT_ONCE = 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT)


class SpoolFullError(StorageError):
    """There is no room for another image."""


class Arrival(Enum):
    """The outcome of storing an image."""

    KEPT = "kept"
    REPEATED = "sent again, with the same content"
    DIFFERENT = "another content under an identifier that is taken"


@dataclass(slots=True)
class Delivery:
    """Progress of a result on its way to one destination.

    Attributes:
        sent: names of the objects that it has taken.
        attempts: that failed, since the last success.
        problem: the last one.
        complete: whether it has taken all of them.
    """

    sent: list[str] = field(default_factory=list)
    attempts: int = 0
    problem: str = ""
    complete: bool = False


@dataclass(slots=True)
class SeriesVersion:
    """A series at one moment.

    Attributes:
        scans: names of its images.
        result: name of the folder of its result; "" where there is none.
        refused: why there is none.
        deliveries: by destination.
        delivered: when all destinations had it, in seconds since 1970; 0 before.
        emptied: whether its images and its result are no longer here.
        unread: images of it that could not be read; the result says so.
    """

    scans: list[str]
    result: str = ""
    refused: str = ""
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    delivered: float = 0.0
    emptied: bool = False
    unread: int = 0


@dataclass(slots=True)
class SpooledSeries:
    """A series in the spool.

    Attributes:
        key: hash of its UID.
        folder: of its images, results and state.
        scans: names of its images.
        versions: oldest first.
        arrived: when the last new image came, as `time.monotonic` has it.
        received: the same in seconds since 1970, which a restart leaves as it is.
        refusals: times that it got no result, since the last image came.
    """

    key: str
    folder: Path
    scans: set[str] = field(default_factory=set)
    versions: list[SeriesVersion] = field(default_factory=list)
    arrived: float = field(default_factory=time.monotonic)
    received: float = 0.0
    refusals: int = 0

    @property
    def is_answered(self) -> bool:
        """Whether the last version is of all images that there are; of a series that was emptied, some may be here again.

        One that was emptied without a result, and comes again, is tried again.
        """
        if not self.versions:
            return False
        last = self.versions[-1]
        return self.scans <= set(last.scans) and not (self.scans and last.emptied and last.refused)

    @property
    def has_no_result(self) -> bool:
        """Whether there are images, and the last version of them has no result."""
        return bool(self.scans and self.versions) and not self.versions[-1].result

    @property
    def emptied_scans(self) -> set[str]:
        """Names of images that a result is of and that are no longer here."""
        spent = [version for version in self.versions if version.emptied and version.result]
        return {name for version in spent for name in version.scans} - self.scans

    def is_spent(self, now: float, keep: float | None, keep_refused: float | None) -> bool:
        """Whether all its images are answered or refused, and all that is here has been kept for long enough.

        Args:
            now: seconds since 1970.
            keep: seconds for which a result is kept after all destinations have it, and its images; None for ever.
            keep_refused: seconds for which images without a result are kept; None for ever.
        """
        if not self.is_answered:
            return False
        least = keep if self.versions[-1].result else keep_refused
        return (
            least is not None
            and self.received <= now - least
            and all(
                version.emptied or (keep is not None and 0 < version.delivered <= now - keep)
                for version in self.versions
                if version.result
            )
        )

    def files(self, names: Sequence[str]) -> list[Path]:
        """The files of these images."""
        return [self.folder / SCANS / f"{name}.dcm" for name in names]

    def save(self) -> None:
        """Write the state, whole or not at all."""
        write_json(
            {"format": FORMATS["spool"], "versions": [asdict(version) for version in self.versions]},
            self.folder / STATE,
        )


class Spool:
    """The folder; one process has it at a time.

    Args:
        folder: that is there or not.
        least_free: bytes that stay free on the disk.
    """

    def __init__(self, folder: Path, least_free: int = 2**30) -> None:
        self.folder, self._least_free = folder, least_free
        self._lock = threading.Condition()
        self._coming: dict[str, str] = {}
        self._series: dict[str, SpooledSeries] = {}
        self._home: dict[str, str] = {}

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Own the folder, and read what an earlier process has left there.

        Raises:
            RunError: if another process has it, or a newer scanwise wrote it.
            StorageError: if it cannot be written.
        """
        with owning(self.folder):
            self.folder.chmod(0o700)
            for folder in sorted(path for path in (self.folder / "series").glob("*") if path.is_dir()):
                self._series[folder.name] = _read_series(folder)
                self._home |= dict.fromkeys(self._series[folder.name].scans, folder.name)
            yield

    def store(self, series_uid: str, sop_uid: str, *content: bytes | memoryview) -> Arrival:
        """Keep an image; when this returns it is on the disk.

        Args:
            series_uid: SeriesInstanceUID.
            sop_uid: SOPInstanceUID.
            content: of a DICOM file, in one or several pieces.

        Raises:
            SpoolFullError: if there is no room.
            StorageError: if the folder cannot be written.
        """
        key, name = key_of(series_uid), key_of(sop_uid)
        with self._lock:
            self._lock.wait_for(lambda: name not in self._coming)  # of two with one name the first is kept
            if name in self._home:
                return self._compare(self._series[self._home[name]], key, name, content)
            if self.room()[0] < sum(map(len, content)):
                raise SpoolFullError("The disk of the spool is full.")
            series = self._series.get(key)
            if series is None:
                series = SpooledSeries(key, self.folder / "series" / key)
            self._coming[name] = key
        try:
            self._write(series.folder / SCANS / f"{name}.dcm", content)
            with self._lock:
                series = self._series.setdefault(key, series)
                series.scans.add(name)
                series.arrived, series.received, series.refusals = time.monotonic(), time.time(), 0
                self._home[name] = key
        finally:
            with self._lock:
                self._coming.pop(name, None)
                self._lock.notify_all()
        return Arrival.KEPT

    def room(self) -> tuple[int, int]:
        """Bytes that images may still take, and those of the whole disk."""
        usage = shutil.disk_usage(self.folder)
        return usage.free - self._least_free, usage.total

    def _write(self, file: Path, content: Sequence[bytes | memoryview]) -> None:
        try:
            _make_private(file.parent, self.folder)
            with writing(file) as temporary:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as stream:
                    stream.writelines(content)
        except (OSError, StorageError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in _FULL:
                raise SpoolFullError("The disk of the spool is full.") from error
            raise

    def quiet_series(self, seconds: float) -> list[tuple[SpooledSeries, list[str]]]:
        """Series without an answer for all of their images, to which none was added for some seconds; and their images."""
        with self._lock:
            now = time.monotonic()
            return [
                (series, sorted(series.scans))
                for series in self._series.values()
                if not series.is_answered and now - series.arrived >= seconds
            ]

    def all_series(self) -> list[SpooledSeries]:
        """All series."""
        with self._lock:
            return list(self._series.values())

    def empty_spent(self, keep: float | None, keep_refused: float | None) -> list[SpooledSeries]:
        """Delete images and results of the series that are spent, and give these; see `SpooledSeries.is_spent`.

        The state is written first, and all images leave in one step: no part of a series is ever taken for the whole, and what a kill
        leaves behind is deleted by the next one.

        Raises:
            StorageError: if the folder of one cannot be written; its images stay.
        """
        emptied = []
        for series in self.all_series():
            with self._lock:  # nothing is stored meanwhile that is then deleted
                if series.key in self._coming.values() or not series.is_spent(time.time(), keep, keep_refused):
                    continue
                rests = [folder for folder in (series.folder / EMPTIED, series.folder / RESULTS) if folder.is_dir()]
                if not series.scans and not rests:
                    continue
                for version in series.versions:
                    version.emptied = True
                series.save()
                shutil.rmtree(series.folder / EMPTIED, ignore_errors=True)
                _move_aside(series.folder)
                for name in series.scans:
                    self._home.pop(name, None)
                series.scans.clear()
            for name in (EMPTIED, RESULTS):
                shutil.rmtree(series.folder / name, ignore_errors=True)
            emptied.append(series)
        return emptied

    def _compare(self, series: SpooledSeries, key: str, name: str, content: Sequence[bytes | memoryview]) -> Arrival:
        (file,) = series.files([name])
        return Arrival.REPEATED if series.key == key and _holds(file, content) else Arrival.DIFFERENT


def key_of(uid: str) -> str:
    """A name for a UID that any file system takes."""
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def _read_series(folder: Path) -> SpooledSeries:
    files = list((folder / SCANS).glob("*.dcm"))
    received = max((file.stat().st_mtime for file in files), default=0.0)
    series = SpooledSeries(folder.name, folder, {file.stem for file in files}, received=received)
    if (folder / STATE).is_file():
        values: dict[str, Any] = read_json(folder / STATE)
        check_format("spool", values.get("format"), folder / STATE)
        for version in values["versions"]:
            deliveries = {name: Delivery(**own) for name, own in version.pop("deliveries").items()}
            series.versions.append(SeriesVersion(**version, deliveries=deliveries))
    return series


def _holds(file: Path, content: Sequence[bytes | memoryview]) -> bool:
    """Whether a file has this content; it is read in steps."""
    if file.stat().st_size != sum(map(len, content)):
        return False
    with file.open("rb") as stream:
        return all(
            stream.read(len(part := bytes(piece[start : start + _AT_ONCE]))) == part
            for piece in content
            for start in range(0, len(piece), _AT_ONCE)
        )


def _move_aside(folder: Path) -> None:
    """Take all images of a series out of the spool in one step."""
    try:
        if (folder / SCANS).is_dir():
            (folder / SCANS).rename(folder / EMPTIED)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}.") from error


def _make_private(folder: Path, root: Path) -> None:
    """Make a folder and those above it, and bring their names to the disk."""
    if folder.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    while folder != root:
        folder = folder.parent
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
