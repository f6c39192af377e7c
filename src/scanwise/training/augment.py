"""Random changes of training scans, a whole batch at once, on the device that trains.

Drawing (on the CPU, so that every device draws the same) and applying are two steps: the same changes can be applied
again, to some of the scans. Shift, zoom, rotation and elastic displacement are one resampling, so that pixels are
interpolated once. Changes of brightness and elastic ones are off by default: the authors of alexnet-gray
measured that both hurt.
"""

import math
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from scanwise.recipe import Augment

KNOTS = 6  # of the elastic displacement along each side; it is smooth between them


@dataclass(frozen=True, slots=True)
class Augmentations:
    """Drawn changes of n scans; None for no change of a kind.

    Attributes:
        mirrored: (n,) True to swap left and right.
        tone: (n, 3) brightness to add (as a share of the range), factor of contrast, exponent gamma.
        affine: (n, 2, 3) matrices from output to input coordinates in [-1, 1].
        bend: (n, 2, KNOTS, KNOTS) displacement of input coordinates, across and down.
    """

    mirrored: Tensor | None = None
    tone: Tensor | None = None
    affine: Tensor | None = None
    bend: Tensor | None = None

    def take(self, rows: Tensor) -> Self:
        """Changes of some of the scans."""
        chosen = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)(**{name: None if value is None else value[rows] for name, value in chosen.items()})


def augment_batch(images: Tensor, section: Augment, generator: torch.Generator) -> Tensor:
    """Change each scan of a batch by its own draw.

    Args:
        images: (N, C, H, W) pixels from 0 to 255.
        section: ranges of the changes.
        generator: on the CPU, so that every device draws the same.

    Returns:
        (N, C, H, W) float32, from 0 to 255; pixels from outside are black.
    """
    return apply_augmentations(images, draw_augmentations(len(images), section, generator))


def draw_augmentations(count: int, section: Augment, generator: torch.Generator) -> Augmentations:
    """Draw the changes of that many scans. Kinds that are off take nothing from the generator."""
    mirrored = torch.rand(count, generator=generator) < 0.5 if section.flip else None
    moves = not section.shift == section.scale == section.rotate == 0
    affine = draw_affine(count, section, generator) if moves else None
    toned = not section.brightness == section.contrast == section.gamma == 0
    tone = _draw_tone(count, section, generator) if toned else None
    bend = _draw_bend(count, section, generator) if section.elastic else None
    return Augmentations(mirrored, tone, affine, bend)


def apply_augmentations(images: Tensor, changes: Augmentations) -> Tensor:
    """Apply drawn changes to (n, C, H, W) pixels from 0 to 255; returns float32."""
    images = images.float()
    if changes.mirrored is not None:
        mirrored = changes.mirrored.to(images.device)[:, None, None, None]
        images = torch.where(mirrored, images.flip(3), images)
    if changes.tone is not None:
        images = _tone(images, changes.tone.to(images.device))
    if changes.affine is None and changes.bend is None:
        return images
    shape = list(images.shape)
    affine = torch.eye(2, 3).expand(len(images), 2, 3) if changes.affine is None else changes.affine
    grid = F.affine_grid(affine.to(images.device), shape, align_corners=False)
    if changes.bend is not None:
        knots = changes.bend.to(images.device)
        bend = F.interpolate(knots, shape[2:], mode="bicubic", align_corners=True)
        most = knots.abs().amax((1, 2, 3), keepdim=True)  # between knots the curve may swing beyond them
        grid = grid + bend.clamp(-most, most).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def draw_affine(count: int, section: Augment, generator: torch.Generator) -> Tensor:
    """(count, 2, 3) matrices from output to input coordinates in [-1, 1]; some are the identity."""

    def uniform(limit: float) -> Tensor:
        return _uniform(count, limit, generator)

    angle = uniform(math.radians(section.rotate))
    zoom = 1 / (1 + uniform(section.scale))
    shift = torch.stack([uniform(2 * section.shift), uniform(2 * section.shift)], dim=1)  # coordinates span 2
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    drawn = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    left_alone = torch.rand(count, generator=generator) >= section.probability
    return torch.where(left_alone[:, None, None], torch.eye(2, 3), drawn)


def _draw_tone(count: int, section: Augment, generator: torch.Generator) -> Tensor:
    brightness = _uniform(count, section.brightness, generator)
    contrast = 1 + _uniform(count, section.contrast, generator)
    gamma = (_uniform(count, 1, generator) * math.log1p(section.gamma)).exp()  # darker as often as lighter
    left_alone = torch.rand(count, generator=generator) >= section.probability
    drawn = torch.stack([brightness, contrast, gamma], 1)
    return torch.where(left_alone[:, None], torch.tensor([0.0, 1.0, 1.0]), drawn)


def _draw_bend(count: int, section: Augment, generator: torch.Generator) -> Tensor:
    unit = 2 * torch.rand(count, 2, KNOTS, KNOTS, generator=generator) - 1
    left_alone = torch.rand(count, generator=generator) >= section.probability
    return torch.where(left_alone[:, None, None, None], 0.0, unit * 2 * section.elastic)  # coordinates span 2


def _tone(images: Tensor, tone: Tensor) -> Tensor:
    brightness, contrast, gamma = (column[:, None, None, None] for column in tone.unbind(1))
    mean = images.mean((1, 2, 3), keepdim=True)
    changed = ((images - mean) * contrast + mean + 255 * brightness).clamp(0, 255)
    changed = 255 * (changed / 255) ** gamma
    untouched = (tone == tone.new_tensor([0.0, 1.0, 1.0])).all(1)[:, None, None, None]
    return torch.where(untouched, images, changed)


def _uniform(count: int, limit: float, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(count, generator=generator) - 1) * limit
