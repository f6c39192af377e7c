"""STOW-RS: images go into the spool of C-STORE, by its rules, and each gets its status."""

import asyncio
import io
import json
import logging
import socket
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast
from xml.etree.ElementTree import fromstring

import pytest

pytest.importorskip("pynetdicom", reason="needs scanwise[dicom]")
pytest.importorskip("fastapi", reason="needs scanwise[serve]")
pytest.importorskip("dicomweb_client", reason="reads answers as others do")

import pydicom
from dicomweb_client.web import _load_xml_dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEG2000MC,
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom.sop_class import RawDataStorage
from senders import QUIET, image
from starlette.testclient import TestClient

from medical_files import NAMES
from scanwise.errors import DataError
from scanwise.receiving.receiver import ReceiverSettings, open_receiver
from scanwise.receiving.spool import Arrival, Spool
from scanwise.receiving.storage import ImageIntake, WebAddress, image_syntaxes
from scanwise.receiving.web_storage import STUDIES, WebStorageService, _take, build_web_storage
from scanwise.serving.guard import Callers, names_of
from scanwise.serving.parts import PartReader
from scanwise.serving.problems import Problem
from scanwise.serving.uploads import read_parts
from tiny_bundles import write_tiny_bundle

TOKEN = "a-long-random-text-0123"  # noqa: S105
BEARER = {"Authorization": f"Bearer {TOKEN}"}
KIND = 'multipart/related; type="application/dicom"; boundary=b-b'
IMAGE_CLASS = "1.2.840.10008.5.1.4.1.1.4"
Answer = tuple[int, dict[str, Any]]


def content_of(built: pydicom.Dataset) -> bytes:
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, built)
    return stream.getvalue()


def body_of(contents: Sequence[bytes], kind: str = "application/dicom") -> bytes:
    parts = [f"--b-b\r\nContent-Type: {kind}\r\n\r\n".encode() + content + b"\r\n" for content in contents]
    return b"".join(parts) + b"--b-b--\r\n"


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", 0)
    with spool.opened():
        yield spool


@pytest.fixture
def client(spool: Spool) -> TestClient:
    return TestClient(build_web_storage(ImageIntake(spool), Callers(("testserver",), TOKEN), 20_000))


@pytest.fixture
def send(client: TestClient) -> Callable[..., Answer]:
    def post(*images: pydicom.Dataset | bytes, study: str = "") -> Answer:
        contents = [entry if isinstance(entry, bytes) else content_of(entry) for entry in images]
        path = f"{STUDIES}/{study}" if study else STUDIES
        answer = client.post(path, content=body_of(contents), headers={**BEARER, "content-type": KIND})
        assert answer.headers["content-type"] == "application/dicom+json"
        return answer.status_code, answer.json()

    return post


def statuses(answer: dict[str, Any], sequence: str, reason: str) -> list[tuple[str, int]]:
    """Identifier and status of each image in a sequence of an answer, read as any client of DICOM reads it."""
    described = pydicom.Dataset.from_json(answer)
    return [(entry.get("ReferencedSOPInstanceUID", ""), entry.get(reason, 0)) for entry in described.get(sequence, [])]


def kept(answer: dict[str, Any]) -> list[tuple[str, int]]:
    return statuses(answer, "ReferencedSOPSequence", "WarningReason")


def failed(answer: dict[str, Any]) -> list[tuple[str, int]]:
    return statuses(answer, "FailedSOPSequence", "FailureReason")


def test_images_are_kept_once_by_whichever_way_they_come(
    send: Callable[..., Answer], spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    status, answer = send(image(1, 1), image(1, 2))
    assert (status, kept(answer)) == (200, [("1.2.9.1.1.1", 0), ("1.2.9.1.1.2", 0)])
    assert answer["00081199"]["Value"][0]["00081150"] == {"vr": "UI", "Value": [IMAGE_CLASS]}
    assert "00081198" not in answer
    files = {file: file.read_bytes() for file in spool.folder.rglob("*.dcm")}
    assert len(files) == 2
    assert {file.stat().st_mode & 0o077 for file in files} == {0}
    assert send(image(1, 2), study="1.2.9.1")[0] == 200
    built = image(1, 1)
    by_store = ImageIntake(spool).take(
        IMAGE_CLASS, built.SOPInstanceUID, built.file_meta.TransferSyntaxUID, io.BytesIO(data_of(built))
    )
    assert by_store.status == 0
    assert {file: file.read_bytes() for file in spool.folder.rglob("*.dcm")} == files
    assert not [name for name in NAMES.values() if name in caplog.text + json.dumps(answer)]


def data_of(built: pydicom.Dataset) -> bytes:
    """A data set as C-STORE carries it."""
    from pynetdicom.dsutils import encode

    syntax = built.file_meta.TransferSyntaxUID
    encoded = encode(built, syntax.is_implicit_VR, syntax.is_little_endian)
    assert encoded is not None
    return encoded


def test_each_image_gets_its_own_status(send: Callable[..., Answer], spool: Spool) -> None:
    assert send(image(1, 1))[0] == 200
    raw = image(2, 1, SOPClassUID=RawDataStorage)
    raw.file_meta.MediaStorageSOPClassUID = RawDataStorage
    without = image(3, 1)
    del without.SeriesInstanceUID
    other = image(4, 1)
    other.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    deflated = image(5, 1)
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    implicit = image(6, 1)
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    status, answer = send(
        image(1, 1, PatientSex="F"), raw, b"%PDF-1.7", without, image(7, 1), other, deflated, implicit, b""
    )
    assert status == 202
    assert kept(answer) == [("1.2.9.1.1.1", 0xB006), ("1.2.9.7.1.1", 0), ("1.2.9.6.1.1", 0)]
    assert failed(answer) == [
        ("1.2.9.2.1.1", 0x0122),
        ("1.2.9.3.1.1", 0xC000),
        ("1.2.3", 0xA900),
        ("1.2.9.5.1.1", 0xC122),
    ]
    assert statuses(answer, "OtherFailuresSequence", "FailureReason") == [("", 0xC000)] * 2
    assert len(list(spool.folder.rglob("*.dcm"))) == 3


def test_who_asks_for_xml_gets_the_same_answer_in_xml(client: TestClient) -> None:
    body = body_of([content_of(image(1, 1)), b"%PDF-1.7"])
    answers = {}
    for kind in ("application/dicom+json", "application/dicom+xml"):
        answer = client.post(STUDIES, content=body, headers={**BEARER, "content-type": KIND, "accept": kind})
        assert (answer.status_code, answer.headers["content-type"]) == (202, kind)
        answers[kind] = answer
    described = _load_xml_dataset(fromstring(answers["application/dicom+xml"].content))  # noqa: S314 - our own
    assert described.to_json_dict() == answers["application/dicom+json"].json()
    assert [entry.FailureReason for entry in described.OtherFailuresSequence] == [0xC000]


def test_an_image_stands_in_memory_once_while_it_is_taken(spool: Spool) -> None:
    large = image(1, 1, PixelData=bytes(2**24))
    body = body_of([content_of(large)] * 2)  # the second is compared with the first
    reader = PartReader("b-b", lambda _part: 2**25, Problem(413, "too large"))
    intake, taken = ImageIntake(spool), []
    intake.take("", "", "", io.BytesIO())  # what is imported once
    tracemalloc.start()
    try:
        for start in range(0, len(body), 2**16):
            taken += [_take(intake, part.content, "") for part in reader.feed(body[start : start + 2**16])]
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [image.status for image in taken] == [0, 0]
    assert most < 1.5 * 2**24


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/related; boundary=b-b",
        "multipart/related; type=application/dicom; boundary=b-b",
        'Multipart/Related; Boundary="b-b"; start="<a>"; Type="Application/DICOM"',
        'multipart/related; type="application/dicom; transfer-syntax=*"; boundary=b-b',
    ],
)
def test_kind_of_a_body_is_understood_in_every_writing(kind: str, client: TestClient) -> None:
    body = body_of([content_of(image(1, 1))], "application/dicom; transfer-syntax=*")
    assert client.post(STUDIES, content=body, headers={**BEARER, "content-type": kind}).status_code == 200


def test_images_of_another_study_and_none_at_all(send: Callable[..., Answer], spool: Spool) -> None:
    status, answer = send(image(1, 1), study="1.2.9.2")
    assert (status, failed(answer)) == (409, [("1.2.9.1.1.1", 0xA900)])
    assert not list(spool.folder.rglob("*.dcm"))


def test_full_spool_refuses_and_takes_images_again(
    send: Callable[..., Answer], spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(spool, "_least_free", 2**60)
        status, answer = send(image(1, 1))
        assert (status, failed(answer)) == (507, [("1.2.9.1.1.1", 0xA700)])
    assert send(image(1, 1))[0] == 200


@pytest.mark.parametrize(
    ("headers", "content", "status", "expected"),
    [
        ({"Authorization": "Bearer wrong"}, b"", 401, "Authorization: Bearer"),
        ({"host": "evil.example"}, b"", 421, "name"),
        ({"content-type": "multipart/form-data; boundary=b-b"}, b"", 415, "multipart/related"),
        ({"content-type": "multipart/related; type=application/dicom+json; boundary=b-b"}, b"", 415, "related"),
        ({"content-type": 'multipart/related; type="application/dicom"'}, b"", 400, "cannot be read"),
        ({"content-type": b'multipart/related; type="application/dicom"; boundary=\xff'}, b"", 400, "cannot be read"),
        (
            {"content-type": 'multipart/related; type="application/dicom+xml"; boundary=b-b'},
            b"",
            415,
            "whole DICOM file",
        ),
        ({"content-encoding": "gzip"}, b"", 415, "Content-Encoding"),
        ({"accept": "application/dicom"}, body_of([b"x"]), 406, "application/dicom+xml"),
        ({"accept": "application/dicom+xml;q=0, text/html"}, body_of([b"x"]), 406, "application/dicom+json"),
        ({}, b"--b-b--\r\n", 400, "at least one part"),
        ({}, body_of([b"x"])[:-9], 400, "cannot be read"),
        ({}, body_of([b"x"], "application/pdf"), 415, "Each part"),
        ({}, body_of([bytes(20_001)]), 413, "20,000 bytes"),
    ],
)
def test_what_is_no_stow_is_refused(
    headers: dict[str, str | bytes], content: bytes, status: int, expected: str, client: TestClient
) -> None:
    sent: dict[str, Any] = {**BEARER, "content-type": KIND, **headers}
    answer = client.post(STUDIES, content=content, headers=sent)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert expected in answer.json()["detail"]


def test_of_two_contents_with_one_name_that_come_at_once_the_first_is_kept(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, going_on = threading.Event(), threading.Event()
    write = Spool._write

    def slowly(self: Spool, file: Path, content: bytes) -> None:
        writing.set()
        assert going_on.wait(20)
        write(self, file, content)

    monkeypatch.setattr(Spool, "_write", slowly)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(spool.store, "1.2", "1.2.3", b"first")
        assert writing.wait(20)
        second = pool.submit(spool.store, "1.2", "1.2.3", b"other")
        going_on.set()
        assert (first.result(20), second.result(20)) == (Arrival.KEPT, Arrival.DIFFERENT)
    (series,) = spool.all_series()
    assert [file.read_bytes() for file in series.files(list(series.scans))] == [b"first"]


def test_who_listens_on_all_addresses_is_called_by_any_name(spool: Spool) -> None:
    assert (names_of("0.0.0.0"), names_of("::"), names_of("ward.example")[-1]) == ((), (), "ward.example")  # noqa: S104
    anywhere = TestClient(build_web_storage(ImageIntake(spool), Callers(names_of("0.0.0.0"), TOKEN), 20_000))  # noqa: S104
    sent = {**BEARER, "content-type": KIND, "host": "10.0.0.5:8042"}
    body = body_of([content_of(image(1, 1))])
    assert anywhere.post(STUDIES, content=body, headers=sent).status_code == 200
    assert anywhere.post(STUDIES, content=body, headers={**sent, "Authorization": "Bearer x"}).status_code == 401


def test_time_that_is_over_while_an_image_is_written_breaks_off_no_writing() -> None:
    class Slow:
        async def stream(self) -> AsyncIterator[bytes]:
            yield body_of([b"image"])[:-2]
            await asyncio.sleep(60)

    written = []

    async def read() -> None:
        reader = PartReader("b-b", lambda _part: 100, Problem(413, "too large"))
        async with aclosing(read_parts(cast("Any", Slow()), reader, 1000, 0.05)) as parts:
            async for part in parts:
                await asyncio.sleep(0.2)
                written.append(part.content.getvalue().decode())

    with pytest.raises(Problem, match=r"within 0\.05 seconds"):
        asyncio.run(read())
    assert written == ["image"]


def test_encodings_are_accepted_that_can_be_decoded() -> None:
    accepted = image_syntaxes()
    assert {ImplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit, JPEG2000, JPEGLSLossless, HTJ2K} <= set(accepted)
    assert not {DeflatedExplicitVRLittleEndian, JPEG2000MC, MPEG2MPML} & set(accepted)


def test_other_methods_are_refused(client: TestClient) -> None:
    assert client.get(STUDIES, headers=BEARER).status_code == 405
    assert client.get("/dicom-web/instances", headers=BEARER).status_code == 404


def _answered(spool: Path, thread: threading.Thread, seconds: float = 60) -> list[dict[str, Any]]:
    """The states of the series in a spool, once a series is answered."""
    deadline = time.monotonic() + seconds
    while not (states := list(spool.glob("series/*/state.json"))):
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [json.loads(state.read_text(encoding="utf-8")) for state in states]


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore:.*unclosed.*socket:ResourceWarning")
@pytest.mark.parametrize("accept", ["*/*", "application/dicom+xml"])
def test_a_series_sent_by_a_client_of_dicomweb_gets_its_result_without_c_store(tmp_path: Path, accept: str) -> None:
    from dicomweb_client.api import DICOMwebClient
    from dicomweb_client.session_utils import create_session

    token = tmp_path / "token"
    token.write_text(TOKEN, encoding="utf-8")
    token.chmod(0o600)
    settings = ReceiverSettings(None, QUIET, web=WebAddress(token, port=0))
    receiver = open_receiver(write_tiny_bundle(tmp_path / "bundle", "demo"), Spool(tmp_path / "spool", 0), settings)
    opened, stop, urls = threading.Event(), threading.Event(), list[str]()
    ports: list[int] = []
    arguments = (stop.is_set, ports.append, lambda url: (urls.append(url), opened.set()))
    thread = threading.Thread(target=receiver.run, args=arguments)
    thread.start()
    try:
        assert opened.wait(20)
        session = create_session()
        session.headers.update(BEARER | {"Accept": accept})
        client = DICOMwebClient(urls[0].removesuffix("/studies"), session=session, chunk_size=10_000)
        answer = client.store_instances([image(1, 1), image(1, 2)])
        assert [entry.ReferencedSOPInstanceUID for entry in answer.ReferencedSOPSequence] == [
            "1.2.9.1.1.1",
            "1.2.9.1.1.2",
        ]
        (state,) = _answered(tmp_path / "spool", thread)
        assert state["versions"][0]["refused"] == ""
        assert not ports
        session.close()
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    (tmp_path / "token").chmod(0o600)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = WebAddress(tmp_path / "token", port=taken.getsockname()[1])
        with pytest.raises(DataError, match="Choose another --web-port"):
            WebStorageService(ImageIntake(Spool(tmp_path / "spool", 0)), address)


@pytest.mark.parametrize("name", ["gone", "open"])
def test_a_token_that_others_can_read_starts_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "open").write_text(TOKEN, encoding="utf-8")
    (tmp_path / "open").chmod(0o644)
    with pytest.raises(DataError, match="token file"):
        WebStorageService(ImageIntake(Spool(tmp_path / "spool", 0)), WebAddress(tmp_path / name, port=0))
