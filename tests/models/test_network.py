"""The same questions to every network: ours, and a handful of timm's smallest of as many families."""

from typing import Any

import pytest
import torch

from scanwise.errors import RecipeError, WeightsError
from scanwise.models import Network, build_network, describe_weights
from scanwise.recipe import Model

HALVES = {"convolution": {"name": "test_resnet"}, "transformer": {"name": "test_vit", "options": {"img_size": 32}}}

# name of a network: side of its scans, and what its recipe says
NETWORKS: dict[str, tuple[int, dict[str, Any]]] = {
    "alexnet": (32, {}),
    "small": (16, {}),
    "test_resnet": (32, {}),
    "test_efficientnet": (32, {}),
    "test_convnext": (32, {}),
    "test_nfnet": (32, {}),
    "test_vit": (160, {}),
    "mobilenetv2_035": (32, {}),
    "mobilenetv3_small_050": (32, {}),  # has a layer between pooling and classifier
    "attention": (64, {"name": "test_efficientnet", "attention": {"width": 16, "heads": 2}}),
    "attention of small": (32, {"name": "small", "attention": {"width": 16}, "hidden": [8]}),
    "attention of a transformer": (160, {"name": "test_vit", "attention": {"width": 16}}),
    "hidden": (32, {"name": "test_resnet", "hidden": [24, 12]}),
    "hybrid": (32, {"name": "hybrid", "hybrid": HALVES, "hidden": [20]}),
    "batch ensemble": (32, {"name": "test_resnet", "members": {"kind": "batch_ensemble", "count": 3}}),
    "batch ensemble of heads": (
        32,
        {"name": "test_resnet", "hidden": [12], "members": {"kind": "batch_ensemble", "layers": 2}},
    ),
    "batch ensemble of a transformer": (160, {"name": "test_vit", "members": {"kind": "batch_ensemble"}}),
}
SINGLE = [name for name in NETWORKS if "ensemble" not in name]
CLASSES = 3

every = pytest.mark.parametrize(("name", "channels"), [(name, channels) for name in NETWORKS for channels in (1, 3)])


def make(name: str, channels: int, num_classes: int = CLASSES, **section: object) -> Network:
    torch.manual_seed(0)
    said = NETWORKS.get(name, (0, {}))[1]
    return build_network(Model(**{"name": name, **said, **section}), num_classes, channels).eval()


def scans(name: str, channels: int, count: int = 2) -> torch.Tensor:
    side = NETWORKS[name][0]
    return torch.randint(0, 256, (count, channels, side, side), generator=torch.Generator().manual_seed(1)).to(
        torch.uint8
    )


@every
@torch.inference_mode()
def test_scans_become_one_logit_a_class_in_two_steps(name: str, channels: int) -> None:
    network, images = make(name, channels), scans(name, channels)
    logits = network(images)
    assert logits.shape == (2, CLASSES)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert not torch.allclose(logits[0], logits[1])  # it looks at the scan
    maps = network.forward_features(images)
    torch.testing.assert_close(network.forward_head(maps), logits, rtol=0, atol=0)
    assert maps.shape[0] == 2 * (network.members if not network.folds_late else 1)
    members = network.forward_members(images)
    assert members.shape == (2, network.members, CLASSES)
    torch.testing.assert_close(members.softmax(2).mean(1), logits.softmax(1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SINGLE)
@torch.inference_mode()
def test_the_features_are_what_the_last_layer_sees(name: str, channels: int) -> None:
    network, images = make(name, channels, dropout=0.5), scans(name, channels)
    features = network.forward_head(network.forward_features(images), pre_logits=True)
    assert features.ndim == 2
    last = [module for module in network.body.modules() if isinstance(module, torch.nn.Linear)][-1]
    assert last.out_features == CLASSES
    assert last is network.get_submodule(network.classifier)
    torch.testing.assert_close(last(features), network(images))


@every
@torch.inference_mode()
def test_bytes_and_floats_are_the_same_scan(name: str, channels: int) -> None:
    network, images = make(name, channels), scans(name, channels)
    torch.testing.assert_close(network(images), network(images.float()), rtol=0, atol=0)


@every
@torch.inference_mode()
def test_evaluation_is_deterministic_and_a_scan_has_one_answer_in_any_batch(name: str, channels: int) -> None:
    network, images = make(name, channels, dropout=0.5), scans(name, channels, 3)
    logits = network(images)
    torch.testing.assert_close(network(images), logits, rtol=0, atol=0)
    torch.testing.assert_close(network(images[1:2]), logits[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_reaches_every_parameter(name: str) -> None:
    network = make(name, 1).train()
    torch.nn.functional.cross_entropy(network(scans(name, 1, 4)), torch.tensor([0, 1, 2, 0])).backward()
    idle = [key for key, weight in network.named_parameters() if weight.grad is None]
    assert not idle


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_no_classes_give_features_only(name: str) -> None:
    network, images = make(name, 1, num_classes=0), scans(name, 1)
    features = network.forward_head(network.forward_features(images), pre_logits=True)
    torch.testing.assert_close(network(images), features)
    assert features.shape[1] > CLASSES


@pytest.mark.parametrize("name", NETWORKS)
def test_one_seed_gives_the_same_bits_and_a_state_dict_goes_round(name: str) -> None:
    one, same = make(name, 1), make(name, 1)
    torch.manual_seed(1)
    other = build_network(Model(**{"name": name, **NETWORKS[name][1]}), CLASSES, 1).eval()
    images = scans(name, 1)
    with torch.inference_mode():
        assert torch.equal(one(images), same(images))
        assert not torch.equal(one(images), other(images))
        other.load_state_dict(one.state_dict())
        assert torch.equal(one(images), other(images))
    states = zip(one.state_dict().items(), same.state_dict().items(), strict=True)
    assert all(mine[0] == theirs[0] and torch.equal(mine[1], theirs[1]) for mine, theirs in states)


@pytest.mark.parametrize(
    "name", ["alexnet", "small", "test_resnet", "mobilenetv2_035", "attention", "hidden", "hybrid"]
)
def test_dropout_of_the_recipe_is_in_the_network(name: str) -> None:
    images = scans(name, 1, 4)
    with torch.no_grad():
        silent, noisy = make(name, 1).train(), make(name, 1, dropout=0.5).train()
        torch.testing.assert_close(silent(images), silent(images), rtol=0, atol=0)
        assert not torch.allclose(noisy(images), noisy(images))


@torch.inference_mode()
def test_pixels_are_normalised_inside_by_the_recipe_each_channel_by_its_own() -> None:
    network = make("small", 3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    images = scans("small", 3)
    mean, std = torch.tensor([0.1, 0.2, 0.3])[:, None, None], torch.tensor([0.5, 0.25, 2.0])[:, None, None]
    expected = network.body((images.float() / 255 - mean) / std)
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
    assert {"mean", "std"} <= network.state_dict().keys()  # the weights carry their preprocessing


@torch.inference_mode()
def test_alexnet_is_as_published() -> None:
    body = make("alexnet", 1, num_classes=4, dropout=0.5).body
    convolutions = [m for m in body.modules() if isinstance(m, torch.nn.Conv2d)]
    linear = [m for m in body.modules() if isinstance(m, torch.nn.Linear)]
    assert [m.kernel_size[0] for m in convolutions] == [11, 5, 3, 3, 3]
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in body.modules()) == 5
    assert sum(isinstance(m, torch.nn.MaxPool2d) for m in body.modules()) == 5
    assert [(m.in_features, m.out_features) for m in linear] == [(256, 4096), (4096, 4096), (4096, 4)]
    assert body(torch.zeros(1, 1, 64, 64)).shape == (1, 4)  # larger scans are averaged


@pytest.mark.parametrize(
    ("name", "hint"), [("alexnett", "alexnet"), ("resnet5O", "resnet50"), ("mobilenet_v2_100", "mobilenetv2_100")]
)
def test_an_unknown_name_gets_a_suggestion(name: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=rf"no network '{name}'.*Did you mean '.*{hint[:6]}.*'\?"):
        make(name, 1)


def test_an_option_that_timm_does_not_know_is_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match=r"test_resnet.*embed_dim"):
        make("test_resnet", 1, options={"embed_dim": 1})


@pytest.mark.parametrize("weights", ["none", "hub"])
def test_a_tag_that_timm_does_not_know_is_a_recipe_error(weights: str) -> None:
    with pytest.raises(RecipeError, match=r"resnet18\.nonsense"):
        make("resnet18.nonsense", 1, weights=weights)


@pytest.mark.parametrize("section", [{"mean": (0.1, 0.2)}, {"std": (0.1, 0.2)}, {"mean": (0.1, 0.2, 0.3)}])
def test_a_mean_that_does_not_fit_the_channels_is_refused(section: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=r"model\.(mean|std) has . values for scans of 1 channels"):
        make("small", 1, **section)


def test_our_own_networks_have_nothing_on_a_hub() -> None:
    with pytest.raises(RecipeError, match="hub"):
        make("alexnet", 1, weights="hub")


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("offline"), ConnectionError("refused")])
def test_a_hub_out_of_reach_says_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    import timm.models._builder as builder

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(builder, "load_pretrained", fail)
    with pytest.raises(WeightsError, match=r"test_resnet\.r160_in1k.*hub.*model\.weights"):
        make("test_resnet.r160_in1k", 1, weights="hub")


@pytest.mark.parametrize("name", ["mobilenetv2_035", "efficientnet_b6"])
def test_a_network_without_published_weights_is_not_blamed_on_the_connection(name: str) -> None:
    with pytest.raises(WeightsError, match=rf"no pretrained weights for '{name}'.*none or a file") as caught:
        make(name, 1, weights="hub")
    assert "Connect" not in str(caught.value)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "mobilenetv2_035", "mobilenetv3_small_050"])
def test_the_first_answers_are_unsure(name: str) -> None:
    """timm draws the classifier of an EfficientNet by the number of classes, so large that it answers at random and surely."""
    network = build_network(Model(name=name), CLASSES, 3)
    weight = network.get_submodule(network.classifier).weight
    bound = weight.shape[1] ** -0.5
    assert weight.abs().max() <= bound
    assert weight.std() > 0.5 * bound


def test_weights_of_the_hub_are_left_as_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm.models._builder as builder

    def pretend(model: torch.nn.Module, **_: object) -> None:
        torch.nn.init.constant_(model.conv1.weight, 7)

    monkeypatch.setattr(builder, "load_pretrained", pretend)
    first = next(make("resnet18", 1, weights="hub").body.parameters())
    assert (first == 7).all()


def test_a_wrong_option_with_the_hub_is_not_blamed_on_the_connection() -> None:
    with pytest.raises(RecipeError, match="embed_dim"):
        make("test_resnet", 1, weights="hub", options={"embed_dim": 1})


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"name": "small"}, "random start"),
        ({"name": "resnet50", "weights": "hub"}, "pretrained, from the hub"),
        ({"name": "resnet50", "weights": "a/b.pth"}, "pretrained, from b.pth"),
        (
            {"name": "hybrid", "hybrid": HALVES, "weights": "hub"},
            "test_resnet: pretrained, from the hub; test_vit: pret",
        ),
        (
            {"name": "fusion", "fusion": {"image": {"name": "resnet18", "weights": "c.pth"}}},
            "resnet18: pretrained, from c",
        ),
        ({"name": "text", "text": {"encoder": "folder/tiny"}}, "folder/tiny: pretrained, from tiny"),
        ({"name": "fusion", "weights": "whole.pth"}, "pretrained, from whole.pth"),
    ],
)
def test_where_weights_come_from_is_said(section: dict[str, Any], told: str) -> None:
    assert describe_weights(Model(**section)).startswith(told)
