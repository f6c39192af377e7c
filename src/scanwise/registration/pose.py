"""Pose of the body in each scan: position, size, rotation and mirroring.

Moments of the foreground give a first estimate, as good as the foreground. Where all scans show the same body part, their mean
refines it: each scan is aligned to the mean, and pixels that were cropped or badly segmented lose their weight.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scanwise.records import BoolArray, FloatArray, IntArray
from scanwise.registration.alignment import (
    affine_derivatives,
    align,
    canonical_grid,
    content_frames,
    inside_frame,
    sample_images,
    similarity_derivatives,
)

BLOCK = 256
"""Scans processed at once."""
MEAN_SCANS = 512
"""Scans that the mean is computed from."""
ROUNDS = 4
"""Alignments of those scans to their mean."""
SIDE = 32
"""Side of the canonical picture that scans are aligned to."""
COARSE = 16
"""Side of the coarse picture on which rotations are tried."""
BLUR = 2.0
"""Blur of scans before they are aligned to the mean, in pixels of the thumbnail."""
TURNS = 16
"""Rotations tried, each also mirrored."""
ITERATIONS = 8
"""Gauss-Newton steps."""


def foreground_masks(pixels: NDArray[np.uint8]) -> BoolArray:
    """(N, S // 2, S // 2) the largest connected region unlike the border, holes filled, at half the size.

    Foreground lies more than halfway from the background (the median of the border, or the darker side) to Otsu's threshold.
    Where there is none, everything is foreground.
    """
    side = pixels.shape[1] // 2
    masks = np.empty((len(pixels), side, side), dtype=np.bool_)
    for start in range(0, len(pixels), BLOCK):
        block = pixels[start : start + BLOCK, : 2 * side, : 2 * side].astype(np.float32)
        small = block.reshape(-1, side, 2, side, 2).mean(axis=(2, 4))
        small = ndimage.gaussian_filter(small, (0, 0.7, 0.7))
        for row, (scan, threshold) in enumerate(zip(small, _otsu(small), strict=True), start):
            masks[row] = _largest_region(_above_background(scan, float(threshold)))
    return masks


def moment_poses(masks: BoolArray) -> FloatArray:
    """(N, 2, 3) poses that bring each mask upright (its longer axis vertical), to the middle and to an area of one.

    Args:
        masks: (N, S, S) at half the size of the thumbnails; the poses are in pixels of the thumbnails.
    """
    count, height, width = masks.shape
    y, x = (axis.reshape(-1).astype(np.float64) for axis in np.mgrid[:height, :width])
    flat = masks.reshape(count, -1).astype(np.float32)
    area, *sums = (flat @ np.stack([np.ones_like(y), y, x, y * y, x * x, x * y], axis=1).astype(np.float32)).T.astype(
        np.float64
    )
    down, right, down2, right2, mixed = (total / area for total in sums)
    turn = 0.5 * np.arctan2(2 * (mixed - down * right), (down2 - down**2) - (right2 - right**2))
    size = 2 * np.sqrt(area)
    poses = np.empty((count, 2, 3), dtype=np.float32)
    poses[:, 0] = np.stack([size * np.cos(turn), -size * np.sin(turn), 2 * down + 0.5], axis=1)
    poses[:, 1] = np.stack([size * np.sin(turn), size * np.cos(turn), 2 * right + 0.5], axis=1)
    return poses


def estimate_poses(pixels: NDArray[np.uint8], masks: BoolArray) -> FloatArray:
    """(N, 2, 3) the pose of the body in each scan: the map from the canonical frame to pixels of its thumbnail.

    Args:
        pixels: (N, S, S) thumbnails.
        masks: (N, S // 2, S // 2) of `foreground_masks`.
    """
    poses = moment_poses(masks)
    some = np.unique(np.linspace(0, len(pixels) - 1, min(MEAN_SCANS, len(pixels))).astype(np.int64))
    mean = _mean_picture(pixels[some], poses[some])
    steepest = similarity_derivatives(affine_derivatives(mean))
    for start in range(0, len(pixels), BLOCK):
        block = slice(start, start + BLOCK)
        images = _blurred(pixels[block])
        turned = _match_rotation(images, poses[block], mean)
        boxes = content_frames(pixels[block])
        poses[block] = align(mean, images, turned, ITERATIONS, boxes=boxes, derivatives=steepest).poses
    return poses


def canonical_pictures(pixels: NDArray[np.uint8], poses: FloatArray, side: int) -> FloatArray:
    """(N, side²) the difference of each scan from the mean of all, in the canonical frame and at one contrast.

    Pixels outside the content frame of a scan (its box of pixels that are not black) are set to the mean, so that a cropped
    scan differs by what it shows and not by what it lacks.

    Args:
        pixels: (N, S, S) thumbnails.
        poses: (N, 2, 3).
        side: of the pictures, in pixels.
    """
    points = canonical_grid(side)
    shown = np.empty((len(pixels), side * side), dtype=np.float32)
    for start in range(0, len(pixels), BLOCK):
        block = slice(start, start + BLOCK)
        soft = ndimage.gaussian_filter(pixels[block].astype(np.float32), (0, 1, 1), truncate=2.5)
        shown[block] = _standardised(sample_images(soft, poses[block], points))
    mean = shown.mean(axis=0)
    for start in range(0, len(pixels), BLOCK):
        block = slice(start, start + BLOCK)
        valid = inside_frame(content_frames(pixels[block]), poses[block], points)
        shown[block] = np.where(valid, _match_contrast(shown[block], mean, valid) - mean, 0)
    return shown


def _match_contrast(shown: FloatArray, mean: FloatArray, valid: BoolArray) -> FloatArray:
    """Rows scaled to the level and contrast of the mean, over the pixels inside their frame."""
    count = np.maximum(valid.sum(axis=1, keepdims=True), 1)
    level = (valid * mean).sum(axis=1, keepdims=True) / count
    own = (valid * shown).sum(axis=1, keepdims=True) / count
    both = (valid * (mean - level) * (shown - own)).sum(axis=1, keepdims=True)
    alone = (valid * (shown - own) ** 2).sum(axis=1, keepdims=True)
    return np.asarray((shown - own) * np.maximum(both / np.maximum(alone, 1e-6), 0.1) + level)


def _mean_picture(pixels: NDArray[np.uint8], poses: FloatArray) -> FloatArray:
    """(1, SIDE²) the mean picture of some scans, each aligned to the mean of the round before."""
    images, boxes = _blurred(pixels), content_frames(pixels)
    mean = _standardised(sample_images(images[:1], poses[:1], canonical_grid(SIDE)))
    for _ in range(ROUNDS):
        poses = _match_rotation(images, poses, mean)
        mean = _standardised(
            _standardised(sample_images(images, poses, canonical_grid(SIDE))).mean(axis=0, keepdims=True)
        )
        poses = align(
            mean,
            images,
            poses,
            ITERATIONS // 2,
            boxes=boxes,
            derivatives=similarity_derivatives(affine_derivatives(mean)),
        ).poses
    return _standardised(_standardised(sample_images(images, poses, canonical_grid(SIDE))).mean(axis=0, keepdims=True))


def _match_rotation(images: FloatArray, poses: FloatArray, mean: FloatArray) -> FloatArray:
    """The poses rotated and mirrored to match the mean."""
    step = SIDE // COARSE
    pattern = mean.reshape(COARSE, step, COARSE, step).mean(axis=(1, 3)).reshape(-1)
    turns = _rotations()
    best, chosen = np.full(len(images), -np.inf), np.zeros(len(images), dtype=np.int64)
    for index, turn in enumerate(turns):
        correlation = _standardised(sample_images(images, poses, turn @ canonical_grid(COARSE))) @ pattern
        better = correlation > best
        best[better], chosen[better] = correlation[better], index
    return np.concatenate([poses[:, :, :2] @ turns[chosen], poses[:, :, 2:]], axis=2)


def _rotations() -> FloatArray:
    """(2 TURNS, 2, 2) rotations, without and with mirroring."""
    angle = np.arange(TURNS) * (2 * np.pi / TURNS)
    rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
    return np.concatenate([rotation, rotation @ np.diag([1.0, -1.0])]).astype(np.float32)


def _blurred(pixels: NDArray[np.uint8]) -> FloatArray:
    return np.asarray(ndimage.gaussian_filter(pixels.astype(np.float32), (0, BLUR, BLUR), truncate=2.5))


def _standardised(pictures: FloatArray) -> FloatArray:
    """Rows with mean 0 and standard deviation 1."""
    pictures = pictures - pictures.mean(axis=1, keepdims=True)
    return np.asarray(pictures / np.maximum(pictures.std(axis=1, keepdims=True), 1e-6), dtype=np.float32)


def _otsu(images: FloatArray) -> IntArray:
    """(B,) gray values that divide each image into two classes of least variance (Otsu 1979)."""
    values = np.clip(images.reshape(len(images), -1), 0, 255).astype(np.int64)
    values += 256 * np.arange(len(images))[:, None]
    counts = np.bincount(values.reshape(-1), minlength=256 * len(images)).reshape(-1, 256).astype(np.float64)
    below, mass = np.cumsum(counts, axis=1), np.cumsum(counts * np.arange(256), axis=1)
    above = below[:, -1:] - below
    between = (mass[:, -1:] * below / below[:, -1:] - mass) ** 2 / np.maximum(below * above, 1)
    return np.asarray(between.argmax(axis=1))


def _above_background(scan: FloatArray, threshold: float) -> BoolArray:
    border = float(np.median(np.concatenate([scan[0], scan[-1], scan[:, 0], scan[:, -1]])))
    if border > threshold:
        return np.asarray(scan < (border + threshold) / 2)
    dark = scan[scan < threshold]
    ground = max(border, float(np.median(dark)) if len(dark) else 0.0)
    return np.asarray(scan > (ground + threshold) / 2)


def _largest_region(mask: BoolArray) -> BoolArray:
    mask = ndimage.binary_opening(mask, np.ones((3, 3), dtype=bool))
    regions, count = ndimage.label(mask)
    if count == 0:
        return np.ones_like(mask)
    largest = regions == 1 + np.bincount(regions.reshape(-1))[1:].argmax()
    return np.asarray(ndimage.binary_fill_holes(largest), dtype=np.bool_)
