"""Stored values of DICOM become the shades of gray that a viewer shows."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_pixels import DEEP, GRAY, SIGNED, seen, stretched
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
)

from medical_files import dataset, write_dicom, write_packed
from scanwise.recipe import Data


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
