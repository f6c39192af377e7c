"""A table with one row a scan: path and label, and if you have them subject, split, text and group columns."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from scanwise.cohort import pseudonymised_paths, table_files
from scanwise.cohort.decoding.remote_files import is_remote
from scanwise.cohort.listing import SIDE_NAMES, Listing, first, texts
from scanwise.cohort.table_files import TypedTable
from scanwise.errors import DataError, did_you_mean
from scanwise.phrases import count_of
from scanwise.records import SIDES, StrArray
from scanwise.records.names import names_person

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("path", "label", "subject", "split", "text", "subject_source")
_FILES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".jp2", ".dcm", ".nii", ".nii.gz")


def read_manifest(
    file: Path, subject: str, label: str = "", *, labelled: bool = True, anywhere: bool = True, as_given: bool = False
) -> Listing:
    """List what a table names.

    Args:
        file: CSV, TSV, Parquet or Excel. Its paths are relative to its own folder, below which they must stay; or else
            all of them are absolute.
        subject: the column of subjects; without it `subject` is taken, if there is one.
        label: the column that holds the class, where it is not `label`.
        labelled: whether there must be labels.
        anywhere: whether absolute paths may lead elsewhere; not so in a table that somebody else wrote.
        as_given: whether paths stay as they are spelt.

    Raises:
        DataError: with the rows or columns to change.
    """
    table = table_files.read_user_table(file)
    columns = table.columns
    called = label or "label"
    needed = ["path", called] if labelled else ["path"]
    for column in needed:
        if column not in columns:
            raise DataError(
                f"{file} has no column {column!r}; it has {', '.join(map(str, columns))}."
                f"{did_you_mean(column, map(str, columns))} Rename the column."
            )
    column = subject if subject in columns else "subject"
    given = column in columns and (subject in columns or not subject)
    refuse_missing(table, file, needed)
    if given:
        refuse_nobody(table, file, column)
    given_paths = columns["path"].tolist()
    if not as_given and (away := [path for path in given_paths if is_remote(path)]):
        raise DataError(
            f"{file} names scans at URLs ({first(away)}), which only predict reads where they lie. Put the table beside the "
            "scans and give its own URL, with paths relative to it; or copy the scans."
        )
    root, paths = _places(file, given_paths, anywhere)
    refuse_duplicates(paths, file)
    if as_given:
        root, paths = file.parent, [_as_typed(file.parent, path) for path in given_paths]
    others = [name for name in columns if name not in (*COLUMNS, called, column)]
    files = [name for name in others if _are_files(columns[name])]
    if "text" in columns and _are_files(columns["text"]):
        raise DataError(f"{file}: the column 'text' holds names of files and no words. Rename the column.")
    remarks = [
        f"{file.name}: the column {name!r} holds names of files, so results are not broken down by it."
        for name in files
    ]
    return Listing(
        root,
        texts(paths),
        texts(columns[called] if labelled else ["" for _ in paths]),
        subject=texts(columns[column]) if given else None,
        subject_source=_source(columns, column) if given else "",
        groups={str(name): texts(columns[name].fillna("")) for name in others if name not in files},
        text=texts(columns["text"].fillna("")) if "text" in columns else None,
        given=named_sides(columns["split"].fillna(""), file) if "split" in columns else None,
        remarks=(*table.remarks, *remarks),
    )


def write_manifest(listing: Listing, file: Path, name: Path) -> None:
    """Write to `file` a table that reads back as this listing once it is called `name`.

    Paths are relative to its folder where the scans lie below that, and else absolute.
    """
    below, root = (Path(os.path.abspath(folder)) for folder in (name.parent, listing.root))  # noqa: PTH100 - without ".."
    prefix = root.relative_to(below) if root.is_relative_to(below) else root
    columns: dict[str, StrArray | Sequence[str]] = {
        "path": [(prefix / path).as_posix() for path in listing.path.tolist()],
        "label": listing.label,
    }
    if listing.subject is not None:
        columns["subject"] = listing.subject
    if listing.given is not None:
        columns["split"] = listing.given
    columns.update({name: values for name, values in listing.groups.items() if name not in COLUMNS})
    if listing.text is not None:
        columns["text"] = listing.text
    if listing.subject is not None and listing.subject_source and not listing.subject_source.startswith("column "):
        columns["subject_source"] = [listing.subject_source] * len(listing)
    table_files.write_user_table(columns, file, name)


def _source(columns: "pd.DataFrame", column: str) -> str:
    """Source of the subjects: the column, or as the manifest itself says of its column `subject`."""
    sources = sorted(set(columns["subject_source"].dropna())) if "subject_source" in columns else []
    return str(sources[0]) if column == "subject" and len(sources) == 1 else f"column {column}"


def refuse_missing(table: TypedTable, file: Path, columns: Sequence[str]) -> None:
    """Say in which lines a column is empty."""
    for column in columns:
        values = table.columns[column]
        _refuse_rows(table, file, column, values.isna() | (values.astype(str).str.strip() == ""), "is empty")


def refuse_nobody(table: TypedTable, file: Path, column: str) -> None:
    """Say in which lines a column of subjects names no person: it is empty, or says `unknown`, `None` or `#N/A`."""
    refuse_missing(table, file, [column])
    nobody = ~table.columns[column].map(names_person)
    words = sorted(set(table.columns[column][nobody]))
    _refuse_rows(table, file, column, nobody, f"names no person ({first(words)})")


def _refuse_rows(table: TypedTable, file: Path, column: str, wrong: "pd.Series[bool]", fault: str) -> None:
    if wrong.any():
        lines = [table.lines[int(row)] for row in np.flatnonzero(wrong)]
        raise DataError(
            f"{file}: the column {column!r} {fault} in {len(lines)} row{'s' * (len(lines) > 1)} (lines {first(lines)}). "
            "Fill them in, or delete those rows."
        )


def refuse_duplicates(paths: Iterable[str], file: Path) -> None:
    """Say which paths come twice."""
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise DataError(
            f"{file}: {count_of(len(twice), 'path')} {'is' if len(twice) == 1 else 'are'} listed more than once ({first(twice)}). Keep one row of each."
        )


def _places(file: Path, paths: Sequence[str], anywhere: bool) -> tuple[Path, list[str]]:
    """The folder that all paths are relative to, and each of them so."""
    root = file.parent
    if anywhere and all(os.path.isabs(path.strip()) for path in paths):  # noqa: PTH117
        base = os.path.normpath(root.absolute())
        inside = all(os.path.normpath(path.strip()).startswith(base + os.sep) for path in paths)
        if not inside:
            folders = {os.path.dirname(os.path.normpath(path.strip())) for path in paths}  # noqa: PTH120
            root = Path(os.path.commonpath(folders))
    # The links that `veil` made lead where they should.
    resolve: Callable[[str], str] = os.path.normpath if pseudonymised_paths.is_cover(root) else os.path.realpath
    real = cache(resolve)
    return root, [_inside(root, path, file, real) for path in paths]


def _as_typed(root: Path, path: str) -> str:
    """The path without blanks around it, unless they are of the file's name."""
    return path if path == path.strip() or os.path.lexists(root / path) else path.strip()


def _inside(root: Path, path: str, file: Path, real: Callable[[str], str]) -> str:
    """The path relative to the root; one that leads out of it, by itself or by a link, is refused."""
    base = os.path.normpath(root.absolute())
    joined = os.path.normpath(os.path.join(base, _as_typed(Path(base), path)))  # noqa: PTH118
    folder = base + os.sep
    within = joined.startswith(folder if base != os.sep else base)
    if within and (os.path.islink(joined) or real(os.path.dirname(joined)) != os.path.dirname(joined)):  # noqa: PTH114, PTH120
        within = Path(real(joined)).is_relative_to(real(base))
    if not within:
        raise DataError(f"{file}: the path {path!r} leads outside {base}. Keep scans below the manifest's folder.")
    return joined[len(base) :].lstrip(os.sep).replace(os.sep, "/")


def _are_files(values: "pd.Series[str]") -> bool:
    """Whether a column holds names of scans: those are neither words nor a group."""
    given = values.dropna()
    return bool(len(given)) and all(PurePosixPath(value).name.casefold().endswith(_FILES) for value in given)


def named_sides(values: Iterable[str], file: Path) -> StrArray:
    """The side that each cell names; "" for a blank one."""
    given = list(values)
    unknown = sorted({value for value in given if value and value.casefold() not in SIDE_NAMES})
    if unknown:
        raise DataError(f"{file}: the column 'split' holds {first(unknown)}; use {', '.join(SIDES)} or leave it blank.")
    return texts(SIDE_NAMES[value.casefold()] if value else "" for value in given)
