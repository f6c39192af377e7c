"""Parametric maps: in the place of their scans, valid in the eyes of another program, and none that would mislead."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="needs scanwise[dicom]")

import pydicom
from pydicom.data import get_testdata_file

from medical_files import write_dicom
from scanwise import bundle
from scanwise.cohort.decoding.readers import DecodedScan
from scanwise.cohort.decoding.streams import read_files
from scanwise.dicom_results import ResultWriter
from scanwise.dicom_results.headers import Placement, carried_headers
from scanwise.dicom_results.maps import build_map, refuse_map
from scanwise.dicom_results.sources import group_by_study
from scanwise.dicom_results.structured_report import ModelIdentity
from scanwise.explanation.voxel_grid import read_voxel_grid
from scanwise.recipe import Data
from scanwise.records import Heatmap
from tiny import Command
from tiny_bundles import write_tiny_bundle

MODEL = ModelIdentity("demo", "ab" * 32)
PLACED: dict[str, Any] = {"PixelSpacing": [2, 3], "FrameOfReferenceUID": "1.2.3.4"}
WAYS = {
    "axial": [1, 0, 0, 0, 1, 0],
    "axial, mirrored": [-1, 0, 0, 0, 1, 0],
    "axial, turned": [0, 1, 0, 1, 0, 0],
    "coronal, upside down": [1, 0, 0, 0, 0, 1],
    "sagittal": [0, 1, 0, 0, 0, -1],
    "oblique": [0.8, 0.6, 0, -0.6, 0.8, 0],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("model") / "bundle", "demo")


def valid(file: Path) -> bool:
    """Whether dciodvfy finds no error; True where it is not installed, for other tests say so."""
    if shutil.which("dciodvfy") is None:
        return True
    done = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False)
    told = (done.stdout + done.stderr).splitlines()
    return "ParametricMap" in "".join(told) and not [line for line in told if line.startswith("Error")]


@pytest.mark.parametrize("shape", ["pad", "stretch"])
@pytest.mark.parametrize("way", WAYS)
def test_map_lies_where_its_scan_lies(way: str, shape: Any, tmp_path: Path) -> None:
    stored = np.zeros((40, 60), np.uint16)
    stored[9:12, 41:44] = 900  # brightest around row 10, column 42
    file = write_dicom(
        tmp_path / "a.dcm", stored, ImageOrientationPatient=WAYS[way], ImagePositionPatient=[-7, 11, 13], **PLACED
    )
    settings = Data(size=120, shape=shape, channels=1)
    (scan,) = read_files([file], settings)
    assert isinstance(scan, DecodedScan)
    heatmap = Heatmap("a", 1, scan.pixels[:, :, 0].astype(np.float32), "cam", 0.5, passed=True)
    (study,), _ = group_by_study([str(file)])
    grid, (source,) = read_voxel_grid(file, settings), study.scans
    assert not refuse_map(heatmap, source, grid)
    placement = Placement(carried_headers([source.header]), "1.2.3", "1.2.3.1")
    built = build_map(placement, MODEL, "mild", heatmap, grid, grid.align(heatmap.values, settings))
    built.save_as(tmp_path / "map.dcm", enforce_file_format=True)
    assert valid(tmp_path / "map.dcm")
    read = pydicom.dcmread(tmp_path / "map.dcm")
    values = np.frombuffer(read.FloatPixelData, "<f4").reshape(read.Rows, read.Columns)
    row, column = (float((np.indices(values.shape)[axis] * values).sum() / values.sum()) for axis in (0, 1))
    shared, frame = read.SharedFunctionalGroupsSequence[0], read.PerFrameFunctionalGroupsSequence[0]
    along = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    spacing = [float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing]
    corner = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
    found = corner + along[0] * column * spacing[1] + along[1] * row * spacing[0]
    way_in = np.array(WAYS[way], float).reshape(2, 3)
    there = np.array([-7, 11, 13]) + way_in[0] * 42 * 3 + way_in[1] * 10 * 2
    np.testing.assert_allclose(found, there, atol=1.0)
    assert read.FrameOfReferenceUID == "1.2.3.4"
    (derived,) = frame.DerivationImageSequence
    assert derived.SourceImageSequence[0].ReferencedSOPInstanceUID == source.uid


def with_frames(measures_of_each: bool, way: str) -> dict[str, Any]:
    """Places of three frames, 5 mm apart, as enhanced objects have them."""

    def item(**values: Any) -> pydicom.Dataset:
        built = pydicom.Dataset()
        for name, value in values.items():
            setattr(built, name, value)
        return built

    measures = {"PixelMeasuresSequence": [item(PixelSpacing=[2, 3], SliceThickness=5)]}
    measures["PlaneOrientationSequence"] = [item(ImageOrientationPatient=WAYS[way])]
    frames = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[-7, 11, 5 * number])],
            **(measures if measures_of_each else {}),
        )
        for number in range(3)
    ]
    return {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1",
        "FrameOfReferenceUID": "1.2.3.4",
        "SharedFunctionalGroupsSequence": [item(**({} if measures_of_each else measures))],
        "PerFrameFunctionalGroupsSequence": frames,
    }


@pytest.mark.parametrize(("measures_of_each", "way"), [(False, "axial"), (True, "axial"), (True, "axial, turned")])
def test_map_of_a_frame_lies_at_that_frame(measures_of_each: bool, way: str, model: Path, tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 900, (3, 40, 60)).astype(np.uint16)
    file = write_dicom(tmp_path / "scans" / "a.dcm", stored, **with_frames(measures_of_each, way))
    loaded = bundle.load(model)
    answer = loaded.predict([f"{file}#{index}" for index in (0, 1, 2)], ["p"] * 3)
    (result,), _ = ResultWriter.of(loaded, "ab" * 32, maps=True).write(answer, tmp_path / "out")
    maps = [name for name in result.objects if name.name.startswith("map-")]
    assert (len(maps), result.notes) == (3, ())
    assert all(map(valid, maps))
    found = set()
    for read in map(pydicom.dcmread, maps):
        frame = read.PerFrameFunctionalGroupsSequence[0]
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        found.add((int(source.ReferencedFrameNumber), float(frame.PlanePositionSequence[0].ImagePositionPatient[2])))
    assert found == {(1, 0.0), (2, 5.0), (3, 10.0)}


def test_map_is_written_beside_the_pages_once_and_refused_where_it_would_mislead(model: Path, tmp_path: Path) -> None:
    loaded = bundle.load(model)
    scans = [Path(str(get_testdata_file("CT_small.dcm")))]
    answer = loaded.predict(scans, ["p"])
    (without,), _ = ResultWriter.of(loaded, "ab" * 32, pages=1).write(answer, tmp_path / "out")
    (result,), _ = ResultWriter.of(loaded, "ab" * 32, pages=1, maps=True).write(answer, tmp_path / "out")
    assert [file.name for file in result.objects] == ["report.dcm", "page-1.dcm", "page-2.dcm", "map-1.dcm"]
    assert (without.uid, result.notes) == (result.uid, ())
    assert valid(result.objects[-1])
    assert result.objects[-1].stat().st_mode & 0o077 == 0
    built, source = pydicom.dcmread(result.objects[-1]), pydicom.dcmread(scans[0])
    assert (built.StudyInstanceUID, built.PatientID) == (source.StudyInstanceUID, source.PatientID)
    assert (built.Rows, built.Columns, built.ContentQualification) == (source.Rows, source.Columns, "RESEARCH")
    before = result.objects[-1].read_bytes()
    (again,), _ = ResultWriter.of(loaded, "ab" * 32, pages=1, maps=True).write(answer, tmp_path / "out")
    assert (again.objects, again.objects[-1].read_bytes()) == (result.objects, before)
    (study,), _ = group_by_study([str(scans[0])])
    grid = read_voxel_grid(scans[0], loaded.recipe.data)
    failed = Heatmap("a", 0, np.ones((2, 2), np.float32), "cam", 0.5, passed=False, reason="blind to its weights")
    assert "failed its checks" in refuse_map(failed, study.scans[0], grid)
    for affine in (np.full((4, 4), np.nan), np.diag([0.0, 0.0, 1.0, 1.0])):
        nowhere = replace(grid, affine=affine)
        assert "where it lies" in refuse_map(replace(failed, passed=True), study.scans[0], nowhere)


@pytest.mark.extended
def test_command_says_which_scans_have_no_map(scanwise: Command, model: Path, tmp_path: Path) -> None:
    write_dicom(tmp_path / "scans" / "a.dcm", np.random.default_rng(0).integers(0, 900, (3, 40, 40)).astype(np.uint16))
    done = scanwise("predict", model, tmp_path / "scans", "--dicom-out", tmp_path / "out", "--parametric-map")
    assert done.code == 0, done.err
    assert "scan 1 of 3 has no parametric map: its header does not say where it lies" in done.err
    refused = scanwise("predict", model, tmp_path / "scans", "--parametric-map")
    assert (refused.code, "--dicom-out" in refused.refusal) == (2, True)
