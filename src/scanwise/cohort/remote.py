"""Bring an `s3://` (or any other fsspec) folder of scans beside us, once; later runs fetch only what has changed."""

import errno
import hashlib
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from filelock import FileLock

from scanwise.cohort.decoding.readers import reading_threads
from scanwise.cohort.decoding.remote_files import (
    RemoteFolder,
    is_remote,
    is_web,
    path_below,
    reaching,
    shown_url,
    split_query,
    url_below,
)
from scanwise.cohort.decoding.slice_names import file_of_scan
from scanwise.cohort.remote_tables import is_remote_table, table_here
from scanwise.cohort.store import cache_folder
from scanwise.cohort.table_files import read_user_table
from scanwise.errors import DataError, RunError, StorageError
from scanwise.progress_bar import track
from scanwise.redaction import HIDDEN
from scanwise.run import read_json, remove_parts, write_json

_AT_ONCE = 64
"""Files between two saves of the index, and at once from an object store."""
_AT_ONCE_BY_HTTP = 4
"""Files at once from a web server: a small one has room for five connections that wait, and lets others wait for minutes."""
MIRRORED = "0" * 8  # one process at a time has the lock


_copies: dict[str, Path] = {}
"""Those that this process has made or brought up to date: one run sees one copy, and asks its place once."""


def local_root(root: str) -> Path:
    """The folder on the local disk that the paths of a cohort are relative to; of a remote one, the copy that it was read from.

    Raises:
        DataError: if it cannot be fetched.
    """
    if not is_remote(root):
        return Path(root)
    path = _copies.get(shown_url(root))
    if path is None or not path.exists():
        if HIDDEN in root:
            raise DataError(
                f"{root} is kept without its password or signature, so its scans cannot be fetched again. Name them, such as with "
                "--scans FOLDER."
            )
        path = mirror_folder(root)
    return path if path.is_dir() else path.parent


def mirror_folder(url: str, *, progress: bool = False) -> Path:
    """Copy a remote folder or manifest with its scans to the cache; returns the local path.

    A manifest brings the folder that it lies in, which its paths are relative to; from a web server, the scans that it names. Each file arrives under a temporary
    name, and one that has the same size and version tag as before is not fetched again.

    Raises:
        DataError: if the place cannot be reached, or its package is not installed.
    """
    with reaching(url):
        files = _list_on_web(url) if is_web(url) else _list_in_store(url)
    if not files.addresses or not (files.whole or files.root in files.addresses):
        raise DataError(f"There is nothing at {url}. Check the address.")
    files.local.mkdir(parents=True, exist_ok=True)
    with FileLock(str(files.local) + ".lock"):
        remove_parts(files.local)
        _fetch(files, progress)
    _copies[shown_url(url.rstrip("/"))] = files.copy
    return files.copy


@dataclass(frozen=True, slots=True)
class _RemoteFiles:
    """Files at a place.

    Attributes:
        filesystem: of fsspec.
        folder: that all of them lie in, without secrets of its URL.
        root: what was asked for: that folder, or a file in it.
        kind: of the place, and its host where the folder does not have it.
        mirrored: that folder; or a table that alone says which files these are.
        addresses: to fetch from, by the names of the files; these have no secrets.
        tags: sizes and versions, by the names.
    """

    filesystem: Any
    folder: str
    root: str
    kind: str
    mirrored: str
    addresses: dict[str, str]
    tags: dict[str, list[Any]]

    @property
    def whole(self) -> bool:
        """Whether a folder was asked for."""
        return self.root == self.folder

    @property
    def local(self) -> Path:
        """The folder of the copies."""
        return cache_folder() / "remote" / hashlib.sha256(f"{self.kind}{self.mirrored}".encode()).hexdigest()[:24]

    @property
    def copy(self) -> Path:
        """The copy of what was asked for."""
        return self.local / path_below(self.folder, self.root)


def _list_in_store(url: str) -> _RemoteFiles:
    """A folder in an object store, or that of a table there."""
    filesystem, root = fsspec.core.url_to_fs(url)
    filesystem.invalidate_cache()  # in one Python session the bucket may change between two runs
    whole = not is_remote_table(url) and filesystem.isdir(root)
    folder = root if whole else root.rpartition("/")[0]
    listed = filesystem.find(folder, detail=True)
    server = urlsplit(url).netloc.rpartition("@")[2]
    # Of a bucket the root has the name, of a server it may not.
    host = "" if root.partition("/")[0] == server else server
    parents = {name.rpartition("/")[0] for name in listed} | {
        folder.rstrip("/")
    }  # some stores have objects for folders
    files = {name: about for name, about in listed.items() if not name.endswith("/") and name not in parents}
    tags = {name: _tag(about) for name, about in files.items()}
    return _RemoteFiles(
        filesystem, folder, root, f"{filesystem.protocol}{host}", folder, {name: name for name in files}, tags
    )


def _list_on_web(url: str) -> _RemoteFiles:
    """A folder that a web server lists; or a table and the files that it names, for a server may list nothing."""
    filesystem, _ = fsspec.core.url_to_fs(url)
    address = split_query(url)[0].rstrip("/")
    table = is_remote_table(url)
    whole = not table and filesystem.isdir(url)
    tree = RemoteFolder(url if whole else address.rpartition("/")[0])
    paths = _paths_in(url) if table else _walk(tree) if whole else []
    addresses = {path: tree.url_of(path) for path in paths}
    if not whole:
        addresses[path_below(tree.url, address)] = url

    def tag_of(address: str) -> list[Any] | None:
        try:
            return _tag(filesystem.info(address))
        except FileNotFoundError:
            return None

    with ThreadPoolExecutor(_AT_ONCE_BY_HTTP) as pool:
        tags = dict(zip(addresses, pool.map(tag_of, addresses.values()), strict=True))
    folder, root = shown_url(tree.url), shown_url(address)
    names = {path: url_below(folder, path) for path, tag in tags.items() if tag is not None}
    return _RemoteFiles(
        filesystem, folder, root, "web", root if table else folder,
        {name: addresses[path] for path, name in names.items()},
        {name: tags[path] or [] for path, name in names.items()},
    )  # fmt: skip


def _walk(tree: RemoteFolder, folder: str = "") -> Iterator[str]:
    for entry in tree.entries(folder):
        if entry.folder:
            yield from _walk(tree, f"{folder}{entry.name}/")
        else:
            yield folder + entry.name


def _paths_in(table: str) -> Iterator[str]:
    """Paths of the files that a table at a URL names, below its folder."""
    with table_here(table) as file:
        columns = read_user_table(Path(file)).columns
    for name in [] if "path" not in columns else columns["path"].dropna().unique().tolist():
        if not is_remote(name) and ".." not in Path(name).parts:
            yield from dict.fromkeys((name.lstrip("/"), file_of_scan(name).lstrip("/")))  # a name may end in #1


def _tag(about: dict[str, Any]) -> list[Any]:
    """Size and version of a file, by what its place says of it."""
    version = about.get("ETag") or about.get("mtime") or about.get("LastModified") or about.get("Last-Modified")
    return [about.get("size"), str(version)]


def _fetch(files: _RemoteFiles, progress: bool) -> None:
    """Fetch the files that are not here, or are here in another version."""
    local, tags = files.local, files.tags
    index = local / ".scanwise-mirror.json"
    seen = _seen(index)
    paths = {name: path_below(files.folder, name) for name in tags}
    if any(".." in Path(path).parts or "\0" in path for path in paths.values()):
        raise DataError("The remote folder holds names with '..' in them; rename these objects.")
    targets = {name: local / path for name, path in paths.items()}
    with ThreadPoolExecutor(reading_threads()) as pool:
        checks = dict(zip(tags, pool.map(lambda name: _checksum(targets[name]), tags), strict=True))
    # A copy that was damaged here since it came, or that the remote has another of, is fetched again.
    stale = [name for name in tags if seen.get(name) != [*tags[name], checks[name]]]
    for gone in set(seen) - set(tags):
        (local / path_below(files.folder, gone)).unlink(missing_ok=True)
    arrived = {name: seen[name] for name in tags if name not in set(stale)}
    try:
        starts = range(0, len(stale), _AT_ONCE)
        for start in track(starts, "fetching scans", len(starts), progress):
            names = stale[start : start + _AT_ONCE]
            parts = [targets[name].with_name(f".{targets[name].name}.{MIRRORED}.part") for name in names]
            for part in parts:
                part.parent.mkdir(parents=True, exist_ok=True)
            _get(files.filesystem, [files.addresses[name] for name in names], [str(part) for part in parts])
            for name, part in zip(names, parts, strict=True):
                os.replace(part, targets[name])  # noqa: PTH105
                arrived[name] = [*tags[name], _checksum(targets[name])]
            write_json(arrived, index)  # what came before a broken line need not come again
    finally:
        write_json(arrived, index)


def _checksum(file: Path) -> int:
    """CRC-32 of a file; -1 if there is none."""
    check = 0
    try:
        with file.open("rb") as opened:
            while part := opened.read(2**24):
                check = zlib.crc32(part, check)
    except OSError:
        return -1
    return check


def _seen(index: Path) -> dict[str, Any]:
    """Index of the files that an earlier run brought; one that cannot be read only costs a download."""
    try:
        index_of: dict[str, Any] = read_json(index) if index.is_file() else {}
    except RunError:
        return {}
    return index_of


def _get(filesystem: Any, names: list[str], parts: list[str]) -> None:
    gentle = {"batch_size": _AT_ONCE_BY_HTTP} if is_web(names[0]) else {}
    try:
        filesystem.get(names, parts, **gentle)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"No room for the scans in {cache_folder()}. Point SCANWISE_CACHE elsewhere.") from error
        raise DataError(
            f"Fetching {names[0]} (of {len(names)}) broke off: {type(error).__name__}: {error}. Run it again."
        ) from error
