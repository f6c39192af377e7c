"""BIDS trees: the label from the table, the subject from the folder, and all sessions of one person together."""

from pathlib import Path

import numpy as np
import pytest

from medical_files import write_nifti
from scanwise import cohort
from scanwise.cohort import layouts, splits
from scanwise.cohort.layouts import bids
from scanwise.errors import DataError
from scanwise.recipe import Recipe, SplitSection

RANDOM = np.random.default_rng(0)


def volume(file: Path) -> None:
    write_nifti(file, RANDOM.integers(0, 1000, (8, 9, 4)).astype(np.int16))


def tree(root: Path, people: int = 6, header: str = "participant_id\tdiagnosis\tsex\tage") -> Path:
    lines = [header]
    for number in range(people):
        name = f"sub-{number:02d}"
        for session in ("1", "2"):
            folder = root / name / f"ses-{session}"
            volume(folder / "anat" / f"{name}_ses-{session}_T1w.nii.gz")
            (folder / "anat" / f"{name}_ses-{session}_T1w.json").write_text("{}")
        lines.append("\t".join([name, "AD" if number % 2 else "CN", "F" if number < 3 else "n/a", "70"]))
    root.joinpath("participants.tsv").write_text("\n".join(lines) + "\n")
    root.joinpath("dataset_description.json").write_text("{}")
    root.joinpath("README").write_text("x")
    volume(root / "derivatives" / "sub-00" / "anat" / "sub-00_T1w.nii.gz")
    return root


def refusal(root: Path, label: str = "") -> str:
    with pytest.raises(DataError) as caught:
        layouts.discover_scans(root, label=label)
    return str(caught.value)


def test_what_a_tree_tells(tmp_path: Path) -> None:
    found = layouts.discover_scans(tree(tmp_path / "study"))
    assert found.path[0] == "sub-00/ses-1/anat/sub-00_ses-1_T1w.nii.gz"
    assert len(found) == 12
    assert found.label.tolist() == ["CN", "CN", "AD", "AD"] * 3
    assert found.subject is not None
    assert found.subject.tolist() == [f"sub-{number:02d}" for number in range(6) for _ in range(2)]
    assert found.subject_source == "BIDS participant"
    assert found.groups["session"].tolist() == ["1", "2"] * 6
    assert found.groups["sex"].tolist() == ["F"] * 6 + [""] * 6
    assert set(found.groups["modality"].tolist()) == {"T1w"}
    assert found.unused == ()


def test_two_sessions_of_a_person_are_never_split(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"name": "a", "data": {"size": 16}})
    intake = cohort.read_cohort(str(tree(tmp_path / "study", 12)), recipe)
    assert len(intake.cohort) == 12 * 2 * 4
    for seed in range(5):
        for split in splits.make_splits(intake.cohort, SplitSection(folds=3), seed):
            assert splits.check_split(intake.cohort, split) == []
            sides = {}
            for subject, side in zip(intake.cohort.subject.tolist(), split.side.tolist(), strict=True):
                assert sides.setdefault(subject, side) == side


def test_who_is_not_in_the_table_or_has_no_label_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path / "study")
    volume(root / "sub-99" / "anat" / "sub-99_T1w.nii.gz")
    table = root / "participants.tsv"
    table.write_text(table.read_text().replace("sub-01\tAD", "sub-01\tn/a"))
    found = layouts.discover_scans(root)
    assert len(found) == 10
    told = dict(found.unused)
    assert told["sub-99/anat/sub-99_T1w.nii.gz"] == "its participant has no row in participants.tsv"
    assert told["sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"] == "participants.tsv gives its participant no diagnosis"


# --- sessions ---


def by_session(found: layouts.Listing) -> dict[str, str]:
    return {"/".join(path.split("/")[:2]): label for path, label in zip(found.path, found.label, strict=True)}


@pytest.mark.parametrize("column", ["session_id", "session", "ses", "visit"])
@pytest.mark.parametrize("prefix", ["ses-", ""])
def test_a_row_a_session_is_about_that_session(tmp_path: Path, column: str, prefix: str) -> None:
    root = tree(tmp_path / "study", 2)
    (root / "participants.tsv").write_text(
        f"participant_id\t{column}\tdiagnosis\tage\n"
        f"sub-00\t{prefix}1\tCN\t70\nsub-00\t{prefix}2\tAD\t72\nsub-01\t{prefix}1\tCN\t60\nsub-01\t{prefix}2\tCN\t61\n"
    )
    found = layouts.discover_scans(root)
    assert by_session(found) == {"sub-00/ses-1": "CN", "sub-00/ses-2": "AD", "sub-01/ses-1": "CN", "sub-01/ses-2": "CN"}
    assert found.subject is not None
    assert set(found.subject.tolist()) == {"sub-00", "sub-01"}
    assert found.groups["age"].tolist() == ["70", "72", "60", "61"]
    assert found.groups["session"].tolist() == ["1", "2", "1", "2"]
    assert set(found.groups) == {"age", "session", "modality"}


def test_a_session_without_a_row_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path / "study", 2)
    (root / "participants.tsv").write_text(
        "participant_id\tsession_id\tdiagnosis\nsub-00\tses-1\tCN\nsub-00\tses-3\tAD\nsub-01\tses-1\tAD\n"
    )
    found = layouts.discover_scans(root)
    assert by_session(found) == {"sub-00/ses-1": "CN", "sub-01/ses-1": "AD"}
    assert set(dict(found.unused).values()) == {"participants.tsv has no row of its session"}


@pytest.mark.parametrize(
    "rows",
    [
        "sub-00\tCN\nsub-01\tAD\nsub-00\tAD\n",
        "sub-00\tCN\nsub-01\tAD\n00\tAD\n",
    ],
)
def test_rows_of_one_participant_that_differ_are_refused_with_their_lines(tmp_path: Path, rows: str) -> None:
    root = tree(tmp_path / "study", 2)
    (root / "participants.tsv").write_text(f"participant_id\tdiagnosis\n{rows}")
    said = refusal(root)
    assert "2 rows of sub-00 (lines 2, 4), which differ in diagnosis" in said
    assert "session_id" in said


def test_one_session_twice_is_refused_and_equal_rows_are_one(tmp_path: Path) -> None:
    root = tree(tmp_path / "study", 2)
    table = root / "participants.tsv"
    table.write_text("participant_id\tsession_id\tdiagnosis\nsub-00\tses-1\tCN\nsub-00\t1\tAD\nsub-01\tses-1\tAD\n")
    assert "2 rows of sub-00 (lines 2, 3)" in refusal(root)
    table.write_text("participant_id\tdiagnosis\nsub-00\tCN\nsub-00\tCN\nsub-01\tAD\n")
    assert layouts.discover_scans(root).label.tolist() == ["CN", "CN", "AD", "AD"]


def test_tables_of_sessions_say_what_was_found_at_each(tmp_path: Path) -> None:
    root = tree(tmp_path / "study", 2, header="participant_id\tsite\tsex\tage")
    for name, second in (("sub-00", "AD"), ("sub-01", "CN")):
        text = f"session_id\tdiagnosis\nses-1\tCN\nses-2\t{second}\n"
        (root / name / f"{name}_sessions.tsv").write_text(text)
    found = layouts.discover_scans(root)
    assert by_session(found) == {"sub-00/ses-1": "CN", "sub-00/ses-2": "AD", "sub-01/ses-1": "CN", "sub-01/ses-2": "CN"}
    assert found.groups["site"].tolist() == ["CN", "CN", "AD", "AD"]  # the column's own values
    (root / "sub-00" / "sub-00_sessions.tsv").write_text("session_id\tdiagnosis\nses-1\tCN\nses-1\tAD\n")
    assert "two rows of ses-1, which differ (the second in line 3)" in refusal(root)


def test_a_participant_may_be_written_in_another_form_of_unicode(tmp_path: Path) -> None:
    root = tmp_path / "study"
    volume(root / "sub-Mu\u0308ller" / "anat" / "sub-x_T1w.nii.gz")
    volume(root / "sub-B" / "anat" / "sub-B_T1w.nii.gz")
    (root / "participants.tsv").write_text("participant_id\tdiagnosis\nsub-Müller\tAD\nsub-B\tCN\n")
    found = layouts.discover_scans(root)
    assert found.label.tolist() == ["CN", "AD"]
    assert found.subject is not None
    assert found.subject.tolist() == ["sub-B", "sub-Müller"]


def test_other_images_are_told_where_there_are_anatomical_ones(tmp_path: Path) -> None:
    root = tree(tmp_path / "study")
    volume(root / "sub-00" / "ses-1" / "func" / "sub-00_bold.nii.gz")
    found = layouts.discover_scans(root)
    assert len(found) == 12
    assert "not an anatomical image (func)" in dict(found.unused)["sub-00/ses-1/func/sub-00_bold.nii.gz"]


def test_and_used_where_there_are_none(tmp_path: Path) -> None:
    root = tmp_path / "study"
    for number in range(3):
        volume(root / f"sub-{number}" / "pet" / f"sub-{number}_pet.nii.gz")
    (root / "participants.tsv").write_text("participant_id\tgroup\n0\ta\n1\tb\nsub-2\tb\n")
    assert layouts.discover_scans(root).label.tolist() == ["a", "b", "b"]


def test_which_column_is_the_label(tmp_path: Path) -> None:
    root = tree(tmp_path / "study", header="participant_id\tdiagnosis\tgroup\tage")
    assert "diagnosis and group could all be it" in refusal(root)
    assert "--set data.label=COLUMN" in refusal(root)
    assert set(layouts.discover_scans(root, label="group").label.tolist()) == {"F"}
    assert "the columns diagnosis, group, age. Did you mean 'group'" in refusal(root, label="grup")
    root = tree(tmp_path / "other", header="participant_id\ta\tb\tc")
    assert "it has a, b, c" in refusal(root)


def test_a_recipe_names_the_label(tmp_path: Path) -> None:
    root = tree(tmp_path / "study", header="participant_id\tdiagnosis\tgroup\tage")
    recipe = Recipe.model_validate({"name": "a", "data": {"size": 16, "label": "diagnosis"}})
    assert set(cohort.read_cohort(str(root), recipe).cohort.classes) >= {"AD"}


def test_a_subject_may_be_another_column_or_a_pattern(tmp_path: Path) -> None:
    root = tree(tmp_path / "study", header="participant_id\tdiagnosis\tfamily\tage")
    found = layouts.discover_scans(root, "age")
    assert found.subject is not None
    assert (set(found.subject.tolist()), found.subject_source) == ({"70"}, "column age")
    found = layouts.discover_scans(root, r"sub-(\d+)")
    assert found.subject is not None
    assert found.subject[0] == "00"


def test_a_tree_without_its_table_is_not_a_folder_of_classes(tmp_path: Path) -> None:
    root = tree(tmp_path / "study")
    (root / "participants.tsv").unlink()
    assert "BIDS tree without participants.tsv" in refusal(root)


def test_a_table_without_participants(tmp_path: Path) -> None:
    root = tree(tmp_path / "study", header="who\tdiagnosis\tsex\tage")
    assert "no column 'participant_id'" in refusal(root)


def test_class_folders_of_such_a_name_are_no_tree(tmp_path: Path) -> None:
    for name in ("sub-acute", "normal"):
        volume(tmp_path / name / "a.nii")
    assert not bids.is_tree(tmp_path)
    assert set(layouts.discover_scans(tmp_path).label.tolist()) == {"sub-acute", "normal"}
