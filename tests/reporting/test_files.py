"""docs/files.md tells every table of a run and every column, with the type that its Parquet file has."""

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scanwise.csv_files import read_csv
from scanwise.recipe import load_recipe
from scanwise.run import RunFolder

DOCS = Path(__file__).parents[2] / "docs" / "files.md"
OPEN = r"p_.*|predicted_.*|true_.*_called_.*|validation_.*|site"
"""Columns whose names depend on the data or the recipe."""


@pytest.fixture(scope="module")
def words() -> set[str]:
    return set(re.findall(r"`([^`\s]+)`", DOCS.read_text(encoding="utf-8")))


def test_every_table_and_column_is_told(make_run: Callable[..., RunFolder], words: set[str]) -> None:
    run = make_run()
    headings = " ".join(line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("## "))
    found = sorted(run.tables.rglob("*.parquet"))
    assert len(found) > 12
    for path in found:
        name = re.sub(r"^breakdown_.*", "breakdown_COLUMN", path.stem)
        name = re.sub(r".*_(classification_results|summary_statistics)$", r"NAME_\1", name)
        assert f"tables/{name}" in headings, path
        columns = pq.read_schema(path).names
        assert not [c for c in columns if c not in words and not re.fullmatch(OPEN, c)], path


def test_csv_and_parquet_hold_the_same(make_run: Callable[..., RunFolder]) -> None:
    for path in sorted(make_run().tables.rglob("*.csv")):
        header, lines = read_csv(path)
        table = pq.read_table(path.with_suffix(".parquet"))
        assert table.column_names == header
        assert table.num_rows == len(lines)
        for name, cells in zip(header, zip(*lines, strict=True), strict=True):
            values = table[name].to_pylist()
            if str(table[name].type) == "double":
                assert [None if cell == "" else float(cell) for cell in cells] == values
            else:
                assert list(cells) == ["" if value is None else str(value) for value in values]


def test_types_do_not_hang_on_what_happens_to_be_there(make_run: Callable[..., RunFolder]) -> None:
    schema = pq.read_schema(make_run().tables / "predictions.parquet")
    kinds = {name: str(schema.field(name).type) for name in ("subject", "p_nondemented", "correct", "ood", "ood_flag")}
    assert kinds == {
        "subject": "string", "p_nondemented": "double", "correct": "bool", "ood": "double", "ood_flag": "bool",
    }  # fmt: skip


def test_the_stroke_project_keeps_its_names(make_run: Callable[..., RunFolder]) -> None:
    assert load_recipe("stroke-hybrid").results_name == "stroke"
    header, lines = read_csv(make_run().tables / "alexnet-gray_classification_results.csv")
    assert {"image_type", "correct_prediction"} <= set(header)
    row = dict(zip(header, lines[0], strict=True))
    assert row["correct_prediction"] == str(row["prediction"] == row["true_label"])
