"""Random changes of training scans, a whole batch at once, on the device that trains.

Shift, zoom and rotation are one affine resampling, so that pixels are interpolated once. Brightness and elastic
changes are not here on purpose: the reference system measured that both hurt.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from scanwise.recipe import Augment


def augment(images: Tensor, section: Augment, generator: torch.Generator) -> Tensor:
    """Change each scan of a batch by its own draw.

    Args:
        images: (N, C, H, W) pixels from 0 to 255.
        section: how much of what.
        generator: on the CPU, so that every device draws the same.

    Returns:
        (N, C, H, W) float32, still from 0 to 255; what moves in from outside is black.
    """
    images = images.float()
    if section.flip:
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(3), images)
    if section.shift == section.scale == section.rotate == 0:
        return images
    grid = F.affine_grid(
        draw_affine(len(images), section, generator).to(images.device), list(images.shape), align_corners=False
    )
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def draw_affine(count: int, section: Augment, generator: torch.Generator) -> Tensor:
    """(count, 2, 3) matrices that take output to input coordinates in [-1, 1]; some are the identity."""

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator) - 1) * limit

    angle = uniform(math.radians(section.rotate))
    zoom = 1 / (1 + uniform(section.scale))
    shift = torch.stack([uniform(2 * section.shift), uniform(2 * section.shift)], dim=1)  # coordinates span 2
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    drawn = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    left_alone = torch.rand(count, generator=generator) >= section.probability
    return torch.where(left_alone[:, None, None], torch.eye(2, 3), drawn)
