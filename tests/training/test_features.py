"""Features that were kept train the head as features computed anew do; nothing else is ever taken for them."""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
from test_trainer import history

from scanwise.errors import TrainingError
from scanwise.recipe import Augment
from scanwise.training import features
from scanwise.training.augment import augment_batch
from scanwise.training.features import CHECK, RecomputedFeatures, cache_features, draw_views
from scanwise.training.sampling import derive_seed

CHANGE = Augment(shift=0.1, scale=0.1, rotate=10, probability=0.7, flip=True, brightness=0.1, elastic=0.02)
STAGE = {"epochs": 6, "freeze": "backbone", "lr": 2e-2}


def sides(views: int = 2, seed: int = 3) -> dict[str, RecomputedFeatures]:
    network = toy.network(toy.recipe()).eval()
    counts = {"train": views, "validation": 1}
    return {
        side: RecomputedFeatures(
            network, toy.store(), toy.ROWS[side], draw_views(len(toy.ROWS[side]), count, CHANGE, seed)
        )
        for side, count in counts.items()
    }


@pytest.mark.extended
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("sampling", ["scans", "classes", "smote"])
def test_kept_features_train_as_those_computed_anew(tmp_path: Path, views: int, sampling: str) -> None:
    labels = np.where(toy.LABELS == 2, 1, toy.LABELS)  # of two sizes, so that SMOTE has something to do
    losses, weights = [], []
    for caching in (True, False):
        made = toy.recipe(epochs=6, stages=[STAGE | {"views": views}], sampling=sampling, augment=CHANGE)
        network, folder = toy.network(made), tmp_path / str(caching)
        toy.train(network, made, folder, labels=labels, caching=caching)
        losses.append([(row["train_loss"], row["validation_loss"]) for row in history(folder)])
        weights.append(network.body.head.weight.detach().numpy())
    # SMOTE makes half as many scans again, between rounded ones: what rounding adds is seen at tenfold.
    np.testing.assert_allclose(*losses, atol=1e-3 if sampling == "smote" else 1e-4)
    if sampling != "smote":
        np.testing.assert_allclose(*weights, atol=1e-4)
    assert losses[0][-1][0] < losses[0][0][0]


def test_the_backbone_sees_each_view_of_each_scan_once(tmp_path: Path, batches_seen: list[int]) -> None:
    made = toy.recipe(epochs=6, stages=[STAGE | {"views": 3}])
    network = toy.network(made)
    toy.train(network, made, tmp_path)
    few = 3  # of no scan at all: the number of classes, the parts, the shape of a map
    assert sum(batches_seen) <= 3 * 72 + 30 + few


def test_the_first_view_is_the_scan_and_further_ones_are_changed_each_in_its_own_way() -> None:
    side = sides(views=3)["train"]
    rows = np.array([5, 0, 17])
    plain = side.network.forward_features(torch.from_numpy(toy.store().read(rows)).permute(0, 3, 1, 2))
    torch.testing.assert_close(side.read(0, rows), plain)
    views = [side.read(view, rows) for view in range(3)]
    assert all(not torch.allclose(a, b) for a, b in zip(views, [*views[1:], views[0]], strict=True))
    torch.testing.assert_close(side.read(1, rows[::-1].copy()).flip(0), views[1])  # whatever stands beside it


def test_a_view_is_what_augmentation_makes() -> None:
    side = sides(views=2)["train"]
    generator = torch.Generator().manual_seed(derive_seed(3, features.VIEW, 1))
    everyone = torch.from_numpy(toy.store().read(toy.ROWS["train"])).permute(0, 3, 1, 2)
    expected = side.network.forward_features(augment_batch(everyone, CHANGE, generator))
    torch.testing.assert_close(side.read(1, np.arange(72)), expected)


def test_what_was_kept_is_float16_and_the_same_maps(tmp_path: Path) -> None:
    computed = sides()
    kept = cache_features(tmp_path / "features", computed, "backbone", 16)
    rows = np.array([70, 3, 3])
    found = kept["train"].read(1, rows)
    torch.testing.assert_close(found, computed["train"].read(1, rows), rtol=1e-3, atol=1e-3)
    assert torch.equal(found, found.half().float())
    assert (tmp_path / "features" / "train_1.f16").stat().st_size == 2 * 72 * found[0].numel() + CHECK
    assert (len(kept["train"]), kept["train"].views, kept["validation"].views) == (72, 2, 1)
    assert sorted(file.name for file in (tmp_path / "features").iterdir()) == [
        *("about.json", "train_0.f16", "train_1.f16", "validation_0.f16")
    ]


@pytest.mark.parametrize("kept", [True, False])
def test_maps_are_read_into_the_place_of_earlier_ones(tmp_path: Path, kept: bool) -> None:
    source = cache_features(tmp_path / "features", sides(), "backbone", 16)["train"] if kept else sides()["train"]
    first, expected = source.read(0, np.array([5, 9, 1])), source.read(1, np.array([2, 8]))
    found = source.read(1, np.array([2, 8]), first[:2])
    assert found.data_ptr() == first.data_ptr()
    assert torch.equal(found, expected)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "a bit": flip,
    "cut": lambda file: os.truncate(file, 100),
    "too long": lambda file: os.truncate(file, 100_000),
    "empty": lambda file: os.truncate(file, 0),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_there_and_whole_is_not_computed_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "features"
    cache_features(folder, sides(), "backbone", 16)
    content = (folder / "train_1.f16").read_bytes()
    DAMAGE[damage](folder / "train_1.f16")
    written: list[str] = []
    read = RecomputedFeatures.read

    def watch(self: RecomputedFeatures, view: int, positions: Any, out: Any = None) -> torch.Tensor:
        written.append(f"{len(self)}/{view}")
        return read(self, view, positions, out)

    monkeypatch.setattr(RecomputedFeatures, "read", watch)
    cache_features(folder, sides(), "backbone", 72)
    assert written == ["72/0", "72/1"]  # the shape of a map, and the file that was missing or damaged
    assert (folder / "train_1.f16").read_bytes() == content


@pytest.mark.parametrize("what", ["backbone", "pixels", "changes", "views"])
def test_what_was_made_of_something_else_is_made_anew(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "features"
    cache_features(folder, sides(), "backbone", 72)
    before = (folder / "about.json").read_bytes()
    for file in folder.glob("*.f16"):
        file.write_bytes(b"\0" * file.stat().st_size)
    other = sides(views=3 if what == "views" else 2, seed=4 if what == "changes" else 3)
    if what == "pixels":
        store = replace(toy.store(), digest=toy.store().digest[::-1])
        other = {name: replace(side, store=store) for name, side in other.items()}
    kept = cache_features(folder, other, "another" if what == "backbone" else "backbone", 72)
    assert (folder / "about.json").read_bytes() != before
    assert float(kept["train"].read(0, np.arange(72)).abs().max()) > 0
    cache_features(folder, sides(), "backbone", 72)


def test_a_full_disk_is_said_and_features_are_computed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING, logger="scanwise"):
        kept = cache_features(tmp_path / "features", sides(), "backbone", 72)
    assert isinstance(kept["train"], RecomputedFeatures)
    assert "lower train.stages views" in caplog.text
    assert not (tmp_path / "features").exists()


def test_maps_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    computed = sides()
    with torch.no_grad():
        computed["train"].network.body.blocks[3][1].weight.mul_(1e6)
    with pytest.raises(TrainingError, match=r"do not fit into 16 bits.*views: 0"):
        cache_features(tmp_path / "features", computed, "backbone", 72)
    assert not list((tmp_path / "features").glob("*.f16"))


def test_pooling_takes_maps_and_tokens() -> None:
    maps = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert torch.equal(features._pool(maps), maps.flatten(2).mean(2))
    tokens = torch.arange(24.0).reshape(2, 4, 3)
    assert torch.equal(features._pool(tokens), tokens.mean(1))
    assert torch.equal(features._pool(tokens[:, 0]), tokens[:, 0])
