"""Subjects that the user names: by a pattern over the path, or a table of path and subject."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from scanwise.cohort import table_files
from scanwise.cohort.decoding.remote_files import is_remote, shown_url
from scanwise.cohort.decoding.slice_names import file_of_scan
from scanwise.cohort.layouts import manifests
from scanwise.cohort.listing import Listing, first, texts
from scanwise.errors import DataError
from scanwise.records.names import names_person


def add_subjects(listing: Listing, subject: str) -> Listing:
    """The listing with the subject of each file.

    Args:
        listing: of files.
        subject: a table of path and subject (of files, or of slices that agree), or a regular expression over the path.

    Raises:
        DataError: if a file has none.
    """
    file = Path(subject)
    if table_files.is_table(file):
        return _join(listing, file)
    try:
        pattern = re.compile(subject)
    except re.error as error:
        raise DataError(
            f"--subject {subject!r} is no column of the data, no .csv file and no regular expression ({error})."
        ) from error
    names = [name if names_person(name := _name_in(pattern, path)) else "" for path in listing.path.tolist()]
    lost = [path for path, name in zip(listing.path.tolist(), names, strict=True) if not name]
    if lost:
        raise DataError(
            f"--subject {subject!r} is no column of the data; as a pattern it does not match {len(lost)} of "
            f"{len(names)} paths ({first(lost)}). Widen the pattern so that every path tells its subject."
        )
    return replace(listing, subject=texts(names), subject_source=f"pattern {subject}")


def _name_in(pattern: re.Pattern[str], path: str) -> str:
    """The part of a path that a pattern matches: its groups joined by "_", or all of it; "" without a match."""
    match = pattern.search(path)
    return "" if match is None else "_".join(g for g in match.groups() if g is not None) or match[0]


def _join(listing: Listing, file: Path) -> Listing:
    if not file.is_file():
        raise DataError(f"--subject names the file {file}, which is not there.")
    table = table_files.read_user_table(file)
    for column in ("path", "subject"):
        if column not in table.columns:
            raise DataError(f"{file} has no column {column!r}; a subject file has the columns path and subject.")
    manifests.refuse_missing(table, file, ["path"])
    manifests.refuse_nobody(table, file, "subject")
    paths = [_plain(path.strip()) for path in table.columns["path"]]
    manifests.refuse_duplicates(paths, file)
    of = dict(zip(paths, table.columns["subject"], strict=True))
    _add_files(of, file)
    names = [_plain(path) for path in listing.path.tolist()]
    lost = [path for path, name in zip(listing.path.tolist(), names, strict=True) if name not in of]
    if lost:
        raise DataError(
            f"{file} has no subject for {len(lost)} of {len(listing.path)} scans ({first(lost)}). "
            f"Its paths must be relative to {listing.root}."
        )
    subjects = np.array([of[name] for name in names], dtype=np.str_)
    return replace(listing, subject=subjects, subject_source=f"file {file.name}")


def _plain(path: str) -> str:
    path = shown_url(path) if is_remote(path) else path
    return os.path.normpath(path).replace(os.sep, "/")


def _add_files(of: dict[str, str], table: Path) -> None:
    """Add the files of listed slices: all slices of a file are of one subject."""
    for path, subject in list(of.items()):
        file = file_of_scan(path)
        if of.setdefault(file, subject) != subject:
            raise DataError(f"{table} gives {file} and its slices to several subjects; a volume is of one person.")
