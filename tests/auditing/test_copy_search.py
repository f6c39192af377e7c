"""Pictures that fill their frame: what one does not show is no likeness, flat pictures have none, and a transform has bounds."""

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as some

from scanwise.auditing.copies import describe_transform
from scanwise.auditing.copy_search import find_copies


def full_frame(count: int, seed: int, smooth: float, shared: float, contrast: float, level: float) -> np.ndarray:
    """(count, 160, 160) smooth textures that fill the frame, around a pattern that all share."""
    random = np.random.default_rng(seed)

    def textures(number: int, sigma: float) -> np.ndarray:
        drawn = ndimage.gaussian_filter(random.standard_normal((number, 160, 160)), (0, sigma, sigma), mode="wrap")
        return drawn / drawn.std(axis=(1, 2), keepdims=True)

    picture = shared * textures(1, 14) + np.sqrt(1 - shared**2) * textures(count, smooth)
    return np.clip(level + contrast * picture, 0, 255).astype(np.uint8)


@pytest.mark.extended
@settings(max_examples=5)
@given(
    some.integers(0, 1000),
    some.sampled_from([3.0, 6.0, 12.0]),
    some.sampled_from([0.0, 0.7, 0.9]),
    some.sampled_from([(40.0, 128.0), (6.0, 235.0)]),
)
def test_pictures_that_fill_their_frame_are_no_copies_of_each_other(seed, smooth, shared, look) -> None:
    found = find_copies(full_frame(16, seed, smooth, shared, *look))
    assert len(found) == 0, [describe_transform(found, pair) for pair in range(len(found))]


def test_a_scan_that_resembles_two_that_do_not_resemble_each_other_is_a_copy_of_one_at_most() -> None:
    """A texture, and the same with a second one added and taken away."""
    random = np.random.default_rng(0)
    drawn = ndimage.gaussian_filter(random.standard_normal((16, 160, 160)), (0, 3, 3))
    drawn /= drawn.std(axis=(1, 2), keepdims=True)
    first, second = drawn[0] + 0.4 * drawn[1], drawn[0] - 0.35 * drawn[1]
    scans = np.stack([drawn[0], first, second, *drawn[2:]])
    found = find_copies(np.clip(128 + 35 * scans, 0, 255).astype(np.uint8))
    assert found.rows.tolist() == [[0, 2]]
