"""AlexNet for 32 × 32 gray scans, as alexnet-gray (a published system) adapted it.

Five blocks of convolution, batch norm, ReLU and max-pooling with kernels 11, 5, 3, 3, 3, then 4096 → 4096 → classes
with dropout. The published text gives no widths; these are those of torchvision's AlexNet (Krizhevsky 2014).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

KERNELS = (11, 5, 3, 3, 3)
WIDTHS = (64, 192, 384, 256, 256)
HIDDEN = 4096


class AlexNet(nn.Module):
    """AlexNet for input (N, channels, H, W) with sides of at least 32; larger maps are averaged to 1 × 1 before the head."""

    classifier = "head.5"

    def __init__(self, num_classes: int, channels: int, dropout: float) -> None:
        super().__init__()
        widths = pairwise((channels, *WIDTHS))
        self.blocks = nn.Sequential(*(_block(low, high, k) for (low, high), k in zip(widths, KERNELS, strict=True)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(
            nn.Linear(WIDTHS[-1], HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN, num_classes) if num_classes else nn.Identity(),
        )
        self.dropout = nn.Dropout(dropout)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.blocks(images)
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        hidden: Tensor = self.head[:5](torch.flatten(self.pool(features), 1))
        return hidden if pre_logits else self.head[5](self.dropout(hidden))

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


def _block(low: int, high: int, kernel: int) -> nn.Sequential:
    # The bias is left to the batch norm.
    return nn.Sequential(
        nn.Conv2d(low, high, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(high),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
