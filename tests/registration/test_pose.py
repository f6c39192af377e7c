"""Poses: a scan that was turned, moved or cut is brought to where it was before."""

import numpy as np
import pytest
from scipy import ndimage

from scanwise.registration import (
    canonical_grid,
    canonical_pictures,
    estimate_poses,
    foreground_masks,
    moment_poses,
    sample_images,
)


def egg(turn: float = 0.0, size: float = 1.0, down: float = 0.0, right: float = 0.0, side: int = 104) -> np.ndarray:
    """A bright egg with a dark yolk on black, turned by degrees."""
    y, x = np.mgrid[:side, :side].astype(float)
    y, x = y - (side - 1) / 2 - down, x - (side - 1) / 2 - right
    angle = np.radians(turn)
    along, across = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
    body = (along / (38 * size)) ** 2 + (across / (27 * size)) ** 2 < 1
    yolk = ((along + 14 * size) / (9 * size)) ** 2 + ((across - 6 * size) / (6 * size)) ** 2 < 1
    picture = ndimage.gaussian_filter(160.0 * body - 110.0 * yolk, 1)
    return np.clip(picture, 0, 255).astype(np.uint8)


def test_the_foreground_is_whole_and_without_holes() -> None:
    (mask,) = foreground_masks(egg()[None])
    assert mask[26, 26]
    assert mask[19, 29]  # the dark yolk
    assert mask.sum() == pytest.approx(np.pi * 38 * 27 / 4, rel=0.12)


def test_a_bright_background_is_background() -> None:
    (mask,) = foreground_masks(255 - egg()[None])
    assert mask[26, 26]
    assert not mask[0, 0]


def test_a_raised_background_is_background() -> None:
    (mask,) = foreground_masks(np.maximum(egg(), 40)[None])
    assert not mask[0, 0]
    assert mask.sum() == pytest.approx(np.pi * 38 * 27 / 4, rel=0.12)


def test_where_nothing_stands_out_everything_is_foreground() -> None:
    assert foreground_masks(np.full((1, 104, 104), 9, dtype=np.uint8)).all()


def test_moments_tell_place_size_and_axis() -> None:
    pose = moment_poses(foreground_masks(egg(30, 0.9, 5, -8)[None]))[0]
    assert pose[:, 2] == pytest.approx([51.5 + 5, 51.5 - 8], abs=0.5)
    area = np.pi * 38 * 27 * 0.9**2
    assert np.linalg.det(pose[:, :2]) == pytest.approx(area, rel=0.12)
    axis = pose[:, :2] @ [1, 0]
    assert np.degrees(np.arctan2(axis[1], axis[0])) % 180 == pytest.approx(30, abs=2)


def test_turned_and_moved_scans_show_the_same_in_their_poses() -> None:
    random = np.random.default_rng(0)
    scans = np.stack(
        [
            egg(random.uniform(0, 360), random.uniform(0.8, 1.1), *random.uniform(-6, 6, 2))[
                :, :: random.choice([-1, 1])
            ]
            for _ in range(40)
        ]
    )
    found = estimate_poses(scans, foreground_masks(scans))
    shown = sample_images(ndimage.gaussian_filter(scans.astype(np.float32), (0, 1, 1)), found, canonical_grid(32))
    alike = np.corrcoef(shown)
    assert np.quantile(alike, 0.05) > 0.97


def test_what_is_cut_lies_as_what_is_whole() -> None:
    scans = np.stack([egg(turn) for turn in np.linspace(-20, 20, 30)])
    cut = scans.copy()
    cut[:, :28] = 0  # the upper part is outside of the frame
    both = np.concatenate([scans, cut[::3]])
    found = estimate_poses(both, foreground_masks(both))
    spots = found[:, :, :2] @ np.array([[0.3], [0.0]]) + found[:, :, 2:]
    way = np.linalg.norm(spots[30:] - spots[:30:3], axis=1)
    assert np.median(way) < 2
    shown = canonical_pictures(both, found, 32)
    assert np.einsum("np,np->n", shown[30:], shown[:30:3]).mean() > 0


def test_pictures_outside_the_frame_are_as_the_mean() -> None:
    scans = np.stack([egg(turn) for turn in np.linspace(-20, 20, 12)])
    scans[0, :30] = 0
    shown = canonical_pictures(scans, estimate_poses(scans, foreground_masks(scans)), 32)
    assert (shown[0] == 0).mean() > (shown[1] == 0).mean()
