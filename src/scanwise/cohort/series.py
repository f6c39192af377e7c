"""Series of an examination: the ones that a pattern picks by their description, and localizers, which are left out then."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scanwise.cohort.decoding.slice_names import file_of_scan
from scanwise.cohort.listing import FileContents, Listing, first
from scanwise.errors import DataError
from scanwise.phrases import count_of

_LOCALIZER = re.compile(
    r"\b(loc|locs|locali[sz]ers?|aahscout|scout|survey|topogram|surview|smart ?brain|(3|three)[- ]?plane)\b", re.I
)


def choose_series(listing: Listing, pattern: str, *, show: bool = True) -> Listing:
    """Set aside files of series that a pattern does not pick, and localizers unless the pattern names them.

    The pattern is looked for in the series description, or where there is none in the name of the protocol; of files
    without a DICOM header in their names. Case does not matter.

    Args:
        listing: of files that were opened.
        pattern: a regular expression.
        show: the descriptions, in the error where the pattern picks none.

    Raises:
        DataError: if the pattern picks nothing.
    """
    opened, paths = listing.opened or (), listing.path.tolist()
    wanted, any_kind = re.compile(pattern, re.I), _LOCALIZER.search(pattern) is not None
    names = [
        describe_series(contents) if isinstance(contents, FileContents) and contents.header else file_of_scan(path)
        for contents, path in zip(opened, paths, strict=True)
    ]
    reasons = [
        ""
        if isinstance(contents, str)
        else "of another series than was chosen"
        if not wanted.search(name)
        else "a localizer"
        if is_localizer(contents) and not any_kind
        else ""
        for contents, name in zip(opened, names, strict=True)
    ]
    readable = [not isinstance(contents, str) for contents in opened]
    if not any(is_readable and not reason for is_readable, reason in zip(readable, reasons, strict=True)):
        counts = Counter(name for name, is_readable in zip(names, readable, strict=True) if is_readable)
        there = [f"{name or 'no description'} ({count_of(count, 'file')})" for name, count in counts.most_common()]
        raise DataError(
            f"No series matches {pattern!r} (data.series or --series)"
            + (f"; there are {first(there, 8)}." if show else ". `scanwise cohort` lists the descriptions.")
        )
    unused = [(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason]
    kept = listing.take(np.array([row for row, reason in enumerate(reasons) if not reason], dtype=np.int64))
    note = f"The series {pattern!r} has {len(kept):,} of {count_of(len(listing), 'file')}; the others are set aside."
    return replace(kept, unused=(*kept.unused, *unused), notes=(*kept.notes, note))


def localizer_remarks(opened: Sequence[FileContents | str]) -> list[str]:
    """A remark where some files, but not all, are localizers."""
    count = sum(is_localizer(contents) for contents in opened)
    if not 0 < count < len(opened):
        return []
    return [
        f"{count:,} of {count_of(len(opened), 'file')} are localizers. Leave them out with --series, a pattern over the series "
        "description."
    ]


def describe_series(contents: FileContents | str) -> str:
    """The description of the series of a file, or else the name of its protocol; "" where its header has neither."""
    header = {} if isinstance(contents, str) else contents.header
    return header.get("SeriesDescription", "") or header.get("ProtocolName", "")


def is_localizer(contents: FileContents | str) -> bool:
    """Whether a header calls its image a localizer, by its type (PS3.3, C.7.6.1.1.2) or in its description."""
    if isinstance(contents, str) or not contents.header:
        return False
    named = _LOCALIZER.search(describe_series(contents).replace("_", " ")) is not None
    return named or "LOCALIZER" in contents.header.get("ImageType", "").upper()
