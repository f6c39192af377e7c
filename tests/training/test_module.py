"""What a step makes of a batch, and what a recipe may change about it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
from scipy.special import log_softmax, softmax
from test_trainer import history, run, untimed

from scanwise import metrics
from scanwise.errors import TrainingError
from scanwise.models import weights
from scanwise.prediction import predict_scans
from scanwise.recipe import Model, Recipe, Train
from scanwise.training import trainer
from scanwise.training.module import ClassifierModule, channels_first, seed_global
from scanwise.training.stages import StageRun
from scanwise.training.trainer import precision_on

PLAIN: dict[str, Any] = {
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    "schedule": {},
    "augment": {},
    "clip": 0,
    "epochs": 2,
}


def test_channels_come_first_without_a_copy() -> None:
    images = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    out = channels_first(images)
    assert out.shape == (2, 5, 3, 4)
    assert out[1, 2, 0, 3] == images[1, 0, 3, 2]
    assert out.data_ptr() == images.data_ptr()
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_everything_that_can_be_measured_can_be_watched() -> None:
    watched = set(Recipe.model_json_schema()["$defs"]["Train"]["properties"]["monitor"]["enum"])
    assert watched == {*metrics.METRICS, "loss"}
    assert {name for name in watched if metrics.lower_is_better(name)} == {"loss", "nll", "brier", "ece", "stage_error"}


EVERYDAY = {"loss", "nll", "auroc", "stage_error"}
"""Watched every day; the other metrics are extended."""


@pytest.mark.parametrize(
    "monitor",
    [
        name if name in EVERYDAY else pytest.param(name, marks=pytest.mark.extended)
        for name in sorted({*metrics.METRICS} - {"macro_f1", "accuracy", "balanced_accuracy"})
    ],
)
def test_the_best_epoch_is_best_at_what_is_watched(tmp_path: Path, monitor: str) -> None:
    outcome = run(tmp_path, monitor=monitor, epochs=3, optimizer={"name": "adam", "lr": 0.05}, schedule={})
    values = [row[f"validation_{monitor}"] for row in history(tmp_path)]
    lower = monitor in ("nll", "brier", "ece", "stage_error")
    assert outcome.best_epoch == int(np.argmin(values) if lower else np.argmax(values)) + 1
    made = toy.recipe()
    network = toy.network(made)
    weights.load_weights(network, toy.place(tmp_path).model)
    logits, _ = predict_scans(network, toy.store(), toy.ROWS["validation"])
    probs = softmax(logits[:, 0].astype(np.float64), 1)
    assert metrics.METRICS[monitor](probs, toy.LABELS[toy.ROWS["validation"]]) == pytest.approx(
        values[outcome.best_epoch - 1], abs=1e-5
    )


class WithoutNorm(torch.nn.Module):
    """A body whose gradient is the mean over scans, whatever the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(1, 4, 5, stride=3), torch.nn.Linear(4, 3)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images).relu()

    def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        pooled = features.mean((2, 3))
        return pooled if pre_logits else self.head(pooled)


def trained(folder: Path, **section: Any) -> dict[str, torch.Tensor]:
    from scanwise.models import Network

    torch.manual_seed(0)
    network = Network(WithoutNorm(), (0.5,), (0.5,))
    toy.train(network, toy.recipe(**{**PLAIN, "class_weights": False, "monitor": "loss", **section}), folder)
    return network.state_dict()


def test_accumulated_batches_are_one_large_one(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", batch=24)
    parts = trained(tmp_path / "parts", batch=8, accumulate=3)
    small = trained(tmp_path / "small", batch=8)
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, atol=1e-6, rtol=1e-5)
    assert any(not torch.allclose(small[name], tensor, atol=1e-4) for name, tensor in whole.items())
    one, other = (history(tmp_path / name) for name in ("whole", "parts"))
    assert [row["train_loss"] for row in other] == pytest.approx([row["train_loss"] for row in one], rel=0.02)


def test_the_gradient_is_clipped(tmp_path: Path) -> None:
    fresh = trained(tmp_path / "none", epochs=1, optimizer={"name": "sgd", "lr": 1e-12})
    still = {"name": "sgd", "lr": 1.0, "momentum": 0.0}
    moved = trained(tmp_path / "clipped", epochs=1, batch=72, clip=0.01, optimizer=still)
    length = torch.cat([(moved[name] - fresh[name]).flatten() for name in moved]).norm()
    assert float(length) == pytest.approx(0.01, rel=1e-3)


def test_the_running_mean_is_validated_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    step = ClassifierModule.optimizer_step

    def watch(self: ClassifierModule, *arguments: Any, **more: Any) -> None:
        step(self, *arguments, **more)
        seen.append(copy.deepcopy(self.network.state_dict()))

    monkeypatch.setattr(ClassifierModule, "optimizer_step", watch)
    made = toy.recipe(epochs=1, batch=24, ema=0.9)
    fresh = toy.network(made).state_dict()
    network = toy.network(made)
    toy.train(network, made, tmp_path)
    expected = fresh["body.head.weight"]
    for count, state in enumerate(seen, 1):
        kept = min(0.9, (1 + count) / (10 + count))
        expected = kept * expected + (1 - kept) * state["body.head.weight"]
    assert len(seen) == 3
    torch.testing.assert_close(network.body.head.weight.detach(), expected)
    logits, _ = predict_scans(network, toy.store(), toy.ROWS["validation"])
    labels = toy.LABELS[toy.ROWS["validation"]]
    accuracy = (logits[:, 0].argmax(1) == labels).mean()
    assert history(tmp_path)[0]["validation_accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize("section", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixing_reaches_the_loss(tmp_path: Path, section: dict[str, float]) -> None:
    run(tmp_path / "mixed", epochs=2, **section)
    run(tmp_path / "again", epochs=2, **section)
    run(tmp_path / "plain", epochs=2)
    assert untimed(history(tmp_path / "mixed")) == untimed(history(tmp_path / "again"))
    assert untimed(history(tmp_path / "mixed")) != untimed(history(tmp_path / "plain"))


def test_a_mixed_batch_costs_its_shares_of_both_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    from scanwise.training import module as place
    from scanwise.training.mixing import MixedBatch

    network = toy.network(toy.recipe()).eval()
    module = ClassifierModule(network, Train(mixup=1.0), None, 0, 1)
    images, labels = torch.from_numpy(toy.store().read(np.arange(6))), torch.from_numpy(toy.LABELS[:6])
    others = labels.flip(0)
    monkeypatch.setattr(place, "mix_batch", lambda scans, *_: MixedBatch(scans, others, 0.3))
    found = module.training_step((images, labels), 0)
    logs = log_softmax(network(channels_first(images)).detach().numpy().astype(np.float64), 1)
    rows = np.arange(6)
    expected = -(0.3 * logs[rows, labels] + 0.7 * logs[rows, others]).mean()
    assert float(found["loss"].detach()) == pytest.approx(expected, rel=1e-5)
    assert int(found["correct"]) == int((logs.argmax(1) == others.numpy()).sum())


def test_the_members_of_a_batch_ensemble_learn_each_for_itself() -> None:
    made = toy.recipe()
    model = made.model.model_copy(update={"members": type(made.model.members)(kind="batch_ensemble", count=3)})
    network = toy.network(made.model_copy(update={"model": model})).eval()
    module = ClassifierModule(network, Train(), None, 0, 1)
    images, labels = torch.from_numpy(toy.store().read(np.arange(6))), torch.from_numpy(toy.LABELS[:6])
    members = network.forward_members(channels_first(images).float())
    losses = [torch.nn.functional.cross_entropy(members[:, member], labels) for member in range(3)]
    found = module.training_step((images, labels), 0)["loss"]
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_corn_trains_and_validates(tmp_path: Path) -> None:
    train = toy.TRAIN | {"epochs": 6, "loss": "corn", "label_smoothing": 0}
    model = {"name": "small", "ordinal": True}
    made = Recipe.model_validate({"name": "toy", "data": {"size": toy.SIDE}, "model": model, "train": train})
    toy.train(toy.network(made), made, tmp_path)
    rows = history(tmp_path)
    assert rows[-1]["train_loss"] < 0.9 * rows[0]["train_loss"]
    assert rows[-1]["validation_accuracy"] > 0.4


RUNS: dict[str, Any] = {
    "batch": 4,  # 18 steps an epoch: a whole run and one that is not
    "epochs": 3,
    "stages": [{"epochs": 3, "freeze": "backbone", "views": 2}],
    "checkpoint_every": 1,
}


@pytest.mark.parametrize(
    "section",
    [
        pytest.param({}, id="plain"),
        pytest.param({"ema": 0.9, "clip": 0.01}, id="mean and clip", marks=pytest.mark.extended),
        pytest.param({"sampling": "smote", "class_weights": False}, id="smote", marks=pytest.mark.extended),
        pytest.param({"schedule": {}}, id="constant", marks=pytest.mark.extended),
    ],
)
def test_runs_of_steps_lead_where_single_steps_do(
    tmp_path: Path, section: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.where(np.arange(102) % 5 == 0, 1, 0)  # unlike in number, so that SMOTE has something to do
    for name in ("runs", "single"):
        if name == "single":
            monkeypatch.setattr(trainer, "_groups_batches", lambda *_: False)
        made = toy.recipe(**RUNS | section)
        toy.train(toy.network(made), made, tmp_path / name, labels=labels)
    for name in ("epoch_1.ckpt", "epoch_3.ckpt"):
        ours, theirs = (
            torch.load(toy.place(tmp_path / kind).checkpoints / name, weights_only=True) for kind in ("runs", "single")
        )
        assert list(ours["state_dict"]) == list(theirs["state_dict"])
        assert all(torch.equal(ours["state_dict"][part], tensor) for part, tensor in theirs["state_dict"].items())
    rows = zip(untimed(history(tmp_path / "runs")), untimed(history(tmp_path / "single")), strict=True)
    for ours, theirs in rows:
        assert ours == pytest.approx(theirs, rel=1e-12)


def test_single_steps_are_taken_where_a_run_would_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(precision: str = "32-true", **section: Any) -> bool:
        made = toy.recipe(**RUNS | section)
        scene = trainer.TrainingData(made, toy.store(), toy.LABELS, toy.ROWS)
        return trainer._groups_batches(scene, StageRun(made.train.stages[0]), precision)

    assert asked()
    assert not asked(precision="bf16-mixed")
    assert not asked(accumulate=2)
    assert not asked(stages=[{"epochs": 3, "freeze": "backbone", "views": 0}])
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not asked()


def test_a_loss_that_is_no_number_is_told_of_its_batch_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, steps = ClassifierModule._loss, iter(range(1000))

    def fail(self: ClassifierModule, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        found = loss(self, logits, labels)
        return found * torch.nan if self.trainer.training and next(steps) == 18 + 16 else found

    monkeypatch.setattr(ClassifierModule, "_loss", fail)
    with pytest.raises(TrainingError, match=r"loss is nan in epoch 2, batch 17\b.*lr"):
        run(tmp_path, **RUNS)
    found = torch.load(toy.place(tmp_path).checkpoints / "last.ckpt", weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in found["state_dict"].values())
    assert len(history(tmp_path)) == 1


def test_16_bits_are_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert precision_on(Train(precision="mixed"), "cpu") == "32-true"
    assert precision_on(Train(), "cuda:1") == "32-true"
    for able, expected in ((True, "bf16-mixed"), (False, "16-mixed")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda able=able: able)
        assert precision_on(Train(precision="mixed"), "cuda:1") == expected


MEMBERS = {"name": "small", "dropout": 0.2, "members": {"kind": "batch_ensemble", "count": 2}}
FROZEN = {"stages": [{"epochs": 1, "freeze": "backbone"}]}


@pytest.mark.parametrize(
    ("model", "section"), [({}, {}), (MEMBERS, {}), ({}, FROZEN)], ids=["whole", "members", "head"]
)
def test_what_is_compiled_is_what_learns(
    tmp_path: Path, model: dict[str, Any], section: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[object] = []

    def compiled(asked: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda *arguments, **more: steps.append(asked) or asked(*arguments, **more)

    monkeypatch.setattr(torch, "compile", compiled)
    plain, other = (
        toy.recipe(epochs=1, compiled=wanted, **section).model_copy(
            update={"model": Model.model_validate(model)} if model else {}
        )
        for wanted in (False, True)
    )
    toy.train(toy.network(plain), plain, tmp_path / "plain")
    assert not steps
    toy.train(toy.network(other), other, tmp_path / "compiled")
    assert len(steps) == 5
    assert toy.place(tmp_path / "plain").model.read_bytes() == toy.place(tmp_path / "compiled").model.read_bytes()


@pytest.mark.extended
def test_who_goes_on_with_single_steps_counts_as_runs_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = toy.recipe(**RUNS | {"ema": 0.99})
    toy.train(toy.network(made), made, tmp_path / "whole")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy.train(toy.network(made), made, tmp_path / "both", after=stop)
    monkeypatch.setattr(trainer, "_groups_batches", lambda *_: False)
    toy.train(toy.network(made), made, tmp_path / "both")
    assert toy.place(tmp_path / "whole").model.read_bytes() == toy.place(tmp_path / "both").model.read_bytes()


def test_a_step_is_seeded_as_torch_would() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    seed_global(5, torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)
