"""A workbook costs what its cells cost, wherever they are, and one that unpacks to too much is not read."""

import zipfile
from pathlib import Path

import openpyxl
import pytest
from openpyxl.styles import Font

from scanwise.cohort import excel_files, table_files
from scanwise.errors import DataError

ROWS = [["path", "label"], ["a.png", "x"], ["b.png", "y"]]
FAR = "XFD1048576"


def workbook(file: Path, far: object = None, merged: str = "") -> Path:
    book = openpyxl.Workbook()
    for row in ROWS:
        book.active.append(row)
    if far is not None:
        book.active[FAR] = far
    book.active[FAR].font = Font(bold=True)  # a cell that holds nothing
    if merged:
        book.active.merge_cells("B2:B3")
    book.save(file)
    if merged:  # openpyxl would make every one of these cells
        with zipfile.ZipFile(file) as archive:
            parts = {part.filename: archive.read(part) for part in archive.infolist()}
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data.replace(b"B2:B3", merged.encode()))
    return file


def test_a_far_cell_that_holds_nothing_is_none(tmp_path: Path) -> None:
    """Not one of the 17 thousand million cells between is made, which the test would not survive."""
    table = table_files.read_user_table(workbook(tmp_path / "t.xlsx"))
    assert table.columns.to_dict("list") == {"path": ["a.png", "b.png"], "label": ["x", "y"]}
    assert list(table.lines) == [2, 3]


def test_a_far_cell_that_holds_something_is_named_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"more values than the header has names \(lines 1048576\)"):
        table_files.read_user_table(workbook(tmp_path / "t.xlsx", "stray"))


@pytest.mark.extended
def test_cells_merged_to_the_end_of_the_sheet_end_with_the_rows(tmp_path: Path) -> None:
    file = workbook(tmp_path / "t.xlsx", merged="B2:B1048576")
    assert table_files.read_user_table(file).columns["label"].tolist() == ["x", "x"]
    with pytest.raises(DataError, match="merged over several columns"):
        table_files.read_user_table(workbook(tmp_path / "u.xlsx", merged=f"A2:{FAR}"))


def test_rows_that_are_all_as_wide_as_the_sheet_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excel_files, "MAX_WIDTH", 16_384)
    with pytest.raises(DataError, match="too large"):
        table_files.read_user_table(workbook(tmp_path / "t.xlsx"))


def test_what_unpacks_to_too_much_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = workbook(tmp_path / "t.xlsx")
    with zipfile.ZipFile(file) as archive:
        sizes = sum(part.file_size for part in archive.infolist() if part.filename.endswith(".xml"))
    monkeypatch.setattr(excel_files, "MAX_UNPACKED", sizes)
    assert len(table_files.read_user_table(file).columns) == 2
    monkeypatch.setattr(excel_files, "MAX_UNPACKED", sizes - 1)
    with pytest.raises(DataError, match="Save the table as CSV or Parquet"):
        table_files.read_user_table(file)
    monkeypatch.undo()
    monkeypatch.setattr(excel_files, "MAX_TAGS", 10)
    with pytest.raises(DataError, match="too large"):
        table_files.read_user_table(file)


def test_another_sheet_with_the_same_columns_is_said(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "site A"
    for name in ("site B", "notes"):
        book.create_sheet(name)
    for row in ROWS:
        book["site A"].append(row)
        book["site B"].append(row)
    book["notes"].append(["path", "of the export"])
    book.save(tmp_path / "t.xlsx")
    table = table_files.read_user_table(tmp_path / "t.xlsx")
    assert len(table.columns) == 2
    (remark,) = table.remarks
    assert remark.startswith("t.xlsx: only the sheet 'site A' was read; 'site B' has the same columns.")
    del book["site B"]
    book.save(tmp_path / "t.xlsx")
    assert not table_files.read_user_table(tmp_path / "t.xlsx").remarks
