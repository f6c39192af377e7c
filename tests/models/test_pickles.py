"""No file that a recipe names can run code, whatever version of timm reads it: `make floors` runs this on the oldest."""

import contextlib
import inspect
import pickle
from pathlib import Path

import pytest
import timm
import torch
from pydantic import ValidationError

from scanwise.errors import RecipeError
from scanwise.models import build_network
from scanwise.models.backbones import create_backbone
from scanwise.recipe import Model
from scanwise.recipe.options import OPTIONS


class Trap:
    """What a pickle may hold: a call, made when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_the_trap_is_one(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))  # noqa: S301
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("suffix", ["pth", "bin", "safetensors"])
def test_a_checkpoint_among_the_options_runs_nothing(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"extra.{suffix}"
    torch.save({"state_dict": Trap(tmp_path / "sprung")}, file)
    with pytest.raises(ValidationError, match="no option of a network"):
        Model(name="resnet10t", weights="none", options={"checkpoint_path": str(file)})
    model = Model.model_construct(**{**dict(Model(name="resnet10t")), "options": {"checkpoint_path": str(file)}})
    with pytest.raises(Exception):  # noqa: B017, PT011 - timm says no as well; what counts is below
        build_network(model, 2, 3)
    assert not (tmp_path / "sprung").exists()


def test_no_option_is_an_argument_of_the_factory() -> None:
    """Those name files, folders and sources; `create_model` and the builder behind it have them."""
    factories = (timm.create_model, timm.models._builder.build_model_with_cfg)
    arguments = {name for factory in factories for name in inspect.signature(factory).parameters}
    assert "checkpoint_path" in arguments
    assert not arguments & set(OPTIONS)
    assert not {"num_classes", "in_chans"} & set(OPTIONS)  # of the data


NETWORKS = ("vit_tiny_patch16_224", "resnet10t", "mobilenetv2_035", "convnext_atto", "swin_tiny_patch4_window7_224")
TAKEN = {
    "img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 32, "num_heads": 2, "window_size": 7, "drop_rate": 0.1,
    "drop_path_rate": 0.1, "qkv_bias": False, "mlp_ratio": 2.0, "pad_type": "same", "act_layer": "silu",
    "global_pool": "avg", "dynamic_img_size": True, "output_stride": 16,
}  # fmt: skip


EVERYDAY = {"img_size", "depth", "num_heads"}


@pytest.mark.parametrize(
    "option", [name if name in EVERYDAY else pytest.param(name, marks=pytest.mark.extended) for name in TAKEN]
)
def test_options_that_networks_have_are_taken(option: str) -> None:
    taken = 0
    for name in NETWORKS:
        with contextlib.suppress(RecipeError, AssertionError):
            create_backbone(name, "none", 2, 1, 0.0, Model(name=name, options={option: TAKEN[option]}).options)
            taken += 1
    assert taken


OUTSIDE = {
    "depth": [0, 257, 10_000_000, 1.5, True, "12", float("nan"), float("inf"), 10**300],
    "drop_rate": [-0.1, 1.0, "0.1", False],
    "mlp_ratio": [-1, 65, float("nan"), "4"],
    "qkv_bias": [0, 1.0, "true"],
    "act_layer": [1, True, "a" * 33, "../x", "torch.load", "a b"],
}


@pytest.mark.parametrize(("option", "value"), [(name, value) for name, values in OUTSIDE.items() for value in values])
def test_an_option_beyond_its_bounds_is_refused(option: str, value: object) -> None:
    with pytest.raises(ValidationError, match=option):
        Model.model_validate({"options": {option: value}})
