"""A folder of everything that can be wrong: no crash, no hang, nothing lost, and each named in the quarantine."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohort_scans import Scans

from medical_files import dataset, shipped, write_dicom, write_nifti
from scanwise import cohort
from scanwise.recipe import Recipe

RECIPE = Recipe.model_validate({"name": "a", "data": {"size": 16}})
RANDOM = np.random.default_rng(0)


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims so many pixels and holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def wrongs(folder: Path) -> dict[str, str]:
    """Fill a folder; returns what is wrong with each of its files, by a word of the reason."""
    folder.mkdir(parents=True, exist_ok=True)
    report = dataset(np.zeros((2, 2), np.uint8))
    del report.PixelData
    report.save_as(folder / "no pixels", enforce_file_format=True)
    whole = write_dicom(folder / "whole", RANDOM.integers(0, 9, (30, 30)).astype(np.uint16)).read_bytes()
    (folder / "whole").unlink()
    (folder / "cut.dcm").write_bytes(whole[:-500])
    (folder / "cut in the header").write_bytes(whole[:300])
    (folder / "cut jpeg").write_bytes(shipped("MR_small_jp2klossless.dcm").read_bytes()[:-3000])
    huge = dataset(np.zeros((4, 4), np.uint8))
    huge.Rows = huge.Columns = 65535
    huge.save_as(folder / "bomb", enforce_file_format=True)
    (folder / "bomb.png").write_bytes(bomb(100_000, 100_000))
    (folder / "Ünïcode 脳\nnew line.png").write_bytes(b"")
    (folder / "notes").write_text("x")
    (folder / "itself").symlink_to(folder / "itself")
    (folder / "up").symlink_to(folder.parent)
    os.mkfifo(folder / "pipe")
    holed = RANDOM.integers(0, 9, (6, 6, 2)).astype(np.float32)
    holed[1, 1, 0] = np.nan
    write_nifti(folder / "holed.nii.gz", holed)
    write_nifti(folder / "empty.nii.gz", np.full((5, 5, 1), np.nan, np.float32))
    write_nifti(folder / "half.nii.gz", holed)
    (folder / "half.nii.gz").write_bytes((folder / "half.nii.gz").read_bytes()[:-20])
    return {
        "no pixels": "without pixels",
        "cut.dcm": "truncated",
        "cut in the header": "truncated",
        "cut jpeg": "truncated",
        "bomb": "limit",
        "bomb.png": "limit",
        "Ünïcode 脳\nnew line.png": "empty",
        "notes": "not an image",
        "itself": "cannot be opened",
        "up": "link to a folder",
        "pipe": "neither a file",
        "holed.nii.gz#000": "NaN",
        "empty.nii.gz": "NaN",
        "half.nii.gz#000": "truncated",
        "half.nii.gz#001": "truncated",
    }


def test_each_is_named_and_the_rest_is_used(scans: Scans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWISE_KEY", "a key")
    root = scans.classes(each=3)
    expected = {
        f"MildDemented/bad ones/{name}": said for name, said in wrongs(root / "MildDemented" / "bad ones").items()
    }
    (root / "NonDemented" / "locked").mkdir()
    expected["NonDemented/locked"] = "cannot be read"
    scandir = os.scandir

    def refusing(place: Any) -> Any:
        if Path(place).name == "locked":
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)
    intake = cohort.read_cohort(str(root), RECIPE)
    told = dict(intake.quarantine)
    assert told.keys() == expected.keys()
    for path, said in expected.items():
        assert said in told[path], (path, told[path])
    assert len(intake.cohort) == 7  # six pictures, and the slice without NaN
    assert len(told) == len(intake.quarantine)


@pytest.mark.slow
def test_two_hundred_thousand_tiny_files(tmp_path: Path) -> None:
    """Listing, hashing and decoding grow with the number of files and no faster; each that is junk is named."""
    count, header = (
        200_000,
        b"BM"
        + struct.pack("<IHHI", 1086, 0, 0, 1078)
        + struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 8, 0, 8, 0, 0, 256, 0),
    )
    palette = b"".join(bytes([shade, shade, shade, 0]) for shade in range(256))
    junk = set()
    for index in range(count):
        folder = tmp_path / "data" / "ab"[index % 2] / f"p{index // 500}"
        if index % 500 < 2:
            folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{index}.bmp"
        if index % 1000 == 7:
            file.write_bytes(b"x")
            junk.add(file.relative_to(tmp_path / "data").as_posix())
        else:
            file.write_bytes(header + palette + struct.pack("<II", index, 7 * index))
    intake = cohort.read_cohort(str(tmp_path / "data"), RECIPE, r"/(p\d+)/")
    assert {path for path, _ in intake.quarantine} == junk
    assert len(intake.cohort) == count - len(junk)
    assert len(set(intake.cohort.pixels.tolist())) == count - len(junk)
