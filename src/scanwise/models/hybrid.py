"""A convolutional network and a vision transformer side by side: the sixth reference system.

The one sees texture, the other sees how far places belong together; the classifier gets the features of both.
"""

import torch
from torch import Tensor, nn


class Hybrid(nn.Module):
    """Pooled features of the one half and the class token of the other, put side by side, under one head.

    Args:
        convolution: a backbone without classifier.
        transformer: another.
        head: as `heads.dense` makes it, for the features of both.
    """

    def __init__(self, convolution: nn.Module, transformer: nn.Module, head: nn.Sequential) -> None:
        super().__init__()
        self.convolution = convolution
        self.transformer = transformer
        self.head = head
        self.classifier = f"head.{len(head) - 1}"
        self.widths = [int(half.head_hidden_size) for half in (convolution, transformer)]  # type: ignore[arg-type]

    def forward_features(self, images: Tensor) -> Tensor:
        """(N, D): what both halves see, convolution first."""
        return torch.cat([_features(half, images) for half in (self.convolution, self.transformer)], dim=1)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        hidden: Tensor = self.head[:-1](features)
        return hidden if pre_logits else self.head[-1](hidden)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def norms(self, features: Tensor) -> Tensor:
        """(N, 2): the Euclidean norm of what each half sees, convolution first."""
        return torch.stack([half.norm(dim=1) for half in torch.split(features, self.widths, dim=1)], dim=1)

    def contributions(self, features: Tensor) -> Tensor:
        """(N, 2): the norm of what each half adds to the first linear layer, convolution first.

        Unlike the norm of the features it takes into account how much the head listens to each half.
        """
        first = next(layer for layer in self.head if isinstance(layer, nn.Linear))
        pairs = zip(
            torch.split(features, self.widths, dim=1), torch.split(first.weight, self.widths, dim=1), strict=True
        )
        return torch.stack([(half @ weight.T).norm(dim=1) for half, weight in pairs], dim=1)


def _features(half: nn.Module, images: Tensor) -> Tensor:
    pooled: Tensor = half.forward_head(half.forward_features(images), pre_logits=True)  # type: ignore[operator]
    return pooled
