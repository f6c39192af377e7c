"""A manifest leads to its scans wherever they lie, and what is written reads back as it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cohort_scans import Scans

from scanwise.cohort import layouts
from scanwise.cohort.layouts import manifests
from scanwise.cohort.listing import Listing
from scanwise.errors import DataError


def refusal(file: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        layouts.discover_scans(file, **options)  # type: ignore[arg-type]
    return str(caught.value)


def listing(root: Path, *paths: str) -> Listing:
    count = len(paths)
    return Listing(
        root,
        np.array(paths),
        np.array([f"label {index // 2 % 2}" for index in range(count)]),
        subject=np.array([f"00{index}" for index in range(count)]),
        subject_source="column who",
        groups={"site": np.array(["", *["north"] * (count - 1)])},
        text=np.array([*['a, "b"'] * (count - 1), ""]),
        given=np.array(["train", "test"] * count)[:count],
    )


NAMES = ("x/a.png", "x/ b .png", "x/new\nline.png", "脳/ü.png", "x/c.nii.gz#004", "x/#1", 'x/comma, quote".png')


@pytest.mark.parametrize("name", ["scans.csv", "scans.tsv", "scans.parquet", "scans.xlsx"])
@pytest.mark.parametrize("place", ["root", "above", "elsewhere"])
def test_what_is_written_leads_to_the_same_scans(tmp_path: Path, name: str, place: str) -> None:
    root = tmp_path / "data"
    given = listing(root, *NAMES)
    for path in NAMES:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    file = {"root": root, "above": tmp_path, "elsewhere": tmp_path / "else"}[place] / name
    file.parent.mkdir(exist_ok=True)
    manifests.write_manifest(given, file, file)
    found = layouts.discover_scans(file)
    assert [found.root / path for path in found.path.tolist()] == [root / path for path in NAMES]
    assert found.label.tolist() == given.label.tolist()
    assert found.subject is not None
    assert given.subject is not None
    assert found.subject.tolist() == given.subject.tolist()
    assert found.groups["site"].tolist() == given.groups["site"].tolist()
    assert found.text is not None
    assert given.text is not None
    assert found.text.tolist() == given.text.tolist()
    assert found.given is not None
    assert given.given is not None
    assert found.given.tolist() == given.given.tolist()


@pytest.mark.parametrize("name", ["scans.csv", "scans.tsv", "scans.parquet", "scans.xlsx"])
@pytest.mark.parametrize("source", ["recovered from pixels, 24 subjects with confidence 0.98", "column who"])
def test_a_manifest_says_how_its_subjects_became_known(tmp_path: Path, name: str, source: str) -> None:
    sites = {"site": np.array(["north", "south"])}
    given = replace(listing(tmp_path, "a.png", "b.png"), subject_source=source, groups=sites)
    manifests.write_manifest(given, tmp_path / name, tmp_path / name)
    found = layouts.discover_scans(tmp_path / name)
    assert found.subject_source == ("column subject" if source == "column who" else source)
    assert set(found.groups) == {"site"}
    assert layouts.discover_scans(tmp_path / name, "site").subject_source == "column site"


def test_a_manifest_of_absolute_paths_leads_elsewhere_but_not_where_it_came_from_elsewhere(
    scans: Scans, tmp_path: Path
) -> None:
    root = scans.add("x/a.png", "y/b.png")
    file = tmp_path / "scans.csv"
    file.write_text(f"path,label\n{root}/x/a.png,1\n{root}/y/b.png,2\n")
    found = layouts.discover_scans(file)
    assert [found.root / path for path in found.path.tolist()] == [root / "x" / "a.png", root / "y" / "b.png"]
    other = tmp_path / "below" / "scans.csv"
    other.parent.mkdir()
    other.write_text(file.read_text())
    found = layouts.discover_scans(other)
    assert (found.root, found.path.tolist()) == (root, ["x/a.png", "y/b.png"])
    other.write_text(file.read_text())
    assert "leads outside" in refusal(other, anywhere=False)


def test_absolute_and_relative_paths_are_not_mixed(scans: Scans, tmp_path: Path) -> None:
    root = scans.add("x/a.png", "y/b.png")
    file = root / "x" / "scans.csv"
    file.write_text(f"path,label\na.png,1\n{root}/y/b.png,2\n")
    assert "leads outside" in refusal(file)


def test_a_refused_path_is_named_with_the_whole_folder(scans: Scans, monkeypatch: pytest.MonkeyPatch) -> None:
    root = scans.add("a.png")
    (root / "scans.csv").write_text("path,label\n../b.png,1\na.png,2\n")
    monkeypatch.chdir(root)
    assert f"leads outside {root}. Keep" in refusal(Path("scans.csv"))


def test_a_link_out_of_the_common_folder_is_refused(scans: Scans, tmp_path: Path) -> None:
    root = scans.add("x/a.png", "y/b.png")
    (tmp_path / "secret").touch()
    (root / "y" / "c.png").symlink_to(tmp_path / "secret")
    file = tmp_path / "else" / "scans.csv"
    file.parent.mkdir()
    file.write_text(f"path,label\n{root}/x/a.png,1\n{root}/y/c.png,2\n")
    assert "leads outside" in refusal(file)


def test_blanks_around_a_path_are_dropped_unless_they_are_of_its_name(scans: Scans) -> None:
    root = scans.add("a.png", " b.png")
    (root / "scans.csv").write_text("path,label\n a.png ,1\n b.png,2\n")
    assert layouts.discover_scans(root / "scans.csv").path.tolist() == ["a.png", " b.png"]


def test_the_label_may_have_another_name(scans: Scans) -> None:
    file = scans.manifest({"path": ["a.png", "b.png"], "dx": ["1", "2"], "label": ["x", "x"], "site": ["n", "s"]})
    found = layouts.discover_scans(file, label="dx")
    assert found.label.tolist() == ["1", "2"]
    assert set(found.groups) == {"site"}
    assert "no column 'diagnosis'" in refusal(file, label="diagnosis")


def test_names_of_files_are_never_text_and_no_group(scans: Scans) -> None:
    columns = {"path": ["a.png", "b.png"], "label": ["1", "2"], "image": ["a.png", "b.JPG"], "site": ["n", "s"]}
    found = layouts.discover_scans(scans.manifest(columns))
    assert set(found.groups) == {"site"}
    assert "'image' holds names of files" in found.remarks[0]
    columns["text"] = columns.pop("image")
    assert "'text' holds names of files" in refusal(scans.manifest(columns))
    columns["text"] = ["see b.png", "no file"]
    assert layouts.discover_scans(scans.manifest(columns)).text is not None


def test_slices_may_be_named_in_a_table_of_subjects(scans: Scans, tmp_path: Path) -> None:
    root = scans.add("x/a.nii", "y/b.nii")
    who = tmp_path / "who.csv"
    who.write_text("path,subject\nx/a.nii#000,p\nx/a.nii#001,p\ny/b.nii,q\n")
    found = layouts.discover_scans(root, str(who))
    assert found.subject is not None
    assert found.subject.tolist() == ["p", "q"]
    who.write_text("path,subject\nx/a.nii#000,p\nx/a.nii#001,r\ny/b.nii,q\n")
    with pytest.raises(DataError, match="a volume is of one person"):
        layouts.discover_scans(root, str(who))
