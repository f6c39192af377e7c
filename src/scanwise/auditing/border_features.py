"""Features outside the anatomy: of the border, of the background, and the file size beyond what the picture explains."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanwise.cohort.row_files import blocks_of
from scanwise.records import BoolArray, FloatArray, IntArray

RING = 4
"""Width of the border, in thumbnail pixels."""
PARTS = 6
"""Pieces of each of the four sides."""
CELLS = 4
"""Rows and columns of the grid over the background."""
GAP = 3
"""Half-size pixels around the body that count as neither body nor background: the edge of the body is anatomy."""
CONTRAST = 12
"""Gray values by which the body differs from the background."""
MIN_BACKGROUND = 0.05
"""Share of the picture that must be background for its features to be computed."""


def content_boxes(size: int, count: int, files: Mapping[str, NDArray[Any]]) -> IntArray:
    """(N, 4) top, left, bottom, right of each scan in its square thumbnail; the rest is padding.

    Args:
        size: side of the thumbnails.
        count: number of scans.
        files: of `quality.read_file_facts`; without width and height there is no padding.
    """
    whole = np.tile([0, 0, size, size], (count, 1))
    if not {"width", "height"} <= files.keys():
        return whole
    width, height = files["width"].astype(np.float64), files["height"].astype(np.float64)
    readable = (width > 0) & (height > 0)
    longer = np.where(readable, np.maximum(width, height), 1)
    tall = np.maximum(np.rint(size * height / longer), 2 * RING).astype(np.int64)
    wide = np.maximum(np.rint(size * width / longer), 2 * RING).astype(np.int64)
    top, left = (size - tall) // 2, (size - wide) // 2
    return np.where(readable[:, None], np.column_stack([top, left, top + tall, left + wide]), whole)


def border_features(pixels: NDArray[np.uint8], boxes: IntArray) -> FloatArray:
    """(N, D) mean and brightest pixel of pieces of the outer ring.

    Args:
        pixels: (N, S, S). boxes: (N, 4) of `content_boxes`.
    """
    features = np.zeros((len(pixels), 8 * PARTS))
    kinds, kind = np.unique(boxes, axis=0, return_inverse=True)
    for index, (top, left, bottom, right) in enumerate(kinds.tolist()):
        alike = np.flatnonzero(kind.reshape(-1) == index)
        for some in blocks_of(len(alike)):
            rows = alike[some]
            features[rows] = _pieces_of_ring(pixels[rows, top:bottom, left:right])
    return features


def _pieces_of_ring(inside: NDArray[np.uint8]) -> FloatArray:
    """(n, D) mean and brightest pixel of pieces of the outer ring of scans (n, H, W)."""
    turned = inside.swapaxes(1, 2)
    sides = [inside[:, :RING], inside[:, -RING:], turned[:, :RING], turned[:, -RING:]]
    pieces = [piece for side in sides for piece in np.array_split(side, PARTS, axis=2)]
    return np.column_stack([f(piece, axis=(1, 2)) for piece in pieces for f in (np.mean, np.max)])


def background_features(pixels: NDArray[np.uint8], block: int = 1024) -> FloatArray | None:
    """(N, D) mean, spread and brightest pixel of the background in the cells of a grid; None where most scans have none.

    A cell that the body fills takes the value of the whole background, so that the shape of the body does not show.
    """
    blocks, sufficient = [], []
    for start in range(0, len(pixels), block):
        half = _halved(pixels[start : start + block])
        around = ~_dilated(body_masks(half), GAP)
        enough = around.mean(axis=(1, 2)) >= MIN_BACKGROUND
        sufficient.append(enough)
        blocks.append(np.where(enough[:, None], _grid_cells(half, around), 0))
    return np.concatenate(blocks) if np.concatenate(sufficient).mean() > 0.5 else None


def unexplained_file_size(pixels: NDArray[np.uint8], size: NDArray[Any], block: int = 1024) -> FloatArray:
    """(N,) log of the file size, less the part explained by brightness, contrast and edges.

    A picture with more detail makes a larger file; that is anatomy. The rest is how the file was saved.

    Args:
        pixels: (N, S, S). size: (N,) bytes.
    """
    columns = []
    for start in range(0, len(pixels), block):
        half = _halved(pixels[start : start + block])
        edges = np.abs(np.diff(half, axis=1)).mean(axis=(1, 2)) + np.abs(np.diff(half, axis=2)).mean(axis=(1, 2))
        lit = (half > CONTRAST).mean(axis=(1, 2))
        columns.append(np.column_stack([half.mean(axis=(1, 2)), half.std(axis=(1, 2)), edges, np.log1p(edges), lit]))
    content = np.column_stack([np.concatenate(columns), np.ones(len(pixels))])
    logs = np.log(np.maximum(size.astype(np.float64), 1))
    explained, *_ = np.linalg.lstsq(content, logs, rcond=None)
    return np.asarray(logs - content @ explained).round(9)  # equal sizes stay equal


def body_masks(half: FloatArray) -> BoolArray:
    """(n, s, s) the largest connected region that differs from the outermost pixels; all else is background.

    Args:
        half: (n, s, s) thumbnails at half size.
    """
    from scipy import ndimage

    rim = np.concatenate([half[:, 0], half[:, -1], half[:, :, 0], half[:, :, -1]], axis=1)
    differs = np.abs(half - np.median(rim, axis=1)[:, None, None]) > CONTRAST
    masks = np.zeros(differs.shape, dtype=bool)
    for index, mask in enumerate(differs):
        pieces, count = ndimage.label(mask)
        if count:
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            masks[index] = pieces == sizes.argmax()
    return masks


def _halved(pixels: NDArray[np.uint8]) -> FloatArray:
    side = pixels.shape[1] // 2
    even = pixels[:, : 2 * side, : 2 * side].astype(np.float32)
    return np.asarray(even.reshape(-1, side, 2, side, 2).mean(axis=(2, 4)))


def _dilated(mask: BoolArray, by: int) -> BoolArray:
    from scipy import ndimage

    return np.asarray(ndimage.binary_dilation(mask, np.ones((1, 3, 3), dtype=bool), iterations=by))


def _grid_cells(half: FloatArray, around: BoolArray) -> FloatArray:
    """(n, D) features of the background in each cell of a grid and as a whole."""
    side = half.shape[1]
    lit = np.where(around, half, 0.0)
    total = np.maximum(around.sum(axis=(1, 2)), 1)
    mean = lit.sum(axis=(1, 2)) / total
    spread = np.sqrt(np.maximum((lit**2).sum(axis=(1, 2)) / total - mean**2, 0))
    columns = [mean, spread, lit.max(axis=(1, 2))]
    edges = np.linspace(0, side, CELLS + 1).astype(int)
    for top, bottom in pairwise(edges):
        for left, right in pairwise(edges):
            here = around[:, top:bottom, left:right]
            count = here.sum(axis=(1, 2))
            sums, most = (f(lit[:, top:bottom, left:right], axis=(1, 2)) for f in (np.sum, np.max))
            columns += [np.where(count, sums / np.maximum(count, 1), mean), np.where(count, most, mean)]
    return np.column_stack(columns)
