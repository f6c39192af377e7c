"""Matching of scans in a common pose: candidate copies by vectors, and alignment of pairs.

The vectors of two scans are compared once for each symmetry, because mirroring changes only signs of them. Pairs are aligned at
half the size of the thumbnails, on the canonical picture of the first scan.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scanwise import registration
from scanwise.audit.evidence import CopyPairs
from scanwise.records import BoolArray, FloatArray, IntArray

SIDE = 48
"""Side of canonical pictures."""
COMPONENTS = 256
BLOCK = 512
"""Pairs aligned at once."""
ZOOM = (0.5, 2.0)
"""Allowed zoom between two scans, in every direction. Without limits, noise is aligned to a single flat spot, where everything agrees."""
OVERLAP, FEWEST = 0.5, 0.1
"""Share of the body of the first scan, and of the canonical picture, that both must show; a body fills half of that picture."""
CORNERS = np.array([[-0.4, -0.4, 0.4, 0.4], [-0.4, 0.4, -0.4, 0.4]], dtype=np.float32)
"""Canonical points near the edge of the body, whose displacement is measured."""
MIRRORS = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=np.float32)
"""Signs of the four symmetries: unchanged, mirrored sideways, mirrored upside down, both."""


@dataclass(frozen=True, slots=True)
class PoseNormalisedScans:
    """Scans at half the size, with their poses and with vectors for comparison in a common pose.

    Attributes:
        small: (N, S, S) uint8, blurred.
        masks: (N, S, S) the body.
        poses: (N, 2, 3) from the canonical frame to pixels of `small`.
        boxes: (N, 4) of `registration.content_frames`.
        vectors: (N, D) rows of length 1, whose product is the similarity of two scans in a common pose.
        signs: (4, D) signs of the vectors under each of `MIRRORS`.
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
        """(B, side²) the body, as far as the scan shows it: beyond its content frame nothing is known."""
        grid = registration.canonical_grid(side)
        body = registration.sample_images(self.masks[rows].astype(np.float32), poses, grid) > 0.5
        return np.asarray(body & registration.inside_frame(self.boxes[rows], poses, grid))


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, S // 2, S // 2) means of 2 × 2 pixels after a slight blur."""
    from scipy.ndimage import gaussian_filter

    side = pixels.shape[1] // 2
    small = np.empty((len(pixels), side, side), dtype=np.uint8)
    for start in range(0, len(pixels), BLOCK):
        block = pixels[start : start + BLOCK, : 2 * side, : 2 * side].astype(np.float32)
        soft = gaussian_filter(block, (0, 0.8, 0.8), truncate=2.5).reshape(-1, side, 2, side, 2).mean(axis=(2, 4))
        small[start : start + BLOCK] = np.rint(soft)
    return small


def _symmetric(pictures: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Principal components that mirroring changes in sign alone: (N, D) rows of length 1 and (4, D) signs.

    A picture is the sum of four parts, each even or odd in both directions, and each with components of its own. Each component
    is divided by the fourth root of its variance; otherwise the largest ones would make all scans similar.
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
    projected = [part.reshape(len(part), -1) @ axis for part, axis in zip(folded, axes, strict=True)]
    vectors = (np.concatenate(projected, axis=1) * weight.astype(np.float32))[:, kept]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    return vectors, MIRRORS[:, kind_of[kept]]


def align_pairs(
    scans: PoseNormalisedScans, rows: IntArray, initial: FloatArray, side: int, iterations: int
) -> CopyPairs:
    """Alignment of the second scan of each pair to the first; transforms are between scans of half the size.

    Args:
        scans: all scans.
        rows: (P, 2) pairs.
        initial: (P, 2, 3) poses of the second scans to start from.
        side: of the canonical picture.
        iterations: Gauss-Newton steps.
    """
    similarity, displacement = np.empty(len(rows)), np.empty(len(rows))
    transform = np.empty((len(rows), 2, 3), dtype=np.float32)
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        first, second = rows[block].T
        own = scans.poses[first]
        fixed = scans.picture(first, own, side)
        aligned = registration.align(
            fixed,
            scans.small[second].astype(np.float32),
            initial[block],
            iterations,
            boxes=scans.boxes[second],
            shown=registration.inside_frame(scans.boxes[first], own, registration.canonical_grid(side)),
        ).poses
        body = scans.mask(first, own, side)
        both = body & scans.mask(second, aligned, side)
        transform[block] = _between(own, aligned)
        enough = both.mean(axis=1) >= np.maximum(OVERLAP * body.mean(axis=1), FEWEST)
        moved = np.linalg.norm(_corners(own) - _corners(aligned), axis=1).max(axis=1)
        valid = _valid_zoom(transform[block]) & (moved <= np.sqrt(2) * scans.small.shape[1]) & enough
        explained = registration.explained_detail(fixed, scans.picture(second, aligned, side), both)
        similarity[block] = np.where(valid, explained, 0)
        displacement[block] = 2 * moved
    return CopyPairs(rows, similarity, displacement, transform)


def _corners(poses: FloatArray) -> FloatArray:
    return np.asarray(poses[:, :, :2] @ CORNERS + poses[:, :, 2:])


def _valid_zoom(transform: FloatArray) -> BoolArray:
    """(B,) whether transforms zoom within `ZOOM` in every direction."""
    sizes = np.linalg.svd(transform[:, :, :2], compute_uv=False)
    return np.asarray((sizes[:, 1] >= ZOOM[0]) & (sizes[:, 0] <= ZOOM[1]))


def _between(own: FloatArray, other: FloatArray) -> FloatArray:
    """(B, 2, 3) the map from pixels under one pose to pixels under the other."""
    linear = other[:, :, :2] @ np.linalg.inv(own[:, :, :2])
    return np.concatenate([linear, other[:, :, 2:] - linear @ own[:, :, 2:]], axis=2)


def orient_transforms(transform: FloatArray, forward: BoolArray) -> FloatArray:
    """(B, 2, 3) these transforms, inverted where not `forward`."""
    inverse = np.linalg.inv(transform[:, :, :2])
    inverse = np.concatenate([inverse, -inverse @ transform[:, :, 2:]], axis=2)
    return np.where(forward[:, None, None], transform, inverse)


def compose_transforms(first: FloatArray, second: FloatArray) -> FloatArray:
    """(B, 2, 3) the first transform followed by the second."""
    return np.concatenate(
        [second[:, :, :2] @ first[:, :, :2], second[:, :, :2] @ first[:, :, 2:] + second[:, :, 2:]], axis=2
    )


def mirrored_poses(scans: PoseNormalisedScans, rows: IntArray, mirrors: IntArray) -> FloatArray:
    """(P, 2, 3) the poses of the second scans of pairs, mirrored by the given `MIRRORS`."""
    poses = scans.poses[rows[:, 1]].copy()
    poses[:, :, :2] *= MIRRORS[mirrors][:, None, [2, 1]]  # signs of y and x
    return poses


def poses_of_second(scans: PoseNormalisedScans, pairs: CopyPairs) -> FloatArray:
    """(P, 2, 3) the poses of the second scans of aligned pairs."""
    return compose_transforms(scans.poses[pairs.rows[:, 0]], pairs.transform).astype(np.float32)


def to_thumbnail_pixels(pairs: CopyPairs) -> CopyPairs:
    """Pairs with transforms between thumbnails instead of scans of half the size."""
    linear, shift = pairs.transform[:, :, :2], 2 * pairs.transform[:, :, 2:] + 0.5
    shift = shift - 0.5 * linear.sum(axis=2, keepdims=True)
    return replace(pairs, transform=np.concatenate([linear, shift], axis=2))
