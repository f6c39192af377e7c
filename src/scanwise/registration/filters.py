"""Gaussian blur of small pictures."""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (…, H, W) pictures; beyond an edge its last pixel is repeated.

    Two products of matrices: for pictures of this size they are faster than a convolution.
    """
    return _blur_matrix(images.shape[-2], sigma) @ images @ _blur_matrix(images.shape[-1], sigma).T


@lru_cache
def _blur_matrix(side: int, sigma: float) -> Tensor:
    """(side, side) matrix whose product with a column of pixels is its blur."""
    reach = min(side - 1, math.ceil(3 * sigma))
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    matrix = np.zeros((side, side), dtype=np.float32)
    for offset, share in zip(range(-reach, reach + 1), weight / weight.sum(), strict=True):
        np.add.at(matrix, (np.arange(side), np.clip(np.arange(side) + offset, 0, side - 1)), share)
    return torch.from_numpy(matrix)
