"""A convolutional network and a vision transformer side by side, as in the published system stroke-hybrid.

The one sees texture, the other relations between distant regions; the classifier gets the features of both.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

HALVES = ("convolution", "transformer")


class HybridNetwork(nn.Module):
    """Pooled features of the convolutional half and class token of the transformer, concatenated, under one head.

    Args:
        convolution: a backbone without classifier.
        transformer: another.
        head: head from `dense_head`, for the features of both.
        changes: (2, 1 or C) of each half: a factor and a shift, which turn the pixels of the network into those that the
            weights of the half were trained on.
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
            # They come from the recipe; weights of published hybrids do not have them.
            self.register_buffer(f"{name}_change", values[..., None, None], persistent=False)
        self.widths = [int(half.head_hidden_size) for half in (convolution, transformer)]  # type: ignore[arg-type]

    def forward_features(self, images: Tensor) -> Tensor:
        """(N, D): features of both halves, convolution first."""
        return torch.cat([self._half_features(name, images) for name in HALVES], dim=1)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        hidden: Tensor = self.head[:-1](features)
        return hidden if pre_logits else self.head[-1](hidden)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def norms(self, features: Tensor) -> Tensor:
        """(N, 2): the Euclidean norm of each half's features, convolution first."""
        return torch.stack([half.norm(dim=1) for half in torch.split(features, self.widths, dim=1)], dim=1)

    def contributions(self, features: Tensor) -> Tensor:
        """(N, 2): the norm of each half's contribution to the first linear layer, convolution first.

        Unlike the norm of the features it takes the weights of the head into account.
        """
        first = next(layer for layer in self.head if isinstance(layer, nn.Linear))
        pairs = zip(
            torch.split(features, self.widths, dim=1), torch.split(first.weight, self.widths, dim=1), strict=True
        )
        return torch.stack([(half @ weight.T).norm(dim=1) for half, weight in pairs], dim=1)

    def _half_features(self, name: str, images: Tensor) -> Tensor:
        half: Any = getattr(self, name)
        factor, shift = getattr(self, f"{name}_change")
        pooled: Tensor = half.forward_head(half.forward_features(images * factor + shift), pre_logits=True)
        return pooled
