"""Scans as vectors: thumbnails, descriptors whose product is their correlation, and nearest neighbours."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scanwise.recipe import Data
from scanwise.records import FloatArray, IntArray
from scanwise.registration.index import NeighbourIndex, exact_neighbours

THUMBNAIL = Data(size=104, channels=1, shape="pad")
"""What the audit looks at: gray, uncropped, the shape kept; half the size of the public four-class MRI scans."""
BLOCK = 2048
"""Scans worked on at once."""
INDEXED = 50_000
"""References from which on not all pairs are compared."""
SAMPLE = 10_000
"""Scans from which principal components are learnt."""
EMPTY = 1e-6
"""Share of the largest variance below which a component is rounding error."""


def descriptors(pixels: NDArray[np.uint8], sigma: float = 1.0) -> FloatArray:
    """Blurred half-size pixels, centred and scaled, so that the product of two rows is their correlation.

    Args:
        pixels: (N, S, S) or (N, S, S, 1) thumbnails.
        sigma: of the Gaussian blur, in thumbnail pixels.

    Returns:
        (N, (S // 2)²) float32 rows of length 1; a scan of one single value is a row of zeros.
    """
    side = pixels.shape[1] // 2
    found = np.empty((len(pixels), side * side), dtype=np.float32)
    for start in range(0, len(pixels), BLOCK):
        block = pixels[start : start + BLOCK].reshape(-1, *pixels.shape[1:3]).astype(np.float32)
        block = ndimage.gaussian_filter(block, (0, sigma, sigma))[:, : 2 * side, : 2 * side]
        flat = block.reshape(-1, side, 2, side, 2).mean(axis=(2, 4)).reshape(len(block), -1)
        flat -= flat.mean(axis=1, keepdims=True)
        norm = np.linalg.norm(flat, axis=1, keepdims=True)
        found[start : start + BLOCK] = flat / np.where(norm > 0, norm, 1)
    return found


def nearest_neighbours(queries: FloatArray, references: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
    """The `count` references that are most alike each query, the most alike first, by the product of rows.

    All pairs are compared; from `INDEXED` references on an index is asked, which finds 99 % of them.

    Args:
        queries: (N, D). references: (M, D). For the neighbours within one set give it twice; each then finds itself.

    Returns:
        (N, count) indices into references and (N, count) similarities.
    """
    count = min(count, len(references))
    if len(references) < INDEXED:
        return exact_neighbours(queries, references, count)
    places, values = NeighbourIndex.build(queries, references, count).search(queries, count)
    short = np.flatnonzero((places < 0).any(axis=1))  # too few in the cells that were looked into
    if len(short):
        places[short], values[short] = exact_neighbours(queries[short], references, count)
    return places, values


def whiten(vectors: FloatArray, components: int) -> FloatArray:
    """Principal components of equal weight, so that what all scans share in one way or another counts no more than the rest.

    In raw pixels two slices at one height of different people are more alike than two heights of one person; here the
    few directions that tell heights apart weigh as little as any other. Known from faces as whitened PCA.

    Args:
        vectors: (N, D) of `descriptors`.
        components: kept; fewer where the vectors do not have as many.

    Returns:
        (N, components) float32 rows of length 1.
    """
    from scipy.linalg import eigh

    middle = vectors.mean(axis=0)
    some = vectors[:: -(-len(vectors) // SAMPLE)] - middle
    components = min(components, len(some) - 1, some.shape[1])
    if len(some) <= some.shape[1]:
        power, left = eigh(some @ some.T, subset_by_index=(len(some) - components, len(some) - 1))
        axes = some.T @ (left / np.sqrt(np.maximum(power, EMPTY * power[-1])))
    else:
        power, axes = eigh(some.T @ some, subset_by_index=(some.shape[1] - components, some.shape[1] - 1))
    turned = (vectors @ axes - middle @ axes) / np.sqrt(np.maximum(power, EMPTY * power[-1]))
    norm = np.linalg.norm(turned, axis=1, keepdims=True)
    return np.asarray(turned / np.where(norm > 0, norm, 1), dtype=np.float32)
