"""Scaled dot-product attention (Vaswani et al. 2017): over a feature map, between words, or between the two.

Training uses torch's fused kernel, which never stores the attention; `attention_map` computes it on request.
"""

import math

import torch
from torch import Tensor, nn


class ScaledDotProductAttention(nn.Module):
    """Attention of queries to keys, which returns a mean of values.

    Args:
        queries: width of the queries' input.
        keys: width of the keys' and values' input.
        width: of queries, keys and values, all heads together.
        heads: number of heads that share the width.
        out: width of the result, through one more linear layer; 0 leaves that layer out.
    """

    def __init__(self, queries: int, keys: int, width: int, heads: int = 1, out: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(queries, width)
        self.key = nn.Linear(keys, width)
        self.value = nn.Linear(keys, width)
        self.out: nn.Module = nn.Linear(width, out) if out else nn.Identity()

    def forward(self, queries: Tensor, keys: Tensor, keep: Tensor | None = None) -> Tensor:
        """Mean of the values for each query, weighted by attention.

        Args:
            queries: (N, Q, A).
            keys: (N, K, B).
            keep: (N, K) True for the keys to attend to, at least one per row; None for all.

        Returns:
            (N, Q, width), or (N, Q, out).
        """
        query, key, value = (self._split(part) for part in (self.query(queries), self.key(keys), self.value(keys)))
        mask = None if keep is None else keep[:, None, None, :]
        taken = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        joined: Tensor = self.out(taken.transpose(1, 2).flatten(2))
        return joined

    def attention_map(self, queries: Tensor, keys: Tensor, keep: Tensor | None = None) -> Tensor:
        """(N, heads, Q, K) attention of each query to each key; the last axis sums to one."""
        query, key = self._split(self.query(queries)), self._split(self.key(keys))
        similarity = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        if keep is not None:
            similarity = similarity.masked_fill(~keep[:, None, None, :], -math.inf)
        return similarity.softmax(3)

    def _split(self, values: Tensor) -> Tensor:
        return values.reshape(*values.shape[:2], self.heads, -1).transpose(1, 2)


class SelfAttention(nn.Module):
    """Self-attention between all positions of a feature map, then their mean.

    Args:
        features: channels of the map.
        width: of queries, keys and values.
        heads: number of heads that share the width.
    """

    def __init__(self, features: int, width: int, heads: int) -> None:
        super().__init__()
        self.features = features
        self.look = ScaledDotProductAttention(features, features, width, heads)

    def forward(self, maps: Tensor) -> Tensor:
        """A map (N, C, H, W), (N, H, W, C) or (N, positions, C) to (N, width)."""
        positions = sequence(maps, self.features)
        return self.look(positions, positions).mean(1)  # type: ignore[no-any-return]

    def attention_map(self, maps: Tensor) -> Tensor:
        """(N, Q, K) attention of position Q to position K, mean over heads, positions row by row."""
        positions = sequence(maps, self.features)
        return self.look.attention_map(positions, positions).mean(1)


class TransformerBlock(nn.Module):
    """A pre-norm Transformer block: self-attention, then a small network, each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first = nn.LayerNorm(width)
        self.look = ScaledDotProductAttention(width, width, width, heads, out=width)
        self.second = nn.LayerNorm(width)
        self.think = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, values: Tensor, keep: Tensor | None = None) -> Tensor:
        """(N, L, width) to the same."""
        normal = self.first(values)
        values = values + self.look(normal, normal, keep)
        added: Tensor = values + self.think(self.second(values))
        return added


def sequence(maps: Tensor, features: int) -> Tensor:
    """A feature map as (N, positions, features), whatever axis the features are on.

    >>> sequence(torch.zeros(2, 5, 3, 4), 5).shape, sequence(torch.zeros(2, 3, 4, 5), 5).shape
    (torch.Size([2, 12, 5]), torch.Size([2, 12, 5]))
    """
    if maps.ndim == 3:
        return maps
    return maps.flatten(2).transpose(1, 2) if maps.shape[1] == features else torch.flatten(maps, 1, 2)
