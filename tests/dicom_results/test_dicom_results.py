"""Results as DICOM objects: in the study of the scans, decision first, once, and valid in the eyes of other programs."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="needs scanwise[dicom]")

import pydicom
from pydicom.data import get_testdata_file

import scanwise as scanwise_api
from medical_files import NAMES, write_dicom
from scanwise import bundle
from scanwise.cohort.decoding.pixels import hush
from scanwise.dicom_results import FHIR, REPORT, ResultWriter, StudyResult
from scanwise.dicom_results.captures import HEIGHT, WIDTH, draw_scan_page, draw_summary
from scanwise.dicom_results.codes import read_codes
from scanwise.dicom_results.fhir import check_fhir
from scanwise.dicom_results.sources import group_by_study
from scanwise.dicom_results.statements import Statement
from scanwise.dicom_results.structured_report import ModelIdentity
from scanwise.errors import DataError
from tiny import Command, picture
from tiny_bundles import write_tiny_bundle

PLACED: dict[str, Any] = {
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "PixelSpacing": [1, 1],
    "FrameOfReferenceUID": "1.2.3.4",
}
MULTI_FRAME, SECONDARY = "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.7"
DIGEST = "ab" * 32


def gray(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, shape).astype(np.uint16)


def write_series(folder: Path, count: int = 3, **tags: Any) -> list[Path]:
    values = PLACED | tags
    return [
        write_dicom(
            folder / f"{row}.dcm", gray(row, 40, 40), InstanceNumber=row + 1, ImagePositionPatient=[0, 0, row], **values
        )
        for row in range(count)
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    return bundle.load(write_tiny_bundle(tmp_path_factory.mktemp("model") / "bundle", "demo"))


def write_results(
    model: bundle.Bundle, scans: list[Path], out: Path, *, digest: str = DIGEST, person: str = "p", pages: int = 1
) -> tuple[list[StudyResult], list[tuple[str, str]]]:
    answer = model.predict(scans, [person] * len(scans))
    return ResultWriter.of(model, digest, pages=pages).write(answer, out)


@pytest.fixture(scope="module")
def kinds(model: bundle.Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, StudyResult]:
    """A result for each kind of input."""
    folder = tmp_path_factory.mktemp("scans")
    hush("pydicom")  # a header as some are: with values that no file may have
    inputs = {
        "CT": [Path(str(get_testdata_file("CT_small.dcm")))],
        "MR": write_series(folder / "mr"),
        "multi-frame": [write_dicom(folder / "frames.dcm", gray(9, 3, 40, 40), SOPClassUID=MULTI_FRAME)],
        "RGB": [
            write_dicom(
                folder / "rgb.dcm",
                gray(8, 40, 40, 3).astype(np.uint8),
                SOPClassUID=SECONDARY,
                Modality="OT",
                PatientName="Müller^Jürgen",
                PatientSex="männlich",
                SpecificCharacterSet="ISO_IR 100",
                PatientBirthDate="12/24/1931",
                AccessionNumber="A" * 20,
            )
        ],
    }
    results = {kind: write_results(model, scans, folder / f"{kind}-results")[0] for kind, scans in inputs.items()}
    return {kind: found[0] for kind, found in results.items()}


KINDS = ("CT", "MR", "multi-frame", "RGB")


def groups_of(report: pydicom.Dataset) -> list[pydicom.Dataset]:
    (measured,) = [item for item in report.ContentSequence if item.ValueType == "CONTAINER"]
    return list(measured.ContentSequence)


def values_of(group: pydicom.Dataset, name: str) -> list[Any]:
    found = []
    for item in group.ContentSequence:
        if item.ConceptNameCodeSequence[0].CodeMeaning == name:
            if item.ValueType == "CODE":
                found.append(item.ConceptCodeSequence[0].CodeMeaning)
            elif item.ValueType == "NUM":
                found.append(float(item.MeasuredValueSequence[0].NumericValue))
            elif item.ValueType == "TEXT":
                found.append(item.TextValue)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_objects_are_valid_to_dciodvfy(kind: str, kinds: dict[str, StudyResult]) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (dicom3tools)")
    for file in kinds[kind].objects:
        done = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False)
        told = done.stdout + done.stderr
        assert re.search(r"^(ComprehensiveSR|SCImage)$", told, re.M), told
        assert not [line for line in told.splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("kind", KINDS)
def test_reports_are_clean_to_dsrdump(kind: str, kinds: dict[str, StudyResult]) -> None:
    if shutil.which("dsrdump") is None:
        pytest.skip("dsrdump is not installed (dcmtk)")
    done = subprocess.run(["dsrdump", kinds[kind].objects[0]], capture_output=True, check=False)
    assert done.returncode == 0
    lines = (done.stdout + done.stderr).decode(errors="replace").splitlines()
    unclean = [
        line for line in lines if re.match(r"[EWF]: ", line) and "Specific Character Set: ISO_IR 192" not in line
    ]
    assert not unclean  # its check of values knows no UTF-8, and says so


@pytest.mark.parametrize("kind", KINDS)
def test_report_says_the_decision_first_and_stays_preliminary(kind: str, kinds: dict[str, StudyResult]) -> None:
    report = pydicom.dcmread(kinds[kind].objects[0])
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    assert report.ContentQualification == "RESEARCH"
    assert report.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99SCANWISE"
    groups = groups_of(report)
    assert values_of(groups[0], "Tracking Identifier")[0].startswith("person, ")
    assert len(groups) == 1 + {"CT": 1, "MR": 3, "multi-frame": 3, "RGB": 1}[kind]
    for group in groups:
        said = [
            item.ConceptNameCodeSequence[0].CodeMeaning
            for item in group.ContentSequence
            if item.RelationshipType == "CONTAINS"
        ]
        assert said[0] == "Decision of the classifier"
        assert values_of(group, "Algorithm Parameters") == [f"model sha256:{DIGEST}"]
        assert values_of(group, "Coverage guarantee")
        assert sum(
            values_of(group, f"Probability of {name}")[0] for name in ("none", "mild", "severe")
        ) == pytest.approx(1)


def test_report_says_what_the_answer_says(model: bundle.Bundle, tmp_path: Path) -> None:
    scans = write_series(tmp_path / "scans")
    answer = model.predict(scans, ["p"] * 3)
    (result,), _ = ResultWriter.of(model, DIGEST).write(answer, tmp_path / "out")
    person, *groups = groups_of(pydicom.dcmread(result.objects[0]))
    assert answer.subjects is not None
    for group, predictions, row in [
        (person, answer.subjects, 0),
        *((group, answer.scans, row) for row, group in enumerate(groups)),
    ]:
        assert predictions.sets is not None
        assert predictions.ood is not None
        deferred = predictions.deferred is not None and bool(predictions.deferred[row])
        review = bool(predictions.abstain[row]) or deferred
        assert values_of(group, "Decision of the classifier") == ["Review by a person" if review else "Answer given"]
        assert bool(values_of(group, "Reasons for review")) == review
        names = np.array(model.classes)[predictions.sets[row]].tolist()
        assert values_of(group, "Class in the prediction set") == (names or ["No class"])
        assert values_of(group, "Out-of-distribution score")[0] == pytest.approx(predictions.ood[row], rel=1e-5)
        for name, p in zip(model.classes, predictions.probs[row], strict=True):
            assert values_of(group, f"Probability of {name}")[0] == pytest.approx(p, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_objects_stand_in_the_study_of_the_scans(kind: str, kinds: dict[str, StudyResult]) -> None:
    objects = [pydicom.dcmread(file) for file in kinds[kind].objects]
    source = pydicom.dcmread(str(get_testdata_file("CT_small.dcm"))) if kind == "CT" else None
    study, person = (
        (source.StudyInstanceUID, source.PatientID) if source else (NAMES["StudyInstanceUID"], NAMES["PatientID"])
    )
    assert {(entry.StudyInstanceUID, entry.PatientID) for entry in objects} == {(study, person)}
    assert len({entry.SOPInstanceUID for entry in objects}) == len(objects) == 3
    if kind == "RGB":
        assert {str(entry.PatientName) for entry in objects} == {"Müller^Jürgen"}
        assert {(entry.PatientSex, entry.PatientBirthDate, entry.AccessionNumber) for entry in objects} == {
            ("", "", "")
        }
    if kind == "multi-frame":
        images = [item for item in groups_of(objects[0])[2].ContentSequence if item.ValueType == "IMAGE"]
        assert [item.ReferencedSOPSequence[0].ReferencedFrameNumber for item in images] == [2]
    for entry in objects[1:]:
        assert (entry.Rows, entry.Columns, entry.SamplesPerPixel) == (HEIGHT, WIDTH, 3)
        assert entry.pixel_array.std() > 1
    assert all(file.stat().st_mode & 0o077 == 0 for file in kinds[kind].objects)


@pytest.mark.extended
def test_same_scans_in_any_order_make_no_second_result(model: bundle.Bundle, tmp_path: Path) -> None:
    scans = write_series(tmp_path / "scans")
    (first,), _ = write_results(model, scans, tmp_path / "out")
    before = {file: file.read_bytes() for file in first.folder.iterdir()}
    (again,), _ = write_results(model, scans[::-1], tmp_path / "out")
    assert again == first
    assert {file: file.read_bytes() for file in again.folder.iterdir()} == before
    elsewhere = [Path(shutil.copy(scan, tmp_path / f"copy-{scan.name}")) for scan in scans]
    (moved,), _ = write_results(model, elsewhere, tmp_path / "other")
    uids = [[pydicom.dcmread(file).SOPInstanceUID for file in result.objects] for result in (first, moved)]
    assert uids[0] == uids[1]
    (fewer,), _ = write_results(model, scans[:2], tmp_path / "out")
    (another,), _ = write_results(model, scans, tmp_path / "out", digest="cd" * 32)
    assert len({first.uid, fewer.uid, another.uid}) == 3


def contradictions(folder: Path) -> dict[str, list[Path]]:
    size = write_series(folder / "size")
    write_dicom(size[1], gray(1, 20, 20), InstanceNumber=2, **PLACED)
    turned = write_series(folder / "turned")
    write_dicom(turned[1], gray(1, 40, 40), **(PLACED | {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}))
    frame = write_series(folder / "frame")
    write_dicom(frame[1], gray(1, 40, 40), **(PLACED | {"FrameOfReferenceUID": "1.2.5"}))
    persons = write_series(folder / "persons")
    write_dicom(persons[1], gray(1, 40, 40), PatientID="ANOTHER-1", **PLACED)
    twice = [
        *write_series(folder / "twice", 1, SOPInstanceUID="1.2.7"),
        *write_series(folder / "twin", 1, SOPInstanceUID="1.2.7"),
    ]
    return {
        "geometries": size,
        "geometries ": turned,
        "geometries  ": frame,
        "PatientIDs": persons,
        "one SOPInstanceUID": twice,
    }


def test_contradicting_headers_get_no_result_and_no_name_is_quoted(tmp_path: Path) -> None:
    for word, files in contradictions(tmp_path).items():
        studies, refused = group_by_study([str(file) for file in files])
        assert not studies
        assert word.strip() in refused[0][1]
        assert not [name for name in NAMES.values() if name in refused[0][1]]


def test_radiographs_of_two_sizes_are_no_contradiction(tmp_path: Path) -> None:
    files = [write_dicom(tmp_path / f"{side}.dcm", gray(side, side, side), Modality="CR") for side in (30, 40)]
    studies, refused = group_by_study([str(file) for file in files])
    assert (len(studies), refused) == (1, [])


@pytest.mark.parametrize("why", ["class", "removed"])
def test_header_that_cannot_be_carried_costs_no_other_study_its_result(
    why: str, model: bundle.Bundle, tmp_path: Path
) -> None:
    odd = {"class": {"SOPClassUID": "1.2.3.99"}, "removed": {"PatientIdentityRemoved": "YES"}}[why]
    scans = write_series(tmp_path / "scans", 1)
    own = write_series(tmp_path / "odd", 1, StudyInstanceUID="1.2.9", SeriesInstanceUID="1.2.9.1", **odd)
    results, refused = write_results(model, [*scans, *own], tmp_path / "out")
    if why == "class":
        assert len(results) == 1
        ((name, reason),) = refused
        assert name == str(own[0])
        assert re.fullmatch(r"no result can be made with its header \(KeyError, [\w.-]+/\w+\.py:\d+\)", reason)
        with pytest.raises(DataError, match="KeyError"):
            write_results(model, own, tmp_path / "alone")
    else:
        assert (len(results), refused) == (2, [])
        removed = [
            entry
            for result in results
            for file in result.objects
            if "PatientIdentityRemoved" in (entry := pydicom.dcmread(file))
        ]
        assert {entry.DeidentificationMethod for entry in removed} == {"Not said in the headers of the scans"}


def item(**values: Any) -> pydicom.Dataset:
    built = pydicom.Dataset()
    for name, value in values.items():
        setattr(built, name, value)
    return built


ODD: dict[str, dict[str, Any]] = {
    "dates": {"PatientBirthDate": "19310231", "StudyDate": "00000000", "StudyTime": "256199"},
    "ranges": {"PatientBirthDate": "20200101-20210101", "StudyDate": "2024", "StudyTime": "10-11"},
    "lengths": {
        "PatientName": "N" * 70,
        "PatientID": "I" * 90,
        "AccessionNumber": "x" * 17,
        "StudyDescription": "d" * 80,
    },
    "several": {"PatientID": "a\\b", "AccessionNumber": "a\\b", "StudyID": "1\\2"},
    "control": {"PatientName": "Evil\x1b[31m^x", "PatientID": "a\nb", "PatientComments": "x\x1by"},
    "groups": {"PatientName": "a=b=c=d", "ReferringPhysicianName": "x" * 100, "PatientAge": "abc"},
    "terms": {"PatientSex": "U", "SmokingStatus": "SOMETIMES", "PregnancyStatus": 9, "PatientSexNeutered": "MAYBE"},
    "sequences": {"ReferencedStudySequence": [item()], "ProcedureCodeSequence": [item(CodeValue="1")]},
    "trial": {"ClinicalTrialSponsorName": "s" * 80, "ClinicalTrialProtocolID": "1", "ClinicalTrialSubjectID": "2"},
}
KEPT = {
    "PatientIdentityRemoved": "YES",
    "DeidentificationMethodCodeSequence": [item(CodeValue="113100", CodingSchemeDesignator="DCM", CodeMeaning="Basic")],
    "PatientAge": "092Y", "StudyTime": "101112.5", "PatientSex": "F", "AccessionNumber": "é" * 8, "SpecificCharacterSet": "ISO_IR 192",
    "ClinicalTrialSponsorName": "s", "ClinicalTrialProtocolID": "1", "ClinicalTrialSubjectID": "2",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("why", ODD)
def test_values_that_no_file_may_have_cost_nobody_a_result(why: str, model: bundle.Bundle, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (dicom3tools)")
    ((result,), refused) = write_results(model, write_series(tmp_path / "scans", 1, **ODD[why]), tmp_path / "out")
    assert not refused
    for file in result.objects:
        done = subprocess.run(["dciodvfy", file], capture_output=True, text=True, errors="replace", check=False)
        assert not [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        assert not [name for name, value in ODD[why].items() if pydicom.dcmread(file).get(name) == value]


def test_values_that_a_file_may_have_are_kept(model: bundle.Bundle, tmp_path: Path) -> None:
    (result,), _ = write_results(model, write_series(tmp_path / "scans", 1, **KEPT), tmp_path / "out")
    for file in result.objects:
        built = pydicom.dcmread(file)
        assert {name: built.get(name) for name in KEPT} == KEPT


def test_result_says_which_share_of_the_scans_could_not_be_read(model: bundle.Bundle, tmp_path: Path) -> None:
    scans = write_series(tmp_path / "scans")
    damaged = pydicom.dcmread(scans[1])
    damaged.PixelData = damaged.PixelData[:100]
    damaged.save_as(scans[1])
    (result,), _ = write_results(model, scans, tmp_path / "out")
    person, *each = groups_of(pydicom.dcmread(result.objects[0]))
    assert "1 of 3 scans could not be read" in values_of(person, "Reasons for review")[0]
    assert "1 of 3 scans could not be read" in result.verdict
    assert len(each) == 2
    assert not any("could not be read" in "".join(values_of(group, "Reasons for review")) for group in each)
    (whole,), _ = write_results(model, [scans[0], scans[2]], tmp_path / "out")
    assert (whole.uid != result.uid, "could not" in whole.verdict) == (True, False)
    (beside,), _ = write_results(
        model, [scans[0], scans[2], result.objects[0]], tmp_path / "out"
    )  # a report is no scan
    assert beside.uid == whole.uid


def test_header_without_identifiers_is_said(model: bundle.Bundle, tmp_path: Path) -> None:
    hush("pydicom")
    bad = write_dicom(tmp_path / "a.dcm", gray(1, 40, 40), StudyInstanceUID="", SeriesInstanceUID="../x")
    with pytest.raises(DataError, match="no valid StudyInstanceUID, SeriesInstanceUID"):
        write_results(model, [bad], tmp_path / "out")
    assert not (tmp_path / "out").exists()


CODES = """
scheme: {designator: 99OURS, uid: 1.2.3, name: Ours, responsible: Us}
procedure: {code: "77477000", scheme: SCT, meaning: Computed tomography}
classes:
  mild: {code: A1, scheme: 99OURS, meaning: Mild form}
"""


def test_codes_of_a_terminology_are_used(model: bundle.Bundle, tmp_path: Path) -> None:
    (tmp_path / "codes.yaml").write_text(CODES, encoding="utf-8")
    writer = ResultWriter.of(model, DIGEST, read_codes(tmp_path / "codes.yaml"))
    assert writer.book.classes["mild"].code == "A1"
    assert writer.book.classes["none"].scheme == "99SCANWISE"
    (result,), _ = writer.write(model.predict(write_series(tmp_path / "s", 1), ["p"]), tmp_path / "out")
    report = pydicom.dcmread(result.objects[0])
    assert [entry.CodingSchemeDesignator for entry in report.CodingSchemeIdentificationSequence] == [
        "99SCANWISE",
        "99OURS",
    ]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("classes: {milt: {code: a, scheme: SCT, meaning: b}}", "Did you mean 'mild'"),
        ("classes: {mild: {code: a, scheme: 99THEIRS, meaning: b}}", "describe it under `scheme`"),
        ("classes: {mild: {code: a, meaning: b}}", "classes.mild.scheme"),
        ("scheme: {designator: 99OURS, uid: 1.02, name: a, responsible: b}", "scheme.uid"),
        ("clases: {}", "clases"),
        ("classes: [", "cannot be read"),
    ],
)
def test_codes_with_a_mistake_are_refused(text: str, word: str, model: bundle.Bundle, tmp_path: Path) -> None:
    (tmp_path / "codes.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(word)):
        ResultWriter.of(model, DIGEST, read_codes(tmp_path / "codes.yaml"))


def test_fhir_has_a_report_and_an_observation_a_statement(kinds: dict[str, StudyResult]) -> None:
    collection = json.loads((kinds["MR"].folder / FHIR).read_text(encoding="utf-8"))
    check_fhir(collection)
    report, *observations = [entry["resource"] for entry in collection["entry"]]
    assert (report["resourceType"], report["status"], len(report["result"])) == ("DiagnosticReport", "preliminary", 4)
    assert len(observations) == 4
    for observation in observations:
        assert observation["component"][0]["code"]["text"] == "Decision of the classifier"
        assert observation["subject"]["identifier"]["value"] == NAMES["PatientID"]


def broken(collection: Any, path: str, value: Any) -> Any:
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    inner = collection
    for step in steps:
        inner = inner[step]
    inner[last] = value
    return collection


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("type", "collections"),
        ("entry.0.resource.status", "Preliminary"),
        ("entry.1.resource.status", "partial"),
        ("entry.1.resource.category.0.coding.0.code", "image"),
        ("entry.0.resource.issued", "2026-11-29"),
        ("entry.0.resource.result.0.reference", "urn:uuid:nothing"),
        ("entry.1.fullUrl", "urn:uuid:1"),
        ("entry.1.resource.component.0.code", {}),
        ("entry.1.resource.component.0.valueString", "two values"),
        ("entry.1.resource.resourceType", "Observations"),
    ],
)
def test_fhir_that_breaks_a_value_set_is_refused(path: str, value: Any, kinds: dict[str, StudyResult]) -> None:
    collection = json.loads((kinds["MR"].folder / FHIR).read_text(encoding="utf-8"))
    with pytest.raises(DataError, match="is not valid"):
        check_fhir(broken(collection, path, value))


def test_pages_keep_long_texts_on_the_sheet() -> None:
    long = Statement(
        about="person, 40 scans pooled", row=0, reasons=("W" * 90, "many words " * 60), predicted="W" * 80,
        probs={"W" * 80: 0.5, "b": 0.5}, prediction_set=None, novelty=1e9, unlike_training=True, guarantee="none " * 200,
    )  # fmt: skip
    model = ModelIdentity("W" * 200, DIGEST)
    for page in (draw_summary(long, [long] * 40, model), draw_scan_page(long, None, model)):
        assert page.shape == (HEIGHT, WIDTH, 3)
        assert (page[:, -20:] == page[0, 0]).all()
        assert (page[-20:] == page[0, 0]).all()


def test_model_without_a_guarantee_leaves_all_to_a_person(model: bundle.Bundle, tmp_path: Path) -> None:
    from dataclasses import replace

    bare = {unit: replace(predictor, sets=None) for unit, predictor in model.predictors.items()}
    (result,), _ = write_results(replace(model, predictors=bare), write_series(tmp_path / "s", 1), tmp_path / "out")
    assert "no coverage guarantee" in result.verdict
    group = groups_of(pydicom.dcmread(result.objects[0]))[0]
    assert values_of(group, "Decision of the classifier") == ["Review by a person"]
    assert values_of(group, "Class in the prediction set") == ["No prediction set"]


def picture_file(file: Path) -> Path:
    file.parent.mkdir()
    picture(1, 1).save(file)
    return file


def test_command_writes_results_beside_its_answers(scanwise: Command, tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle", "demo")
    write_series(tmp_path / "scans")
    write_series(tmp_path / "scans" / "second", 2, StudyInstanceUID="1.2.9", PatientID="OTHER-2")
    done = scanwise(
        "predict", str(folder), str(tmp_path / "scans"), "--dicom-out", str(tmp_path / "out"), "--format", "json"
    )
    assert done.code == 0, done.err
    assert len(json.loads(done.out)["scans"]) == 5
    assert len(list((tmp_path / "out").glob(f"*/{REPORT}"))) == 2
    (tmp_path / "scans" / "list.csv").write_text("path\n0.dcm\n1.dcm\n", encoding="utf-8")
    listed = scanwise("predict", folder, "--manifest", tmp_path / "scans" / "list.csv", "--dicom-out", tmp_path / "l")
    assert (listed.code, len(list((tmp_path / "l").glob(f"*/{REPORT}")))) == (0, 1), listed.err
    refused = scanwise("predict", str(folder), str(tmp_path / "scans"), "--codes", "x.yaml")
    assert (refused.code, "--dicom-out" in refused.err) == (2, True)
    file = scanwise("predict", folder, tmp_path / "scans", "--dicom-out", folder / "bundle.json")
    assert (file.code, file.out, "is a file" in file.refusal) == (2, "", True)
    pictures = [picture_file(tmp_path / "pictures" / "a.png")]
    nothing = scanwise("predict", folder, *pictures, "--dicom-out", tmp_path / "none", "--format", "json")
    assert (nothing.code, "not DICOM" in nothing.err) == (2, True)
    assert len(json.loads(nothing.out)["scans"]) == 1  # the answer is not lost
    hidden = scanwise(
        "predict", str(folder), str(tmp_path / "scans"), "--dicom-out", str(tmp_path / "o"), "--pseudonymise"
    )
    assert (hidden.code, "--pseudonymise" in hidden.err) == (2, True)


@pytest.mark.extended
def test_python_writes_results_of_files_and_datasets(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle", "demo")
    scans = write_series(tmp_path / "scans", 2)
    told = scanwise_api.predict(folder, scans, dicom_out=tmp_path / "out")
    (result,) = told.dicom
    assert (result / REPORT).is_file()
    again = scanwise_api.predict(folder, [pydicom.dcmread(scan) for scan in scans], dicom_out=tmp_path / "out")
    assert again.dicom == told.dicom
    mixed = scanwise_api.predict(folder, [scans[0], gray(1, 40, 40).astype(np.uint8)], dicom_out=tmp_path / "mixed")
    assert len(mixed.dicom) == 1
    assert mixed.remarks[-1] == "No DICOM result for scan-1.png: not DICOM."
    assert mixed.scans["path"].tolist() == [str(scans[0]), "scan-1.png"]
    with pytest.raises(DataError, match="DICOM files alone"):
        scanwise_api.predict(folder, gray(1, 40, 40).astype(np.uint8), dicom_out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(DataError, match="dicom_out"):
        scanwise_api.predict(folder, scans, parametric_map=True)
