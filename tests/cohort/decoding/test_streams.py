"""Processes decode as threads do, in order; one that ends takes its file with it and no other, and none is left."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medical_files import write_nifti
from picture_files import packed
from scanwise.cohort.decoding import streams
from scanwise.cohort.decoding.helpers import Helper
from scanwise.cohort.decoding.pixels import BROKEN, LACK, ScanBytes, Source
from scanwise.cohort.decoding.readers import DecodedScan, read_file
from scanwise.novelty import appearance_features
from scanwise.recipe import Data
from tiny import picture

SETTINGS = Data(size=16)
DEADLY = b"the end of a decoder"


def scans_of_all_kinds(folder: Path) -> list[Source]:
    """Pictures, one of which is none, slices of a volume, and contents without a file."""
    write_nifti(folder / "v.nii", np.random.default_rng(0).integers(0, 900, (9, 8, 30)).astype(np.int16))
    for number in range(20):
        picture(number % 3, number).save(folder / f"{number:02d}.png")
    (folder / "07.png").write_bytes(b"no scan")
    pictures: list[Source] = [folder / f"{number:02d}.png" for number in range(20)]
    slices: list[Source] = [folder / f"v.nii#{number:03d}" for number in (3, 1, 29, 40)]
    return [*pictures, *slices, ScanBytes("a.png", packed(picture(1, 99), "PNG")), *pictures[:5]]


def told(scans: list[DecodedScan | str]) -> list[object]:
    return [
        scan if isinstance(scan, str) else (scan.sha256, scan.digest, scan.area, scan.pixels.tobytes())
        for scan in scans
    ]


@pytest.fixture
def helpers(monkeypatch: pytest.MonkeyPatch) -> list[Helper]:
    """Helpers that were started; after the first scan they do all the work."""
    started: list[Helper] = []

    class KeptHelper(Helper):
        def __init__(self, *arguments: str) -> None:
            super().__init__(*arguments)
            started.append(self)

    here = streams._Decoders._decode_here

    def decode_here(decoders: Any, batch: streams.Batch) -> streams.Decoded:
        decoded = here(decoders, batch)
        for thread in decoders._starting:
            thread.join()
        return decoded

    monkeypatch.setattr(streams, "Helper", KeptHelper)
    monkeypatch.setattr(streams, "reading_threads", lambda: 2)
    monkeypatch.setattr(streams, "_TRIAL", 1)
    monkeypatch.setattr(streams, "_WORTH", -1)
    monkeypatch.setattr(streams, "_IMPATIENCE", 0)
    monkeypatch.setattr(streams, "_BATCH", 6)
    monkeypatch.setattr(streams, "_AHEAD", 6)
    monkeypatch.setattr(streams._Decoders, "_decode_here", decode_here)
    return started


def have_ended(helpers: list[Helper]) -> bool:
    return all(helper._process.wait(10) is not None for helper in helpers)


def test_helpers_decode_as_this_process_does(tmp_path: Path, helpers: list[Helper]) -> None:
    scans = scans_of_all_kinds(tmp_path)
    alone = [read_file(scan, SETTINGS) for scan in scans]
    read = list(streams.read_files(scans, SETTINGS, appearance_features))
    assert told(read) == told(alone)
    for scan in read:
        if isinstance(scan, DecodedScan):
            assert scan.measured is not None
            assert scan.measured.tobytes() == appearance_features(scan.pixels[None])[0].tobytes()
    assert len(helpers) == 2
    assert have_ended(helpers)
    assert sum(isinstance(scan, str) for scan in alone) == 2


@pytest.mark.parametrize(
    ("refused", "before", "started"),
    [("_add_helper", 0, 0), pytest.param("_add_helper", 1, 1, marks=pytest.mark.extended), ("stop", 0, None)],
)
def test_a_thread_that_the_system_refuses_costs_no_scan(
    refused: str,
    before: int,
    started: int | None,
    tmp_path: Path,
    helpers: list[Helper],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither one that starts helpers, the first or another, nor one that watches them."""
    start, granted = threading.Thread.start, []

    def refuse(thread: Any) -> None:
        target = getattr(thread, "function", None) or thread._target
        if getattr(target, "__name__", "") == refused:
            if len(granted) == before:
                raise RuntimeError("can't start new thread")
            granted.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    scans = scans_of_all_kinds(tmp_path)
    alone = [read_file(scan, SETTINGS) for scan in scans]
    assert told(list(streams.read_files(scans, SETTINGS))) == told(alone)
    assert have_ended(helpers)
    assert started is None or len(helpers) == started


def test_a_reader_that_need_not_wait_has_one_helper_and_the_others_come_for_one_that_waits(
    tmp_path: Path, helpers: list[Helper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What decodes beside a network that is slower takes its cores and memory for nothing."""
    monkeypatch.setattr(streams, "_IMPATIENCE", 60)
    scans = scans_of_all_kinds(tmp_path)
    alone = [read_file(scan, SETTINGS) for scan in scans]
    assert told(list(streams.read_files(scans, SETTINGS))) == told(alone)
    assert len(helpers) == 1
    monkeypatch.setattr(streams, "_IMPATIENCE", 0)
    assert told(list(streams.read_files(scans, SETTINGS))) == told(alone)
    assert len(helpers) == 1 + 2


def test_few_scans_wait_for_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "Helper", None)
    scans = scans_of_all_kinds(tmp_path)
    assert len(list(streams.read_files(scans, SETTINGS))) == len(scans)


@pytest.mark.extended
@pytest.mark.parametrize("fault", ["os.kill(os.getpid(), 9)", "time.sleep(600)"])
def test_a_file_that_ends_or_holds_up_its_decoder_is_damaged_and_its_neighbours_are_read(
    fault: str, tmp_path: Path, helpers: list[Helper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_PATIENCE", 3.0)
    monkeypatch.setattr(streams, "_RETRIAL", 3.0)
    code = f"""
        import os, time
        from PIL import Image
        usual = Image.open
        def opened(stream, **options):
            if {DEADLY!r} in stream.getvalue():
                {fault}
            return usual(stream, **options)
        Image.open = opened
    """
    path = tmp_path / "site"
    path.mkdir()
    (path / "sitecustomize.py").write_text(textwrap.dedent(code))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    scans = scans_of_all_kinds(tmp_path)
    alone = told([read_file(scan, SETTINGS) for scan in scans])
    for place in (10, 11):
        file = scans[place]
        assert isinstance(file, Path)
        file.write_bytes(file.read_bytes() + DEADLY)
        alone[place] = BROKEN
    assert told(list(streams.read_files(scans, SETTINGS))) == alone
    assert told(list(streams.read_one_by_one(scans[9:13], SETTINGS))) == alone[9:13]
    assert have_ended(helpers)


@pytest.mark.extended
def test_a_scan_for_which_a_helper_lacks_memory_is_decoded_here(
    tmp_path: Path, helpers: list[Helper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        streams, "_ask", lambda helper, batch, patience=None: [f"{LACK}: much" for _, slices in batch for _ in slices]
    )
    scans = scans_of_all_kinds(tmp_path)
    alone = [read_file(scan, SETTINGS) for scan in scans]
    assert told(list(streams.read_files(scans, SETTINGS))) == told(alone)


@pytest.mark.extended
def test_who_reads_no_further_leaves_no_process(tmp_path: Path, helpers: list[Helper]) -> None:
    reading = streams.read_files(scans_of_all_kinds(tmp_path), SETTINGS)
    for _ in range(3):
        next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert helpers
    assert have_ended(helpers)


@pytest.mark.extended
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_reader_that_is_killed_leaves_no_process(how: signal.Signals, tmp_path: Path) -> None:
    scans_of_all_kinds(tmp_path)
    code = f"""
        import signal, sys, time
        from pathlib import Path
        from scanwise.cohort.decoding import streams
        from scanwise.recipe import Data
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell leaves out where tests run in the background
        streams._TRIAL, streams._WORTH, streams._AHEAD = 1, -1, 4
        streams.reading_threads = lambda: 2
        class Shown(streams.Helper):
            def ask(self, question, patience):
                answer = super().ask(question, patience)
                print(self._process.pid, flush=True)
                return answer
        streams.Helper = Shown
        for scan in streams.read_files([Path({str(tmp_path)!r}) / f"{{n % 20:02d}}.png" for n in range(10000)], Data(size=16)):
            time.sleep(0.01)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    numbers = {int(process.stdout.readline()) for _ in range(6)}
    process.send_signal(how)
    try:
        assert process.wait(90) != 0
    finally:
        process.kill()
        process.stdout.close()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{number}").exists() for number in numbers):
        assert time.monotonic() < end
        time.sleep(0.1)
