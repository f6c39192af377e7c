"""The grid of a file: how a map of what the network saw comes back to the file's own pixels, and to its place in space."""

import gzip
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scanwise.cohort.decoding import dicom, nifti, pictures, readers
from scanwise.cohort.decoding.pixels import Source, open_file
from scanwise.recipe import Data
from scanwise.records import FloatArray


@dataclass(frozen=True, slots=True)
class NiftiVolume:
    """The array of a NIfTI file.

    Attributes:
        image: as nibabel opened it; its voxels are not read.
        canonical: lengths of its axes right, front, top.
        axis: along which it is cut.
        index: of the slice.
    """

    image: Any
    canonical: tuple[int, int, int]
    axis: int
    index: int


@dataclass(frozen=True, slots=True)
class VoxelGrid:
    """Rows and columns of one scan in its file.

    Attributes:
        rows, columns: of the scan as it is shown.
        fitted: rows and columns that the reader brought to the network's size: others where voxels are no cubes.
        affine: (4, 4) from (column, row, 0) of the scan as shown to millimetres right, front, top; NaN where the file does
            not say.
        volume: of a NIfTI file, else None.
    """

    rows: int
    columns: int
    fitted: tuple[int, int]
    affine: NDArray[np.float64]
    volume: NiftiVolume | None = None

    @property
    def spacing(self) -> NDArray[np.float64]:
        """(2,) millimetres from row to row and from column to column; NaN where the file does not say."""
        return np.asarray(np.linalg.norm(self.affine[:3, [1, 0]], axis=0))

    def align(self, values: FloatArray, settings: Data) -> FloatArray:
        """(rows, columns): a map (size, size) on this grid; what the reader did is undone."""
        side = values.shape[0]
        if settings.shape == "pad":
            rows, columns = self.fitted
            longest = max(rows, columns)
            high, wide = max(1, round(rows / longest * side)), max(1, round(columns / longest * side))
            top, left = round((side - high) * 0.5), round((side - wide) * 0.5)  # as Pillow's `ImageOps.pad` rounds
            values = values[top : top + high, left : left + wide]
        picture = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
        return np.asarray(picture.resize((self.columns, self.rows), Image.Resampling.BILINEAR), dtype=np.float32)

    def holding(self, aligned: FloatArray) -> bytes | None:
        """A gzipped NIfTI that holds the map and zeros: the shape, axes and place of the file; None where the file does not
        say where it lies."""
        import nibabel

        if self.volume is not None:
            image = nibabel.Nifti1Image(_placed(self.volume, aligned), nifti.affine_of(self.volume.image))  # type: ignore[no-untyped-call]
        elif np.isfinite(self.affine).all():
            image = nibabel.Nifti1Image(aligned.T[:, :, None], self.affine)  # type: ignore[no-untyped-call]
        else:
            return None
        image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
        return gzip.compress(image.to_bytes(), mtime=0)


def read_voxel_grid(file: Source, settings: Data) -> VoxelGrid:
    """The grid of a scan that was read before.

    Args:
        file: of the scan; or a slice of one, such as `x.nii.gz#045`.
        settings: of the recipe that read it.
    """
    whole, index = readers.locate_scan(file)
    with open_file(whole) as stream:
        kind = readers.kind_of(stream.read(readers.HEAD))
    if kind == "nifti":
        return _of_volume(whole, index or 0, settings)
    if kind == "dicom":
        geometry = dicom.read_geometry(whole, index or 0)
        affine = np.full((4, 4), np.nan) if geometry.affine is None else geometry.affine
        return VoxelGrid(geometry.rows, geometry.columns, geometry.fitted_size(settings), affine)
    with open_file(whole) as stream:
        rows, columns = pictures.decode_picture(stream.read(), index).shape[:2]
    return VoxelGrid(rows, columns, (rows, columns), np.full((4, 4), np.nan))


def _of_volume(file: Source, index: int, settings: Data) -> VoxelGrid:
    from nibabel.orientations import inv_ornt_aff

    image = nifti.read_image(file)
    turned, shape = nifti.orientation_of(image), (*image.shape[:3], 1, 1)[:3]
    canonical = nifti.canonical_shape(image)
    axis = nifti.cutting_axis(canonical, settings)
    across, along = (position for position in range(3) if position != axis)
    width, height = canonical[across], canonical[along]
    # Shown, a slice is turned by half: its first column is the rightmost, its first row the foremost or topmost.
    shown = np.zeros((4, 4))
    shown[across, [0, 3]] = -1, width - 1
    shown[along, [1, 3]] = -1, height - 1
    shown[axis, [2, 3]] = 1, index
    shown[3, 3] = 1
    original = nifti.affine_of(image)
    affine = np.full((4, 4), np.nan) if original is None else original @ inv_ornt_aff(turned, shape) @ shown  # type: ignore[no-untyped-call]
    fitted = nifti.shown_size(canonical, image, settings)
    volume = NiftiVolume(image, canonical, axis, index)
    return VoxelGrid(height, width, fitted, np.asarray(affine, dtype=np.float64), volume)


def _placed(volume: NiftiVolume, aligned: FloatArray) -> NDArray[np.float32]:
    """The map in its slice, on the axes of the file."""
    from nibabel.orientations import apply_orientation, ornt_transform

    values = np.zeros(volume.canonical, dtype=np.float32)
    index: list[Any] = [slice(None)] * 3
    index[volume.axis] = volume.index
    values[tuple(index)] = aligned.T[::-1, ::-1]  # as `nifti` turned it, the other way
    plain = np.array([[0, 1], [1, 1], [2, 1]])
    back = ornt_transform(plain, nifti.orientation_of(volume.image))  # type: ignore[no-untyped-call]
    return np.asarray(apply_orientation(values, back), dtype=np.float32)  # type: ignore[no-untyped-call]
