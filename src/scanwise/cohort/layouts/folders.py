"""Files below a folder, and folders of classes: what most cohorts are.

Links to folders are not followed, because they may loop; nothing is opened.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scanwise.cohort.listing import SIDE_NAMES, Listing, first, texts
from scanwise.errors import DataError


def descend(root: Path) -> Path:
    """Step into wrapping folders: a folder whose only content is one folder of folders."""
    while True:
        entries = list(_entries(root))
        only = entries[0] if len(entries) == 1 else None
        if only is None or only.is_symlink() or not only.is_dir() or only.name.casefold() in SIDE_NAMES:
            return root
        if not any(child.is_dir() for child in _entries(root / only.name)):
            return root
        root = root / only.name


def tops(root: Path) -> list[str]:
    """The folders right below one, sorted."""
    return sorted(entry.name for entry in _entries(root) if entry.is_dir())


def classes(root: Path) -> Listing:
    """A folder with one folder a class, or with train and test folders of those.

    Raises:
        DataError: if train and test folders stand beside others, which would be taken for classes.
    """
    names = tops(root)
    sides = {name for name in names if name.casefold() in SIDE_NAMES}
    sided = bool(names) and len(sides) == len(names)
    if not sided and {"train", "test"} <= {SIDE_NAMES[name.casefold()] for name in sides}:
        raise DataError(
            f"{root} holds train and test folders beside others ({first(sorted(set(names) - sides))}). "
            "Move the others away, or these would be taken for classes."
        )
    depth = 2 if sided else 1
    rows: list[tuple[str, str, str]] = []
    unused: list[tuple[str, str]] = []
    for path, fault in walk(root):
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


def walk(root: Path) -> Iterator[tuple[str, str]]:
    """Relative paths of all files that are not hidden, each with the reason why it cannot be used, or "".

    The files of a folder come sorted before those of its folders. A folder that cannot be read is listed like a file.
    """
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(_entries(root / folder), key=lambda entry: entry.name)
        except DataError:
            if not folder:
                raise
            yield _printable(folder.rstrip("/")), "a folder that cannot be read; change its permissions"
            continue
        inner = [f"{folder}{entry.name}/" for entry in entries if entry.is_dir(follow_symlinks=False)]
        waiting += inner[::-1]
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                yield _printable(folder + entry.name), _fault(entry)


def _entries(folder: Path) -> "Iterator[os.DirEntry[str]]":
    """Entries of a folder without hidden files and what macOS leaves in archives."""
    try:
        with os.scandir(folder) as scanned:
            entries = [entry for entry in scanned if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}. Change its permissions.") from error
    return iter(entries)


def _fault(entry: "os.DirEntry[str]") -> str:
    """The reason why a listed file is not even opened."""
    try:
        if entry.is_dir():
            return "a link to a folder: links are not followed, because they may loop"
        if not entry.is_file() and (not entry.is_symlink() or os.path.exists(entry.path)):  # noqa: PTH110
            return "neither a file nor a folder"
    except OSError:  # a link that leads to itself: opening it will say so
        return ""
    return "" if _printable(entry.name) == entry.name else "its name is not UTF-8"


def _printable(path: str) -> str:
    """The path as text that can be written; bytes that are no text are spelt out."""
    return path.encode("utf-8", "backslashreplace").decode()
