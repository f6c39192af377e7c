"""Uploads are decoded as elsewhere, in a process whose end costs the file over which it ended and no other."""

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medical_files import shipped
from scanwise.cohort.decoding.pixels import LACK, ScanBytes
from scanwise.cohort.decoding.readers import DecodedScan, read_file
from scanwise.cohort.slice_expansion import open_contents
from scanwise.errors import DataError
from scanwise.recipe import Data
from scanwise.serving import decoding
from scanwise.serving.decoding import BROKEN, DecodedFiles, IsolatedDecoder

SETTINGS = Data(size=32, channels=1)
MANY = {"most_scans": 100, "most_pixels": 10**9}


@pytest.fixture
def decoder_of() -> Iterator[Callable[..., IsolatedDecoder]]:
    made: list[IsolatedDecoder] = []

    def make(memory: int = 2**30, at_once: int = 2) -> IsolatedDecoder:
        made.append(IsolatedDecoder(SETTINGS, memory, at_once))
        return made[-1]

    yield make
    for decoder in made:
        decoder.close()


def png(side: int, value: int = 0) -> bytes:
    stream = io.BytesIO()
    pixels = np.full((side, side), value, np.uint8)
    pixels[:4, :4] = 200
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def reasons(decoded: DecodedFiles) -> list[str]:
    return [opened if isinstance(opened, str) else "" for opened in decoded.opened]


@pytest.mark.extended
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to such a limit")
def test_files_are_decoded_as_elsewhere_and_one_that_needs_too_much_is_named(
    decoder_of: Callable[..., IsolatedDecoder],
) -> None:
    decoder = decoder_of(memory=300 * 2**20)
    contents = {"a.png": png(90), "b.pdf": b"%PDF", "c.png": png(9900), "d": shipped("MR_small.dcm").read_bytes()}
    contents |= {"e.png": b"", "f.dcm": shipped("MR_small_jpeg_ls_lossless.dcm").read_bytes()}
    files = [ScanBytes(name, data) for name, data in contents.items()]
    decoded = decoder.decode(files, **MANY)
    scans = iter(decoded.scans)
    for name, file, opened in zip(contents, files, decoded.opened, strict=True):
        assert opened == open_contents(file, SETTINGS)
        if isinstance(opened, str):
            continue
        expected, scan = read_file(file, SETTINGS), next(scans)
        if name == "c.png":
            assert str(scan).startswith(LACK)
        elif isinstance(expected, str):
            assert scan == expected
        else:
            assert isinstance(scan, DecodedScan)
            np.testing.assert_array_equal(scan.pixels, expected.pixels)
            assert (scan.sha256, scan.digest, scan.area) == (expected.sha256, expected.digest, expected.area)


def test_totals_of_a_request_are_limited(decoder_of: Callable[..., IsolatedDecoder]) -> None:
    decoder = decoder_of(at_once=1)
    files = [ScanBytes("x", png(100))] * 3
    with pytest.raises(DataError, match="more than 29,999 pixels"):
        decoder.decode(files, 100, 29_999)
    with pytest.raises(DataError, match="more than 2 scans"):
        decoder.decode(files, 2, 10**9)
    assert reasons(decoder.decode(files, 3, 30_000)) == [""] * 3


def test_files_of_several_requests_are_decoded_together_within_the_limits_of_each(
    decoder_of: Callable[..., IsolatedDecoder],
) -> None:
    decoder = decoder_of(at_once=1)
    file, broken = ScanBytes("x", png(100, 7)), ScanBytes("x.png", png(100)[:60])
    requests = [([file], 1, 10**9), ([file] * 3, 2, 10**9), ([broken, file], 9, 10**9), ([file], 9, 9999), ([], 9, 9)]
    one, many, mixed, large, none = decoder.decode_each(requests)
    assert isinstance(one, DecodedFiles)
    (scan,), (expected,) = one.scans, [read_file(file, SETTINGS)]
    assert isinstance(scan, DecodedScan)
    assert isinstance(expected, DecodedScan)
    np.testing.assert_array_equal(scan.pixels, expected.pixels)
    assert scan.digest == expected.digest
    assert "more than 2 scans" in str(many)
    assert "more than 9,999 pixels" in str(large)
    assert isinstance(mixed, DecodedFiles)
    assert isinstance(none, DecodedFiles)
    assert [isinstance(scan, DecodedScan) for scan in mixed.scans] == [False, True]
    assert none.scans == ()


BREAKS = """
import os, sys, time
from scanwise.serving.messages import answer_questions
def decode(content):
    if content == b"end": os._exit(9)
    if content == b"stay": time.sleep(60)
    return {"fault": "KeyError"} if content == b"fault" else {"opened": "fine", "scans": []}
def answer(header, contents):
    return {"files": [decode(content) for content in contents]}, [b""] * len(contents)
answer_questions(answer, int(sys.argv[1]))
"""


@pytest.mark.extended
def test_a_file_that_ends_its_decoder_costs_no_other(
    decoder_of: Callable[..., IsolatedDecoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "decoder_that_breaks.py").write_text(BREAKS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(decoding, "_MODULE", "decoder_that_breaks")
    decoder = decoder_of(at_once=4)
    contents = [b"good", b"end", b"good", b"fault", b"good"]
    expected = ["fine", BROKEN, "fine", "damaged, or of a kind that is not read here (KeyError)", "fine"]
    assert reasons(decoder.decode([ScanBytes("x", data) for data in contents], **MANY)) == expected
    monkeypatch.setattr(decoding, "PATIENCE", 0.4)
    assert reasons(decoder.decode([ScanBytes("x", data) for data in (b"good", b"stay", b"good")], **MANY)) == [
        "fine",
        BROKEN,
        "fine",
    ]
