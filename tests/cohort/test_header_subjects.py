"""One person is one subject, however the headers of a hospital were filled in."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medical_files import write_dicom
from scanwise import cohort
from scanwise.auditing import CHECKS
from scanwise.cohort.header_subjects import HEADER
from scanwise.pipeline.stages import audit as audit_stage
from scanwise.recipe import Recipe
from tiny import Command, read_csv

RECIPE = Recipe.model_validate({"name": "a", "data": {"size": 16}})
PEOPLE, SLICES = 42, 4


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWISE_KEY", "a key of the tests")


def scan_of(person: int, number: int) -> np.ndarray:
    """A picture that is alike in all slices of a person."""
    own = np.random.default_rng([1, person]).normal(size=(24, 24))
    own = np.kron(own, np.ones((4, 4)))[:64, :64]
    return (2000 + 300 * own + 250 * np.random.default_rng([2, person, number]).normal(size=(64, 64))).astype(np.uint16)


def hospital(root: Path, people: int = PEOPLE, slices: int = SLICES, **tags: object) -> Path:
    """Two class folders of DICOM; a value of `tags` may be a function of person and slice."""
    for person in range(people):
        for number in range(slices):
            said = {name: tag(person, number) if callable(tag) else tag for name, tag in tags.items()}
            said = {"PatientID": f"P{person}", "StudyInstanceUID": f"1.2.{person}", **said}
            file = root / ("tumor" if person % 2 else "normal") / f"{person:02d}-{number}"
            write_dicom(file, scan_of(person, number), **said)
    return root


def people_of(read: cohort.LoadedCohort) -> list[set[str]]:
    """The subjects of each true person."""
    true = [path.rpartition("/")[2].partition("-")[0] for path in read.cohort.path.tolist()]
    return [
        {s for t, s in zip(true, read.cohort.subject.tolist(), strict=True) if t == who} for who in sorted(set(true))
    ]


ISSUED_SOMETIMES = {"IssuerOfPatientID": lambda person, number: "HOSP" if number % 2 else ""}


@pytest.mark.parametrize(
    "tags",
    [
        ISSUED_SOMETIMES,
        {"IssuerOfPatientID": lambda person, number: f"ISSUER{number % 3}"},
        {"PatientID": lambda person, number: f"P{person}" if number % 2 else f"P{person:03d}"},
        {"PatientID": lambda person, number: f"ANON-{person}-{number}"},
        {"PatientID": lambda person, number: f"P{person}" if number else ""},
        {**ISSUED_SOMETIMES, "StudyInstanceUID": lambda person, number: f"1.2.{person}.{number}"},
        {**ISSUED_SOMETIMES, "StudyInstanceUID": ""},
    ],
    ids=["issuer in some", "issuers", "two spellings", "an id a file", "no id in one", "a study a file", "no study"],
)
def test_a_study_is_one_person_and_a_missing_issuer_is_no_other(tmp_path: Path, tags: dict[str, object]) -> None:
    read = cohort.read_cohort(str(hospital(tmp_path / "data", 8, 4, **tags)), RECIPE)
    assert read.cohort.subjects_known
    assert read.cohort.subject_source == HEADER
    assert all(len(names) == 1 for names in people_of(read))
    assert len(set(read.cohort.subject.tolist())) == 8
    assert "P3" not in " ".join(finding.message for finding in read.findings)


def test_what_was_joined_is_said_and_what_was_not_is_not(tmp_path: Path) -> None:
    read = cohort.read_cohort(str(hospital(tmp_path / "a", 8, 4, **ISSUED_SOMETIMES)), RECIPE)
    assert any("16 subjects in the data are 8" in finding.message for finding in read.findings)
    read = cohort.read_cohort(str(hospital(tmp_path / "b", 8, 4)), RECIPE)
    assert not any("in the data are" in finding.message for finding in read.findings)


def test_one_number_of_two_hospitals_is_two_people(tmp_path: Path) -> None:
    tags = {
        "PatientID": lambda person, number: f"P{person // 2}",
        "IssuerOfPatientID": lambda person, number: f"HOSP{person % 2}",
    }
    read = cohort.read_cohort(str(hospital(tmp_path / "data", 8, 2, **tags)), RECIPE)
    assert len(set(read.cohort.subject.tolist())) == 8


def test_one_study_number_for_everybody_is_no_study(tmp_path: Path) -> None:
    read = cohort.read_cohort(str(hospital(tmp_path / "data", 8, 2, StudyInstanceUID="1.2.3")), RECIPE)
    assert len(set(read.cohort.subject.tolist())) == 8
    assert any("All scans have one StudyInstanceUID" in finding.message for finding in read.findings)


def test_ids_that_hardly_differ_are_counted_without_their_names(tmp_path: Path) -> None:
    tags = {
        "PatientID": lambda person, number: f"P{person}" if number % 2 else f"p{person:03d}",
        "StudyInstanceUID": lambda person, number: f"1.2.{person}.{number}",
    }
    read = cohort.read_cohort(str(hospital(tmp_path / "data", 4, 2, **tags)), RECIPE)
    (remark,) = [finding.message for finding in read.findings if "leading zeros" in finding.message]
    assert remark.startswith("8 PatientIDs")


def test_where_nobody_is_named_a_study_still_keeps_its_scans_together(tmp_path: Path) -> None:
    read = cohort.read_cohort(str(hospital(tmp_path / "data", 6, 4, PatientID="ANONYMOUS")), RECIPE)
    assert not read.cohort.subjects_known
    assert all(len(names) == 1 for names in people_of(read))
    assert len(set(read.cohort.subject.tolist())) == 6


def test_a_study_comes_before_what_the_user_says_and_it_is_said(tmp_path: Path) -> None:
    data = hospital(tmp_path / "data", 8, 4)
    read = cohort.read_cohort(str(data), RECIPE, r"([^/]+)$")  # a subject a file
    assert len(set(read.cohort.subject.tolist())) == 8
    assert any("32 subjects in the data are 8" in finding.message for finding in read.findings)


@pytest.mark.extended
def test_fix_parts_no_study_and_no_person(tmp_path: Path) -> None:
    """42 people, each under two ids: by the issuer in every second slice."""
    data = hospital(tmp_path / "data", **ISSUED_SOMETIMES)
    result = audit_stage.audit_scans(data, checks=[name for name in CHECKS if name != "copies"])  # it takes the longest
    assert result.exit_code == 0
    assert any("84 subjects in the data are 42" in entry.finding.message for entry in result.checked)
    audit_stage.write_fixed_manifest(result, tmp_path / "safe.csv")
    sides: dict[str, set[str]] = {}
    for row in read_csv(tmp_path / "safe.csv"):
        sides.setdefault(row["path"].rpartition("/")[2].partition("-")[0], set()).add(row["split"])
    assert len(sides) == PEOPLE
    assert all(len(side) == 1 for side in sides.values())


@pytest.mark.extended
def test_people_that_the_pixels_show_are_not_parted_where_headers_do_not_know_them(
    scanwise: Command, tmp_path: Path
) -> None:
    tags = {
        "PatientID": lambda person, number: f"A{person}-{number // 2}",
        "StudyInstanceUID": lambda person, number: f"1.2.{person}.{number // 2}",
    }
    data = hospital(tmp_path / "data", **tags)
    result = audit_stage.audit_scans(data)
    assert result.evidence.recovered is not None
    assert result.evidence.recovered.is_certain
    unsure = replace(result.evidence, recovered=replace(result.evidence.recovered, confidence=0.97), copies=None)
    words = audit_stage.write_fixed_manifest(replace(result, evidence=unsure), tmp_path / "unsure.csv")
    assert re.search(r"not joined: \d+ subjects by the images \(confidence 0.97, .* stand on several sides", words)
    said = scanwise("audit", data, "--out", tmp_path / "out", "--fix", tmp_path / "safe.csv")
    assert said.code == 1
    assert "42 people by the images have several of the given names each" in " ".join(said.out.split())
    assert "42 subjects joined to others, who are the same person by the images" in " ".join(said.out.split())
    sides: dict[str, set[str]] = {}
    for row in read_csv(tmp_path / "safe.csv"):
        sides.setdefault(row["path"].rpartition("/")[2].partition("-")[0], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
