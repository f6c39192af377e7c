"""Tables that no spreadsheet takes for formulas, read back as they were."""

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanwise.cohort import table_files
from scanwise.csv_files import format_csv, harmless_text, original_text, read_csv, write_csv
from tiny import Command, picture
from tiny import read_csv as rows_of
from tiny import write_csv as write_rows

FORMULAS = [
    "=1+1",
    "+x",
    "-x",
    "@SUM(A1)",
    "\tx",
    "\rx",
    '=HYPERLINK("http://x")',
    "＝1",
    "'=1",
    "''=1",
    "-",
    "=",
    "-1+1",
    "+1 2",
]
PLAIN = ["", "a", "-1", "-0.5", "+3.5e2", ".5", "1-2", "'s", "'", "it's", "a=b", " =1"]
DANGEROUS = re.compile(r"[=+@\t\r＝＋＠－-]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_made_text(text: str) -> None:
    assert harmless_text(text) == f"'{text}"
    assert original_text(harmless_text(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_and_numbers_stay(text: str) -> None:
    assert harmless_text(text) == original_text(text) == text


@given(st.text(alphabet="'=+-@\t\r\n,\";a1.e é＝", max_size=8))
def test_every_text_is_harmless_and_comes_back(text: str) -> None:
    written = harmless_text(text)
    assert not DANGEROUS.match(written) or NUMBER.fullmatch(written)
    assert original_text(written) == text


@given(st.lists(st.tuples(*[st.text(alphabet="'=+-@\t\n,\";a1é", max_size=6)] * 2), max_size=5))
def test_tables_come_back(rows: list[tuple[str, str]]) -> None:
    text = format_csv(("=name", "b"), rows)
    for row in csv.reader(text.splitlines(keepends=True)):
        assert all(not DANGEROUS.match(cell) or NUMBER.fullmatch(cell) for cell in row)


def test_a_table_of_a_run_is_read_back_as_it_was(tmp_path: Path) -> None:
    rows = [(text, 1.5, -2) for text in (*FORMULAS, *PLAIN)]
    write_csv(("=column", "b", "c"), rows, tmp_path / "a.csv")
    header, cells = read_csv(tmp_path / "a.csv")
    assert header == ["=column", "b", "c"]
    assert [tuple(row) for row in cells] == [(text, "1.5", "-2") for text in (*FORMULAS, *PLAIN)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".xlsx"])
def test_a_table_of_users_is_read_back_as_it_was(suffix: str, tmp_path: Path) -> None:
    texts = [
        text for text in (*FORMULAS, *PLAIN) if text.strip() == text and text and "\r" not in text and "\t" not in text
    ]
    file = tmp_path / f"a{suffix}"
    table_files.write_user_table({"path": texts, "=column": texts}, file, file)
    columns = table_files.read_user_table(file).columns
    assert columns["path"].tolist() == texts
    assert columns["=column"].tolist() == texts


def test_a_file_that_begins_with_an_apostrophe_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "'-x.png").write_bytes(b"x")
    (tmp_path / "a.csv").write_text("path,label\n'-x.png,a\n", encoding="utf-8")
    assert table_files.read_user_table(tmp_path / "a.csv").columns["path"].tolist() == ["'-x.png"]


@pytest.mark.extended
def test_names_that_are_formulas_go_through_a_run(tmp_path: Path, tiny_recipe: Path, scanwise: Command) -> None:
    """Class, subject, file and column: harmless in every table, and read back by all that reads tables."""
    rows = []
    for kind, label in enumerate(("=cmd", "-well")):
        for person in range(10):
            file = tmp_path / "data" / f"{label}" / f"+{person}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture(kind, 100 * kind + person).save(file)
            path = f"{label}/+{person}.png"
            rows.append(
                {
                    "path": path,
                    "label": label,
                    "subject": f"@{kind}{person}",
                    "=site": "-north" if person % 2 else "+south",
                }
            )
    write_rows(tmp_path / "data" / "scans.csv", rows)
    run = tmp_path / "run"
    said = scanwise("fit", tiny_recipe, "--data", tmp_path / "data" / "scans.csv", "--out", run, "--threads", 1)
    assert said.code == 0, said.err
    for file in run.rglob("*.csv"):
        for row in csv.reader(file.read_text(encoding="utf-8").splitlines(keepends=True)):
            assert all(not DANGEROUS.match(cell) or NUMBER.fullmatch(cell) for cell in row), (file, row)
    assert {row["predicted"] for row in rows_of(run / "tables" / "predictions.csv")} <= {"'=cmd", "'-well"}
    assert scanwise("report", run).code == 0
    table = tmp_path / "data" / "again.csv"
    assert scanwise("cohort", tmp_path / "data" / "scans.csv", "--out", table).code == 0
    assert scanwise("fit", tiny_recipe, "--data", table, "--out", run, "--threads", 1, "--resume").code == 0
    said = scanwise("predict", run, tmp_path / "data" / "=cmd", "--format", "csv")
    assert "'=cmd" in said.out
