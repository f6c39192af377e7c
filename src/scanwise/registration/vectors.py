"""Scans as vectors: thumbnails, descriptors whose product is a correlation, whitening, and nearest neighbours."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scanwise.recipe import Data
from scanwise.records import FloatArray, IntArray
from scanwise.registration.index import NeighbourIndex, exact_neighbours

THUMBNAIL = Data(size=104, channels=1, shape="pad")
"""Thumbnails for the audit: gray, uncropped, the aspect ratio kept; half the size of the public four-class MRI scans."""
DETAIL = THUMBNAIL.model_copy(update={"size": 160})
"""Scans as the search for copies sees them; smaller ones lack the texture that tells a bent copy from a neighbouring slice."""
BLOCK = 2048
"""Scans processed at once."""
INDEXED = 50_000
"""Number of references from which an approximate index replaces the comparison of all pairs."""
SAMPLE = 10_000
"""Scans that principal components are fitted on."""
EMPTY = 1e-6
"""Share of the largest variance below which a component is rounding error."""


def reduce_to_thumbnails(scans: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, S, S) thumbnails of the size of `THUMBNAIL`, from scans (N, R, R) in the convention of `DETAIL`."""
    import torch

    side = THUMBNAIL.size
    thumbnails = np.empty((len(scans), side, side), dtype=np.uint8)
    for start in range(0, len(scans), BLOCK):
        block = torch.from_numpy(scans[start : start + BLOCK].astype(np.float32))[:, None]
        small = torch.nn.functional.interpolate(block, (side, side), mode="bilinear", antialias=True)
        thumbnails[start : start + BLOCK] = small[:, 0].round().clamp(0, 255).numpy()
    return thumbnails


def describe_scans(scans: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], FloatArray]:
    """Thumbnails of scans (N, R, R) in the convention of `DETAIL`, and the descriptors of these."""
    thumbnails = reduce_to_thumbnails(scans)
    return thumbnails, descriptors(thumbnails)


def descriptors(pixels: NDArray[np.uint8], sigma: float = 1.0) -> FloatArray:
    """Blurred half-size pixels, centred and scaled, so that the product of two rows is their correlation.

    Args:
        pixels: (N, S, S) or (N, S, S, 1) thumbnails.
        sigma: width of the Gaussian blur, in thumbnail pixels.

    Returns:
        (N, (S // 2)²) float32 rows of length 1; a blank scan is a row of zeros.
    """
    side = pixels.shape[1] // 2
    rows = np.empty((len(pixels), side * side), dtype=np.float32)
    for start in range(0, len(pixels), BLOCK):
        block = pixels[start : start + BLOCK].reshape(-1, *pixels.shape[1:3]).astype(np.float32)
        block = ndimage.gaussian_filter(block, (0, sigma, sigma))[:, : 2 * side, : 2 * side]
        flat = block.reshape(-1, side, 2, side, 2).mean(axis=(2, 4)).reshape(len(block), -1)
        flat -= flat.mean(axis=1, keepdims=True)
        norm = np.linalg.norm(flat, axis=1, keepdims=True)
        rows[start : start + BLOCK] = flat / np.where(norm > 0, norm, 1)
    return rows


def nearest_neighbours(queries: FloatArray, references: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
    """The `count` references most similar to each query, the most similar first, by the product of rows.

    All pairs are compared; from `INDEXED` references on, an index finds 99 % of the neighbours.

    Args:
        queries: (N, D). references: (M, D). For the neighbours within one set give it twice; each then finds itself.

    Returns:
        (N, count) indices into references and (N, count) similarities.
    """
    count = min(count, len(references))
    if len(references) < INDEXED:
        return exact_neighbours(queries, references, count)
    indices, values = NeighbourIndex.build(queries, references, count).search(queries, count)
    short = np.flatnonzero((indices < 0).any(axis=1))  # too few references in the probed cells
    if len(short):
        indices[short], values[short] = exact_neighbours(queries[short], references, count)
    return indices, values


def whiten(vectors: FloatArray, components: int) -> FloatArray:
    """Whitened principal components: all directions have equal weight, as in face recognition by whitened PCA.

    In raw pixels two slices at one height of different people are more similar than two heights of one person; whitened, the
    few directions that encode height weigh no more than any other.

    Args:
        vectors: (N, D) of `descriptors`.
        components: number to keep; fewer where the vectors do not have as many.

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
    projected = (vectors @ axes - middle @ axes) / np.sqrt(np.maximum(power, EMPTY * power[-1]))
    norm = np.linalg.norm(projected, axis=1, keepdims=True)
    return np.asarray(projected / np.where(norm > 0, norm, 1), dtype=np.float32)
