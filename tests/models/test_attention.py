"""Attention: the fused kernel, the map that is asked for, and the formula of the paper are one."""

import math

import pytest
import torch

from scanwise.models import build_network
from scanwise.models.attention import ScaledDotProductAttention, SelfAttention, TransformerBlock, sequence
from scanwise.recipe import Model


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("heads", [1, 4])
@torch.no_grad()
def test_what_is_taken_is_the_formula_of_the_paper(heads: int) -> None:
    torch.manual_seed(0)
    look = ScaledDotProductAttention(5, 7, 8, heads)
    asks, keys = values(2, 3, 5), values(2, 6, 7, seed=1)
    expected = []
    for row in range(2):
        parts = []
        for head in range(heads):
            at = slice(head * 8 // heads, (head + 1) * 8 // heads)
            q, k, v = (look.query(asks[row])[:, at], look.key(keys[row])[:, at], look.value(keys[row])[:, at])
            parts.append(torch.softmax(q @ k.T / math.sqrt(8 // heads), dim=1) @ v)
        expected.append(torch.cat(parts, dim=1))
    torch.testing.assert_close(look(asks, keys), torch.stack(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_the_map_explains_what_the_fused_kernel_took(masked: bool) -> None:
    torch.manual_seed(0)
    look = ScaledDotProductAttention(5, 5, 8, 2)
    places = values(2, 6, 5)
    keep = torch.tensor([[True] * 4 + [False] * 2, [True] * 6]) if masked else None
    seen = look.attention_map(places, places, keep)
    assert seen.shape == (2, 2, 6, 6)
    torch.testing.assert_close(seen.sum(3), torch.ones(2, 2, 6))
    if masked:
        assert (seen[0, :, :, 4:] == 0).all()
    value = look.value(places).reshape(2, 6, 2, 4).transpose(1, 2)
    torch.testing.assert_close(
        (seen @ value).transpose(1, 2).flatten(2), look(places, places, keep), rtol=1e-5, atol=1e-6
    )


@torch.no_grad()
def test_what_is_masked_changes_nothing() -> None:
    torch.manual_seed(0)
    block, places = TransformerBlock(8, 2), values(1, 5, 8)
    keep = torch.tensor([[True, True, True, False, False]])
    other = places.clone()
    other[:, 3:] = 9
    torch.testing.assert_close(block(places, keep)[:, :3], block(other, keep)[:, :3])
    assert not torch.allclose(block(places)[:, :3], block(other)[:, :3])


@torch.no_grad()
def test_a_map_is_read_whichever_axis_holds_the_features() -> None:
    torch.manual_seed(0)
    over, maps = SelfAttention(5, 8, 2), values(2, 5, 3, 4)
    expected = over(maps)
    assert expected.shape == (2, 8)
    torch.testing.assert_close(over(maps.permute(0, 2, 3, 1)), expected)
    torch.testing.assert_close(over(maps.flatten(2).transpose(1, 2)), expected)
    torch.testing.assert_close(sequence(maps, 5)[:, 1], maps[:, :, 0, 1])  # row by row
    assert over.attention_map(maps).shape == (2, 12, 12)


@torch.no_grad()
def test_the_head_sees_the_mean_of_what_the_places_took() -> None:
    torch.manual_seed(0)
    body = build_network(Model(name="small", attention={"width": 16}, hidden=[8]), 3, 1).body.eval()
    maps = body.forward_features(values(2, 1, 32, 32))
    places = sequence(maps, 96)
    taken = body.attention.attention_map(maps) @ body.attention.look.value(places)
    torch.testing.assert_close(body.forward_head(maps), body.head(taken.mean(1)), rtol=1e-4, atol=1e-5)
    assert [layer.out_features for layer in body.head if isinstance(layer, torch.nn.Linear)] == [8, 3]
    assert isinstance(body.attention.look.out, torch.nn.Identity)


def test_gradients_flow_through_the_mask_too() -> None:
    look, places = ScaledDotProductAttention(4, 4, 4), values(2, 3, 4).requires_grad_()
    look(places, places, torch.tensor([[True, False, False], [True, True, True]])).sum().backward()
    assert torch.isfinite(places.grad).all()
    assert (places.grad[1] != 0).any()
