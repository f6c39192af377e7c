"""Files below a folder, and folders of classes: what most cohorts are.

Links to folders are not followed, because they may loop; nothing is opened.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from scanwise.cohort.decoding.remote_files import RemoteEntry
from scanwise.cohort.layouts import set_aside
from scanwise.cohort.layouts.folder_roles import FolderRoles, sides_of
from scanwise.cohort.listing import Listing, first, texts
from scanwise.errors import DataError

_DERIVED_FOLDER = "in a folder of masks or previews beside one of scans"
_DERIVED_FILE = "a mask or preview by its name"


def descend(root: Path) -> Path:
    """Step into wrapping folders: a folder whose only content is one folder of folders."""
    while True:
        inner = tops(root)
        only = inner[0] if len(inner) == 1 and not any(entry.is_file() for entry in _entries(root)) else None
        if only is None or (root / only).is_symlink() or sides_of([only]) or not tops(root / only):
            return root
        root = root / only


def passed_over(start: Path, root: Path) -> tuple[tuple[str, str], ...]:
    """Folders beside the way that `descend` took from one folder to another, each with the reason why it is not read."""
    left: list[tuple[str, str]] = []
    way = [root, *root.parents]
    way = way[: way.index(start) + 1][::-1]
    for folder, inner in pairwise(way):
        beside = sorted(entry.name for entry in _entries(folder) if entry.is_dir() and entry.name != inner.name)
        left += [
            (
                _printable((folder / name).relative_to(start).as_posix() + "/"),
                "a folder of the system, without scans" if set_aside.is_system_folder(name) else _DERIVED_FOLDER,
            )
            for name in beside
        ]
    return tuple(left)


def tops(root: Path) -> list[str]:
    """The folders right below one that may hold scans, sorted."""
    names = [entry.name for entry in _entries(root) if entry.is_dir() and not set_aside.is_system_folder(entry.name)]
    derived = set_aside.derived_folders(names)
    return sorted(name for name in names if name not in derived)


def classes(root: Path, label: str = "") -> Listing:
    """A folder with one folder a class, also below folders of sides (train, test) or sites.

    Args:
        root: the folder.
        label: "folder 2" where the second level of folders holds the classes.

    Raises:
        DataError: if the folders can be read in two ways.
    """
    roles = FolderRoles.of(root, _own_tops, label)
    rows: list[tuple[str, str, str, str]] = []
    unused: list[tuple[str, str]] = []
    for path, fault in walk(root):
        parts = path.split("/")
        folders = parts[:-1]
        if fault:
            unused.append((path, fault))
        elif len(folders) <= roles.classes:
            unused.append((path, "not inside a class folder"))
        else:
            side = (
                roles.side_of.get(folders[roles.sides], "")
                if roles.sides is not None and len(folders) > roles.sides
                else ""
            )
            rows.append((path, folders[roles.classes], side, "" if roles.sites is None else folders[roles.sites]))
    barren = _without_scans(root, roles, [row[0] for row in rows], dict(unused))
    columns = [texts(values) for values in zip(*rows, strict=True)] or [texts(()) for _ in range(4)]
    remarks = [roles.remark] if roles.remark else []
    chosen = label.startswith("folder ")
    if label and not chosen:
        remarks.append(
            f"There is no table with the column {label!r} here: the classes are the names of folders. A table of patients is "
            "joined with --patients, and folders of another level are the classes with --label 'folder 2'."
        )
    if barren:
        remarks.append(
            f"Class folders without a scan: {first([f'{name} ({why})' for name, why in barren.items()], 8)}."
        )
    return Listing(
        root,
        columns[0],
        columns[1],
        given=columns[2] if roles.sides is not None else None,
        groups={} if roles.sites is None else {roles.site_name: columns[3]},
        unused=(*unused, *((name, why) for name, why in barren.items() if name not in dict(unused))),
        remarks=tuple(remarks),
        labels_from="" if chosen else "folders",  # what a user has chosen is not doubted
    )


def _own_tops(folder: Path) -> list[str]:
    """`tops` without links, which are not followed, and without folders that cannot be read."""
    try:
        return [name for name in tops(folder) if not (folder / name).is_symlink()]
    except DataError:
        return []


def _without_scans(root: Path, roles: FolderRoles, used: Sequence[str], faults: Mapping[str, str]) -> dict[str, str]:
    """Class folders, and links in their place, that give no scan, each with the reason."""
    depth = roles.classes + 1
    full = {"/".join(path.split("/")[:depth]) for path in used}
    links = [path for path in faults if path.count("/") == roles.classes and _is_linked_folder(root / path)]
    barren: dict[str, str] = {}
    for folder in sorted({*map(_printable, roles.folders), *links} - full):
        there = any(path.startswith(f"{folder}/") for path in faults)
        barren[folder] = faults.get(folder) or ("none of its files is a scan" if there else "an empty folder")
    return barren


def _is_linked_folder(path: Path) -> bool:
    return path.is_symlink() and path.is_dir()


def walk(root: Path) -> Iterator[tuple[str, str]]:
    """Relative paths of all files that are not hidden, each with the reason why it cannot be used, or "".

    The files of a folder come sorted before those of its folders. A folder that cannot be read, or is of the system, is
    listed like a file. Masks and thumbnails that stand beside scans are listed with that reason.
    """
    yield from walk_entries(lambda folder: _entries(root / folder))


def walk_entries(entries_of: Callable[[str], "Iterable[os.DirEntry[str] | RemoteEntry]"]) -> Iterator[tuple[str, str]]:
    """The same of any tree, by what gives the entries of a folder in it."""
    waiting = [("", "")]
    while waiting:
        folder, reason = waiting.pop()
        try:
            entries = sorted(entries_of(folder), key=lambda entry: entry.name)
        except DataError:
            if not folder:
                raise
            yield _printable(folder.rstrip("/")), "a folder that cannot be read; change its permissions"
            continue
        inner = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        system = [name for name in inner if set_aside.is_system_folder(name)]
        derived = set_aside.derived_folders([name for name in inner if name not in system])
        waiting += [
            (f"{folder}{name}/", _DERIVED_FOLDER if name in derived else reason)
            for name in reversed(inner)
            if name not in system
        ]
        yield from ((_printable(folder + name), "a folder of the system, without scans") for name in system)
        files = [entry for entry in entries if not entry.is_dir(follow_symlinks=False)]
        made_of = set_aside.derived_files([entry.name for entry in files])
        for entry in files:
            fault = _fault(entry) or reason
            if not fault and entry.name in made_of:
                fault = f"{_DERIVED_FILE}: made of {_printable(made_of[entry.name])}, which is beside it"
            yield _printable(folder + entry.name), fault


def _entries(folder: Path) -> "Iterator[os.DirEntry[str]]":
    """Entries of a folder without hidden files and what macOS leaves in archives."""
    try:
        with os.scandir(folder) as scanned:
            entries = [entry for entry in scanned if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}. Change its permissions.") from error
    return iter(entries)


def _fault(entry: "os.DirEntry[str] | RemoteEntry") -> str:
    """The reason why a listed file is not even opened."""
    if set_aside.is_system_file(entry.name):
        return "a file of the system, no scan"
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
