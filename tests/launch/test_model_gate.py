"""A model is registered if its honest figure beats that of the last one that nobody rejected."""

import json
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from scanwise.errors import LaunchError
from scanwise.launch.model_gate import gate_model
from scanwise.records import Metric, save_metrics
from tiny import Command

boto = pytest.importorskip("botocore.session")


def leave(folder: Path, *metrics: Metric, packed: bool = False) -> Path:
    """A folder with the figures of a model, as they are or in an archive."""
    folder.mkdir(exist_ok=True)
    save_metrics(list(metrics), folder / "metrics.json")
    if packed:
        with tarfile.open(folder / "model.tar.gz", "w:gz") as archive:
            archive.add(folder / "metrics.json", "./metrics.json")
        (folder / "metrics.json").unlink()
    return folder


def figure(value: float, **other: Any) -> Metric:
    about = {"model": "network", "protocol": "honest", "fold": 0, "split": "test", "unit": "subject", "group": ""}
    return Metric(**(about | {"name": "auroc", "value": value, "low": 0.0, "high": 1.0, "count": 9} | other))


session = cache(boto.get_session)
"""One for all tests of a process: what it reads of SageMaker's interface takes a second."""


def register(value: float, status: str = "PendingManualApproval") -> None:
    client = session().create_client("sagemaker")
    if not client.list_model_package_groups()["ModelPackageGroupSummaryList"]:
        client.create_model_package_group(ModelPackageGroupName="brains")
    client.create_model_package(
        ModelPackageGroupName="brains", ModelApprovalStatus=status, CustomerMetadataProperties={"auroc": str(value)}
    )


def test_the_first_model_beats_nothing_and_is_taken(aws: str, tmp_path: Path, scanwise: Command) -> None:
    model = leave(
        tmp_path / "model", figure(0.7), figure(0.9, unit="scan"), figure(0.99, protocol="published"), packed=True
    )
    said = scanwise("verdict", model, "--out", tmp_path / "v.json", "--group", "brains", "--metric", "auroc")
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "v.json").read_text())
    assert (found["value"], found["unit"], found["previous"], found["beats"]) == (0.7, "subject", None, 1)
    assert float(found["text"]) == 0.7


@pytest.mark.extended
@pytest.mark.parametrize(("value", "beats"), [(0.81, 1), (0.8, 0), (0.5, 0)])
def test_only_a_better_model_beats_the_last(aws: str, tmp_path: Path, value: float, beats: int) -> None:
    register(0.6)
    register(0.8)
    register(0.95, "Rejected")
    found = gate_model(leave(tmp_path / "model", figure(value)), "brains", "auroc", tmp_path / "v.json")
    assert (found.previous, found.beats) == (0.8, beats)


@pytest.mark.extended
def test_the_last_that_nobody_rejected_is_found_behind_many_that_were(aws: str, tmp_path: Path) -> None:
    register(0.8)
    client = session().create_client("sagemaker")
    for _ in range(100):  # a page of the server
        client.create_model_package(ModelPackageGroupName="brains", ModelApprovalStatus="Rejected")
    asked = {"ModelPackageGroupName": "brains", "SortBy": "CreationTime", "SortOrder": "Descending"}
    listed = client.list_model_packages(**asked)
    assert {found["ModelApprovalStatus"] for found in listed["ModelPackageSummaryList"]} == {"Rejected"}
    found = gate_model(leave(tmp_path / "model", figure(0.7)), "brains", "auroc", tmp_path / "v.json")
    assert (found.previous, found.beats) == (0.8, 0)


@pytest.mark.parametrize("default", ["", "eu-west-1"])
def test_the_registry_is_that_of_the_region_which_sagemaker_names(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default: str
) -> None:
    register(0.8)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", default)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert gate_model(leave(tmp_path / "model", figure(0.9)), "brains", "auroc", tmp_path / "v.json").previous == 0.8


def test_less_is_better_of_a_loss(aws: str, tmp_path: Path) -> None:
    client = session().create_client("sagemaker")
    client.create_model_package_group(ModelPackageGroupName="brains")
    client.create_model_package(ModelPackageGroupName="brains", CustomerMetadataProperties={"nll": "0.5"})
    model = leave(tmp_path / "model", figure(0.4, name="nll"))
    assert gate_model(model, "brains", "nll", tmp_path / "v.json").beats == 1


def test_a_leaked_figure_beats_nothing(aws: str, tmp_path: Path) -> None:
    model = leave(tmp_path / "model", figure(0.99, protocol="published"))
    found = gate_model(model, "brains", "auroc", tmp_path / "v.json")
    assert (found.value, found.beats) == (None, 0)


def test_what_is_missing_is_told(aws: str, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"neither metrics.json nor model.tar.gz"):
        gate_model(tmp_path, "brains", "auroc", tmp_path / "v.json")
    with pytest.raises(LaunchError, match=r"no metric 'f1'; choose one of auroc"):
        gate_model(leave(tmp_path / "model", figure(0.9)), "brains", "f1", tmp_path / "v.json")
