"""The plan of a prediction tells what it costs, writes nothing, and grows with the scans as the costs do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from scanwise import bundle
from scanwise.bundle.shards import ShardFolder
from scanwise.pipeline.commands.prediction_plan import PredictionPlan, plan_prediction
from tiny import Command
from tiny_bundles import write_scans_of

BuildOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="module")
def scans(build_once: BuildOnce) -> Path:
    return build_once("scans-of-kinds", write_scans_of)


def test_a_plan_says_scans_memory_disk_and_time_and_writes_nothing(
    demo_model: Path, scans: Path, tmp_path: Path, scanwise: Command
) -> None:
    command = ["predict", demo_model, scans, "--subject", r"(p\d+)_", "--plan"]
    said = scanwise(*command)
    assert said.code == 0, said.err
    assert "24 scans of 6 subjects in 24 files" in said.out
    assert "memory: about" in said.out
    assert "disk" not in said.out
    said = scanwise(*command, "--out", tmp_path / "a.parquet", "--shard", 5, "--engine", "ray", "--workers", 3)
    assert said.code == 0, said.err
    words = " ".join(said.out.split())
    assert "for each of 3 workers" in words
    assert "in 5 shards" in words
    assert list(tmp_path.iterdir()) == []


def test_disk_is_what_shards_take(demo_model: Path, scans: Path, tmp_path: Path) -> None:
    """All scans are tried here, so the estimate lies beside what is written."""
    plan = plan_prediction(bundle.load(demo_model), [scans], shard=1000, device="cpu", threads=1)
    assert (plan.scans, plan.files, plan.subjects, plan.shard) == (24, 24, 0, 24)
    assert plan.read == sum(file.stat().st_size for file in scans.iterdir())
    bundle.load(demo_model).predict(sorted(scans.iterdir()), shards=ShardFolder(tmp_path, "digest", 1000))
    (shard,) = tmp_path.iterdir()
    assert 0 < shard.stat().st_size - plan.disk < 3000  # names of the arrays
    assert plan.mapping > 50e6
    assert plan.seconds > 0


def test_memory_grows_with_the_scans_of_the_command_alone() -> None:
    plan = PredictionPlan(10, 10, 0, 10**6, 1000, 10**9, 10 * 5000, 5000, 0.1)
    more = replace(plan, scans=10**6, held=5 * 10**9)
    assert "about 6.2 GB" in more.lines(None, "local", 1)[1]
    ray = more.lines(Path("a.csv"), "ray", 4)
    assert "about 1.0 GB for each of 4 workers" in ray[1]
    assert "this command: about 6.2 GB" in ray[2]


def test_files_that_cannot_be_read_are_said(demo_model: Path, tmp_path: Path, scanwise: Command) -> None:
    (tmp_path / "a.png").write_bytes(b"no scan")
    done = scanwise("predict", demo_model, tmp_path, "--plan")
    assert done.code == 2
    assert "The file cannot be read" in done.refusal
