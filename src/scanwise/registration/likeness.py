"""Likeness of two scans under a map between them: how well their textures agree, window by window.

The map is refined by a smooth field of small displacements (Lucas and Kanade 1981), so that elastic changes do not matter; local
means and contrasts cancel in the correlation of a window, so that brightness, contrast and local equalisation do not either.
Windows without texture have no say, and neither has what only one scan shows.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from scanwise.records import FloatArray, IntArray
from scanwise.registration.alignment import content_frames
from scanwise.registration.filters import blur

BLOCK = 16
"""Pairs processed at once."""
SOFT = 1.0
"""Blur of the scans, in pixels."""
ITERATIONS = 4
"""Refinements of the displacements."""
POOL = 4
"""Side, in pixels at half the size, of the blocks over which displacements are estimated."""
LARGEST = 4.0
"""Largest displacement, in pixels at half the size."""
STEP = 1.5
"""Largest displacement in one refinement."""
LEVELLED = 4.0
"""Added to local standard deviations, in gray values, before they are divided by."""
DAMPING = 0.01
"""Added to the squares of gradients, so that nothing moves where there is no texture."""
CELL = 3
"""Side of the blocks, in pixels, three by three of which are a window."""
NOISE = 1.0
"""Gray values below which a difference counts as noise."""
WHOLE = 0.999
"""Share of a sample that lies in the content of its scan, from which the scan shows it."""
LEAST_TEXTURE, TEXTURE = 3.0, 10.0
"""Standard deviation of a window, in gray values, from which it has texture, and from which more weighs no more."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """Agreement of pairs of scans, each (P,).

    Attributes:
        value: mean correlation of windows, weighted by their texture; 1 for equal scans.
        overlap: share of the first scan's content that the second one shows.
        texture: share of the windows in the overlap that have texture.
    """

    value: FloatArray
    overlap: FloatArray
    texture: FloatArray


def measure_likeness(images: NDArray[np.uint8], rows: IntArray, transform: FloatArray) -> Likeness:
    """The likeness of pairs of scans.

    Args:
        images: (N, S, S) scans.
        rows: (P, 2) pairs of scans.
        transform: (P, 2, 3) from pixels (y, x) of the first scan to those of the second.
    """
    parts = [np.empty(len(rows)) for _ in range(3)]
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        a, b = images[rows[block, 0]], images[rows[block, 1]]
        maps = torch.from_numpy(np.ascontiguousarray(transform[block], dtype=np.float32))
        for part, value in zip(parts, _measured(a, b, maps), strict=True):
            part[block] = value.numpy()
    return Likeness(*parts)


def _measured(first: NDArray[np.uint8], second: NDArray[np.uint8], maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value, overlap and texture of a block of pairs."""
    a, b = (blur(torch.from_numpy(np.ascontiguousarray(images)).float(), SOFT) for images in (first, second))
    content, shown = (_content(content_frames(images), images.shape[1]) for images in (first, second))
    half = maps.clone()
    half[:, :, 2] = (maps[:, :, :2].sum(dim=2) * 0.5 + maps[:, :, 2] - 0.5) / 2  # pixels twice as large
    fixed, inside, moving, there = (F.avg_pool2d(images[:, None], 2)[:, 0] for images in (a, content, b, shown))
    field = F.interpolate(_displacements(fixed, inside, moving, there, half), size=a.shape[1:], mode="bilinear") * 2
    warped, both = _warped(b, shown, maps, field)
    both = both * content
    value, textured = _correlation(a, warped, both)
    overlap = both.flatten(1).sum(dim=1) / content.flatten(1).sum(dim=1).clamp(min=1)
    return value, overlap, textured


def _content(frames: FloatArray, side: int) -> Tensor:
    """(B, side, side) 1 where a pixel lies in the content frame of its scan, else 0."""
    top, bottom, left, right = torch.from_numpy(frames.T)[:, :, None]
    line = torch.arange(side)
    rows, columns = (line >= top) & (line <= bottom), (line >= left) & (line <= right)
    both: Tensor = rows[:, :, None] & columns[:, None, :]
    return both.float()


def _displacements(a: Tensor, content: Tensor, b: Tensor, shown: Tensor, maps: Tensor) -> Tensor:
    """(B, 2, H, W) displacements of the points of the first scans, in pixels, that make the second ones fit.

    The gradients are those of the first scans, and both are normalised before: all but the difference is computed once.
    """
    fixed, moving = _normalised(a, content), _normalised(b, shown)
    down, right = torch.zeros_like(fixed), torch.zeros_like(fixed)
    torch.sub(fixed[:, 2:], fixed[:, :-2], out=down[:, 1:-1]).mul_(0.5)
    torch.sub(fixed[:, :, 2:], fixed[:, :, :-2], out=right[:, :, 1:-1]).mul_(0.5)
    slopes = torch.stack([down, right], dim=1) * content[:, None]
    yy, xx, yx = (_pooled(left * other) for left, other in ((down, down), (right, right), (down, right)))
    yy, xx = yy + DAMPING, xx + DAMPING
    adjugate = torch.stack([torch.stack([xx, -yx], dim=1), torch.stack([-yx, yy], dim=1)], dim=1)
    inverse = adjugate / (yx * yx - yy * xx)[:, None, None]
    field = torch.zeros_like(slopes)
    for _ in range(ITERATIONS):
        warped, both = _warped(moving, shown, maps, field)
        missing = _pooled(slopes * (warped.sub_(fixed).mul_(both))[:, None])
        change = (inverse * missing[:, None]).sum(dim=2).clamp_(-STEP, STEP)
        field.add_(F.interpolate(_smooth(change), size=a.shape[1:], mode="bilinear")).clamp_(-LARGEST, LARGEST)
    return field


def _normalised(pictures: Tensor, content: Tensor) -> Tensor:
    """(B, H, W) deviations from the local mean, in local standard deviations; 0 outside the content."""
    share = _pooled(content).clamp(min=1e-3)

    def local(values: Tensor) -> Tensor:
        mean = _pooled(values * content) / share
        return F.interpolate(mean[:, None], size=values.shape[1:], mode="bilinear")[:, 0]

    deviation = (pictures - local(pictures)) * content
    return deviation / torch.sqrt(local(deviation**2) + LEVELLED**2)


def _pooled(values: Tensor) -> Tensor:
    """Means over blocks and those around them, of (B, H, W) or (B, C, H, W)."""
    return _smooth(F.avg_pool2d(values, POOL))


def _smooth(values: Tensor) -> Tensor:
    """Means of three by three values."""
    return F.avg_pool2d(values, 3, 1, 1, count_include_pad=False)


def _warped(images: Tensor, shown: Tensor, maps: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    """(B, H, W) the second scans at the displaced points of the first, and 1 where they show these, else 0."""
    side = images.shape[1]
    line = torch.arange(side, dtype=torch.float32)
    scale = 2 / (side - 1)
    at = torch.empty(len(images), side, side, 2)
    for axis in (0, 1):
        down, right, shift = (maps[:, axis, column, None, None] * scale for column in range(3))
        straight = down * line[:, None] + (right * line + (shift - 1))
        torch.add(straight, down * field[:, 0] + right * field[:, 1], out=at[..., 1 - axis])
    both = F.grid_sample(torch.stack([images, shown], dim=1), at, padding_mode="zeros", align_corners=True)
    return both[:, 0], (both[:, 1] > WHOLE).float()


def _correlation(a: Tensor, b: Tensor, both: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) mean correlation of windows, weighted by their texture, and the share of windows that have any."""
    a, b = a * both, b * both
    cells = torch.stack([F.avg_pool2d(part, CELL) for part in (both, a, b, a * a, b * b, a * b)], dim=1)
    weight, *moments = _smooth(cells).unbind(dim=1)
    mean_a, mean_b, aa, bb, ab = (moment / weight.clamp(min=1e-3) for moment in moments)
    spread_a, spread_b = ((square - mean**2).clamp(min=0) for square, mean in ((aa, mean_a), (bb, mean_b)))
    correlation = (ab - mean_a * mean_b) / torch.sqrt((spread_a + NOISE**2) * (spread_b + NOISE**2))
    inside = (cells[:, 0] > 0.5) & (weight > 0.5)
    texture = (spread_a * spread_b).pow(0.25).clamp(max=TEXTURE) * inside  # the geometric mean of their deviations
    value = (correlation * texture).flatten(1).sum(dim=1) / texture.flatten(1).sum(dim=1).clamp(min=1e-3)
    textured = (torch.minimum(spread_a, spread_b) > LEAST_TEXTURE**2) & inside
    return value, textured.flatten(1).float().sum(dim=1) / inside.flatten(1).float().sum(dim=1).clamp(min=1)
