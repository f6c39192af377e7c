"""A model is named by its folder, or by name and version; what was registered answers as the run did."""

from pathlib import Path

import pytest

from scanwise import registry
from scanwise.errors import RunError
from scanwise.pipeline.model_reference import locate_model
from tiny import Command, Whole


@pytest.fixture(autouse=True)
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCANWISE_REGISTRY", str(tmp_path / "versions"))
    return tmp_path / "versions"


def test_a_registered_run_answers_by_name_and_version(whole: Whole, scanwise: Command) -> None:
    scan = next(whole.data.parent.glob("milddemented/s*.png"))
    for number in (1, 2):
        said = scanwise("register", whole.run.path, "--name", "brains")
        assert said.code == 0, said.err
        assert f"brains:{number}" in said.out
    answers = [
        scanwise("predict", named, scan, "--format", "json", "--device", "cpu")
        for named in (whole.run.path, "brains:1", "brains:latest")
    ]
    assert answers[0].code == 0
    assert answers[0].out == answers[1].out == answers[2].out
    missing = scanwise("predict", "brains:7", scan)
    assert missing.code == 2
    assert "there are 1, 2" in missing.refusal


def test_a_folder_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "brains:1").mkdir()
    assert locate_model("brains:1") == Path("brains:1")
    assert locate_model(tmp_path / "run") == tmp_path / "run"
    with pytest.raises(RunError, match="no model 'lungs'"):
        locate_model("lungs:1")


def test_a_place_said_wins_over_the_environment(whole: Whole, tmp_path: Path, versions: Path) -> None:
    made = registry.register(whole.run.path, "brains", registry=tmp_path / "other")
    assert made.path == tmp_path / "other" / "brains" / "1"
    assert not versions.exists()


def test_what_cannot_be_registered_is_told(scanwise: Command, tmp_path: Path) -> None:
    said = scanwise("register", tmp_path, "--name", "brains")
    assert said.code == 2
    assert "holds no bundle. Finish the run first" in said.refusal
    assert scanwise("register", tmp_path, "--name", "../brains").code == 2
