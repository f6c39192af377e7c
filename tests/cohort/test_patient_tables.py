"""A table of patients gives every scan the label, groups and person of its row, and what has no partner is listed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohort_scans import Scans
from hypothesis import given
from hypothesis import strategies as st

from hospital_export import Rows, write_export, write_patients
from medical_files import NAMES, write_dicom, write_nifti
from scanwise import cohort
from scanwise.cohort import gathering, layouts, slice_expansion, table_files
from scanwise.cohort.id_locations import IdLocation, match_ids
from scanwise.cohort.patient_tables import PatientTable
from scanwise.errors import DataError
from scanwise.recipe import Data, Recipe

PIXELS = np.arange(81, dtype=np.uint16).reshape(9, 9)
Export = tuple[Path, Rows, Callable[..., Path]]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWISE_KEY", "a key of the tests")


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Eight patients, their rows, and a way to write these."""
    rows = write_export(tmp_path / "DICOM")
    return tmp_path / "DICOM", rows, lambda changed=None: write_patients(tmp_path / "patients.csv", changed or rows)


def read(data: Path, subject: str = "", **settings: Any) -> cohort.LoadedCohort:
    recipe = Recipe.model_validate({"name": "a", "data": {"size": 16, **{n: str(v) for n, v in settings.items()}}})
    return cohort.read_cohort(str(data), recipe, subject)


def refusal(data: Path, subject: str = "", **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(data, subject, **settings)
    return str(caught.value)


def said(intake: cohort.LoadedCohort) -> str:
    return " ".join(finding.message for finding in intake.findings)


# --- DICOM, ids in headers ---


def test_a_folder_of_dicom_and_a_table_are_a_cohort(export: Export) -> None:
    data, _, table = export
    intake = read(data, patients=table(), id="PatientID", label="diagnosis", series="T1")
    found = intake.cohort
    assert len(found) == 8 * 3
    assert found.classes == ("AD", "Control")
    sick = np.array([int(path[4:7]) % 2 == 1 for path in found.path.tolist()])
    assert (np.array(found.classes)[found.labels] == np.where(sick, "AD", "Control")).all()
    assert len(set(found.subject.tolist())) == 8
    assert found.subject_source == "PatientID of patients.csv, by the PatientID of the headers"
    assert set(found.groups) >= {"age", "sex", "site"}
    assert found.groups["age"][found.path == "EXAM003/S1/IM0001"] == ["56"]
    assert "8 of 8 ids have scans" in said(intake)


@pytest.mark.parametrize(("missing", "severity"), [(0, "note"), (1, "warning")])
def test_a_table_of_all_scans_is_a_note_and_one_of_some_a_warning(missing: int, severity: str, export: Export) -> None:
    data, rows, table = export
    intake = read(data, patients=table(rows[missing:]), label="diagnosis", series="T1")
    severities = {
        part: finding.severity
        for finding in intake.findings
        for part in ("ids have scans", "The series")
        if part in finding.message
    }
    assert severities == {"ids have scans": severity, "The series": "note"}


@pytest.mark.parametrize("tags", [{}, {"IssuerOfPatientID": "HOSPITAL"}])
def test_a_person_has_the_same_hash_with_a_table_and_without(tmp_path: Path, tags: dict[str, str]) -> None:
    """Or nobody would see that two runs share people."""
    rows = write_export(tmp_path / "DICOM", 4, series=[("T1", 2)], **tags)
    joined = read(tmp_path / "DICOM", patients=write_patients(tmp_path / "p.csv", rows), label="diagnosis").cohort
    files = sorted(file.relative_to(tmp_path).as_posix() for file in (tmp_path / "DICOM").rglob("IM*"))
    lines = [f"{file},{'xy'[int(file.split('EXAM')[1][:3]) % 2]}" for file in files]
    (tmp_path / "scans.csv").write_text("\n".join(["path,label", *lines]))
    assert set(joined.subject.tolist()) == set(read(tmp_path / "scans.csv").cohort.subject.tolist())
    assert len(set(joined.subject.tolist())) == 4


def test_nothing_that_names_a_patient_gets_into_the_cohort(export: Export) -> None:
    data, rows, table = export
    for number, row in enumerate(rows):
        row |= {"date of birth": f"19{30 + number}-01-02", "Nachname": f"Quibble{number}", "remark": f"text {number}"}
    found = read(data, patients=table(), label="diagnosis").cohort
    assert not {"PatientName", "date of birth", "Nachname"} & set(found.groups)
    values = {str(value) for values in (found.subject, *found.groups.values()) for value in values.tolist()}
    assert not any(name in value for value in values for name in ("Quibble", "0000", NAMES["PatientAddress"]))


def test_persons_of_headers_have_the_hash_that_they_have_without_a_table(export: Export) -> None:
    data, _, table = export
    plain, _ = slice_expansion.expand_slices(layouts.discover_scans(data), Data())
    assert plain.subject is not None
    joined = read(data, patients=table(), label="diagnosis").cohort
    assert dict(zip(joined.path.tolist(), joined.subject.tolist(), strict=True)) == dict(
        zip(plain.path.tolist(), plain.subject.tolist(), strict=True)
    )


def test_rows_without_scans_and_scans_without_rows_are_listed(export: Export) -> None:
    data, rows, table = export
    rows[2]["diagnosis"] = "N/A"
    (data / "README.txt").write_text("an export")
    intake = read(data, patients=table([*rows[:-1], {**rows[0], "PatientID": "99999"}]), label="diagnosis", series="T1")
    listed = dict(intake.quarantine)
    assert len(intake.cohort) == 6 * 3
    assert listed["EXAM007/S1/IM0000"] == "patients.csv has no row for it"
    assert listed["EXAM002/S1/IM0000"] == "patients.csv gives it no diagnosis"
    assert listed["patients.csv: 99999"] == "a row without scans (line 9)"
    assert "not an image" in listed["README.txt"]
    assert "7 of 8 ids have scans" in said(intake)


@pytest.mark.parametrize(
    "written", [lambda name: str(int(name)), lambda name: f"{int(name)}.0", lambda name: f"{name} "]
)
def test_ids_that_excel_has_shortened_are_found_and_it_is_said(export: Export, written: Callable[[str], str]) -> None:
    data, rows, table = export
    for row in rows:
        row["PatientID"] = written(row["PatientID"])
    intake = read(data, patients=table(), label="diagnosis", series="T1")
    assert len(intake.cohort) == 8 * 3
    assert ("by case, leading zeros" in said(intake)) == (not rows[0]["PatientID"].startswith("0"))


def test_a_table_of_examinations(export: Export) -> None:
    data, rows, table = export
    exams = [{"AccessionNumber": f"A{number:04d}", "diagnosis": row["diagnosis"]} for number, row in enumerate(rows)]
    joined = read(data, patients=table(exams), id="AccessionNumber", label="diagnosis", series="T1")
    assert len(joined.cohort) == 8 * 3
    assert joined.cohort.subject_source == "DICOM header, as a keyed hash"
    uids = [{"StudyInstanceUID": f"1.2.3.{number}", "dx": row["diagnosis"]} for number, row in enumerate(rows)]
    assert len(read(data, patients=table(uids), id="StudyInstanceUID", label="dx").cohort) == 8 * 6


def test_a_column_of_the_table_may_name_the_person(export: Export) -> None:
    data, rows, table = export
    for number, row in enumerate(rows):
        row["family"] = f"f{number // 4}"
    found = read(data, "family", patients=table(), label="diagnosis", series="T1").cohort
    assert sorted(set(found.subject.tolist())) == ["f0", "f1"]
    assert "family" not in found.groups


# --- what cannot be joined ---


def test_two_labels_of_one_person_are_refused_with_their_lines(export: Export) -> None:
    data, rows, table = export
    again = table([*rows, {**rows[1], "diagnosis": "Control"}])
    message = refusal(data, patients=again, label="diagnosis")
    assert "lines 3, 10 (AD, Control)" in message
    rows[1]["diagnosis"] = "Control"
    intake = read(data, patients=table([*rows, {**rows[1], "age": "99"}]), label="diagnosis", series="T1")
    assert set(intake.cohort.groups["age"][intake.cohort.path == "EXAM001/S1/IM0000"]) == {""}
    assert "1 id has several rows" in said(intake)


def test_ids_and_columns_that_are_not_there(export: Export) -> None:
    data, rows, table = export
    assert "no column 'diagnosi'" in refusal(data, patients=table(), label="diagnosi")
    assert "Did you mean 'PatientID'?" in refusal(data, patients=table(), id="PatientI", label="diagnosis")
    for row in rows:
        row["PatientID"] = f"X{row['PatientID']}X"
    message = refusal(data, patients=table(), label="diagnosis")
    assert "No scan has an id" in message
    assert "the PatientID of the headers" in message
    assert "00001," not in message.partition("patients.csv")[2].partition("looked for")[2]
    plain = [{"age": row["age"], "diagnosis": row["diagnosis"]} for row in rows]
    assert "Name it: --id COLUMN" in refusal(data, patients=table(plain), label="diagnosis")
    assert "no patient table" in refusal(data, patients="nowhere.csv", label="diagnosis")


@pytest.mark.parametrize("word", ["", "unknown", "#N/A"])
def test_rows_that_name_nobody(export: Export, word: str) -> None:
    data, rows, table = export
    rows[3]["PatientID"] = word
    assert "in 1 row (lines 5)" in refusal(data, patients=table(), label="diagnosis")


# --- series ---


@pytest.mark.parametrize(
    ("pattern", "scans"),
    [("T1", 3), ("t1|flair", 5), ("flair$", 2), (".", 5), ("localizer", 1), ("T1|localizer", 4), ("^T2", 2)],
)
def test_a_pattern_picks_series_and_leaves_out_localizers(export: Export, pattern: str, scans: int) -> None:
    data, _, table = export
    intake = read(data, patients=table(), label="diagnosis", series=pattern)
    assert len(intake.cohort) == 8 * scans
    assert len(intake.cohort) + len(intake.quarantine) == 8 * 6


def test_localizers_are_said_where_no_series_is_chosen(export: Export) -> None:
    data, _, table = export
    assert "8 of 48 files are localizers" in said(read(data, patients=table(), label="diagnosis"))


def test_a_pattern_that_picks_nothing_names_what_there_is_where_names_may_be_shown(export: Export) -> None:
    data, _, table = export
    assert "No series matches 'DWI'" in refusal(data, patients=table(), label="diagnosis", series="DWI")
    settings = Data(patients=str(table()), label="diagnosis", series="DWI")
    with pytest.raises(DataError, match=r"T1 MPRAGE sag \(24 files\), T2 FLAIR \(16 files\), localizer \(8 files\)"):
        gathering.gather_files(data, settings, clear=True)
    with pytest.raises(ValueError, match="no regular expression"):
        Data(series="(")


def test_files_without_a_header_are_picked_by_their_names(tmp_path: Path) -> None:
    for label in ("x", "y"):
        for kind in ("T1w", "FLAIR"):
            write_nifti(tmp_path / "data" / label / f"{label}_{kind}.nii.gz", np.ones((4, 4, 2), np.int16) * len(kind))
    assert set(read(tmp_path / "data", series="t1").cohort.path.tolist()) == {
        f"{label}/{label}_T1w.nii.gz#{index:03d}" for label in "xy" for index in range(2)
    }


# --- ids in folders, names, manifests ---


@pytest.mark.parametrize(
    "place", ["{id}/scan.png", "export/{id}/visit 1/scan.png", "{id}_T1.png", "sub-{id}/{id}.png", "all/T1_{id}.png"]
)
def test_ids_of_folders_and_names(scans: Scans, tmp_path: Path, place: str) -> None:
    names = [f"P{number:02d}" for number in range(6)]
    scans.add(*(place.format(id=name) for name in names), *(["x/y.png", "z/y.png"] if "/" in place else []))
    rows = [{"patient": name, "dx": "ab"[number % 2], "age": str(60 + number)} for number, name in enumerate(names)]
    intake = read(scans.root, patients=write_patients(tmp_path / "p.csv", rows), label="dx")
    assert intake.cohort.subject.tolist() == names
    assert intake.cohort.groups["age"].tolist() == [row["age"] for row in rows]
    assert [intake.cohort.classes[label] for label in intake.cohort.labels] == [row["dx"] for row in rows]


def test_labels_of_folders_and_persons_of_a_table(scans: Scans, tmp_path: Path) -> None:
    """`--subject patients.csv` without a column `path`."""
    names = [f"P{number:02d}" for number in range(6)]
    scans.add(*(f"{'ab'[number % 2]}/{name}_{scan}.png" for number, name in enumerate(names) for scan in range(2)))
    table = write_patients(tmp_path / "p.csv", [{"subject": name, "sex": "fm"[int(name[-1]) % 2]} for name in names])
    intake = read(scans.root, str(table))
    assert intake.cohort.classes == ("a", "b")
    assert sorted(set(intake.cohort.subject.tolist())) == names
    assert set(intake.cohort.groups) == {"sex"}
    assert "both patient tables" in refusal(scans.root, str(table), patients=table)


def test_a_manifest_of_paths_and_a_table_of_labels(scans: Scans, tmp_path: Path) -> None:
    scans.add("1.png", "2.png", "3.png")
    manifest = scans.manifest({"path": ["1.png", "2.png", "3.png"], "subject": ["7", "007b", "9"]})
    rows = [{"mrn": "7", "label": "x", "split": "train"}, {"mrn": "7B", "label": "y", "split": "test"}]
    rows += [{"mrn": "9", "label": "y", "split": "train"}]
    found = read(manifest, patients=write_patients(tmp_path / "p.csv", rows)).cohort
    assert [found.classes[label] for label in found.labels] == ["x", "y", "y"]
    assert found.subject.tolist() == ["7", "007b", "9"]
    assert found.given is not None
    assert found.given.tolist() == ["train", "test", "train"]


def test_a_bids_tree_without_labels_of_its_own(tmp_path: Path) -> None:
    for number in range(4):
        write_nifti(
            tmp_path / "bids" / f"sub-{number:02d}" / "anat" / f"sub-{number:02d}_T1w.nii.gz",
            np.ones((4, 4, 1)) * number,
        )
    rows = [{"participant_id": f"{number:02d}", "diagnosis": "ab"[number % 2]} for number in range(4)]
    found = read(tmp_path / "bids", patients=write_patients(tmp_path / "p.csv", rows), label="diagnosis").cohort
    assert found.subject.tolist() == [f"sub-{number:02d}" for number in range(4)]
    assert found.groups["modality"].tolist() == ["T1w"] * 4


@pytest.mark.parametrize("suffix", table_files.SUFFIXES)
def test_a_table_of_every_kind(export: Export, tmp_path: Path, suffix: str) -> None:
    data, rows, _ = export
    file = tmp_path / f"patients{suffix}"
    table_files.write_user_table({name: [row[name] for row in rows] for name in rows[0]}, file, file)
    assert len(read(data, patients=file, label="diagnosis", series="T1").cohort) == 8 * 3


def test_the_folder_that_names_persons_wins_over_numbered_series(tmp_path: Path) -> None:
    """Ids 1 to 6 are also numbers of series."""
    for person in range(1, 7):
        for series in (1, 2):
            write_dicom(
                tmp_path / "data" / f"{person}" / f"{series}" / "IM1", PIXELS * person + series, PatientID="anonymous"
            )
    rows = [{"id": str(person), "dx": "ab"[person % 2]} for person in range(1, 7)]
    found = read(tmp_path / "data", patients=write_patients(tmp_path / "p.csv", rows), label="dx").cohort
    assert found.subject.tolist() == [path[0] for path in found.path.tolist()]


def test_headers_that_disagree_with_the_folders_are_said(export: Export, tmp_path: Path) -> None:
    data, rows, table = export
    for number, row in enumerate(rows):
        (data / f"EXAM{number:03d}").rename(data / row["PatientID"])
    shutil.move(data / "00001" / "S1" / "IM0000", data / "00002" / "S1" / "moved")
    intake = read(data, patients=table(), label="diagnosis")
    assert "1 file" not in said(intake)  # the headers are asked first, and agree with the table
    for file in (data / "00003").rglob("IM*"):
        file.unlink()
    write_dicom(data / "00003" / "S1" / "x", PIXELS, PatientID="00004", StudyInstanceUID="1.2.3.3")
    intake = read(data, patients=table(), label="diagnosis")
    assert "The PatientID of the headers give" in said(intake)


@given(st.lists(st.text("aB01 ._-", min_size=1, max_size=5), min_size=1, max_size=6, unique=True))
def test_an_id_is_its_own_best_match(names: list[str]) -> None:
    assert match_ids(IdLocation("x", [(name,) for name in names], "header"), names).ids == names


def test_the_id_column_is_the_one_with_a_usual_name(tmp_path: Path) -> None:
    def column(*names: str) -> str:
        return PatientTable.read(write_patients(tmp_path / "p.csv", [dict.fromkeys(names, "1")])).id_column

    assert column("age", "Patient_ID") == "Patient_ID"
    assert column("id", "patient id", "age") == "patient id"
    assert column("MRN", "age") == "MRN"
