"""Trackers are told what history.csv holds; one that is away or broken does not stop the training."""

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any, get_args

import pytest
import toy
from test_trainer import history, run, untimed

from scanwise.errors import RecipeError, TrainingError
from scanwise.recipe import Tracking
from scanwise.recipe.train import TrackerName
from scanwise.run import RunFolder
from scanwise.training import trackers
from scanwise.training.module import ClassifierModule
from scanwise.training.trackers import TrackerSpec


def installed(*packages: str) -> Any:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed")


class Memory:
    """A tracker that only remembers."""

    def __init__(self, fails_from: int = 99) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.pictures: list[Any] = []
        self.ended: list[str] = []
        self.fails_from = fails_from

    def log_metrics(self, row: dict[str, float], step: int) -> None:
        if step >= self.fails_from:
            raise ConnectionError("the line is dead\nand more")
        self.rows.append((step, row))

    def finalize(self, status: str) -> None:
        self.ended.append(status)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    found = Memory()
    spec = TrackerSpec("tensorboard", ("sys",), lambda *_: found, lambda _, *what: found.pictures.append(what))  # type: ignore[arg-type, return-value]
    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", spec)
    return found


ONE = {"names": ["tensorboard"]}


def test_a_tracker_is_told_each_row_and_the_confusion_matrix(tmp_path: Path, memory: Memory) -> None:
    made = toy.recipe(epochs=3, tracking=ONE)
    toy.train(toy.network(made), made, tmp_path, classes=("a", "b", "c"))
    told = [{"epoch": float(step), **row} for step, row in memory.rows]
    assert told == history(tmp_path)
    ((matrix, names),) = memory.pictures
    assert names == ("a", "b", "c")
    assert matrix.sum(1).tolist() == [10, 10, 10]
    assert matrix.trace() / 30 == pytest.approx(history(tmp_path)[-1]["validation_accuracy"])
    assert memory.ended == ["success"]


def test_a_tracker_that_breaks_is_told_of_once_and_training_goes_on(
    tmp_path: Path, memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    memory.fails_from = 2
    with caplog.at_level(logging.WARNING, logger="scanwise"):
        run(tmp_path / "broken", epochs=4, tracking=ONE)
    run(tmp_path / "without", epochs=4)
    assert [step for step, _ in memory.rows] == [1]
    said = [line for line in caplog.messages if "tensorboard" in line]
    assert len(said) == 1
    assert "the line is dead" in said[0]
    assert "goes on without it" in said[0]
    assert untimed(history(tmp_path / "broken")) == untimed(history(tmp_path / "without"))


def test_a_tracker_is_closed_when_training_breaks(
    tmp_path: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise TrainingError("no")

    monkeypatch.setattr(ClassifierModule, "training_step", fail)
    with pytest.raises(TrainingError):
        run(tmp_path, tracking=ONE)
    assert memory.ended == ["failed"]


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_what_is_not_installed_is_said(name: TrackerName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(RecipeError, match=rf"pip install 'scanwise\[{name}\]'"):
        trackers.check_trackers(Tracking(names=(name,)))


@installed("tensorboardX")
def test_tensorboard_writes_its_file(tmp_path: Path) -> None:
    run(tmp_path, epochs=2, tracking=ONE)
    (file,) = (tmp_path / "tracking" / "tensorboard").glob("events.out.tfevents.*")
    content = file.read_bytes()
    assert all(word in content for word in (b"validation_macro_f1", b"train_loss", b"validation confusion"))


@pytest.mark.extended
@installed("mlflow", "sqlalchemy")
@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_figures_and_goes_on_in_the_same_run(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    section = {"names": ["mlflow"], "project": "tests"}
    run(tmp_path, epochs=2, tracking=section, schedule={})
    run(tmp_path, epochs=3, tracking=section, schedule={})
    client = MlflowClient(f"sqlite:///{tmp_path / 'tracking' / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'tests'")
    (found,) = client.search_runs([experiment.experiment_id])
    told = [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, "validation_loss")]
    assert told == [(row["epoch"], row["validation_loss"]) for row in history(tmp_path)]
    names = {artifact.path for artifact in client.list_artifacts(found.info.run_id)}
    assert {"validation_confusion.png", "validation_confusion.json"} <= names
    (table,) = (tmp_path / "tracking").rglob("validation_confusion.json")
    assert json.loads(table.read_text())["columns"] == ["label", "predicted", "scans"]


class Opened:
    """What stands in for Lightning's logger of MLflow, and remembers what it was asked for."""

    run_id = "r"

    def __init__(self, project: str, title: str, uri: str, artifact_location: str | None, run_id: str | None) -> None:
        self.title, self.uri, self.place = title, uri, artifact_location


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning.pytorch.loggers.MLFlowLogger", Opened)


def test_only_an_experiment_of_one_fit_keeps_its_files_in_the_fit(tmp_path: Path, opened: None) -> None:
    fit = RunFolder(tmp_path / "a").fit("honest", 0)
    beside = (tmp_path / "shared" / "artifacts" / "tests").as_uri()
    places = {
        "": (fit.path / "tracking" / "artifacts").as_uri(),
        f"sqlite:///{tmp_path / 'shared' / 'all.db'}": beside,
        "https://tracking.example": None,
        "postgresql://host/all": None,
    }
    for uri, place in places.items():
        made: Any = trackers.TRACKERS["mlflow"].open(Tracking(names=("mlflow",), project="tests", uri=uri), fit)
        assert made.place == place


def test_each_network_of_a_deep_ensemble_has_its_own_title(tmp_path: Path, opened: None) -> None:
    fit = RunFolder(tmp_path / "a").fit("honest", 3)
    made: list[Any] = [
        trackers.TRACKERS["mlflow"].open(Tracking(names=("mlflow",)), each)
        for each in (fit, fit.member(0), fit.member(1))
    ]
    assert [logger.title for logger in made] == ["a-honest-3", "a-honest-3-0", "a-honest-3-1"]


@pytest.mark.extended
@installed("mlflow", "sqlalchemy")
@pytest.mark.filterwarnings("ignore")
def test_a_server_that_is_away_does_not_stop_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING, logger="scanwise"):
        outcome = run(tmp_path, epochs=2, tracking={"names": ["mlflow"], "uri": "http://127.0.0.1:9"})
    assert outcome.epochs == 2
    assert sum("mlflow cannot be reached" in line for line in caplog.messages) == 1


@pytest.mark.extended
@installed("wandb")
@pytest.mark.filterwarnings("ignore")
def test_wandb_works_without_a_network(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="scanwise"):
        run(tmp_path, epochs=2, tracking={"names": ["wandb"]})
    assert not [line for line in caplog.messages if "wandb" in line]
    (place,) = (tmp_path / "tracking" / "wandb").glob("offline-run-*")
    assert list(place.glob("*.wandb"))
    media = {file.suffix for file in place.rglob("*") if file.is_file()}
    assert {".png", ".json"} <= media  # the confusion matrix as an image and as a table


def test_the_recipe_names_the_trackers_of_the_table() -> None:
    assert list(get_args(TrackerName)) == list(trackers.TRACKERS)
    assert all(spec.name == name and spec.packages for name, spec in trackers.TRACKERS.items())
