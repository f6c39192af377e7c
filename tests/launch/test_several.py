"""A fit in two processes leaves what a fit in one leaves, and its exit code is that of what went wrong."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
def test_two_processes_leave_one_run(fit: list[str], tmp_path: Path) -> None:
    two = scanwise(sys.executable, *fit, "--out", tmp_path / "two", "--processes", 2)
    assert two.returncode == 0, two.stderr
    assert two.stderr.count("epoch   1/2") == 2, "one line an epoch and protocol"
    assert two.stdout.count("report:") == 1
    assert scanwise(sys.executable, *fit, "--out", tmp_path / "one").returncode == 0
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    rows = [read_csv(tmp_path / name / "tables" / "predictions.csv") for name in ("one", "two")]
    assert [row["path"] for row in rows[0]] == [row["path"] for row in rows[1]]
    again = scanwise(sys.executable, *fit, "--out", tmp_path / "two", "--processes", 2, "--resume")
    assert again.returncode == 0, again.stderr
    assert "epoch" not in again.stderr


@pytest.mark.slow
def test_torchrun_does_as_well(fit: list[str], tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    done = scanwise(*torchrun, *fit, "--out", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report:") == 1
    assert (tmp_path / "two" / "bundle" / "bundle.json").is_file()


def test_what_went_wrong_is_said_once_and_ends_them_all(tmp_path: Path, tiny_recipe: Path) -> None:
    begun = time.monotonic()
    fit = ["fit", tiny_recipe, "--data", tmp_path / "absent", "--out", tmp_path / "out", "--processes", 2]
    failed = scanwise(sys.executable, "-m", "scanwise", *fit)
    assert failed.returncode == 2
    assert failed.stderr.count("error: ") == 1
    assert "absent" in failed.stderr
    assert not (tmp_path / "out").exists()
    assert time.monotonic() - begun < 400
