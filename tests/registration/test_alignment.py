"""Alignment: what was moved is found again, in spite of cuts and contrast; and what one picture explains of another."""

import numpy as np
import pytest
from scipy import ndimage

from scanwise.registration import align, canonical_grid, content_frames, inside_frame, sample_images
from scanwise.registration.alignment import EXTENT, affine_derivatives, similarity_derivatives

SIDE = 52
POSE = np.array([[SIDE / 1.8, 0, (SIDE - 1) / 2], [0, SIDE / 1.8, (SIDE - 1) / 2]], dtype=np.float32)


def scans(count: int, seed: int = 0) -> np.ndarray:
    """Smooth patterns within a disk on black."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    pattern = ndimage.gaussian_filter(random.standard_normal((count, SIDE, SIDE)), (0, 2, 2))
    pattern = 110 + 35 * pattern / pattern.std(axis=(1, 2), keepdims=True)
    return np.where(x**2 + y**2 < 0.8, np.clip(pattern, 20, 230), 0).astype(np.float32)


def turned(images: np.ndarray, angle: float, zoom: float, shift: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The scans after a rotation by radians, a zoom and a shift; and the pose in which they show what they showed."""
    matrix = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.full(2, (SIDE - 1) / 2)
    back = np.linalg.inv(matrix)
    offset = middle - back @ (middle + shift)
    moved = np.stack([ndimage.affine_transform(image, back, offset, order=1) for image in images])
    pose = np.concatenate([matrix @ POSE[:, :2], (matrix @ (POSE[:, 2] - middle) + middle + shift)[:, None]], axis=1)
    return moved.astype(np.float32), pose.astype(np.float32)


def test_the_grid_fills_the_frame() -> None:
    places = canonical_grid(4)
    assert places.shape == (2, 16)
    assert places[0].reshape(4, 4)[:, 0] == pytest.approx(EXTENT * np.array([-0.75, -0.25, 0.25, 0.75]))
    assert places[1].reshape(4, 4)[0] == pytest.approx(EXTENT * np.array([-0.75, -0.25, 0.25, 0.75]))


def test_samples_are_those_of_scipy() -> None:
    images = scans(3)
    poses = np.repeat(POSE[None], 3, axis=0) + np.float32(0.3)
    places = canonical_grid(20)
    spots = poses[:, :, :2] @ places + poses[:, :, 2:]
    wanted = [
        ndimage.map_coordinates(image, spot, order=1, mode="nearest") for image, spot in zip(images, spots, strict=True)
    ]
    assert sample_images(images, poses, places) == pytest.approx(np.stack(wanted), abs=0.01)


@pytest.mark.parametrize(("angle", "zoom", "shift"), [(0.15, 1.0, (0, 0)), (-0.1, 1.1, (2, -1)), (0.05, 0.9, (-2, 3))])
def test_finds_a_rotation_a_zoom_and_a_shift(angle: float, zoom: float, shift: tuple[float, float]) -> None:
    images = scans(6)
    moving, wanted = turned(images, angle, zoom, shift)
    begun = np.repeat(POSE[None], 6, axis=0)
    fixed = sample_images(images, begun, canonical_grid(40))
    boxes = content_frames(moving.astype(np.uint8))
    found = align(fixed, 0.7 * moving + 20, begun, 12, boxes=boxes)
    assert found.poses == pytest.approx(np.repeat(wanted[None], 6, axis=0), abs=0.4)
    assert found.gain == pytest.approx(np.full(6, 0.7), abs=0.03)


def test_a_cut_scan_is_found_where_its_frame_is_known() -> None:
    images = scans(6)
    moving, wanted = turned(images, 0.1, 1.05, (1, 1))
    moving[:, :18] = 0
    begun = np.repeat(POSE[None], 6, axis=0)
    found = align(
        sample_images(images, begun, canonical_grid(40)),
        moving,
        begun,
        12,
        boxes=content_frames(moving.astype(np.uint8)),
    )
    assert found.poses == pytest.approx(np.repeat(wanted[None], 6, axis=0), abs=0.4)


def test_one_picture_for_all_is_the_same_as_one_each() -> None:
    images = scans(1)
    moving, _ = turned(np.repeat(images, 4, axis=0), 0.1, 1.0, (1, 0))
    begun = np.repeat(POSE[None], 4, axis=0)
    fixed = sample_images(images, begun[:1], canonical_grid(24))
    boxes = content_frames(moving.astype(np.uint8))
    one = align(fixed, moving, begun, 5, boxes=boxes)
    each = align(np.repeat(fixed, 4, axis=0), moving, begun, 5, boxes=boxes)
    assert one.poses == pytest.approx(each.poses, abs=0.02)


def test_a_similarity_keeps_angles() -> None:
    images = scans(2)
    moving, _ = turned(images, 0.1, 1.05, (1, 1))
    begun = np.repeat(POSE[None], 2, axis=0)
    fixed = sample_images(images, begun, canonical_grid(24))
    boxes = content_frames(moving.astype(np.uint8))
    found = align(
        fixed, moving, begun, 6, boxes=boxes, derivatives=similarity_derivatives(affine_derivatives(fixed))
    ).poses[:, :, :2]
    assert found[:, 0, 0] == pytest.approx(found[:, 1, 1], abs=1e-4)
    assert found[:, 0, 1] == pytest.approx(-found[:, 1, 0], abs=1e-4)


def test_frames_are_what_is_not_black() -> None:
    image = np.zeros((1, 20, 30), dtype=np.uint8)
    image[0, 3:9, 5:28] = 90
    assert content_frames(image).tolist() == [[3, 8, 5, 27]]
    known = inside_frame(
        content_frames(image), np.array([[[1, 0, 0], [0, 1, 0]]], dtype=np.float32), np.array([[3, 2, 8], [5, 9, 28]])
    )
    assert known.tolist() == [[True, False, False]]
