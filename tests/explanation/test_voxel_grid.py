"""A map comes back to the pixels of its file, and to its place in space."""

from pathlib import Path

import fsspec
import nibabel
import numpy as np
import pytest
from pydicom.data import get_testdata_file

from scanwise.cohort.decoding.pixels import RemoteScan
from scanwise.explanation import voxel_grid
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
        file.write_bytes(Path(str(get_testdata_file("CT_small.dcm", download=False))).read_bytes())
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/grid/{name}", file.read_bytes())
    here, there = (
        voxel_grid.read_voxel_grid(source, Data(size=32))
        for source in (file if index is None else Path(f"{file}#{index}"), RemoteScan(f"memory://grid/{name}", index))
    )
    assert (there.rows, there.columns, there.fitted) == (here.rows, here.columns, here.fitted)
    np.testing.assert_array_equal(there.affine, here.affine)
    values = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    assert there.holding(there.align(values, Data(size=32))) == here.holding(here.align(values, Data(size=32)))
    memory.rm("/grid", recursive=True)
