"""DICOM of every make becomes the picture that a viewer shows; nothing that names a person leaves the header."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_pixels import COLOUR, DEEP, GRAY, HASHES, SIGNED, refusal, seen, stretched
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from medical_files import NAMES, dataset, shipped, write_dicom, write_packed
from scanwise.cohort.decoding import dicom, readers
from scanwise.cohort.pseudonyms import Pseudonyms

# --- colour ---


def test_colour_stays_colour_and_gray_in_three_channels_comes_out_gray(tmp_path: Path) -> None:
    np.testing.assert_array_equal(seen(write_dicom(tmp_path / "x", COLOUR)), COLOUR)
    np.testing.assert_array_equal(seen(write_dicom(tmp_path / "y", np.stack([GRAY] * 3, axis=2))), GRAY)


def test_deep_colour_is_brought_to_eight_bits(tmp_path: Path) -> None:
    deep = COLOUR.astype(np.uint16) * 257
    np.testing.assert_array_equal(seen(write_dicom(tmp_path / "x", deep)), COLOUR)
    dark = COLOUR.astype(np.uint16) * 16  # twelve bits in sixteen
    np.testing.assert_array_equal(seen(write_dicom(tmp_path / "y", dark)), COLOUR)


@pytest.mark.parametrize(
    "name",
    [
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_dcmtk_+eb+cy+np.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_rle.dcm",
        "SC_rgb_rle_16bit.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "SC_rgb_gdcm_KY.dcm",
    ],
)
def test_red_green_and_blue_are_red_green_and_blue(name: str) -> None:
    """pydicom's files of coloured bars, first red, in every encoding."""
    found = seen(shipped(name)).astype(int)
    assert found.ndim == 3
    red, green, blue = found[0, found.shape[1] // 2]
    assert red > 200
    assert max(green, blue) < 60


def test_a_palette_is_looked_up() -> None:
    found = seen(shipped("examples_palette.dcm"))
    assert found.shape[2] == 3
    assert found.max() > 200


# --- compression ---


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"])
def test_lossless_compression_changes_nothing(name: str) -> None:
    np.testing.assert_array_equal(seen(shipped(name)), seen(shipped("MR_small.dcm")))


@pytest.mark.parametrize("name", ["MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_expb.dcm"])
def test_nor_does_another_order_of_bytes(name: str) -> None:
    np.testing.assert_array_equal(seen(shipped(name)), seen(shipped("MR_small.dcm")))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("stored", [DEEP, SIGNED, GRAY])
def test_packed_by_us(tmp_path: Path, syntax: str, stored: np.ndarray) -> None:
    stored = np.tile(stored, (6, 6))  # JPEG 2000 halves the picture five times
    made = dataset(stored)
    made.compress(syntax, generate_instance_uid=False)
    made.save_as(tmp_path / "x", enforce_file_format=True)
    np.testing.assert_array_equal(seen(tmp_path / "x"), seen(write_dicom(tmp_path / "y", stored)))


def test_jpeg(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(32), np.arange(24)).astype(np.uint8) * 4
    stream = io.BytesIO()
    Image.fromarray(smooth).save(stream, "JPEG", quality=95)
    file = write_packed(tmp_path / "x", [stream.getvalue()], JPEGBaseline8Bit, smooth)
    assert np.abs(seen(file).astype(int) - smooth).max() < 8


def test_deflated(tmp_path: Path) -> None:
    made = dataset(DEEP)
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(tmp_path / "x", enforce_file_format=True)
    assert dicom.read_header(tmp_path / "x", HASHES).frames == 1
    np.testing.assert_array_equal(seen(tmp_path / "x"), stretched(DEEP.astype(float)))


def test_a_compression_without_a_free_decoder_is_named() -> None:
    assert "JPEG Extended (Process 2 and 4), 12 bits" in refusal(shipped("JPGExtended.dcm"))


def test_a_file_without_preamble_or_transfer_syntax(tmp_path: Path) -> None:
    made = dataset(DEEP)
    for implicit in (True, False):
        stream = io.BytesIO()
        bare = Dataset(made)
        pydicom.dcmwrite(stream, bare, implicit_vr=implicit, little_endian=True, force_encoding=True)
        (tmp_path / "x").write_bytes(stream.getvalue())
        assert readers.kind_of(stream.getvalue()[: readers.HEAD]) == "dicom"
        np.testing.assert_array_equal(seen(tmp_path / "x"), stretched(DEEP.astype(float)))


# --- frames ---


def test_frames_are_told_apart(tmp_path: Path) -> None:
    frames = np.stack([DEEP, DEEP[::-1], DEEP[:, ::-1]])
    file = write_dicom(tmp_path / "x", frames)
    assert dicom.read_header(file, HASHES).frames == 3
    for index in range(3):
        np.testing.assert_array_equal(seen(file, index), stretched(frames[index].astype(float)))
    assert refusal(file) == "holds 3 frames; name one of them, such as FILE#001"
    assert refusal(file, 3) == "holds 3 frames, the last of them #002"
    made = dataset(frames)
    made.compress(RLELossless, generate_instance_uid=False)
    made.save_as(tmp_path / "y", enforce_file_format=True)
    np.testing.assert_array_equal(seen(tmp_path / "y", 2), seen(file, 2))


def enhanced(file: Path) -> Path:
    """Two frames, each with a window, a slope and a place of its own."""
    made = dataset(np.stack([DEEP, DEEP]))
    groups = []
    for slope, centre, height in ((1, 2000, -12.5), (2, 4000, 30)):
        scale, window, place, turn = Dataset(), Dataset(), Dataset(), Dataset()
        scale.RescaleSlope, scale.RescaleIntercept = slope, 0
        window.WindowCenter, window.WindowWidth = centre, 2000
        place.ImagePositionPatient = [0, 0, height]
        turn.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        group = Dataset()
        group.PixelValueTransformationSequence = Sequence([scale])
        group.FrameVOILUTSequence = Sequence([window])
        group.PlanePositionSequence = Sequence([place])
        group.PlaneOrientationSequence = Sequence([turn])
        groups.append(group)
    made.PerFrameFunctionalGroupsSequence = Sequence(groups)
    made.save_as(file, enforce_file_format=True)
    return file


def test_each_frame_has_its_own_window_and_place(tmp_path: Path) -> None:
    file = enhanced(tmp_path / "x")
    assert dicom.read_header(file, HASHES).columns["position"] == ("-12.50", "30.00")
    one = seen(write_dicom(tmp_path / "a", DEEP, WindowCenter=2000, WindowWidth=2000))
    two = seen(
        write_dicom(tmp_path / "b", DEEP, WindowCenter=4000, WindowWidth=2000, RescaleSlope=2, RescaleIntercept=0)
    )
    np.testing.assert_array_equal(seen(file, 0), one)
    np.testing.assert_array_equal(seen(file, 1), two)
    assert not np.array_equal(one, two)


# --- columns, and nobody's name ---


def test_what_the_header_tells(tmp_path: Path) -> None:
    tags = {"ImagePositionPatient": [1, 2, 3.456], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "Modality": "CT"}
    columns = dicom.read_header(write_dicom(tmp_path / "x", DEEP, **tags), HASHES).columns
    assert columns["modality"] == ("CT",)
    assert columns["position"] == ("3.46",)
    tilted = {**tags, "ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}  # sagittal: the normal is x
    assert dicom.read_header(write_dicom(tmp_path / "y", DEEP, **tilted), HASHES).columns["position"] == ("1.00",)
    plain = write_dicom(tmp_path / "z", DEEP, SliceLocation=-7.5)
    assert dicom.read_header(plain, HASHES).columns["position"] == ("-7.50",)


def test_the_same_person_has_the_same_hash_and_another_has_not(tmp_path: Path) -> None:
    def subject(hashes: Pseudonyms = HASHES, **tags: object) -> str:
        return dicom.read_header(write_dicom(tmp_path / "x", DEEP, **tags), hashes).columns["subject"][0]

    mine = subject()
    assert (
        mine == subject(PatientName="Married^Zenobia", StudyInstanceUID="1.2.3") == subject(PatientID=" HOSP-4711-XQ ")
    )
    others = [
        subject(PatientID="HOSP-4712-XQ"),
        subject(IssuerOfPatientID="other"),
        subject(Pseudonyms(b"another key")),
    ]
    assert len({mine, *others}) == 4
    assert subject(PatientID="") == ""


def test_no_column_holds_a_value_that_names_somebody(tmp_path: Path) -> None:
    file = write_dicom(tmp_path / "x", DEEP, Modality="ZENOBIA Q")
    columns = dicom.read_header(file, HASHES).columns
    told = " ".join(value for values in columns.values() for value in values)
    for value in NAMES.values():
        assert value not in told
    assert "ZENOBIA" not in told
    assert columns["modality"] == ("",)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    made = dataset(DEEP)
    made.add_new("SliceLocation", "DS", "")
    made.add_new("WindowCenter", "DS", "")
    made.add_new("WindowWidth", "DS", "")
    made.save_as(tmp_path / "x", enforce_file_format=True)
    assert dicom.read_header(tmp_path / "x", HASHES).columns["position"] == ("",)
    np.testing.assert_array_equal(seen(tmp_path / "x"), stretched(DEEP.astype(float)))
