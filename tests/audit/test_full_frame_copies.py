"""Pictures that fill their frame: what one does not show is no likeness, flat pictures have none, and a transform has bounds."""

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as some

from scanwise.audit import copies


def full_frame(count: int, seed: int, smooth: float, shared: float, contrast: float, level: float) -> np.ndarray:
    """(count, 104, 104) smooth textures that fill the frame, around a pattern that all share."""
    random = np.random.default_rng(seed)

    def textures(number: int, sigma: float) -> np.ndarray:
        drawn = ndimage.gaussian_filter(random.standard_normal((number, 104, 104)), (0, sigma, sigma), mode="wrap")
        return drawn / drawn.std(axis=(1, 2), keepdims=True)

    picture = shared * textures(1, 14) + np.sqrt(1 - shared**2) * textures(count, smooth)
    return np.clip(level + contrast * picture, 0, 255).astype(np.uint8)


@settings(max_examples=8)
@given(
    some.integers(0, 1000),
    some.sampled_from([3.0, 6.0, 12.0]),
    some.sampled_from([0.0, 0.7, 0.95]),
    some.sampled_from([(40.0, 128.0), (6.0, 235.0)]),
)
def test_pictures_that_fill_their_frame_are_no_copies_of_each_other(seed, smooth, shared, look) -> None:
    found = copies.find_copies(full_frame(24, seed, smooth, shared, *look))
    assert len(found) == 0, [copies.describe_transform(found, pair) for pair in range(len(found))]
