"""Tables as programs of many countries write them are read, or the cause is named with its line."""

import csv
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanwise.cohort import layouts, table_files
from scanwise.errors import DataError

HEADER, ROWS = ("path", "label", "subject"), [(f"{i}.png", "xy"[i % 2], f"Mül {i}") for i in range(4)]
PLAIN = "\n".join(",".join(row) for row in (HEADER, *ROWS)) + "\n"
EXPECTED = {name: [row[index] for row in ROWS] for index, name in enumerate(HEADER)}


def cells(file: Path) -> dict[str, list[str]]:
    columns = table_files.read_user_table(file).columns.fillna("")
    return {str(name): columns[name].tolist() for name in columns}


def table(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def refusal(folder: Path, content: str | bytes) -> str:
    with pytest.raises(DataError) as caught:
        table_files.read_user_table(table(folder, content))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- encodings and separators ---


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_every_encoding_and_separator(tmp_path: Path, encoding: str, separator: str, name: str) -> None:
    file = table(tmp_path, PLAIN.replace(",", separator).encode(encoding), name)
    assert cells(file) == EXPECTED
    assert ("read as Windows-1252" in " ".join(table_files.read_user_table(file).remarks)) == (encoding == "cp1252")


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("path;label;size (mm,mm)\na.png;x;1,2\nb.png;y;3,4\n", ["path", "label", "size (mm,mm)"]),
        ("path,label,note;remark\na.png,x,1;2\nb.png,y,none\n", ["path", "label", "note;remark"]),
        ("path\na.png\n", ["path"]),
        ("sep=;\npath;label\na.png;x\n", ["path", "label"]),
        ("path,label\r\na.png,x\r\n", ["path", "label"]),
        ("path,label\ra.png,x\r", ["path", "label"]),
    ],
)
def test_columns_of_mixed_separators_and_line_ends(tmp_path: Path, content: str, columns: list[str]) -> None:
    found = cells(table(tmp_path, content))
    assert [*found] == columns
    assert found["path"][0] == "a.png"


@pytest.mark.parametrize(
    ("word", "encoding"),
    [
        ("Деменция", "cp1251"), ("痴呆", "gb18030"), ("치매", "euc-kr"), ("認知症", "shift_jis"), ("Άνοια", "cp1253"), ("سليم", "cp1256"), ("בריא", "cp1255"),
        ("Démence", "cp850"), ("Démence", "mac_roman"),
    ],
)  # fmt: skip
def test_another_code_page_is_refused_and_not_read_as_windows_1252(tmp_path: Path, word: str, encoding: str) -> None:
    said = refusal(tmp_path, f"path,label\na.png,plain\nb.png,{word}\n".encode(encoding))
    assert "Save it as CSV UTF-8" in said
    assert "neither" in said or "line 3 would make no sense" in said


@pytest.mark.parametrize("word", ["très légère", "Größe >5 µm", "„klein“…", "«œuvre»…", "Žižek", "señor", "5–7 °C"])
def test_western_words_are_read(tmp_path: Path, word: str) -> None:
    assert cells(table(tmp_path, f"path,label\na.png,{word}\n".encode("cp1252")))["label"] == [word]


def test_an_encoding_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    broken = "path,label\na.png,Müll\nb.png,Döner\n".encode() + b"c.png,\xfc\n"
    assert "line 4 has bytes that are not UTF-8" in refusal(tmp_path, broken)
    assert "neither UTF-8 nor Windows-1252" in refusal(tmp_path, b"path,label\na.png,\x81\x8d\n")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"PK\x03\x04..", "Excel"),
        (b"\xd0\xcf\x11\xe0..", "old Excel"),
        (b"PAR1..", "Parquet"),
        (b"\x1f\x8b..", "compressed"),
    ],
)
def test_another_kind_of_file_under_the_name_of_a_csv(tmp_path: Path, content: bytes, cause: str) -> None:
    assert cause in refusal(tmp_path, content)


# --- quotes ---


@pytest.mark.parametrize(
    "body",
    [
        '0.png,x\n1.png,"x\n2.png,y\n3.png,y\n4.png,"y\n5.png,x\n',  # the second quote is no end of a cell
        '0.png,x\n1.png,"x\n2.png,y\n3.png,y"\n4.png,y\n',  # the quotes make one cell of three rows
        '0.png,x\n"1.png,x\n2.png,y\n3.png,y\n',  # nothing closes it
    ],
)
def test_stray_quotes_swallow_no_rows(tmp_path: Path, body: str) -> None:
    message = refusal(tmp_path, "path,label\n" + body)
    assert "line 3" in message
    assert "quote" in message


@given(
    rows=st.lists(st.sampled_from(["x", "y", "a b"]), min_size=6, max_size=12),
    first=st.integers(0, 11),
    second=st.integers(0, 11),
    sides=st.tuples(st.booleans(), st.booleans()),
)
@settings(max_examples=80, deadline=None)
def test_a_pair_of_quotes_anywhere_loses_no_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], first: int, second: int, sides: tuple[bool, bool]
) -> None:
    """Whatever two quotes do: all rows are there, or the table is refused."""
    values = list(rows)
    for place, before in zip((first, second), sides, strict=True):
        index = place % len(values)
        values[index] = '"' + values[index] if before else values[index] + '"'
    content = "path,label\n" + "".join(f"{index}.png,{value}\n" for index, value in enumerate(values))
    file = table(tmp_path_factory.mktemp("quotes"), content)
    try:
        found = cells(file)
    except DataError:
        return
    assert found["path"] == [f"{index}.png" for index in range(len(values))]


def test_quotes_that_close_where_they_open_are_fine(tmp_path: Path) -> None:
    file = table(tmp_path, 'path,label,text\na.png,"x, y","he said ""no"""\nb.png,5" disc,\n')
    assert cells(file) == {"path": ["a.png", "b.png"], "label": ["x, y", '5" disc'], "text": ['he said "no"', ""]}


def test_a_line_break_in_the_name_of_a_file_that_exists_is_no_stray_quote(tmp_path: Path) -> None:
    (tmp_path / "a\nb.png").touch()
    assert cells(table(tmp_path, 'path,label\n"a\nb.png",x\n'))["path"] == ["a\nb.png"]
    assert "line 2" in refusal(tmp_path, 'path,label\n"a\nc.png",x\n')


# --- margins, index, names of columns ---


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.replace("\n", ",,\n"),
        PLAIN.replace("\n", ",,\n").replace("subject,,", "subject"),
        PLAIN + ",,\n\n,\n",
        "\n" + PLAIN,
    ],
)
def test_empty_margins_are_dropped(tmp_path: Path, content: str) -> None:
    assert cells(table(tmp_path, content)) == EXPECTED


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".xlsx"])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 0, 2]])
def test_an_index_of_pandas_is_no_column(tmp_path: Path, suffix: str, rows: list[int]) -> None:
    frame = pd.DataFrame(ROWS, columns=HEADER).iloc[rows]
    file = tmp_path / f"t{suffix}"
    {".csv": frame.to_csv, ".parquet": frame.to_parquet, ".xlsx": frame.to_excel}[suffix](file)
    assert cells(file) == {name: [values[row] for row in rows] for name, values in EXPECTED.items()}


def test_an_index_saved_twice_and_row_numbers_of_r(tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS, columns=HEADER)
    frame.to_csv(tmp_path / "a.csv")
    pd.read_csv(tmp_path / "a.csv").to_csv(tmp_path / "b.csv")
    assert cells(tmp_path / "b.csv") == EXPECTED
    lines = PLAIN.splitlines()
    written = [lines[0], *(f'"{number}",{line}' for number, line in enumerate(lines[1:], 1))]
    assert cells(table(tmp_path, "\n".join(written))) == EXPECTED


def test_an_index_with_a_name_is_a_column(tmp_path: Path) -> None:
    pd.DataFrame(ROWS, columns=HEADER).set_index("path").to_parquet(tmp_path / "t.parquet")
    found = cells(tmp_path / "t.parquet")
    assert {name: found[name] for name in HEADER} == EXPECTED


def test_columns_that_cannot_be_told(tmp_path: Path) -> None:
    assert "two columns 'label'" in refusal(tmp_path, "path,label,label\na.png,x,y\n")
    assert "two columns 'label'" in refusal(tmp_path, "path,label, label\na.png,x,y\n")
    assert "column 2 has values and no name" in refusal(tmp_path, "path,,label\na.png,p,x\nb.png,q,y\n")
    assert "more values than the header has names (lines 3)" in refusal(tmp_path, "path,label\na.png,x\nb.png,y,z\n")
    assert "is empty" in refusal(tmp_path, "")


def test_columns_of_parquet_that_may_be_null(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "path": pd.array(["a", "b"], dtype="string"),
            "label": pd.array([1, 2], dtype="Int64"),
            "age": pd.array([70, None], dtype="Int64"),
            "old": pd.array([True, None], dtype="boolean"),
            "mri": pd.Categorical(["T1", None]),
            "subject": pd.array([2**60 + 1, 7], dtype="Int64"),
            "day": pd.array([pd.Timestamp("2020-01-02"), pd.NaT]),
            "weight": pd.array([70.5, None], dtype="Float64"),
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    assert cells(tmp_path / "t.parquet") == {
        "path": ["a", "b"], "label": ["1", "2"], "age": ["70", ""], "old": ["True", ""], "mri": ["T1", ""],
        "subject": [str(2**60 + 1), "7"], "day": ["2020-01-02", ""], "weight": ["70.5", ""],
    }  # fmt: skip


# --- what says that there is nothing ---


@pytest.mark.parametrize("word", ["NaN", "#N/A", "N/A", "null", "None", "unknown", "UNKNOWN", "n/a", "<NA>", "-", "?"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".xlsx", ".parquet"])
def test_words_that_name_no_person(tmp_path: Path, word: str, suffix: str) -> None:
    file = tmp_path / f"t{suffix}"
    columns = {"path": ["a.png", "b.png", "c.png"], "label": ["x", "y", "x"], "subject": ["p", word, word]}
    table_files.write_user_table(columns, file, file)
    with pytest.raises(DataError, match=r"'subject' (is empty|names no person \(.+\)) in 2 rows \(lines 3, 4\)"):
        layouts.discover_scans(file)
    scans = tmp_path / "scans.csv"
    table_files.write_user_table({**columns, "subject": ["p", "q", "r"]}, scans, scans)
    table_files.write_user_table({name: columns[name] for name in ("path", "subject")}, file, file)
    with pytest.raises(DataError, match=r"'subject' (is empty|names no person \(.+\)) in 2 rows"):
        layouts.discover_scans(scans, str(file))


@pytest.mark.parametrize("word", ["NaN", "nan", "#N/A", "N/A", "null", "<NA>"])
def test_words_that_name_no_group(tmp_path: Path, word: str) -> None:
    file = table(tmp_path, f"path,label,site\na.png,x,{word}\nb.png,None,None\nc.png,x,unknown\n")
    found = layouts.discover_scans(file)
    assert found.groups["site"].tolist() == ["", "None", "unknown"]
    assert found.label.tolist() == ["x", "None", "x"]


def test_formulas_that_failed_and_formats_of_excel(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["path", "label", "site", "subject"], ["a.png", "x", "#N/A", 7], ["b.png", "y", "north", 12]):
        sheet.append(row)
    sheet["C2"].data_type = "e"
    sheet["D2"].number_format = sheet["D3"].number_format = "000"
    book.save(tmp_path / "t.xlsx")
    assert cells(tmp_path / "t.xlsx")["site"] == ["", "north"]
    assert cells(tmp_path / "t.xlsx")["subject"] == ["007", "012"]


def test_ids_that_may_be_one_are_said_with_their_count(tmp_path: Path) -> None:
    file = table(tmp_path, "path,label,subject\na.png,x,P01\nb.png,y,p1\nc.png,x,7\nd.png,y,007\ne.png,x,8\n")
    (remark,) = layouts.discover_scans(file).with_similar_ids(show=True).remarks
    assert remark.startswith("4 subjects differ from another only in case, leading zeros or a final .0")
    (hidden,) = layouts.discover_scans(file).with_similar_ids(show=False).remarks
    assert "007" not in hidden


@given(st.lists(st.lists(st.text("ab ,;\"'", max_size=6), min_size=3, max_size=3), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_cells_of_any_text_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    file = tmp_path_factory.mktemp("cells") / "t.csv"
    rows = [[f"f{number}", *row] for number, row in enumerate(rows)]
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([["path", "one", "two", "three"], *rows])
    expected = {
        name: [" ".join(row[index].split()) for row in rows]
        for index, name in enumerate(("path", "one", "two", "three"))
    }
    assert cells(file) == expected
