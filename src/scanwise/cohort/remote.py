"""Bring an `s3://` (or any other fsspec) folder of scans beside us, once; later runs fetch only what has changed."""

import errno
import hashlib
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock

from scanwise.cohort.decoding.readers import reading_threads
from scanwise.cohort.decoding.remote_files import is_remote, is_web, path_below, place_of, reaching, url_below
from scanwise.cohort.decoding.slice_names import file_of_scan
from scanwise.cohort.remote_tables import is_remote_table, table_here
from scanwise.cohort.store import cache_folder
from scanwise.cohort.table_files import read_user_table
from scanwise.errors import DataError, RunError, StorageError
from scanwise.progress_bar import track
from scanwise.run import read_json, remove_parts, write_json

_AT_ONCE = 64
"""Files between two saves of the index, and at once from an object store."""
_AT_ONCE_BY_HTTP = 4
"""Files at once from a web server: a small one has room for five connections that wait, and lets others wait for minutes."""
MIRRORED = "0" * 8  # one process at a time has the lock


def local_root(root: str) -> Path:
    """The folder on the local disk that the paths of a cohort are relative to, fetched where it is remote."""
    if not is_remote(root):
        return Path(root)
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
        filesystem, root = fsspec.core.url_to_fs(url)
        filesystem.invalidate_cache()  # in one Python session the bucket may change between two runs
        table = is_remote_table(url)
        whole = not table and filesystem.isdir(root)
        folder = root if whole else root.rpartition("/")[0]
        by_name = table and is_web(url)  # a web server may list nothing
        remote_files = _named(filesystem, url, root) if by_name else _found(filesystem, folder)
    parents = {name.rpartition("/")[0] for name in remote_files} | {
        folder.rstrip("/")
    }  # some stores have objects for folders
    files = {name: about for name, about in remote_files.items() if not name.endswith("/") and name not in parents}
    if not files or not (whole or root in files):
        raise DataError(f"There is nothing at {url}. Check the address.")
    mirrored = root if by_name else folder
    kind = "web" if is_web(url) else filesystem.protocol
    local = cache_folder() / "remote" / hashlib.sha256(f"{kind}{mirrored}".encode()).hexdigest()[:24]
    local.mkdir(parents=True, exist_ok=True)
    with FileLock(str(local) + ".lock"):
        remove_parts(local)
        _fetch(filesystem, folder, files, local, progress)
    return local if whole else local / path_below(folder, root)


def _found(filesystem: Any, folder: str) -> dict[str, dict[str, Any]]:
    """All files below a folder, with what their place says of each."""
    return {place_of(name): about for name, about in filesystem.find(folder, detail=True).items()}


def _named(filesystem: Any, url: str, root: str) -> dict[str, dict[str, Any]]:
    """A table at a web address and the files that it names, with what their server says of each; those that are not there are left out."""
    with table_here(url) as file:
        columns = read_user_table(Path(file)).columns
    names = [] if "path" not in columns else columns["path"].dropna().tolist()
    folder = root.rpartition("/")[0]
    inside = [name for name in dict.fromkeys(names) if not is_remote(name) and ".." not in Path(name).parts]

    def about(address: str) -> dict[str, Any] | None:
        try:
            info: dict[str, Any] = filesystem.info(address)
        except FileNotFoundError:
            return None
        return info

    files = dict.fromkeys(file for name in inside for file in (name, file_of_scan(name)))  # a name may end in #1
    addresses = [root, *(url_below(folder, file.lstrip("/")) for file in files)]
    with ThreadPoolExecutor(reading_threads()) as pool:
        infos = zip(addresses, pool.map(about, addresses), strict=True)
        return {address: info for address, info in infos if info is not None}


def _fetch(filesystem: Any, folder: str, files: dict[str, dict[str, Any]], local: Path, progress: bool) -> None:
    index = local / ".scanwise-mirror.json"
    seen = _seen(index)
    tags: dict[str, list[Any]] = {
        name: [
            about.get("size"),
            str(about.get("ETag") or about.get("mtime") or about.get("LastModified") or about.get("Last-Modified")),
        ]
        for name, about in files.items()
    }
    paths = {name: path_below(folder, name) for name in files}
    if any(".." in Path(path).parts or "\0" in path for path in paths.values()):
        raise DataError("The remote folder holds names with '..' in them; rename these objects.")
    targets = {name: local / path for name, path in paths.items()}
    with ThreadPoolExecutor(reading_threads()) as pool:
        checks = dict(zip(files, pool.map(lambda name: _checksum(targets[name]), files), strict=True))
    # A copy that was damaged here since it came, or that the remote has another of, is fetched again.
    stale = [name for name in files if seen.get(name) != [*tags[name], checks[name]]]
    for gone in set(seen) - set(files):
        (local / path_below(folder, gone)).unlink(missing_ok=True)
    arrived = {name: seen[name] for name in files if name not in set(stale)}
    try:
        starts = range(0, len(stale), _AT_ONCE)
        for start in track(starts, "fetching scans", len(starts), progress):
            names = stale[start : start + _AT_ONCE]
            parts = [targets[name].with_name(f".{targets[name].name}.{MIRRORED}.part") for name in names]
            for part in parts:
                part.parent.mkdir(parents=True, exist_ok=True)
            _get(filesystem, names, [str(part) for part in parts])
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
