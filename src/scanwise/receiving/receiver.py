"""The life of a received series: kept, quiet for some seconds, answered, written as a result, delivered.

Late images make a new version, whose report names the one that it replaces. What a destination does not take is sent again,
later and later, for as long as the receiver runs, and by the next one. What all have taken is deleted, if that is wished, some hours
later, and so is what got no result. Every step is on the disk before the next begins.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom

from scanwise import bundle
from scanwise.bundle.contents import digest_of_model
from scanwise.dicom_results import REPORT, ResultWriter, result_objects
from scanwise.dicom_results.codes import CodesFile
from scanwise.errors import DataError, RunError, ScanwiseError, StorageError, place_of
from scanwise.phrases import count_of
from scanwise.pipeline.commands.predict_files import predict_files
from scanwise.receiving.destinations import Destination, Refusal
from scanwise.receiving.spool import RESULTS, SCANS, Delivery, SeriesVersion, Spool, SpooledSeries
from scanwise.receiving.storage import ImageIntake, StorageAddress, StorageService, WebAddress
from scanwise.untrusted import quote

if TYPE_CHECKING:
    from scanwise.receiving.web_storage import WebStorageService

log = logging.getLogger("scanwise.receiving")
_PERSON = r"series/([0-9a-f]{32})/scans/"
"""All images of a series are of one person; a pattern over their paths, as `--subject` takes it."""
LONGEST_WAIT = 600.0
_BETWEEN_WARNINGS = 3600.0
_LITTLE_ROOM = 0.1
"""Share of the disk."""
TRIES = 3
"""Times that a series is tried before it has no result: what is at fault may be the machine and not the series."""


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """Settings of a receiver.

    Attributes:
        address: where it receives by C-STORE; None for nowhere.
        quiet: seconds without a new image after which a series is answered.
        retry: seconds before a result that was not taken is sent again; doubled each time.
        device: where the network runs.
        keep: seconds after which a result that all destinations have is deleted with its images; None for never.
        keep_refused: seconds after which images without a result are deleted; None for never.
        web: where it receives by STOW-RS; None for nowhere.
    """

    address: StorageAddress | None
    quiet: float = 30.0
    retry: float = 5.0
    device: str = "cpu"
    keep: float | None = None
    keep_refused: float | None = None
    web: WebAddress | None = None


@dataclass(slots=True)
class Receiver:
    """A receiver with a model.

    Attributes:
        loaded: the model.
        writer: of results.
        spool: of images.
        settings: of the receiver.
        destinations: of results.
    """

    loaded: bundle.Bundle
    writer: ResultWriter
    spool: Spool
    settings: ReceiverSettings
    destinations: Sequence[Destination] = ()
    _due: dict[tuple[str, int, str], float] = field(default_factory=dict)
    _warns: float = 0.0

    def run(
        self, stop: Callable[[], bool], started: Callable[[int], None], web_started: Callable[[str], None] = print
    ) -> None:
        """Receive, answer and deliver until `stop` says so.

        Args:
            stop: asked several times a second.
            started: is given the port of C-STORE when it is open, where there is one.
            web_started: is given the address of STOW-RS when it is open, where there is one.

        Raises:
            DataError: if the port is in use.
            RunError: if another process has the spool.
        """
        with self.spool.opened():
            intake = ImageIntake(self.spool)
            services: list[StorageService | WebStorageService] = []
            try:
                if self.settings.web is not None:
                    services.append(web := _open_web_storage(intake, self.settings.web))
                    web_started(web.url)
                if self.settings.address is not None:
                    services.append(storage := StorageService(intake, self.settings.address))
                    started(storage.port)
                while not stop():
                    self.answer_quiet()
                    self.deliver()
                    self.empty()
                    self.watch_room()
                    time.sleep(min(0.2, self.settings.quiet))
            finally:
                for service in services:
                    service.close()

    def answer_quiet(self) -> None:
        """Answer every series that is quiet."""
        for series, names in self.spool.quiet_series(self.settings.quiet):
            incomplete = _refuse_incomplete(series, names)
            try:
                version = SeriesVersion(names, refused=incomplete) if incomplete else self._answer(series, names)
            except StorageError:
                log.warning("series %s: its result cannot be written; it is tried again", series.key[:12])
                series.arrived = time.monotonic()
                continue
            if version.refused and self._tries_again(series, version, 1 if incomplete else TRIES):
                continue
            series.refusals = 0
            series.versions.append(version)
            _save(series)

    def _tries_again(self, series: SpooledSeries, version: SeriesVersion, tries: int) -> bool:
        """Whether a series that got no result is to be tried again after another while of quiet."""
        series.refusals += 1
        series.arrived = time.monotonic()
        again = series.refusals < tries
        log.warning(
            "series %s of %d images has no result: %s%s",
            series.key[:12],
            len(version.scans),
            version.refused,
            "; it is tried again" if again else "",
        )
        return again

    def deliver(self) -> None:
        """Send what the destinations have not taken, where it is time."""
        for series in self.spool.all_series():
            for number, version in enumerate(series.versions):
                if not version.result or version.emptied:
                    continue
                for destination in self.destinations:
                    due_key = (series.key, number, destination.name)
                    if time.monotonic() >= self._due.get(due_key, 0.0):
                        self._deliver_version(series, version, destination, due_key)
                ways = [version.deliveries.get(destination.name, Delivery()) for destination in self.destinations]
                everywhere = bool(ways) and all(way.complete for way in ways)
                if everywhere != bool(version.delivered):
                    version.delivered = time.time() if everywhere else 0.0
                    _save(series)

    def empty(self) -> None:
        """Delete what was delivered, or has no result, and is old enough, if that is wished."""
        try:
            for series in self.spool.empty_spent(self.settings.keep, self.settings.keep_refused):
                if series.versions[-1].result:
                    log.info("series %s: delivered and emptied", series.key[:12])
                else:
                    log.warning("series %s: emptied without a result", series.key[:12])
        except StorageError:
            log.warning("a series cannot be emptied; it is tried again")

    def watch_room(self) -> None:
        """Say once an hour where a disk is nearly full, and what is in the spool."""
        if time.monotonic() < self._warns:
            return
        self._warns = time.monotonic() + _BETWEEN_WARNINGS
        room, total = self.spool.room()
        if room < total * _LITTLE_ROOM:
            kept = [series for series in self.spool.all_series() if series.scans]
            log.warning(
                "the disk of the spool has %.1f GB left until images are refused; it holds %d series, %d of them without a result "
                "(--keep-hours and --keep-refused-hours delete)",
                max(0, room) / 1e9,
                len(kept),
                sum(series.has_no_result for series in kept),
            )

    def _answer(self, series: SpooledSeries, names: list[str]) -> SeriesVersion:
        """The answer to some images of a series; a series that cannot be answered says why."""
        try:
            answer = predict_files(self.loaded, series.files(names), subject=_PERSON, device=self.settings.device)
            (result, *others), refused = self.writer.write(answer, series.folder / RESULTS, self._previous(series))
        except StorageError:
            raise
        except ScanwiseError as error:
            return SeriesVersion(names, refused=str(error).replace(f"{series.folder / SCANS}/", ""))
        except Exception as error:  # noqa: BLE001 - the other series go on; a message may quote a header
            return SeriesVersion(names, refused=f"a fault of scanwise ({place_of(error)})")
        if others:
            return SeriesVersion(names, refused="the images of one series stand in several studies")
        unread = len(answer.quarantine) + len(refused)
        log.info(
            "series %s: version %d of %d images, %d unread",
            series.key[:12],
            len(series.versions) + 1,
            len(names),
            unread,
        )
        return SeriesVersion(names, result.folder.name, unread=unread)

    def _previous(self, series: SpooledSeries) -> list[pydicom.Dataset]:
        """The last report of a series, which a new one replaces."""
        kept = [version for version in series.versions if version.result and not version.emptied]
        folders = [series.folder / RESULTS / version.result for version in kept]
        return [pydicom.dcmread(folder / REPORT, stop_before_pixels=True) for folder in folders[-1:]]

    def _deliver_version(
        self, series: SpooledSeries, version: SeriesVersion, destination: Destination, due_key: tuple[str, int, str]
    ) -> None:
        """Send what one destination has not taken; one object that it refuses keeps back no other."""
        delivery = version.deliveries.setdefault(destination.name, Delivery())
        refused: Refusal | None = None
        for file in result_objects(series.folder / RESULTS / version.result):
            if file.name in delivery.sent:
                continue
            try:
                status = destination.send(file)
            except Refusal as refusal:
                refused = refused or refusal
                if not refusal.answered:
                    break
                continue
            if status:
                key = series.key[:12]
                log.warning("series %s: %s took %s with warning %04X", key, destination.name, file.name, status)
            delivery.sent.append(file.name)
            _save(series)
        if refused is None:
            if not delivery.complete:
                delivery.attempts, delivery.problem, delivery.complete = 0, "", True
                _save(series)
            self._due[due_key] = float("inf")
            return
        delivery.attempts, delivery.problem = delivery.attempts + 1, str(refused)
        _save(series)
        wait = min(LONGEST_WAIT, self.settings.retry * 2 ** min(delivery.attempts - 1, 10))
        self._due[due_key] = time.monotonic() + wait
        log.warning(
            "series %s: %s has not taken a result (%s); again in %.0f s",
            series.key[:12],
            destination.name,
            refused,
            wait,
        )


def _refuse_incomplete(series: SpooledSeries, names: Sequence[str]) -> str:
    """Why some images of a series are not enough for a result; "" where they are."""
    if not (missing := series.emptied_scans.difference(names)):
        return ""
    return f"{count_of(len(missing), 'image')} of it came earlier and {'is' if len(missing) == 1 else 'are'} deleted here; send the whole series again"


def _open_web_storage(intake: ImageIntake, address: WebAddress) -> "WebStorageService":
    try:
        from scanwise.receiving.web_storage import WebStorageService
    except ImportError as error:
        raise RunError("STOW-RS needs more packages: pip install 'scanwise[dicom,serve]'.") from error
    return WebStorageService(intake, address)


def _save(series: SpooledSeries) -> None:
    """Write the state; on a full disk it is written with the next step, and a restart in between repeats the same objects."""
    try:
        series.save()
    except StorageError:
        log.warning("series %s: its state cannot be written", series.key[:12])


def open_receiver(
    path: Path,
    spool: Spool,
    settings: ReceiverSettings,
    destinations: Sequence[Destination] = (),
    codes: CodesFile | None = None,
    *,
    maps: bool = False,
) -> Receiver:
    """A receiver with the model at a path.

    Raises:
        DataError: for a title that no application entity can have, or nobody who may send.
        RunError: if the model was altered, or packages are not installed.
    """
    try:
        import pynetdicom  # noqa: F401
    except ImportError as error:
        raise RunError("The receiver needs more packages: pip install 'scanwise[dicom]'.") from error
    if (address := settings.address) is None:
        if settings.web is None:
            raise DataError(
                "Name who may send: --allow AET, once for each, or --web-port and --token-file for STOW-RS."
            )
    else:
        for title in (address.title, *address.allowed):
            if not title.strip() or len(title) > 16 or not title.isascii() or not title.isprintable() or "\\" in title:
                raise DataError(f"{quote(title)} is no title of an application entity: 1 to 16 ASCII characters.")
    if settings.keep is not None and not destinations:
        raise DataError("--keep-hours deletes what was delivered; name a destination too (--send, --stow).")
    loaded = bundle.load(path)
    return Receiver(
        loaded, ResultWriter.of(loaded, digest_of_model(path), codes, maps=maps), spool, settings, destinations
    )
