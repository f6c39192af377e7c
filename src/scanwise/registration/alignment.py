"""Affine alignment of one scan to another, with a gain and an offset of intensity, robust to parts that do not match.

A pose is an affine map (2, 3) from a canonical frame, in which the body lies upright with an area of about one, to the pixels of a thumbnail. Alignment is inverse compositional Gauss-Newton (Baker and Matthews 2004) with Tukey's
weights: the derivatives of the fixed picture are computed once, and pixels that disagree (a cropped edge, a burned-in label) lose
their weight.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanwise.records import BoolArray, FloatArray

EXTENT = 0.7
"""Half the side of the canonical frame; a disk of area one has the radius 0.56."""
TUKEY = 4.0
"""Residuals, in robust standard deviations, from which a pixel has no weight."""
BLACK = 6
"""Gray value up to which the edge of a scan is padding."""
STEP = 0.3
"""Largest change of a coefficient in one iteration."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Moving scans aligned to fixed ones.

    Attributes:
        poses: (B, 2, 3) of the moving scans, so that they show what the fixed ones show.
        gain: (B,) factor from intensities of the fixed scan to those of the moving one.
    """

    poses: FloatArray
    gain: FloatArray


def canonical_grid(side: int) -> FloatArray:
    """(2, side²) canonical coordinates of a square of pixels, row after row: y, then x."""
    line = (2 * np.arange(side) + 1 - side) * (EXTENT / side)
    y, x = np.meshgrid(line, line, indexing="ij")
    return np.stack([y.reshape(-1), x.reshape(-1)]).astype(np.float32)


def content_frames(images: NDArray[np.uint8]) -> FloatArray:
    """(N, 4) first and last row, first and last column with pixels that are not black; beyond them is padding."""
    shown = images > BLACK
    frames = np.empty((len(images), 4), dtype=np.float32)
    for axis, across in ((0, 2), (2, 1)):
        line: BoolArray = np.asarray(shown.any(axis=across))
        frames[:, axis] = line.argmax(axis=1)
        frames[:, axis + 1] = line.shape[1] - 1 - line[:, ::-1].argmax(axis=1)
    return frames


def inside_frame(boxes: FloatArray, poses: FloatArray, points: FloatArray) -> BoolArray:
    """(B, P) whether canonical points lie in the content frames (B, 4) of scans, under their poses (B, 2, 3)."""
    y, x = (poses[:, :, :2] @ points + poses[:, :, 2:]).swapaxes(0, 1)
    top, bottom, left, right = boxes.T[:, :, None]
    return np.asarray((y >= top) & (y <= bottom) & (x >= left) & (x <= right))


def sample_images(images: FloatArray, poses: FloatArray, points: FloatArray) -> FloatArray:
    """(B, P) bilinear samples of the images at canonical points; beyond an edge its last pixel is repeated.

    Args:
        images: (B, H, W) float32. poses: (B, 2, 3). points: (2, P).
    """
    import torch  # its sampler is four times as fast as indexing in NumPy

    height, width = images.shape[1:]
    coordinates = poses[:, :, :2] @ points + poses[:, :, 2:]
    normalised = np.empty((len(images), 1, points.shape[1], 2), dtype=np.float32)
    normalised[:, 0, :, 0] = coordinates[:, 1] * np.float32(2 / (width - 1)) - 1
    normalised[:, 0, :, 1] = coordinates[:, 0] * np.float32(2 / (height - 1)) - 1
    sampled = torch.nn.functional.grid_sample(
        torch.from_numpy(np.ascontiguousarray(images[:, None])),
        torch.from_numpy(normalised),
        padding_mode="border",
        align_corners=True,
    )
    return np.asarray(sampled[:, 0, 0].numpy())


def affine_derivatives(fixed: FloatArray) -> FloatArray:
    """(B, 8, P) derivatives of the fixed pictures (B, P) by six affine coefficients, a gain and an offset."""
    count, side = len(fixed), round(fixed.shape[1] ** 0.5)
    gradients: list[FloatArray] = list(np.gradient(fixed.reshape(count, side, side), 2 * EXTENT / side, axis=(1, 2)))
    down, right = (gradient.reshape(count, -1) for gradient in gradients)
    y, x = canonical_grid(side)
    derivatives = np.empty((count, 8, fixed.shape[1]), dtype=np.float32)
    for row, values in enumerate((down * y, down * x, down, right * y, right * x, right, fixed, np.float32(1))):
        derivatives[:, row] = values
    return derivatives


def similarity_derivatives(derivatives: FloatArray) -> FloatArray:
    """(B, 6, P) derivatives by zoom, rotation, shift, gain and offset, from the (B, 8, P) of `affine_derivatives`."""
    zoom, turn = derivatives[:, 0] + derivatives[:, 4], derivatives[:, 1] - derivatives[:, 3]
    return np.stack([zoom, turn, *derivatives[:, [2, 5, 6, 7]].swapaxes(0, 1)], axis=1)


def align(
    fixed: FloatArray,
    moving: FloatArray,
    poses: FloatArray,
    iterations: int,
    *,
    boxes: FloatArray,
    derivatives: FloatArray | None = None,
) -> Alignment:
    """Change the poses of moving scans until they show what the fixed ones show.

    Args:
        fixed: (B, P) canonical pictures, or (1, P) for one that all are aligned to.
        moving: (B, H, W) float32.
        poses: (B, 2, 3) initial poses, up to about a tenth of the frame and 15 degrees off.
        iterations: Gauss-Newton steps.
        boxes: (B, 4) of the moving scans, from `content_frames`: pixels beyond them are ignored.
        derivatives: (B, K, P) of the fixed pictures, by default `affine_derivatives(fixed)`; see `similarity_derivatives` for fewer freedoms.
    """
    steepest = affine_derivatives(fixed) if derivatives is None else derivatives
    points = canonical_grid(round(fixed.shape[1] ** 0.5))
    weight = np.ones((len(moving), fixed.shape[1]), dtype=np.float32)
    gain: FloatArray = np.ones(len(moving))
    for _ in range(iterations):
        sampled = sample_images(moving, poses, points)
        weight *= inside_frame(boxes, poses, points)
        solved = _solve(steepest, weight, sampled)
        fitted = np.matmul(solved[:, None, :].astype(np.float32), steepest)[:, 0]
        weight = _tukey(sampled - fitted)
        gain = solved[:, -2]
        poses = _compose(poses, _affine(solved[:, :-2]) / _away_from_zero(gain)[:, None])
    return Alignment(poses, gain)


def _solve(steepest: FloatArray, weight: FloatArray, sampled: FloatArray) -> FloatArray:
    """(B, K) weighted least squares."""
    size = steepest.shape[1]
    if len(steepest) == 1:  # one fixed picture: products of its derivatives are computed once
        rows = steepest[0]
        products = (rows[:, None, :] * rows[None, :, :]).reshape(size * size, -1)
        normal = (weight @ products.T).reshape(-1, size, size)
        right = (weight * sampled) @ rows.T
    else:
        weighted = steepest * weight[:, None, :]
        normal = weighted @ steepest.swapaxes(1, 2)
        right = (weighted @ sampled[:, :, None])[:, :, 0]
    normal = normal.astype(np.float64)
    diagonal = np.einsum("bkk->bk", normal)
    diagonal += 1e-5 * diagonal + 1e-6  # a picture without detail has no derivatives
    solved: FloatArray = np.linalg.solve(normal, right.astype(np.float64)[:, :, None])
    return solved[:, :, 0]


def _tukey(residual: FloatArray) -> FloatArray:
    """(B, P) Tukey weights of residuals, scaled by the median of every fourth."""
    scale = 1.4826 * np.median(np.abs(residual[:, ::4]), axis=1, keepdims=True) + 1e-3
    weight = 1 - np.square(residual * np.float32(1 / TUKEY) / scale)
    return np.asarray(np.square(np.maximum(weight, 0)), dtype=np.float32)


def _affine(solved: FloatArray) -> FloatArray:
    """(B, 6) affine coefficients, from six or from the four of a similarity."""
    if solved.shape[1] == 6:
        return solved
    zoom, turn, down, right = solved.T
    return np.stack([zoom, turn, down, -turn, zoom, right], axis=1)


def _away_from_zero(gain: FloatArray) -> FloatArray:
    return np.where(np.abs(gain) < 0.1, 0.1, gain)


def _compose(poses: FloatArray, change: FloatArray) -> FloatArray:
    """Poses composed with the inverse of a change of the fixed picture's frame."""
    change = np.clip(change, -STEP, STEP).reshape(-1, 2, 3)
    turn = np.linalg.inv(change[:, :, :2] + np.eye(2))
    turned = poses[:, :, :2] @ turn
    moved = poses[:, :, 2:] - turned @ change[:, :, 2:]
    return np.concatenate([turned, moved], axis=2).astype(np.float32)
