"""From files to scans: how many each file holds, and what its header says of them.

Volumes, DICOM files and pictures that may have pages are opened, and read no further than their pixels; of other pictures
it is checked that they are there. What is called like none of these is looked at. What a header says fills the columns that
the listing lacks: the subject (a keyed hash), study, modality, series, and position.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from scanwise.cohort.decoding import slice_names
from scanwise.cohort.decoding.pixels import Source, open_file, reason_of
from scanwise.cohort.decoding.readers import HEAD, kind_of, locate_scan, reading_threads
from scanwise.cohort.header_subjects import HeaderIdentity, settle_subjects
from scanwise.cohort.listing import FileContents, Listing, first, texts
from scanwise.cohort.pseudonyms import ClearSubjects, Pseudonyms
from scanwise.cohort.series import localizer_remarks
from scanwise.errors import DataError
from scanwise.phrases import count_of
from scanwise.progress_bar import track
from scanwise.recipe import Data
from scanwise.records import IntArray

_SINGLE = {".png", ".jpg", ".jpeg", ".bmp", ".jp2"}  # endings of pictures that have one page, all but a few
_SEVERAL = b"acTL", b"MPF\0"  # marks of these few: PNG that move, JPEG with others behind them
_MARKED = 8192  # bytes in which a mark is looked for; where it stands behind them, the file is refused when it is read
_TOGETHER = 32  # files that one worker opens at a time: handing over each alone takes longer than opening it


def open_files(listing: Listing, settings: Data, *, clear: bool = False, progress: bool = False) -> Listing:
    """Open each file of a listing, once.

    With `clear` subjects stand in the clear, as `header_subjects.CLEAR` writes them, and not as keyed hashes.
    """
    if listing.opened is not None:
        return listing
    located = [locate_scan(source)[0] for source in listing.sources()]
    opened = _open_all(located, settings, clear, progress)
    return replace(listing, opened=tuple(opened[file] for file in located))


def expand_slices(
    listing: Listing, settings: Data, *, clear: bool = False, progress: bool = False
) -> tuple[Listing, IntArray]:
    """Replace each file that holds several scans by these; the rows of a manifest that name a slice stay one.

    Files that cannot be opened, hold no pixels or claim too much go to `unused`.

    Returns:
        the listing of scans, and the row of the given listing that each comes from.

    Raises:
        DataError: if a scan is listed twice.
    """
    listing = open_files(listing, settings, clear=clear, progress=progress)
    opened = listing.opened or ()
    rows: list[int] = []
    names: list[str] = []
    addresses: list[str] = []
    columns: list[dict[str, str]] = []
    unused: list[tuple[str, str]] = []
    for row, (path, source, contents) in enumerate(zip(listing.path.tolist(), listing.sources(), opened, strict=True)):
        index = locate_scan(source)[1]
        if isinstance(contents, str):
            unused.append((path, contents))
            continue
        if index is not None and index >= contents.count:
            unused.append((path, f"there is no such slice; the last of the file is #{contents.count - 1:03d}"))
            continue
        for wanted in _wanted(contents.count, settings) if index is None else [index]:
            rows.append(row)
            end = _name("", wanted, contents.count)
            names.append(_file_in(path, index) + end)
            if listing.address is not None:
                addresses.append(_file_in(str(listing.address[row]), index) + end)
            columns.append({name: values[min(wanted, len(values) - 1)] for name, values in contents.columns.items()})
    _refuse_twice(names)
    remarks = (*listing.remarks, *_remarks(listing.path.tolist(), opened), *localizer_remarks(opened))
    scans = replace(
        listing.take(np.array(rows, dtype=np.int64)),
        path=texts(names),
        address=None if listing.address is None else texts(addresses),
        unused=(*listing.unused, *unused),
        remarks=remarks,
    )
    return _with_columns(scans, columns), np.array(rows, dtype=np.int64)


def _remarks(paths: Sequence[str], contents: Sequence[FileContents | str]) -> list[str]:
    """One sentence a remark, with the files that it is of."""
    files: dict[str, dict[str, None]] = {}
    for path, content in zip(paths, contents, strict=True):
        if not isinstance(content, str) and content.remark:
            files.setdefault(content.remark, {})[slice_names.file_of_scan(path)] = None
    return [f"{remark}: {count_of(len(of), 'volume')} ({first(list(of))})." for remark, of in files.items()]


def scans_of(file: Source, settings: Data) -> list[tuple[Source, str]]:
    """The scans of one file, or of one that is named `file#slice`, as `read_file` takes them, and the end of the name of each.

    A file whose header cannot be read is one scan: reading it will say why.
    """
    path, index = locate_scan(file)
    contents = "" if index is not None else open_contents(path, settings)
    if isinstance(contents, str) or contents.count == 1:
        return [(file, "")]
    return scans_in(file, contents, settings)


def open_contents(file: Source, settings: Data) -> FileContents | str:
    """Contents of one file, or why it cannot be used."""
    return _open(file, settings, cache(Pseudonyms.load))


def scans_in(file: Source, contents: FileContents, settings: Data) -> list[tuple[Source, str]]:
    """The scans of one file whose contents were opened, as `scans_of` gives them."""
    wanted = _wanted(contents.count, settings)
    ends = [_name("", index, contents.count) for index in wanted]
    if not isinstance(file, Path):
        alone = contents.count == 1
        return [(replace(file, index=None if alone else index), end) for index, end in zip(wanted, ends, strict=True)]
    return [(Path(f"{file}{end}"), end) for end in ends]


def _wanted(count: int, settings: Data) -> list[int]:
    """The slices that a recipe uses, by their middles: the part from 0 to 1 is all of them, and one there always is.

    >>> _wanted(10, Data(slices=(0.4, 0.6))), _wanted(10, Data(every=4)), _wanted(1, Data(slices=(0.9, 1)))
    ([4, 5], [0, 4, 8], [0])
    """
    low, high = settings.slices
    inside = [index for index in range(count) if low <= (index + 0.5) / count <= high]
    return inside[:: settings.every] or [min(count - 1, int((low + high) / 2 * count))]


def _file_in(path: str, index: int | None) -> str:
    """The path of the file in that of a scan, which names a slice where it has an index."""
    return path if index is None else slice_names.file_of_scan(path)


def _name(path: str, index: int, count: int) -> str:
    return path if count == 1 else slice_names.name(path, index, count)


def _open_all(files: Iterable[Source], settings: Data, clear: bool, progress: bool) -> dict[Source, FileContents | str]:
    """Open each file: its contents, or why it cannot be used."""
    todo = list(dict.fromkeys(files))
    parts = [todo[start : start + _TOGETHER] for start in range(0, len(todo), _TOGETHER)]
    contents: dict[Source, FileContents | str] = {}
    pseudonyms = cache(ClearSubjects.load if clear else Pseudonyms.load)  # no key is made where no header needs one
    with ThreadPoolExecutor(reading_threads()) as pool:
        opened = pool.map(lambda part: [_open(file, settings, pseudonyms) for file in part], parts)
        pairs = zip(parts, opened, strict=True)
        for part, contents_there in track(pairs, "opening files", len(parts), progress):
            contents.update(zip(part, contents_there, strict=True))
    return contents


def _open(file: Source, settings: Data, pseudonyms: Callable[[], Pseudonyms]) -> FileContents | str:
    from scanwise.cohort.decoding import dicom, nifti, pictures

    try:
        with open_file(file) as opened:
            head = opened.read(_MARKED)
        if file.suffix.casefold() in _SINGLE and not any(mark in head for mark in _SEVERAL):
            return FileContents()
        kind = kind_of(head[:HEAD])
        if kind == "nifti":
            summary = nifti.read_summary(file, settings)
            return FileContents(summary.count, remark=summary.remark)
        if kind == "dicom":
            header = dicom.read_header(file, pseudonyms())
            of_person: dict[str, tuple[str, ...]] = {
                name: (header.values[key],) for name, key in dicom.OF_PERSON.items() if name in settings.covariates
            }
            return FileContents(header.frames, header.columns | of_person, header=header.values)
        return FileContents(pictures.count_pages(file))
    except OSError as error:
        windows = "; write / between folders, as here" if "\\" in file.name else ""
        return f"cannot be opened: {error.strerror}{windows}"
    except Exception as error:  # noqa: BLE001 - as in `read_slices`
        if "\0" in str(file):
            return f"cannot be opened: {os.strerror(errno.ENOENT)}"
        return reason_of(error)


def _with_columns(scans: Listing, rows: Sequence[Mapping[str, str]]) -> Listing:
    """Fill in the columns that headers tell and the listing lacks."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: texts(row.get(name, "") for row in rows) for name in names}
    columns = {name: values for name, values in columns.items() if (values != "").any()}
    nothing = np.full(len(rows), "")
    subject, patient, spelling = (columns.pop(name, nothing) for name in ("subject", "patient", "spelling"))
    identity = HeaderIdentity(subject, patient, spelling, columns.get("study", nothing))
    scans = replace(scans, groups={**columns, **scans.groups})
    return settle_subjects(scans, identity)


def _refuse_twice(names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"{len(twice)} scans are listed more than once ({first(twice)}): a file and its slices, or a slice under "
            "two names. Keep one row of each."
        )
