"""People as the unit of training: bags, draws among many scans, validation by person, and resuming."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy

from scanwise.models import Network
from scanwise.recipe import Recipe
from scanwise.training import train_network
from scanwise.training.bags import BagDataset, Bags
from scanwise.training.loaders import ScanDataset
from scanwise.training.sampling import EpochOrder
from tiny import read_csv

SUBJECTS = np.array([f"p{row % 3}{row // 3 % 7}" for row in range(len(toy.LABELS))])  # of one class each, on both sides
SUBJECTS[toy.ROWS["validation"]] = np.char.add("v", SUBJECTS[toy.ROWS["validation"]])


def recipe(pool: str = "attention", bag: int = 64, **train: Any) -> Recipe:
    return toy.recipe(batch=4, **train).model_copy(
        update={"model": toy.recipe().model.model_copy(update={"unit": "subject", "pool": pool, "bag": bag})}
    )


def learn(made: Recipe, folder: Path, subjects: Any = SUBJECTS, network: Network | None = None) -> Network:
    built = network or toy.network(made)
    rows, place = toy.ROWS, toy.place(folder)
    train_network(built, made, toy.store(), toy.LABELS, rows, place, subjects=subjects, device="cpu")
    return built


def dataset(counts: list[int], most: int) -> BagDataset:
    subjects = np.repeat([f"p{index}" for index in range(len(counts))], counts)
    labels = np.repeat(np.arange(len(counts)) % 2, counts)
    rows = np.arange(len(labels)) % len(toy.LABELS)
    scans = ScanDataset(toy.store(), np.resize(labels, len(toy.LABELS)), rows)
    order = EpochOrder(len(counts), 0)
    return BagDataset(scans, Bags.of(subjects, labels), most, 0, order)


def test_a_person_with_more_scans_than_a_bag_gives_others_in_each_epoch_in_order() -> None:
    bags = dataset([500, 1, 3], 64)
    drawn = []
    for epoch in range(20):
        bags.order.set_epoch(epoch)
        own = bags.draw(0)
        assert len(own) == 64
        assert (np.diff(own) > 0).all()
        assert own.tolist() == bags.draw(0).tolist()
        assert bags.draw(1).tolist() == [500]
        assert bags.draw(2).tolist() == [501, 502, 503]
        drawn.append(own)
    assert len({tuple(own.tolist()) for own in drawn}) == 20
    assert len(np.unique(np.concatenate(drawn))) > 450  # nobody's scans are left out for good


def test_a_batch_holds_whole_bags_and_one_label_each() -> None:
    bags = dataset([2, 5, 1], 64)
    scans, labels, sizes = bags.__getitems__([1, 2])
    assert sizes.tolist() == [5, 1]
    assert labels.tolist() == [1, 0]
    assert len(scans) == 6


def test_a_person_in_two_classes_is_taught_with_the_most_common() -> None:
    bags = Bags.of(np.array(["a", "a", "a", "b"]), np.array([1, 0, 0, 1]))
    assert bags.labels.tolist() == [0, 1]


@pytest.mark.extended
@pytest.mark.parametrize("stages", [[], [{"epochs": 3, "freeze": "backbone", "views": 2}]])
@pytest.mark.parametrize("pool", ["attention", "mean"])
def test_a_resumed_training_of_people_is_the_same_to_the_bit(tmp_path: Path, pool: str, stages: list[Any]) -> None:
    """With bags smaller than the people, dropout and augmentation: everything that is drawn."""
    made = recipe(pool, bag=2, epochs=3, stages=stages)
    whole = learn(made, tmp_path / "whole").state_dict()
    network, ended = toy.network(made), []

    def stop() -> None:
        ended.append(True)
        if len(ended) == 2:
            raise KeyboardInterrupt

    place = toy.place(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        train_network(
            network, made, toy.store(), toy.LABELS, toy.ROWS, place, subjects=SUBJECTS, device="cpu", after=stop
        )
    again = learn(made, tmp_path / "parts").state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def column(folder: Path, name: str) -> list[float]:
    return [float(row[name]) for row in read_csv(toy.place(folder).history)]


def test_what_is_validated_is_the_person(tmp_path: Path) -> None:
    learn(recipe(epochs=2), tmp_path)
    people = len(np.unique(SUBJECTS[toy.ROWS["validation"]]))
    assert people < len(toy.ROWS["validation"])
    right = np.array(column(tmp_path, "validation_accuracy")) * people
    assert right == pytest.approx(np.round(right))


def test_the_unit_changes_what_is_learnt(tmp_path: Path) -> None:
    """Red where a person's scans were taken one by one."""
    people = learn(recipe("mean", epochs=1), tmp_path / "people").state_dict()
    scans = learn(toy.recipe(batch=4, epochs=1), tmp_path / "scans", None).state_dict()
    assert not all(torch.equal(people[name], scans[name]) for name in scans)


@pytest.mark.extended
def test_it_learns_people(tmp_path: Path) -> None:
    learn(recipe(epochs=12), tmp_path)
    assert max(column(tmp_path, "validation_accuracy")) > 0.9
