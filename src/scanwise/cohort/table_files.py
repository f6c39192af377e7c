"""Tables of any kind in, columns of text out: CSV, TSV, Parquet and Excel; and back.

Everything is text: `007` is a name, not the number 7. Blank cells, and cells that say NaN, N/A or null, are missing;
"None" is a label that people use.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanwise.cohort.delimited_files import RawTable, read_delimited
from scanwise.cohort.excel_files import read_excel
from scanwise.cohort.listing import first
from scanwise.csv_files import format_csv, original_text
from scanwise.errors import DataError
from scanwise.records import StrArray
from scanwise.records.names import has_value

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*SEPARATORS, ".parquet", ".xlsx")
MOST_BYTES = 400_000_000
"""Bytes of all cells of a Parquet file, as they lie in memory."""
_BATCH, _ROW, _CELL, _VALUE = 128, 64, 16, 32  # rows at once; bytes of a row, of a cell, of a value in a list
_INDEX = ("", "index", "level_0", "__index_level_0__")
"""Names above the row numbers that pandas, R and pyarrow write, in lower case."""


@dataclass(frozen=True, slots=True)
class TypedTable:
    """A table as it was read.

    Attributes:
        columns: text, NaN where nothing is said; blanks around a value are gone and those inside are one, but for `path`.
        lines: where each row stands in the file, for messages.
        remarks: what a reader must know of how it was read.
    """

    columns: "pd.DataFrame"
    lines: Sequence[int]
    remarks: tuple[str, ...] = ()


def is_table(file: Path) -> bool:
    """Whether this is the name of a table."""
    return file.suffix.casefold() in SUFFIXES


def read_user_table(file: Path, wanted: Sequence[str] = ("path",)) -> TypedTable:
    """Read a table by what its name ends in.

    Args:
        file: of a kind in `SUFFIXES`.
        wanted: columns by which the sheet of a workbook is chosen.

    Raises:
        DataError: if it is none, or is damaged; with what to change.
    """
    suffix = file.suffix.casefold()
    if suffix not in SUFFIXES:
        hint = " Save it as .xlsx." if suffix in (".xls", ".ods", ".xlsm") else ""
        raise DataError(f"{file} is neither a folder nor a manifest; manifests end in {' or '.join(SUFFIXES)}.{hint}")
    file.open("rb").close()  # so that what is raised below is about its content
    try:
        if suffix == ".parquet":
            raw = _read_parquet(file)
        elif suffix == ".xlsx":
            raw = read_excel(file, wanted)
        else:
            raw = _without_apostrophes(read_delimited(file, SEPARATORS[suffix]), file.parent)
    except DataError:
        raise
    except Exception as error:  # openpyxl and pyarrow raise whatever a damaged file leads them to
        raise DataError(f"The manifest {file} cannot be read: {' '.join(str(error).split())}.") from error
    return _settle(raw, file)


def _without_apostrophes(raw: RawTable, folder: Path) -> RawTable:
    """The cells without the apostrophe that keeps a spreadsheet from taking them for formulas, but for names of files."""

    def text(cell: Any) -> Any:
        if not isinstance(cell, str) or (bare := original_text(cell)) == cell or os.path.lexists(folder / cell):
            return cell
        return bare

    return replace(
        raw, header=[text(cell) for cell in raw.header], rows=[[text(cell) for cell in row] for row in raw.rows]
    )


def _settle(raw: RawTable, file: Path) -> TypedTable:
    """Columns of text under names of their own; an index that a program has added is dropped, and so are empty margins."""
    header = [_text(name).strip() for name in raw.header]
    rows = [[cell if isinstance(cell, str) else _text(cell) for cell in row] for row in raw.rows]
    filled = [index for index, row in enumerate(rows) if any(row)]
    lines, rows = [raw.lines[index] for index in filled], [rows[index] for index in filled]
    width = max((index + 1 for index, name in enumerate(header) if name), default=0)
    if rows and all(len(row) == width + 1 for row in rows) and _are_row_numbers(row[0] for row in rows):
        header, width = ["", *header], width + 1  # R writes no name above its row numbers
    if surplus := [line for line, row in zip(lines, rows, strict=True) if any(row[width:])]:
        raise DataError(
            f"{file}: rows have more values than the header has names (lines {first(surplus)}). Name every column, or "
            "quote values that hold the separator."
        )
    columns: dict[str, list[object]] = {}
    for index, name in enumerate(header[:width]):
        cells = [row[index] if index < len(row) else "" for row in rows]
        if (name.casefold() in _INDEX or name.startswith("Unnamed: ")) and (_are_row_numbers(cells) or not any(cells)):
            continue
        if not name:
            raise DataError(f"{file}: column {index + 1} has values and no name. Name it in the first line.")
        if name in columns:
            raise DataError(f"{file} has two columns {name!r}. Give each a name of its own.")
        tidy = {cell: cell if name == "path" else " ".join(cell.split()) for cell in set(cells)}
        value: dict[str, object] = {cell: text if has_value(text) else np.nan for cell, text in tidy.items()}
        columns[name] = [value[cell] for cell in cells]
    import pandas as pd

    return TypedTable(pd.DataFrame(columns, dtype=object), lines, raw.remarks)


def _are_row_numbers(cells: Iterable[str]) -> bool:
    """Whether these are whole numbers, none of them twice."""
    given = list(cells)
    return all(cell.isascii() and cell.isdigit() for cell in given) and len(set(given)) == len(given)


class TextPool:
    """Texts of cells, each kept once however many cells hold it, and the bytes that they take."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: dict[str, str] = {}

    def keep(self, cell: Any) -> Any:
        """The cell, or an equal text that was there before."""
        if not isinstance(cell, str):
            self.size += _VALUE * len(cell) if isinstance(cell, bytes | list | dict) else 0
            return cell
        kept = self._kept.setdefault(cell, cell)
        self.size += sys.getsizeof(cell) if kept is cell else 0
        return kept


def _read_parquet(file: Path) -> RawTable:
    """Values as Python has them: neither nulls nor long whole numbers pass through floats.

    A few kilobytes can stand for billions of rows, so they are read a few at a time and counted.
    """
    import pyarrow.parquet as pq

    rows: list[tuple[Any, ...]] = []
    with pq.ParquetFile(file) as table:
        about, names = table.metadata, table.schema_arrow.names
        texts = TextPool(about.num_rows * (_ROW + _CELL * about.num_columns))
        for batch in table.iter_batches(_BATCH) if texts.size <= MOST_BYTES else ():
            rows += zip(*(map(texts.keep, column.to_pylist()) for column in batch.columns), strict=True)
            if texts.size > MOST_BYTES:
                break
    if texts.size > MOST_BYTES:
        raise DataError(
            f"{file} is too large for a table of scans: more than {MOST_BYTES / 1e6:,.0f} MB of cells. Leave out columns and "
            "rows that are not needed."
        )
    return RawTable(names, rows, range(2, len(rows) + 2))


def _text(value: Any) -> str:
    """A cell as people would type it.

    >>> _text(7.0), _text(0.5), _text(None), _text(datetime(2020, 1, 2)), _text("007")
    ('7', '0.5', '', '2020-01-02', '007')
    """
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime) and (value.hour, value.minute, value.second) == (0, 0, 0):
        value = value.date()
    return value.isoformat() if isinstance(value, date) else str(value)


def check_table_name(name: Path) -> None:
    """Refuse a file that is to be written as a table and whose name does not say of which kind.

    Raises:
        DataError: if it ends in nothing that tables end in.
    """
    if not is_table(name):
        raise DataError(
            f"{name} ends in none of {', '.join(SUFFIXES)}, so it is not clear what kind of table it should be."
        )


def write_user_table(columns: Mapping[str, StrArray | Sequence[str]], file: Path, name: Path) -> None:
    """Write to `file` the kind of table that `name` ends in.

    Raises:
        DataError: if its name ends in nothing that tables end in.
    """
    check_table_name(name)
    suffix = name.suffix.casefold()
    import pandas as pd

    table = pd.DataFrame({name: list(values) for name, values in columns.items()}, dtype=object)
    if suffix in SEPARATORS:
        rows = (
            ["" if value is None or value != value else value for value in row]
            for row in zip(*columns.values(), strict=True)
        )
        file.write_text(format_csv(columns, rows, SEPARATORS[suffix]), encoding="utf-8", newline="")
    elif suffix == ".parquet":
        table.astype("str").to_parquet(file, index=False)
    else:
        _write_excel(table, file, name)


def _write_excel(table: "pd.DataFrame", file: Path, name: Path) -> None:
    """Every cell is text, so that Excel makes no numbers of names and no formulas of paths."""
    import openpyxl
    from openpyxl.utils.exceptions import IllegalCharacterError

    book = openpyxl.Workbook()
    sheet = book.active
    try:
        for number, row in enumerate([list(table.columns), *table.itertuples(index=False)], 1):
            for column, value in enumerate(row, 1):
                if value:
                    cell = sheet.cell(number, column, str(value))
                    cell.data_type, cell.number_format = "s", "@"
        with file.open("wb") as stream:
            book.save(stream)
    except (IllegalCharacterError, ValueError) as error:
        raise DataError(f"{name}: Excel cannot hold this table ({error}). Write .csv or .parquet.") from error
