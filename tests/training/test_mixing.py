"""Mixed scans are what their labels say they are, by shares that follow the Beta distribution."""

import numpy as np
import pytest
import torch
from scipy import stats

from scanwise.recipe import Train
from scanwise.training.mixing import cutmix, mix_batch

LABELS = torch.arange(6)
IMAGES = (LABELS * 10.0)[:, None, None, None].expand(6, 1, 8, 10)  # each scan is its label's gray


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(5))
def test_mixup_blends_pixels_as_it_blends_labels(seed: int) -> None:
    found = mix_batch(IMAGES, LABELS, Train(mixup=1.0), seeded(seed))
    expected = 10 * (found.share * LABELS + (1 - found.share) * found.others)
    torch.testing.assert_close(found.images, expected[:, None, None, None].expand_as(IMAGES))
    assert sorted(found.others.tolist()) == LABELS.tolist()


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_counts_the_pixels_that_show(seed: int) -> None:
    found = mix_batch(IMAGES, LABELS, Train(cutmix=1.0), seeded(seed))
    for image, label, other in zip(found.images, LABELS, found.others, strict=True):
        own, foreign = image == 10 * label, image == 10 * other
        assert (own | foreign).all()
        if label != other:
            assert float(own.float().mean()) == pytest.approx(found.share)
            rows, columns = torch.where(foreign[0])
            if len(rows):  # one box
                assert len(rows) == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)


def test_a_box_covers_what_was_drawn_unless_it_reaches_over_the_edge() -> None:
    images, labels = torch.zeros(2, 1, 100, 100), torch.tensor([0, 1])
    images[1] = 1
    shares = [
        cutmix(images, labels, torch.tensor([1, 0]), 0.75, np.random.default_rng(seed)).share for seed in range(60)
    ]
    assert min(shares) == pytest.approx(0.75)
    assert max(shares) > 0.76


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_follow_their_distribution(alpha: float) -> None:
    section = Train(mixup=alpha)
    shares = [mix_batch(IMAGES, LABELS, section, seeded(seed)).share for seed in range(400)]
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_with_both_each_is_drawn_half_of_the_time() -> None:
    section = Train(mixup=0.5, cutmix=0.5)
    blends = 0
    for seed in range(200):
        images = mix_batch(IMAGES, LABELS, section, seeded(seed)).images
        blends += any(len(image.unique()) == 1 and float(image.max()) % 10 for image in images)
    assert 60 < blends < 130


def test_the_generator_alone_decides() -> None:
    one = mix_batch(IMAGES, LABELS, Train(mixup=1.0), seeded(3))
    np.random.seed(1)
    torch.rand(3)
    assert torch.equal(mix_batch(IMAGES, LABELS, Train(mixup=1.0), seeded(3)).images, one.images)
