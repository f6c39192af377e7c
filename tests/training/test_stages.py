"""What a stage holds still stays as it is, to the bit; what learns, learns at its own rate."""

import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
from test_trainer import history, run, untimed

from scanwise import recipe
from scanwise.errors import RecipeError
from scanwise.models import Network, build_network
from scanwise.recipe import Model, TrainingStage
from scanwise.training.module import ClassifierModule
from scanwise.training.stages import apply_freezing, find_network_parts, parameter_groups

# name: side, and how the parameters of its head begin
NETWORKS = {
    "small": (16, "body.head."),
    "alexnet": (32, "body.head."),
    "test_resnet": (32, "body.fc."),
    "test_convnext": (32, "body.head."),
    "test_vit": (160, "body.head."),
    "mobilenetv3_small_050": (32, ("body.classifier.", "body.conv_head.")),
}
TWO = [{"epochs": 2, "freeze": "backbone", "lr": 1e-2, "views": 2}, {"epochs": 2, "lr": 1e-3}]
THREE = [*TWO, {"epochs": 1, "freeze": "backbone", "top": 1, "layer_decay": 0.5}]


def make(name: str) -> Network:
    torch.manual_seed(0)
    return build_network(Model(name=name, dropout=0.3), 3, 1)


def state(network: Network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def step_once(network: Network, side: int) -> None:
    """Move all that learns, hard."""
    images = torch.randint(0, 256, (4, 1, side, side), generator=torch.Generator().manual_seed(1)).float()
    moved = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(moved, 0.1)
    network(images).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_backbone_is_what_feature_maps_come_from(name: str) -> None:
    side, head = NETWORKS[name]
    network = make(name)
    before = state(network)
    parts = find_network_parts(network, 1, side)
    found = {parameter for parameter, depth in parts.depths.items() if depth == 0}
    assert found == {parameter for parameter, _ in network.named_parameters() if parameter.startswith(head)}
    assert parts.blocks >= 3
    assert set(parts.depths.values()) == set(range(parts.blocks + 1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_frozen_backbone_stays_to_the_bit_and_gives_the_same_maps(name: str) -> None:
    side, head = NETWORKS[name]
    network = make(name)
    parts = find_network_parts(network, 1, side)
    apply_freezing(network, parts, TrainingStage(epochs=1, freeze="backbone"))
    before, print_before = state(network), parts.fingerprint(network)
    images = torch.randint(0, 256, (4, 1, side, side))
    maps = network.forward_features(images)
    step_once(network, side)
    changed = {key for key, tensor in network.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed
    assert all(key.startswith(head) for key in changed)  # nor do the statistics of batch norm move
    assert torch.equal(network.forward_features(images), maps)
    assert not maps.requires_grad
    assert parts.fingerprint(network) == print_before


@pytest.mark.parametrize("name", ["small", "test_resnet", "test_vit"])
def test_the_top_blocks_alone_learn_with_the_head(name: str) -> None:
    side, _ = NETWORKS[name]
    network = make(name)
    parts = find_network_parts(network, 1, side)
    before = state(network)
    apply_freezing(network, parts, TrainingStage(epochs=1, freeze="backbone", top=2))
    step_once(network, side)
    moved = {parts.depths[key] for key, p in network.named_parameters() if not torch.equal(p, before[key])}
    assert moved == {0, 1, 2}
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    counted = [int(norm.num_batches_tracked) for norm in norms]
    learning = [norm.weight.requires_grad for norm in norms]
    assert counted == [int(found) for found in learning]


def test_the_fingerprint_is_of_the_backbone_and_of_all_of_it() -> None:
    network = make("small")
    parts = find_network_parts(network, 1, 16)
    prints = [parts.fingerprint(network)]
    with torch.no_grad():
        network.body.head.weight.add_(1)
        assert parts.fingerprint(network) == prints[0]
        for tensor in (network.body.blocks[0][0].weight, network.body.blocks[3][1].running_var, network.mean):
            tensor.add_(1)
            prints.append(parts.fingerprint(network))
    assert len(set(prints)) == 4


def test_rates_fall_block_by_block() -> None:
    network = make("small")
    parts = find_network_parts(network, 1, 16)
    stage = TrainingStage(epochs=1, layer_decay=0.5)
    apply_freezing(network, parts, stage)
    groups: Any = parameter_groups(network, parts, stage, 0.08)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert {rates[id(p)] for p in network.body.head.parameters()} == {0.08}
    for block, expected in zip(network.body.blocks, (0.005, 0.01, 0.02, 0.04), strict=True):
        assert {rates[id(p)] for p in block.parameters()} == {expected}
    assert len(rates) == len(list(network.parameters()))


def test_what_is_frozen_is_no_business_of_the_optimiser() -> None:
    network = make("small")
    parts = find_network_parts(network, 1, 16)
    stage = TrainingStage(epochs=1, freeze="backbone", top=1, layer_decay=0.1)
    apply_freezing(network, parts, stage)
    groups: Any = parameter_groups(network, parts, stage, 1.0)
    assert [group["lr"] for group in groups] == pytest.approx([1.0, 0.1])
    assert sum(len(group["params"]) for group in groups) == 2 + 3


def test_more_blocks_than_there_are_are_refused() -> None:
    network = make("small")
    with pytest.raises(RecipeError, match="top is 9, but the backbone has 4 blocks"):
        apply_freezing(network, find_network_parts(network, 1, 16), TrainingStage(epochs=1, freeze="backbone", top=9))


def variants(name: str) -> dict[str, list[str]]:
    """The settings that a shipped recipe's comment gives for each of its variants."""
    found, last = {}, ""
    for line in recipe.shipped_recipes()[name].partition("# Variants")[2].splitlines():
        if line.startswith("#     --set"):
            found[last] = [word for word in shlex.split(line) if word not in ("#", "--set")]
        last = line.removeprefix("#").strip().partition(" (")[0]
    return found


def test_every_variant_that_a_recipe_names_is_one() -> None:
    told = variants("fashion-fusion")
    assert len(told) == 5
    for settings in told.values():
        assert recipe.load_recipe("fashion-fusion", settings) != recipe.load_recipe("fashion-fusion")


@pytest.mark.parametrize(
    ("name", "smaller"),
    [
        ("text alone", ("model.text={words: 16, length: 4, width: 8, layers: 1, heads: 2}", "train.epochs=2")),
        (
            "photo alone",
            (
                "model.weights=none", "model.name=test_efficientnet",
                "train.stages=[{epochs: 1, freeze: backbone, views: 2}, {epochs: 1, freeze: backbone, top: 3}]",
            ),
        ),
    ],
)  # fmt: skip
def test_a_part_of_the_fusion_learns_alone(tmp_path: Path, name: str, smaller: tuple[str, ...]) -> None:
    size = ("data.size=16", "data.channels=1", "model.mean=[0.5]", "model.std=[0.5]", "train.class_weights=true")
    made = recipe.load_recipe("fashion-fusion", [*variants("fashion-fusion")[name], *size, *smaller])
    tokens = np.stack([toy.LABELS + 1] * 4, axis=1) if made.model.reads_words else None
    toy.train(toy.network(made), made, tmp_path, tokens=tokens)
    assert len(history(tmp_path)) == 2


def test_a_network_of_words_is_head_throughout() -> None:
    """Its feature maps are made of nothing that learns: a frozen stage trains it all the same."""
    torch.manual_seed(0)
    network = build_network(Model(name="text", text={"words": 16, "width": 8, "layers": 1, "heads": 2}), 3, 1)
    parts = find_network_parts(network, 1, 16)
    assert parts.blocks == 0
    apply_freezing(network, parts, TrainingStage(epochs=1, freeze="backbone"))
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(module.training for module in network.modules())


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("staged")
    run(folder, epochs=5, stages=THREE, checkpoint_every=1)
    return folder


def weights_after(folder: Path, epoch: int) -> dict[str, torch.Tensor]:
    state_dict: dict[str, torch.Tensor] = torch.load(
        toy.place(folder).checkpoints / f"epoch_{epoch}.ckpt", weights_only=True
    )["state_dict"]
    return state_dict


def test_each_stage_goes_on_from_the_one_before(staged: Path) -> None:
    rows = history(staged)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["stage"] for row in rows] == [1, 1, 2, 2, 3]
    fresh = {f"network.{name}": tensor for name, tensor in toy.network(toy.recipe()).state_dict().items()}
    after = [fresh, *(weights_after(staged, epoch) for epoch in range(1, 6))]
    moved = [
        {"".join(name.split(".")[2:4]) for name in old if not torch.equal(old[name], new[name])}
        for old, new in pairwise(after)
    ]
    everything = {"blocks0", "blocks1", "blocks2", "blocks3", "headweight", "headbias"}
    head = {"headweight", "headbias"}
    assert moved == [head, head, everything, everything, head | {"blocks3"}]


def test_each_stage_has_its_rate_and_its_schedule_begins_anew(tmp_path: Path) -> None:
    stages = [
        {"epochs": 2, "freeze": "backbone", "lr": 0.1},
        {"epochs": 2, "lr": 0.02, "schedule": {"name": "step", "every": 1, "factor": 0.5}},
    ]
    run(tmp_path, epochs=4, stages=stages, schedule={"name": "constant"})
    assert [row["lr"] for row in history(tmp_path)] == pytest.approx([0.1, 0.1, 0.02, 0.01])


def test_patience_ends_a_stage_and_not_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validate = ClassifierModule.on_validation_epoch_end

    def told(module: ClassifierModule) -> None:
        validate(module)
        module.scores["validation_loss"] = 1 + 0.1 * module.epoch  # worse with every epoch

    monkeypatch.setattr(ClassifierModule, "on_validation_epoch_end", told)
    stages = [{"epochs": 6, "freeze": "backbone"}, {"epochs": 6}]
    outcome = run(tmp_path, epochs=12, stages=stages, patience=2, monitor="loss")
    assert [row["stage"] for row in history(tmp_path)] == [1, 1, 1, 2, 2]
    assert outcome.best_epoch == 1


def test_no_stages_are_one_that_trains_all(tmp_path: Path) -> None:
    run(tmp_path / "none", epochs=2)
    run(tmp_path / "one", epochs=2, stages=[{"epochs": 2}])
    assert toy.place(tmp_path / "none").model.read_bytes() == toy.place(tmp_path / "one").model.read_bytes()
    rows = [{k: v for k, v in row.items() if k != "stage"} for row in history(tmp_path / "one")]
    assert untimed(rows) == untimed(history(tmp_path / "none"))


def test_features_and_holds_are_gone_at_the_end(staged: Path, tmp_path: Path) -> None:
    assert {file.name for file in staged.iterdir()} == {"checkpoints", "history.csv", "model.safetensors"}
    made = toy.recipe(epochs=2, stages=[{"epochs": 2, "freeze": "backbone"}])
    network = toy.network(made)
    toy.train(network, made, tmp_path)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", ["classes", "subjects"])
def test_sampling_reaches_the_batches(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    step = ClassifierModule.training_step

    def watch(self: ClassifierModule, batch: Any, batch_idx: int) -> Any:
        drawn.extend(batch[1].tolist())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ClassifierModule, "training_step", watch)
    labels = np.where(np.arange(102) % 12 == 0, 1, 0)
    made = toy.recipe(epochs=4, sampling=name, class_weights=False)
    subjects = labels.astype(str)  # two people, so that both ways draw halves
    toy.train(toy.network(made), made, tmp_path, labels=labels, subjects=subjects)
    assert len(drawn) == 4 * 72
    assert 0.4 < np.mean(drawn) < 0.6
