"""The hybrid: two halves, one head, and what each half brings."""

from typing import Any

import pytest
import torch

from scanwise.errors import RecipeError
from scanwise.models import Network, build_network
from scanwise.recipe import Model

HALVES: dict[str, Any] = {
    "convolution": {"name": "test_resnet"},
    "transformer": {"name": "test_vit", "options": {"img_size": 32}},
}


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return build_network(Model(name="hybrid", hybrid=HALVES, hidden=[16], dropout=0.3), 2, 3).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0))


def test_the_reference_system_is_the_default() -> None:
    section = Model(name="hybrid").hybrid
    assert (section.convolution.name, section.transformer.name) == ("resnet50", "vit_base_patch16_224")


@torch.no_grad()
def test_features_are_the_pooled_map_and_the_class_token(network: Network, images: torch.Tensor) -> None:
    features, body = network.forward_features(images), network.body
    normal = (images / 255 - 0.5) / 0.5
    pooled = body.convolution.forward_features(normal).mean((2, 3))
    token = body.transformer.forward_features(normal)[:, 0]
    torch.testing.assert_close(features, torch.cat([pooled, token], 1), rtol=1e-4, atol=1e-5)
    kinds = [type(layer).__name__ for layer in body.head]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear"]
    assert not any(isinstance(m, torch.nn.Linear) and m.out_features == 1000 for m in body.modules())


@torch.no_grad()
def test_each_half_may_want_pixels_of_its_own(images: torch.Tensor) -> None:
    halves = {**HALVES, "convolution": {**HALVES["convolution"], "mean": [0.5, 0.4, 0.3], "std": [0.2]}}
    made = build_network(Model(name="hybrid", hybrid=halves, hidden=[16]), 2, 3).eval()
    own = (images / 255 - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / 0.2
    pooled = made.body.convolution.forward_features(own).mean((2, 3))
    token = made.body.transformer.forward_features((images / 255 - 0.5) / 0.5)[:, 0]
    torch.testing.assert_close(made.forward_features(images), torch.cat([pooled, token], 1), rtol=1e-4, atol=1e-5)
    assert not any("change" in name for name in made.state_dict())
    with pytest.raises(RecipeError, match=r"model\.hybrid\.convolution\.mean has 3 values for scans of 1 channels"):
        build_network(Model(name="hybrid", hybrid=halves), 2, 1)


@torch.no_grad()
def test_norms_are_those_of_the_halves(network: Network, images: torch.Tensor) -> None:
    features, body = network.forward_features(images), network.body
    wide = body.convolution.num_features
    expected = torch.stack([features[:, :wide].norm(dim=1), features[:, wide:].norm(dim=1)], 1)
    torch.testing.assert_close(body.norms(features), expected)


@torch.no_grad()
def test_a_half_that_the_head_does_not_hear_contributes_nothing(network: Network, images: torch.Tensor) -> None:
    features, body = network.forward_features(images), network.body
    wide, first = body.convolution.num_features, body.head[0]
    before = body.contributions(features)
    assert (before > 0).all()
    first.weight[:, wide:] = 0
    after = body.contributions(features)
    torch.testing.assert_close(after[:, 0], before[:, 0])
    assert (after[:, 1] == 0).all()
    alone = features.clone()
    alone[:, wide:] = 0
    torch.testing.assert_close((first(alone) - first.bias).norm(dim=1), after[:, 0])


@pytest.mark.extended
def test_each_half_has_weights_of_its_own(network: Network, tmp_path: Any) -> None:
    file = tmp_path / "half.pth"
    torch.save(network.body.convolution.state_dict(), file)
    torch.manual_seed(1)
    halves = {**HALVES, "convolution": {"name": "test_resnet", "weights": str(file)}}
    section = Model(name="hybrid", hybrid=halves, hidden=[16])
    other = build_network(section, 2, 3).body
    assert torch.equal(other.convolution.conv1[0].weight, network.body.convolution.conv1[0].weight)
    assert not torch.equal(other.transformer.norm.weight + other.transformer.pos_embed.sum(), network.body.transformer.norm.weight + network.body.transformer.pos_embed.sum())  # fmt: skip
    file.unlink()
    build_network(section, 2, 3, pretrained=False)  # a checkpoint follows: the file is not needed
    whole = tmp_path / "whole.pth"
    torch.save(network.body.state_dict(), whole)
    own = Model(name="hybrid", hybrid=HALVES, hidden=[16], weights=str(whole), class_order=("a", "b"))
    same = build_network(own, 2, 3, classes=("a", "b")).body
    assert all(torch.equal(a, b) for a, b in zip(same.parameters(), network.body.parameters(), strict=True))
