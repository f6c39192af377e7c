"""Batch ensembles: a converted network is itself until it is spread, and what is no ensemble is not called one."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanwise.errors import RecipeError, ShapeError
from scanwise.models import Network, batch_ensemble, build_network
from scanwise.models.batch_ensemble import BatchEnsembleLayer
from scanwise.models.diversity import Diversity, member_agreement
from scanwise.recipe import Members, Model

SHARED = Path(os.environ.get("SCANWISE_SHARED") or Path(__file__).parents[3] / "shared")
MOBILENET = SHARED / "weights" / "mobilenetv2_100.pth"

BASES: dict[str, dict[str, Any]] = {
    "convolutions without bias": {"name": "small"},
    "depthwise": {"name": "mobilenetv2_035"},
    "scaled convolutions": {"name": "test_nfnet"},
    "transformer": {"name": "test_vit", "options": {"img_size": 32}},
    "channels last": {"name": "test_convnext"},
    "attention": {"name": "small", "attention": {"width": 8}, "hidden": [8]},
    "swin": {"name": "swin_tiny_patch4_window7_224", "options": {"img_size": 32, "window_size": 2, "embed_dim": 24}},
}


def base_of(section: dict[str, Any], classes: int = 3) -> Network:
    torch.manual_seed(0)
    network = build_network(Model(**section), classes, 3)
    for name, buffer in network.body.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    for name, weight in network.body.named_parameters():  # biases that are zero would hide mistakes
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, 0, 0.1)
    return network.eval()


def pixels(count: int = 4, side: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(1))


def members(count: int = 3, **said: Any) -> Members:
    return Members(kind="batch_ensemble", count=count, **said)


@pytest.mark.parametrize("layers", ["all", 1, 2])
@pytest.mark.parametrize("base", BASES)
@torch.no_grad()
def test_without_spread_every_member_is_the_base(base: str, layers: Any) -> None:
    network, images = base_of(BASES[base]), pixels()
    expected = network(images)
    batch_ensemble.to_batch_ensemble(network, members(sigma=0, layers=layers))
    assert any(isinstance(module, BatchEnsembleLayer) for module in network.modules())
    found = network.eval().forward_members(images)
    assert found.shape == (4, 3, 3)
    torch.testing.assert_close(found, expected[:, None].expand(4, 3, 3), rtol=0, atol=1e-5)
    batch_ensemble.draw_fast_weights(network, 0.3)
    spread = network.forward_members(images)
    assert (spread.std(dim=1) > 0).all()
    batch_ensemble.draw_fast_weights(network, 0)
    torch.testing.assert_close(network.forward_members(images), found, rtol=0, atol=0)


@torch.no_grad()
def test_a_member_is_the_network_with_its_own_weights() -> None:
    """The reference: one network a member, its weights W · r sᵀ written out."""
    network, images = base_of({"name": "small"}), pixels()
    torch.manual_seed(3)
    batch_ensemble.to_batch_ensemble(network, members(sigma=0.4))
    together = network.eval().forward_members(images)
    for member in range(3):
        alone = base_of({"name": "small"})
        for name, module in network.body.named_modules():
            if isinstance(module, BatchEnsembleLayer):
                weight = module.base.weight * module.out[member].reshape(-1, *[1] * (module.base.weight.ndim - 1))
                alone.body.get_submodule(name).weight.copy_(
                    weight * module.into[member].reshape(1, -1, *[1] * (weight.ndim - 2))
                )
        torch.testing.assert_close(together[:, member], alone(images), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_pretrained_weights_are_all_there_after_conversion(tmp_path: Path) -> None:
    network = base_of({"name": "small"})
    torch.save(network.body.state_dict(), tmp_path / "base.pth")
    names = ("a", "b", "c")
    section = {"name": "small", "weights": str(tmp_path / "base.pth"), "class_order": names}
    plain = {"kind": "batch_ensemble", "sigma": 0}
    converted = build_network(Model(**section, members=plain), 3, 3, classes=names).eval()
    images = pixels()
    torch.testing.assert_close(converted(images), network(images).log_softmax(1), rtol=1e-4, atol=1e-5)
    signs = {"kind": "batch_ensemble", "start": "signs"}
    with pytest.raises(ValueError, match="signs destroys pretrained weights"):
        Model(**section, members=signs)
    random = build_network(Model(name="small", members=signs), 3, 3)
    vectors = next(module.into for module in random.modules() if isinstance(module, BatchEnsembleLayer))
    assert set(vectors.unique().tolist()) == {-1.0, 1.0}


@torch.no_grad()
def test_members_of_the_head_alone_share_one_feature_map() -> None:
    network, images = base_of({"name": "small", "hidden": [8]}), pixels()
    batch_ensemble.to_batch_ensemble(network, members(sigma=0.3, layers=2))
    assert network.eval().folds_late
    assert len(network.forward_features(images)) == 4
    deep = base_of({"name": "small"})
    batch_ensemble.to_batch_ensemble(deep, members(sigma=0.3))
    assert len(deep.forward_features(images)) == 12


def test_members_learn_their_own_vectors_and_the_shared_weights() -> None:
    network = base_of({"name": "small"}).train()
    batch_ensemble.to_batch_ensemble(network, members(sigma=0.1))
    logits = network.forward_members(pixels(6))
    torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor([0, 1, 2, 0, 1, 2]).repeat_interleave(3)
    ).backward()
    first = next(module for module in network.modules() if isinstance(module, BatchEnsembleLayer))
    assert (first.base.weight.grad != 0).any()
    assert (first.into.grad != 0).any(1).all()  # each member's


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(RecipeError, match="no convolution or linear layer"):
        batch_ensemble.to_batch_ensemble(Network(torch.nn.ReLU(), (0.5,), (0.5,)), members())


def test_diversity_is_disagreement_and_kl_over_pairs() -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(3), (50, 4))
    found = Diversity.of(probs)
    apart, kl = [], []
    for a in range(4):
        for b in range(4):
            if a != b:
                apart.append((probs[:, a].argmax(1) != probs[:, b].argmax(1)).mean())
                kl.append((probs[:, a] * np.log(probs[:, a] / probs[:, b])).sum(1).mean())
    assert found.disagreement == pytest.approx(np.mean(apart))
    assert found.kl == pytest.approx(np.mean(kl))
    assert found.is_ensemble
    assert "ensemble of 4" in str(found)
    np.testing.assert_allclose(member_agreement(probs, probs[:, 2])[2], 1)


def test_members_that_are_one_are_not_called_an_ensemble() -> None:
    one = np.random.default_rng(0).dirichlet(np.ones(3), (50, 1))
    for probs in (one, one.repeat(4, axis=1)):
        found = Diversity.of(probs)
        assert not found.is_ensemble
        assert "ensemble" not in str(found)
    assert not Diversity.of(np.array([[[1.0, 0.0]] * 2])).is_ensemble  # certain answers are no division by zero
    with pytest.raises(ShapeError, match="N, T, C"):
        Diversity.of(one[:, 0])


@pytest.mark.skipif(
    not MOBILENET.is_file(), reason=f"no {MOBILENET}: set SCANWISE_SHARED to the folder of real weights"
)
@torch.no_grad()
def test_real_pretrained_weights_survive() -> None:
    names = tuple(map(str, range(1000)))  # of its own classes, for its classifier is to be kept
    section = {
        "name": "mobilenetv2_100",
        "weights": str(MOBILENET),
        "options": {"pad_type": "same"},
        "class_order": names,
    }
    images = pixels(2, 64)
    expected = build_network(Model(**section), 1000, 3, classes=names).eval()(images)
    members = {"kind": "batch_ensemble", "sigma": 0}
    converted = build_network(Model(**section, members=members), 1000, 3, classes=names).eval()
    found = converted.forward_members(images)
    torch.testing.assert_close(
        found, expected[:, None].expand_as(found), rtol=0, atol=1e-5 * float(expected.abs().max())
    )
