"""Volumes and DICOM are predicted by the same names, and from the same pixels, as they are trained on."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from medical_files import NAMES, write_dicom, write_nifti
from scanwise.bundle import load as load_bundle
from scanwise.errors import DataError
from tiny import Command, Whole

VOLUME = np.random.default_rng(0).integers(0, 1000, (20, 24, 5)).astype(np.int16)
FRAMES = np.random.default_rng(1).integers(0, 4096, (3, 20, 16)).astype(np.uint16)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A volume of five slices, DICOM of three frames and of one, and junk."""
    monkeypatch.setenv("SCANWISE_KEY", "a key")
    write_nifti(tmp_path / "in" / "a.nii.gz", VOLUME)
    write_dicom(tmp_path / "in" / "many", FRAMES)
    write_dicom(tmp_path / "in" / "one", FRAMES[0], PatientID="another")
    (tmp_path / "in" / "junk").write_text("x")
    return tmp_path / "in"


def names(folder: Path) -> list[str]:
    slices = [f"{folder}/a.nii.gz#{index:03d}" for index in range(5)]
    return [*slices, *(f"{folder}/many#{index:03d}" for index in range(3)), f"{folder}/one"]


def test_a_file_answers_for_each_of_its_slices(whole: Whole, files: Path) -> None:
    loaded = load_bundle(whole.run.path)
    answer = loaded.predict([files / "a.nii.gz", files / "junk", files / "many", files / "one"])
    assert answer.scans.scans.tolist() == names(files)
    assert [path for path, _ in answer.quarantine] == [str(files / "junk")]
    for row, name in enumerate(names(files)):
        alone = loaded.predict(name).scans
        assert alone.scans.tolist() == [name]
        np.testing.assert_allclose(alone.probs[0], answer.scans.probs[row], atol=1e-6)
        assert (alone.sets is None) == (answer.scans.sets is None)
        if alone.sets is not None and answer.scans.sets is not None:
            np.testing.assert_array_equal(alone.sets[0], answer.scans.sets[row])


def test_subjects_groups_and_names_go_with_the_slices(whole: Whole, files: Path) -> None:
    loaded = load_bundle(whole.run.path)
    answer = loaded.predict(
        [files / "a.nii.gz", files / "one"],
        ["p", "q"],
        {"site": np.array(["north", "south"])},
        names=np.array(["volume", "picture"]),
    )
    assert answer.scans.scans.tolist() == [*(f"volume#{index:03d}" for index in range(5)), "picture"]
    assert answer.scans.subjects.tolist() == ["p"] * 5 + ["q"]
    assert answer.scans.groups["site"].tolist() == ["north"] * 5 + ["south"]
    assert answer.subjects is not None
    assert answer.subjects.scan_counts.tolist() == [5, 1]


def test_from_the_command_line(whole: Whole, files: Path, scanwise: Command) -> None:
    said = scanwise("predict", whole.run.path, files, "--format", "csv", "--device", "cpu")
    assert said.code == 0
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [row["path"] for row in rows] == names(files)
    assert "not used" in said.err
    assert "junk" in said.err


def test_a_manifest_gives_back_its_paths_as_they_were_given(whole: Whole, files: Path, scanwise: Command) -> None:
    folder = files / "deep"
    folder.mkdir()
    scan = write_dicom(folder / "two", FRAMES[0], PatientID="x")
    given = [str(files / "one"), "./deep/two", "deep/../many", str(files / "a.nii.gz")]
    table = files / "scans.csv"
    table.write_text("path\n" + "\n".join(given) + "\n")
    who = files / "who.csv"
    who.write_text("path,subject\n" + "\n".join(f"{path},p" for path in given) + "\n")
    said = scanwise(
        "predict", whole.run.path, "--manifest", table, "--subject", who, "--format", "csv", "--device", "cpu"
    )
    rows = list(csv.DictReader(io.StringIO(said.out)))
    slices = [
        *(f"deep/../many#{index:03d}" for index in range(3)),
        *(f"{files}/a.nii.gz#{index:03d}" for index in range(5)),
    ]
    assert [row["path"] for row in rows] == [given[0], given[1], *slices]
    assert {row["subject"] for row in rows} == {"p"}
    table.write_text(f"path\n{scan}\n")
    alone = scanwise("predict", whole.run.path, "--manifest", table, "--format", "csv", "--device", "cpu")
    assert next(csv.DictReader(io.StringIO(alone.out)))["path"] == str(scan)


def test_rows_of_the_table_can_be_told_apart(whole: Whole, files: Path, scanwise: Command) -> None:
    ends = "with-a-long-name-that-is-all-the-same-for-everybody"
    for name in ("p001", "p002"):
        write_dicom(files / "more" / f"{name}-{ends}", FRAMES[0])
    said = scanwise("predict", whole.run.path, files / "more", "--device", "cpu")
    assert "p001-" in said.out
    assert "p002-" in said.out


def test_headers_tell_who_is_who_and_no_name_gets_out(whole: Whole, files: Path, scanwise: Command) -> None:
    (files / "a.nii.gz").unlink()
    said = scanwise("predict", whole.run.path, files, "--format", "json", "--device", "cpu")
    answer = json.loads(said.out)
    assert [row["scans"] for row in answer["subjects"]] == [3, 1]
    assert {row["modality"] for row in answer["scans"]} == {"MR"}
    assert not any(value in said.out + said.err for value in NAMES.values())


def test_nothing_but_files_that_cannot_be_opened(whole: Whole, files: Path, scanwise: Command) -> None:
    cut = files / "cut"
    cut.write_bytes((files / "one").read_bytes()[:-300])
    said = scanwise("predict", whole.run.path, cut)
    assert said.code == 2
    assert "cut, damaged or truncated" in said.refusal
    with pytest.raises(DataError, match="truncated"):
        __import__("scanwise").load(whole.run.path).predict(cut)


def test_names_in_paths_are_hidden_if_asked_for(whole: Whole, files: Path, scanwise: Command) -> None:
    place = files / "Zenobia"
    place.mkdir()
    for file in [file for file in files.iterdir() if file.is_file()]:
        file.rename(place / file.name)
    command = ("predict", whole.run.path, files, "--format", "csv", "--device", "cpu")
    plain, hidden = scanwise(*command), scanwise(*command, "--pseudonymise")
    assert "Zenobia" in plain.out + plain.err
    assert "Zenobia" not in hidden.out + hidden.err
    assert len(hidden.out.splitlines()) == len(plain.out.splitlines())


def test_one_table_alone_is_a_manifest_and_a_file_is_announced(
    whole: Whole, files: Path, tmp_path: Path, scanwise: Command
) -> None:
    table = tmp_path / "scans.csv"
    table.write_text(f"path,subject\n{files / 'a.nii.gz'},p\n{files / 'junk'},p\n{files / 'one'},q\n", encoding="utf-8")
    named = scanwise("predict", whole.run.path, table, "--format", "json", "--out", tmp_path / "a.json")
    given = scanwise("predict", whole.run.path, "--manifest", table, "--format", "json", "--out", tmp_path / "b.json")
    assert (named.code, given.code) == (0, 0), named.err
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    answer = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    review, unlike = (sum(scan[key] for scan in answer["scans"]) for key in ("abstain", "ood_flag"))
    counts = ((review, "to review"), (unlike, "unlike training"), (1, "not used"))
    line = f"{tmp_path / 'a.json'}: 6 scans; " + ", ".join(f"{count} {what}" for count, what in counts if count)
    assert line in " ".join(named.err.split())
    assert named.out == ""


def test_the_end_of_a_name_says_what_is_written_and_no_other_name_is_guessed_at(
    whole: Whole, files: Path, tmp_path: Path, scanwise: Command
) -> None:
    ask = ("predict", whole.run.path, files / "a.nii.gz", "--device", "cpu")
    for name, form in (("a.json", "json"), ("a.csv", "csv")):
        assert scanwise(*ask, "--out", tmp_path / name).code == 0
        assert (tmp_path / name).read_text(encoding="utf-8") == scanwise(*ask, "--format", form).out
    assert scanwise(*ask, "--out", tmp_path / "A.PARQUET").code == 0
    assert (tmp_path / "A.PARQUET").read_bytes()[:4] == b"PAR1"
    assert scanwise(*ask, "--out", tmp_path / "a.txt", "--format", "csv").code == 0
    for options in (["a.xlsx"], ["a.tsv"], ["a"], ["b.json", "--format", "csv"], ["b.csv", "--format", "json"]):
        refused = scanwise(*ask, "--out", tmp_path / options[0], *options[1:])
        assert (refused.code, (tmp_path / options[0]).exists()) == (2, False), options
