"""From the stored values of a DICOM frame to shades of gray.

Values are rescaled to the units of the modality and shown through a window; formulas are those of DICOM PS3.3, C.11.1
and C.11.2.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scanwise.cohort.decoding.dicom_header import number_of, of_frame, text, whole
from scanwise.cohort.decoding.lookup_tables import read_table
from scanwise.cohort.decoding.pixels import Pixels, UnreadableScan
from scanwise.recipe import Data

if TYPE_CHECKING:
    from pydicom import Dataset


def apply_window(stored: NDArray[Any], header: "Dataset", index: int, settings: Data, *, little: bool) -> Pixels:
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
    units = _rescaled(stored, header, index, little)
    if units.dtype.kind == "f" and not np.isfinite(units).all():
        raise UnreadableScan("holds NaN or infinite pixels")
    padding = _padding(stored, header)
    window = _window(header, index) if settings.window == "header" else None
    if isinstance(settings.window, tuple):
        window = (*settings.window, "LINEAR_EXACT")
    table = read_table(header, "VOILUTSequence", little=little) if settings.window == "header" else None
    if window is not None:
        share = _windowed(units, *window)
    elif table is not None:
        share = table.apply(units) / table.white
    elif units is stored and whole(header, "BitsStored") == 8 and stored.dtype == np.uint8:
        share = stored / 255.0
    else:
        share = _stretched(units, units[~padding], settings)
    gray: Pixels = np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)
    # What the scanner filled in around the picture is black, whichever end of the scale is.
    gray[padding] = 255 if text(header, "PhotometricInterpretation") == "MONOCHROME1" else 0
    return gray


def _rescaled(stored: NDArray[Any], header: "Dataset", index: int, little: bool) -> NDArray[Any]:
    """Values in the units of the modality, such as Hounsfield units."""
    table = read_table(header, "ModalityLUTSequence", little=little)
    if table is not None:
        return table.apply(stored)
    sequence = of_frame(header, index, "PixelValueTransformationSequence")
    slope, intercept = number_of(sequence, "RescaleSlope"), number_of(sequence, "RescaleIntercept")
    if slope in (None, 1, 0) and not intercept:  # a slope of 0 would leave nothing to see
        return stored
    scaled: NDArray[Any] = stored.astype(np.float64) * (slope or 1) + (intercept or 0)
    return scaled


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


def _stretched(units: NDArray[Any], inside: NDArray[Any], settings: Data) -> NDArray[np.float64]:
    low, high = np.percentile(inside, settings.percentiles)
    if low == high:
        low, high = float(inside.min()), float(inside.max())
    scale = 1 / (high - low) if high > low else 0.0
    stretched: NDArray[np.float64] = (units.astype(np.float64) - low) * scale
    return stretched
