"""Our maps against ones made by hand in another way, and against Captum's."""

import math
import warnings

import numpy as np
import pytest
import torch
from networks import VIT, make, scans, tensors

from scanwise.explanation import explain_arrays
from scanwise.explanation.attention import gradient_rollout, rollout
from scanwise.explanation.cam import CAMS, class_maps
from scanwise.explanation.layers import borrowed, layer_by_name, map_layers
from scanwise.explanation.query import ExplanationQuery

TARGET = 1


def by_hand(kind: str, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations and gradients of a layer by an ordinary backward pass through the whole network."""
    network, kept = make(kind), {}
    module = network.get_submodule(layer)

    def keep(_: object, __: object, out: torch.Tensor) -> torch.Tensor:
        out.retain_grad()
        kept["explain_arrays"] = out
        return out.clone()

    with torch.enable_grad():
        module.register_forward_hook(keep)
        network(tensors(scans(3)))[:, TARGET].sum().backward()
    return kept["explain_arrays"].detach(), kept["explain_arrays"].grad


def ours(kind: str, layer: str, method: str) -> torch.Tensor:
    network, images = make(kind), tensors(scans(3))
    place = layer_by_name(map_layers(network, images[:1]), layer)
    with borrowed(network):
        return class_maps(ExplanationQuery(network, images, torch.full((3, 1), TARGET), layer=place), method)[
            :, 0
        ].detach()


@pytest.mark.parametrize(
    ("kind", "layer"), [("small", "body.blocks.2.2"), ("resnet", "body.layer3"), ("alexnet", "body.blocks.2.2")]
)
def test_grad_cam_is_the_formula_of_the_paper(kind: str, layer: str) -> None:
    activations, gradients = by_hand(kind, layer)
    expected = torch.zeros(3, *activations.shape[2:])
    for scan in range(3):
        for channel in range(activations.shape[1]):
            weight = sum(gradients[scan, channel].flatten().tolist()) / gradients[scan, channel].numel()
            expected[scan] += weight * activations[scan, channel]
    expected = expected.clamp(min=0)
    assert expected.any()
    torch.testing.assert_close(ours(kind, layer, "grad_cam"), expected, rtol=1e-4, atol=1e-5 * expected.max().item())


@pytest.mark.parametrize(("kind", "layer"), [("small", "body.blocks.2.2"), ("resnet", "body.layer3")])
def test_grad_cam_is_captums(kind: str, layer: str) -> None:
    from captum.attr import LayerGradCam

    network = make(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Captum's hooks on inputs that need no gradient
        expected = LayerGradCam(network, network.get_submodule(layer)).attribute(
            tensors(scans(3)), target=TARGET, relu_attributions=True
        )[:, 0]
    assert expected.any()
    torch.testing.assert_close(
        ours(kind, layer, "grad_cam"), expected.detach(), rtol=1e-4, atol=1e-5 * expected.max().item()
    )


@pytest.mark.parametrize("name", list(CAMS))
def test_the_other_cams_are_their_formulas(name: str) -> None:
    activations, gradients = (part.double().numpy() for part in by_hand("small", "body.blocks.2.2"))
    expected = np.zeros((3, *activations.shape[2:]))
    for scan in range(3):
        a, g = activations[scan], gradients[scan]
        if name == "layer_cam":
            expected[scan] = (np.maximum(g, 0) * a).sum(0)
        elif name == "grad_cam":
            expected[scan] = np.einsum("c,chw->hw", g.mean((1, 2)), a)
        elif name == "grad_cam_plus_plus":
            below = 2 * g**2 + a.sum((1, 2))[:, None, None] * g**3
            alpha = np.divide(g**2, below, out=np.zeros_like(g), where=below != 0)
            expected[scan] = np.einsum("c,chw->hw", (alpha * np.maximum(g, 0)).sum((1, 2)), a)
        else:
            flat = a.reshape(len(a), -1).T
            values, vectors = np.linalg.eigh(np.cov(flat.T))
            shown = flat @ vectors[:, values.argmax()]
            shown = shown if shown @ flat.mean(1) >= 0 else -shown
            expected[scan] = shown.reshape(a.shape[1:])
    expected = np.maximum(expected, 0)
    np.testing.assert_allclose(
        ours("small", "body.blocks.2.2", name).numpy(), expected, rtol=1e-3, atol=1e-5 * expected.max()
    )


def attention_by_hand(kind: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The weights of each block from its own query and key, written out, and the logits."""
    network = make(kind)
    body = network.body
    values = body.patch_embed((tensors(scans(3)) - network.mean) / network.std)
    values = body._pos_embed(values)
    kept = []
    for block in body.blocks:
        normal = block.norm1(values)
        count, tokens, width = normal.shape
        heads = block.attn.num_heads
        query, key, value = (
            block.attn.qkv(normal).reshape(count, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        )
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(width // heads), dim=3)
        weights.retain_grad()
        kept.append(weights)
        joined = (weights @ value).transpose(1, 2).reshape(count, tokens, width)
        values = values + block.attn.proj(joined)
        values = values + block.mlp(block.norm2(values))
    return kept, body.forward_head(body.norm(values))


@pytest.mark.parametrize("kind", ["vit", "mean_vit"])
@pytest.mark.parametrize("fused", [True, False])
def test_rollout_is_the_product_of_what_each_block_passes_on(kind: str, fused: bool) -> None:
    weights, logits = attention_by_hand(kind)
    prefix = 1 if kind == "vit" else 0
    network, images = make(kind), tensors(scans(3))
    for block in network.body.blocks:
        block.attn.fused_attn = fused
    torch.testing.assert_close(network(images), logits, rtol=1e-4, atol=1e-5)
    expected = []
    for scan in range(3):
        joined = np.eye(weights[0].shape[2])
        for block in weights:
            mixed = block[scan].detach().numpy().mean(0) + np.eye(len(joined))
            joined = mixed / mixed.sum(1, keepdims=True) @ joined
        row = joined[0, 1:] if kind == "vit" else joined.mean(0)
        expected.append(row.reshape(4, 4))
    with borrowed(network):
        found = rollout(ExplanationQuery(network, images, torch.full((3, 1), TARGET)))[:, 0]
    np.testing.assert_allclose(found.numpy(), np.array(expected), atol=1e-5)
    assert found.min() > 0
    assert [block.attn.fused_attn for block in network.body.blocks] == [fused] * VIT["depth"]
    assert prefix + 16 == weights[0].shape[2]


def test_gradient_rollout_is_attention_times_its_positive_gradient() -> None:
    weights, logits = attention_by_hand("vit")
    logits[:, TARGET].sum().backward()
    expected = []
    for scan in range(3):
        joined = np.eye(17)
        for block in weights:
            product = (block[scan].detach() * block.grad[scan]).clamp(min=0).mean(0).numpy()
            joined = joined + product @ joined
        expected.append((joined - np.eye(17))[0, 1:].reshape(4, 4))
    network = make("vit")
    with borrowed(network):
        found = gradient_rollout(ExplanationQuery(network, tensors(scans(3)), torch.full((3, 1), TARGET)))[:, 0]
    largest = np.max(expected)
    assert largest > 0
    np.testing.assert_allclose(found.numpy(), np.array(expected), rtol=1e-4, atol=1e-5 * largest)


def test_the_query_key_map_is_where_the_places_look() -> None:
    network, images = make("attention"), tensors(scans(2))
    features = network.forward_features(images)
    places_ = features.flatten(2).transpose(1, 2)
    look = network.body.attention.look
    query, key = (part(places_).reshape(2, -1, 2, 8).transpose(1, 2) for part in (look.query, look.key))
    expected = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(8), 3).mean((1, 2)).reshape(2, 1, 2, 2)
    found, _ = explain_arrays(network, scans(2), targets=0, method="query_key")
    up = torch.nn.functional.interpolate(expected.detach(), size=(32, 32), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(found, up.numpy(), atol=1e-5)


def test_integrated_gradients_add_up_to_the_change_of_the_answer() -> None:
    """Completeness, of Captum's path between the plain scan and the scan, with the sign kept."""
    from scanwise.explanation.gradients import _path, without_small_structures

    network, images = make("vit"), tensors(scans(2))
    target = torch.tensor([0, 2])
    with borrowed(network):
        asked = ExplanationQuery(network, images, target[:, None])
        base = without_small_structures(images)
        parts = _path(asked, base, target, 64) * (images - base)
        change = asked.odds(images, target) - asked.odds(base, target)
    torch.testing.assert_close(parts.sum((1, 2, 3)), change.detach(), rtol=2e-2, atol=2e-2)
