"""From the stored values of a DICOM frame to shades of gray.

Values are rescaled to the units of the modality and shown through a window; formulas are those of DICOM PS3.3, C.11.1
and C.11.2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scanwise.cohort.decoding.dicom_header import number_of, of_frame, text, whole
from scanwise.cohort.decoding.lookup_tables import LookupTable, read_table
from scanwise.cohort.decoding.pixels import Pixels, UnreadableScan, row_blocks

if TYPE_CHECKING:
    from pydicom import Dataset

    from scanwise.recipe import Data

Shade = Callable[[NDArray[Any]], NDArray[np.float64]]
"""From units to the share of white, which may be below 0 or above 1."""


def apply_window(stored: NDArray[Any], header: "Dataset", index: int, settings: "Data", *, little: bool) -> Pixels:
    """(H, W) uint8, black low.

    Args:
        stored: (H, W) values as the file has them.
        header: of the file.
        index: of the frame.
        settings: of a recipe.
        little: whether the file is little-endian.

    Raises:
        UnreadableScan: if the values are no numbers, or a table of the header cannot be understood.
    """
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        raise UnreadableScan("holds NaN or infinite pixels")
    rescale = _rescale(header, index, little=little, signed=stored.dtype.kind == "i")
    padding = _padding(stored, header)
    window = _window(header, index) if settings.window == "header" else None
    if isinstance(settings.window, tuple):
        window = (*settings.window, "LINEAR_EXACT")
    table = None
    if settings.window == "header" and window is None:
        negative = bool(min(rescale.apply(np.array([stored.min(), stored.max()]))) < 0)
        table = read_table(header, "VOILUTSequence", little=little, signed=negative)
    if window is not None:
        shade: Shade = partial(_windowed, centre=window[0], width=window[1], function=window[2])
    elif table is not None:
        shade = partial(_shaded, table=table)
    elif rescale.is_identity and whole(header, "BitsStored") == 8 and stored.dtype == np.uint8:
        shade = partial(_spread, low=0.0, high=255.0)
    else:
        inside = stored[~padding] if padding.any() else stored
        low, high = rescale.limits(inside, settings.percentiles)
        shade = partial(_spread, low=low, high=high)
    gray = np.empty(stored.shape, dtype=np.uint8)
    for rows in row_blocks(stored):
        gray[rows] = np.rint(255 * np.clip(shade(rescale.apply(stored[rows])), 0, 1))
    # What the scanner filled in around the picture is black, whichever end of the scale is.
    gray[padding] = 255 if text(header, "PhotometricInterpretation") == "MONOCHROME1" else 0
    return gray


@dataclass(frozen=True, slots=True)
class Rescale:
    """The way from stored values to the units of the modality, such as Hounsfield units.

    Attributes:
        slope, intercept: of a straight line.
        table: in its place, where the header has one.
    """

    slope: float = 1.0
    intercept: float = 0.0
    table: LookupTable | None = None

    @property
    def is_identity(self) -> bool:
        """Whether stored values are the units."""
        return self == Rescale()

    def apply(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Units of stored values of any shape."""
        if self.table is not None:
            return self.table.apply(stored)
        return stored if self.is_identity else stored.astype(np.float64) * self.slope + self.intercept

    def limits(self, stored: NDArray[Any], percentiles: tuple[float, float]) -> tuple[float, float]:
        """Two percentiles of the units; the least and the most where these are the same."""
        values = stored if self.table is None else self.table.apply(stored)
        low, high = np.percentile(values, percentiles if self.slope > 0 else [100 - share for share in percentiles])
        if low == high:
            low, high = (values.min(), values.max())[:: 1 if self.slope > 0 else -1]
        return float(low) * self.slope + self.intercept, float(high) * self.slope + self.intercept


def _rescale(header: "Dataset", index: int, *, little: bool, signed: bool) -> Rescale:
    table = read_table(header, "ModalityLUTSequence", little=little, signed=signed)
    if table is not None:
        return Rescale(table=table)
    sequence = of_frame(header, index, "PixelValueTransformationSequence")
    # A slope of 0 would leave nothing to see.
    return Rescale(number_of(sequence, "RescaleSlope") or 1.0, number_of(sequence, "RescaleIntercept") or 0.0)


def _padding(stored: NDArray[Any], header: "Dataset") -> NDArray[np.bool_]:
    """Mask of the padding: pixels that the file marks as no part of the image."""
    name = "FloatPixelPadding" if stored.dtype.kind == "f" else "PixelPadding"
    value, limit = number_of(header, f"{name}Value"), number_of(header, f"{name}RangeLimit")
    if value is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    limit = value if limit is None else limit
    if stored.dtype.kind != "f":
        value, limit = (_folded(number, whole(header, "BitsAllocated"), stored.dtype) for number in (value, limit))
    low, high = sorted((value, limit))
    inside: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return inside if not inside.all() else np.zeros_like(inside)


def _folded(value: float, bits: int, dtype: np.dtype[Any]) -> int:
    """A whole number as pixels have it: headers write -2000 as 63536, and the other way, too."""
    size = 1 << bits
    folded: int = int(value) % size
    return folded - size if dtype.kind == "i" and folded >= size // 2 else folded


def _window(header: "Dataset", index: int) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window, or None where there is none that can be applied."""
    sequence = of_frame(header, index, "FrameVOILUTSequence")
    centre, width = number_of(sequence, "WindowCenter"), number_of(sequence, "WindowWidth")
    function = text(sequence, "VOILUTFunction") or "LINEAR"
    if centre is None or width is None or width < (1 if function == "LINEAR" else 1e-12):
        return None
    return centre, width, function


def _windowed(units: NDArray[Any], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """The share of white, by PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    values = units.astype(np.float64)
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            sigmoid: NDArray[np.float64] = 1 / (1 + np.exp(-4 * (values - centre) / width))
        return sigmoid
    if function == "LINEAR":
        if width == 1:  # a threshold
            return (values > centre - 0.5).astype(np.float64)
        centre, width = centre - 0.5, width - 1
    return (values - centre) / width + 0.5


def _spread(units: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    scale = 1 / (high - low) if high > low else 0.0
    spread: NDArray[np.float64] = (units.astype(np.float64) - low) * scale
    return spread


def _shaded(units: NDArray[Any], table: LookupTable) -> NDArray[np.float64]:
    return table.apply(units) / table.white
