"""Where scans lie: every layout that is promised, and every bad input in one clear line."""

import os
import sys
from pathlib import Path

import pytest
from cohort_scans import Scans

from scanwise.cohort import layouts
from scanwise.cohort.layouts import Listing, discover_scans, list_unlabelled
from scanwise.errors import DataError


def rows(listing: Listing) -> list[tuple[str, str]]:
    return list(zip(listing.path.tolist(), listing.label.tolist(), strict=True))


def refusal(*arguments: object) -> str:
    with pytest.raises(DataError) as caught:
        discover_scans(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- folders ---


def test_class_folders_with_folders_of_subjects_inside(scans: Scans) -> None:
    root = scans.add("Stroke/p1/b.png", "Stroke/p1/a.png", "Normal/c.png")
    found = discover_scans(root)
    assert rows(found) == [("Normal/c.png", "Normal"), ("Stroke/p1/a.png", "Stroke"), ("Stroke/p1/b.png", "Stroke")]
    assert (found.given, found.subject, found.subject_source) == (None, None, "")


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "Testing"), ("TRAIN", "Test")])
def test_train_and_test_folders(scans: Scans, train: str, test: str) -> None:
    root = scans.add(f"{train}/Stroke/a.png", f"{train}/Normal/a.png", f"{test}/Stroke/b.png", "val/Normal/c.png")
    found = discover_scans(root)
    assert found.given is not None
    told = dict(zip(found.path.tolist(), zip(found.label.tolist(), found.given.tolist(), strict=True), strict=True))
    assert told == {
        f"{train}/Stroke/a.png": ("Stroke", "train"),
        f"{train}/Normal/a.png": ("Normal", "train"),
        f"{test}/Stroke/b.png": ("Stroke", "test"),
        "val/Normal/c.png": ("Normal", "validation"),
    }


@pytest.mark.parametrize("prefix", ["wrap/", "wrap/again/", "wrap/train/"])
def test_wrapping_folders_are_stepped_into(scans: Scans, prefix: str) -> None:
    root = scans.classes(prefix=prefix)
    found = discover_scans(root)
    assert set(found.label.tolist()) == {"NonDemented", "MildDemented"}
    assert (found.root / found.path[0]).is_file()


def test_what_a_mac_leaves_in_archives_changes_nothing(scans: Scans) -> None:
    root = scans.classes(prefix="wrap/train/")
    scans.classes(prefix="wrap/test/")
    scans.add("__MACOSX/wrap/._s.png", "wrap/__MACOSX/x/y.png", ".hidden/a/b.png", "wrap/train/NonDemented/.DS_Store")
    found = discover_scans(root)
    assert set(found.label.tolist()) == {"NonDemented", "MildDemented"}
    assert len(found.path) == 12
    assert found.unused == ()


def test_train_and_test_beside_other_folders_are_not_taken_for_classes(scans: Scans) -> None:
    root = scans.add("train/Stroke/a.png", "test/Stroke/b.png", "docs/figure.png")
    assert "beside others (docs)" in refusal(root)


def test_loose_files_are_told_and_not_used(scans: Scans) -> None:
    root = scans.classes()
    (root / "README.txt").write_text("x")
    found = discover_scans(root)
    assert found.unused == (("README.txt", "not inside a class folder"),)
    assert len(found.path) == 6


def test_names_of_every_kind(scans: Scans) -> None:
    names = ["with space.png", "脳 ü.png", "new\nline.png", "comma, 'quote\".png", "%20#?*[a].png", "-rf.png"]
    root = scans.add(*(f"a class/{name}" for name in names), "другой/x.png")
    assert {path.partition("/")[2] for path in discover_scans(root).path.tolist()} == {*names, "x.png"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8_is_told(scans: Scans) -> None:
    root = scans.classes()
    Path(os.fsdecode(os.fsencode(root) + b"/NonDemented/\xff.png")).write_bytes(b"x")
    found = discover_scans(root)
    assert found.unused == (("NonDemented/\\udcff.png", "its name is not UTF-8"),)
    assert len(found.path) == 6


def test_links_to_folders_are_told_and_not_followed(scans: Scans) -> None:
    root = scans.classes()
    (root / "NonDemented" / "loop").symlink_to(root)
    found = discover_scans(root)
    assert len(found.path) == 6
    assert [path for path, reason in found.unused if "link" in reason] == ["NonDemented/loop"]


def test_nothing_but_a_loop_ends(tmp_path: Path) -> None:
    (tmp_path / "loop" / "inner").mkdir(parents=True)
    (tmp_path / "loop" / "inner" / "loop").symlink_to(tmp_path / "loop")
    assert "No scans in" in refusal(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "self").symlink_to(tmp_path / "other")
    assert "No scans in" in refusal(tmp_path / "other")


def test_a_pipe_is_not_waited_for(scans: Scans) -> None:
    root = scans.classes()
    os.mkfifo(root / "NonDemented" / "pipe.png")
    assert discover_scans(root).unused == (("NonDemented/pipe.png", "neither a file nor a folder"),)


def test_nothing_there(tmp_path: Path) -> None:
    assert "There is nothing at" in refusal(tmp_path / "absent")
    assert "No scans in" in refusal(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    assert "No scans in" in refusal(tmp_path)
    assert "neither a folder nor a manifest" in refusal(tmp_path / "notes.txt")


def test_a_label_in_test_that_train_lacks(scans: Scans) -> None:
    root = scans.add("train/NonDemented/a.png", "train/Mild/a.png", "test/non demented/a.png")
    assert len(discover_scans(root).path) == 3
    scans.add("test/Moderate/a.png")
    assert "labels that the train side lacks: Moderate. Train has Mild, NonDemented" in refusal(root)


def test_a_local_path_as_people_type_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert layouts.resolve_data("~/scans") == Path("/home/me/scans")
    assert layouts.resolve_data("file:///data/scans") == Path("/data/scans")


# --- manifests ---

FULL = {
    "path": ["x/a.png", "x/b.png"],
    "label": ["Stroke", "Normal"],
    "subject": ["007", "08"],
    "split": ["train", "Testing"],
    "text": ["a note", ""],
    "site": ["north", ""],
}


@pytest.mark.parametrize("name", ["scans.csv", "scans.tsv", "SCANS.CSV"])
def test_a_manifest_with_every_column(scans: Scans, name: str) -> None:
    columns = dict(FULL)
    columns["label"] = ["Stroke", "Stroke"]
    found = discover_scans(scans.manifest(columns, name))
    assert rows(found) == [("x/a.png", "Stroke"), ("x/b.png", "Stroke")]
    assert found.root == scans.root
    assert found.subject is not None
    assert found.subject.tolist() == ["007", "08"]  # text, not numbers
    assert found.subject_source == "column subject"
    assert found.given is not None
    assert found.given.tolist() == ["train", "test"]
    assert found.text is not None
    assert found.text.tolist() == ["a note", ""]
    assert {key: values.tolist() for key, values in found.groups.items()} == {"site": ["north", ""]}


def test_a_manifest_with_path_and_label_alone(scans: Scans) -> None:
    found = discover_scans(scans.manifest({"path": ["./a.png", "x/../b.png"], "label": ["1", "2"]}))
    assert rows(found) == [("a.png", "1"), ("b.png", "2")]
    assert (found.subject, found.text, found.given, found.groups) == (None, None, None, {})


def test_a_byte_order_mark_and_an_empty_column_do_no_harm(scans: Scans) -> None:
    file = scans.manifest({"path": ["a.png", "b.png"], "label": ["x", "y"], "site": ["", ""]})
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert discover_scans(file).groups["site"].tolist() == ["", ""]


@pytest.mark.parametrize("blank", ["", "  ", "NaN", "nan", "NA"])
@pytest.mark.parametrize("column", ["path", "label", "subject"])
def test_missing_values_are_named_with_their_lines(scans: Scans, column: str, blank: str) -> None:
    columns = {"path": ["a.png", "b.png"], "label": ["x", "y"], "subject": ["1", "2"]}
    columns[column] = [columns[column][0], blank]
    assert f"the column '{column}' is empty in 1 row (lines 3)" in refusal(scans.manifest(columns))


@pytest.mark.parametrize("word", ["#N/A", "N/A", "null", "None", "unknown", "Unknown"])
def test_a_subject_that_is_no_person_is_named_with_its_line(scans: Scans, word: str) -> None:
    columns = {"path": ["a.png", "b.png"], "label": ["x", "None"], "subject": ["1", word]}
    said = refusal(scans.manifest(columns))
    assert "the column 'subject' " in said
    assert "in 1 row (lines 3)" in said


def test_duplicate_rows(scans: Scans) -> None:
    file = scans.manifest({"path": ["a.png", "b.png", "./a.png"], "label": ["x", "y", "x"]})
    assert "1 path is listed more than once (a.png)" in refusal(file)


@pytest.mark.parametrize(
    "path",
    ["../secret.png", "x/../../secret.png", "/etc/passwd", "link/secret.png", "leaf.png", "../elsewhere/back/a.png"],
)
def test_a_path_outside_the_root(scans: Scans, tmp_path: Path, path: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.png").write_bytes(b"x")
    file = scans.manifest({"path": ["a.png", path], "label": ["x", "y"]})
    (scans.root / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(scans.root)
    (scans.root / "leaf.png").symlink_to(tmp_path / "elsewhere" / "secret.png")
    assert f"the path {path!r} leads outside" in refusal(file)


def test_an_absolute_path_inside_and_a_linked_root_are_fine(scans: Scans, tmp_path: Path) -> None:
    file = scans.manifest({"path": [str(scans.root / "a.png"), "b.png"], "label": ["x", "y"]})
    assert discover_scans(file).path.tolist() == ["a.png", "b.png"]
    scans.manifest({"path": ["a.png", "b.png"], "label": ["x", "y"]})
    (tmp_path / "linked").symlink_to(scans.root)
    assert discover_scans(tmp_path / "linked" / "scans.csv").path.tolist() == ["a.png", "b.png"]


def test_columns_that_are_missing_or_misspelt(scans: Scans) -> None:
    said = refusal(scans.manifest({"path": ["a.png"], "labels": ["x"]}))
    assert "no column 'label'; it has path, labels. Did you mean 'labels'?" in said


def test_rows_longer_than_the_header_do_not_shift_the_columns(scans: Scans) -> None:
    file = scans.root / "scans.csv"
    scans.root.mkdir()
    file.write_text("path,label\na.png,x,1\nb.png,y,2\n")
    assert "more values than the header" in refusal(file)
    file.write_text("path,label\na.png,x\nb.png,y,2\n")
    assert "more values than the header has names (lines 3)" in refusal(file)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01", b"path,label\n"])
def test_a_manifest_with_nothing_in_it(scans: Scans, content: bytes) -> None:
    scans.root.mkdir()
    (scans.root / "scans.csv").write_bytes(content)
    assert "scans.csv" in refusal(scans.root / "scans.csv")


def test_an_unknown_side(scans: Scans) -> None:
    file = scans.manifest({"path": ["a.png", "b.png"], "label": ["x", "y"], "split": ["train", "tset"]})
    assert "the column 'split' holds tset; use train, validation, calibration, test" in refusal(file)


def test_an_untaught_label_in_a_manifest(scans: Scans) -> None:
    file = scans.manifest({"path": ["a.png", "b.png"], "label": ["x", "y"], "split": ["train", "test"]})
    assert "labels that the train side lacks: y" in refusal(file)


# --- who is who ---


def test_subject_by_another_column_which_is_then_no_group(scans: Scans) -> None:
    file = scans.manifest({"path": ["a.png", "b.png"], "label": ["x", "y"], "patient": ["p1", "p2"], "age": ["1", "2"]})
    found = discover_scans(file, "patient")
    assert found.subject is not None
    assert found.subject.tolist() == ["p1", "p2"]
    assert found.subject_source == "column patient"
    assert list(found.groups) == ["age"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"p\d+", ["p1", "p2"]),
        (r"p(\d+)", ["1", "2"]),
        (r"(\w+)/p(\d+)", ["Normal_1", "Stroke_2"]),
        (r"(?:p(1)|p(2))_", ["1", "2"]),
    ],
)
def test_subject_by_pattern(scans: Scans, pattern: str, expected: list[str]) -> None:
    found = discover_scans(scans.add("Normal/p1_a.png", "Stroke/p2_a.png"), pattern)
    assert found.subject is not None
    assert found.subject.tolist() == expected
    assert found.subject_source == f"pattern {pattern}"


def test_a_pattern_lies_over_the_column_of_a_manifest(scans: Scans) -> None:
    file = scans.manifest({"path": ["p1.png", "p2.png"], "label": ["x", "y"], "subject": ["s", "s"]})
    found = discover_scans(file, r"p\d")
    assert found.subject is not None
    assert found.subject.tolist() == ["p1", "p2"]
    assert found.groups == {}


@pytest.mark.parametrize("pattern", [r"p1", r"q*", r"(\d*)"])
def test_a_pattern_that_misses_a_path_or_finds_nothing_in_it(scans: Scans, pattern: str) -> None:
    said = refusal(scans.add("Normal/p1.png", "Stroke/p2.png"), pattern)
    assert "does not match" in said
    assert "Stroke/p2.png" in said


def test_a_pattern_that_is_none(scans: Scans) -> None:
    assert "no regular expression" in refusal(scans.classes(), "p(")


def test_subject_by_file(scans: Scans, tmp_path: Path) -> None:
    root = scans.add("Normal/a.png", "Stroke/b.png")
    who = tmp_path / "who.csv"
    who.write_text("subject,path,more\n01,Stroke/b.png,x\n02,./Normal/a.png,x\n03,Normal/not-here.png,x\n")
    found = discover_scans(root, str(who))
    assert found.subject is not None
    assert dict(zip(found.path.tolist(), found.subject.tolist(), strict=True)) == {
        "Normal/a.png": "02",
        "Stroke/b.png": "01",
    }
    assert found.subject_source == "file who.csv"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("path,subject\nNormal/a.png,1\n", "no subject for 1 of 2 scans (Stroke/b.png)"),
        ("path,subject\nNormal/a.png,1\nStroke/b.png,\n", "'subject' is empty in 1 row (lines 3)"),
        ("path,subject\nNormal/a.png,1\nStroke/b.png,2\n./Stroke/b.png,3\n", "more than once (Stroke/b.png)"),
        ("path,who\nNormal/a.png,1\n", "no column 'subject'"),
        (None, "which is not there"),
    ],
)
def test_a_subject_file_that_does_not_do(scans: Scans, tmp_path: Path, content: str | None, said: str) -> None:
    root = scans.add("Normal/a.png", "Stroke/b.png")
    if content is not None:
        (tmp_path / "who.csv").write_text(content)
    assert said in refusal(root, str(tmp_path / "who.csv"))


# --- scans to predict ---


def test_files_and_folders_to_predict(scans: Scans) -> None:
    root = scans.add("x/a.png", "x/deep/b.png", "c.png")
    found = list_unlabelled([root / "x", root / "c.png"], None)
    assert found.path.tolist() == [str(root / "x/a.png"), str(root / "x/deep/b.png"), str(root / "c.png")]
    assert list_unlabelled([root / "x"], None, r"([ab])\.png").subject.tolist() == ["a", "b"]  # type: ignore[union-attr]


def test_a_manifest_to_predict_needs_no_label(scans: Scans) -> None:
    found = list_unlabelled([], scans.manifest({"path": ["a.png"], "subject": ["1"], "site": ["n"]}))
    assert found.path.tolist() == ["a.png"]
    assert found.groups["site"].tolist() == ["n"]


def test_nothing_to_predict(tmp_path: Path) -> None:
    for scans, manifest in ([], None), ([tmp_path], tmp_path / "a.csv"):
        with pytest.raises(DataError, match="one of the two"):
            list_unlabelled(scans, manifest)
    with pytest.raises(DataError, match="no manifest"):
        list_unlabelled([], tmp_path / "a.csv")
    with pytest.raises(DataError, match="nothing at"):
        list_unlabelled([tmp_path / "absent.png"], None)
    with pytest.raises(DataError, match="no files"):
        list_unlabelled([tmp_path], None)
