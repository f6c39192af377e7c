"""Tables of any kind in, columns of text out: CSV, TSV, Parquet and Excel; and back.

Everything is text: `007` is a name, not the number 7. Blank cells, and cells that say NaN or NA, are missing; "None" is
a label that people use.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scanwise.cohort.listing import first
from scanwise.errors import DataError
from scanwise.records import StrArray

SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*SEPARATORS, ".parquet", ".xlsx")

_MISSING = ["", "nan", "NaN", "NAN", "NA"]


@dataclass(frozen=True, slots=True)
class TypedTable:
    """A table as it was read.

    Attributes:
        columns: text, NaN where nothing is said; blanks around a value are gone, but for those of `path`.
        lines: where each row stands in the file, for messages.
        remarks: what a reader must know of how it was read.
    """

    columns: pd.DataFrame
    lines: Sequence[int]
    remarks: tuple[str, ...] = ()


def is_table(file: Path) -> bool:
    """Whether this is the name of a table."""
    return file.suffix.casefold() in SUFFIXES


def read_user_table(file: Path) -> TypedTable:
    """Read a table by what its name ends in.

    Raises:
        DataError: if it is none, or is damaged; with what to change.
    """
    suffix = file.suffix.casefold()
    if suffix not in SUFFIXES:
        hint = " Save it as .xlsx." if suffix in (".xls", ".ods", ".xlsm") else ""
        raise DataError(f"{file} is neither a folder nor a manifest; manifests end in {' or '.join(SUFFIXES)}.{hint}")
    remarks: tuple[str, ...] = ()
    lines: Sequence[int] = ()
    try:
        if suffix == ".parquet":
            frame = _as_texts(pd.read_parquet(file))
        elif suffix == ".xlsx":
            frame, lines, remarks = _read_excel(file)
        else:
            frame = _read_csv(file, SEPARATORS[suffix])
    except DataError:
        raise
    except Exception as error:  # openpyxl and pyarrow raise whatever a damaged file leads them to
        raise DataError(f"The manifest {file} cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the surplus values on the left for an index
        raise DataError(f"{file}: rows have more values than the header has names. Name every column, or quote commas.")
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise DataError(f"{file} has two columns {twice[0]!r}. Give each a name of its own.")
    columns = {str(name): frame[name] if name == "path" else frame[name].str.strip() for name in frame}
    return TypedTable(pd.DataFrame(columns), lines or range(2, len(frame) + 2), remarks)  # the header is line 1


def _read_csv(file: Path, separator: str) -> pd.DataFrame:
    blank: dict[str, Any] = {"keep_default_na": False, "na_values": _MISSING}
    frame: pd.DataFrame = pd.read_csv(file, sep=separator, dtype=str, encoding="utf-8-sig", **blank)
    return frame


def _read_excel(file: Path) -> tuple[pd.DataFrame, list[int], tuple[str, ...]]:
    """The first sheet that has a column `path`, or else the first; cells merged downwards are filled."""
    import openpyxl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts that hold no values, such as drawings
        book = openpyxl.load_workbook(file, data_only=True)
    sheets = [sheet for sheet in book.worksheets if sheet.max_row > 0]
    if not sheets:
        raise DataError(f"{file} has no sheet with cells.")
    sheet = next((sheet for sheet in sheets if "path" in [cell.value for cell in sheet[1]]), sheets[0])
    rows = [list(row) for row in sheet.iter_rows(values_only=True)]
    merged = sorted(sheet.merged_cells.ranges, key=lambda cells: cells.bounds)
    for cells in merged:
        _fill(rows, cells, file)
    remarks: tuple[str, ...] = ()
    if merged:
        shown = first([cells.coord for cells in merged], most=5)
        remarks = (
            f"{file.name}: {len(merged)} cells of the sheet {sheet.title!r} are merged over several rows ({shown}); each "
            "of these rows was given their value. Check that this is meant.",
        )
    header = [_text(value) for value in rows[0]]
    width = max((index + 1 for index, name in enumerate(header) if name), default=0)
    if surplus := [str(index + 1) for index, row in enumerate(rows) if any(_text(value) for value in row[width:])]:
        raise DataError(
            f"{file}: rows have more values than the header has names (rows {first(surplus)}). Name every column."
        )
    lines = [line for line, row in enumerate(rows, 1) if line > 1 and any(_text(value) for value in row)]
    body = [rows[line - 1][:width] for line in lines]
    return _as_texts(pd.DataFrame(body, columns=[str(name) for name in header[:width]], dtype=object)), lines, remarks


def _fill(rows: list[list[Any]], cells: Any, file: Path) -> None:
    left, top, right, bottom = cells.bounds
    if left != right or top == 1:
        what = "the header" if top == 1 else "several columns"
        raise DataError(
            f"{file}: the cells {cells.coord} are merged over {what}, so it is not clear which column has the value. "
            "Unmerge them, and give each cell its own value."
        )
    for row in rows[top:bottom]:
        row[left - 1] = rows[top - 1][left - 1]


def _as_texts(table: pd.DataFrame) -> pd.DataFrame:
    """Every cell as text; NaN for a missing one."""
    texts_of = {
        name: [np.nan if (text := _text(value)) in _MISSING else text for value in column]
        for name, column in table.items()
    }
    return pd.DataFrame(texts_of, columns=table.columns, dtype=object)


def _text(value: Any) -> str:
    """A cell as people would type it.

    >>> _text(7.0), _text(0.5), _text(None), _text(datetime(2020, 1, 2)), _text("007")
    ('7', '0.5', '', '2020-01-02', '007')
    """
    if value is None or value is pd.NaT or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime) and (value.hour, value.minute, value.second) == (0, 0, 0):
        value = value.date()
    return value.isoformat() if isinstance(value, date) else str(value)


def write_user_table(columns: Mapping[str, StrArray | Sequence[str]], file: Path, name: Path) -> None:
    """Write to `file` the kind of table that `name` ends in.

    Raises:
        DataError: if its name ends in nothing that tables end in.
    """
    suffix = name.suffix.casefold()
    table = pd.DataFrame({name: list(values) for name, values in columns.items()}, dtype=object)
    if suffix in SEPARATORS:
        table.to_csv(file, sep=SEPARATORS[suffix], index=False, lineterminator="\n")
    elif suffix == ".parquet":
        table.astype("str").to_parquet(file, index=False)
    elif suffix == ".xlsx":
        _write_excel(table, file, name)
    else:
        raise DataError(
            f"{name} ends in none of {', '.join(SUFFIXES)}, so it is not clear what kind of table it should be."
        )


def _write_excel(table: pd.DataFrame, file: Path, name: Path) -> None:
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
