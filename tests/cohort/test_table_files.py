"""A table is the same in every kind of file; cells are text, and merged cells are told or refused."""

from datetime import datetime
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl.worksheet.worksheet import Worksheet

from scanwise.cohort import layouts, table_files
from scanwise.errors import DataError

COLUMNS = {
    "path": ["a.png", "脳 b.png", 'comma, "quoted".png', "c#1"],
    "label": ["x", "None", "0.5", "=SUM(1)"],
    "subject": ["007", "1e5", "p", "q"],
    "site": ["north", "", "", "-"],
}


def excel(file: Path, rows: list[list[object]], *merged: str, title: str = "Sheet") -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    assert isinstance(sheet, Worksheet)
    sheet.title = title
    for row in rows:
        sheet.append(row)
    for cells in merged:
        sheet.merge_cells(cells)
    book.save(file)
    return file


def cells(file: Path) -> dict[str, list[str]]:
    found = table_files.read_user_table(file).columns.fillna("")
    return {str(name): found[name].tolist() for name in found}


def refusal(file: Path) -> str:
    with pytest.raises(DataError) as caught:
        table_files.read_user_table(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", table_files.SUFFIXES)
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"t{suffix}"
    table_files.write_user_table(COLUMNS, file, file)
    assert cells(file) == COLUMNS


@pytest.mark.parametrize("suffix", table_files.SUFFIXES)
def test_a_column_in_which_nothing_is_said(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"t{suffix}"
    table_files.write_user_table({"path": ["a", "b"], "site": ["", ""]}, file, file)
    assert cells(file).get("site", ["", ""]) == ["", ""]


@pytest.mark.parametrize("suffix", table_files.SUFFIXES)
def test_every_kind_is_a_manifest(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"scans{suffix}"
    table_files.write_user_table(COLUMNS, file, file)
    found = layouts.discover_scans(file)
    assert found.path.tolist() == COLUMNS["path"]
    assert found.label.tolist() == COLUMNS["label"]
    assert found.subject is not None
    assert found.subject.tolist() == COLUMNS["subject"]
    assert found.groups["site"].tolist() == COLUMNS["site"]


def test_numbers_and_dates_of_excel_and_parquet_are_as_people_type_them(tmp_path: Path) -> None:
    rows = [["path", "label", "age", "when"], ["a", 1, 70.0, datetime(2020, 1, 2)], ["b", True, 0.5, None]]
    expected = {"path": ["a", "b"], "label": ["1", "True"], "age": ["70", "0.5"], "when": ["2020-01-02", ""]}
    assert cells(excel(tmp_path / "t.xlsx", rows)) == expected
    frame = pd.DataFrame({"path": ["a", "b"], "label": [1, 2], "age": [70.0, np.nan], "who": ["x", None]})
    frame.to_parquet(tmp_path / "t.parquet")
    assert cells(tmp_path / "t.parquet") == {
        "path": ["a", "b"], "label": ["1", "2"], "age": ["70", ""], "who": ["x", ""],
    }  # fmt: skip


def test_missing_values_are_named_by_their_rows(tmp_path: Path) -> None:
    file = excel(tmp_path / "t.xlsx", [["path", "label"], ["a.png", "x"], [None, None], ["b.png", None]])
    with pytest.raises(DataError, match=r"'label' is empty in 1 row \(lines 4\)"):
        layouts.discover_scans(file)


# --- merged cells ---

ROWS: list[list[object]] = [
    ["path", "label", "subject"],
    ["a.png", "x", "p"],
    ["b.png", None, None],
    ["c.png", "y", None],
    ["d.png", "y", "q"],
]


def test_cells_merged_downwards_are_filled_and_told(tmp_path: Path) -> None:
    found = layouts.discover_scans(excel(tmp_path / "t.xlsx", ROWS, "B2:B3", "C2:C4"))
    assert found.label.tolist() == ["x", "x", "y", "y"]
    assert found.subject is not None
    assert found.subject.tolist() == ["p", "p", "p", "q"]
    (told,) = found.remarks
    assert told.startswith("t.xlsx: 2 cells of the sheet 'Sheet' are merged over several rows (B2:B3, C2:C4)")


@pytest.mark.parametrize(
    ("merged", "said"), [("B2:C2", "several columns"), ("A1:B1", "the header"), ("B1:B2", "header")]
)
def test_cells_merged_otherwise_are_refused_by_name(tmp_path: Path, merged: str, said: str) -> None:
    told = refusal(excel(tmp_path / "t.xlsx", ROWS, merged))
    assert f"the cells {merged} are merged over" in told
    assert said in told


def test_merged_paths_are_duplicates(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 path is listed more than once \(a.png\)"):
        layouts.discover_scans(excel(tmp_path / "t.xlsx", [row[:2] for row in (*ROWS[:2], [None, "y"])], "A2:A3"))


def test_merged_cells_reach_the_findings(tmp_path: Path) -> None:
    from scanwise import cohort
    from scanwise.recipe import Recipe

    for name in "abcd":
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (20, 20)).astype(np.uint8)
        __import__("PIL.Image").Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    file = excel(tmp_path / "t.xlsx", ROWS, "B2:B3", "C2:C4")
    intake = cohort.read_cohort(str(file), Recipe.model_validate({"name": "a", "data": {"size": 16}}))
    assert any("merged" in finding.message for finding in intake.findings)
    assert len(intake.cohort) == 4


# --- sheets ---


def test_the_sheet_with_paths_is_taken(tmp_path: Path) -> None:
    file = excel(tmp_path / "t.xlsx", [["read me"]], title="Notes")
    book = openpyxl.load_workbook(file)
    sheet = book.create_sheet("Scans")
    for row in ROWS[:2]:
        sheet.append(row)
    book.save(file)
    assert cells(file)["path"] == ["a.png"]


def test_cells_without_a_name_above_them(tmp_path: Path) -> None:
    assert "more values than the header" in refusal(excel(tmp_path / "t.xlsx", [["path"], ["a", "b"]]))
    assert cells(excel(tmp_path / "u.xlsx", [["path", None], ["a", None], [None, None]])) == {"path": ["a"]}


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    assert "two columns 'who'" in refusal(excel(tmp_path / "t.xlsx", [["path", "who", "who"], ["a", "b", "c"]]))


@pytest.mark.parametrize("suffix", [".xlsx", ".parquet"])
@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04 not quite"])
def test_damaged_files(tmp_path: Path, suffix: str, content: bytes) -> None:
    file = tmp_path / f"t{suffix}"
    file.write_bytes(content)
    assert f"The manifest {file} cannot be read" in refusal(file)


def test_a_damaged_sheet_anywhere_is_a_reason(tmp_path: Path) -> None:
    whole = excel(tmp_path / "t.xlsx", ROWS).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(30):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 8):
            damaged[place] = random.integers(256)
        (tmp_path / "u.xlsx").write_bytes(bytes(damaged))
        try:
            table_files.read_user_table(tmp_path / "u.xlsx")
        except DataError as error:
            assert "cannot be read" in str(error) or "u.xlsx" in str(error)  # noqa: PT017


def test_an_old_excel_file_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "t.xls").touch()
    assert "Save it as .xlsx" in refusal(tmp_path / "t.xls")


def test_excel_cannot_hold_everything(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Write .csv or .parquet"):
        table_files.write_user_table({"path": ["a\x01b"]}, tmp_path / "t.xlsx", tmp_path / "t.xlsx")


def test_a_table_of_no_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ends in none of"):
        table_files.write_user_table({"path": ["a"]}, tmp_path / "t.part", tmp_path / "t.docx")


def write_coded(file: Path, texts: list[str], rows: int) -> Path:
    """A column of few texts and many rows, which takes kilobytes."""
    indices = pa.array(np.arange(rows) % len(texts), pa.int32())
    pq.write_table(pa.table({"path": pa.DictionaryArray.from_arrays(indices, pa.array(texts))}), file)
    return file


def test_a_small_parquet_file_of_many_rows_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    file = write_coded(tmp_path / "scans.parquet", ["x" * 1000], 8_000_000)
    with pytest.raises(DataError, match="too large for a table of scans"):
        table_files.read_user_table(file)


@pytest.mark.extended
def test_a_small_parquet_file_of_long_texts_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    table = pa.table({"path": [f"{index:01000000d}" for index in range(450)]})
    pq.write_table(table, tmp_path / "scans.parquet", compression="zstd")
    assert (tmp_path / "scans.parquet").stat().st_size < 2e6
    with pytest.raises(DataError, match="too large for a table of scans"):
        table_files.read_user_table(tmp_path / "scans.parquet")


@pytest.mark.extended
def test_a_long_text_of_many_cells_is_kept_once(tmp_path: Path) -> None:
    file = write_coded(tmp_path / "scans.parquet", [f"{index:05000d}" for index in range(10)], 100_000)
    column = table_files.read_user_table(file).columns["path"]
    assert len(column) == 100_000
    assert column.nunique() == 10


@pytest.mark.parametrize("kind", ["parquet", "xlsx"])
def test_damage_that_a_package_calls_an_error_of_the_system_is_damage(tmp_path: Path, kind: str) -> None:
    """pyarrow raises an OSError without a number for packed data that do not unpack, zipfile one for a place before the file."""
    file = tmp_path / f"scans.{kind}"
    if kind == "parquet":
        pd.DataFrame(COLUMNS).to_parquet(file)
        whole = file.read_bytes()
        broken = whole[:4] + bytes(byte ^ 0x55 for byte in whole[4:200]) + whole[200:]
    else:
        whole = excel(file, [["path", "label"], ["a.png", "x"]]).read_bytes()
        end = whole.rindex(b"PK\x05\x06")
        broken = whole[: end + 12] + b"\xff\xff\xff\x7f" + whole[end + 16 :]
    file.write_bytes(broken)
    with pytest.raises(DataError, match=rf"scans\.{kind} cannot be read"):
        table_files.read_user_table(file)
