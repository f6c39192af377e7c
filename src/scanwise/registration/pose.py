"""How the subject of each scan lies: where, how large, turned and mirrored which way.

Moments of the foreground give a first answer, as good as the foreground. Where scans show one kind of thing, the mean of
all of them is then a better witness: each scan is laid over it, and what was cut or badly told from the background loses
its say.
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
"""Scans worked on at once."""
LEARNT = 512
"""Scans from which the mean is learnt."""
ROUNDS = 4
SIDE = 32
"""Of the canonical picture that scans are laid over."""
COARSE = 16
"""Of the one on which turns are tried."""
BLUR = 2.0
"""Of scans that are laid over the mean, in pixels of the thumbnail."""
TURNS = 16
ITERATIONS = 8


def foreground_masks(pixels: NDArray[np.uint8]) -> BoolArray:
    """(N, S // 2, S // 2) the largest thing that stands out from the border, without holes, at half the size.

    What stands out is what lies more than halfway from the background (the median of the border, or the darker side) to
    Otsu's threshold. Where nothing does, everything is foreground.
    """
    side = pixels.shape[1] // 2
    found = np.empty((len(pixels), side, side), dtype=np.bool_)
    for start in range(0, len(pixels), BLOCK):
        block = pixels[start : start + BLOCK, : 2 * side, : 2 * side].astype(np.float32)
        small = block.reshape(-1, side, 2, side, 2).mean(axis=(2, 4))
        small = ndimage.gaussian_filter(small, (0, 0.7, 0.7))
        for row, (scan, threshold) in enumerate(zip(small, _otsu(small), strict=True), start):
            found[row] = _largest(_standing_out(scan, float(threshold)))
    return found


def moment_poses(masks: BoolArray) -> FloatArray:
    """(N, 2, 3) poses that bring each mask upright (its longer axis vertical), to the middle and to an area of one.

    Args:
        masks: (N, S, S) at half the size of the thumbnails; the poses are in pixels of the thumbnails.
    """
    count, height, width = masks.shape
    y, x = (place.reshape(-1).astype(np.float64) for place in np.mgrid[:height, :width])
    flat = masks.reshape(count, -1).astype(np.float32)
    area, *sums = (flat @ np.stack([np.ones_like(y), y, x, y * y, x * x, x * y], axis=1).astype(np.float32)).T.astype(
        np.float64
    )
    down, right, down2, right2, mixed = (total / area for total in sums)
    turn = 0.5 * np.arctan2(2 * (mixed - down * right), (down2 - down**2) - (right2 - right**2))
    size = 2 * np.sqrt(area)
    found = np.empty((count, 2, 3), dtype=np.float32)
    found[:, 0] = np.stack([size * np.cos(turn), -size * np.sin(turn), 2 * down + 0.5], axis=1)
    found[:, 1] = np.stack([size * np.sin(turn), size * np.cos(turn), 2 * right + 0.5], axis=1)
    return found


def estimate_poses(pixels: NDArray[np.uint8], masks: BoolArray) -> FloatArray:
    """(N, 2, 3) how the subject of each scan lies: from the canonical frame of all to the pixels of its thumbnail.

    Args:
        pixels: (N, S, S) thumbnails.
        masks: (N, S // 2, S // 2) of `foreground_masks`.
    """
    found = moment_poses(masks)
    some = np.unique(np.linspace(0, len(pixels) - 1, min(LEARNT, len(pixels))).astype(np.int64))
    mean = _mean(pixels[some], found[some])
    steepest = similarity_derivatives(affine_derivatives(mean))
    for start in range(0, len(pixels), BLOCK):
        block = slice(start, start + BLOCK)
        images = _blurred(pixels[block])
        begun = _turned(images, found[block], mean)
        boxes = content_frames(pixels[block])
        found[block] = align(mean, images, begun, ITERATIONS, boxes=boxes, derivatives=steepest).poses
    return found


def canonical_pictures(pixels: NDArray[np.uint8], found: FloatArray, side: int) -> FloatArray:
    """(N, side²) what each scan shows beyond the mean of all, in the canonical frame and at one contrast.

    What lies outside the frame of a scan (its box of pixels that are not black) is taken to be as the mean, so that a cut
    scan differs from others by what it shows and not by what it lacks.

    Args:
        pixels: (N, S, S) thumbnails.
        found: (N, 2, 3) their poses.
    """
    places = canonical_grid(side)
    shown = np.empty((len(pixels), side * side), dtype=np.float32)
    for start in range(0, len(pixels), BLOCK):
        block = slice(start, start + BLOCK)
        soft = ndimage.gaussian_filter(pixels[block].astype(np.float32), (0, 1, 1), truncate=2.5)
        shown[block] = _standard(sample_images(soft, found[block], places))
    mean = shown.mean(axis=0)
    for start in range(0, len(pixels), BLOCK):
        block = slice(start, start + BLOCK)
        known = inside_frame(content_frames(pixels[block]), found[block], places)
        shown[block] = np.where(known, _matched(shown[block], mean, known) - mean, 0)
    return shown


def _matched(shown: FloatArray, mean: FloatArray, known: BoolArray) -> FloatArray:
    """Rows brought to the level and contrast of the mean where they are inside their frame."""
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    level = (known * mean).sum(axis=1, keepdims=True) / count
    own = (known * shown).sum(axis=1, keepdims=True) / count
    both = (known * (mean - level) * (shown - own)).sum(axis=1, keepdims=True)
    alone = (known * (shown - own) ** 2).sum(axis=1, keepdims=True)
    return np.asarray((shown - own) * np.maximum(both / np.maximum(alone, 1e-6), 0.1) + level)


def _mean(pixels: NDArray[np.uint8], found: FloatArray) -> FloatArray:
    """(1, SIDE²) the mean picture of some scans, each laid over the mean of the round before."""
    images, boxes = _blurred(pixels), content_frames(pixels)
    mean = _standard(sample_images(images[:1], found[:1], canonical_grid(SIDE)))
    for _ in range(ROUNDS):
        found = _turned(images, found, mean)
        mean = _standard(_standard(sample_images(images, found, canonical_grid(SIDE))).mean(axis=0, keepdims=True))
        found = align(
            mean,
            images,
            found,
            ITERATIONS // 2,
            boxes=boxes,
            derivatives=similarity_derivatives(affine_derivatives(mean)),
        ).poses
    return _standard(_standard(sample_images(images, found, canonical_grid(SIDE))).mean(axis=0, keepdims=True))


def _turned(images: FloatArray, found: FloatArray, mean: FloatArray) -> FloatArray:
    """The poses turned and mirrored as the mean lies."""
    step = SIDE // COARSE
    wanted = mean.reshape(COARSE, step, COARSE, step).mean(axis=(1, 3)).reshape(-1)
    turns = _turns()
    best, chosen = np.full(len(images), -np.inf), np.zeros(len(images), dtype=np.int64)
    for index, turn in enumerate(turns):
        alike = _standard(sample_images(images, found, turn @ canonical_grid(COARSE))) @ wanted
        better = alike > best
        best[better], chosen[better] = alike[better], index
    return np.concatenate([found[:, :, :2] @ turns[chosen], found[:, :, 2:]], axis=2)


def _turns() -> FloatArray:
    """(2 TURNS, 2, 2) rotations, and rotations of the mirror image."""
    angle = np.arange(TURNS) * (2 * np.pi / TURNS)
    rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
    return np.concatenate([rotation, rotation @ np.diag([1.0, -1.0])]).astype(np.float32)


def _blurred(pixels: NDArray[np.uint8]) -> FloatArray:
    return np.asarray(ndimage.gaussian_filter(pixels.astype(np.float32), (0, BLUR, BLUR), truncate=2.5))


def _standard(pictures: FloatArray) -> FloatArray:
    """Rows with mean 0 and deviation 1."""
    pictures = pictures - pictures.mean(axis=1, keepdims=True)
    return np.asarray(pictures / np.maximum(pictures.std(axis=1, keepdims=True), 1e-6), dtype=np.float32)


def _otsu(images: FloatArray) -> IntArray:
    """(B,) gray values that part each image into two kinds with the least spread (Otsu 1979)."""
    values = np.clip(images.reshape(len(images), -1), 0, 255).astype(np.int64)
    values += 256 * np.arange(len(images))[:, None]
    counts = np.bincount(values.reshape(-1), minlength=256 * len(images)).reshape(-1, 256).astype(np.float64)
    below, mass = np.cumsum(counts, axis=1), np.cumsum(counts * np.arange(256), axis=1)
    above = below[:, -1:] - below
    between = (mass[:, -1:] * below / below[:, -1:] - mass) ** 2 / np.maximum(below * above, 1)
    return np.asarray(between.argmax(axis=1))


def _standing_out(scan: FloatArray, threshold: float) -> BoolArray:
    border = float(np.median(np.concatenate([scan[0], scan[-1], scan[:, 0], scan[:, -1]])))
    if border > threshold:
        return np.asarray(scan < (border + threshold) / 2)
    dark = scan[scan < threshold]
    ground = max(border, float(np.median(dark)) if len(dark) else 0.0)
    return np.asarray(scan > (ground + threshold) / 2)


def _largest(mask: BoolArray) -> BoolArray:
    mask = ndimage.binary_opening(mask, np.ones((3, 3), dtype=bool))
    numbered, count = ndimage.label(mask)
    if count == 0:
        return np.ones_like(mask)
    largest = numbered == 1 + np.bincount(numbered.reshape(-1))[1:].argmax()
    return np.asarray(ndimage.binary_fill_holes(largest), dtype=np.bool_)
