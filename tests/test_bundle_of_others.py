"""A bundle that somebody else wrote, with hashes that fit it: whatever it holds, one clear line, and soon."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from scanwise import bundle
from scanwise.errors import ScanwiseError
from scanwise.run import sha256_of
from tiny import Command, Whole

Change = Callable[[Path], object]


def list_hashes(folder: Path) -> None:
    files = sorted(file for file in folder.iterdir() if file.name != "SHA256SUMS")
    (folder / "SHA256SUMS").write_text("".join(f"{sha256_of(f)}  {f.name}\n" for f in files), encoding="utf-8")


@pytest.fixture
def foreign(whole: Whole, tmp_path: Path) -> Callable[[Change], Path]:
    """The finished run's bundle after a change, with hashes that fit."""

    def make(change: Change) -> Path:
        folder = tmp_path / "bundle"
        shutil.copytree(whole.run.bundle, folder)
        change(folder)
        list_hashes(folder)
        return folder

    return make


def about(**values: Any) -> Change:
    """Other values in bundle.json; `sets__scan__alpha` is a value within values."""

    def change(folder: Path) -> None:
        file = folder / "bundle.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        for path, value in values.items():
            *parents, last = path.split("__")
            inside = content
            for parent in parents:
                inside = inside[parent]
            inside[last] = value
        file.write_text(json.dumps(content), encoding="utf-8")

    return change


def text(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content, encoding="utf-8")


def recipe(old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        file = folder / "recipe.yaml"
        before = file.read_text(encoding="utf-8")
        assert old in before
        file.write_text(before.replace(old, new, 1), encoding="utf-8")

    return change


def tensors(file: str, change: Callable[[dict[str, Any]], object]) -> Change:
    """Other tensors in a safetensors file, its metadata kept."""

    def apply(folder: Path) -> None:
        from safetensors import safe_open

        with safe_open(folder / file, "numpy") as opened:
            metadata = opened.metadata()
        arrays = load_file(folder / file)
        change(arrays)
        save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, folder / file, metadata)

    return apply


HOSTILE: dict[str, Change] = {
    "a list": text("bundle.json", "[1, 2]"),
    "a number": text("bundle.json", "7"),
    "nothing": text("bundle.json", "{}"),
    "half": text("bundle.json", '{"format": 2, "classes": ['),
    "100,000 brackets": text("bundle.json", "[" * 100_000),
    "not UTF-8": lambda folder: (folder / "bundle.json").write_bytes(b'{"name": "\xff"}'),
    "no classes": about(classes=[]),
    "one class": about(classes=["a"]),
    "a class twice": about(classes=["a", "a", "b"]),
    "classes that are numbers": about(classes=[1, 2, 3]),
    "classes that are a word": about(classes="abc"),
    "classes that are lists": about(classes=[["a"], ["b"], ["c"]]),
    "another number of classes": about(classes=["a", "b", "c", "d", "e"]),
    "a million classes": about(classes=[str(index) for index in range(1_000_000)]),
    "a class of a megabyte": about(classes=["a", "b", "c" * 1_000_000]),
    "an order that is a word": about(ordered="yes"),
    "a protocol of its own": about(protocol="../../x"),
    "a fold below zero": about(fold=-1),
    "a fold that is a word": about(fold="0"),
    "calibrators that are a list": about(calibrators=[1]),
    "a calibrator that is a word": about(calibrators={"scan": "x", "subject": "y"}),
    "a calibrator of no method": about(calibrators={"scan": {}, "subject": {}}),
    "a temperature that is a word": about(calibrators__scan__temperature="hot"),
    "a temperature of nothing": about(calibrators__scan__temperature=None),
    "a temperature below zero": about(calibrators__subject__temperature=-1.0),
    "a vector for other classes": about(calibrators__scan={"method": "vector", "factors": [1.0], "shifts": [0.0]}),
    "a pooling that there is not": about(calibrators__subject__pooling="median"),
    "a pooling that is a list": about(calibrators__subject__pooling=["mean_logit"]),
    "sets that are a number": about(sets=1),
    "sets of another unit": about(sets={"voxel": {}}),
    "sets that lack all": about(sets={"scan": {}, "subject": {}}),
    "a score that there is not": about(sets__scan__score="magic"),
    "an alpha above one": about(sets__scan__alpha=1.5),
    "an alpha that is a list": about(sets__subject__alpha=[0.1]),
    "a threshold that is a word": about(sets__scan__threshold="high"),
    "a k_reg that is a word": about(sets__scan__k_reg="two", sets__scan__threshold=0.5),
    "a penalty that is a list": about(sets__scan__penalty=[1]),
    "an abstention that is a list": about(abstention=[1, 2]),
    "an abstention without a choice": about(abstention={"table": []}),
    "a choice that is a word": about(abstention__chosen="x"),
    "a choice with more in it": about(abstention__chosen__more=1),
    "a choice that is a list": about(abstention__chosen__threshold=[1]),
    "novelty that is a word": about(novelty="yes"),
    "explanations that are a list": about(explained=[1]),
    "an explanation that is a word": about(explained={"gradcam": "passed"}),
    "reasons that are a number": about(explained={"gradcam": {"layer": "", "reasons": 7}}),
    "a format that is a list": about(format=[2]),
    "a format of 10^400": text("bundle.json", '{"format": 1' + "0" * 400 + "}"),
    "a recipe that is a list": text("recipe.yaml", "- a\n- b"),
    "a recipe with an alias": text("recipe.yaml", "name: &a a\ntitle: *a\n"),
    "another network": recipe("name: small", "name: alexnet"),
    "a network of timm": recipe("name: small", "name: resnet18"),
    "a network that there is not": recipe("name: small", "name: resnet9999"),
    "ten million layers": recipe("options: {}", "options: {depth: 10000000}"),
    "a layer of a million": recipe("hidden: []", "hidden: [1000000]"),
    "sixteen large layers": recipe("hidden: []", f"hidden: {[16384] * 16}"),
    "a thousand networks": recipe("kind: one\n    count: auto", "kind: deep_ensemble\n    count: 1000"),
    "a file for an option": recipe("options: {}", "options: {checkpoint_path: /tmp/extra.pth}"),
    "an encoder of the hub": recipe("name: small", "name: text"),
    "other channels": recipe("channels: 1", "channels: 3"),
    "half of the weights": lambda folder: (folder / "model.safetensors").write_bytes(
        (folder / "model.safetensors").read_bytes()[:2000]
    ),
    "a header of 10^18 bytes": lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64),
    "no weights at all": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "weights of another type": tensors("model.safetensors", lambda all_of: all_of.clear()),
    "a novelty reference of fewer features": tensors(
        "novelty.safetensors", lambda all_of: all_of.update(centre=all_of["centre"][:-1])
    ),
    "a novelty reference that is a vector": tensors(
        "novelty.safetensors", lambda all_of: all_of.update(turn=all_of["turn"][0])
    ),
    "a novelty reference without a view": tensors("novelty.safetensors", lambda all_of: all_of.pop("look_network")),
    "a novelty reference of nothing": tensors(
        "novelty.safetensors", lambda all_of: all_of.update(look_network=all_of["look_network"][:0])
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_is_one_line(name: str, foreign: Callable[[Change], Path]) -> None:
    folder = foreign(HOSTILE[name])
    with pytest.raises(ScanwiseError) as refused:
        bundle.load(folder)
    message = str(refused.value)
    assert len(message) < 1500
    assert "\n" not in message or "mistake" in message


@pytest.mark.parametrize("name", list(HOSTILE)[::6])
def test_a_hostile_bundle_is_one_line_for_a_user(
    name: str, foreign: Callable[[Change], Path], whole: Whole, scanwise: Command
) -> None:
    folder = foreign(HOSTILE[name])
    said = scanwise("predict", folder, whole.data.parent / "few")
    assert said.code == 2
    assert said.refusal
    assert said.out == ""


def test_an_unchanged_one_with_values_of_a_later_version_opens(foreign: Callable[[Change], Path]) -> None:
    assert bundle.load(foreign(about(novelty_of_later=1))).about["novelty_of_later"] == 1


def test_a_network_that_does_not_fit_is_never_built(
    foreign: Callable[[Change], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from scanwise import models

    build, devices = models.build_network, []

    def watch(*args: Any, **options: Any) -> Any:
        devices.append(torch.empty(0).device.type)
        return build(*args, **options)

    monkeypatch.setattr(models, "build_network", watch)
    with pytest.raises(ScanwiseError, match="do not fit the network"):
        bundle.load(foreign(HOSTILE["sixteen large layers"]))
    assert devices == ["meta"]  # where it takes no memory
