"""A receiver: every series gets one result, whatever comes twice, late, in disorder or not at all, and nothing is lost."""

import json
import logging
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pynetdicom", reason="needs scanwise[dicom]")
pytest.importorskip("highdicom", reason="needs scanwise[dicom]")

import pydicom
from pynetdicom import AE, evt
from pynetdicom.sop_class import RawDataStorage
from senders import image, running, send

from medical_files import NAMES
from scanwise.dicom_results import ResultWriter, result_objects
from scanwise.errors import DataError, RunError, StorageError
from scanwise.receiving import storage
from scanwise.receiving.destinations import Refusal, StoreEntity, WebServer, parse_destinations
from scanwise.receiving.receiver import TRIES, Receiver, ReceiverSettings, open_receiver
from scanwise.receiving.spool import Arrival, Spool, SpooledSeries, SpoolFullError, key_of
from scanwise.receiving.storage import StorageAddress
from tiny import Command
from tiny_bundles import write_tiny_bundle

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed.*socket:ResourceWarning")  # pynetdicom leaves them


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("model") / "bundle", "demo")


def wait_for(condition: Callable[[], bool], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def states(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("series/*/state.json"))]


def reports(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(file) for file in sorted(folder.glob("series/*/results/[0-9]*/report.dcm"))]


class PictureArchive:
    """A store that takes objects, or refuses them."""

    def __init__(self) -> None:
        self.status, self.taken = 0x0000, list[str]()
        entity = AE("PACS")
        entity.add_supported_context("1.2.840.10008.5.1.4.1.1.88.33")
        entity.add_supported_context("1.2.840.10008.5.1.4.1.1.7")
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        self.destination = StoreEntity("PACS", "127.0.0.1", self._server.socket.getsockname()[1], "SCANWISE")

    def _store(self, event: Any) -> int:
        if self.status == 0:
            self.taken.append(str(event.request.AffectedSOPInstanceUID))
        return self.status

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def archive() -> Iterator[PictureArchive]:
    archive = PictureArchive()
    yield archive
    archive.close()


@pytest.mark.parametrize(
    ("count", "slices", "quiet"),
    [
        (2, 3, 1.0),
        pytest.param(6, 4, 1.5, marks=pytest.mark.extended),
        pytest.param(200, 20, 60.0, marks=pytest.mark.slow),
    ],
)
def test_every_series_gets_one_result_over_shuffled_associations(
    count: int,
    slices: int,
    quiet: float,
    model: Path,
    tmp_path: Path,
    archive: PictureArchive,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    images = [image(series, slice_) for series in range(count) for slice_ in range(slices)]
    shuffled = random.Random(0)  # noqa: S311
    sent = images + shuffled.sample(images, max(4, len(images) // 10))
    shuffled.shuffle(sent)
    statuses: list[int] = []
    with running(model, Spool(tmp_path, 0), [archive.destination], quiet=quiet) as (receiver, port):
        threads = [
            threading.Thread(target=lambda part=part: statuses.extend(send(port, sent[part::4]))) for part in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: len(states(tmp_path)) == count and len(archive.taken) == count * 5, 40 + 5 * count)
        again = send(port, images[:4])
        assert not receiver.spool.quiet_series(0)
    assert statuses == [0] * len(sent)
    assert again == [0] * 4
    found = reports(tmp_path)
    assert sorted(report.StudyInstanceUID for report in found) == sorted(f"1.2.9.{series}" for series in range(count))
    assert {len(report.ContentSequence[-1].ContentSequence) for report in found} == {1 + slices}
    assert len(set(archive.taken)) == len(archive.taken) == count * 5
    assert [len(state["versions"]) for state in states(tmp_path)] == [1] * count
    assert not [name for name in NAMES.values() if name in caplog.text]
    assert (tmp_path.stat().st_mode & 0o077, next(tmp_path.rglob("scans/*.dcm")).stat().st_mode & 0o077) == (0, 0)


@pytest.mark.extended
def test_late_slices_make_a_version_that_names_the_one_before(model: Path, tmp_path: Path) -> None:
    with running(model, Spool(tmp_path, 0)) as (_, port):
        send(port, [image(1, 1), image(1, 2)])
        wait_for(lambda: len(reports(tmp_path)) == 1)
        first = reports(tmp_path)[0].SOPInstanceUID
        send(port, [image(1, 3)])
        wait_for(lambda: len(reports(tmp_path)) == 2)
    (second,) = [report for report in reports(tmp_path) if report.SOPInstanceUID != first]
    reference = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == first
    assert [len(version["scans"]) for version in states(tmp_path)[0]["versions"]] == [2, 3]


@pytest.mark.extended
def test_spool_survives_a_restart_before_and_after_the_answer(model: Path, tmp_path: Path) -> None:
    with running(model, Spool(tmp_path, 0), quiet=60) as (_, port):
        assert send(port, [image(1, 1), image(1, 2)]) == [0, 0]
    assert not states(tmp_path)
    with running(model, Spool(tmp_path, 0)):
        wait_for(lambda: len(states(tmp_path)) == 1)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.dcm")}
    with running(model, Spool(tmp_path, 0)) as (receiver, port):
        assert send(port, [image(1, 2)]) == [0]
        assert not receiver.spool.quiet_series(0)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.dcm")} == before
    assert len(states(tmp_path)[0]["versions"]) == 1


@pytest.mark.extended
def test_archive_that_refuses_gets_the_result_later(
    model: Path, tmp_path: Path, archive: PictureArchive, caplog: pytest.LogCaptureFixture
) -> None:
    archive.status = 0xA700
    with running(model, Spool(tmp_path, 0), [archive.destination]) as (_, port):
        send(port, [image(1, 1)])
        wait_for(lambda: bool(states(tmp_path)) and bool(states(tmp_path)[0]["versions"][0]["deliveries"]))
        wait_for(lambda: states(tmp_path)[0]["versions"][0]["deliveries"][archive.destination.name]["attempts"] >= 2)
    delivery = states(tmp_path)[0]["versions"][0]["deliveries"][archive.destination.name]
    assert (delivery["sent"], delivery["problem"]) == ([], "status A700")
    assert "has not taken a result (status A700)" in caplog.text
    archive.status = 0
    with running(model, Spool(tmp_path, 0), [archive.destination]):
        wait_for(lambda: len(archive.taken) == 3)
    delivery = states(tmp_path)[0]["versions"][0]["deliveries"][archive.destination.name]
    folder = next(tmp_path.glob("series/*/results/[0-9]*"))
    assert delivery == {
        "sent": [file.name for file in result_objects(folder)],
        "attempts": 0,
        "problem": "",
        "complete": True,
    }
    assert sorted(archive.taken) == sorted(pydicom.dcmread(file).SOPInstanceUID for file in result_objects(folder))


def test_destination_that_is_not_there_is_a_refusal(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    built = image(1, 1)
    built.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    for destination in (
        StoreEntity("PACS", "127.0.0.1", port, "SCANWISE"),
        WebServer(f"http://127.0.0.1:{port}/dicom-web"),
    ):
        with pytest.raises(Refusal, match="it does not answer"):
            destination.send(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    "value", ["PACS", "PACS@host", "@host:1", "PACS@host:0", "PACS@host:70000", "TOO-LONG-A-TITLE-X@h:1"]
)
def test_destination_that_is_no_entity_is_refused(value: str) -> None:
    with pytest.raises(DataError, match="AET@HOST:PORT"):
        parse_destinations([value], [], "SCANWISE")


@pytest.mark.parametrize("value", ["host/dicom", "ftp://host", "https://me:secret@host/dicom", "http://"])
def test_url_with_a_password_or_of_another_kind_is_refused(value: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_destinations([], [value], "SCANWISE")
    assert "secret" not in str(caught.value)


@pytest.mark.extended
def test_series_of_mixed_geometry_gets_no_result_and_touches_no_other(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mixed = [image(1, 1), image(1, 2, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])]
    with running(model, Spool(tmp_path, 0)) as (_, port):
        assert send(port, [*mixed, image(2, 1)]) == [0, 0, 0]
        wait_for(lambda: len(states(tmp_path)) == 2)
    refused = [version["refused"] for state in states(tmp_path) for version in state["versions"]]
    assert sorted(map(bool, refused)) == [False, True]
    assert "2 geometries" in max(refused)
    assert re.search(r"; [0-9a-f]{32}\.dcm: one series", max(refused))  # by its name in the spool, and no path
    assert len(reports(tmp_path)) == 1
    assert len(list(tmp_path.rglob("scans/*.dcm"))) == 3
    assert not [name for name in NAMES.values() if name in caplog.text + max(refused)]


@pytest.mark.extended
def test_image_that_cannot_be_read_is_said_in_result_and_state(model: Path, tmp_path: Path) -> None:
    with running(model, Spool(tmp_path, 0)) as (_, port):
        assert send(port, [image(1, 1), image(1, 2, PixelData=bytes(10))]) == [0, 0]
        wait_for(lambda: len(states(tmp_path)) == 1)
    (version,) = states(tmp_path)[0]["versions"]
    assert (version["refused"], version["unread"], len(version["scans"])) == ("", 1, 2)
    said = [str(element.value) for element in reports(tmp_path)[0].iterall() if element.keyword == "TextValue"]
    assert "1 of 2 scans could not be read" in "".join(said)


@pytest.mark.parametrize("failures", [TRIES - 1, TRIES])
def test_a_series_without_a_result_is_tried_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failures: int
) -> None:
    write, left = ResultWriter.write, [ValueError(NAMES["PatientName"])] * failures

    def failing(*arguments: Any) -> Any:
        if left:
            raise left.pop()
        return write(*arguments)

    monkeypatch.setattr(ResultWriter, "write", failing)
    with running(model, Spool(tmp_path, 0)) as (_, port):
        assert send(port, [image(1, 1)]) == [0]
        wait_for(lambda: len(states(tmp_path)) == 1)
    ((version,),) = (state["versions"] for state in states(tmp_path))
    assert bool(version["result"]) is (failures < TRIES)
    assert re.fullmatch("" if failures < TRIES else r"a fault of scanwise \(ValueError, [\w/.:]+\)", version["refused"])
    assert caplog.text.count("it is tried again") == TRIES - 1
    assert NAMES["PatientName"] not in caplog.text


def test_entities_that_are_not_allowed_are_turned_away(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running(model, Spool(tmp_path, 0)) as (_, port):
        assert send(port, [image(1, 1)], title="STRANGE") == []
        assert send(port, [image(1, 1)], called="ANOTHER") == []
        assert "'STRANGE' was turned away: it is not among those that may send (--allow)" in caplog.text
        assert (
            "'MODALITY' was turned away: it called 'ANOTHER', and the title here is 'SCANWISE' (--aet)" in caplog.text
        )
        assert send(port, [image(1, 1)]) == [0]


def test_only_images_are_accepted(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entity = AE("MODALITY")
    entity.add_requested_context(RawDataStorage)
    with running(model, Spool(tmp_path, 0)) as (_, port):
        association = entity.associate("127.0.0.1", port, ae_title="SCANWISE")
        assert not association.accepted_contexts
        association.abort()
        wait_for(lambda: "'MODALITY' offers no images" in caplog.text)
    assert not list(tmp_path.rglob("*.dcm"))


def test_image_whose_identifiers_are_wrong_is_refused(model: Path, tmp_path: Path) -> None:
    without = image(1, 1)
    del without.SeriesInstanceUID
    with running(model, Spool(tmp_path, 0)) as (_, port):
        assert send(port, [without]) == [0xC000]
    assert not list(tmp_path.rglob("*.dcm"))


def test_other_content_under_a_taken_identifier_is_said_and_not_kept(model: Path, tmp_path: Path) -> None:
    with running(model, Spool(tmp_path, 0), quiet=60) as (_, port):
        assert send(port, [image(1, 1), image(1, 1, PatientSex="F"), image(1, 1)]) == [0, 0xB006, 0]
    (kept,) = tmp_path.rglob("scans/*.dcm")
    assert "PatientSex" not in pydicom.dcmread(kept)


def test_full_spool_refuses_with_a700_and_takes_images_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, 2**60)
    with running(model, spool, quiet=60) as (_, port):
        assert send(port, [image(1, 1)]) == [0xA700]
        assert not list(tmp_path.rglob("*.dcm"))
        monkeypatch.setattr(spool, "_least_free", 0)
        assert send(port, [image(1, 1)]) == [0]


def test_disk_that_fills_while_an_image_is_written_keeps_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, content = Spool(tmp_path, 0), _content(image(1, 1))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with spool.opened():
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(SpoolFullError):
                spool.store("1.2.3", "1.2.3.4", content)
        assert not [file for file in tmp_path.rglob("*") if file.suffix in (".dcm", ".part")]
        assert spool.store("1.2.3", "1.2.3.4", content) is Arrival.KEPT


@pytest.mark.extended
def test_disk_too_full_for_the_state_stops_nothing(
    model: Path, tmp_path: Path, archive: PictureArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(series: SpooledSeries) -> None:
        raise StorageError("full")

    with running(model, Spool(tmp_path, 0), [archive.destination]) as (_, port):
        with monkeypatch.context() as patch:
            patch.setattr(SpooledSeries, "save", full)
            send(port, [image(1, 1)])
            wait_for(lambda: len(archive.taken) == 3)
        assert not states(tmp_path)
        send(port, [image(2, 1)])
        wait_for(lambda: len(archive.taken) == 6)


def _content(built: pydicom.FileDataset) -> bytes:
    stream = BytesIO()
    built.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_port_in_use_and_a_taken_spool_are_said(model: Path, tmp_path: Path) -> None:
    with running(model, Spool(tmp_path / "a", 0)) as (_, port):
        settings = ReceiverSettings(StorageAddress("SCANWISE", ("MODALITY",), port=port))
        with pytest.raises(DataError, match="Choose another --port"):
            open_receiver(model, Spool(tmp_path / "b", 0), settings).run(lambda: True, lambda _: None)
        with pytest.raises(RunError, match="Another process is writing"):
            open_receiver(model, Spool(tmp_path / "a", 0), settings).run(lambda: True, lambda _: None)


def test_command_refuses_what_it_cannot_use(scanwise: Command, model: Path, tmp_path: Path) -> None:
    refused = scanwise("receive", model, "--spool", tmp_path / "s")
    assert (refused.code, "--allow" in refused.refusal, "--web-port" in refused.refusal) == (2, True, True)
    refused = scanwise("receive", model, "--spool", tmp_path / "s", "--allow", "A" * 17)
    assert (refused.code, "16 ASCII" in refused.refusal) == (2, True)
    altered = write_tiny_bundle(tmp_path / "altered", "demo")
    (altered / "bundle.json").write_text((altered / "bundle.json").read_text().replace('"mild"', '"meld"'))
    refused = scanwise("receive", altered, "--spool", tmp_path / "s", "--allow", "MODALITY")
    assert (refused.code, "altered or damaged" in refused.refusal) == (2, True)
    assert not (tmp_path / "s").exists()


def test_stopped_receiver_says_what_is_kept(
    scanwise: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Receiver, "run", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    stopped = scanwise("receive", model, "--spool", tmp_path / "s", "--allow", "MODALITY")
    assert stopped.code == 143
    assert stopped.refusal == (
        "Ended by SIGTERM. What was acknowledged is in the spool; the next start goes on with it."
    )
    kept = scanwise("receive", model, "--spool", tmp_path / "s", "--allow", "MODALITY", "--keep-hours", "1")
    assert (kept.code, "--send" in kept.refusal) == (2, True)


@pytest.mark.extended
def test_killed_receiver_loses_nothing_it_has_acknowledged(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scanwise", "receive", model, "--spool", tmp_path, "--allow", "MODALITY", "--port", "0",
               "--least-free", "0", "--quiet", "60"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        port = int(line.partition(";")[0].rpartition(":")[2])
        assert send(port, [image(1, slice_) for slice_ in range(5)]) == [0] * 5
        process.kill()
    with running(model, Spool(tmp_path, 0)):
        wait_for(lambda: len(states(tmp_path)) == 1)
    assert len(states(tmp_path)[0]["versions"][0]["scans"]) == 5


def spool_with_result(folder: Path, destination: str, names: Sequence[str] = ("a", "b")) -> Path:
    """A spool with a series whose result a destination has taken, as a receiver leaves it; its folder."""
    series = folder / "series" / ("0" * 32)
    for name in names:
        (series / "scans").mkdir(parents=True, exist_ok=True)
        (series / "scans" / f"{name}.dcm").write_bytes(b"image")
    (series / "results" / "1").mkdir(parents=True)
    (series / "results" / "1" / "report.dcm").write_bytes(b"report")
    delivery = {"sent": ["report.dcm"], "attempts": 0, "problem": ""}
    version = {"scans": list(names), "result": "1", "refused": "", "deliveries": {destination: delivery}}
    (series / "state.json").write_text(json.dumps({"format": 1, "versions": [version]}), encoding="utf-8")
    return series


def emptying(
    model: Path,
    spool: Spool,
    destinations: Sequence[Any],
    keep: float | None = 0.0,
    keep_refused: float | None = None,
) -> None:
    """Two rounds of a receiver, without its network."""
    settings = ReceiverSettings(StorageAddress("SCANWISE", ("MODALITY",)), keep=keep, keep_refused=keep_refused)
    receiver = open_receiver(model, spool, settings, destinations)
    for _ in range(2):
        receiver.deliver()
        receiver.empty()


class Taker:
    """A destination that takes everything but some objects."""

    def __init__(self, name: str, refused: str = "") -> None:
        self.name, self.refused, self.taken, self.status = name, refused, list[str](), 0

    def send(self, file: Path) -> int:
        if self.refused and file.name.startswith(self.refused):
            raise Refusal("it takes no objects of this kind", answered=True)
        self.taken.append(file.name)
        return self.status


def test_object_that_is_refused_keeps_back_no_other(model: Path, tmp_path: Path) -> None:
    series, spool = spool_with_result(tmp_path, "ANOTHER"), Spool(tmp_path, 0)
    (series / "results" / "1" / "page-1.dcm").write_bytes(b"page")
    with spool.opened():
        emptying(model, spool, [pacs := Taker("PACS", "report")])
        assert pacs.taken == ["page-1.dcm"]
        delivery = states(tmp_path)[0]["versions"][0]["deliveries"]["PACS"]
        assert (delivery["sent"], delivery["problem"]) == (["page-1.dcm"], "it takes no objects of this kind")
        emptying(model, spool, [again := Taker("PACS")])
    assert again.taken == ["report.dcm"]
    assert not list(series.rglob("*.dcm"))


def test_delivered_series_is_emptied_and_its_state_stays(model: Path, tmp_path: Path) -> None:
    series, spool = spool_with_result(tmp_path, "PACS"), Spool(tmp_path, 0)
    with spool.opened():
        emptying(model, spool, [Taker("PACS")])
        assert spool.store("1.2.3", "1.2.3.4", b"another series") is Arrival.KEPT
    assert sorted(file.name for file in series.rglob("*")) == ["state.json"]
    assert len(list(tmp_path.rglob("*.dcm"))) == 1
    with Spool(tmp_path, 0).opened():  # which a restart reads
        pass


@pytest.mark.parametrize(
    "why", ["young", "image", "refuses", "another destination", "no destination", "refused", "never"]
)
def test_series_that_is_not_delivered_or_young_is_not_emptied(why: str, model: Path, tmp_path: Path) -> None:
    series, spool = spool_with_result(tmp_path, "PACS"), Spool(tmp_path, 0)
    destinations, keep = [Taker("PACS")], 0.0
    state = json.loads((series / "state.json").read_text(encoding="utf-8"))
    version = state["versions"][0]
    if why == "young":
        version["delivered"], keep = time.time() - 50, 60.0
        for file in series.glob("scans/*"):
            os.utime(file, (0, 0))
    elif why == "image":  # came a moment ago, under a result of long ago
        version["delivered"], keep = 1.0, 60.0
    elif why == "refuses":
        version["deliveries"]["PACS"]["sent"], destinations = [], [Taker("PACS", "report")]
    elif why == "another destination":
        destinations = [*destinations, Taker("NEW", "report")]
        version["delivered"] = 1.0
    elif why == "no destination":
        destinations = []
        version["delivered"] = 1.0
    elif why == "refused":
        state["versions"].append({"scans": ["a", "b"], "result": "", "refused": "2 geometries", "deliveries": {}})
    (series / "state.json").write_text(json.dumps(state), encoding="utf-8")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.dcm")}
    with spool.opened():
        if why == "no destination":
            with pytest.raises(DataError, match="--send"):
                emptying(model, spool, destinations)
        else:
            emptying(model, spool, destinations, None if why == "never" else keep)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.dcm")} == before
    assert len(before) == 3


def refused_spool(folder: Path, age: float, *, delivered: bool | None = None) -> Path:
    """A spool with a series whose last version has no result, and an earlier one where that was delivered or was not; its folder."""
    series = spool_with_result(folder, "PACS")
    state = json.loads((series / "state.json").read_text(encoding="utf-8"))
    if delivered is None:
        state["versions"].clear()
    else:
        state["versions"][0]["delivered"] = float(delivered)
    state["versions"].append({"scans": ["a", "b"], "result": "", "refused": "2 geometries", "deliveries": {}})
    (series / "state.json").write_text(json.dumps(state), encoding="utf-8")
    for file in series.glob("scans/*"):
        os.utime(file, (time.time() - age, time.time() - age))
    return series


@pytest.mark.parametrize(
    ("age", "delivered", "keep", "keep_refused", "left"),
    [
        (100, None, None, 60.0, 0),
        (100, None, 60.0, None, 3),
        (10, None, None, 60.0, 3),
        (100, True, 60.0, 60.0, 0),
        (100, True, None, 60.0, 3),  # its earlier result is to be kept for ever
        (100, False, 60.0, 60.0, 3),  # or is not delivered
    ],
)
def test_series_without_a_result_is_emptied_after_its_time(
    age: float, delivered: bool | None, keep: float | None, keep_refused: float | None, left: int,
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    series, spool = refused_spool(tmp_path, age, delivered=delivered), Spool(tmp_path, 0)
    destinations = [] if keep is None else [Taker("PACS", "" if delivered else "report")]
    with spool.opened():
        emptying(model, spool, destinations, keep, keep_refused)
        assert len(list(series.rglob("*.dcm"))) == left
    assert ("emptied without a result" in caplog.text) is (left == 0)
    assert states(tmp_path)[0]["versions"][-1]["refused"] == "2 geometries"


@pytest.mark.extended
def test_series_that_was_emptied_without_a_result_and_comes_again_is_tried_again(model: Path, tmp_path: Path) -> None:
    spool, settings = Spool(tmp_path, 0), ReceiverSettings(StorageAddress("SCANWISE", ("M",)), quiet=0, keep_refused=0)
    receiver = open_receiver(model, spool, settings)

    def arrive(built: pydicom.FileDataset) -> None:
        assert spool.store(built.SeriesInstanceUID, built.SOPInstanceUID, _content(built)) is Arrival.KEPT

    with spool.opened():
        arrive(image(1, 1))
        arrive(image(1, 2, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]))
        for _ in range(TRIES):
            receiver.answer_quiet()
        assert "2 geometries" in states(tmp_path)[0]["versions"][0]["refused"]
        receiver.empty()
        assert not list(tmp_path.rglob("*.dcm"))
        assert not spool.quiet_series(0)
        arrive(image(1, 1))  # the good one alone: no result is of the other
        receiver.answer_quiet()
    assert [version["refused"] for version in states(tmp_path)[0]["versions"]][1:] == [""]
    assert len(reports(tmp_path)) == 1


def test_series_is_not_emptied_while_an_image_of_it_is_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, write, emptied = Spool(tmp_path, 0), Spool._write, list[SpooledSeries]()

    def emptying_meanwhile(self: Spool, *arguments: Any) -> None:
        emptied.extend(self.empty_spent(None, 0.0))
        write(self, *arguments)

    refused_spool(tmp_path, 100).rename(tmp_path / "series" / key_of("1.2.3"))
    with spool.opened():
        monkeypatch.setattr(Spool, "_write", emptying_meanwhile)
        assert spool.store("1.2.3", "1.2.3.4", b"image") is Arrival.KEPT
    assert (emptied, len(list(tmp_path.rglob("scans/*.dcm")))) == ([], 3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), (None, None)),
        (("--keep-hours", "1", "--send", "PACS@127.0.0.1:1"), (3600.0, 168 * 3600.0)),
        (("--keep-refused-hours", "2"), (None, 7200.0)),
    ],
)
def test_hours_of_the_command_are_those_of_the_receiver(
    scanwise: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...], expected: tuple[float | None, float | None],
) -> None:  # fmt: skip
    opened: list[ReceiverSettings] = []
    monkeypatch.setattr(Receiver, "run", lambda self, *_: opened.append(self.settings))
    assert scanwise("receive", model, "--spool", tmp_path / "s", "--allow", "M", *options).code == 0
    assert [(settings.keep, settings.keep_refused) for settings in opened] == [expected]


def test_object_that_is_taken_with_a_warning_is_said(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    series, spool, pacs = spool_with_result(tmp_path, "ANOTHER"), Spool(tmp_path, 0), Taker("PACS")
    pacs.status = 0xB000
    with spool.opened():
        emptying(model, spool, [pacs])
    assert caplog.text.count("PACS took report.dcm with warning B000") == 1
    assert not list(series.rglob("*.dcm"))


def test_disk_that_is_nearly_full_is_said_once_an_hour(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused_spool(tmp_path, 100)
    spool = Spool(tmp_path, 0)
    receiver = open_receiver(model, spool, ReceiverSettings(StorageAddress("SCANWISE", ("MODALITY",))))
    with spool.opened():
        monkeypatch.setattr(Spool, "room", lambda _: (5 * 10**9, 40 * 10**9))
        receiver.watch_room()
        assert not caplog.text
        receiver._warns = 0
        monkeypatch.setattr(Spool, "room", lambda _: (3 * 10**9, 40 * 10**9))
        receiver.watch_room()
        receiver.watch_room()
    assert caplog.text.count("has 3.0 GB left until images are refused; it holds 1 series, 1 of them without") == 1


@pytest.mark.extended
def test_series_that_comes_again_after_it_was_emptied_has_no_second_result(model: Path, tmp_path: Path) -> None:
    pacs, spool = Taker("PACS"), Spool(tmp_path, 0)
    receiver = open_receiver(
        model, spool, ReceiverSettings(StorageAddress("SCANWISE", ("MODALITY",)), quiet=0, keep=0.0), [pacs]
    )

    def arrive(*slices: int) -> None:
        for slice_ in slices:
            built = image(1, slice_)
            assert spool.store(built.SeriesInstanceUID, built.SOPInstanceUID, _content(built)) is Arrival.KEPT
        receiver.answer_quiet()
        receiver.deliver()

    with spool.opened():
        arrive(1, 2)
        assert len(pacs.taken) == 4
        receiver.empty()
        assert not list(tmp_path.rglob("*.dcm"))
        arrive(1)
        assert len(pacs.taken) == 4
        arrive(3)  # an answer to two of three images would replace one to two others
        assert len(pacs.taken) == 4
        assert "send the whole series again" in states(tmp_path)[0]["versions"][-1]["refused"]
        receiver.empty()
        assert len(list(tmp_path.rglob("*.dcm"))) == 2
        arrive(2)
        assert len(pacs.taken) == 9
        assert [len(version["scans"]) for version in states(tmp_path)[0]["versions"]] == [2, 2, 3]


@pytest.mark.extended
@pytest.mark.parametrize("before", [True, False])
def test_kill_while_a_series_is_emptied_is_finished_by_the_next_start(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    series, spool = spool_with_result(tmp_path, "PACS"), Spool(tmp_path, 0)

    def killed(folder: Path, *_: Any, **__: Any) -> None:
        if folder.is_dir():
            raise KeyboardInterrupt

    with spool.opened(), monkeypatch.context() as patch:
        patch.setattr(*((Path, "rename") if before else (shutil, "rmtree")), killed)
        with pytest.raises(KeyboardInterrupt):
            emptying(model, spool, [Taker("PACS")])
    assert len(list(series.rglob("*.dcm"))) == 3
    assert len(list(series.glob("scans/*"))) == (2 if before else 0)  # all of them, or none
    again = Spool(tmp_path, 0)
    with again.opened():
        emptying(model, again, [pacs := Taker("PACS")])
    assert (list(series.rglob("*.dcm")), pacs.taken) == ([], [])


@pytest.mark.extended
@pytest.mark.parametrize("lie", [b"\x01\x00\xff\xff\xff\xf0" + bytes(4096), b"GET / HTTP/1.1\r\n\r\n", b"\x04\x00"])
def test_client_that_lies_about_its_length_or_hangs_is_cut_off_and_keeps_nobody_waiting(
    lie: bytes, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "LONGEST_SILENCE", 1.0)
    with (
        running(model, Spool(tmp_path, 0), quiet=60) as (_, port),
        socket.create_connection(("127.0.0.1", port), timeout=20) as client,
    ):
        client.sendall(lie)
        assert send(port, [image(1, 1)]) == [0]
        with suppress(ConnectionResetError):
            while client.recv(4096):  # until the other side has closed; a time-out is a failure
                pass


@pytest.mark.extended
def test_object_that_is_too_large_ends_its_association_alone(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    large = image(1, 1, PixelData=bytes(300_000))
    with running(model, Spool(tmp_path, 0), quiet=60, most_bytes=100_000) as (_, port):
        assert send(port, [large]) == [None]
        assert send(port, [image(2, slice_) for slice_ in range(40)]) == [0] * 40  # 130 KB in all
    assert "--most-megabytes" in caplog.text
    assert len(list(tmp_path.rglob("scans/*.dcm"))) == 40
