"""Geometry between two scans from their local features: the map under which most of their points agree."""

import math
from dataclasses import dataclass

import numpy as np

from scanwise.records import BoolArray, FloatArray, IntArray
from scanwise.registration.keypoints import SCALE, Keypoints, mirror_keypoints

BLOCK = 64
"""Pairs processed at once."""
ALIKE = 0.75
"""Product of two descriptions, at most 1, from which two points may be one."""
TRIED, USED = 32, 96
"""Matches of a pair that propose a map, and matches that judge it; the most alike of them."""
TOLERANCE = 0.03
"""Distance, as a share of the side, up to which a point lies where the map puts it; twice as much for the first proposal."""
TURN, ZOOM = 0.5, 2.0
"""Radians, and the factor, by which the direction and the size of a point may differ from the map's."""
ROUNDS = 3
"""Fits of the affine map, each to the matches that agree with the one before."""
STIFFNESS = 30.0
"""Pull of the affine map towards the proposed similarity, in squared pixels at a side of 160."""


@dataclass(frozen=True, slots=True)
class FeatureMatches:
    """Agreement of the local features of pairs of scans.

    Attributes:
        transform: (P, 2, 3) from pixels (y, x) of the first scan to those of the second.
        count: (P,) points of the first scan that lie where the map puts them.
        share: (P,) of the points that both scans could show.
    """

    transform: FloatArray
    count: IntArray
    share: FloatArray


def match_features(points: Keypoints, rows: IntArray, mirrored: BoolArray, side: int) -> FeatureMatches:
    """The best affine map of each pair.

    Args:
        points: of all scans.
        rows: (P, 2) pairs of scans.
        mirrored: (P,) whether the map mirrors.
        side: of the scans, in pixels.
    """
    transform = np.zeros((len(rows), 2, 3), dtype=np.float32)
    count, share = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows))
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        left, right = points.take(rows[block, 0]), points.take(rows[block, 1])
        maps, agree = _agreement(mirror_keypoints(left, mirrored[block]), right, side)
        count[block] = agree
        maps[:, :, 0] *= np.where(mirrored[block], -1, 1)[:, None]
        transform[block] = maps
        share[block] = agree / np.maximum(_visible(left, right, maps, side), 1)
    return FeatureMatches(transform, count, share)


def _mutual_matches(left: Keypoints, right: Keypoints) -> tuple[IntArray, IntArray, BoolArray]:
    """(B, M) points of the left, their partners, and which of these pairs are mutual best matches; the most alike first."""
    a, b = (points.descriptions.astype(np.float32) * np.float32(1 / SCALE) for points in (left, right))
    alike = a @ b.swapaxes(1, 2)  # a missing point is all zeros
    partner, back = alike.argmax(axis=2), alike.argmax(axis=1)
    value = alike.max(axis=2)
    mutual = np.take_along_axis(back, partner, axis=1) == np.arange(alike.shape[1])
    value = np.where(mutual & (value >= ALIKE), value, 0)
    order = np.argsort(-value, axis=1, kind="stable")[:, :USED]
    return order, np.take_along_axis(partner, order, axis=1), np.take_along_axis(value, order, axis=1) > 0


def _agreement(left: Keypoints, right: Keypoints, side: int) -> tuple[FloatArray, IntArray]:
    """(B, 2, 3) maps from left to right, and (B,) the matches that lie where they put them."""
    at, partner, matched = _mutual_matches(left, right)
    source = np.take_along_axis(left.places, at[:, :, None], axis=1)
    target = np.take_along_axis(right.places, partner[:, :, None], axis=1)
    turn = np.take_along_axis(right.angles, partner, axis=1) - np.take_along_axis(left.angles, at, axis=1)
    sizes = np.take_along_axis(left.sizes, at, axis=1), np.take_along_axis(right.sizes, partner, axis=1)
    zoom = np.where(matched, sizes[1] / np.maximum(sizes[0], 1e-6), 1)
    proposed = _proposal(source, target, turn, zoom, matched, side)
    maps, agree = proposed, matched
    for _ in range(ROUNDS):
        agree = matched & (np.cos(turn - _angles(maps)[:, None]) > math.cos(TURN))
        agree &= _distance(maps, source, target) < TOLERANCE * side
        maps = _fitted(source, target, agree, proposed, side)
    return maps, agree.sum(axis=1)


def _proposal(
    source: FloatArray, target: FloatArray, turn: FloatArray, zoom: FloatArray, matched: BoolArray, side: int
) -> FloatArray:
    """(B, 2, 3) the similarity of one match that most others agree with."""
    count = min(TRIED, source.shape[1])
    cosine, sine = zoom[:, :count] * np.cos(turn[:, :count]), zoom[:, :count] * np.sin(turn[:, :count])
    linear = np.stack([np.stack([cosine, sine], axis=2), np.stack([-sine, cosine], axis=2)], axis=2)  # of y, x
    shift = target[:, :count] - (linear @ source[:, :count, :, None])[..., 0]
    off = linear @ source[:, None].swapaxes(2, 3) + (shift[..., None] - target[:, None].swapaxes(2, 3))
    near = off[:, :, 0] ** 2 + off[:, :, 1] ** 2 < (2 * TOLERANCE * side) ** 2
    near &= np.cos(turn[:, None, :] - turn[:, :count, None]) > math.cos(TURN)
    ratio = zoom[:, None, :] / zoom[:, :count, None]
    near &= (ratio < ZOOM) & (ratio > 1 / ZOOM)
    near &= matched[:, None, :] & matched[:, :count, None]
    best = near.sum(axis=2).argmax(axis=1)
    rows = np.arange(len(source))
    return np.concatenate([linear[rows, best], shift[rows, best][:, :, None]], axis=2).astype(np.float32)


def _fitted(source: FloatArray, target: FloatArray, agree: BoolArray, proposed: FloatArray, side: int) -> FloatArray:
    """(B, 2, 3) least-squares affine maps of the matches that agree, drawn towards the proposed ones."""
    ones = np.ones((*source.shape[:2], 1), dtype=source.dtype)
    points = np.concatenate([source, ones], axis=2).astype(np.float64)
    weighted = points * agree[:, :, None]
    pull = np.diag([1.0, 1.0, 1e-3 / side]) * STIFFNESS * (side / 160) ** 2
    normal = weighted.swapaxes(1, 2) @ points + pull
    right = weighted.swapaxes(1, 2) @ target.astype(np.float64) + pull @ proposed.swapaxes(1, 2)
    return np.asarray(np.linalg.solve(normal, right).swapaxes(1, 2), dtype=np.float32)


def _distance(maps: FloatArray, source: FloatArray, target: FloatArray) -> FloatArray:
    placed = source @ maps[:, :, :2].swapaxes(1, 2) + maps[:, None, :, 2]
    return np.asarray(np.sqrt(np.square(placed - target).sum(axis=2)))


def _angles(maps: FloatArray) -> FloatArray:
    """(B,) rotation of maps, from x to y."""
    return np.arctan2(maps[:, 0, 1] - maps[:, 1, 0], maps[:, 0, 0] + maps[:, 1, 1])


def _visible(left: Keypoints, right: Keypoints, maps: FloatArray, side: int) -> FloatArray:
    """(B,) the smaller number of points that lie where the other scan could show them."""
    back = np.linalg.inv(maps[:, :, :2] + 1e-6 * np.eye(2))
    there = left.places @ maps[:, :, :2].swapaxes(1, 2) + maps[:, None, :, 2]
    here = (right.places - maps[:, None, :, 2]) @ back.swapaxes(1, 2)
    seen = [
        ((places >= 0) & (places < side)).all(axis=2) & points.present
        for places, points in ((there, left), (here, right))
    ]
    return np.asarray(np.minimum(*(part.sum(axis=1) for part in seen)))
