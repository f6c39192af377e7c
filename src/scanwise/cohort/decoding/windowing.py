"""From the stored values of a DICOM frame to shades of gray.

Values are rescaled to the units of the modality and shown through a window; formulas are those of DICOM PS3.3, C.11.1
and C.11.2.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scanwise.cohort.decoding.dicom_header import number_of, of_frame, text, whole
from scanwise.cohort.decoding.pixels import Pixels, UnreadableScan
from scanwise.recipe import Data

if TYPE_CHECKING:
    from pydicom import Dataset


def apply_window(stored: NDArray[Any], header: "Dataset", index: int, settings: Data) -> Pixels:
    """(H, W) uint8, black low."""
    units = _rescaled(stored, header, index)
    if units.dtype.kind == "f" and not np.isfinite(units).all():
        raise UnreadableScan("holds NaN or infinite pixels")
    padding = _padding(stored, header)
    window = _window(header, index) if settings.window == "header" else None
    if isinstance(settings.window, tuple):
        window = (*settings.window, "LINEAR_EXACT")
    if window is not None:
        share = _windowed(units, *window)
    elif settings.window == "header" and "VOILUTSequence" in header:
        table = header.VOILUTSequence[0]
        share = _looked_up(units, table) / (2.0 ** int(table.LUTDescriptor[2]) - 1)
    elif units is stored and whole(header, "BitsStored") == 8 and stored.dtype == np.uint8:
        share = stored / 255.0
    else:
        share = _stretched(units, units[~padding], settings)
    gray: Pixels = np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)
    # What the scanner filled in around the picture is black, whichever end of the scale is.
    gray[padding] = 255 if text(header, "PhotometricInterpretation") == "MONOCHROME1" else 0
    return gray


def _rescaled(stored: NDArray[Any], header: "Dataset", index: int) -> NDArray[Any]:
    """Values in the units of the modality, such as Hounsfield units."""
    if "ModalityLUTSequence" in header:
        return _looked_up(stored, header.ModalityLUTSequence[0])
    sequence = of_frame(header, index, "PixelValueTransformationSequence")
    slope, intercept = number_of(sequence, "RescaleSlope"), number_of(sequence, "RescaleIntercept")
    if slope in (None, 1, 0) and not intercept:  # a slope of 0 would leave nothing to see
        return stored
    scaled: NDArray[Any] = stored.astype(np.float64) * (slope or 1) + (intercept or 0)
    return scaled


def _looked_up(values: NDArray[Any], table: "Dataset") -> NDArray[np.float64]:
    """Look values up in a table of the header; values beyond its ends take the end (PS3.3 C.11.1.1)."""
    count, lowest, _ = (int(part) for part in table.LUTDescriptor)
    count = count or 2**16  # which does not fit into the descriptor
    data = table.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * count else "<u2")
    entries = np.asarray(data, dtype=np.float64)[:count]
    looked_up: NDArray[np.float64] = entries[np.clip(np.rint(values) - lowest, 0, len(entries) - 1).astype(np.int64)]
    return looked_up


def _padding(stored: NDArray[Any], header: "Dataset") -> NDArray[np.bool_]:
    """Mask of the padding: pixels that the file marks as no part of the image."""
    value, limit = number_of(header, "PixelPaddingValue"), number_of(header, "PixelPaddingRangeLimit")
    if value is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    low, high = sorted((value, value if limit is None else limit))
    inside: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return inside if not inside.all() else np.zeros_like(inside)


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
