"""CSV files of a run folder, and the same tables as Parquet.

Numbers are written in full precision; a missing value is an empty cell. A text that a spreadsheet would take for a formula
is written with an apostrophe before it, which makes it text there, and is read back without.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from scanwise.errors import RunError
from scanwise.run import write_text, writing

Row = Sequence[object]
FLAG_COLUMNS = ("ood_flag", "deferred")
NUMBER_COLUMNS = (
    "mutual_information", "ood", "expected_cdr", "cdr_sd", "value", "low", "high", "difference", "difference_low", "difference_high",
    "chosen",
)  # fmt: skip
"""Columns that keep their type in Parquet where every cell is empty."""
_FORMULA = re.compile(r"'*[=+@\t\r\uff1d\uff0b\uff20\uff0d-]")
_HARMLESS = re.compile(r"'+[=+@\t\r\uff1d\uff0b\uff20\uff0d-]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
DELETE_AND_RESUME = "Delete it and run `scanwise fit` again with --resume."


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV file that scanwise wrote."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing. Run `scanwise fit` again with --resume; what is done is kept.") from error
    except (OSError, csv.Error) as error:
        raise RunError(f"{path} cannot be read: {error}. {DELETE_AND_RESUME}") from error
    return [original_text(name) for name in header], [[original_text(cell) for cell in row] for row in rows]


def harmless_text(text: str) -> str:
    """The text as it is written into a cell; numbers stay as they are.

    >>> harmless_text("=1+1"), harmless_text("-0.5"), harmless_text("-x"), harmless_text("'=1")
    ("'=1+1", '-0.5', "'-x", "''=1")
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def original_text(cell: str) -> str:
    """The text of a cell that `harmless_text` wrote.

    >>> original_text("'=1+1"), original_text("-0.5"), original_text("''=1"), original_text("'s")
    ('=1+1', '-0.5', "'=1", "'s")
    """
    return cell[1:] if _HARMLESS.match(cell) else cell


def format_csv(header: Iterable[str], rows: Iterable[Row], separator: str = ",") -> str:
    """A table as CSV text; the one writer of all tables."""
    return "".join(_line(row, separator) for row in (list(header), *rows))


def write_csv(header: Iterable[str], rows: Iterable[Row], path: Path) -> None:
    """Write a CSV file, whole or not at all."""
    write_text(format_csv(header, rows), path)


def write_table(header: Iterable[str], rows: Iterable[Row], path: Path) -> None:
    """Write a CSV file and beside it the same table as Parquet."""
    names, lines = list(header), [list(row) for row in rows]
    write_csv(names, lines, path)
    write_typed_table(names, lines, path.with_suffix(".parquet"))


def write_typed_table(names: Sequence[str], lines: Sequence[Row], path: Path) -> None:
    """Write a table as Parquet, where every column has one type.

    A column of numbers is `double` (whole ones `int64`, flags `bool`) with null where the CSV has an empty cell; any
    other column is `string`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [_typed(name, [line[index] for line in lines]) for index, name in enumerate(names)]
    arrays = [pa.array(values, getattr(pa, kind)()) for kind, values in columns]
    with writing(path) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, names=list(names)), temporary)


def _typed(name: str, cells: Sequence[object]) -> tuple[str, list[object]]:
    """The type of a column and its values, None where a cell is empty or NaN."""
    values: list[object] = [None if cell is None or cell == "" or cell != cell else cell for cell in cells]
    present = [value for value in values if value is not None]
    if not present and name in (*FLAG_COLUMNS, *NUMBER_COLUMNS):  # nothing was measured; the type stays
        return ("bool_" if name in FLAG_COLUMNS else "float64"), list(values)
    if present and all(isinstance(value, bool | np.bool_) for value in present):
        return "bool_", [None if value is None else bool(value) for value in values]
    if present and all(isinstance(value, int | np.integer) and not isinstance(value, bool) for value in present):
        return "int64", [None if value is None else int(str(value)) for value in values]
    if present and all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in present):
        return "float64", [None if value is None else float(str(value)) for value in values]
    return "string", ["" if value is None else str(value) for value in values]


def _line(row: Row, separator: str) -> str:
    """A row and its end; Python's own writer leaves a carriage return without quotes, which no reader takes back."""
    fields = ["" if value is None else str(_cell(value)) for value in row]
    special = (separator, '"', "\n", "\r")
    quoted = ['"' + f.replace('"', '""') + '"' if any(char in f for char in special) else f for f in fields]
    return ('""' if quoted == [""] else separator.join(quoted)) + "\n"


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if value != value else float(value)
    return harmless_text(value) if isinstance(value, str) else value
