"""Place, pose and proportions of the pixels of a DICOM frame (PS3.3, C.7.6.2).

Frames are shown in the pose that slices of NIfTI volumes have: the front or the top of the head above, and the patient's
right hand on the left side (in sagittal slices the front on the left). Scanners store nearly all frames so; the others are
flipped or turned by a quarter. A frame whose header does not say how it lies stays as it is.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scanwise.cohort.decoding.dicom_header import number_of, numbers, of_frame, whole
from scanwise.cohort.decoding.pixels import Pixels, size_in_proportion

if TYPE_CHECKING:
    from pydicom import Dataset

    from scanwise.recipe import Data

# The direction of a growing column and of a growing row, by the axis across the slice: axes of the patient (left, back,
# top), and which way along them.
_SHOWN = {0: ((1, 1), (2, -1)), 1: ((0, 1), (2, -1)), 2: ((0, 1), (1, 1))}
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")


@dataclass(frozen=True, slots=True)
class Pose:
    """The way from the stored frame to the one that is shown.

    Attributes:
        turned: whether rows and columns change places, before anything is flipped.
        upside_down: whether the last row becomes the first.
        mirrored: whether the last column becomes the first.
    """

    turned: bool = False
    upside_down: bool = False
    mirrored: bool = False

    @classmethod
    def from_directions(cls, along: NDArray[np.float64], down: NDArray[np.float64]) -> "Pose":
        """The pose of a frame.

        Args:
            along, down: (3,) the direction of a growing column and of a growing row: left, back, top. Directions that are
                not of length 1 and square to each other say nothing.
        """
        lengths = np.linalg.norm([along, down], axis=1)
        if (np.abs(lengths - 1) > 0.1).any() or abs(float(along @ down)) > 0.1:
            return cls()
        across = int(np.abs(np.cross(along, down)).argmax())
        (column, right), (row, below) = _SHOWN[across]
        turned = bool(abs(along[column]) + abs(down[row]) < abs(down[column]) + abs(along[row]))
        along, down = (down, along) if turned else (along, down)
        return cls(turned, bool(down[row] * below < 0), bool(along[column] * right < 0))

    def apply(self, pixels: Pixels) -> Pixels:
        """(H, W, C) or (W, H, C) pixels as they are shown."""
        pixels = pixels.swapaxes(0, 1) if self.turned else pixels
        return np.ascontiguousarray(pixels[:: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1])

    def stored_from_shown(self, rows: int, columns: int) -> NDArray[np.float64]:
        """(4, 4) from (column, row, 0) as shown to (column, row, 0) as stored.

        Args:
            rows, columns: of the frame as shown.
        """
        flipped = np.eye(4)
        if self.mirrored:
            flipped[0, [0, 3]] = -1, columns - 1
        if self.upside_down:
            flipped[1, [1, 3]] = -1, rows - 1
        return flipped[[1, 0, 2, 3]] if self.turned else flipped


@dataclass(frozen=True, slots=True)
class FrameGeometry:
    """Place, pose and proportions of one frame.

    Attributes:
        rows, columns: of the frame as shown.
        pose: from the frame as stored to the frame as shown.
        ratio: height of a pixel as shown by its width; NaN where the header does not say.
        affine: (4, 4) from (column, row, 0) as shown to millimetres right, front, top, as NIfTI counts them; None where the
            header does not say. Its third column is as long as the slice is thick.
    """

    rows: int
    columns: int
    pose: Pose
    ratio: float
    affine: NDArray[np.float64] | None

    def fitted_size(self, settings: "Data") -> tuple[int, int]:
        """(H, W) with pixels as high as they are wide, where a recipe keeps proportions."""
        if settings.shape != "pad":
            return self.rows, self.columns
        return size_in_proportion(self.rows, self.columns, self.ratio)


def geometry_of(header: "Dataset", index: int) -> FrameGeometry:
    """The geometry of a frame, as the header has it."""
    measures = of_frame(header, index, "PixelMeasuresSequence")
    rows, columns = whole(header, "Rows"), whole(header, "Columns")
    directions = numbers(of_frame(header, index, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    pose = Pose()
    if directions is not None:
        pose = Pose.from_directions(np.array(directions[:3]), np.array(directions[3:]))
    spacings = (numbers(measures, name, 2) for name in _SPACINGS)
    high, wide = next((spacing for spacing in spacings if spacing is not None and min(spacing) > 0), (np.nan, np.nan))
    if pose.turned:
        rows, columns, high, wide = columns, rows, wide, high
    affine = _affine_of(header, index, measures, directions)
    if affine is not None:
        thickness = affine[:, 2].copy()
        affine = affine @ pose.stored_from_shown(rows, columns)
        affine[:, 2] = thickness
    return FrameGeometry(rows, columns, pose, high / wide, affine)


def _affine_of(
    header: "Dataset", index: int, measures: "Dataset", directions: list[float] | None
) -> NDArray[np.float64] | None:
    """From (column, row, 0) as stored to millimetres."""
    spacing = numbers(measures, "PixelSpacing", 2)
    position = numbers(of_frame(header, index, "PlanePositionSequence"), "ImagePositionPatient", 3)
    if spacing is None or position is None or directions is None:
        return None
    thick = number_of(measures, "SliceThickness") or number_of(measures, "SpacingBetweenSlices") or 1.0
    along, down = np.array(directions[:3]), np.array(directions[3:])  # of a growing column and of a growing row
    affine = np.eye(4)
    affine[:3] = np.column_stack([along * spacing[1], down * spacing[0], np.cross(along, down) * thick, position])
    affine[:2] *= -1  # DICOM counts to the left and to the back
    return affine


def position_of(header: "Dataset", index: int) -> str:
    """Millimetres along the normal of the slice, or else the header's slice location; "" where neither is said."""
    position = numbers(of_frame(header, index, "PlanePositionSequence"), "ImagePositionPatient", 3)
    turn = numbers(of_frame(header, index, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    if position is not None and turn is not None:
        along: float | None = float(np.dot(np.cross(turn[:3], turn[3:]), position))
    else:
        along = number_of(header, "SliceLocation") if whole(header, "NumberOfFrames") <= 1 else None
    return "" if along is None else f"{along:.2f}".replace("-0.00", "0.00")
