"""Tables of DICOM headers are read in the byte order and depth that they have, not in those that were meant."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_voi
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from medical_files import dataset, shipped, write_dicom, write_encoded
from scanwise.cohort.decoding import dicom, readers
from scanwise.recipe import Data

GRAY = np.random.default_rng(0).integers(0, 256, (12, 10)).astype(np.uint8)
DEEP = np.random.default_rng(1).integers(0, 4096, (12, 10)).astype(np.uint16)
RAMPS = {"Red": np.arange(256), "Green": np.arange(256)[::-1], "Blue": np.arange(256) // 2}
VALUES = np.arange(4096) // 16


def seen(file: Path) -> np.ndarray:
    (found,) = dicom.decode_dicom(file.read_bytes(), [None], Data(percentiles=(0, 100)))
    assert not isinstance(found, str), found
    return found


def paletted(
    stored: np.ndarray, scale: int, bits: int, order: str = "<", ramps: dict[str, np.ndarray] = RAMPS
) -> pydicom.FileDataset:
    made = dataset(stored, PhotometricInterpretation="PALETTE COLOR")
    for colour, ramp in ramps.items():
        made.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [len(ramp), 0, bits])
        kind = f"{order}u2" if bits == 16 else "u1"
        made.add_new(f"{colour}PaletteColorLookupTableData", "OW", (scale * ramp).astype(kind).tobytes())
    return made


EXPECTED = np.stack([RAMPS[colour][GRAY] for colour in ("Red", "Green", "Blue")], axis=2)


@pytest.mark.parametrize(("scale", "bits"), [(1, 8), (1, 16), (16, 16), (257, 16)])
def test_a_palette_has_the_depth_of_its_entries(tmp_path: Path, scale: int, bits: int) -> None:
    """8 and 12 bits, declared as 16, were black."""
    paletted(GRAY, scale, bits).save_as(tmp_path / "x", enforce_file_format=True)
    np.testing.assert_allclose(seen(tmp_path / "x"), EXPECTED, atol=1)


@pytest.mark.parametrize("scale", [1, 257])
def test_a_palette_of_a_big_endian_file_is_read_so(tmp_path: Path, scale: int) -> None:
    write_encoded(tmp_path / "x", paletted(GRAY, scale, 16, ">"), ExplicitVRBigEndian)
    np.testing.assert_allclose(seen(tmp_path / "x"), EXPECTED, atol=1)


def test_so_are_its_entries_of_one_byte(tmp_path: Path) -> None:
    made = paletted(GRAY, 1, 8)
    for colour in RAMPS:
        element = made[f"{colour}PaletteColorLookupTableData"]
        element.value = np.frombuffer(element.value, "<u2").astype(">u2").tobytes()  # words, two entries each
    write_encoded(tmp_path / "x", made, ExplicitVRBigEndian)
    np.testing.assert_array_equal(seen(tmp_path / "x"), EXPECTED)


def test_a_palette_may_have_more_than_256_entries_of_one_byte(tmp_path: Path) -> None:
    ramps = dict.fromkeys(RAMPS, VALUES)
    paletted(DEEP, 1, 8, ramps=ramps).save_as(tmp_path / "x", enforce_file_format=True)
    np.testing.assert_array_equal(seen(tmp_path / "x")[:, :, 0], DEEP // 16)


@pytest.mark.parametrize("name", ["examples_palette.dcm"])
def test_palettes_are_those_of_pydicom(name: str) -> None:
    header = pydicom.dcmread(shipped(name))
    painted = apply_color_lut(header.pixel_array, header)[:, :, :3]
    np.testing.assert_allclose(seen(shipped(name)), painted * (255 / np.iinfo(painted.dtype).max), atol=1)


def test_a_palette_in_segments_is_read(tmp_path: Path) -> None:
    made = dataset(GRAY, PhotometricInterpretation="PALETTE COLOR")
    for colour in RAMPS:
        made.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        data = np.array([0, 1, 0, 1, 255, 65535], "<u2").tobytes()  # the value 0, then a straight line
        made.add_new(f"Segmented{colour}PaletteColorLookupTableData", "OW", data)
    made.save_as(tmp_path / "x", enforce_file_format=True)
    np.testing.assert_allclose(seen(tmp_path / "x")[:, :, 0], GRAY, atol=1)


def test_a_palette_that_is_not_there(tmp_path: Path) -> None:
    file = write_dicom(tmp_path / "x", GRAY, PhotometricInterpretation="PALETTE COLOR")
    assert readers.read_file(file, Data(size=16)) == "its header's RedPaletteColorLookupTableDescriptor cannot be read"


def tabled(stored: np.ndarray, sequence: str, order: str = "<", lowest: int = 0, bits: int = 8) -> pydicom.FileDataset:
    made = dataset(stored)
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4096, lowest, bits])
    table.add_new("LUTData", "OW", VALUES.astype(f"{order}u2").tobytes())
    table.add_new("ModalityLUTType", "LO", "US")
    setattr(made, sequence, Sequence([table]))
    if sequence == "ModalityLUTSequence":
        made.WindowCenter, made.WindowWidth = 128, 256
    return made


@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize(("order", "bits"), [("<", 8), (">", 8), ("<", 16), (">", 16)])
def test_tables_of_gray_values_too(tmp_path: Path, sequence: str, order: str, bits: int) -> None:
    made = tabled(DEEP, sequence, order, bits=bits)
    made.PixelData = DEEP.astype(f"{order}u2").tobytes()
    write_encoded(tmp_path / "x", made, ExplicitVRBigEndian if order == ">" else ExplicitVRLittleEndian)
    np.testing.assert_allclose(seen(tmp_path / "x")[:, :, 0], DEEP // 16, atol=1)


@pytest.mark.parametrize("lowest", [-1024, 64512])
def test_a_signed_first_value_may_be_written_as_unsigned(tmp_path: Path, lowest: int) -> None:
    stored = DEEP.astype(np.int16) - 1024
    made = tabled(stored, "VOILUTSequence")
    made.VOILUTSequence[0].add_new("LUTDescriptor", "US" if lowest > 0 else "SS", [4096, lowest, 8])
    made.save_as(tmp_path / "x", enforce_file_format=True)
    np.testing.assert_array_equal(seen(tmp_path / "x")[:, :, 0], DEEP // 16)


def test_a_table_of_fewer_bits_keeps_its_scale(tmp_path: Path) -> None:
    made = dataset(GRAY)
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [256, 0, 12])
    table.add_new("LUTData", "US", [4 * value for value in range(256)])  # a quarter of white at most, and meant
    made.VOILUTSequence = Sequence([table])
    made.save_as(tmp_path / "x", enforce_file_format=True)
    header = pydicom.dcmread(tmp_path / "x")
    np.testing.assert_allclose(
        seen(tmp_path / "x")[:, :, 0], apply_voi(header.pixel_array, header) * (255 / 4095), atol=0.51
    )


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("items", [[], [Dataset()]])
def test_an_empty_sequence_is_none(tmp_path: Path, keyword: str, items: list[Dataset]) -> None:
    plain = seen(write_dicom(tmp_path / "x", DEEP))
    found = seen(write_dicom(tmp_path / "y", DEEP, **{keyword: Sequence(items)}))
    np.testing.assert_array_equal(found, plain)
