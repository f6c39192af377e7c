"""A map comes back to the pixels of its file, and to its place in space."""

import warnings
from pathlib import Path

import fsspec
import nibabel
import numpy as np
import pytest

from medical_files import shipped
from scanwise.cohort.decoding.pixels import RemoteScan
from scanwise.cohort.decoding.readers import read_slices, resize
from scanwise.explanation.voxel_grid import VoxelGrid, read_voxel_grid
from scanwise.recipe import Data
from tiny import picture


@pytest.mark.parametrize("name", ["x.nii.gz", "x.dcm", "x.png"])
def test_the_grid_of_a_file_at_a_url_is_that_of_the_file(name: str, tmp_path: Path) -> None:
    file, index = tmp_path / name, 3 if name == "x.nii.gz" else None
    if name == "x.nii.gz":
        nibabel.save(nibabel.Nifti1Image(np.zeros((9, 8, 7), np.float32), np.diag([2.0, 3, 4, 1])), file)
    elif name == "x.png":
        picture(0, 0).save(file)
    else:
        file.write_bytes(shipped("CT_small.dcm").read_bytes())
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/grid/{name}", file.read_bytes())
    here, there = (
        read_voxel_grid(source, Data(size=32))
        for source in (file if index is None else Path(f"{file}#{index}"), RemoteScan(f"memory://grid/{name}", index))
    )
    assert (there.rows, there.columns, there.fitted) == (here.rows, here.columns, here.fitted)
    np.testing.assert_array_equal(there.affine, here.affine)
    values = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    assert there.holding(there.align(values, Data(size=32))) == here.holding(here.align(values, Data(size=32)))
    memory.rm("/grid", recursive=True)


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("axes", ["RAS", "LPI", "SAL"])
def test_a_map_of_a_volume_lies_on_the_volumes_own_voxels(axis: str, axes: str, tmp_path: Path) -> None:
    """Files whose axes run otherwise than the reader's and whose voxels are no cubes: the map comes back to the spot."""
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    settings = Data(size=64, channels=1, axis=axis, shape="pad", percentiles=(0, 100))
    shown = np.zeros((20, 26, 16), np.float32)
    shown[13:17, 4:8, 9:12] = 1  # right, back, top
    plain = nibabel.Nifti1Image(shown, np.array([[2.0, 0, 0, -7], [0, 3.0, 0, 5], [0, 0, 4.0, 1], [0, 0, 0, 1]]))
    volume = plain.as_reoriented(ornt_transform(io_orientation(plain.affine), axcodes2ornt(axes)))
    nibabel.save(volume, tmp_path / "x.nii.gz")
    index = {"axial": 10, "coronal": 6, "sagittal": 15}[axis]
    scan = read_slices(tmp_path / "x.nii.gz", [index], settings)[0]
    assert not isinstance(scan, str)
    grid = read_voxel_grid(tmp_path / f"x.nii.gz#{index:03d}", settings)
    aligned = grid.align(scan.pixels[..., 0].astype(np.float32), settings)
    content = grid.holding(aligned)
    assert content is not None
    (tmp_path / "map.nii.gz").write_bytes(content)
    back = nibabel.load(tmp_path / "map.nii.gz")
    assert back.shape == volume.shape
    np.testing.assert_allclose(back.affine, volume.affine)
    assert back.header.get_zooms() == volume.header.get_zooms()
    values, spot = back.get_fdata(), volume.get_fdata() > 0
    there = spot & (values > 0)
    centre = (np.indices(values.shape) * values).sum(axis=(1, 2, 3)) / values.sum()
    np.testing.assert_allclose(centre, np.argwhere(there).mean(axis=0), atol=0.1)
    row, column = (np.indices(aligned.shape) * aligned).sum(axis=(1, 2)) / aligned.sum()
    middle = volume.affine @ [*np.argwhere(there).mean(axis=0), 1]
    np.testing.assert_allclose(grid.affine @ [column, row, 0, 1], middle, atol=0.3)


@pytest.mark.parametrize("columns", [20, 40, 90])
@pytest.mark.parametrize("shape", ["pad", "stretch"])
def test_aligning_undoes_what_the_reader_did(shape: str, columns: int) -> None:
    settings = Data(size=64, shape=shape)
    image = np.zeros((39, columns, 1), np.uint8)
    image[20:30, columns // 2 : columns // 2 + 6] = 255
    grid = VoxelGrid(39, columns, (39, columns), np.full((4, 4), np.nan))
    back = grid.align(resize(image, settings)[..., 0].astype(np.float32), settings)
    assert back.shape == (39, columns)
    centres = [
        (np.indices(one.shape) * one).sum(axis=(1, 2)) / one.sum() for one in (back, image[..., 0].astype(float))
    ]
    np.testing.assert_allclose(*centres, atol=0.2)
    assert grid.holding(back) is None  # a picture lies nowhere
    assert np.isnan(grid.spacing).all()


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_a_map_of_a_real_dicom_lies_in_the_patients_space(name: str) -> None:
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its own reader experimental
        from nibabel.nicom.dicomwrappers import wrapper_from_data

    settings, header = Data(size=96, channels=1, shape="pad"), pydicom.dcmread(shipped(name))
    scan = read_slices(shipped(name), [None], settings)[0]
    assert not isinstance(scan, str)
    grid = read_voxel_grid(shipped(name), settings)
    aligned = grid.align(scan.pixels[..., 0].astype(np.float32), settings)
    assert aligned.shape == header.pixel_array.shape
    assert (
        np.corrcoef(np.argsort(np.argsort(aligned.ravel())), np.argsort(np.argsort(header.pixel_array.ravel())))[0, 1]
        > 0.9
    )
    np.testing.assert_allclose(grid.spacing, header.PixelSpacing)
    other = np.diag([-1, -1, 1, 1]) @ wrapper_from_data(header).affine  # it counts to the left, and rows first
    for row, column in ((0, 0), (5, 60), (40, 3)):
        np.testing.assert_allclose(grid.affine @ [column, row, 0, 1], other @ [row, column, 0, 1], atol=1e-6)
