"""Everything below a folder is found or told, in order, whatever its name, and nothing loops."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cohort_scans import Scans

from scanwise.cohort import layouts
from scanwise.cohort.layouts import folders
from scanwise.cohort.layouts.folders import walk
from scanwise.errors import DataError


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Names of folders that cannot be read, as for an ordinary user; root may read all."""
    names: set[str] = set()
    scandir = os.scandir

    def refusing(place: Any) -> Any:
        if Path(place).name in names:
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)
    return names


def test_files_come_before_those_of_deeper_folders_and_all_sorted(scans: Scans) -> None:
    root = scans.add("b/z/1.png", "b/a.png", "a/2.png", "a/10.png", "c.png", "b/a/3.png")
    assert [path for path, _ in walk(root)] == ["c.png", "a/10.png", "a/2.png", "b/a.png", "b/a/3.png", "b/z/1.png"]


def test_hidden_files_and_what_a_mac_leaves_are_passed_over(scans: Scans) -> None:
    root = scans.add("a.png", ".b.png", ".c/d.png", "__MACOSX/e.png")
    assert list(walk(root)) == [("a.png", "")]


def test_links_are_told_apart(scans: Scans, tmp_path: Path) -> None:
    root = scans.add("a/b.png")
    (root / "file").symlink_to(root / "a" / "b.png")
    (root / "up").symlink_to(root)
    (root / "broken").symlink_to(root / "nowhere")
    (root / "itself").symlink_to(root / "itself")
    (root / "one").symlink_to(root / "two")
    (root / "two").symlink_to(root / "one")
    told = dict(walk(root))
    assert told.pop("up").startswith("a link to a folder")
    assert told == dict.fromkeys(["file", "broken", "itself", "one", "two", "a/b.png"], "")  # opening these will tell


def test_a_folder_that_cannot_be_read_is_told_and_the_rest_is_found(scans: Scans, locked: set[str]) -> None:
    root = scans.classes(each=2)
    scans.add("MildDemented/secret/s.png")
    locked.add("secret")
    found = layouts.discover_scans(root)
    assert len(found) == 4
    assert found.unused == (("MildDemented/secret", "a folder that cannot be read; change its permissions"),)
    locked.add("NonDemented")
    found = layouts.discover_scans(root)
    assert set(found.label.tolist()) == {"MildDemented"}
    assert {path for path, _ in found.unused} == {"MildDemented/secret", "NonDemented"}
    listed = layouts.list_unlabelled([root], None)
    assert {path for path, _ in listed.unused} == {f"{root}/MildDemented/secret", f"{root}/NonDemented"}


def test_a_root_that_cannot_be_read_is_an_error(scans: Scans, locked: set[str]) -> None:
    root = scans.classes()
    locked.add(root.name)
    with pytest.raises(DataError, match=r"cannot be read: Permission denied. Change its permissions"):
        layouts.discover_scans(root)


def test_a_wrapping_folder_that_cannot_be_read(scans: Scans, locked: set[str]) -> None:
    scans.add("wrap/a/b.png")
    locked.add("wrap")
    with pytest.raises(DataError, match="cannot be read"):
        folders.descend(scans.root)


def test_very_deep_folders(tmp_path: Path) -> None:
    here = tmp_path
    for _ in range(300):
        here = here / "d"
    here.mkdir(parents=True)
    (here / "a.png").touch()
    assert [path.count("/") for path, _ in walk(tmp_path)] == [300]


def test_a_folder_of_masks_beside_the_way_down_is_listed(scans: Scans) -> None:
    root = scans.add("imgs/cat/1.png", "imgs/dog/2.png", "labels/cat/1.png", "labels/dog/2.png", "@eaDir/x.png")
    listing = layouts.discover_scans(root)
    assert listing.root == root / "imgs"
    assert sorted(listing.label.tolist()) == ["cat", "dog"]
    assert dict(listing.unused).keys() == {"labels/", "@eaDir/"}
    assert "masks" in dict(listing.unused)["labels/"]
