"""CSV files of a run folder, and the same tables as Parquet.

Numbers are written in full precision; a missing value is an empty cell.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from scanwise.errors import RunError
from scanwise.run import writing

Row = Sequence[object]
FLAG_COLUMNS = ("ood_flag", "deferred")
NUMBER_COLUMNS = (
    "mutual_information", "ood", "expected_cdr", "cdr_sd", "value", "low", "high", "difference", "difference_low", "difference_high",
    "chosen",
)  # fmt: skip
"""Columns that keep their type in Parquet where every cell is empty."""
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
    return header, rows


def write_csv(header: Iterable[str], rows: Iterable[Row], path: Path) -> None:
    """Write a CSV file, whole or not at all."""
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_cell(value) for value in row] for row in rows)


def write_table(header: Iterable[str], rows: Iterable[Row], path: Path) -> None:
    """Write a CSV file and beside it the same table as Parquet, where every column has one type.

    A column of numbers is `double` (whole ones `int64`, flags `bool`) with null where the CSV has an empty cell; any
    other column is `string`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, lines = list(header), [list(row) for row in rows]
    write_csv(names, lines, path)
    columns = [_typed(name, [line[index] for line in lines]) for index, name in enumerate(names)]
    arrays = [pa.array(values, getattr(pa, kind)()) for kind, values in columns]
    with writing(path.with_suffix(".parquet")) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, names=names), temporary)


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


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if value != value else float(value)
    return value
