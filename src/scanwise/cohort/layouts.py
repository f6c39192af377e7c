"""Where the scans lie and what is known of each: folders of classes, train and test trees, manifests.

A layout lists files; it opens none. What it lists becomes a Cohort once the store has decoded it.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scanwise.cohort.listing import Listing, first, texts
from scanwise.errors import DataError, did_you_mean
from scanwise.records import SIDES, StrArray

MANIFESTS = {".csv": ",", ".tsv": "\t"}
SIDE_NAMES = {
    **{side: side for side in SIDES},
    **dict.fromkeys(("training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "dev"), "validation"),
    **dict.fromkeys(("cal", "calib"), "calibration"),
    **dict.fromkeys(("testing",), "test"),
}
_COLUMNS = ("path", "label", "subject", "text", "split")


def local(data: str) -> Path:
    """A local path from what a user typed: `~` and `file://` included."""
    return Path(data.removeprefix("file://")).expanduser()


def discover(data: Path, subject: str = "") -> Listing:
    """List the scans of a folder or manifest, with the subject of each where `subject` tells it.

    Args:
        data: a folder of class folders, a folder of train and test folders of those, or a CSV/TSV manifest with the
            columns path and label, and optionally subject, text, split and any group columns.
        subject: a column of the manifest, a CSV of path,subject, or a regular expression over the path.

    Raises:
        DataError: with what to change.
    """
    if not data.exists():
        raise DataError(f"There is nothing at {data}. Give a folder of class folders, or a CSV manifest, with --data.")
    listing = _manifest(data, subject) if data.is_file() else _folders(_descend(data))
    if not len(listing.path):
        raise DataError(
            f"No scans in {data}: expected one folder a class with images inside, {{train,test}}/class folders, "
            "or a manifest with the columns path and label."
        )
    if subject and listing.subject is None:
        listing = _with_subjects(listing, subject)
    _check_given(listing)
    return listing


def unlabelled(scans: Sequence[Path], manifest: Path | None, subject: str = "") -> Listing:
    """List scans to predict: files, folders of files, or the rows of a manifest that needs no labels.

    Args:
        scans: files and folders; paths of the listing are as given here.
        manifest: CSV/TSV with the column path, and optionally subject and group columns.
        subject: as in `discover`.

    Raises:
        DataError: if there is nothing, or both scans and a manifest.
    """
    if (manifest is None) == (not scans):
        raise DataError("Name scans (files or folders) to predict, or give --manifest; one of the two.")
    if manifest is not None:
        if not manifest.is_file():
            raise DataError(f"There is no manifest at {manifest}.")
        listing = _manifest(manifest, subject, labelled=False)
    else:
        lost = [str(scan) for scan in scans if not scan.exists()]
        if lost:
            raise DataError(f"There is nothing at {first(lost)}. Check the paths.")
        files = [
            file
            for scan in scans
            for file in ([scan] if scan.is_file() else [scan / name for name, fault in _walk(scan) if not fault])
        ]
        listing = Listing(Path(), texts(map(str, files)), texts("" for _ in files))
    if not len(listing.path):
        raise DataError("There are no files to predict in what was named.")
    return _with_subjects(listing, subject) if subject and listing.subject is None else listing


def _descend(root: Path) -> Path:
    """Step into wrapping folders: a folder whose only content is one folder of folders."""
    while True:
        entries = [entry for entry in root.iterdir() if _counts(entry.name)]
        only = entries[0] if len(entries) == 1 else None
        if only is None or only.is_symlink() or not only.is_dir() or only.name.casefold() in SIDE_NAMES:
            return root
        if not any(child.is_dir() and _counts(child.name) for child in only.iterdir()):
            return root
        root = only


def _folders(root: Path) -> Listing:
    tops = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and _counts(entry.name))
    sides = {top for top in tops if top.casefold() in SIDE_NAMES}
    sided = bool(tops) and len(sides) == len(tops)
    if not sided and {"train", "test"} <= {SIDE_NAMES[top.casefold()] for top in sides}:
        raise DataError(
            f"{root} holds train and test folders beside others ({first(sorted(set(tops) - sides))}). "
            "Move the others away, or these would be taken for classes."
        )
    depth = 2 if sided else 1
    rows: list[tuple[str, str, str]] = []
    unused: list[tuple[str, str]] = []
    for path, fault in _walk(root):
        parts = path.split("/")
        if fault:
            unused.append((path, fault))
        elif len(parts) <= depth:
            unused.append((path, "not inside a class folder"))
        else:
            rows.append((path, parts[depth - 1], SIDE_NAMES[parts[0].casefold()] if sided else ""))
    given = np.array([row[2] for row in rows], dtype=np.str_) if sided else None
    return Listing(
        root, texts(row[0] for row in rows), texts(row[1] for row in rows), given=given, unused=tuple(unused)
    )


def _counts(name: str) -> bool:
    """Whether an entry of a folder is the user's: not hidden, and not what a Mac leaves in archives."""
    return not name.startswith(".") and name != "__MACOSX"


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    """Relative paths of all files that are not hidden, sorted, each with the reason why it cannot be used, or ""."""

    def refuse(error: OSError) -> None:
        raise DataError(f"The folder {error.filename} cannot be read: {error.strerror}. Change its permissions.")

    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = sorted(name for name in folders if _counts(name))
        for name in sorted([*files, *(name for name in folders if (Path(folder) / name).is_symlink())]):
            if _counts(name):
                place = Path(folder) / name
                path = place.relative_to(root).as_posix()
                yield path.encode("utf-8", "backslashreplace").decode(), _fault(place, path)


def _fault(place: Path, path: str) -> str:
    """Why a path that was found is not even opened."""
    if place.is_dir():
        return "a link to a folder: links are not followed, because they may loop"
    if place.exists() and not place.is_file():
        return "neither a file nor a folder"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return ""


def _manifest(file: Path, subject: str, *, labelled: bool = True) -> Listing:
    table = _read_table(file)
    root = file.parent
    needed = ["path", "label"] if labelled else ["path"]
    for column in needed:
        if column not in table:
            raise DataError(
                f"{file} has no column {column!r}; it has {', '.join(map(str, table))}."
                f"{did_you_mean(column, map(str, table))} Rename the column."
            )
    column = subject if subject in table else "subject"
    known = column in table and (subject in table or not subject)
    _refuse_missing(table, file, [*needed, *([column] if known else [])])
    paths = [_inside(root, path, file) for path in table["path"]]
    _refuse_duplicates(paths, file)
    groups = [name for name in table if name not in (*_COLUMNS, column)]
    return Listing(
        root,
        texts(paths),
        texts(table["label"] if labelled else ["" for _ in paths]),
        subject=texts(table[column]) if known else None,
        subject_source=f"column {column}" if known else "",
        groups={str(name): texts(table[name].fillna("")) for name in groups},
        text=texts(table["text"].fillna("")) if "text" in table else None,
        given=_sides(table["split"].fillna(""), file) if "split" in table else None,
    )


def _read_table(file: Path) -> pd.DataFrame:
    separator = MANIFESTS.get(file.suffix.casefold())
    if separator is None:
        raise DataError(f"{file} is neither a folder nor a manifest; manifests end in {' or '.join(MANIFESTS)}.")
    try:
        # "None" is a label that people use, so pandas' long list of missing values is cut short.
        blank: dict[str, Any] = {"keep_default_na": False, "na_values": ["", "nan", "NaN", "NAN", "NA"]}
        table = pd.read_csv(file, sep=separator, dtype=str, encoding="utf-8-sig", **blank)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise DataError(f"The manifest {file} cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the surplus values on the left for an index
        raise DataError(f"{file}: rows have more values than the header has names. Name every column, or quote commas.")
    return pd.DataFrame({str(name): table[name].str.strip() for name in table})


def _refuse_missing(table: pd.DataFrame, file: Path, columns: Sequence[str]) -> None:
    for column in columns:
        blank = table[column].isna() | (table[column].astype(str).str.strip() == "")
        if blank.any():
            lines = [int(row) + 2 for row in np.flatnonzero(blank)]  # + 2: the header is line 1
            raise DataError(
                f"{file}: the column {column!r} is empty in {len(lines)} rows (lines {first(lines)}). "
                "Fill them in, or delete those rows."
            )


def _refuse_duplicates(paths: Sequence[str], file: Path) -> None:
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise DataError(f"{file}: {len(twice)} paths are listed more than once ({first(twice)}). Keep one row of each.")


def _inside(root: Path, path: str, file: Path) -> str:
    """The path relative to the data root; a path that leads out of it is refused."""
    absolute, base = Path(os.path.normpath(root.absolute() / path)), Path(os.path.normpath(root.absolute()))
    if not absolute.is_relative_to(base) or not absolute.resolve().is_relative_to(base.resolve()):
        raise DataError(f"{file}: the path {path!r} leads outside {root}. Keep scans below the manifest's folder.")
    return absolute.relative_to(base).as_posix()


def _sides(values: "pd.Series[str]", file: Path) -> StrArray:
    unknown = sorted({value for value in values if value and value.casefold() not in SIDE_NAMES})
    if unknown:
        raise DataError(f"{file}: the column 'split' holds {first(unknown)}; use {', '.join(SIDES)} or leave it blank.")
    return texts(SIDE_NAMES[value.casefold()] if value else "" for value in values)


def _with_subjects(listing: Listing, subject: str) -> Listing:
    file = Path(subject)
    if file.suffix.casefold() in MANIFESTS:
        return _join_subjects(listing, file)
    try:
        pattern = re.compile(subject)
    except re.error as error:
        raise DataError(
            f"--subject {subject!r} is no column of the data, no .csv file and no regular expression ({error})."
        ) from error
    found = [_name_in(pattern, path) for path in listing.path.tolist()]
    lost = [path for path, name in zip(listing.path.tolist(), found, strict=True) if not name]
    if lost:
        raise DataError(
            f"--subject {subject!r} is no column of the data; as a pattern it does not match {len(lost)} of "
            f"{len(found)} paths ({first(lost)}). Widen the pattern so that every path tells its subject."
        )
    return replace(listing, subject=texts(found), subject_source=f"pattern {subject}")


def _name_in(pattern: re.Pattern[str], path: str) -> str:
    """What a pattern finds in a path: its groups joined by "_", or else all of it; "" where it finds nothing."""
    match = pattern.search(path)
    return "" if match is None else "_".join(g for g in match.groups() if g is not None) or match[0]


def _join_subjects(listing: Listing, file: Path) -> Listing:
    if not file.is_file():
        raise DataError(f"--subject names the file {file}, which is not there.")
    table = _read_table(file)
    for column in ("path", "subject"):
        if column not in table:
            raise DataError(f"{file} has no column {column!r}; a subject file has the columns path and subject.")
    _refuse_missing(table, file, ["path", "subject"])
    paths = [os.path.normpath(path).replace(os.sep, "/") for path in table["path"]]
    _refuse_duplicates(paths, file)
    of = dict(zip(paths, table["subject"], strict=True))
    lost = [path for path in listing.path.tolist() if path not in of]
    if lost:
        raise DataError(
            f"{file} has no subject for {len(lost)} of {len(listing.path)} scans ({first(lost)}). "
            f"Its paths must be relative to {listing.root}."
        )
    return replace(
        listing, subject=texts(of[path] for path in listing.path.tolist()), subject_source=f"file {file.name}"
    )


def _check_given(listing: Listing) -> None:
    """A label that is tested must have been taught."""
    if listing.given is None:
        return
    taught = set(listing.label[listing.given == "train"].tolist())
    untaught = sorted(set(listing.label[listing.given == "test"].tolist()) - taught)
    if taught and untaught:
        from scanwise.cohort.classes import spelling

        untaught = [label for label in untaught if spelling(label) not in {spelling(other) for other in taught}]
        if untaught:
            raise DataError(
                f"The test side has labels that the train side lacks: {first(untaught)}. "
                f"Train has {first(sorted(taught))}. Rename them, or add training scans of these classes."
            )
