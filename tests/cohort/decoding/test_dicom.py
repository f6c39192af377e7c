"""DICOM of every make becomes the picture that a viewer shows; nothing that names a person leaves the header."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000MC,
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from medical_files import NAMES, dataset, shipped, write_dicom, write_encoded, write_packed
from scanwise.cohort.decoding import dicom, dicom_values, readers
from scanwise.cohort.decoding.pixels import UnreadableScan
from scanwise.cohort.pseudonyms import Pseudonyms
from scanwise.recipe import Data

HASHES = Pseudonyms(b"a key")
RANDOM = np.random.default_rng(0)
DEEP = RANDOM.integers(0, 4096, (12, 10)).astype(np.uint16)
SIGNED = RANDOM.integers(-1000, 3000, (12, 10)).astype(np.int16)
GRAY = RANDOM.integers(0, 256, (12, 10)).astype(np.uint8)
COLOUR = RANDOM.integers(0, 256, (12, 10, 3)).astype(np.uint8)
WHOLE = Data(percentiles=(0, 100))


def seen(file: Path, index: int | None = None, settings: Data = WHOLE) -> np.ndarray:
    (found,) = dicom.decode_dicom(file.read_bytes(), [index], settings)
    assert not isinstance(found, str), found
    return found[:, :, 0] if found.shape[2] == 1 else found


def refusal(file: Path, index: int | None = None) -> str:
    found = readers.read_file(file if index is None else Path(f"{file}#{index:03d}"), Data(size=16))
    assert isinstance(found, str)
    return found


def stretched(values: np.ndarray) -> np.ndarray:
    return np.rint((values - values.min()) * (255.0 / (values.max() - values.min()))).astype(np.uint8)


# --- shades of gray ---


@pytest.mark.parametrize("stored", [DEEP, SIGNED, GRAY.astype(np.uint32), DEEP.astype(np.int32)])
def test_without_a_window_percentiles_become_black_and_white(tmp_path: Path, stored: np.ndarray) -> None:
    np.testing.assert_array_equal(seen(write_dicom(tmp_path / "x", stored)), stretched(stored.astype(float)))
    low, high = np.percentile(stored, [5, 95])
    found = seen(tmp_path / "x", settings=Data(percentiles=(5, 95)))
    np.testing.assert_allclose(found, 255 * np.clip((stored - low) / (high - low), 0, 1), atol=0.51)


def test_eight_bits_without_a_window_stay_as_they_are(tmp_path: Path) -> None:
    dark = (GRAY // 4).astype(np.uint8)
    np.testing.assert_array_equal(seen(write_dicom(tmp_path / "x", dark)), dark)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (-600, 1500.5), (0, 2)])
def test_the_window_is_that_of_the_standard(tmp_path: Path, function: str | None, centre: float, width: float) -> None:
    """Against pydicom's own formulas, on rescaled values."""
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": centre, "WindowWidth": width}
    if function:
        tags["VOILUTFunction"] = function
    file = write_dicom(tmp_path / "x", DEEP, **tags)
    header = pydicom.dcmread(file)
    units = apply_modality_lut(header.pixel_array, header)
    with np.errstate(over="ignore"):  # of exp, far from the window
        shown = apply_windowing(units, header)
    low, high = 2 * 0 - 1024, 2 * 65535 - 1024  # the range that pydicom windows into
    np.testing.assert_allclose(seen(file), 255 * (shown - low) / (high - low), atol=0.51)


def test_of_several_windows_the_first_is_taken(tmp_path: Path) -> None:
    one = seen(write_dicom(tmp_path / "x", DEEP, WindowCenter=2000, WindowWidth=1000))
    two = seen(write_dicom(tmp_path / "y", DEEP, WindowCenter=[2000, 50], WindowWidth=[1000, 80]))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "tags", [{"WindowWidth": 0}, {"WindowWidth": -5}, {"WindowWidth": None}, {"WindowCenter": None}]
)
def test_a_window_that_cannot_be_applied_is_none(tmp_path: Path, tags: dict[str, object]) -> None:
    file = tmp_path / "x"
    made = dataset(DEEP, WindowCenter=100, WindowWidth=50)
    for name, value in tags.items():
        setattr(made, name, value)
    made.save_as(file, enforce_file_format=True)
    np.testing.assert_array_equal(seen(file), stretched(DEEP.astype(float)))


def test_the_recipe_may_set_the_window_or_leave_the_headers_out(tmp_path: Path) -> None:
    file = write_dicom(tmp_path / "x", SIGNED, WindowCenter=9000, WindowWidth=3)
    expected = 255 * np.clip((SIGNED - 40.0) / 80 + 0.5, 0, 1)
    np.testing.assert_allclose(seen(file, settings=Data(window=(40, 80))), expected, atol=0.51)
    shown = seen(file, settings=Data(window="percentiles", percentiles=(0, 100)))
    np.testing.assert_array_equal(shown, stretched(SIGNED.astype(float)))
    assert not seen(file).any()


def test_monochrome_1_is_turned_around(tmp_path: Path) -> None:
    for tags in ({}, {"WindowCenter": 2000, "WindowWidth": 3000}):
        plain = seen(write_dicom(tmp_path / "x", DEEP, **tags))
        other = seen(write_dicom(tmp_path / "y", DEEP, PhotometricInterpretation="MONOCHROME1", **tags))
        np.testing.assert_array_equal(other, 255 - plain)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_count(tmp_path: Path, photometric: str) -> None:
    stored = SIGNED.copy()
    stored[:3] = -2000
    tags = {"PhotometricInterpretation": photometric}
    inside = seen(write_dicom(tmp_path / "x", stored[3:], **tags))
    made = dataset(stored, **tags)
    made.add_new("PixelPaddingValue", "SS", -2000)
    made.save_as(tmp_path / "y", enforce_file_format=True)
    found = seen(tmp_path / "y")
    assert not found[:3].any()
    np.testing.assert_array_equal(found[3:], inside)


@pytest.mark.parametrize(
    ("stored", "vr", "value"),
    [(SIGNED, "US", 63536), (SIGNED.astype(np.int32), "UL", 2**32 - 2000), (DEEP, "SS", -3), (DEEP, "US", 65533)],
)
def test_padding_may_be_written_with_the_wrong_sign(tmp_path: Path, stored: np.ndarray, vr: str, value: int) -> None:
    """Compared as pixels have it: -2000 written as 63536, and the other way."""
    padded = stored.copy()
    padded[:3] = -2000 if stored.dtype.kind == "i" else 65533
    inside = seen(write_dicom(tmp_path / "x", padded[3:]))
    made = dataset(padded)
    made.add_new("PixelPaddingValue", vr, value)
    made.save_as(tmp_path / "y", enforce_file_format=True)
    found = seen(tmp_path / "y")
    assert not found[:3].any()
    np.testing.assert_array_equal(found[3:], inside)


def test_a_range_of_padding_may_be_written_so_too(tmp_path: Path) -> None:
    padded = SIGNED.copy()
    padded[0], padded[1] = -2000, -1990
    made = dataset(padded)
    made.add_new("PixelPaddingValue", "US", 63536)
    made.add_new("PixelPaddingRangeLimit", "US", 65536 - 1990)
    made.save_as(tmp_path / "y", enforce_file_format=True)
    found = seen(tmp_path / "y")
    assert not found[:2].any()
    np.testing.assert_array_equal(found[2:], seen(write_dicom(tmp_path / "x", padded[2:])))


def test_padding_of_floats_is_theirs(tmp_path: Path) -> None:
    values = np.random.default_rng(5).random((12, 10)).astype(np.float32)
    padded = values.copy()
    padded[:3] = -9.5
    made = dataset(padded.view(np.uint32), FloatPixelPaddingValue=-9.5)
    del made.PixelData, made.BitsStored, made.HighBit, made.PixelRepresentation
    made.FloatPixelData = padded.tobytes()
    made.save_as(tmp_path / "y", enforce_file_format=True)
    found = seen(tmp_path / "y")
    assert not found[:3].any()
    np.testing.assert_array_equal(found[3:], stretched(values[3:].astype(float)))


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_those_that_are_stored_do_not_count_in_packed_frames(tmp_path: Path, signed: bool) -> None:
    """An overlay in bit 15 of 12-bit pixels."""
    stored = (DEEP - 2048 * signed).astype(np.int16 if signed else np.uint16)
    plain = seen(write_dicom(tmp_path / "x", stored, BitsStored=12, HighBit=11))
    marked = (stored.view(np.uint16) & 0x0FFF) | np.where(np.arange(10) < 5, 0x8000, 0).astype(np.uint16)
    stream = io.BytesIO()
    Image.fromarray(marked).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
    tags = {"BitsStored": 12, "HighBit": 11}
    file = write_packed(tmp_path / "y", [stream.getvalue()], JPEG2000Lossless, stored, **tags)
    np.testing.assert_array_equal(seen(file), plain)


JPEG_LS = bytes.fromhex(
    "ffd8fff7000b100008000801011100fff8000d01ffff0012004301140040ffda0008010100000000000000000001ff7ec818ff1f4000000000007fe0"
    "e40c0fb03da08482901206004fd3e48240ebd5e23fc0176ba48040cb95c27d802dd6c9f902ad5d13dc039b927c408e2e0bcc037b72f480db5b177806"
    "b6a5e10134b42eb00ceccbb0ffd9"
)
"""8 × 8 multiples of 65 below 4096, in JPEG-LS of 16 bits, with bit 15 set in the left half."""


def test_nor_do_they_in_jpeg_ls(tmp_path: Path) -> None:
    stored = (65 * np.arange(64)).astype(np.uint16).reshape(8, 8)
    tags = {"BitsStored": 12, "HighBit": 11}
    file = write_packed(tmp_path / "x", [JPEG_LS], JPEGLSLossless, stored, **tags)
    np.testing.assert_array_equal(seen(file), seen(write_dicom(tmp_path / "y", stored, **tags)))


@pytest.mark.parametrize("signed", [False, True])
def test_bits_may_be_counted_from_the_top(tmp_path: Path, signed: bool) -> None:
    """12 bits from bit 15 downwards, with an overlay below them; and files that say so of the lowest 12."""
    stored = (DEEP - 2048 * signed).astype(np.int16 if signed else np.uint16)
    plain = seen(write_dicom(tmp_path / "x", stored, BitsStored=12, HighBit=11))
    high = np.left_shift(stored, 4) | (np.arange(10) % 16).astype(stored.dtype)
    np.testing.assert_array_equal(seen(write_dicom(tmp_path / "y", high, BitsStored=12, HighBit=15)), plain)
    np.testing.assert_array_equal(seen(write_dicom(tmp_path / "z", stored, BitsStored=12, HighBit=15)), plain)


def test_lookup_tables_of_the_header_are_applied(tmp_path: Path) -> None:
    made = dataset(GRAY)
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [256, 0, 12])
    table.add_new("LUTData", "US", [int(4095 * (i / 255) ** 2) for i in range(256)])
    made.VOILUTSequence = Sequence([table])
    made.save_as(tmp_path / "x", enforce_file_format=True)
    header = pydicom.dcmread(tmp_path / "x")
    expected = apply_voi(header.pixel_array, header).astype(float) * 255 / 4095
    np.testing.assert_allclose(seen(tmp_path / "x"), expected, atol=0.51)
    del made.VOILUTSequence
    table.add_new("LUTDescriptor", "US", [256, 0, 16])
    table.add_new("LUTData", "OW", np.array([int(4095 * (i / 255) ** 2) for i in range(256)], "<u2").tobytes())
    table.add_new("ModalityLUTType", "LO", "US")
    made.ModalityLUTSequence = Sequence([table])
    made.WindowCenter, made.WindowWidth = 2048, 4096
    made.save_as(tmp_path / "y", enforce_file_format=True)
    header = pydicom.dcmread(tmp_path / "y")
    units = apply_modality_lut(header.pixel_array, header).astype(float)
    expected = 255 * np.clip((units - 2047.5) / 4095 + 0.5, 0, 1)
    np.testing.assert_allclose(seen(tmp_path / "y"), expected, atol=0.51)


def test_a_flat_frame_is_black(tmp_path: Path) -> None:
    assert not seen(write_dicom(tmp_path / "x", np.full((5, 5), 77, np.uint16))).any()


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
