"""From a folder of DICOM and a table of patients to a report: one command, and no script."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from hospital_export import write_export, write_patients
from scanwise.records import Cohort
from tiny import Command

JOIN = ("--id", "PatientID", "--label", "diagnosis", "--series", "T1")


@pytest.fixture(scope="module")
def written_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of 32 patients and their table; leave it as it is."""
    folder = tmp_path_factory.mktemp("export")
    write_patients(folder / "patients.csv", write_export(folder / "DICOM", 32), ";")
    return folder


@pytest.fixture
def hospital_export(written_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to write beside."""
    monkeypatch.setenv("SCANWISE_KEY", "a key of the tests")
    return Path(shutil.copytree(written_export, tmp_path / "export"))


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_one_command_to_a_report(hospital_export: Path, tiny_recipe: Path, scanwise: Command) -> None:
    data, table, run = (hospital_export / name for name in ("DICOM", "patients.csv", "run"))
    said = scanwise("fit", tiny_recipe, "--data", data, "--patients", table, *JOIN, "--out", run, "--device", "cpu")
    assert said.code == 0, said.err
    assert (run / "report.html").is_file()
    assert (run / "tables" / "breakdown_sex.csv").is_file()
    decades = {row["group"] for row in rows_of(run / "tables" / "breakdown_age.csv")}
    assert decades <= {f"{decade} to {decade + 9}" for decade in range(50, 120, 10)}
    assert len(Cohort.load(run / "cohort.parquet")) == 96
    for file in run.rglob("*"):
        if file.is_file():
            assert b"Quibble" not in file.read_bytes(), file
    assert not any("00007" in row["subject"] for row in rows_of(run / "tables" / "predictions.csv"))
    # the same people again, under the same names, are no other people
    again = scanwise("evaluate", run, "--data", data, "--patients", table, *JOIN, "--device", "cpu")
    assert again.code == 1
    assert "scans that this run learnt from" in again.refusal


@pytest.mark.extended
def test_the_same_as_keys_of_a_recipe(hospital_export: Path, tiny_recipe: Path, scanwise: Command) -> None:
    mine = hospital_export / "mine.yaml"
    text = tiny_recipe.read_text(encoding="utf-8")
    keys = {"patients": str(hospital_export / "patients.csv"), "id": "PatientID", "label": "diagnosis", "series": "T1"}
    settings = [part for name, value in keys.items() for part in ("--set", f"data.{name}={json.dumps(value)}")]
    mine.write_text(text, encoding="utf-8")
    planned = scanwise("fit", mine, "--data", hospital_export / "DICOM", "--plan", "--device", "cpu", *settings)
    assert planned.code == 0, planned.err
    assert "joined by the PatientID of the headers" in planned.out


def test_cohort_gives_the_raw_id_unless_it_is_to_hide_it(hospital_export: Path, scanwise: Command) -> None:
    out = hospital_export / "c.csv"
    assert scanwise("cohort", hospital_export / "DICOM" / "EXAM000" / "S1", "--out", out).code == 0
    assert {(row["subject"], row["series_description"], row["subject_source"]) for row in rows_of(out)} == {
        ("00001", "T1 MPRAGE sag", "PatientID of the DICOM header")
    }
    command = ("cohort", hospital_export / "DICOM", "--patients", hospital_export / "patients.csv", *JOIN, "--out", out)
    said = scanwise(*command)
    assert said.code == 0, said.err
    assert {row["subject"] for row in rows_of(out)} == {f"{number:05d}" for number in range(1, 33)}
    assert "Quibble" not in out.read_text(encoding="utf-8")
    said = scanwise(*command, "--pseudonymise")
    hidden = said.out + said.err + out.read_text(encoding="utf-8")
    assert len({row["subject"] for row in rows_of(out)}) == 32
    assert not any(name in hidden for name in ("00001", "MPRAGE", "EXAM000", "Quibble"))


@pytest.mark.extended
def test_what_cohort_wrote_is_fitted_and_says_how_persons_are_known(
    hospital_export: Path, tiny_recipe: Path, scanwise: Command
) -> None:
    out = hospital_export / "c.csv"
    table = hospital_export / "patients.csv"
    assert scanwise("cohort", hospital_export / "DICOM", "--patients", table, *JOIN, "--out", out).code == 0
    run = hospital_export / "run"
    assert scanwise("fit", tiny_recipe, "--data", out, "--out", run, "--device", "cpu").code == 0
    found = Cohort.load(run / "cohort.parquet")
    assert found.subject_source == "PatientID of patients.csv, by the PatientID of the headers"
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "By “study”" not in report  # identifiers are no groups
    assert "By “position”" not in report


@pytest.mark.extended
@pytest.mark.parametrize("fold", [False, True])
def test_every_command_that_reads_data_takes_the_table(
    hospital_export: Path, tiny_recipe: Path, scanwise: Command, fold: bool
) -> None:
    data, table, out = (hospital_export / name for name in ("DICOM", "patients.csv", "out"))
    if fold:
        command = ("fold", tiny_recipe, "--data", data, "--folds", 2, "--out", out, "--device", "cpu")
        assert scanwise(*command, "--patients", table, *JOIN).code == 0
        return
    audited = scanwise("audit", data, "--patients", table, *JOIN, "--out", out, "--fix", hospital_export / "safe.csv")
    assert audited.code in (0, 1), audited.err
    assert "32 (PatientID of patients.csv, by the PatientID of the headers)" in (out / "audit.html").read_text()
    fixed = rows_of(hospital_export / "safe.csv")
    source = "PatientID of patients.csv, by the PatientID of the headers"
    assert {row["subject_source"].partition(";")[0] for row in fixed} == {source}
    assert {row["label"] for row in fixed} == {"AD", "Control"}
    copies = hospital_export / "copies"
    assert scanwise("augment", data, "--patients", table, *JOIN, "--per-scan", 1, "--out", copies).code == 0
    assert len(rows_of(copies / "manifest.csv")) == 2 * 96


@pytest.mark.parametrize("command", ["audit", "cohort", "augment"])
def test_label_names_the_column_of_a_manifest(hospital_export: Path, scanwise: Command, command: str) -> None:
    table = hospital_export / "scans.csv"
    paths = sorted((hospital_export / "DICOM").rglob("IM*"))[:12]
    text = "".join(
        f"DICOM/{path.relative_to(hospital_export / 'DICOM')},{'xy'[n % 2]}\n" for n, path in enumerate(paths)
    )
    table.write_text(f"path,dx\n{text}", encoding="utf-8")
    out = hospital_export / ("out.csv" if command == "cohort" else "out")
    more = ("--per-scan", 1) if command == "augment" else ()
    assert scanwise(command, table, "--label", "dx", "--out", out, *more).code in (0, 3)
    refused = scanwise(command, table, "--label", "nothing", "--out", hospital_export / "other.csv", *more)
    assert refused.code == 2
    assert "no column 'nothing'; it has path, dx" in refused.refusal


def test_predict_pools_by_a_table_and_takes_one_series(hospital_export: Path, whole: object, scanwise: Command) -> None:
    run = whole.run.path  # type: ignore[attr-defined]
    scans = [hospital_export / "DICOM" / f"EXAM{number:03d}" for number in range(2)]
    table = hospital_export / "patients.csv"
    command = ("predict", run, *scans, "--subject", table, "--series", "T2", "--format", "json", "--device", "cpu")
    said = scanwise(*command)
    assert said.code == 0, said.err
    answer = json.loads(said.out)
    assert [row["scans"] for row in answer["subjects"]] == [2, 2]
    assert len(answer["quarantine"]) == 2 * 4 + 30  # other series, and rows without scans
