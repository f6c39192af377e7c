"""Mistakes that the arguments alone show: refused before anything heavy is loaded."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest

from scanwise.cli import arguments, cli

HEAVY = ("torch", "scipy", "pandas", "sklearn", "lightning", "matplotlib")
MISTAKEN = {
    "a path": (["fit", "demo", "--data", "nowhere"], "There is nothing at nowhere"),
    "a recipe": (["fit", "dmo", "--data", "."], "Did you mean 'demo'?"),
    "a setting": (["fit", "demo", "--data", ".", "--set", "train.lr=3"], "Did you mean train.optimizer.lr?"),
    "a run folder": (["fit", "demo", "--data", ".", "--out", "file"], "file is a file; a run needs a folder"),
    "a device": (["fit", "demo", "--data", ".", "--device", "gpu"], "There is no device 'gpu'"),
    "a candidate": (["fold", "demo", "--data", ".", "--out", "x", "--try", "train.lr=3"], "train.optimizer.lr"),
    "scans to audit": (["audit", "nowhere"], "There is nothing at nowhere. Give a folder"),
    "a setting of an audit": (["audit", ".", "--set", "train.epochs=3"], "nothing is trained here"),
    "scans to list": (["cohort", "nowhere", "--out", "x.csv"], "There is nothing at nowhere"),
    "copies": (["augment", "nowhere", "--out", "x", "--per-scan", "2"], "There is nothing at nowhere"),
    "a run": (["evaluate", "nowhere", "--data", "."], "nowhere is not a run"),
    "a run's report": (["report", "nowhere"], "nowhere is not a run"),
    "runs": (["compare", "a", "b"], "a is not a run"),
    "a model": (["predict", "nowhere", "x.png"], "There is no run at nowhere"),
    "a model to explain": (["explain", "nowhere", "x.png"], "There is no run at nowhere"),
    "a model to register": (["register", "nowhere", "--name", "a"], "There is no run at nowhere"),
}
CODE = """
import atexit, sys
atexit.register(lambda: print("loaded:", *{name.partition(".")[0] for name in sys.modules}))
from scanwise.cli import main
main()
"""


@pytest.mark.parametrize("name", MISTAKEN)
def test_a_mistake_in_the_arguments_costs_no_heavy_import(name: str, tmp_path: Path) -> None:
    arguments, words = MISTAKEN[name]
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert not set(HEAVY) & set(done.stdout.rpartition("loaded:")[2].split())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file"]


def test_commands_that_read_labelled_scans_take_the_same_options() -> None:
    described = {"label", "patients", "ident", "series", "settings"}
    for name in ("fit", "fold", "evaluate", "audit", "augment", "cohort"):
        assert described <= {option.name for option in cli.commands[name].params}, name


def test_commands_that_take_a_model_take_its_registry() -> None:
    for name in ("predict", "explain", "register"):
        assert "registry" in {option.name for option in cli.commands[name].params}, name


def test_options_of_one_name_have_one_help() -> None:
    helps: dict[str, set[str]] = {}
    for command in (command for name, command in cli.commands.items() if name != "serve"):  # whose threads are requests
        for option in command.params:
            if isinstance(option, click.Option) and option.name in (
                "device",
                "threads",
                "registry",
                "label",
                "settings",
            ):
                helps.setdefault(option.name, set()).add(str(option.help))
    assert {name: len(texts) for name, texts in helps.items()} == dict.fromkeys(helps, 1)


def test_the_shell_completes_commands(tmp_path: Path) -> None:
    asked = {"_SCANWISE_COMPLETE": "bash_complete", "COMP_WORDS": "scanwise au", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['scanwise']; from scanwise.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked}, check=False
    )
    assert done.stdout.splitlines() == ["plain,audit", "plain,augment"]


def test_what_training_needs_is_loaded_in_a_thread_that_fails_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load(name: str) -> None:
        asked.append(name)
        if name == "timm":
            raise ImportError(name)

    monkeypatch.setattr("scanwise.cli.arguments.import_module", load)
    arguments.load_torch_meanwhile()
    for thread in threading.enumerate():
        if thread.name == "imports":
            thread.join()
    assert asked == ["torch", "timm"]


@pytest.mark.parametrize("named", ["s3://bucket/run", "brains:3", "brains:latest"])
def test_what_is_looked_up_elsewhere_passes(named: str) -> None:
    arguments.check_model(named)
    arguments.check_data("s3://bucket/scans")
    arguments.check_run_folder("s3://bucket/run", resume=False)
