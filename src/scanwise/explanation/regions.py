"""Maps of different heads in one frame, and their share in each part of the head."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanwise import registration
from scanwise.records import FloatArray

SIDE = 64
"""Side of the canonical frame in which maps of different people are averaged."""
REGIONS = (
    "ventricles and centre", "cortex, left of the picture", "cortex, right of the picture", "front", "back", "outside the head",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AlignedMaps:
    """Maps and heads of several scans in one frame.

    Attributes:
        maps: (N, S, S), each with a sum of one.
        head: (S, S) how often there is head.
    """

    maps: FloatArray
    head: FloatArray


def align_maps(scans: NDArray[np.uint8], values: FloatArray) -> AlignedMaps:
    """Bring maps of different people into one frame, each head upright, in the middle and of one size.

    Args:
        scans: (N, H, W, C). values: (N, H, W).
    """
    side = scans.shape[1] // 2 * 2  # poses are found on half the size
    gray = np.rint(scans[:, :side, :side].mean(axis=3)).astype(np.uint8)
    masks = registration.foreground_masks(gray)
    poses = registration.estimate_poses(gray, masks)
    if len(scans) > 1:
        _turn_upright(poses)
    grid = registration.canonical_grid(SIDE)
    maps = registration.sample_images(values[:, :side, :side].astype(np.float32), poses, grid)
    heads = registration.sample_images(masks.repeat(2, axis=1).repeat(2, axis=2).astype(np.float32), poses, grid)
    total = maps.sum(axis=1, keepdims=True)
    maps = maps / np.where(total > 0, total, 1)
    return AlignedMaps(maps.reshape(-1, SIDE, SIDE), heads.mean(axis=0).reshape(SIDE, SIDE))


def region_shares(laid: AlignedMaps) -> dict[str, float]:
    """Share of the maps in each part of the head, summing to one; left and right are those of the picture."""
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE - 0.5
    head = laid.head > 0.5
    centre = head & (np.hypot(x / 0.20, y / 0.26) < 1)
    rest = head & ~centre
    front, back = rest & (y < -np.abs(x)), rest & (y > np.abs(x))
    sides = rest & ~front & ~back
    masks = (centre, sides & (x < 0), sides & (x >= 0), front, back, ~head)
    mean = laid.maps.mean(axis=0)
    total = float(mean.sum()) or 1.0
    return {name: float((mean * mask).sum()) / total for name, mask in zip(REGIONS, masks, strict=True)}


def _turn_upright(poses: FloatArray) -> None:
    """The frame of the mean scan may lie on its head, or be mirrored: turn it as most scans lie."""
    down = np.median(poses[:, 0, 0])
    if down < 0:
        poses[:, :, 0] *= -1
    if np.median(poses[:, 1, 1]) < 0:
        poses[:, :, 1] *= -1
