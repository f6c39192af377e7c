"""A convolutional network and a vision transformer side by side: the sixth reference system.

The one sees texture, the other sees how far places belong together; the classifier gets the features of both.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

HALVES = ("convolution", "transformer")


class HybridNetwork(nn.Module):
    """Pooled features of the one half and the class token of the other, put side by side, under one head.

    Args:
        convolution: a backbone without classifier.
        transformer: another.
        head: as `heads.dense` makes it, for the features of both.
        changes: (2, 1 or C) of each half: a factor and a shift, which turn the pixels of the network into those that the
            weights of the half have learnt from.
    """

    def __init__(
        self, convolution: nn.Module, transformer: nn.Module, head: nn.Sequential, changes: Sequence[Tensor]
    ) -> None:
        super().__init__()
        self.convolution = convolution
        self.transformer = transformer
        self.head = head
        self.classifier = f"head.{len(head) - 1}"
        for name, values in zip(HALVES, changes, strict=True):
            # The recipe says them; weights of published hybrids have no such thing.
            self.register_buffer(f"{name}_change", values[..., None, None], persistent=False)
        self.widths = [int(half.head_hidden_size) for half in (convolution, transformer)]  # type: ignore[arg-type]

    def forward_features(self, images: Tensor) -> Tensor:
        """(N, D): what both halves see, convolution first."""
        return torch.cat([self._seen_by(name, images) for name in HALVES], dim=1)

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

    def _seen_by(self, name: str, images: Tensor) -> Tensor:
        half: Any = getattr(self, name)
        factor, shift = getattr(self, f"{name}_change")
        pooled: Tensor = half.forward_head(half.forward_features(images * factor + shift), pre_logits=True)
        return pooled
