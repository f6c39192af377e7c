"""The person's score as a network of scans: slabs, members, and a decomposition that adds up."""

import numpy as np
import pytest
import torch

from scanwise.models import build_network
from scanwise.models.subject_ridge import SubjectRidge, slab_shares
from scanwise.recipe import Model

SECTION = {"backbone": {"name": "test_resnet"}, "blocks": 2, "grid": [2, 3], "pixels": [4, 5], "slabs": 4, "folds": 3}


SECOND = {"name": "test_efficientnet", "mean": [0.3], "std": [0.2]}


def build(second: dict[str, object] | None) -> torch.nn.Module:
    torch.manual_seed(0)
    built = build_network(Model(name="subject_ridge", ridge={**SECTION, "second": second}), 3, 1).eval()
    torch.nn.init.normal_(built.body.head.centre)
    torch.nn.init.normal_(built.body.head.constant)
    return built


@pytest.fixture(scope="module", params=[None, SECOND], ids=["one backbone", "two backbones"])
def network(request: pytest.FixtureRequest) -> torch.nn.Module:
    return build(request.param)


def pixels(count: int) -> torch.Tensor:
    random = np.random.default_rng(count)
    return torch.from_numpy(random.integers(0, 256, (count, 1, 32, 32), dtype=np.uint8))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 32, 500])
def test_every_slab_has_a_whole_share_of_every_person(count: int) -> None:
    places = torch.stack([torch.arange(count), torch.full((count,), count)], 1)
    shares = slab_shares(places, 4, count)
    assert torch.allclose(shares.mean(0), torch.ones(4, dtype=shares.dtype))
    assert (shares >= 0).all()


def test_slabs_follow_the_order() -> None:
    shares = slab_shares(torch.tensor([[rank, 8] for rank in range(8)]), 4, 8)
    assert torch.equal((shares > 0).int().argmax(1), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]))


@torch.no_grad()
def test_the_mean_over_a_persons_scans_is_the_score_of_the_means_of_slabs(network: torch.nn.Module) -> None:
    body = network.body
    assert isinstance(body, SubjectRidge)
    images, places = pixels(6), torch.tensor([[rank, 6] for rank in range(6)])
    members = network.forward_members(images, places)
    assert members.shape == (6, 3, 3)
    features = network.forward_features(images)
    vector = slab_shares(places, 4, 6).float().T @ features / 6  # (S, D)
    person = torch.einsum("tsd,tsdc->tc", vector - body.head.centre, body.head.weight) + body.head.constant
    assert torch.allclose(members.mean(0), person, atol=1e-4)
    swapped = network.forward_members(images, places.flip(0)).mean(0)
    assert not torch.allclose(swapped, person, atol=1e-3)


@torch.no_grad()
def test_contributions_add_up_to_the_logits(network: torch.nn.Module) -> None:
    body = network.body
    images, places = pixels(5), torch.tensor([[rank, 5] for rank in range(5)])
    features = network.forward_features(images)
    parts = body.contributions(features, places, 1)
    grids = [(2, 3)] * (2 if body.second is None else 4)
    assert [tuple(part.shape[2:]) for part in parts] == [*grids, (4, 5)]
    whole = sum(part.sum((2, 3)) for part in parts) + body.head.constant[1]
    assert torch.allclose(whole, network.forward_members(images, places)[:, 1], atol=1e-4)


@torch.no_grad()
def test_features_are_those_that_16_bits_keep(network: torch.nn.Module) -> None:
    features = network.forward_features(pixels(2))
    assert torch.equal(features, features.half().float())
    assert network.forward_head(features, pre_logits=True).shape == (2, network.body.num_features)


@torch.no_grad()
def test_a_second_backbone_sees_pixels_as_it_was_trained() -> None:
    network = build(SECOND)
    maps = network.body.second.forward_intermediates(
        (pixels(2).float() / 255 - 0.3) / 0.2, indices=[-2, -1], intermediates_only=True
    )
    first = torch.nn.functional.adaptive_avg_pool2d(maps[0], (2, 3)).flatten(1)
    assert torch.allclose(network.forward_features(pixels(2))[:, : first.shape[1]], first, atol=2e-2)


def test_only_the_head_is_learnt_and_it_can_be_drawn_anew(network: torch.nn.Module) -> None:
    assert not any(parameter.requires_grad for parameter in network.parameters())
    before = network.body.head.weight.clone()
    network.body.head.reset_parameters()
    assert not torch.equal(before, network.body.head.weight)
