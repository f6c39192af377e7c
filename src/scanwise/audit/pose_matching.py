"""Scans in one common pose: what finds those that may be one, and what lays one over another.

The vectors of two scans are compared once for each symmetry, because a mirror changes no more than signs of them. Laying
over is done at half the size of the thumbnails, on the canonical picture of the first scan.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scanwise import registration
from scanwise.audit.evidence import CopyPairs
from scanwise.records import BoolArray, FloatArray, IntArray

SIDE = 48
"""Of canonical pictures."""
COMPONENTS = 256
BLOCK = 512
"""Pairs laid over each other at once."""
ZOOM = (0.4, 2.5)
"""What one scan may be zoomed by to be the other. Noise is else laid over a single flat spot, where all agrees."""
OVERLAP, FEWEST = 0.5, 0.1
"""Share of the subject of the first scan, and of the canonical picture, that both must show: a subject fills half of that."""
CORNERS = np.array([[-0.4, -0.4, 0.4, 0.4], [-0.4, 0.4, -0.4, 0.4]], dtype=np.float32)
"""Canonical places near the edge of the subject, whose way tells how far a scan was moved."""
MIRRORS = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=np.float32)
"""Signs of the four kinds of symmetry: as it is, mirrored sideways, upside down, both."""


@dataclass(frozen=True, slots=True)
class PoseNormalisedScans:
    """Scans at half the size, with what finds and aligns them.

    Attributes:
        small: (N, S, S) uint8, softened.
        masks: (N, S, S) where the subject is.
        poses: (N, 2, 3) from the canonical frame to pixels of `small`.
        boxes: (N, 4) of `registration.content_frames`.
        vectors: (N, D) rows of length 1, whose product tells how alike two scans are in one pose.
        signs: (4, D) what each of `MIRRORS` makes of them.
    """

    small: NDArray[np.uint8]
    masks: BoolArray
    poses: FloatArray
    boxes: FloatArray
    vectors: FloatArray
    signs: FloatArray

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> "PoseNormalisedScans":
        masks = registration.foreground_masks(pixels)
        poses = registration.estimate_poses(pixels, masks)
        vectors, signs = _symmetric(registration.canonical_pictures(pixels, poses, SIDE))
        half = np.concatenate([poses[:, :, :2] / 2, (poses[:, :, 2:] - 0.5) / 2], axis=2)
        small = _halved(pixels)
        return cls(small, masks, half, registration.content_frames(small), vectors, signs)

    def picture(self, rows: IntArray, poses: FloatArray, side: int) -> FloatArray:
        return registration.sample_images(self.small[rows].astype(np.float32), poses, registration.canonical_grid(side))

    def mask(self, rows: IntArray, poses: FloatArray, side: int) -> BoolArray:
        return (
            registration.sample_images(self.masks[rows].astype(np.float32), poses, registration.canonical_grid(side))
            > 0.5
        )


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, S // 2, S // 2), each pixel the mean of a softened 2 × 2."""
    from scipy.ndimage import gaussian_filter

    side = pixels.shape[1] // 2
    small = np.empty((len(pixels), side, side), dtype=np.uint8)
    for start in range(0, len(pixels), BLOCK):
        block = pixels[start : start + BLOCK, : 2 * side, : 2 * side].astype(np.float32)
        soft = gaussian_filter(block, (0, 0.8, 0.8), truncate=2.5).reshape(-1, side, 2, side, 2).mean(axis=(2, 4))
        small[start : start + BLOCK] = np.rint(soft)
    return small


def _symmetric(pictures: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Principal components that a mirror changes in sign alone: (N, D) rows of length 1 and (4, D) signs.

    A picture is the sum of four, each even or odd sideways and upright, and each with components of its own. Large
    components weigh less (the fourth root of their variance is taken from each), or all scans would look alike.
    """
    from scipy.linalg import eigh

    half = SIDE // 2
    square = pictures.reshape(-1, SIDE, SIDE)
    a, b = square[:, :half, :half], square[:, :half, : half - 1 : -1]
    c, d = square[:, : half - 1 : -1, :half], square[:, : half - 1 : -1, : half - 1 : -1]
    folded = [(signs[:, None, None, None] * np.stack([a, b, c, d])).sum(axis=0) / 2 for signs in MIRRORS]
    some = slice(None, None, -(-len(pictures) // 10_000))
    powers, axes, kinds = [], [], []
    for kind, part in enumerate(folded):
        flat = part[some].reshape(-1, half * half)
        power, axis = eigh(flat.T @ flat / len(flat), subset_by_index=(half * half - COMPONENTS, half * half - 1))
        powers.append(power)
        axes.append(axis.astype(np.float32))
        kinds.append(np.full(len(power), kind))
    power, kind_of = np.concatenate(powers), np.concatenate(kinds)
    kept = np.argsort(-power)[: min(COMPONENTS, len(pictures))]
    weight = np.maximum(power, 1e-6 * power.max()) ** -0.25
    turned = [part.reshape(len(part), -1) @ axis for part, axis in zip(folded, axes, strict=True)]
    vectors = (np.concatenate(turned, axis=1) * weight.astype(np.float32))[:, kept]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    return vectors, MIRRORS[:, kind_of[kept]]


def align_pairs(scans: PoseNormalisedScans, rows: IntArray, begun: FloatArray, side: int, iterations: int) -> CopyPairs:
    """The second scan of each pair laid over the first; transforms are between scans of half the size."""
    likeness, moved = np.empty(len(rows)), np.empty(len(rows))
    transform = np.empty((len(rows), 2, 3), dtype=np.float32)
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        one, other = rows[block].T
        own = scans.poses[one]
        fixed = scans.picture(one, own, side)
        aligned = registration.align(
            fixed,
            scans.small[other].astype(np.float32),
            begun[block],
            iterations,
            boxes=scans.boxes[other],
            shown=registration.inside_frame(scans.boxes[one], own, registration.canonical_grid(side)),
        ).poses
        subject = scans.mask(one, own, side)
        both = subject & scans.mask(other, aligned, side)
        transform[block] = _between(own, aligned)
        enough = both.mean(axis=1) >= np.maximum(OVERLAP * subject.mean(axis=1), FEWEST)
        sound = _sound(transform[block]) & enough
        explained = registration.explained_detail(fixed, scans.picture(other, aligned, side), both)
        likeness[block] = np.where(sound, explained, 0)
        moved[block] = 2 * np.linalg.norm(_at(own) - _at(aligned), axis=1).max(axis=1)
    return CopyPairs(rows, likeness, moved, transform)


def _at(poses: FloatArray) -> FloatArray:
    return np.asarray(poses[:, :, :2] @ CORNERS + poses[:, :, 2:])


def _sound(transform: FloatArray) -> BoolArray:
    """(B,) whether transforms zoom within `ZOOM`."""
    size = np.sqrt(np.abs(np.linalg.det(transform[:, :, :2])))
    return np.asarray((size >= ZOOM[0]) & (size <= ZOOM[1]))


def _between(own: FloatArray, other: FloatArray) -> FloatArray:
    """(B, 2, 3) from where one pose leads to where the other one does."""
    linear = other[:, :, :2] @ np.linalg.inv(own[:, :, :2])
    return np.concatenate([linear, other[:, :, 2:] - linear @ own[:, :, 2:]], axis=2)


def orient_transforms(transform: FloatArray, forth: BoolArray) -> FloatArray:
    """(B, 2, 3) these transforms, or the way back where it is not `forth`."""
    back = np.linalg.inv(transform[:, :, :2])
    back = np.concatenate([back, -back @ transform[:, :, 2:]], axis=2)
    return np.where(forth[:, None, None], transform, back)


def compose_transforms(first: FloatArray, second: FloatArray) -> FloatArray:
    """(B, 2, 3) the first way, and then the second."""
    return np.concatenate(
        [second[:, :, :2] @ first[:, :, :2], second[:, :, :2] @ first[:, :, 2:] + second[:, :, 2:]], axis=2
    )


def mirrored_poses(scans: PoseNormalisedScans, rows: IntArray, mirrors: IntArray) -> FloatArray:
    """(P, 2, 3) the poses of the second scans of pairs, mirrored as `MIRRORS` says."""
    begun = scans.poses[rows[:, 1]].copy()
    begun[:, :, :2] *= MIRRORS[mirrors][:, None, [2, 1]]  # signs of y and x
    return begun


def poses_of_second(scans: PoseNormalisedScans, found: CopyPairs) -> FloatArray:
    """(P, 2, 3) the poses of the second scans of pairs that were laid over each other."""
    return compose_transforms(scans.poses[found.rows[:, 0]], found.transform).astype(np.float32)


def to_thumbnail_pixels(found: CopyPairs) -> CopyPairs:
    """Transforms between thumbnails, of those between scans of half the size."""
    linear, shift = found.transform[:, :, :2], 2 * found.transform[:, :, 2:] + 0.5
    shift = shift - 0.5 * linear.sum(axis=2, keepdims=True)
    return replace(found, transform=np.concatenate([linear, shift], axis=2))
