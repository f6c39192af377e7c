"""Attention maps of transformers: rollout, gradient-weighted rollout, the query–key map.

Fused attention does not return its weights. While `AttentionRecorder` is on, every call of torch's fused kernel uses the
plain formula, and the weights are kept. Modules that do not call the kernel are switched to it; a network whose attention
still cannot be read is refused, because an empty map would look like a result.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from scanwise.errors import RecipeError
from scanwise.explanation.layers import patch_grid
from scanwise.explanation.query import ExplanationQuery
from scanwise.models.attention import SelfAttention
from scanwise.models.fusion import FusionNetwork
from scanwise.models.heads import HeadedBackbone
from scanwise.models.hybrid import HybridNetwork
from scanwise.models.network import Network


class AttentionRecorder(TorchFunctionMode):
    """Context in which the fused kernel computes by the plain formula and keeps its weights.

    Attributes:
        seen: the weights (N, heads, Q, K) of each call, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        return self._plainly(**{**dict(zip(names, args, strict=False)), **(kwargs or {})})

    def _plainly(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        if is_causal or enable_gqa:
            raise RecipeError("This network's attention is causal or grouped, which rollout does not read.")
        similarity = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if attn_mask is not None:
            masked = attn_mask.dtype is torch.bool
            similarity = similarity.masked_fill(~attn_mask, -math.inf) if masked else similarity + attn_mask
        weights = similarity.softmax(-1)
        self.seen.append(weights)
        return F.dropout(weights, dropout_p) @ value


def transformer_of(network: Network) -> nn.Module:
    """The part of a network that is a transformer over patches.

    Raises:
        RecipeError: if none is.
    """
    body = network.body
    part: nn.Module = body
    if isinstance(body, HybridNetwork):
        part = body.transformer
    elif isinstance(body, FusionNetwork):
        part = body.image
    elif isinstance(body, HeadedBackbone):
        part = body.backbone
    if patch_grid(part)[0] is None:
        raise RecipeError(
            "Rollout reads a vision transformer, and this network has none. Class activation maps, pooled_gradients, "
            "integrated_gradients and occlusion apply to it."
        )
    return part


def rollout(query: ExplanationQuery) -> Tensor:
    """(N, K, h, w): attention rollout, the product of the blocks' attention, each half identity (Abnar & Zuidema 2020); one
    map for all targets."""
    part = transformer_of(query.network)
    with _unfused(part), torch.no_grad():
        blocks = _looked(query, part)[1]
    joined = None
    for weights in blocks:
        mean = weights.float().mean(1)
        mixed = 0.5 * mean + 0.5 * torch.eye(mean.shape[1], device=mean.device)
        mixed = mixed / mixed.sum(2, keepdim=True)
        joined = mixed if joined is None else mixed @ joined
    values = _patches(joined, part, query)
    return values[:, None].expand(-1, query.targets.shape[1], -1, -1)


def gradient_rollout(query: ExplanationQuery) -> Tensor:
    """(N, K, h, w): rollout of attention times its positive gradient for the target, the mean over heads (Chefer et al.
    2021)."""
    part = transformer_of(query.network)
    with _unfused(part):
        logits, blocks = _looked(query, part, query.images.detach().requires_grad_())  # weights ask for no gradient
        values = []
        for gradients in query.gradients(logits, blocks):
            joined = torch.eye(blocks[0].shape[2], device=logits.device).expand(len(blocks[0]), -1, -1)
            for weights, gradient in zip(blocks, gradients, strict=True):
                joined = joined + torch.relu(gradient * weights.detach().float()).mean(1) @ joined
            here = joined - torch.eye(joined.shape[1], device=logits.device)
            values.append(_patches(here, part, query))
    return torch.stack(values, dim=1)


def query_key(query: ExplanationQuery) -> Tensor:
    """(N, K, h, w): attention that each place of the feature map receives, the mean over all queries; one map for all
    targets.

    Raises:
        RecipeError: if the network has no self-attention over a map.
    """
    body = query.network.body
    attention = body.attention if isinstance(body, HeadedBackbone) else None
    if not isinstance(attention, SelfAttention):
        raise RecipeError("query_key reads the attention of model.attention, and this network has none.")
    with torch.no_grad():
        with query.computing():
            maps = query.network.forward_features(query.images).float()
        if query.network.folds_late:  # its members share the map
            maps = maps.repeat(query.network.members, *[1] * (maps.ndim - 1))
        # In full precision: half would round even attention to one value.
        looked = attention.attention_map(maps).mean(1)
    sides = maps.shape[2:] if maps.shape[1] == attention.features else maps.shape[1:3]
    if maps.ndim == 3:
        sides = torch.Size(patch_grid(body.get_submodule("backbone"))[0] or ())
        looked = looked[:, -sides.numel() :]
    values = query.own_rows(looked.reshape(len(looked), *sides))
    return values[:, None].expand(-1, query.targets.shape[1], -1, -1)


@contextmanager
def _unfused(part: nn.Module) -> Iterator[None]:
    """Every attention of a transformer calls the kernel, so that it can be recorded; afterwards as before."""
    before = [(module, module.fused_attn) for module in part.modules() if hasattr(module, "fused_attn")]
    try:
        for module, _ in before:
            module.fused_attn = True  # type: ignore[assignment]
        yield
    finally:
        for module, was in before:
            module.fused_attn = was


def _looked(query: ExplanationQuery, part: nn.Module, images: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the attention of each block of the transformer."""
    looking = AttentionRecorder()
    with looking:
        logits = query.logits(images)
    grid, prefix = patch_grid(part)
    count = prefix + math.prod(grid or ())
    blocks = [weights for weights in looking.seen if weights.shape[-2:] == (count, count)]
    wanted = len(part.blocks)  # type: ignore[arg-type]
    if len(blocks) != wanted:
        raise RecipeError(
            f"Of the {wanted} blocks of this transformer {len(blocks)} showed attention over all patches; rollout needs "
            "every one. Class activation maps, pooled_gradients and occlusion apply to it."
        )
    return logits, blocks


def _patches(joined: Tensor | None, part: nn.Module, query: ExplanationQuery) -> Tensor:
    """(N, h, w): attention of the pooled token to each patch."""
    if joined is None:
        raise RecipeError("This transformer has no blocks to read.")
    grid, prefix = patch_grid(part)
    pooled = str(getattr(part, "global_pool", "token"))
    read = joined[:, 0] if prefix and pooled == "token" else joined[:, prefix:].mean(1)
    return query.own_rows(read[:, prefix:].reshape(len(read), *(grid or (1, 1))))
