"""Lay one scan over another: affine, with a gain and an offset of intensity, whatever part of it fits badly.

A pose is an affine map (2, 3) from a canonical frame, in which a scan's subject lies upright with an area of about one,
to the pixels of a thumbnail. Alignment is inverse compositional Gauss-Newton (Baker and Matthews 2004) with Tukey's
weights: the derivatives of the fixed picture are made once, and pixels that disagree (a cut edge, a label) lose their say.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scanwise.records import BoolArray, FloatArray

EXTENT = 0.7
"""Half the side of the canonical frame; a disk of area one has the radius 0.56."""
TUKEY = 4.0
"""Residuals, in robust deviations, from which a pixel has no say."""
BLACK = 6
"""Gray value up to which the edge of a scan is padding."""
BOX = 7
"""Side of the box that blurs, in pixels of the canonical picture."""
BINS = 24
"""Gray values between which the function of another picture's gray values is linear."""
STEP = 0.3
"""Largest change of a coefficient in one iteration."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Moving scans laid over fixed ones.

    Attributes:
        poses: (B, 2, 3) of the moving scans, so that they show what the fixed ones show.
        gain: (B,) by which intensities of the fixed scan are multiplied in the moving one.
    """

    poses: FloatArray
    gain: FloatArray


def canonical_grid(side: int) -> FloatArray:
    """(2, side²) canonical places of a square of pixels, row after row: y, then x."""
    line = (2 * np.arange(side) + 1 - side) * (EXTENT / side)
    y, x = np.meshgrid(line, line, indexing="ij")
    return np.stack([y.reshape(-1), x.reshape(-1)]).astype(np.float32)


def content_frames(images: NDArray[np.uint8]) -> FloatArray:
    """(N, 4) first and last row, first and last column of what is not black: beyond them is padding, or the same as it."""
    shown = images > BLACK
    found = np.empty((len(images), 4), dtype=np.float32)
    for axis, across in ((0, 2), (2, 1)):
        line: BoolArray = np.asarray(shown.any(axis=across))
        found[:, axis] = line.argmax(axis=1)
        found[:, axis + 1] = line.shape[1] - 1 - line[:, ::-1].argmax(axis=1)
    return found


def inside_frame(boxes: FloatArray, poses: FloatArray, places: FloatArray) -> BoolArray:
    """(B, P) whether canonical places lie in the frames (B, 4) of scans in their poses (B, 2, 3)."""
    y, x = (poses[:, :, :2] @ places + poses[:, :, 2:]).swapaxes(0, 1)
    top, bottom, left, right = boxes.T[:, :, None]
    return np.asarray((y >= top) & (y <= bottom) & (x >= left) & (x <= right))


def sample_images(images: FloatArray, poses: FloatArray, places: FloatArray) -> FloatArray:
    """(B, P) the images at canonical places, bilinear; beyond an edge its last pixel goes on.

    Args:
        images: (B, H, W) float32. poses: (B, 2, 3). places: (2, P).
    """
    import torch  # its sampler is four times as fast as what NumPy's indexing allows

    height, width = images.shape[1:]
    spots = poses[:, :, :2] @ places + poses[:, :, 2:]
    at = np.empty((len(images), 1, places.shape[1], 2), dtype=np.float32)
    at[:, 0, :, 0] = spots[:, 1] * np.float32(2 / (width - 1)) - 1
    at[:, 0, :, 1] = spots[:, 0] * np.float32(2 / (height - 1)) - 1
    seen = torch.nn.functional.grid_sample(
        torch.from_numpy(np.ascontiguousarray(images[:, None])),
        torch.from_numpy(at),
        padding_mode="border",
        align_corners=True,
    )
    return np.asarray(seen[:, 0, 0].numpy())


def affine_derivatives(fixed: FloatArray) -> FloatArray:
    """(B, 8, P) how the fixed pictures (B, P) change with each of six affine coefficients, a gain and an offset."""
    count, side = len(fixed), round(fixed.shape[1] ** 0.5)
    pair: list[FloatArray] = list(np.gradient(fixed.reshape(count, side, side), 2 * EXTENT / side, axis=(1, 2)))
    down, right = (one.reshape(count, -1) for one in pair)
    y, x = canonical_grid(side)
    found = np.empty((count, 8, fixed.shape[1]), dtype=np.float32)
    for row, values in enumerate((down * y, down * x, down, right * y, right * x, right, fixed, np.float32(1))):
        found[:, row] = values
    return found


def similarity_derivatives(derivatives: FloatArray) -> FloatArray:
    """(B, 6, P) derivatives for a zoom, a rotation and a shift alone, of (B, 8, P) for all that is affine."""
    zoom, turn = derivatives[:, 0] + derivatives[:, 4], derivatives[:, 1] - derivatives[:, 3]
    return np.stack([zoom, turn, *derivatives[:, [2, 5, 6, 7]].swapaxes(0, 1)], axis=1)


def align(
    fixed: FloatArray,
    moving: FloatArray,
    poses: FloatArray,
    iterations: int,
    *,
    boxes: FloatArray,
    shown: BoolArray | None = None,
    derivatives: FloatArray | None = None,
) -> Alignment:
    """Change the poses of moving scans until they show what the fixed ones show.

    Args:
        fixed: (B, P) canonical pictures, or (1, P) for one that all are laid over.
        moving: (B, H, W) float32.
        poses: (B, 2, 3) to begin with; from about a tenth of the frame and 15 degrees off it is found.
        iterations: Gauss-Newton steps.
        boxes: (B, 4) of the moving scans, from `content_frames`: beyond them nothing is known.
        shown: (B, P) where something is known of the fixed pictures; by default everywhere.
        derivatives: (B, K, P) of the fixed pictures, by default `affine_derivatives(fixed)`; see `similarity_derivatives` for fewer freedoms.
    """
    steepest = affine_derivatives(fixed) if derivatives is None else derivatives
    places = canonical_grid(round(fixed.shape[1] ** 0.5))
    shown = np.ones(fixed.shape, dtype=np.bool_) if shown is None else shown
    weight = np.ones((len(moving), fixed.shape[1]), dtype=np.float32)
    gain: FloatArray = np.ones(len(moving))
    for _ in range(iterations):
        seen = sample_images(moving, poses, places)
        weight *= shown & inside_frame(boxes, poses, places)
        solved = _solve(steepest, weight, seen)
        fitted = np.matmul(solved[:, None, :].astype(np.float32), steepest)[:, 0]
        weight = _tukey(seen - fitted)
        gain = solved[:, -2]
        poses = _compose(poses, _affine(solved[:, :-2]) / _away_from_zero(gain)[:, None])
    return Alignment(poses, gain)


def _solve(steepest: FloatArray, weight: FloatArray, seen: FloatArray) -> FloatArray:
    """(B, K) weighted least squares."""
    size = steepest.shape[1]
    if len(steepest) == 1:  # one picture for all: products of its derivatives are made once, and all is one product
        one = steepest[0]
        products = (one[:, None, :] * one[None, :, :]).reshape(size * size, -1)
        normal = (weight @ products.T).reshape(-1, size, size)
        right = (weight * seen) @ one.T
    else:
        weighted = steepest * weight[:, None, :]
        normal = weighted @ steepest.swapaxes(1, 2)
        right = (weighted @ seen[:, :, None])[:, :, 0]
    normal = normal.astype(np.float64)
    diagonal = np.einsum("bkk->bk", normal)
    diagonal += 1e-5 * diagonal + 1e-6  # a picture without detail has no derivatives
    solved: FloatArray = np.linalg.solve(normal, right.astype(np.float64)[:, :, None])
    return solved[:, :, 0]


def _tukey(left: FloatArray) -> FloatArray:
    """(B, P) weights of residuals, by the median size of every fourth."""
    scale = 1.4826 * np.median(np.abs(left[:, ::4]), axis=1, keepdims=True) + 1e-3
    weight = 1 - np.square(left * np.float32(1 / TUKEY) / scale)
    return np.asarray(np.square(np.maximum(weight, 0)), dtype=np.float32)


def _affine(solved: FloatArray) -> FloatArray:
    """(B, 6) affine coefficients, of six or of the four of a similarity."""
    if solved.shape[1] == 6:
        return solved
    zoom, turn, down, right = solved.T
    return np.stack([zoom, turn, down, -turn, zoom, right], axis=1)


def _away_from_zero(gain: FloatArray) -> FloatArray:
    return np.where(np.abs(gain) < 0.1, 0.1, gain)


def _compose(poses: FloatArray, change: FloatArray) -> FloatArray:
    """The poses after the inverse of a change of the fixed picture's frame."""
    change = np.clip(change, -STEP, STEP).reshape(-1, 2, 3)
    turn = np.linalg.inv(change[:, :, :2] + np.eye(2))
    turned = poses[:, :, :2] @ turn
    moved = poses[:, :, 2:] - turned @ change[:, :, 2:]
    return np.concatenate([turned, moved], axis=2).astype(np.float32)


def explained_detail(one: FloatArray, other: FloatArray, masks: BoolArray) -> FloatArray:
    """(B,) how much of the fine detail of a picture the other one explains, whichever way explains more; 1 is all.

    The other picture may be brighter, of another contrast or gamma, or saturated: what is left is measured after the
    best function of its gray values (the correlation ratio, Roche et al. 1998). Detail is what a box of seven pixels
    does not blur away, so that shading says nothing.

    Args:
        one: (B, P) canonical pictures.
        other: (B, P).
        masks: (B, P) where both show their subject.
    """
    side = round(one.shape[1] ** 0.5)
    seen = ndimage.binary_erosion(masks.reshape(-1, side, side), np.ones((1, 3, 3), dtype=bool)).reshape(len(one), -1)
    weight = seen.astype(np.float32)
    return np.maximum(_explained(one, other, weight), _explained(other, one, weight))


def _explained(one: FloatArray, by: FloatArray, weight: FloatArray) -> FloatArray:
    left = ((_detail((one - _function_of(by, one, weight)) * weight) * weight) ** 2).sum(axis=1)
    whole = ((_detail(one) * weight) ** 2).sum(axis=1)
    return np.asarray(1 - left / np.maximum(whole, 1e-6))


def _detail(pictures: FloatArray) -> FloatArray:
    side = round(pictures.shape[1] ** 0.5)
    square = pictures.reshape(-1, side, side)
    return np.asarray(square - ndimage.uniform_filter(square, (0, BOX, BOX))).reshape(len(pictures), -1)


def _function_of(by: FloatArray, one: FloatArray, weight: FloatArray) -> FloatArray:
    """(B, P) the mean of `one` where `by` has this gray value: over `BINS` values, and linear in between."""
    count = len(one)
    low = np.where(weight > 0, by, np.inf).min(axis=1, keepdims=True)
    high = np.where(weight > 0, by, -np.inf).max(axis=1, keepdims=True)
    empty = ~np.isfinite(low)
    low, high = np.where(empty, 0, low), np.where(empty, 1, high)
    place = np.clip((by - low) / np.maximum(high - low, 1e-6), 0, 1) * (BINS - 1)
    lower = np.minimum(place.astype(np.int64), BINS - 2)
    upward = place - lower
    at = (lower + BINS * np.arange(count)[:, None]).reshape(-1)
    shares = ((at, weight * (1 - upward)), (at + 1, weight * upward))
    mass = sum(np.bincount(bins, share.reshape(-1), BINS * count) for bins, share in shares)
    total = sum(np.bincount(bins, (share * one).reshape(-1), BINS * count) for bins, share in shares)
    mean = (np.asarray(total) / np.maximum(mass, 1e-6)).astype(np.float32)
    start = mean.take(at).reshape(count, -1)
    return np.asarray(start + (mean.take(at + 1).reshape(count, -1) - start) * upward)
