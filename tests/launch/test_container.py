"""The container of a job keeps SageMaker's contract: its folders in, its folders out, and a request to end in between."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scanwise import bundle, recipe
from scanwise.errors import LaunchError
from scanwise.launch.container import Contract, command
from scanwise.launch.job import hyperparameters
from tiny import RECIPE, Fill, Said


def start(place: Path) -> "subprocess.Popen[str]":
    """What SageMaker does: `docker run IMAGE train`."""
    about = {"SCANWISE_ML_PREFIX": str(place), "SM_NUM_GPUS": "0", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "scanwise", "train"], env=os.environ | about, stderr=subprocess.PIPE, text=True
    )


def end(process: "subprocess.Popen[str]") -> Said:
    _, said = process.communicate(timeout=400)
    return Said(process.returncode, "", said)


def give(place: Path, told: dict[str, str]) -> None:
    for folder in ("input/config", "input/data/data", "output"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    (place / "input" / "config" / "hyperparameters.json").write_text(json.dumps(told), encoding="utf-8")


@pytest.mark.slow
def test_a_job_that_is_stopped_goes_on_and_leaves_its_model(tmp_path: Path, fill: Fill) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    told = hyperparameters(str(tmp_path / "tiny.yaml"), ["train.epochs=60"], r"([ab]\d+)_")
    give(place := tmp_path / "ml", told)
    fill(place / "input" / "data" / "data", {"a": 16, "b": 16}, slices=2)
    first, last = start(place), place / "checkpoints" / "run" / "fits" / "honest" / "0" / "checkpoints" / "last.ckpt"
    until = time.monotonic() + 300
    while not last.is_file():
        assert first.poll() is None, end(first).err
        assert time.monotonic() < until
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    stopped = end(first)
    assert stopped.code == 130
    assert "--resume" in stopped.err
    assert not (place / "model").exists()
    assert last.is_file()

    done = end(start(place))
    assert done.code == 0, done.err
    assert "resuming after epoch" in done.err
    assert {file.name for file in (place / "model").iterdir()} == {
        "bundle",
        "metrics.json",
        "recipe.yaml",
        "report.html",
    }
    assert bundle.load(place / "model").classes == ("a", "b")
    assert (place / "output" / "data" / "tables" / "predictions.csv").is_file()


@pytest.mark.extended
def test_why_it_failed_is_where_sagemaker_looks(tmp_path: Path) -> None:
    give(tmp_path, {"recipe": "alexnet-grey"})
    failed = end(start(tmp_path))
    assert failed.code == 2
    assert "alexnet-gray" in (tmp_path / "output" / "failure").read_text(encoding="utf-8")


def test_hyperparameters_become_a_command(tmp_path: Path) -> None:
    told = {"recipe": "demo", "train.epochs": "3", "seed": "4", "subject": "who.csv", "manifest": "scans.csv"}
    give(tmp_path, told)
    data = tmp_path / "input" / "data" / "data"
    (data / "who.csv").write_text("path,subject\n")
    made = command(Contract(tmp_path, {"SM_NUM_GPUS": "1"}))
    run = str(tmp_path / "checkpoints" / "run")
    assert made[:8] == [
        "fit",
        "demo",
        "--data",
        str(data / "scans.csv"),
        "--out",
        run,
        "--subject",
        str(data / "who.csv"),
    ]
    assert made[8:] == ["--set", "seed=4", "--set", "train.epochs=3"]


def test_every_setting_that_a_job_takes_in_the_container_gives_out(tmp_path: Path) -> None:
    given = ["classes=[a, b]", "ordered=true", "seed=3", "title=a = b", "stages={a: {title: A}}", "train.epochs=7"]
    give(tmp_path, hyperparameters("demo", given, "who", "lists/scans.csv"))
    made = command(Contract(tmp_path, {"SM_NUM_GPUS": "0"}))
    settings = [made[place + 1] for place, word in enumerate(made) if word == "--set"]
    assert sorted(settings) == sorted(given)
    assert recipe.load_recipe(made[1], settings) == recipe.load_recipe("demo", given)
    assert made[made.index("--subject") + 1] == "who"
    assert made[made.index("--data") + 1] == str(tmp_path / "input" / "data" / "data" / "lists" / "scans.csv")


def test_a_section_is_set_before_what_is_in_it_in_whichever_order_they_come(tmp_path: Path) -> None:
    give(tmp_path, {"model.dropout": "0.3", "recipe": "demo", "model": "{name: small}"})
    made = command(Contract(tmp_path, {"SM_NUM_GPUS": "0"}))
    assert made[-4:] == ["--set", "model={name: small}", "--set", "model.dropout=0.3"]


def test_what_sagemaker_adds_for_itself_is_no_setting(tmp_path: Path) -> None:
    give(tmp_path, {"recipe": "demo", "_tuning_objective_metric": "auroc", "sagemaker_region": "us-east-1"})
    assert "--set" not in command(Contract(tmp_path, {"SM_NUM_GPUS": "0"}))


def test_a_job_that_finds_its_own_run_goes_on_with_it(tmp_path: Path) -> None:
    give(tmp_path, {"recipe": "demo"})
    contract = Contract(tmp_path, {"SM_NUM_GPUS": "0"})
    assert "--resume" not in command(contract)
    contract.run.mkdir(parents=True)
    (contract.run / "recipe.yaml").touch()
    assert "--resume" in command(contract)


def test_channels_are_found_by_their_variable_or_their_folder(tmp_path: Path) -> None:
    give(tmp_path, {"recipe": "demo"})
    (tmp_path / "other").mkdir()
    named = Contract(tmp_path, {"SM_CHANNEL_TRAINING": str(tmp_path / "other"), "SM_NUM_GPUS": "0"})
    assert named.data == tmp_path / "input" / "data" / "data"
    (tmp_path / "input" / "data" / "data").rmdir()
    assert named.data == tmp_path / "other"
    assert Contract(tmp_path, {"SM_MODEL_DIR": "/there"}).model == Path("/there")
    with pytest.raises(LaunchError, match="no channel data"):
        _ = Contract(tmp_path, {}).data


def test_a_job_without_a_recipe_is_told(tmp_path: Path) -> None:
    give(tmp_path, {"train.epochs": "3"})
    with pytest.raises(LaunchError, match="names no recipe"):
        command(Contract(tmp_path, {}))
