"""A run and an audit on patients' files and folders: none of their names is in anything that is left behind."""

from pathlib import Path

import numpy as np
import pytest

from medical_files import NAMES, write_dicom
from tiny import Command, picture

PEOPLE = [f"Quibblewort{index}" for index in range(9)]


@pytest.fixture
def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of DICOM files in folders that are called after patients, and one file that is cut off."""
    monkeypatch.setenv("SCANWISE_KEY", "a key of the tests")
    for kind, label in enumerate(("NonDemented", "MildDemented")):
        for index, name in enumerate(PEOPLE):
            tags = {**NAMES, "PatientID": f"HOSP-{kind}-{index}", "PatientName": f"{name}^Zenobia"}
            for number in range(2):
                stored = np.asarray(picture(kind, 1000 * kind + 10 * index + number)).astype(np.uint16)
                write_dicom(tmp_path / "data" / label / name / f"{name} {number}", stored, SliceLocation=number, **tags)
    cut = tmp_path / "data" / "NonDemented" / "Thistledown.dcm"
    cut.write_bytes((tmp_path / "data" / "NonDemented" / PEOPLE[0] / f"{PEOPLE[0]} 0").read_bytes()[:-99])
    return tmp_path / "data"


def traces(folder: Path, said: str) -> set[str]:
    """Names that are in a file of a folder, in its name, or in what was said."""
    names = ["Quibblewort", "Thistledown", "HOSP-", "a key of the tests", *NAMES.values()]
    found = {name for name in names if name in said}
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes() + str(file.relative_to(folder)).encode()
            found |= {f"{name} in {file.relative_to(folder)}" for name in names if name.encode() in content}
    return found


@pytest.mark.extended
def test_a_run(ward: Path, tiny_recipe: Path, tmp_path: Path, scanwise: Command) -> None:
    out = tmp_path / "run"
    command = ("fit", tiny_recipe, "--data", ward, "--out", out, "--device", "cpu", "--threads", 1, "--pseudonymise")
    said = scanwise(*command)
    assert said.code == 0, said.err
    assert traces(out, said.out + said.err) == set()
    assert (out / "quarantine.csv").read_text(encoding="utf-8").count("truncated") == 1
    assert scanwise(*command, "--resume").code == 0


@pytest.mark.extended
def test_without_asking_headers_are_hidden_and_paths_are_not(
    ward: Path, tiny_recipe: Path, tmp_path: Path, scanwise: Command
) -> None:
    out = tmp_path / "run"
    said = scanwise("fit", tiny_recipe, "--data", ward, "--out", out, "--device", "cpu", "--threads", 1)
    assert said.code == 0, said.err
    found = {trace.partition(" in ")[0] for trace in traces(out, said.out + said.err)}
    assert found == {"Quibblewort", "Thistledown"}


def test_an_audit(ward: Path, tmp_path: Path, scanwise: Command) -> None:
    out = tmp_path / "audit"
    said = scanwise("audit", ward, "--out", out, "--fix", out / "fixed.csv", "--pseudonymise")
    assert said.code in (0, 1, 3), said.err
    assert traces(out, said.out + said.err) == set()
