"""A few numbers of each scan in place of its pixels (N, H, W, C), for baselines that read no more."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from scanwise.records import FloatArray

PixelArray = NDArray[np.uint8]

DARK = 32
"""Values below it, an eighth of the range, are dark."""
GRAYS = 16
"""Bins of a histogram."""
SMALL = (26, 22)
"""Rows and columns of a tiny copy."""


def share_of_dark_pixels(pixels: PixelArray) -> FloatArray:
    """(N, 1) share of each scan's values below `DARK`.

    >>> share_of_dark_pixels(np.array([0, 20, 40, 255], np.uint8).reshape(1, 2, 2, 1)).tolist()
    [[0.5]]
    """
    return np.asarray((pixels.reshape(len(pixels), -1) < DARK).mean(axis=1, keepdims=True))


def correlation_rows(pixels: PixelArray) -> FloatArray:
    """(N, h*w*C) blurred to half the size, mean 0, norm 1, so that a product of two is their correlation."""
    from scipy.ndimage import gaussian_filter

    half = average_areas(pixels, ((pixels.shape[1] + 1) // 2, (pixels.shape[2] + 1) // 2))
    flat = gaussian_filter(half, (0, 0.5, 0.5, 0)).reshape(len(half), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norm = np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)  # a blank scan is like no other
    return np.asarray(flat / norm)


def gray_histogram(pixels: PixelArray) -> FloatArray:
    """(N, `GRAYS`) share of each scan's values in bins of equal width."""
    bins = pixels.reshape(len(pixels), -1) // (256 // GRAYS)
    return np.stack([(bins == index).mean(axis=1) for index in range(GRAYS)], axis=1)


def small_pixels(pixels: PixelArray) -> FloatArray:
    """(N, h * w * C) values of a tiny copy of each scan, at most 26 by 22 pixels."""
    return average_areas(pixels, SMALL).reshape(len(pixels), -1)


def average_areas(pixels: PixelArray | FloatArray, size: tuple[int, int]) -> FloatArray:
    """Average over areas down to at most `size` rows and columns, whole pixels or not; a smaller side stays.

    Args:
        pixels: (N, H, W, C).

    Returns:
        (N, h, w, C) float32.
    """
    down = area_weights(pixels.shape[1], min(size[0], pixels.shape[1]))
    across = area_weights(pixels.shape[2], min(size[1], pixels.shape[2]))
    small = np.einsum("hH,nHWc,wW->nhwc", down, pixels.astype(np.float32), across, optimize=True)
    return np.asarray(small)


@cache
def area_weights(old: int, new: int) -> FloatArray:
    """(new, old) rows that sum to one: the share of each old pixel in each new one."""
    edges = np.linspace(0, old, new + 1)
    low, high = edges[:-1, None], edges[1:, None]
    start = np.arange(old)[None]
    overlap = np.clip(np.minimum(high, start + 1) - np.maximum(low, start), 0, None)
    weights = np.asarray(overlap / overlap.sum(axis=1, keepdims=True), dtype=np.float32)
    weights.flags.writeable = False
    return weights
