"""A deep ensemble: networks trained one after the other, and asked together."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from scanwise.bundle import load as load_bundle
from scanwise.models import Network
from scanwise.records import Logits
from scanwise.run import RunFolder
from tiny import RECIPE, read_csv, run_command, write_scans

BATCH = 3
ENSEMBLE = RECIPE.replace("batch: 32", f"batch: {BATCH}").replace(
    "model: {name: small}", "model: {name: small, members: {kind: deep_ensemble, count: 2}}"
)


@contextmanager
def watched() -> Iterator[list[int]]:
    """How many scans a network sees at a time."""
    seen: list[int] = []
    forward = Network.forward_features

    def watch(self: Network, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return forward(self, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Network, "forward_features", watch)
        yield seen


@pytest.fixture(scope="module")
def seen() -> list[int]:
    """How many scans the networks of the run saw at a time, from the first step of training to the report."""
    return []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, seen: list[int]) -> RunFolder:
    place = tmp_path_factory.mktemp("ensemble")
    (place / "tiny.yaml").write_text(ENSEMBLE + "audit: {checks: []}\n")
    data = write_scans(place / "scans", {"nondemented": 14, "milddemented": 14})
    with watched() as sizes:
        said = run_command("fit", place / "tiny.yaml", "--data", data, "--subject", r"(\w+)_\d", "--out", place / "run")
    assert said.code == 0, said.err
    seen += sizes
    return RunFolder.open(place / "run")


@pytest.mark.extended
def test_each_member_is_a_network_of_its_own(run: RunFolder) -> None:
    from safetensors.numpy import load_file

    fit = run.fit("honest", 0)
    first, second = (load_file(fit.member(index).model) for index in (0, 1))
    whole = load_file(fit.model)
    assert any(not np.array_equal(first[name], second[name]) for name in first)
    for index, member in enumerate((first, second)):
        for name, values in member.items():
            np.testing.assert_array_equal(whole[f"body.{index}.{name}"], values)


def test_the_members_are_answered_together(run: RunFolder) -> None:
    logits = Logits.load(run.fit("honest", 0).logits("test"))
    assert logits.logits.shape[1] == 2
    scan = run.path.parent / "scans" / logits.scans[0]
    answer = load_bundle(run.path).predict(scan)
    told = {row["path"]: row for row in read_csv(run.tables_of("honest") / "predictions.csv")}
    expected = told[logits.scans[0]]
    np.testing.assert_allclose(
        answer.scans.probs[0], [float(expected[f"p_{name}"]) for name in logits.classes], atol=1e-5
    )


def test_the_report_says_how_much_they_differ(run: RunFolder) -> None:
    row = read_csv(run.tables / "members.csv")[0]
    assert (row["protocol"], row["members"]) == ("honest", "2")
    assert float(row["kl"]) > 0
    assert row["told"] in run.report.read_text(encoding="utf-8")


@pytest.mark.extended
def test_a_killed_ensemble_keeps_its_finished_members(run: RunFolder, tmp_path: Path) -> None:
    fit = run.fit("honest", 0)
    before = fit.member(0).model.stat().st_mtime_ns
    fit.model.unlink()
    data = run.path.parent / "scans"
    said = run_command(
        "fit", run.path.parent / "tiny.yaml", "--data", data, "--subject", r"(\w+)_\d", "--out", run.path, "--resume"
    )
    assert said.code == 0, said.err
    assert fit.member(0).model.stat().st_mtime_ns == before


def test_no_network_sees_more_scans_at_a_time_than_in_training(run: RunFolder, seen: list[int]) -> None:
    """So whoever lowers `train.batch` for want of memory is heard to the end, and in the bundle as well."""
    assert max(seen) == BATCH
    scans = sorted((run.path.parent / "scans").rglob("*.png"))[: 2 * BATCH + 1]
    with watched() as sizes:
        load_bundle(run.path).predict(scans)
    assert max(sizes) <= BATCH
