"""Answers of STOW-RS, written and read in both forms, and judged by programs of others."""

import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest

pytest.importorskip("pynetdicom", reason="needs scanwise[dicom]")
pytest.importorskip("highdicom", reason="needs scanwise[dicom]")

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from senders import image

from scanwise.receiving.destinations import Refusal, WebServer
from scanwise.receiving.storage import StoredImage
from scanwise.receiving.store_response import (
    JSON,
    XML,
    StoreOutcome,
    choose_media_type,
    read_response,
    write_response,
)

KIND = "1.2.840.10008.5.1.4.1.1.4"
IMAGES = [
    StoredImage(KIND, "1.2.1", 0),
    StoredImage(KIND, "1.2.2", 0xB006),
    StoredImage(KIND, "1.2.3", 0xA700),
    StoredImage("", "", 0xC000),
]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/json", JSON),
        ("Application/DICOM+JSON; q=0.1", JSON),
        ("application/dicom+xml", XML),
        ("text/xml", XML),
        ("application/dicom+xml, */*;q=0.1", XML),
        ("*/*, application/dicom+json;q=0", XML),
        ("application/dicom+json, application/dicom+xml", JSON),
        ("application/dicom+xml;q=0.2, application/dicom+json;q=0.1", XML),
        ("application/dicom", None),
        ("text/html,application/dicom+xml;q=0", None),
        ("application/dicom+xml;q=high", None),
        ("", None),
    ],
)
def test_media_type_is_the_one_that_is_wished_most(accept: str, expected: str | None) -> None:
    assert choose_media_type(accept) == expected


@pytest.mark.parametrize("media_type", [JSON, XML, f"{XML}; charset=utf-8", "application/xml", "application/json"])
def test_what_is_written_is_read(media_type: str) -> None:
    content = write_response(IMAGES, XML if "xml" in media_type else JSON)
    assert read_response(content, media_type) == StoreOutcome((0xA700, 0xC000), (0xB006,))


def _elements(attributes: Element) -> list[Any]:
    """Tag, representation, keyword and values, and those of what is within."""
    return [
        (
            attribute.attrib["tag"],
            attribute.attrib["vr"],
            attribute.attrib["keyword"],
            [
                (child.tag.rpartition("}")[2], child.attrib["number"], (child.text or "").strip(), _elements(child))
                for child in attribute
            ],
        )
        for attribute in attributes
        if "keyword" in attribute.attrib
    ]


def test_xml_is_that_of_another_program(tmp_path: Path) -> None:
    if shutil.which("dcm2xml") is None:
        pytest.skip("dcm2xml is not installed (dcmtk)")
    described = pydicom.Dataset.from_json(write_response(IMAGES, JSON).decode())
    described.file_meta = FileMetaDataset()
    described.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(tmp_path / "a.dcm", described)
    command = ["dcm2xml", "--native-format", "--use-xml-namespace", tmp_path / "a.dcm"]
    theirs = fromstring(subprocess.run(command, capture_output=True, check=True).stdout)  # noqa: S314 - their own
    ours = fromstring(write_response(IMAGES, XML))  # noqa: S314 - our own
    assert (ours.tag, ours.attrib) == (theirs.tag, theirs.attrib)
    assert [entry for entry in _elements(theirs) if entry[0] > "0002FFFF"] == _elements(ours)


class _Archive:
    """A web server that answers as it is told."""

    def __init__(self) -> None:
        self.status, self.kind, self.content, self.headers, self.taken = 200, XML, b"", {}, list[bytes]()  # type: ignore[var-annotated]
        archive = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                archive.headers = dict(self.headers)
                archive.taken.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(archive.status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Type", archive.kind)
                self.send_header("Content-Length", str(len(archive.content)))
                self.end_headers()
                self.wfile.write(archive.content)

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.destination = WebServer(f"http://127.0.0.1:{self.server.server_address[1]}/dicom-web")


@pytest.fixture
def archive() -> Iterator[_Archive]:
    archive = _Archive()
    thread = Thread(target=archive.server.serve_forever)
    thread.start()
    yield archive
    archive.server.shutdown()
    thread.join()
    archive.server.server_close()


@pytest.fixture
def result(tmp_path: Path) -> Path:
    image(1, 1).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    return tmp_path / "a.dcm"


@pytest.mark.parametrize("kind", [JSON, XML, f"{JSON}; charset=utf-8", f"{XML};charset=utf-8"])
@pytest.mark.parametrize("status", [200, 202, 409])
def test_object_that_an_archive_refuses_is_a_refusal_whatever_form_it_says_it_in(
    kind: str, status: int, archive: _Archive, result: Path
) -> None:
    archive.status, archive.kind = status, kind
    archive.content = write_response(IMAGES[2:3], XML if "xml" in kind else JSON)
    with pytest.raises(Refusal, match="status A700") as caught:
        archive.destination.send(result)
    assert caught.value.answered


@pytest.mark.parametrize("kind", [JSON, XML])
def test_warning_of_an_archive_is_said_and_the_object_is_taken(kind: str, archive: _Archive, result: Path) -> None:
    archive.kind = kind
    for stored, expected in ((IMAGES[0], 0), (IMAGES[1], 0xB006)):
        archive.content = write_response([stored], kind)
        assert archive.destination.send(result) == expected
    archive.content = b""  # some archives say no more than 200
    assert archive.destination.send(result) == 0
    assert (JSON in archive.headers["Accept"], XML in archive.headers["Accept"]) == (True, True)
    assert all(result.read_bytes() in taken for taken in archive.taken)


@pytest.mark.parametrize(
    ("status", "kind", "content", "problem"),
    [
        (200, "text/html", b"<html>Log in</html>", "HTTP 200, without a store response"),
        (200, XML, b"<html/>", "HTTP 200, without a store response"),
        (
            200,
            XML,
            b"<!DOCTYPE a [<!ENTITY b 'c'>]><NativeDicomModel>&b;</NativeDicomModel>",
            "without a store response",
        ),
        (200, XML, b"<NativeDicomModel>", "without a store response"),
        (200, JSON, b"[1]", "without a store response"),
        (200, JSON, b'{"00081198": {"Value": [{"00081197": {"Value": ["high"]}}]}}', "without a store response"),
        (200, JSON, b'[{"00081198": {"Value": [{"00081197": {"Value": [49152]}}]}}]', "status C000"),
        (202, JSON, b'{"00081198": {"Value": [{}]}}', "status 0000"),
        (302, "text/html", b"", "HTTP 302"),
        (503, "text/plain", b"busy", "HTTP 503"),
        (500, JSON, b"{}", "HTTP 500"),
    ],
)
def test_what_does_not_say_that_an_object_is_kept_is_a_refusal(
    status: int, kind: str, content: bytes, problem: str, archive: _Archive, result: Path
) -> None:
    archive.status, archive.kind, archive.content = status, kind, content
    with pytest.raises(Refusal, match=f"{problem}$"):
        archive.destination.send(result)
