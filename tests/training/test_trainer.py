"""Training learns, repeats itself bit for bit, keeps what is best, and stops when it should."""

import csv
import logging
import math
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy

from scanwise.errors import RunError, TrainingError
from scanwise.models import weights
from scanwise.prediction import predict_scans
from scanwise.progress_bar import plan_work, running_job, work_step
from scanwise.training import TrainingSummary, time_steps, train_network
from scanwise.training.checkpoints import AtomicCheckpointIO
from scanwise.training.history import HistoryCallback, rows_to_csv
from scanwise.training.loaders import ScanDataset, train_loader
from scanwise.training.module import ClassifierModule
from scanwise.training.sampling import EpochOrder, class_weights

COLUMNS = [
    *("epoch", "train_loss", "train_accuracy"),
    *("validation_loss", "validation_accuracy", "validation_balanced_accuracy", "validation_macro_f1"),
    *("lr", "seconds", "validation_seconds", "images_per_second"),
]
TIMES = {"seconds", "validation_seconds", "images_per_second"}


def run(folder: Path, noise: float = 40, **section: Any) -> TrainingSummary:
    made = toy.recipe(**section)
    return train_network(
        toy.network(made), made, toy.store(noise), toy.LABELS, toy.ROWS, toy.place(folder), device="cpu"
    )


def history(folder: Path) -> list[dict[str, float]]:
    with toy.place(folder).history.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def untimed(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run(folder, checkpoint_every=2)
    return folder


def test_it_learns_what_can_be_learnt(tmp_path: Path) -> None:
    outcome = run(tmp_path, noise=10, epochs=8)
    rows = history(tmp_path)
    assert outcome.best > 0.95
    assert rows[-1]["train_loss"] < 0.6 * rows[0]["train_loss"]
    made = toy.recipe()
    network = toy.network(made)
    weights.load_weights(network, toy.place(tmp_path).model)
    logits, _ = predict_scans(network, toy.store(10), toy.ROWS["validation"])
    assert (logits[:, 0].argmax(1) == toy.LABELS[toy.ROWS["validation"]]).mean() > 0.95


@pytest.mark.parametrize("weighed", [True, False])
def test_it_trains_in_training_mode_whatever_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weighed: bool
) -> None:
    modes, step = [], ClassifierModule.training_step

    def watch(self: ClassifierModule, batch: Any, batch_idx: int) -> Any:
        modes.append(all(module.training for module in self.modules()))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ClassifierModule, "training_step", watch)
    made = toy.recipe(epochs=2, class_weights=weighed)
    network = toy.network(made).eval()
    train_network(network, made, toy.store(), toy.LABELS, toy.ROWS, toy.place(tmp_path), device="cpu")
    assert modes == [True] * 10


def test_it_does_not_learn_noise(tmp_path: Path) -> None:
    made = toy.recipe()
    pixels = np.random.default_rng(1).integers(0, 256, toy.store().array.shape, np.uint8)
    store = replace(toy.store(), array=pixels)
    outcome = train_network(toy.network(made), made, store, toy.LABELS, toy.ROWS, toy.place(tmp_path), device="cpu")
    assert outcome.best < 0.7


def test_one_seed_is_one_training(trained: Path, tmp_path: Path) -> None:
    torch.manual_seed(12345)  # what happened before plays no part
    run(tmp_path)
    assert toy.place(tmp_path).model.read_bytes() == toy.place(trained).model.read_bytes()
    assert untimed(history(tmp_path)) == untimed(history(trained))
    other = toy.recipe().model_copy(update={"seed": 4})
    network = toy.network(toy.recipe())
    train_network(network, other, toy.store(), toy.LABELS, toy.ROWS, toy.place(tmp_path / "other"), device="cpu")
    assert untimed(history(tmp_path / "other")) != untimed(history(trained))


def test_history_has_a_whole_row_an_epoch(trained: Path) -> None:
    rows = history(trained)
    assert list(rows[0]) == COLUMNS
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert all(row["images_per_second"] == pytest.approx(72 / row["seconds"]) for row in rows)


def test_history_tells_the_rate_that_each_epoch_ended_with(tmp_path: Path) -> None:
    run(tmp_path, epochs=4, schedule={"name": "step", "every": 2, "factor": 0.1})
    assert [row["lr"] for row in history(tmp_path)] == pytest.approx([3e-3, 3e-3, 3e-4, 3e-4])


def test_history_scores_are_those_of_the_weights(tmp_path: Path) -> None:
    run(tmp_path, epochs=1, class_weights=False, label_smoothing=0)
    made = toy.recipe()
    network = toy.network(made)
    weights.load_weights(network, toy.place(tmp_path).model)
    logits, _ = predict_scans(network, toy.store(), toy.ROWS["validation"])
    labels = toy.LABELS[toy.ROWS["validation"]]
    (row,) = history(tmp_path)
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits[:, 0]), torch.from_numpy(labels))
    assert row["validation_loss"] == pytest.approx(float(loss), rel=1e-5)
    assert row["validation_accuracy"] == pytest.approx((logits[:, 0].argmax(1) == labels).mean())


@pytest.mark.parametrize("monitor", ["macro_f1", "accuracy", "balanced_accuracy", "loss"])
def test_the_weights_written_are_those_of_the_best_epoch(
    tmp_path: Path, monitor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate = ClassifierModule.on_validation_epoch_end

    def told(
        module: ClassifierModule,
    ) -> None:  # the second of four epochs is the best one, whatever the machine rounds
        validate(module)
        score = (0.3, 0.9, 0.5, 0.4)[module.current_epoch]
        module.scores[f"validation_{monitor}"] = 1 - score if monitor == "loss" else score

    monkeypatch.setattr(ClassifierModule, "on_validation_epoch_end", told)
    outcome = run(
        tmp_path, monitor=monitor, checkpoint_every=1, optimizer={"name": "adam", "lr": 0.05}, schedule={}, epochs=4
    )
    scores = [(-1 if monitor == "loss" else 1) * row[f"validation_{monitor}"] for row in history(tmp_path)]
    place = toy.place(tmp_path)
    assert outcome.best_epoch == int(np.argmax(scores)) + 1
    assert outcome.best == max(scores)
    assert outcome.best_epoch == 2
    kept = torch.load(place.checkpoints / f"epoch_{outcome.best_epoch}.ckpt", weights_only=True)["state_dict"]
    best = torch.load(place.checkpoints / "best.ckpt", weights_only=True)["state_dict"]
    written = weights.read_weights(place.model)
    assert kept.keys() == best.keys() == {f"network.{name}" for name in written}
    assert all(torch.equal(kept[name], best[name]) for name in kept)
    assert all(torch.equal(kept[f"network.{name}"], tensor) for name, tensor in written.items())


def test_the_network_in_hand_holds_the_best_weights_too(tmp_path: Path) -> None:
    made = toy.recipe(epochs=2)
    network = toy.network(made)
    train_network(network, made, toy.store(), toy.LABELS, toy.ROWS, toy.place(tmp_path), device="cpu")
    written = weights.read_weights(toy.place(tmp_path).model)
    assert all(torch.equal(tensor, written[name]) for name, tensor in network.state_dict().items())


def test_patience_ends_it(tmp_path: Path) -> None:
    outcome = run(tmp_path, epochs=30, patience=2, optimizer={"name": "adam", "lr": 0.05}, schedule={})
    scores = [row["validation_macro_f1"] for row in history(tmp_path)]
    assert outcome.epochs == len(scores) < 30
    assert outcome.best_epoch == int(np.argmax(scores)) + 1 == len(scores) - 2
    weights.load_weights(toy.network(toy.recipe()), toy.place(tmp_path).model)


def test_no_patience_never_ends_it(tmp_path: Path) -> None:
    assert run(tmp_path, epochs=6, optimizer={"name": "adam", "lr": 1e-12}, schedule={}).epochs == 6


def test_checkpoints_are_last_best_and_every_kth_and_hold_plain_values(trained: Path) -> None:
    files = {file.name for file in toy.place(trained).checkpoints.iterdir()}
    assert files == {"last.ckpt", "best.ckpt", "epoch_2.ckpt", "epoch_4.ckpt"}
    for file in files:
        found = torch.load(toy.place(trained).checkpoints / file, weights_only=True)
        assert "network.body.head.weight" in found["state_dict"]
        assert ("optimizer_states" in found) == (file != "best.ckpt")
    assert {file.name for file in trained.iterdir()} == {"checkpoints", "history.csv", "model.safetensors"}


def test_nothing_is_left_where_it_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run(tmp_path / "fit", epochs=1)
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.extended
def test_more_epochs_go_on_from_the_last(tmp_path: Path) -> None:
    constant = {"schedule": {}, "monitor": "loss"}
    run(tmp_path / "two", epochs=2, **constant)
    toy.place(tmp_path / "two").model.unlink()
    run(tmp_path / "two", epochs=4, **constant)
    run(tmp_path / "four", epochs=4, **constant)
    assert untimed(history(tmp_path / "two")) == untimed(history(tmp_path / "four"))
    assert toy.place(tmp_path / "two").model.read_bytes() == toy.place(tmp_path / "four").model.read_bytes()


def test_each_epoch_has_an_order_and_changes_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Tensor, int, int]] = []
    step = ClassifierModule.training_step

    def watch(self: ClassifierModule, batch: Any, batch_idx: int) -> Any:
        seen.append((batch[1].clone(), self.current_epoch, self.generator.initial_seed()))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ClassifierModule, "training_step", watch)
    run(tmp_path, epochs=3)
    orders = [torch.cat([labels for labels, at, _ in seen if at == epoch]).tolist() for epoch in range(3)]
    assert [len(order) for order in orders] == [72] * 3
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert len({seed for *_, seed in seen}) == len(seen) == 15


@pytest.mark.parametrize("when", [(0, 2), (2, 3)])
def test_a_loss_that_is_no_number_is_told_and_the_last_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: tuple[int, int]
) -> None:
    loss = ClassifierModule._loss

    def fail(self: ClassifierModule, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        found = loss(self, logits, labels)
        trainer = self.trainer
        here = trainer.training and (self.current_epoch, trainer.fit_loop.epoch_loop.batch_idx) == when
        return found * math.nan if here else found

    monkeypatch.setattr(ClassifierModule, "_loss", fail)
    with pytest.raises(TrainingError, match=rf"loss is nan in epoch {when[0] + 1}, batch {when[1] + 1}\b.*lr"):
        run(tmp_path)
    last = toy.place(tmp_path).checkpoints / "last.ckpt"
    assert last.is_file() == (when[0] > 0)
    assert not toy.place(tmp_path).model.exists()
    if last.is_file():
        found = torch.load(last, weights_only=True)
        assert found["epoch"] == when[0] - 1
        assert all(torch.isfinite(tensor).all() for tensor in found["state_dict"].values())
        assert len(history(tmp_path)) == when[0]


def test_weights_that_break_in_the_last_step_do_not_become_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(self: ClassifierModule) -> None:
        if self.current_epoch == 1:
            with torch.no_grad():
                self.network.body.head.weight.fill_(math.nan)

    monkeypatch.setattr(ClassifierModule, "on_validation_start", spoil, raising=False)
    with pytest.raises(TrainingError, match=r"epoch 2\b.*validation|validation.*epoch 2\b"):
        run(tmp_path)
    for name in ("last", "best"):
        found = torch.load(toy.place(tmp_path).checkpoints / f"{name}.ckpt", weights_only=True)
        assert found["epoch"] == 0
        assert all(torch.isfinite(tensor).all() for tensor in found["state_dict"].values())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02."])
@pytest.mark.parametrize("name", ["last", "best"])
def test_a_damaged_checkpoint_is_told(tmp_path: Path, name: str, content: bytes) -> None:
    run(tmp_path, epochs=1)
    file = toy.place(tmp_path).checkpoints / f"{name}.ckpt"
    file.write_bytes(content or file.read_bytes()[:-200])
    with pytest.raises(RunError, match=rf"{name}\.ckpt is damaged.*Delete"):
        run(tmp_path, epochs=1)


def test_a_checkpoint_of_other_classes_is_told_and_a_bomb_does_not_go_off(tmp_path: Path) -> None:
    run(tmp_path, epochs=1)
    file = toy.place(tmp_path).checkpoints / "last.ckpt"
    saved = torch.load(file, weights_only=True)
    saved["state_dict"]["network.body.head.weight"] = torch.zeros(5, 7)
    torch.save(saved, file)
    with pytest.raises(RunError, match=r"belongs to another network.*head\.weight.*Delete"):
        run(tmp_path, epochs=2)
    torch.save({"state_dict": Bomb(tmp_path / "exploded")}, file)
    with pytest.raises(RunError, match="damaged"):
        run(tmp_path, epochs=2)
    assert not (tmp_path / "exploded").exists()
    torch.load(file, weights_only=False)
    assert (tmp_path / "exploded").exists(), "else this proves nothing"


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.extended
@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_plain_state_dicts_are_written_on_request(tmp_path: Path, ema: float) -> None:
    run(tmp_path, epochs=5, export_every=2, checkpoint_every=2, ema=ema)
    place = toy.place(tmp_path)
    files = {file.name for file in place.checkpoints.glob("*.pth")}
    assert files == {"model_epoch_2.pth", "model_epoch_4.pth"}
    plain = torch.load(place.checkpoints / "model_epoch_4.pth", weights_only=True)
    kept = torch.load(place.checkpoints / "epoch_4.ckpt", weights_only=True)["state_dict"]
    part = "average" if ema else "network"
    assert plain
    assert all(torch.equal(tensor, kept[f"{part}.body.{name}"]) for name, tensor in plain.items())


def test_ctrl_c_gets_out_as_such_and_can_be_pressed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(ClassifierModule, "training_step", press)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    found = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, handler)
    assert found is handler
    assert run(tmp_path, epochs=1).epochs == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
            r"GPU is out of memory.*train.batch \(now 16\)",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            r"machine is out of memory",
        ),
        (MemoryError(), r"machine is out of memory.*train.batch \(now 16\)"),
    ],
)
def test_too_little_memory_says_what_to_lower_and_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    loss = ClassifierModule._loss

    def fail(self: ClassifierModule, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.current_epoch == 1:
            raise error
        return loss(self, logits, labels)

    monkeypatch.setattr(ClassifierModule, "_loss", fail)
    with pytest.raises(TrainingError, match=told):
        run(tmp_path)
    assert torch.load(toy.place(tmp_path).checkpoints / "last.ckpt", weights_only=True)["epoch"] == 0


@pytest.mark.extended
@pytest.mark.parametrize("stages", [[], [{"epochs": 4, "freeze": "backbone", "views": 1}]])
def test_smaller_batches_go_on_with_the_steps_of_larger_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: list[dict[str, Any]]
) -> None:
    """As the advice where memory runs out says."""
    asked: dict[str, Any] = {"epochs": 4, "schedule": {"name": "cosine"}, "stages": stages}
    run(tmp_path / "whole", **asked)
    loss = ClassifierModule._loss

    def fail(self: ClassifierModule, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.current_epoch == 2:
            raise MemoryError
        return loss(self, logits, labels)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierModule, "_loss", fail)
        with pytest.raises(TrainingError, match=r"--resume.*train.accumulate \(now 1\)"):
            run(tmp_path, **asked)
    run(tmp_path, **asked, batch=8, accumulate=2, clip=1.0)
    whole, went_on = untimed(history(tmp_path / "whole")), untimed(history(tmp_path))
    assert went_on[:2] == whole[:2]
    assert [row["lr"] for row in went_on] == [row["lr"] for row in whole]
    assert went_on[2:] != whole[2:]


def test_other_errors_are_told_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("sizes differ")

    monkeypatch.setattr(ClassifierModule, "_loss", fail)
    with pytest.raises(RuntimeError, match="sizes differ"):
        run(tmp_path)


def test_a_monitor_that_is_never_defined_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """AUROC of a validation side with a single class: no epoch is better than another."""
    labels = np.where(np.arange(102) < 72, toy.LABELS, 0)
    made = toy.recipe(epochs=2, monitor="auroc")
    with caplog.at_level(logging.WARNING, "scanwise"):
        outcome = toy.train(toy.network(made), made, tmp_path, labels=labels)
    assert outcome.best_epoch == 1
    (told,) = [record.getMessage() for record in caplog.records]
    assert "auroc is not defined" in told


def test_progress_is_told_an_epoch_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="scanwise"), running_job(shown=False):
        plan_work({"training": 1, "report": 1})
        with work_step("training"):
            run(tmp_path, epochs=2, monitor="loss")
    lines = [line for line in caplog.messages if line.startswith("epoch")]
    assert len(lines) == 2
    assert "/2" in lines[1]
    assert "left" in lines[1]


def test_an_order_holds_every_scan_once_and_changes_with_epoch_and_seed() -> None:
    order = EpochOrder(50, seed=1)
    first = list(order)
    assert sorted(first) == list(range(50))
    assert len(order) == 50
    assert list(order) == first
    order.set_epoch(1)
    second = list(order)
    assert sorted(second) == list(range(50))
    assert second != first
    assert list(EpochOrder(50, seed=1)) == first
    assert list(EpochOrder(50, seed=2)) != first


@pytest.mark.parametrize(("count", "sizes"), [(32, [16, 16]), (33, [16, 16]), (34, [16, 16, 2]), (3, [3])])
def test_a_last_batch_of_one_scan_is_left_out(count: int, sizes: list[int]) -> None:
    loader = train_loader(ScanDataset(toy.store(), toy.LABELS, np.arange(count)), EpochOrder(count, 0), 16)
    assert [len(batch[1]) for batch in loader] == sizes
    assert len(loader) == len(sizes)


def test_batches_hold_the_pixels_and_labels_of_their_rows() -> None:
    store, rows = toy.store(), np.array([90, 5, 7, 60])
    (batch,) = train_loader(ScanDataset(store, toy.LABELS, rows), EpochOrder(4, 0), 4)
    order = rows[list(EpochOrder(4, 0))]
    assert batch[0].dtype == torch.uint8
    assert np.array_equal(batch[0].numpy(), store.array[order])
    assert batch[1].tolist() == toy.LABELS[order].tolist()


def test_class_weights_are_scikit_learns_and_nothing_for_a_class_without_scans() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0] * 10 + [1] * 5 + [3] * 1)
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    found = class_weights(labels, 5)
    assert found[[0, 1, 3]].tolist() == pytest.approx(expected)
    assert found[[2, 4]].tolist() == [0, 0]
    assert float(found[labels].mean()) == pytest.approx(1)


def test_class_weights_cover_every_class_of_the_network(tmp_path: Path) -> None:
    """Even one that no scan of the cohort has."""
    made = toy.recipe(epochs=1)
    labels = toy.LABELS % 2
    outcome = train_network(toy.network(made), made, toy.store(), labels, toy.ROWS, toy.place(tmp_path), device="cpu")
    assert outcome.epochs == 1


def test_csv_has_full_precision() -> None:
    assert rows_to_csv([{"epoch": 1, "loss": 0.1 + 0.2}]) == "epoch,loss\n1,0.30000000000000004\n"


def test_a_checkpoint_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, file)

    def fail(_: object, file: Any) -> None:
        file.write(b"half")
        raise RuntimeError("power")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="power"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, file)
    assert AtomicCheckpointIO().load_checkpoint(file)["epoch"] == 1
    assert [found.name for found in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_speed_of_a_step_is_measured() -> None:
    speed = time_steps(toy.network(toy.recipe()), toy.recipe(), "cpu", steps=2)
    assert 0 < speed.predict < speed.train < 1


def test_the_state_of_the_keeper_is_plain(tmp_path: Path) -> None:
    section = toy.recipe(monitor="loss", patience=3).train
    keeper = HistoryCallback(toy.place(tmp_path), section)
    keeper.history, keeper.best, keeper.best_epoch = [{"epoch": 1}], -0.5, 1
    other = HistoryCallback(toy.place(tmp_path), section)
    other.load_state_dict(keeper.state_dict())
    assert (other.history, other.best, other.best_epoch) == ([{"epoch": 1}], -0.5, 1)
