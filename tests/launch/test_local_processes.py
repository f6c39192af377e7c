"""A fit in two processes leaves what a fit in one leaves, and its exit code is that of what went wrong."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scanwise.launch import local_processes
from tiny import Fill, read_csv

SETTINGS = ["--device", "cpu", "--threads", "1", "--set", "split.protocols=[honest, published]"]


def scanwise(*words: object, **about: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*map(str, words)], env=os.environ | {"OMP_NUM_THREADS": "1"} | about, capture_output=True, text=True, check=False,
        timeout=500,
    )  # fmt: skip


@pytest.fixture
def fit(fill: Fill, tiny_recipe: Path, tmp_path: Path) -> list[str]:
    data = fill(tmp_path / "data", {"a": 16, "b": 16}, slices=2)
    return ["-m", "scanwise", "fit", *map(str, (tiny_recipe, "--data", data, "--subject", r"([ab]\d+)_", *SETTINGS))]


def contents(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one", "deep_ensemble"])
def test_two_processes_leave_one_run(fit: list[str], tmp_path: Path, kind: str) -> None:
    fit += ["--set", f"model.members={{kind: {kind}, count: 2}}"]
    two = scanwise(sys.executable, *fit, "--out", tmp_path / "two", "--processes", 2)
    assert two.returncode == 0, two.stderr
    networks = 2 if kind == "one" else 4
    assert two.stderr.count("epoch   1/2") == networks, "one line an epoch and network"
    assert two.stdout.count("report:") == 1
    assert scanwise(sys.executable, *fit, "--out", tmp_path / "one").returncode == 0
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    rows = [read_csv(tmp_path / name / "tables" / "predictions.csv") for name in ("one", "two")]
    assert [row["path"] for row in rows[0]] == [row["path"] for row in rows[1]]
    again = scanwise(sys.executable, *fit, "--out", tmp_path / "two", "--processes", 2, "--resume")
    assert again.returncode == 0, again.stderr
    assert "epoch" not in again.stderr


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]


@pytest.mark.slow
def test_torchrun_does_as_well(fit: list[str], tmp_path: Path) -> None:
    done = scanwise(*TORCHRUN, *fit, "--out", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report:") == 1
    assert (tmp_path / "two" / "bundle" / "bundle.json").is_file()


@pytest.mark.slow
def test_one_fit_may_follow_another(fit: list[str], tmp_path: Path) -> None:
    fold = ["fold" if word == "fit" else word for word in fit]
    tries = ["--folds", 2, "--try", "train.epochs=1", "--try", "train.epochs=2"]
    done = scanwise(*TORCHRUN, *fold, *tries, "--out", tmp_path / "folds")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tables:") == 1
    assert done.stderr.count("epoch   1/2") == 2, "one line an epoch and fold"


@pytest.mark.slow
def test_both_train_what_the_checks_of_heatmaps_need(fit: list[str], tmp_path: Path) -> None:
    fit += ["--set", "explain.scans=2", "--set", "explain.retrain=true", "--set", "split.protocols=[honest]"]
    fit += ["--out", str(tmp_path / "two"), "--processes", "2"]
    done = scanwise(sys.executable, *fit)
    assert done.returncode == 0, done.stderr
    for name in ("heatmaps", "retrained"):
        shutil.rmtree(tmp_path / "two" / name)
    again = scanwise(sys.executable, *fit, "--resume")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("epoch   1/2") == 2, "of what is trained once more, and nothing else"
    assert (tmp_path / "two" / "heatmaps" / "checks.json").is_file()


DEAF = (
    "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "pathlib.Path('ready').touch(); time.sleep(600)"
)
DUTIFUL = "import time; time.sleep(600)"


def start(monkeypatch: pytest.MonkeyPatch, *programs: str) -> list["subprocess.Popen[bytes]"]:
    """Have these programs stand in for the processes of a fit, and little patience with them."""
    started: list[subprocess.Popen[bytes]] = []

    def instead(_: object, rank: int, *__: object) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen([sys.executable, "-c", programs[rank]]))
        return started[-1]

    monkeypatch.setattr(local_processes, "_start", instead)
    monkeypatch.setattr(local_processes, "GRACE", 1.0)
    return started


@pytest.mark.extended
def test_the_first_to_fail_gives_the_code_and_the_others_are_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # where the deaf one says that it is ready
    started = start(monkeypatch, DUTIFUL, "raise SystemExit(7)", DEAF)
    assert local_processes.run([], 3) == 7
    assert all(process.poll() is not None for process in started)


@pytest.mark.extended
def test_a_request_to_end_reaches_all_and_the_deaf_are_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    started = start(monkeypatch, DUTIFUL, DEAF)
    before = signal.getsignal(signal.SIGTERM)

    def ask() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask).start()
    assert local_processes.run([], 2) == 128 + signal.SIGTERM
    assert {process.returncode for process in started} == {-signal.SIGTERM, -signal.SIGKILL}
    assert signal.getsignal(signal.SIGTERM) is before


def test_all_that_end_well_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, "", "")
    assert local_processes.run([], 2) == 0


def test_what_went_wrong_is_said_once_and_ends_them_all(tmp_path: Path, tiny_recipe: Path) -> None:
    begun = time.monotonic()
    fit = ["fit", tiny_recipe, "--data", tmp_path / "absent", "--out", tmp_path / "out", "--processes", 2]
    failed = scanwise(sys.executable, "-m", "scanwise", *fit)
    assert failed.returncode == 2
    assert failed.stderr.count("error: ") == 1
    assert "absent" in failed.stderr
    assert not (tmp_path / "out").exists()
    assert time.monotonic() - begun < 400
