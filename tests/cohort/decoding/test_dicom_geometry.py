"""A frame is shown in one pose, whichever way it was stored, and its place in the patient goes with it."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from medical_files import write_dicom, write_nifti
from scanwise.cohort.decoding import dicom, nifti
from scanwise.cohort.decoding.dicom_geometry import Pose
from scanwise.recipe import Data

WHOLE = Data(percentiles=(0, 100))
STORED = np.random.default_rng(0).integers(0, 4096, (12, 10)).astype(np.uint16)
STANDARD = {"axial": [1, 0, 0, 0, 1, 0], "coronal": [1, 0, 0, 0, 0, -1], "sagittal": [0, 1, 0, 0, 0, -1]}
PLACE = {"ImagePositionPatient": [-5, -7, 3], "PixelSpacing": [0.5, 0.25], "SliceThickness": 4}


def seen(file: Path, settings: Data = WHOLE) -> np.ndarray:
    (found,) = dicom.decode_dicom(file.read_bytes(), [None], settings)
    assert not isinstance(found, str), found
    return found[:, :, 0]


@pytest.mark.parametrize("plane", STANDARD)
def test_what_scanners_usually_store_stays_as_it_is(tmp_path: Path, plane: str) -> None:
    plain = seen(write_dicom(tmp_path / "x", STORED))
    np.testing.assert_array_equal(
        seen(write_dicom(tmp_path / "y", STORED, ImageOrientationPatient=STANDARD[plane])), plain
    )


@pytest.mark.parametrize("plane", STANDARD)
@pytest.mark.parametrize(("turned", "upside_down", "mirrored"), list(itertools.product([False, True], repeat=3)))
def test_every_other_way_of_storing_it_is_undone(
    tmp_path: Path, plane: str, turned: bool, upside_down: bool, mirrored: bool
) -> None:
    expected = seen(write_dicom(tmp_path / "x", STORED))
    along, down = np.array(STANDARD[plane][:3]), np.array(STANDARD[plane][3:])
    stored = STORED
    if mirrored:
        stored, along = stored[:, ::-1], -along
    if upside_down:
        stored, down = stored[::-1], -down
    if turned:
        stored, along, down = stored.T, down, along
    file = write_dicom(
        tmp_path / "y", np.ascontiguousarray(stored), ImageOrientationPatient=[*along.tolist(), *down.tolist()]
    )
    np.testing.assert_array_equal(seen(file), expected)


@pytest.mark.parametrize("plane", STANDARD)
@pytest.mark.parametrize("signs", list(itertools.product([1, -1], repeat=2)))
@pytest.mark.parametrize("turned", [False, True])
def test_it_is_the_pose_of_a_slice_of_a_volume(
    tmp_path: Path, plane: str, signs: tuple[int, int], turned: bool
) -> None:
    """A DICOM frame, and the same pixels with the same place in a NIfTI file of one slice."""
    along, down = signs[0] * np.array(STANDARD[plane][:3]), signs[1] * np.array(STANDARD[plane][3:])
    along, down = (down, along) if turned else (along, down)
    file = write_dicom(tmp_path / "x", STORED, ImageOrientationPatient=[*along.tolist(), *down.tolist()])
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([along, down, np.cross(along, down)])
    affine[:2] *= -1
    volume = write_nifti(tmp_path / "x.nii", STORED.T[:, :, None].astype(np.int32), affine)
    (found,) = nifti.decode_nifti(volume.read_bytes(), [None], Data(percentiles=(0, 100), axis=plane))
    np.testing.assert_array_equal(seen(file), np.asarray(found)[:, :, 0])


@pytest.mark.parametrize(
    "directions", [[0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0], [2, 0, 0, 0, 2, 0], [-1, 0, 0, -0.5, 0.8, 0]]
)
def test_directions_that_cannot_be_say_nothing(tmp_path: Path, directions: list[float]) -> None:
    plain = seen(write_dicom(tmp_path / "x", STORED))
    np.testing.assert_array_equal(seen(write_dicom(tmp_path / "y", STORED, ImageOrientationPatient=directions)), plain)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("signs", list(itertools.product([1, -1], repeat=2)))
def test_the_place_of_a_pixel_goes_with_it(tmp_path: Path, signs: tuple[int, int], turned: bool) -> None:
    """The brightest pixel lies where the stored header says, found by the affine of the picture as shown."""
    stored = np.zeros((12, 10), np.uint16)
    stored[2, 7] = 1000
    along, down = np.array([signs[0], 0, 0]), np.array([0, signs[1], 0])
    along, down = (down, along) if turned else (along, down)
    tags = {**PLACE, "ImageOrientationPatient": [*along.tolist(), *down.tolist()]}
    file = write_dicom(tmp_path / "x", stored, **tags)
    row, column = np.unravel_index(seen(file).argmax(), seen(file).shape)
    geometry = dicom.read_geometry(file)
    assert (geometry.rows, geometry.columns) == seen(file).shape
    assert geometry.affine is not None
    left_back_top = np.array(PLACE["ImagePositionPatient"]) + 7 * 0.25 * along + 2 * 0.5 * down
    np.testing.assert_allclose(geometry.affine @ [column, row, 0, 1], [*(-1, -1, 1) * left_back_top, 1])
    assert geometry.ratio == (0.5 if turned else 2.0)


@pytest.mark.parametrize(
    ("tags", "size"),
    [
        ({"PixelSpacing": [2, 1]}, (24, 10)),
        ({"PixelSpacing": [1, 2]}, (12, 20)),
        ({"ImagerPixelSpacing": [0.3, 0.1]}, (36, 10)),
        ({"PixelAspectRatio": [2, 1]}, (24, 10)),
        ({"PixelSpacing": [1, 1], "PixelAspectRatio": [2, 1]}, (12, 10)),
        ({"PixelSpacing": [2, 1], "ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, (10, 24)),
        ({"PixelSpacing": [100, 1]}, (12, 10)),
        ({"PixelSpacing": [0, 1]}, (12, 10)),
        ({}, (12, 10)),
    ],
)
def test_where_proportions_are_kept_pixels_become_square(
    tmp_path: Path, tags: dict[str, object], size: tuple[int, int]
) -> None:
    file = write_dicom(tmp_path / "x", STORED, **tags)
    assert seen(file, Data(shape="pad")).shape == size
    assert dicom.read_geometry(file).fitted_size(Data(shape="pad")) == size
    assert set(seen(file).shape) == {12, 10}


def test_a_tilted_frame_takes_the_nearest_plane() -> None:
    for angle in (-40, 0, 40):
        tilt = np.radians(angle)
        down = np.array([0, np.cos(tilt), np.sin(tilt)])
        assert Pose.from_directions(np.array([1.0, 0, 0]), down) == Pose()
        assert Pose.from_directions(np.array([-1.0, 0, 0]), -down) == Pose(upside_down=True, mirrored=True)
