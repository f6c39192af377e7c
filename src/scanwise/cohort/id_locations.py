"""Places where files may have the id of a person: what names the subjects already, headers, folders and names of files."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

from scanwise.cohort.decoding.slice_names import file_of_scan
from scanwise.cohort.listing import Listing, first
from scanwise.records.names import compose, names_person, subject_key


@dataclass(frozen=True, slots=True)
class IdLocation:
    """A location where files may have ids.

    Attributes:
        name: of the location, in words.
        candidates: (N) what may be the id of each file, the likeliest first.
        kind: "subject", "header" or "path".
    """

    name: str
    candidates: Sequence[tuple[str, ...]]
    kind: str

    @property
    def examples(self) -> str:
        """The first ids that stand here, for messages."""
        return first(list(dict.fromkeys(names[0] for names in self.candidates if names))) or "nothing"


@dataclass(frozen=True, slots=True)
class IdMatch:
    """The ids of a table that files have in one location.

    Attributes:
        location: where they were looked for.
        ids: (N) the id of each file as the table spells it; "" where there is none.
    """

    location: IdLocation
    ids: Sequence[str]

    @property
    def persons(self) -> int:
        """Number of ids that some file has."""
        return len(set(self.ids) - {""})

    @property
    def files(self) -> int:
        """Number of files that have an id."""
        return sum(map(bool, self.ids))

    @property
    def respelt(self) -> int:
        """Number of files whose id the table writes otherwise."""
        return sum(bool(name) and name not in own for name, own in zip(self.ids, self.location.candidates, strict=True))

    def spellings(self) -> dict[str, str]:
        """Each id as most of its files write it."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for name, own in zip(self.ids, self.location.candidates, strict=True):
            if name:
                counts[name][next(text for text in own if text == name or subject_key(text) == subject_key(name))] += 1
        return {name: of.most_common(1)[0][0] for name, of in counts.items()}


def match_ids(location: IdLocation, ids: Collection[str]) -> IdMatch:
    """Find ids in a location, as they are or, where only one is meant, by another case, leading zeros or a final `.0`."""
    keys: dict[str, list[str]] = defaultdict(list)
    for name in ids:
        keys[subject_key(name)].append(name)

    @cache
    def look_up(candidates: tuple[str, ...]) -> str:
        exact = next((name for name in candidates if name in ids), "")
        return exact or next((of[0] for name in candidates if len(of := keys.get(subject_key(name), [])) == 1), "")

    return IdMatch(location, [look_up(candidates) for candidates in location.candidates])


def id_locations(listing: Listing, keyword: str) -> Iterator[IdLocation]:
    """All locations where the files of a listing may have ids, the likeliest first.

    Args:
        listing: of files that were opened.
        keyword: the header value that the ids are; what names the subjects is looked at only for ids of persons.
    """
    if listing.subject is not None and keyword == "PatientID":
        names = [_spellings(name) for name in listing.subject.tolist()]
        yield IdLocation(f"the subjects ({listing.subject_source})", names, "subject")
    values = listing.header_values(keyword)
    if any(values):
        own = [(compose(value),) if names_person(value) else () for value in values]
        yield IdLocation(f"the {keyword} of the headers", own, "header")
    parts = [PurePosixPath(file_of_scan(path)).parts for path in listing.path.tolist()]
    spellings = cache(_spellings)
    for level in range(max(map(len, parts), default=0) - 1):
        above = [part[level] if level < len(part) - 1 else "" for part in parts]
        yield IdLocation(f"the folders of level {level + 1}", [spellings(name) for name in above], "path")
    yield IdLocation(
        "the names of files", [_spellings(part[-1].partition(".")[0]) if part else () for part in parts], "path"
    )


def _spellings(name: str) -> tuple[str, ...]:
    """Texts that may be the id in a name: all of it, what stands before a sign, and its longer parts.

    >>> _spellings("sub-P01_T1")
    ('sub-P01_T1', 'P01_T1', 'sub-P01', 'sub', 'P01')
    """
    signs = [match.start() for match in re.finditer(r"[\W_]+", name)]
    before = [name[:end] for end in reversed(signs) if end]
    longer = [part for part in re.split(r"[\W_]+", name) if len(part) > 2]
    return tuple(dict.fromkeys(text for text in (name, name.removeprefix("sub-"), *before, *longer) if text))
