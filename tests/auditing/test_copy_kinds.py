"""Copies that the audit makes itself: every kind changes a scan, the seed decides, and what was found is counted by kind."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from scanwise.auditing.copy_kinds import COPY_KINDS, FEWEST_SCANS, MOST_SCANS, make_copies
from scanwise.auditing.scan_stack import ScanStack


def scans(count: int) -> np.ndarray:
    drawn = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal((count, 160, 160)), (0, 2, 2))
    return np.clip(110 + 35 * drawn / drawn.std(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", COPY_KINDS, ids=lambda kind: kind.name)
def test_each_kind_changes_the_scan_and_leaves_it_a_scan(kind) -> None:
    image = scans(1)[0]
    copy = kind.change(image, np.random.default_rng(3))
    assert copy.shape == image.shape
    assert copy.dtype == np.uint8
    assert np.abs(copy.astype(float) - image).mean() > 1
    assert copy.std() > 5


def test_the_seed_decides_and_the_number_is_bounded() -> None:
    images = scans(60)
    rows = np.arange(10, 60)
    made, again, other = (make_copies(ScanStack.of(images), rows, seed) for seed in (0, 0, 1))
    assert (made.pixels == again.pixels).all()
    assert (made.origin != other.origin).any()
    assert set(made.origin.tolist()) <= set(rows.tolist())
    assert len(made.pixels) == 5 * len(COPY_KINDS)
    assert len(make_copies(ScanStack.of(images), rows[:2], 0).pixels) == 2 * len(COPY_KINDS)
    assert len(make_copies(ScanStack.of(images), rows[:8], 0).pixels) == FEWEST_SCANS * len(COPY_KINDS)
    assert len(make_copies(ScanStack.of(np.repeat(images, 6, axis=0)), np.arange(360), 0).origin) == MOST_SCANS * len(
        COPY_KINDS
    )


def test_copies_of_a_small_scan_are_made_small() -> None:
    small = [
        Image.fromarray(image).resize((28, 28)).resize((160, 160), Image.Resampling.BILINEAR) for image in scans(4)
    ]
    pixels = np.stack([np.asarray(image) for image in small])
    made = make_copies(ScanStack.of(pixels), np.arange(4), 0)
    noisy = made.pixels[made.kind == [kind.name for kind in COPY_KINDS].index("noisy")].astype(float)
    grain = ndimage.laplace(noisy, axes=(1, 2)).std()
    whole = COPY_KINDS[7].change(pixels[0], np.random.default_rng(0)).astype(float)
    assert COPY_KINDS[7].name == "noisy"
    assert grain < 0.5 * ndimage.laplace(whole).std()


def test_a_copy_is_found_with_its_origin_or_with_a_copy_of_it() -> None:
    made = make_copies(ScanStack.of(scans(40)), np.arange(4), 0)
    origin = made.origin.tolist()
    own = np.array([[origin[0], 0], [17, len(COPY_KINDS)], [9, 1]])
    recall = made.recall(own, np.array([[origin[len(COPY_KINDS)], 17]]))
    assert recall["mirrored"] == (2, 4)
    assert recall["turned"] == (0, 4)
