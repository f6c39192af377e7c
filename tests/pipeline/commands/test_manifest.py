"""The manifest that scanwise writes leads to the cohort that it was written of."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medical_files import NAMES, write_dicom, write_nifti
from scanwise import cohort
from scanwise.cohort import layouts
from scanwise.errors import DataError, RunError
from scanwise.pipeline.commands import manifest as manifest_command
from scanwise.recipe import Recipe
from scanwise.records import Cohort
from tiny import Again, Command, Fill

RECIPE = Recipe.model_validate({"name": "a", "data": {"size": 16}})
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWISE_KEY", "a key of the tests")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Class folders with volumes, DICOM of one and of several frames, and what is none of these."""
    for label in ("NonDemented", "MildDemented"):
        for index in range(3):
            who = {"PatientID": f"HOSP-{label}-{index}"}
            folder = tmp_path / "data" / label
            write_dicom(folder / f"IM {index}", RANDOM.integers(0, 99, (2, 9, 9)).astype(np.uint16), **who)
            write_dicom(folder / f"脳{index}", RANDOM.integers(0, 99, (9, 9)).astype(np.uint16), **who)
    (tmp_path / "data" / "NonDemented" / "broken.dcm").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "data" / "loose.txt").write_text("x")
    return tmp_path / "data"


def same(one: Cohort, other: Cohort) -> None:
    places = [[str(Path(found.root) / path) for path in found.path.tolist()] for found in (one, other)]
    assert places[0] == places[1]
    assert one.classes == other.classes
    for name in ("labels", "sha256", "pixels"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()
    names = set(
        zip(one.subject.tolist(), other.subject.tolist(), strict=True)
    )  # hashes of headers, and these in the clear
    assert len(names) == len({name for name, _ in names}) == len({name for _, name in names})
    assert one.groups.keys() == other.groups.keys()
    for name, values in one.groups.items():
        assert values.tolist() == other.groups[name].tolist()
    assert (one.given is None) == (other.given is None)


def test_rows_whose_files_are_not_there_are_not_counted(scanwise: Command, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(RANDOM.integers(0, 255, (9, 9), dtype=np.uint8)).save(tmp_path / name)
    rows = ["a.png,x", "b.png,y", "B.png,y", ".\\a.png,x", "C:\\scans\\a.png,x", "gone.tif,y"]
    (tmp_path / "scans.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    said = scanwise("cohort", tmp_path / "scans.csv", "--out", tmp_path / "out.csv")
    assert said.code == 0
    assert "2 scans in 2 files" in said.out
    assert "not listed: 4 files" in said.err
    listed = (tmp_path / "out.quarantine.csv").read_text()
    assert listed.count("cannot be opened: No such file or directory") == 4
    (tmp_path / "scans.csv").write_text("path,label\nA.png,x\nB.png,y\n")
    said = scanwise("cohort", tmp_path / "scans.csv", "--out", tmp_path / "none.csv")
    assert said.code == 2
    assert "None of the 2 files" in said.refusal
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.parametrize(
    "name", ["data/cohort.csv", "cohort.csv", "else/where/cohort.tsv", "cohort.parquet", "cohort.xlsx"]
)
def test_what_is_written_leads_to_the_same_cohort(mixed: Path, tmp_path: Path, name: str) -> None:
    plain = cohort.read_cohort(str(mixed), RECIPE)
    written = manifest_command.make_manifest(mixed, tmp_path / name)
    again = cohort.read_cohort(str(tmp_path / name), RECIPE)
    same(plain.cohort, again.cohort)
    assert len(written.scans) == 18
    assert written.files == 12
    assert written.summary.startswith("18 scans in 12 files; subjects: 6 (PatientID of the DICOM header)")
    expected = {f"HOSP-{label}-{index}" for label in ("NonDemented", "MildDemented") for index in range(3)}
    assert set(again.cohort.subject.tolist()) == expected


def test_columns_come_in_their_order_and_what_is_not_listed_is_beside(mixed: Path, tmp_path: Path) -> None:
    written = manifest_command.make_manifest(mixed, tmp_path / "cohort.csv")
    with (tmp_path / "cohort.csv").open(newline="", encoding="utf-8") as stream:
        header = next(csv.reader(stream))
    assert header == ["path", "label", "subject", "study", "modality", "series", "subject_source"]
    assert written.quarantine == tmp_path / "cohort.quarantine.csv"
    told = written.quarantine.read_text(encoding="utf-8")
    assert "loose.txt,not inside a class folder" in told
    assert "NonDemented/broken.dcm" in told
    (mixed / "loose.txt").unlink()
    (mixed / "NonDemented" / "broken.dcm").unlink()
    assert manifest_command.make_manifest(mixed, tmp_path / "cohort.csv").quarantine is None
    assert not (tmp_path / "cohort.quarantine.csv").exists()


def test_volumes_are_cut_as_the_recipe_says(tmp_path: Path, scanwise: Command) -> None:
    for label in ("x", "y"):
        write_nifti(tmp_path / "data" / label / f"{label}.nii.gz", RANDOM.integers(0, 9, (6, 8, 10)).astype(np.int16))
    said = scanwise(
        "cohort", tmp_path / "data", "--out", tmp_path / "c.csv", "--set", "data.axis=sagittal", "--set", "data.every=2"
    )
    assert said.code == 0, said.err
    assert "6 scans in 2 files" in said.out
    found = layouts.discover_scans(tmp_path / "c.csv")
    assert found.path.tolist() == [f"data/{label}/{label}.nii.gz#{index:03d}" for label in "xy" for index in (0, 2, 4)]


def test_sides_subjects_and_text_are_kept(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path / "data" / "train", {"a": 3, "b": 3})
    fill(tmp_path / "data" / "test", {"a": 2, "b": 2})
    manifest_command.make_manifest(tmp_path / "data", tmp_path / "c.csv", subject=r"([ab]\d+)_")
    plain = cohort.read_cohort(str(tmp_path / "data"), RECIPE, r"([ab]\d+)_")
    again = cohort.read_cohort(str(tmp_path / "c.csv"), RECIPE)
    same(plain.cohort, again.cohort)
    assert plain.cohort.given is not None
    assert again.cohort.given is not None
    assert plain.cohort.given.tolist() == again.cohort.given.tolist()


def test_a_folder_of_loose_files_gets_an_empty_label_to_fill_in(mixed: Path, tmp_path: Path, scanwise: Command) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for index, file in enumerate(sorted(mixed.glob("*Demented/*"))):
        file.rename(flat / f"{index}")
    said = scanwise("cohort", flat, "--out", tmp_path / "c.csv")
    assert said.code == 0
    assert "fill in that column" in said.err
    with pytest.raises(DataError, match="'label' is empty in 18 rows"):
        layouts.discover_scans(tmp_path / "c.csv")
    text = (tmp_path / "c.csv").read_text(encoding="utf-8").splitlines()
    labelled = [text[0], *(line.replace(",", f",{'ab'[row % 2]}", 1) for row, line in enumerate(text[1:]))]
    (tmp_path / "c.csv").write_text("\n".join(labelled), encoding="utf-8")
    assert len(cohort.read_cohort(str(tmp_path / "c.csv"), RECIPE).cohort) == 18


def test_headers_that_name_nobody(mixed: Path, tmp_path: Path, scanwise: Command) -> None:
    write_dicom(mixed / "NonDemented" / "x", RANDOM.integers(0, 99, (9, 9)).astype(np.uint16), PatientID="")
    said = scanwise("cohort", mixed, "--out", tmp_path / "c.csv")
    assert "subjects: unknown" in said.out
    assert "name no patient" in said.err
    assert layouts.discover_scans(tmp_path / "c.csv").subject is None


def test_of_a_header_the_id_alone_is_written_and_no_name_if_it_is_to_be_hidden(
    mixed: Path, tmp_path: Path, scanwise: Command
) -> None:
    for hide in ((), ("--pseudonymise",)):
        said = scanwise("cohort", mixed, "--out", tmp_path / "c.csv", *hide)
        told = said.out + said.err + (tmp_path / "c.csv").read_text(encoding="utf-8")
        assert not any(value in told for value in (*NAMES.values(), "a key of the tests"))
        assert ("HOSP-" in told) == (not hide)


def test_names_of_paths_are_hidden_if_asked_for_and_the_table_leads_to_the_scans(
    fill: Fill, tmp_path: Path, scanwise: Command
) -> None:
    fill(tmp_path / "data", {"Zenobia": 4, "Otto": 4})
    for index, name in enumerate(("Zenobia", "Otto")):
        (tmp_path / "data" / name).rename(tmp_path / "data" / f"label{index}")
    said = scanwise(
        "cohort", tmp_path / "data", "--out", tmp_path / "c.csv", "--subject", r"((Zenobia|Otto)\d+)_", "--pseudonymise"
    )
    assert said.code == 0, said.err
    told = said.out + (tmp_path / "c.csv").read_text(encoding="utf-8")
    assert "label0" in told
    assert not any(name in told.replace(r"(Zenobia|Otto)", "") for name in ("Zenobia", "Otto"))
    plain = cohort.read_cohort(str(tmp_path / "data"), RECIPE, r"((Zenobia|Otto)\d+)_")
    again = cohort.read_cohort(str(tmp_path / "c.csv"), RECIPE)
    assert sorted(again.cohort.sha256.tolist()) == sorted(plain.cohort.sha256.tolist())
    assert len(set(again.cohort.subject.tolist())) == 8


@pytest.mark.parametrize("name", ["c.docx", "c"])
def test_a_table_of_no_kind_leaves_nothing(mixed: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="ends in none of"):
        manifest_command.make_manifest(mixed, tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data"]


@pytest.mark.extended
def test_a_run_that_was_begun_before_a_setting_existed_goes_on(again: Again) -> None:
    """A newer scanwise writes more defaults into recipe.yaml; the recipe is the same."""
    text = again.run.recipe.read_text(encoding="utf-8")
    assert "  nan: refuse\n" in text
    again.run.recipe.write_text(text.replace("  nan: refuse\n", ""), encoding="utf-8")
    again.resume()
    assert again.run.recipe.read_text(encoding="utf-8") == text
    again.run.recipe.write_text(text.replace("nan: refuse", "nan: black"), encoding="utf-8")
    with pytest.raises(RunError, match=r"it differs in data\.nan"):
        again.resume()
