"""A decoder that breaks down, or never ends, takes nothing with it but the frame."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import get_frame
from pydicom.uid import JPEGLSLossless

from medical_files import NAMES, shipped, write_packed
from scanwise.cohort.decoding import isolated_decoder, readers
from scanwise.cohort.decoding.helpers import Helper
from scanwise.cohort.decoding.pixels import UnreadableScan
from scanwise.recipe import Data


@pytest.fixture(autouse=True)
def own_helpers() -> Iterator[None]:
    """Helpers of this test, of which none is left."""
    isolated_decoder._dismiss()
    yield
    isolated_decoder._dismiss()


def scripted(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    script = folder / "helper.py"
    script.write_text(textwrap.dedent(code))
    monkeypatch.setattr(isolated_decoder, "_SCRIPT", script)


def packed() -> tuple[bytes, pydicom.FileDataset]:
    header = pydicom.dcmread(shipped("MR_small_jpeg_ls_lossless.dcm"))
    return get_frame(header.PixelData, 0, number_of_frames=1), header


def test_frames_are_decoded_as_pydicom_does() -> None:
    frame, header = packed()
    np.testing.assert_array_equal(
        isolated_decoder.decode_isolated(frame, header), pydicom.dcmread(shipped("MR_small.dcm")).pixel_array
    )


def test_a_helper_serves_many_frames() -> None:
    frame, header = packed()
    for _ in range(5):
        isolated_decoder.decode_isolated(frame, header)
    assert len(isolated_decoder._idle) == 1


def test_a_frame_that_no_decoder_takes_leaves_the_helper_at_work() -> None:
    _, header = packed()
    isolated_decoder.decode_isolated(*packed())
    (helper,) = isolated_decoder._idle
    with pytest.raises(RuntimeError, match="no decoder"):
        isolated_decoder.decode_isolated(bytes(300), header)
    assert isolated_decoder._idle == [helper]


@pytest.mark.parametrize(
    "code",
    ["import os; os.abort()", "pass", "import sys; sys.stdin.buffer.read(8); sys.stdout.buffer.write(b'123')", "1 / 0"],
)
def test_a_helper_that_breaks_down_costs_one_frame(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    with monkeypatch.context() as patch:
        scripted(patch, tmp_path, code)
        with pytest.raises(UnreadableScan, match="broke down"):
            isolated_decoder.decode_isolated(*packed())
    assert isolated_decoder._idle == []
    assert isolated_decoder.decode_isolated(*packed()).any()


def test_a_helper_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        scripted(patch, tmp_path, "import time; time.sleep(600)")
        patch.setattr(isolated_decoder, "PATIENCE", 0.3)
        with pytest.raises(UnreadableScan, match="too long"):
            isolated_decoder.decode_isolated(*packed())
    assert isolated_decoder.decode_isolated(*packed()).any()


@pytest.mark.extended
def test_threads_do_not_share_a_helper() -> None:
    expected = isolated_decoder.decode_isolated(*packed())
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: isolated_decoder.decode_isolated(*packed()), range(24)):
            np.testing.assert_array_equal(found, expected)
    assert 1 <= len(isolated_decoder._idle) <= 4


def test_a_helper_learns_nothing_of_the_person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    frame, header = packed()
    file = write_packed(tmp_path / "x", [frame], JPEGLSLossless, header.pixel_array)
    asked: list[bytes] = []
    ask = Helper.ask
    monkeypatch.setattr(
        Helper, "ask", lambda helper, question, patience: asked.append(question) or ask(helper, question, patience)
    )
    assert not isinstance(readers.read_file(file, Data(size=16)), str)
    assert len(asked) == 1
    assert not any(value.encode() in asked[0] for value in NAMES.values())


@pytest.mark.extended
def test_helpers_end_with_the_program(tmp_path: Path) -> None:
    code = f"""
    from pathlib import Path
    from scanwise.cohort.decoding import isolated_decoder, readers
    from scanwise.recipe import Data
    readers.read_file(Path({str(shipped("MR_small_jpeg_ls_lossless.dcm"))!r}), Data(size=16))
    print(*(helper._process.pid for helper in isolated_decoder._idle))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
