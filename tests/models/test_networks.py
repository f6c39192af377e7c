"""Every row of the table of networks: it keeps its contract, and the recipe agrees with it."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from scanwise.errors import RecipeError
from scanwise.models import Network, build_network, describe_weights
from scanwise.models.network import BackboneBody, Body
from scanwise.models.networks import NETWORKS, TIMM, find_network
from scanwise.recipe import Model

HALVES = {"convolution": {"name": "test_resnet"}, "transformer": {"name": "test_vit", "options": {"img_size": 32}}}
SECTIONS: dict[str, dict[str, Any]] = {
    "hybrid": {"hybrid": HALVES},
    "fusion": {"fusion": {"image": {"name": "test_resnet"}}},
    "subject_ridge": {"ridge": {"backbone": {"name": "test_resnet"}, "blocks": 2, "grid": [2, 2], "pixels": [4, 4]}},
}
"""Small parts for the networks that have several; no row needs an entry."""
ROWS = {**NETWORKS, "test_resnet": TIMM}
SOLVED = ("subject_ridge",)
"""Networks without a gradient; they read the place of a scan."""
rows = pytest.mark.parametrize("name", ROWS)


def build(name: str, num_classes: int = 3, **more: Any) -> Network:
    torch.manual_seed(0)
    return build_network(Model(**{"name": name, **SECTIONS.get(name, {}), **more}), num_classes, 1).eval()


@rows
def test_a_row_has_a_name_and_a_title(name: str) -> None:
    assert find_network(name) is ROWS[name]
    assert ROWS[name].name == (name if name in NETWORKS else "")
    assert ROWS[name].title


@rows
def test_the_body_keeps_the_contract(name: str) -> None:
    network = build(name)
    assert isinstance(network.body, Body)
    assert network.takes_tokens == (ROWS[name].reads_words or name in SOLVED)
    if name not in SOLVED:
        assert network.get_submodule(network.classifier).out_features == 3
    if ROWS[name].attention:
        assert isinstance(build(name, 0).body, BackboneBody)


@rows
def test_two_steps_are_one_and_gradients_reach_the_first_layer(name: str) -> None:
    network, images = build(name), torch.randint(0, 256, (2, 1, 32, 32), generator=torch.Generator().manual_seed(1))
    tokens = torch.ones(2, 4, dtype=torch.int64) if network.takes_tokens else None
    maps = network.forward_features(images)
    logits = network.forward_head(maps, tokens=tokens)
    torch.testing.assert_close(logits, network(images, tokens), rtol=0, atol=0)
    assert network.forward_head(maps, pre_logits=True, tokens=tokens).ndim == 2
    if name in SOLVED:
        assert not logits.requires_grad
        return
    logits.square().sum().backward()
    reached = [
        parameter.grad is not None and bool(parameter.grad.abs().sum() > 0) for parameter in network.parameters()
    ]
    assert reached[0] or network.takes_tokens
    assert sum(reached) > len(reached) / 2


@rows
def test_the_recipe_agrees_on_words_attention_and_hidden_layers(name: str) -> None:
    spec = ROWS[name]
    assert Model(name=name).reads_words == spec.reads_words
    with nullcontext() if spec.attention else pytest.raises(ValueError, match="attention"):
        Model(name=name, attention={"width": 8})  # type: ignore[arg-type]
    with nullcontext() if spec.hidden else pytest.raises(ValueError, match="hidden"):
        Model(name=name, hidden=(8,))


@rows
def test_parts_have_keys_of_the_recipe_and_their_weights_are_described(name: str) -> None:
    spec, model = ROWS[name], Model(name=name)
    for key, part in spec.parts(model).items():
        section: Any = model
        for attribute in key.split("."):
            section = getattr(section, attribute)
        assert section == part
        assert f"{part.name}: random start" in describe_weights(model)


@pytest.mark.parametrize("name", [name for name, spec in NETWORKS.items() if not spec.hub_weights])
def test_a_network_without_weights_on_the_hub_says_so(name: str) -> None:
    with pytest.raises(RecipeError, match="no weights"):
        build(name, weights="hub")
