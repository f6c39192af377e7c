"""Local features: points that stand out in a scan, each with a size, a direction and a description of its surroundings.

Points are extrema of differences of Gaussians, and descriptions are histograms of gradients relative to the point's direction and
size (Lowe 2004), as square roots of shares (Arandjelović and Zisserman 2012). They stay the same when the scan is moved, turned
or zoomed, and local contrast is equalised first. A mirrored scan has the same descriptions in another order.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from scanwise.records import BoolArray, FloatArray, IntArray
from scanwise.registration.alignment import content_frames
from scanwise.registration.filters import blur

COUNT = 128
"""Points of a scan, those of the most contrast."""
BLOCK = 32
"""Scans processed at once."""
OCTAVES, LEVELS, SMALLEST = 4, 2, 12
"""Halvings of the picture, sizes of a point in each, and the least side of a halved picture."""
BLUR = 1.0
"""Standard deviation, in pixels, of the finest level."""
CONTRAST = 0.02
"""Least contrast of a point, in local standard deviations."""
LOCAL, NOISE = 8.0, 5.0
"""Width over which local contrast is equalised, in pixels, and the gray values below which a difference counts as noise."""
MARGIN = 3
"""Pixels at the edge of a scan, and of its content, where no point lies."""
BINS, CELLS, ANGLES = 36, 4, 8
"""Directions that a point may have; cells of its surroundings along each side; directions of gradients in each cell."""
SAMPLES = 12
"""Samples of the surroundings along each side."""
REACH, LARGEST = 6.0, 0.2
"""Half the side of the surroundings, in sizes of the point; largest share of one gradient, so that no edge outweighs the rest."""
SCALE = 512
"""Whole numbers of a description in one unit."""

MIRRORED: IntArray = (
    np.arange(CELLS * CELLS * ANGLES).reshape(CELLS, CELLS, ANGLES)[::-1, :, -np.arange(ANGLES)].reshape(-1).copy()
)
"""Order of the numbers of a description once the scan is mirrored."""


@dataclass(frozen=True, slots=True)
class Keypoints:
    """The points of many scans; a scan with fewer than `COUNT` has empty rows.

    Attributes:
        places: (N, COUNT, 2) pixels (y, x).
        sizes: (N, COUNT) standard deviation of each point, in pixels; 0 where there is none.
        angles: (N, COUNT) direction, in radians from x to y.
        descriptions: (N, COUNT, 128) uint8, of length `SCALE`.
    """

    places: FloatArray
    sizes: FloatArray
    angles: FloatArray
    descriptions: NDArray[np.uint8]

    @property
    def present(self) -> BoolArray:
        """(N, COUNT) whether there is a point."""
        return np.asarray(self.sizes > 0)

    @classmethod
    def detect(cls, images: NDArray[np.uint8]) -> Self:
        """The points of scans (N, S, S)."""
        count = len(images)
        points = cls(
            np.zeros((count, COUNT, 2), dtype=np.float32),
            np.zeros((count, COUNT), dtype=np.float32),
            np.zeros((count, COUNT), dtype=np.float32),
            np.zeros((count, COUNT, CELLS * CELLS * ANGLES), dtype=np.uint8),
        )
        for start in range(0, count, BLOCK):
            block = slice(start, start + BLOCK)
            _detect(
                images[block],
                points.places[block],
                points.sizes[block],
                points.angles[block],
                points.descriptions[block],
            )
        return points

    def take(self, rows: IntArray) -> "Keypoints":
        """The points of some scans."""
        return Keypoints(self.places[rows], self.sizes[rows], self.angles[rows], self.descriptions[rows])


def mirror_keypoints(points: Keypoints, mirrored: BoolArray) -> Keypoints:
    """The points of scans, those of `mirrored` (N,) as if the scan were mirrored upside down about its first row."""
    sign = np.where(mirrored, np.float32(-1), np.float32(1))
    places = points.places.copy()
    places[:, :, 0] *= sign[:, None]
    described = np.where(mirrored[:, None, None], points.descriptions[:, :, MIRRORED], points.descriptions)
    return Keypoints(places, points.sizes, points.angles * sign[:, None], described)


def _detect(
    images: NDArray[np.uint8],
    places: FloatArray,
    sizes: FloatArray,
    angles: FloatArray,
    descriptions: NDArray[np.uint8],
) -> None:
    """Fill the points of some scans in."""
    octaves = _octaves(_equalised(torch.from_numpy(np.ascontiguousarray(images)).float()))
    contrast, octave, level, y, x = _extrema(octaves, content_frames(images))
    kept = contrast > 0
    pixel = torch.stack([y, x], dim=2) * (2.0**octave)[..., None] * kept[..., None]
    places[:, : kept.shape[1]] = pixel.numpy()
    for index, levels in enumerate(octaves):
        for number in range(1, LEVELS + 1):
            scan, point = torch.nonzero(kept & (octave == index) & (level == number), as_tuple=True)
            if not len(scan):
                continue
            size = BLUR * 2 ** (number / LEVELS)
            slopes = _gradients(levels[number])
            at = torch.stack([y[scan, point], x[scan, point]], dim=1).float()
            angle = _directions(slopes, scan, at, size)
            described = _descriptions(slopes, scan, at, size, angle)
            rows = scan.numpy(), point.numpy()
            sizes[rows], angles[rows] = size * 2**index, angle.numpy()
            descriptions[rows] = torch.clamp(torch.round(SCALE * described), max=255).to(torch.uint8).numpy()


def _equalised(images: Tensor) -> Tensor:
    """(B, S, S) deviations from the local mean, in local standard deviations."""
    deviation = images - _local_mean(images)
    return deviation / torch.sqrt(_local_mean(deviation * deviation) + NOISE**2)


def _local_mean(images: Tensor) -> Tensor:
    small = F.avg_pool2d(images[:, None], 4, ceil_mode=True, count_include_pad=False)
    return F.interpolate(blur(small, LOCAL / 4), size=images.shape[1:], mode="bilinear")[:, 0]


def _octaves(pictures: Tensor) -> list[list[Tensor]]:
    """For each octave `LEVELS + 3` blurs (B, S, S), each `2 ** (1 / LEVELS)` times as wide as the one before."""
    octaves = []
    base = blur(pictures, math.sqrt(BLUR**2 - 0.25))
    for _ in range(OCTAVES):
        levels, width = [base], BLUR
        for number in range(1, LEVELS + 3):
            wider = BLUR * 2 ** (number / LEVELS)
            levels.append(blur(levels[-1], math.sqrt(wider**2 - width**2)))
            width = wider
        octaves.append(levels)
        base = levels[LEVELS][:, ::2, ::2].contiguous()
        if min(base.shape[1:]) < SMALLEST:
            break
    return octaves


def _extrema(octaves: list[list[Tensor]], frames: FloatArray) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(B, K) contrast, octave, level and pixel (y, x) of the points of most contrast; contrast 0 where there are fewer."""
    candidates = []
    for index, levels in enumerate(octaves):
        sizes = [(wider - narrower).abs_() for narrower, wider in pairwise(levels)]
        around = [_largest_around(size) for size in sizes]
        inside = _inside(frames, levels[0].shape[1:], 2**index)
        for number in range(1, len(sizes) - 1):
            size, before, after = sizes[number], around[number - 1], around[number + 1]
            peak = (size == around[number]) & (size > CONTRAST) & (size >= before) & (size >= after)
            contrast = (size * (peak & inside)).flatten(1)
            value, pixel = contrast.topk(min(COUNT, contrast.shape[1]), dim=1)
            width = levels[0].shape[2]
            candidates.append(
                (value, torch.full_like(pixel, index), torch.full_like(pixel, number), pixel // width, pixel % width)
            )
    value, *about = (torch.cat(parts, dim=1) for parts in zip(*candidates, strict=True))
    best, order = value.topk(min(COUNT, value.shape[1]), dim=1)
    octave, level, y, x = (part.gather(1, order) for part in about)
    return best, octave, level, y, x


def _largest_around(values: Tensor) -> Tensor:
    """(B, S, S) the largest of three by three values; at the edge the value itself."""
    rows = values.clone()
    torch.maximum(torch.maximum(values[:, :-2], values[:, 2:]), values[:, 1:-1], out=rows[:, 1:-1])
    largest = rows.clone()
    torch.maximum(torch.maximum(rows[:, :, :-2], rows[:, :, 2:]), rows[:, :, 1:-1], out=largest[:, :, 1:-1])
    return largest


def _inside(frames: FloatArray, shape: torch.Size, step: int) -> Tensor:
    """(B, H, W) whether a pixel of an octave lies in the content of its scan, off its edge."""
    top, bottom, left, right = torch.from_numpy(frames.T / step)[:, :, None]
    y, x = torch.arange(shape[0]), torch.arange(shape[1])
    rows = (y >= top + MARGIN) & (y <= bottom - MARGIN) & (y >= MARGIN) & (y < shape[0] - MARGIN)
    columns = (x >= left + MARGIN) & (x <= right - MARGIN) & (x >= MARGIN) & (x < shape[1] - MARGIN)
    inside: Tensor = rows[:, :, None] & columns[:, None, :]
    return inside


def _gradients(level: Tensor) -> Tensor:
    """(B, S, S, 2) central differences of a blur (B, S, S), downwards and to the right; 0 at the edge."""
    slopes = torch.zeros(*level.shape, 2)
    torch.sub(level[:, 2:], level[:, :-2], out=slopes[:, 1:-1, :, 0])
    torch.sub(level[:, :, 2:], level[:, :, :-2], out=slopes[:, :, 1:-1, 1])
    return slopes


def _sampled(slopes: Tensor, scan: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """(P, M, 2) gradients of (B, S, S, 2), of one scan a point, at the pixels nearest to (P, M) places; beyond an edge its last."""
    _, height, width, _ = slopes.shape
    pixel = y.round_().clamp_(0, height - 1).mul_(width).add_(x.round_().clamp_(0, width - 1)).int()
    return slopes.reshape(-1, 2)[pixel + (scan[:, None] * (height * width)).int()]


def _directions(slopes: Tensor, scan: Tensor, at: Tensor, size: float) -> Tensor:
    """(P,) the most frequent direction of the gradients around each point."""
    line = torch.linspace(-1, 1, 9) * (4 * size)
    y, x = (part.reshape(-1) for part in torch.meshgrid(line, line, indexing="ij"))
    gradient = _sampled(slopes, scan, at[:, :1] + y, at[:, 1:] + x)
    weight = gradient.norm(dim=2) * torch.exp(-(y**2 + x**2) / (2 * (1.8 * size) ** 2))
    turn = torch.remainder(torch.atan2(gradient[..., 0], gradient[..., 1]) * (BINS / (2 * math.pi)), BINS)
    lower = turn.floor()
    share, lower = turn - lower, lower.long() % BINS
    histogram = torch.zeros(len(scan), BINS)
    histogram.scatter_add_(1, lower, weight * (1 - share)).scatter_add_(1, (lower + 1) % BINS, weight * share)
    for _ in range(3):
        histogram = (histogram.roll(1, 1) + histogram + histogram.roll(-1, 1)) / 3
    best = histogram.argmax(dim=1, keepdim=True)
    before, top, after = (histogram.gather(1, (best + step) % BINS)[:, 0] for step in (-1, 0, 1))
    offset = 0.5 * (before - after) / (before - 2 * top + after).clamp(max=-1e-9)
    return (best[:, 0] + offset) * (2 * math.pi / BINS)


@lru_cache
def _cells() -> Tensor:
    """(SAMPLES², CELLS²) the share of each sample in each cell; it falls off linearly from the middle of the cell."""
    at = (np.arange(SAMPLES) + 0.5) * CELLS / SAMPLES - 0.5
    share = np.maximum(1 - np.abs(at[:, None] - np.arange(CELLS)), 0)
    cells = np.einsum("yi,xj->yxij", share, share).reshape(SAMPLES**2, CELLS**2)
    return torch.from_numpy(cells.astype(np.float32))


def _descriptions(slopes: Tensor, scan: Tensor, at: Tensor, size: float, angle: Tensor) -> Tensor:
    """(P, 128) descriptions of length 1: square roots of shares of the gradients by cell and direction."""
    half = REACH * size
    line = ((torch.arange(SAMPLES) + 0.5) * (2 / SAMPLES) - 1) * half
    down, along = (part.reshape(-1) for part in torch.meshgrid(line, line, indexing="ij"))
    cosine, sine = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
    gradient = _sampled(
        slopes, scan, at[:, :1] + sine * along + cosine * down, at[:, 1:] + cosine * along - sine * down
    )
    turned = torch.atan2(gradient[..., 0], gradient[..., 1]) - angle[:, None]
    weight = gradient.norm(dim=2) * torch.exp(-(down**2 + along**2) / (2 * half**2))
    turn = torch.remainder(turned * (ANGLES / (2 * math.pi)), ANGLES)
    lower = turn.floor()
    share, lower = turn - lower, lower.long() % ANGLES
    by_angle = torch.zeros(len(scan), SAMPLES**2, ANGLES)
    by_angle.scatter_(2, lower[..., None], (weight * (1 - share))[..., None])
    by_angle.scatter_add_(2, ((lower + 1) % ANGLES)[..., None], (weight * share)[..., None])
    cells = torch.einsum("psa,sc->pca", by_angle, _cells()).flatten(1)
    cells = torch.clamp(cells / cells.norm(dim=1, keepdim=True).clamp(min=1e-9), max=LARGEST)
    return torch.sqrt(cells / cells.sum(dim=1, keepdim=True).clamp(min=1e-9))
