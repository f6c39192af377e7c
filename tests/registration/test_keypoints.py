"""Local features follow a scan that is moved, turned, mirrored or brightened, and their matches give the movement back."""

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as some

from scanwise.registration.feature_matching import match_features
from scanwise.registration.filters import blur
from scanwise.registration.keypoints import COUNT, MIRRORED, Keypoints, mirror_keypoints
from scanwise.registration.likeness import measure_likeness

SIDE = 160


def textures(count: int, seed: int, side: int = SIDE) -> np.ndarray:
    """(count, side, side) textures of two sizes that fill the frame."""
    random = np.random.default_rng(seed)
    drawn = sum(
        ndimage.gaussian_filter(random.standard_normal((count, side, side)), (0, size, size)) * size for size in (3, 8)
    )
    return np.clip(128 + 40 * drawn / drawn.std(), 0, 255).astype(np.uint8)


def moved(image: np.ndarray, linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The scan under a map of its pixels (y, x)."""
    back = np.linalg.inv(linear)
    return np.rint(ndimage.affine_transform(image.astype(float), back, -back @ shift, order=1)).astype(np.uint8)


def test_a_mirrored_scan_has_the_same_points_with_their_numbers_in_another_order() -> None:
    images = textures(3, 0, 161)  # so that every halved grid is symmetric
    there = Keypoints.detect(np.ascontiguousarray(images[:, ::-1]))
    expected = mirror_keypoints(Keypoints.detect(images), np.ones(3, dtype=bool))
    for row in range(3):
        places = expected.places[row] + [160, 0]
        apart = np.linalg.norm(places[:, None] - there.places[row][None], axis=2)
        both = apart.min(axis=1) < 0.5
        assert both.mean() > 0.7
        alike = (expected.descriptions[row] / 512.0 * (there.descriptions[row][apart.argmin(axis=1)] / 512.0)).sum(
            axis=1
        )
        assert np.median(alike[both]) > 0.97
    assert (MIRRORED[MIRRORED] == np.arange(128)).all()


@settings(max_examples=8)
@given(some.integers(0, 99), some.floats(-180, 180), some.floats(0.8, 1.25), some.booleans())
def test_matches_give_the_movement_back(seed, degrees, zoom, mirrored) -> None:
    image = textures(2, seed)
    angle = np.radians(degrees)
    linear = zoom * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    linear = linear @ np.diag([-1, 1]) if mirrored else linear
    middle = np.full(2, (SIDE - 1) / 2)
    shift = middle - linear @ middle + [6, -9]
    copy = moved(image[0], linear, shift)
    stack = np.stack([image[0], np.clip(0.7 * copy + 20, 0, 255).astype(np.uint8), image[1]])
    rows, ways = np.array([[0, 1], [0, 2]]), np.array([mirrored, mirrored])
    found = match_features(Keypoints.detect(stack), rows, ways, SIDE)
    assert found.share[0] > 0.3 > 0.12 > found.share[1]
    assert np.abs(found.transform[0, :, :2] - linear).max() < 0.08
    likeness = measure_likeness(stack, rows, found.transform)
    assert likeness.value[0] > 0.9 > 0.8 > likeness.value[1]


def test_flat_scans_have_no_points_and_no_likeness() -> None:
    flat = np.full((2, SIDE, SIDE), 90, dtype=np.uint8)
    points = Keypoints.detect(flat)
    assert not points.present.any()
    assert points.places.shape == (2, COUNT, 2)
    found = match_features(points, np.array([[0, 1]]), np.array([False]), SIDE)
    assert found.count.tolist() == [0]
    likeness = measure_likeness(flat, np.array([[0, 1]]), np.eye(2, 3, dtype=np.float32)[None])
    assert likeness.value[0] < 0.01
    assert likeness.texture.tolist() == [0]


def test_what_one_scan_does_not_show_is_no_likeness() -> None:
    image = textures(1, 3)[0]
    away = np.array([[[1, 0, 0], [0, 1, 0.6 * SIDE]]], dtype=np.float32)
    half = measure_likeness(np.stack([image, image]), np.array([[0, 1]]), away)
    assert half.overlap[0] == pytest.approx(0.4, abs=0.02)


def test_a_bent_scan_is_like_itself() -> None:
    image = textures(1, 4)[0]
    points = np.mgrid[:SIDE, :SIDE].astype(float)
    points += ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((2, SIDE, SIDE)), (0, 14, 14)) * 100
    bent = np.rint(ndimage.map_coordinates(image.astype(float), points, order=1, mode="nearest")).astype(np.uint8)
    still = np.eye(2, 3, dtype=np.float32)[None]
    assert np.corrcoef(image.reshape(-1), bent.reshape(-1))[0, 1] < 0.93
    assert measure_likeness(np.stack([image, bent]), np.array([[0, 1]]), still).value[0] > 0.95


def test_blur_is_that_of_scipy() -> None:
    import torch

    image = textures(1, 5)[0].astype(np.float32)
    expected = ndimage.gaussian_filter(image, 1.5, mode="nearest", truncate=10 / 3)
    assert np.abs(blur(torch.from_numpy(image), 1.5).numpy() - expected).max() < 0.05
