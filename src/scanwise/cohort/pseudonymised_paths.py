"""A cohort under other names, for people whose folders are called after patients.

A folder beside the key holds a link to each file, under a path in which every name but those of classes and sides is a
keyed hash: who may read the links may read the key, and the cache holds no name. Whatever works on the cohort from then on sees these paths alone, so none of the old names can reach a table,
a log or a report; and as the links lead to the scans, everything works as it does with the scans' own names.
"""

import os
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from scanwise.cohort.decoding.slice_names import file_of_scan, split_slice
from scanwise.cohort.listing import SIDE_NAMES, Listing, texts
from scanwise.cohort.pseudonyms import Pseudonyms, is_stand_in, key_file
from scanwise.errors import StorageError


def pseudonymise_listing(listing: Listing) -> Listing:
    """The same scans under paths, and of subjects, whose names are keyed hashes.

    Raises:
        StorageError: if the links cannot be made.
    """
    hashes = Pseudonyms.load()
    keep = {*listing.label.tolist(), *SIDE_NAMES}
    links: dict[str, Path] = {}

    def name(path: str) -> str:
        file, index = split_slice(listing.root / path)
        name_of_file = path if index is None else file_of_scan(path)
        covered = hashes.path(name_of_file.lstrip("/"), keep)
        links[covered] = file
        return covered + path[len(name_of_file) :]

    paths = texts(map(name, listing.path.tolist()))
    subject = listing.subject
    if subject is not None:
        subject = texts(name if is_stand_in(name) else hashes("subject", name) for name in subject.tolist())
    return replace(
        listing,
        root=_link(links, hashes("path", str(listing.root.absolute()))),
        path=paths,
        subject=subject,
        unused=tuple((hashes.path(path.lstrip("/"), keep), reason) for path, reason in listing.unused),
    )


def is_cover(root: Path) -> bool:
    """Whether the links in a folder were made here."""
    return root.absolute().is_relative_to(_covers().absolute())


def _covers() -> Path:
    return key_file().parent / "links"


def _link(links: dict[str, Path], name: str) -> Path:
    folder = _covers() / name
    try:
        _covers().mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True)
        with FileLock(str(folder) + ".lock"):
            for link, file in links.items():
                _link_one(folder / link, Path(os.path.abspath(file)))  # noqa: PTH100 - a link's own end stays as it is
    except OSError as error:
        raise StorageError(
            f"Cannot link scans into {folder}: {error.strerror}. Point XDG_CONFIG_HOME to a folder that can be written."
        ) from error
    return folder


def _link_one(link: Path, file: Path) -> None:
    if link.is_symlink():
        if os.readlink(link) == str(file):  # noqa: PTH115
            return
        link.unlink()
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(file)
