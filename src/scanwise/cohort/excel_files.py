"""Excel workbooks in, cells out.

A workbook is a ZIP of XML: what it unpacks to is counted first, piece by piece. Sheets are read row by row, and of them
only the cells that hold something are kept, so that one stray cell far down costs nothing.
"""

import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from scanwise.cohort.delimited_files import RawTable
from scanwise.cohort.listing import first
from scanwise.errors import DataError

MAX_UNPACKED = 200_000_000
MAX_TAGS = 8_000_000
"""Elements of XML, of which a cell has two to four."""
MAX_WIDTH = 50_000_000
"""Cells of all rows together, each row up to its last cell, empty or not."""

_MAX_ROWS = 2**20  # Excel's own limit
_CHUNK = 2**20
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s[^<>]*?ref="([A-Z]+[0-9]+:[A-Z]+[0-9]+)"')
_LONGEST = 200  # bytes of such an element

Cells = dict[int, dict[int, Any]]
"""Values by row and column, both from 1."""


def read_excel(file: Path, wanted: Sequence[str]) -> RawTable:
    """The first sheet that has a wanted column, or else the first; others like it are said, cells merged downwards are filled.

    Raises:
        DataError: if it is too large, or it is not clear which column a value belongs to.
    """
    import openpyxl

    _refuse_large(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts that hold no values, such as drawings
        with closing(openpyxl.load_workbook(file, data_only=True, read_only=True)) as book:
            sheet, cells = _choose(book, wanted, file)
            remarks = (*_fill_merged(cells, sheet, file), *_remark_on_others(book, sheet, cells, file))
    header, *lines = sorted({1, *cells})
    return RawTable(_row(cells.get(header, {})), [_row(cells[line]) for line in lines], lines, remarks)


def _choose(book: Any, wanted: Sequence[str], file: Path) -> tuple[Any, Cells]:
    chosen: tuple[Any, Cells] | None = None
    for sheet in book.worksheets:
        cells = _cells_of(sheet, file)
        if {*cells.get(1, {}).values()} & {*wanted}:
            return sheet, cells
        if cells and chosen is None:
            chosen = sheet, cells
    if chosen is None:
        raise DataError(f"{file} has no sheet with cells.")
    return chosen


def _remark_on_others(book: Any, chosen: Any, cells: Cells, file: Path) -> tuple[str, ...]:
    """A remark where other sheets begin as the chosen one does, such as a sheet a site or a side."""
    header = [*cells.get(1, {}).values()]
    others = [
        sheet.title
        for sheet in book.worksheets
        if sheet is not chosen
        and len(header) > 1
        and [cell.value for row in sheet.iter_rows(max_row=1) for cell in row if cell.value is not None] == header
    ]
    if not others:
        return ()
    return (
        f"{file.name}: only the sheet {chosen.title!r} was read; {first([repr(name) for name in others])} "
        f"{'has' if len(others) == 1 else 'have'} the same columns. Put all rows into one sheet if they belong to the data.",
    )


def _refuse_large(file: Path) -> None:
    """Count what is packed, before anything is made of it."""
    unpacked = tags = 0
    with zipfile.ZipFile(file) as archive:
        for part in archive.infolist():
            if not part.filename.casefold().endswith(".xml"):
                continue
            with archive.open(part) as stream:
                while chunk := stream.read(_CHUNK):
                    unpacked += len(chunk)
                    tags += chunk.count(b"<")
                    if unpacked > MAX_UNPACKED or tags > MAX_TAGS:
                        raise DataError(
                            f"{file} is too large for a workbook to be read. Save the table as CSV or Parquet."
                        )


def _too_large(file: Path) -> DataError:
    return DataError(f"{file} is too large for a workbook to be read. Save the table as CSV or Parquet.")


def _cells_of(sheet: Any, file: Path) -> Cells:
    """The cells that hold something; those that are only formatted are none."""
    cells: Cells = {}
    width = 0
    sheet.reset_dimensions()  # what the sheet says of its size is not always so
    for number, row in enumerate(sheet.iter_rows(), 1):
        width += len(row)
        if width > MAX_WIDTH or number > _MAX_ROWS:
            raise _too_large(file)
        filled = {cell.column: _cell_of(cell) for cell in row if cell.value is not None}
        if filled := {column: value for column, value in filled.items() if value is not None}:
            cells[number] = filled
    return cells


def _row(cells: dict[int, Any]) -> list[Any]:
    return [cells.get(column) for column in range(1, max(cells, default=0) + 1)]


def _cell_of(cell: Any) -> Any:
    """The value of a cell; nothing for the error of a formula, and a number with the zeros that its format shows."""
    if cell.data_type == "e":
        return None
    form = cell.number_format
    if isinstance(cell.value, int) and len(form) > 1 and not form.strip("0"):
        return str(cell.value).zfill(len(form))
    return cell.value


def _fill_merged(cells: Cells, sheet: Any, file: Path) -> tuple[str, ...]:
    """Give each row of merged cells their value; the remark that says so."""
    from openpyxl.utils import range_boundaries

    areas = [str(area, "ascii") for area in _merged(sheet, file)]
    merged = sorted((range_boundaries(area), area) for area in areas)
    last = max(cells, default=0)
    for (left, top, right, bottom), area in merged:
        if left != right or top == 1:
            what = "the header" if top == 1 else "several columns"
            raise DataError(
                f"{file}: the cells {area} are merged over {what}, so it is not clear which column has the value. "
                "Unmerge them, and give each cell its own value."
            )
        if left in cells.get(top, {}):
            for row in range(top + 1, min(bottom, last) + 1):
                cells.setdefault(row, {})[left] = cells[top][left]
    if not merged:
        return ()
    shown = first([area for _, area in merged], most=5)
    return (
        f"{file.name}: {len(merged)} cells of the sheet {sheet.title!r} are merged over several rows ({shown}); each "
        "of these rows was given their value. Check that this is meant.",
    )


def _merged(sheet: Any, file: Path) -> Iterator[bytes]:
    """Areas of merged cells, such as B2:B4; what reads a sheet row by row leaves them out."""
    with zipfile.ZipFile(file) as archive, archive.open(sheet._worksheet_path) as stream:
        rest = b""
        while chunk := stream.read(_CHUNK):
            text, end = rest + chunk, 0
            for match in _MERGED.finditer(text):
                yield match[1]
                end = match.end()
            rest = text[max(end, len(text) - _LONGEST) :]
