"""No file that a recipe names can run code, whatever version of timm reads it: `make floors` runs this on the oldest."""

import pickle
from pathlib import Path

import pytest
import torch

from scanwise.models import build_network
from scanwise.recipe import Model


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
    model = Model(name="resnet10t", weights="none", options={"checkpoint_path": str(file)})
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever says no; what counts is below
        build_network(model, 2, 3)
    assert not (tmp_path / "sprung").exists()
