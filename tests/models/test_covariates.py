"""Covariates under the last layer of every network: added to all members and draws alike, missing ones at the mean."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from scanwise.models import Network, build_network
from scanwise.prediction import predict_batches
from scanwise.recipe import Model, Recipe

NETWORKS: dict[str, dict[str, Any]] = {
    "alexnet": {"name": "alexnet"},
    "timm": {"name": "test_resnet"},
    "small": {"name": "small", "hidden": [8], "attention": {"width": 8}},
    "hybrid": {
        "name": "hybrid",
        "hybrid": {"convolution": {"name": "test_resnet"}, "transformer": {"name": "test_vit"}},
    },
    "deep": {"name": "small", "members": {"kind": "deep_ensemble", "count": 2}},
    "batch": {"name": "small", "members": {"kind": "batch_ensemble", "count": 3}},
    "dropout": {"name": "small", "dropout": 0.3, "members": {"kind": "mc_dropout", "count": 5}},
    "people": {"name": "small", "unit": "subject"},
}


def built(name: str) -> Network:
    torch.manual_seed(0)
    network = build_network(Model.model_validate({**NETWORKS[name], "covariates": 2}), 3, 1)
    for part in network.modules():
        if isinstance(part, Network) and part.covariates is not None:
            torch.nn.init.normal_(part.covariates.weight)
            part.covariates.set_scale(torch.tensor([60.0, 0.5]), torch.tensor([10.0, 0.5]))
    return network


def answers(name: str, covariates: list[list[float]] | None) -> Any:
    side = 160 if name == "hybrid" else 32
    scans = np.random.default_rng(0).integers(0, 256, (4, side, side, 1), dtype=np.uint8)
    tokens = None if covariates is None else np.array(covariates, np.float32)
    batch = scans if tokens is None else (scans, tokens)
    return predict_batches(built(name), iter([batch]))[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_they_are_a_linear_part_of_every_networks_logits(name: str) -> None:
    unknown, mean = answers(name, None), answers(name, [[60, 0.5]] * 4)
    assert np.allclose(unknown, mean, atol=1e-5)
    other = answers(name, [[70, 0.5], [80, 0.5], [float("nan"), 0.5], [60, 0.5]])
    one, two = other[0] - mean[0], other[1] - mean[1]
    assert np.abs(one).max() > 0.01
    assert np.allclose(2 * one, two, atol=1e-4)
    assert np.allclose(other[2:], mean[2:], atol=1e-5)
    if name != "deep":  # whose networks have weights of their own
        assert np.allclose(one, one[:1], atol=1e-4)


def test_a_network_without_covariates_has_none_of_their_weights() -> None:
    assert not [key for key in build_network(Model(name="small"), 2, 1).state_dict() if key.startswith("covariates")]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"model": {"name": "fusion"}}, "words of a title"),
        ({"model": {"name": "text"}}, "words of a title"),
        ({"model": {"name": "small", "ordinal": True}, "train": {"loss": "corn"}}, "model.ordinal"),
        ({"model": {"name": "small"}, "train": {"cutmix": 1.0}}, "mixup and cutmix"),
    ],
)
def test_networks_without_a_layer_for_them_refuse_them(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Recipe.model_validate({"name": "r", "data": {"covariates": ["age"]}, **section})
