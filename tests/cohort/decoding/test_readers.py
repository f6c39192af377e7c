"""Scans come in one size, and with hashes of their bytes and pixels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medical_files import write_dicom, write_nifti
from picture_files import COLOUR, GRAY, packed, png
from scanwise.cohort.decoding.pixels import ScanBytes
from scanwise.cohort.decoding.readers import digest, read_file, read_scan, resize
from scanwise.cohort.decoding.streams import read_files
from scanwise.cohort.slice_expansion import scans_of
from scanwise.recipe import Data


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pixels", [GRAY, COLOUR])
def test_every_scan_gets_the_size_and_channels_of_the_recipe(channels: int, pixels: np.ndarray) -> None:
    scan = read_scan(png(pixels), Data(size=16, channels=channels))
    assert scan.pixels.shape == (16, 16, channels)
    assert scan.pixels.dtype == np.uint8


def test_padding_keeps_the_proportions_and_stretching_does_not() -> None:
    wide = np.full((16, 64, 1), 200, dtype=np.uint8)
    padded = resize(wide, Data(size=32, shape="pad"))[:, :, 0]
    assert (padded[:12] == 0).all()
    assert (padded[12:20] == 200).all()
    assert (padded[20:] == 0).all()
    assert (resize(wide, Data(size=32)) == 200).all()


def test_shrinking_averages_and_does_not_skip() -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))[:, :, None]
    assert np.abs(resize(stripes, Data(size=16)).astype(int) - 127).max() < 20


def test_hashes_are_of_the_bytes_and_of_the_pixels() -> None:
    settings = Data(size=16)
    one, other = read_scan(png(GRAY), settings), read_scan(packed(Image.fromarray(GRAY), "BMP"), settings)
    assert one.sha256 != other.sha256
    assert one.digest == other.digest
    touched = GRAY.copy()
    touched[0, 0] ^= 1
    assert read_scan(png(touched), settings).digest != one.digest
    assert digest(GRAY[:, :, None]) != digest(GRAY.reshape(10, 12)[:, :, None])
    assert read_scan(png(np.zeros_like(GRAY)), settings).digest == ""


def test_contents_are_read_as_the_files_that_hold_them(tmp_path: Path) -> None:
    """Bytes and paths give the same scans, of one slice and of many, and a name leads to no file."""
    volume = np.random.default_rng(0).integers(0, 900, (9, 8, 5)).astype(np.int16)
    write_nifti(tmp_path / "a.nii", volume)
    write_dicom(tmp_path / "b.dcm", volume[:, :, 0].astype(np.uint16))
    (tmp_path / "c.png").write_bytes(png(GRAY))
    (tmp_path / "d.png").write_bytes(b"nothing")
    settings = Data(size=16)
    for file in sorted(tmp_path.iterdir()):
        content = ScanBytes(f"../../{file.name}", file.read_bytes())
        scans, others = scans_of(file, settings), scans_of(content, settings)
        assert [end for _, end in scans] == [end for _, end in others]
        read, again = (list(read_files([scan for scan, _ in found], settings)) for found in (scans, others))
        assert len(read) == (5 if file.suffix == ".nii" else 1)
        for one, other in zip(read, again, strict=True):
            if isinstance(one, str) or isinstance(other, str):
                assert one == other
            else:
                assert (one.sha256, one.digest) == (other.sha256, other.digest)
                assert np.array_equal(one.pixels, other.pixels)
    assert isinstance(read_file(ScanBytes(str(tmp_path / "c.png"), b""), settings), str)
