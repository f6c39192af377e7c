"""Mixup and cutmix: two scans in one, with a share of the label each."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scanwise.recipe import Train


@dataclass(frozen=True, slots=True)
class MixedBatch:
    """Batch of mixed scans.

    Attributes:
        images: (N, C, H, W).
        others: (N,) labels of the scans that were mixed in.
        share: weight of the scan's own label; the other label has the rest.
    """

    images: Tensor
    others: Tensor
    share: float


def mix_batch(images: Tensor, labels: Tensor, section: Train, generator: torch.Generator) -> MixedBatch:
    """Mix each scan of a batch with another one, as set in the recipe: mixup, cutmix, or one of them at random.

    Args:
        images: (N, C, H, W) float pixels.
        labels: (N,).
        section: `mixup` and `cutmix` are the alphas of their Beta distributions; one of them is above 0.
        generator: on the CPU; the only source of randomness.
    """
    random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    cut = section.cutmix > 0 and (section.mixup == 0 or random.random() < 0.5)
    alpha = section.cutmix if cut else section.mixup
    partners = torch.from_numpy(random.permutation(len(images))).to(images.device)
    share = float(random.beta(alpha, alpha))
    if not cut:
        return MixedBatch(share * images + (1 - share) * images[partners], labels[partners], share)
    return cutmix(images, labels, partners, share, random)


def cutmix(images: Tensor, labels: Tensor, partners: Tensor, share: float, random: np.random.Generator) -> MixedBatch:
    """Put a box of another scan into each (Yun et al. 2019); the box may cross the edge, and its visible part counts."""
    height, width = images.shape[2:]
    side = (1 - share) ** 0.5
    top, bottom = _span(height, side, random)
    left, right = _span(width, side, random)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[partners, :, top:bottom, left:right]
    return MixedBatch(mixed, labels[partners], 1 - (bottom - top) * (right - left) / (height * width))


def _span(length: int, share: float, random: np.random.Generator) -> tuple[int, int]:
    middle, half = int(random.integers(length)), int(length * share) // 2
    return max(middle - half, 0), min(middle + half, length)
