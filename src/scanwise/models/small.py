"""Four-block network that trains in seconds, for demonstrations and tests."""

from itertools import pairwise

import torch
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 96)


class SmallNetwork(nn.Module):
    """Four blocks of convolution; input (N, channels, H, W) with sides of at least 16."""

    classifier = "head"
    num_features = head_hidden_size = WIDTHS[-1]

    def __init__(self, num_classes: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_block(low, high) for low, high in pairwise((channels, *WIDTHS))))
        self.dropout = nn.Dropout(dropout)
        self.head: nn.Module = nn.Linear(WIDTHS[-1], num_classes) if num_classes else nn.Identity()

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.blocks(images)
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = torch.flatten(nn.functional.adaptive_avg_pool2d(features, 1), 1)
        logits: Tensor = pooled if pre_logits else self.head(self.dropout(pooled))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


def _block(low: int, high: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(low, high, 3, padding=1, bias=False),
        nn.BatchNorm2d(high),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
