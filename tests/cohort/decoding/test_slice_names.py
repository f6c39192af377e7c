"""A scan in a file of many has a name, and the name leads back to the file."""

from pathlib import Path

import pytest

from scanwise.cohort.decoding import slice_names


@pytest.mark.parametrize(("index", "count"), [(0, 1), (45, 176), (999, 1000), (7, 12345)])
def test_a_name_leads_back_to_file_and_slice(tmp_path: Path, index: int, count: int) -> None:
    file = tmp_path / "x.nii.gz"
    file.touch()
    named = slice_names.name(str(file), index, count)
    assert slice_names.split_slice(Path(named)) == (file, index)
    assert slice_names.file_of_scan(named) == str(file)


def test_names_sort_like_numbers() -> None:
    for count in (3, 1000, 1001):
        names = [slice_names.name("x", index, count) for index in range(count)]
        assert names == sorted(names)


@pytest.mark.parametrize("name", ["a#1", "a#001", "#7", "a#b", "two\nlines#003"])
def test_a_file_that_is_really_called_so_is_itself(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert slice_names.split_slice(tmp_path / name) == (tmp_path / name, None)


def test_a_broken_link_of_that_name_is_itself_too(tmp_path: Path) -> None:
    (tmp_path / "a#1").symlink_to(tmp_path / "nowhere")
    assert slice_names.split_slice(tmp_path / "a#1") == (tmp_path / "a#1", None)


def test_of_a_name_with_more_of_these_signs_the_last_counts(tmp_path: Path) -> None:
    assert slice_names.split_slice(tmp_path / "a#1#002") == (tmp_path / "a#1", 2)
    assert slice_names.split_slice(tmp_path / "two\nlines#003") == (tmp_path / "two\nlines", 3)
    assert slice_names.split_slice(tmp_path / "folder#3" / "x.png") == (tmp_path / "folder#3" / "x.png", None)
