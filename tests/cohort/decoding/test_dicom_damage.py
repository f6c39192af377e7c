"""DICOM files that are damaged, or claim too much, are refused with a reason; healthy ones that look so are read."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_pixels import DEEP, GRAY, HASHES, RANDOM, refusal, seen
from pydicom.encaps import get_frame
from pydicom.uid import (
    JPEG2000MC,
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

from medical_files import NAMES, dataset, shipped, write_dicom, write_encoded, write_packed
from scanwise.cohort.decoding import dicom, dicom_values, readers
from scanwise.cohort.decoding.pixels import UnreadableScan
from scanwise.recipe import Data

# --- what is no picture ---


@pytest.mark.parametrize("name", ["test-SR.dcm", "rtplan.dcm", "waveform_ecg.dcm"])
def test_a_file_without_pixels(name: str) -> None:
    file = next(Path(shipped("MR_small.dcm")).parent.rglob(name))
    assert refusal(file).startswith("a DICOM file without pixels")
    with pytest.raises(UnreadableScan, match="without pixels"):
        dicom.read_header(file, HASHES)


def test_truncated(tmp_path: Path) -> None:
    whole = write_dicom(tmp_path / "x", RANDOM.integers(0, 4096, (64, 64)).astype(np.uint16)).read_bytes()
    for share in (0.3, 0.9, 0.999):
        (tmp_path / "y").write_bytes(whole[: int(len(whole) * share)])
        assert refusal(tmp_path / "y").startswith("damaged or truncated")
    with pytest.raises(UnreadableScan, match=r"truncated: [\d,]+ of 8,192 bytes of pixels"):
        dicom.read_header(tmp_path / "y", HASHES) and dicom.read_header(shipped("MR_truncated.dcm"), HASHES)


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"])
@pytest.mark.parametrize("share", [0.4, 0.8, 0.97])
def test_truncated_where_compressed(tmp_path: Path, name: str, share: float) -> None:
    whole = shipped(name).read_bytes()
    (tmp_path / "x").write_bytes(whole[: int(len(whole) * share)])
    assert "truncated" in refusal(tmp_path / "x")


def claiming(file: Path, **tags: object) -> Path:
    made = dataset(GRAY)
    for name, value in tags.items():
        setattr(made, name, value)
    made.save_as(file, enforce_file_format=True)
    return file


@pytest.mark.parametrize(
    "tags",
    [
        {"Rows": 60_000, "Columns": 60_000},
        {"NumberOfFrames": 2_000_000_000},
        {"Rows": 0},
        {"SamplesPerPixel": 4},
        {"BitsAllocated": 0},
        {"NumberOfFrames": 90_000},
    ],
)
def test_a_header_that_claims_too_much_is_refused_before_room_is_made(tmp_path: Path, tags: dict[str, object]) -> None:
    file = claiming(tmp_path / "x", **tags)
    assert refusal(file, 0)
    if "BitsAllocated" not in tags:
        with pytest.raises(UnreadableScan, match=r"claims|truncated"):
            dicom.read_header(file, HASHES)


def j2k_claiming(width: int, height: int) -> bytes:
    siz = struct.pack(">HHIIIIIIIIHBBB", 41, 0, width, height, 0, 0, width, height, 0, 0, 1, 7, 1, 1)
    return b"\xff\x4f\xff\x51" + siz + bytes(200)


def jpeg_claiming(width: int, height: int) -> bytes:
    sof = b"\xff\xc0" + struct.pack(">HBHHBBBB", 11, 8, height, width, 1, 1, 0x11, 0)
    return b"\xff\xd8\xff\xe0\x00\x04ab" + sof + bytes(200)


def test_so_is_a_frame_that_claims_more_than_its_header(tmp_path: Path) -> None:
    """Decoders make room for what the frame says."""
    file = write_packed(tmp_path / "x", [j2k_claiming(100_000, 100_000)], JPEG2000Lossless, GRAY)
    assert refusal(file) == "damaged: its frame claims 100000 × 100000 pixels; the limit is 100,000,000"
    boxed = b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(
        40
    )  # JPEG 2000 boxes that hold nothing: looking for more never ends
    assert "without a picture" in refusal(write_packed(tmp_path / "x", [boxed], JPEG2000Lossless, GRAY))
    file = write_packed(tmp_path / "x", [jpeg_claiming(65_000, 65_000)], JPEGBaseline8Bit, GRAY)
    assert refusal(file) == "damaged: its frame claims 65000 × 65000 pixels; the limit is 100,000,000"


def test_a_deflated_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(np.zeros((1000, 1000), np.uint16))
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(tmp_path / "x", enforce_file_format=True)
    monkeypatch.setattr(dicom, "MAX_INFLATED", 100_000)
    assert refusal(tmp_path / "x") == "unpacks to more than 100,000 bytes"


# --- files that are told apart, and healthy files that are refused ---


def test_a_file_may_lack_preamble_and_group_length(tmp_path: Path) -> None:
    whole = write_dicom(tmp_path / "x", DEEP).read_bytes()
    expected = seen(tmp_path / "x")
    without_length = whole[:132] + whole[144:]  # (0002,0000) is 12 bytes long
    for number, data in enumerate((whole[132:], without_length, without_length[132:])):
        file = tmp_path / f"y{number}"
        file.write_bytes(data)
        np.testing.assert_array_equal(seen(file), expected)
        assert readers.kind_of(data[: readers.HEAD]) == "dicom"
        assert dicom.read_header(file, HASHES).columns["modality"] == ("MR",)


@pytest.mark.parametrize("bare", [False, True])
def test_a_deflated_file_may_lack_its_group_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare: bool) -> None:
    made = dataset(DEEP)
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(tmp_path / "x", enforce_file_format=True)
    whole, expected = (tmp_path / "x").read_bytes(), seen(tmp_path / "x")
    (tmp_path / "y").write_bytes((b"" if bare else whole[:132]) + whole[144:])
    np.testing.assert_array_equal(seen(tmp_path / "y"), expected)
    monkeypatch.setattr(dicom, "MAX_INFLATED", 100)
    assert refusal(tmp_path / "y") == "unpacks to more than 100 bytes"


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_bare_data_set_is_known_by_its_first_element(tmp_path: Path, syntax: str) -> None:
    data = write_encoded(tmp_path / "x", dataset(GRAY), syntax).read_bytes()
    bare = data[dicom._end_of_meta(io.BytesIO(data)) :]
    (tmp_path / "y").write_bytes(bare)
    assert readers.kind_of(bare[: readers.HEAD]) == "dicom"
    np.testing.assert_array_equal(seen(tmp_path / "y"), seen(write_dicom(tmp_path / "z", GRAY)))


@pytest.mark.parametrize(
    "keyword",
    ["Rows", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation", "SamplesPerPixel"],
)
def test_a_value_that_is_missing_is_named(tmp_path: Path, keyword: str) -> None:
    made = dataset(DEEP)
    delattr(made, keyword)
    made.save_as(tmp_path / "x", enforce_file_format=True)
    assert refusal(tmp_path / "x") == f"its header lacks {keyword}; export the file again with all of its header"


def test_a_compression_that_no_decoder_knows_is_not_damage(tmp_path: Path) -> None:
    for syntax in (JPEG2000MC, MPEG2MPML):
        reason = refusal(write_packed(tmp_path / "x", [bytes(300)], syntax, GRAY))
        assert reason.startswith(f"compressed as {syntax.name}, 8 bits, which is not read here")
    assert refusal(shipped("JPEG-lossy.dcm")).startswith("compressed as JPEG Extended (Process 2 and 4), 12 bits")
    assert "12 bits in 12" in refusal(write_dicom(tmp_path / "y", DEEP, BitsAllocated=12, BitsStored=12))
    assert "XYZ" in refusal(write_dicom(tmp_path / "z", GRAY, PhotometricInterpretation="XYZ"))


def test_a_directory_of_files_is_named() -> None:
    file = next(Path(shipped("MR_small.dcm")).parent.rglob("DICOMDIR-empty.dcm"))
    assert refusal(file) == "a DICOMDIR, which lists other files and holds no pixels"


@pytest.mark.parametrize("value", [b"\x01\x02\x03", b"1.2.3", b""])
@pytest.mark.parametrize("vr", [b"UL", b"OB", b"LO"])
def test_file_meta_of_another_type_is_a_reason(tmp_path: Path, vr: bytes, value: bytes) -> None:
    """A transfer syntax that is no identifier, and values of the wrong length."""
    whole = write_dicom(tmp_path / "x", GRAY).read_bytes()
    at = whole.index(b"\x02\x00\x10\x00UI")
    length = int.from_bytes(whole[at + 6 : at + 8], "little")
    element = b"\x02\x00\x10\x00" + vr
    element += (bytes(2) + struct.pack("<I", len(value)) if vr == b"OB" else struct.pack("<H", len(value))) + value
    data = whole[:132] + whole[144:at] + element + whole[at + 8 + length :]
    (tmp_path / "y").write_bytes(data)
    assert isinstance(readers.read_file(tmp_path / "y", Data(size=16)), str | readers.DecodedScan)
    try:
        dicom.read_header(tmp_path / "y", HASHES)
    except UnreadableScan as reason:
        assert str(reason)  # noqa: PT017


@pytest.mark.filterwarnings("ignore:::PIL")  # what is no DICOM any more, Pillow looks at
@pytest.mark.parametrize(
    "name",
    [
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
    ],
)
def test_damage_anywhere_is_a_reason_without_names_and_never_a_crash(tmp_path: Path, name: str) -> None:
    made = pydicom.dcmread(shipped(name))
    for tag, value in NAMES.items():
        setattr(made, tag, value)
    made.save_as(tmp_path / "whole", enforce_file_format=True)
    whole = (tmp_path / "whole").read_bytes()
    random, file, said = np.random.default_rng(0), tmp_path / "x", set()
    for _ in range(80):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 6):
            damaged[place] = random.integers(256)
        file.write_bytes(bytes(damaged))
        try:
            dicom.read_header(file, HASHES)
        except UnreadableScan as reason:
            said.add(str(reason))
        found = readers.read_file(file, Data(size=16))
        if isinstance(found, str):
            said.add(found)
    for reason in said:
        assert not any(part in reason for value in NAMES.values() for part in value.split("^"))


def test_the_frame_sizes_that_are_looked_for_are_those_of_good_files() -> None:
    """The check reads sizes right: on real streams it gives what the header says."""
    for name in (
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "examples_jpeg2k.dcm",
    ):
        header = pydicom.dcmread(shipped(name))
        assert dicom_values.claimed_size(get_frame(header.PixelData, 0, number_of_frames=1)) == (
            header.Columns,
            header.Rows,
        )


FIRST_USE = """
import importlib.abc, sys, threading
from pathlib import Path
from scanwise.cohort.decoding.pixels import ScanBytes
from scanwise.cohort.slice_expansion import open_contents
from scanwise.recipe import Data

reached, tried, answers = threading.Event(), threading.Event(), []

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == sys.argv[2]:
            reached.set()
            tried.wait(0.5)

def ask():
    contents = open_contents(ScanBytes("a.dcm", Path(sys.argv[1]).read_bytes()), Data())
    answers.append(contents if isinstance(contents, str) else "read")

sys.meta_path.insert(0, Slow())
first = threading.Thread(target=ask)
first.start()
assert reached.wait(20)
ask()
tried.set()
first.join()
print(*answers)
"""


@pytest.mark.extended
@pytest.mark.parametrize("module", ["pydicom.values", "pydicom.data", "pydicom.pixels.processing", "pydicom.examples"])
def test_files_opened_while_another_thread_loads_the_decoder_are_read(module: str) -> None:
    file = str(shipped("CT_small.dcm"))
    ended = subprocess.run([sys.executable, "-c", FIRST_USE, file, module], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["read", "read"]
