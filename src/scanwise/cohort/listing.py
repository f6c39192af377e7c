"""The files of a cohort before any is opened: one row a file, later one row a scan."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np

from scanwise.cohort.decoding.pixels import RemoteScan, Source
from scanwise.cohort.decoding.remote_files import is_remote, shown_url
from scanwise.cohort.decoding.slice_names import file_of_scan, index_of_scan
from scanwise.records import SIDES, IntArray, StrArray
from scanwise.records.names import describe_lookalikes

SIDE_NAMES = {
    **{side: side for side in SIDES},
    **dict.fromkeys(("training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "dev"), "validation"),
    **dict.fromkeys(("cal", "calib"), "calibration"),
    **dict.fromkeys(("testing",), "test"),
}


@dataclass(frozen=True, slots=True)
class FileContents:
    """Slices and columns of one file.

    Attributes:
        count: of its slices or frames; a file of one is known by its path alone.
        columns: of one value for all, or one a slice.
        remark: what is doubtful of how it was read; "" if nothing is.
        header: values of a DICOM header in the clear, by keyword; they serve to join and to choose, and are never written.
    """

    count: int = 1
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    remark: str = ""
    header: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Listing:
    """Scans before they are decoded, one row a file or scan.

    Attributes:
        root: local folder that `path` is relative to.
        path, label: (N,) as found; the path of a scan at a URL is that without secrets.
        address: (N,) the URLs to read from, where they are others than the paths; None where none is.
        subject: (N,), or None where nobody is known; "" for a scan whose subject is not.
        subject_source: how subjects became known.
        groups, text, given: as in Cohort.
        study: (N,) examination of each scan by its header, all scans of which are of one person; None where no header says.
        labels_from: "folders" where labels are names of folders.
        opened: (N,) contents of each file, or why it cannot be used; None where none was opened yet.
        unused: files that belong to no class, with the reason.
        remarks: what a reader must know of how the files were listed, and may have to mend.
        notes: what was done as asked, which asks nothing of anybody.
    """

    root: Path
    path: StrArray
    label: StrArray
    subject: StrArray | None = None
    subject_source: str = ""
    groups: dict[str, StrArray] = field(default_factory=dict)
    text: StrArray | None = None
    given: StrArray | None = None
    study: StrArray | None = None
    labels_from: str = ""
    opened: tuple[FileContents | str, ...] | None = None
    unused: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    address: StrArray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.path)

    def take(self, rows: IntArray) -> Self:
        """The listing with only these rows, in this order; a row may come more than once."""
        return replace(
            self,
            path=self.path[rows],
            address=None if self.address is None else self.address[rows],
            label=self.label[rows],
            subject=None if self.subject is None else self.subject[rows],
            groups={name: values[rows] for name, values in self.groups.items()},
            text=None if self.text is None else self.text[rows],
            given=None if self.given is None else self.given[rows],
            study=None if self.study is None else self.study[rows],
            opened=None if self.opened is None else tuple(self.opened[row] for row in rows.tolist()),
        )

    def sources(self) -> list[Source]:
        """(N) the file of each row, or the slice of one that it names."""
        return [source_at(self.root, path) for path in (self.path if self.address is None else self.address).tolist()]

    def with_shown_urls(self) -> Self:
        """The listing with paths without the secrets of their URLs."""
        paths = self.path.tolist()
        shown = [shown_url(path) if is_remote(path) else path for path in paths]
        unused = tuple((shown_url(path) if is_remote(path) else path, reason) for path, reason in self.unused)
        if shown == paths:
            return replace(self, unused=unused)
        return replace(self, path=texts(shown), address=self.path, unused=unused)

    def header_values(self, keyword: str) -> list[str]:
        """(N) a value of the header of each opened file; "" where it has none."""
        return ["" if isinstance(file, str) else file.header.get(keyword, "") for file in self.opened or ()]

    def with_similar_ids(self, *, show: bool) -> Self:
        """The listing with a remark on subjects that may be one under two names, with the names where they may be shown."""
        similar = "" if self.subject is None else describe_lookalikes(self.subject.tolist(), show=show)
        return replace(self, remarks=(*self.remarks, similar)) if similar else self


def source_at(root: Path, path: str) -> Source:
    """The file at a path below a folder or at a URL, or the slice of it that is named."""
    if not is_remote(path):
        return root / path
    index = index_of_scan(path)
    return RemoteScan(path) if index is None else RemoteScan(file_of_scan(path), index)


def texts(values: Iterable[object]) -> StrArray:
    """An array of texts, also of none."""
    strings = [str(value) for value in values]
    return np.array(strings, dtype=np.str_) if strings else np.empty(0, dtype="<U1")


def first(values: Sequence[object], most: int = 3) -> str:
    """The first few, for messages."""
    shown = ", ".join(str(value) for value in values[:most])
    return shown + (", …" if len(values) > most else "")
