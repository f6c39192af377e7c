"""Weights on disk: what goes in comes out, every key is accounted for, and nothing in a file is executed."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scanwise.errors import WeightsError
from scanwise.models import build, weights
from scanwise.recipe import Model

SHARED = Path(os.environ.get("SCANWISE_SHARED") or Path(__file__).parents[3] / "shared")
MOBILENET = SHARED / "weights" / "mobilenetv2_035.pth"


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(0)
    network = build(Model(name="small"), 3, 1)
    network.body.blocks[0][1].running_mean.uniform_()  # buffers travel too
    return network


def fresh(num_classes: int = 3, channels: int = 1) -> nn.Module:
    torch.manual_seed(1)
    return build(Model(name="small", mean=(0.3,)), num_classes, channels)


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_safetensors_come_back_bit_for_bit_with_the_normalisation(small: nn.Module, tmp_path: Path) -> None:
    weights.save(small.to(memory_format=torch.channels_last), tmp_path / "deep" / "model.safetensors")
    other = fresh()
    weights.load(other, tmp_path / "deep" / "model.safetensors")
    assert_equal(small, other)
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["model.safetensors"]


def test_the_same_weights_are_the_same_bytes(small: nn.Module, tmp_path: Path) -> None:
    for name in ("a", "b"):
        weights.save(small, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


WRAPPINGS = {
    "DataParallel": lambda name: f"module.{name}",
    "compile": lambda name: f"_orig_mod.{name}",
    "compiled DataParallel": lambda name: f"_orig_mod.module.{name}",
    "DataParallel of compiled": lambda name: f"module._orig_mod.{name}",
    "three deep": lambda name: f"module._orig_mod.module.{name}",
    "compiled blocks": lambda name: name.replace("body.blocks.", "body.blocks._orig_mod."),
    "parallel features": lambda name: name.replace("body.blocks.", "body.blocks.module."),  # as torchvision's AlexNet
    "inside and outside": lambda name: "module." + name.replace("body.", "body._orig_mod."),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappers_leave_no_trace(small: nn.Module, tmp_path: Path, wrapping: str) -> None:
    state = {WRAPPINGS[wrapping](name): tensor for name, tensor in small.state_dict().items()}
    torch.save(state, tmp_path / "wrapped.pth")
    other = fresh()
    weights.load(other, tmp_path / "wrapped.pth")
    assert_equal(small, other)


def test_real_wrappers_too(small: nn.Module, tmp_path: Path) -> None:
    torch.save(nn.DataParallel(small).state_dict(), tmp_path / "parallel.pth")
    torch.save({"state_dict": torch.compile(small).state_dict(), "epoch": 3}, tmp_path / "compiled.pth")
    for file in ("parallel.pth", "compiled.pth"):
        other = fresh()
        weights.load(other, tmp_path / file)
        assert_equal(small, other)


def test_two_keys_that_become_one_are_refused(small: nn.Module, tmp_path: Path) -> None:
    state = dict(small.state_dict())
    state["module.body.head.bias"] = torch.ones(3)
    torch.save(state, tmp_path / "twice.pth")
    with pytest.raises(WeightsError, match=r"body\.head\.bias"):
        weights.load(fresh(), tmp_path / "twice.pth")


def damage(state: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    if how == "missing":
        del state["body.head.bias"], state["body.blocks.0.1.running_mean"]
    elif how == "surplus":
        state["body.extra.weight"] = torch.ones(2)
    elif how == "shape":
        state["body.blocks.1.0.weight"] = torch.ones(7, 16, 3, 3)
    return state


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("missing", r"2 missing \(body\.blocks\.0\.1\.running_mean, body\.head\.bias\)"),
        ("surplus", r"1 not known to it \(body\.extra\.weight\)"),
        ("shape", r"1 of another shape \(body\.blocks\.1\.0\.weight\)"),
    ],
)
def test_every_key_is_accounted_for(small: nn.Module, tmp_path: Path, how: str, told: str, suffix: str) -> None:
    from safetensors.torch import save_file

    state, file = damage(dict(small.state_dict()), how), tmp_path / f"weights.{suffix}"
    save_file(state, file) if suffix == "safetensors" else torch.save(state, file)
    other = fresh()
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(WeightsError, match=told) as caught:
        weights.load(other, file)
    assert str(file) in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())  # nothing half-loaded


def test_all_that_differs_is_told_at_once(small: nn.Module, tmp_path: Path) -> None:
    state = dict(small.state_dict())
    for how in ("missing", "surplus", "shape"):
        damage(state, how)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"missing .*not known to it .*of another shape"):
        weights.load(fresh(), tmp_path / "weights.pth")


def test_foreign_weights_owe_every_key_but_the_classifier_of_another_size(small: nn.Module, tmp_path: Path) -> None:
    state = dict(small.body.state_dict())
    torch.save(state, tmp_path / "three.pth")
    body = build(Model(name="small", weights=str(tmp_path / "three.pth")), 5, 1).body
    assert body.head.weight.shape == (5, 96)
    assert torch.equal(body.blocks[3][0].weight, state["blocks.3.0.weight"])
    same = build(Model(name="small", weights=str(tmp_path / "three.pth")), 3, 1).body
    assert torch.equal(same.head.weight, state["head.weight"])
    headless = build(Model(name="small", weights=str(tmp_path / "three.pth")), 0, 1).body
    assert torch.equal(headless.blocks[0][0].weight, state["blocks.0.0.weight"])
    del state["blocks.3.0.weight"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(WeightsError, match=r"1 missing \(blocks\.3\.0\.weight\)"):
        build(Model(name="small", weights=str(tmp_path / "less.pth")), 5, 1)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("by", ["pickle", "torch"])
def test_a_pickle_bomb_does_not_go_off(small: nn.Module, tmp_path: Path, by: str) -> None:
    file, mark = tmp_path / "bomb.pth", tmp_path / "exploded"
    content = {"body.head.bias": Bomb(mark)}
    if by == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file)
    with pytest.raises(WeightsError, match="Nothing in it was executed"):
        weights.load(small, file)
    assert not mark.exists()
    torch.load(file, weights_only=False) if by == "torch" else pickle.loads(file.read_bytes())  # noqa: S301
    assert mark.exists()  # it was a live one


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_no_damage_to_a_file_is_more_than_a_weights_error(small: nn.Module, tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole.{suffix}"
    weights.save(small, whole) if suffix == "safetensors" else torch.save(small.state_dict(), whole)
    content, draws = whole.read_bytes(), np.random.default_rng(0)
    hurt = [b"", b"\x80", b"hello, weights", bytes(draws.integers(0, 256, 500, np.uint8)), b"\x80\x02]q\x00."]
    hurt += [content[:n] for n in (1, 8, 100, len(content) // 2, len(content) - 1)]
    file = tmp_path / f"hurt.{suffix}"
    for damaged in hurt:
        file.write_bytes(damaged)
        with pytest.raises(WeightsError, match=re.escape(str(file))):
            weights.read(file)


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    for content in (torch.ones(3), {"a": 1}, [torch.ones(3)], {"state_dict": {"a": "b"}}):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(WeightsError, match="no state dict"):
            weights.read(tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="no file of weights"):
        weights.read(tmp_path / "nowhere.pth")


def test_colour_weights_become_gray_ones_by_their_sum(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    colour = timm.create_model("test_resnet", num_classes=0).eval()
    torch.save(colour.state_dict(), tmp_path / "colour.pth")
    gray = build(Model(name="test_resnet", weights=str(tmp_path / "colour.pth")), 0, 1).body.eval()
    first = colour.pretrained_cfg["first_conv"]
    torch.testing.assert_close(
        gray.get_submodule(first).weight, colour.get_submodule(first).weight.sum(dim=1, keepdim=True)
    )
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():  # a gray scan looks as it did in three equal channels
        torch.testing.assert_close(gray(image), colour(image.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(
    not MOBILENET.is_file(), reason=f"no {MOBILENET}: set SCANWISE_SHARED to the folder of real weights"
)
@pytest.mark.parametrize("channels", [1, 3])
def test_real_weights_load_whole(channels: int) -> None:
    section = Model(name="mobilenetv2_035", weights=str(MOBILENET), options={"pad_type": "same"})
    network = build(section, 4, channels).eval()
    state, own = weights.read(MOBILENET), network.body.state_dict()
    assert own.keys() - state.keys() == {"classifier.weight", "classifier.bias"}
    for name in state.keys() - {"conv_stem.weight"}:
        assert torch.equal(own[name], state[name])
    stem = state["conv_stem.weight"] if channels == 3 else state["conv_stem.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(own["conv_stem.weight"], stem)


@pytest.mark.skipif(
    not MOBILENET.is_file(), reason=f"no {MOBILENET}: set SCANWISE_SHARED to the folder of real weights"
)
def test_real_weights_of_another_network_are_refused() -> None:
    with pytest.raises(WeightsError, match="missing"):
        build(Model(name="test_resnet", weights=str(MOBILENET)), 4, 1)
