"""Delimited text in, cells out: CSV and TSV as the programs of many countries write them.

The byte order mark names the encoding; else it is tried: UTF-8, then Windows-1252, which is said, and refused where words make no sense so. The separator is the
one under which rows have as many cells as the header. Quotes must close on the line on which they open.
"""

import codecs
import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanwise.cohort.decoding.slice_names import split_slice
from scanwise.errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_KINDS = (
    (b"PK\x03\x04", "an Excel workbook or another archive; give it its own ending, such as .xlsx"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save it as .xlsx"),
    (b"PAR1", "a Parquet file; name it .parquet"),
    (b"\x1f\x8b", "compressed; unpack it first"),
)
_SENSELESS = re.compile(r"[^\x00-\x7f\u2000-\u206f«»]{3}|[A-Za-z][‚ƒ„…†‡ˆ‰‹˜ŠŽŸ][a-z]")
"""Letters as no language of Western Europe has them: of Greek, Russian, Chinese, …, or of the code pages of DOS and old Macs."""
_SEPARATORS = ",;\t|"
_LOOKED_AT = 50


@dataclass(frozen=True, slots=True)
class RawTable:
    """Cells as they stand in a file, before any has a meaning.

    Attributes:
        header: names of the columns.
        rows: cells below it.
        lines: of each row in the file, for messages.
        remarks: what a reader must know of how it was read.
    """

    header: Sequence[Any]
    rows: Sequence[Sequence[Any]]
    lines: Sequence[int]
    remarks: tuple[str, ...] = ()


def read_delimited(file: Path, own: str) -> RawTable:
    """Read a delimited table.

    Args:
        file: of text.
        own: the separator that its name promises; another one is taken where only that makes columns.

    Raises:
        DataError: with the line, and what to change.
    """
    text, remarks = _decode(file)
    first, _, rest = text.partition("\n")
    named = first.strip().strip('"').casefold().startswith("sep=")  # Excel's own word for the separator
    body = rest if named else text
    separator = (first.strip().strip('"')[4:5] or "\t") if named else _separator(body, own)
    rows, lines = _rows(body, separator, 2 if named else 1, file)
    if not rows:
        raise DataError(f"{file} is empty; its first line must name the columns.")
    return RawTable(rows[0], rows[1:], lines[1:], remarks)


def _decode(file: Path) -> tuple[str, tuple[str, ...]]:
    data = file.read_bytes()
    for start, kind in _OTHER_KINDS:
        if data.startswith(start):
            raise DataError(f"{file} is no text but {kind}.")
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), _without_mark(data[:4096]))
    try:
        return data.decode(encoding), ()
    except UnicodeDecodeError as error:
        if encoding != "utf-8" or _is_mostly_utf8(data):
            line = data[: error.start].count(b"\n") + 1
            raise DataError(
                f"{file}: line {line} has bytes that are not {encoding.upper().removesuffix('-SIG')}, which the rest is. "
                "Repair it, or save the table as CSV UTF-8."
            ) from error
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is neither UTF-8 nor Windows-1252. Save it as CSV UTF-8.") from error
    if (senseless := _SENSELESS.search(text)) is not None:
        line = text.count("\n", 0, senseless.start()) + 1
        raise DataError(
            f"{file} is not UTF-8, and is of another language or program than Windows-1252: line {line} would make no sense. Save "
            "it as CSV UTF-8."
        )
    return text, (
        f"{file.name} is not UTF-8 and was read as Windows-1252. If names with accents look wrong, save it as CSV UTF-8.",
    )


def _without_mark(head: bytes) -> str:
    """UTF-16 shows by the zeros beside Latin letters; else it is UTF-8 until that fails."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) * 8 < len(head):
        return "utf-8"
    return "utf-16-be" if even > odd else "utf-16-le"


def _is_mostly_utf8(data: bytes) -> bool:
    """Whether more letters beyond ASCII are whole in UTF-8 than are not."""
    text = data.decode("utf-8", "replace")
    broken = text.count("�")
    return sum(character > "\x7f" for character in text) - broken > broken


def _separator(text: str, own: str) -> str:
    """The separator under which most rows are as wide as the header, and the header is widest; in doubt the own one."""

    def fit(separator: str) -> tuple[float, int]:
        lines = io.StringIO(text, newline="")
        table = [row for row, _ in zip(csv.reader(lines, delimiter=separator), range(_LOOKED_AT), strict=False) if row]
        if not table or len(table[0]) < 2:
            return 0.0, 0
        width = len(table[0])
        return sum(len(row) == width for row in table[1:]) / max(1, len(table) - 1), width

    try:
        best: str = max([own, *_SEPARATORS], key=fit)
    except csv.Error:  # quotes that do not close: reading will say where
        return own
    return best


def _rows(text: str, separator: str, start: int, file: Path) -> tuple[list[list[str]], list[int]]:
    """All rows with cells, and the line on which each begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    line = start
    try:
        for row in reader:
            if row:
                if reader.line_num + start - 1 > line:
                    _refuse_long(row, rows[0] if rows else row, line, reader.line_num + start - 1, file)
                rows.append(row)
                lines.append(line)
            line = reader.line_num + start
    except csv.Error as error:
        raise DataError(
            f'{file}: from line {line} on a quote (") is not closed as it must be. Delete the stray quote, or write "" for '
            "a quote inside a quoted cell."
        ) from error
    return rows, lines


def _refuse_long(row: list[str], header: list[str], line: int, last: int, file: Path) -> None:
    """Cells may not run over several lines: two stray quotes would swallow the rows between. Names of files that exist may."""
    for column, cell in enumerate(row):
        if "\n" not in cell and "\r" not in cell:
            continue
        named = header[column].strip() if column < len(header) else ""
        if named != "path" or not os.path.lexists(split_slice(file.parent / cell)[0]):
            raise DataError(
                f'{file}: a quote (") opens a cell in line {line} and closes it in line {last}; the rows between would be '
                "lost. Delete the stray quotes. If a line break is meant, save the table as .xlsx or .parquet."
            )
