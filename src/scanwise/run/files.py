"""Files and folders that appear whole or not at all, are on disk before they get their name, and have one writer.

A file is made under `.NAME.TOKEN.part`, flushed, and renamed. A folder takes the place of another in one step where the
system can exchange two names; elsewhere the old one steps aside as `.NAME.TOKEN.old`, which `owning` puts back if the
process died between the two renames.
"""

import ctypes
import errno
import filecmp
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from scanwise.errors import DataError, RunError, StorageError, describe_os_error
from scanwise.run import layout
from scanwise.untrusted import parse_json, refuse_special

PART, OLD = ".part", ".old"
_LEFT = re.compile(r"\.(.+)\.(?:[0-9a-f]{8}|[0-9]+)(\.part|\.old)", re.S)  # 0.1 had the number of the process there
_LONGEST = 48  # characters of a name that its temporary name keeps: there is a limit, and a long name may be near it
_CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
_AT_FDCWD, _EXCHANGE, _SWAP = -100, 2, 2


class Saved(Protocol):
    """Any value that can write itself to a path."""

    def save(self, path: Path) -> None: ...


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it takes the name, else nothing is left.

    The block may write a file or make a folder there. What equals what is there already changes nothing.

    Raises:
        StorageError: if the disk is full or the place cannot be written.
    """
    temporary = _beside(path, PART)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if not _is_equal(temporary, path):
            _flush(temporary)
            _put(temporary, path)
    except OSError as error:
        if not _is_about(error, path) or (reason := describe_os_error(error)) == "":
            raise
        raise StorageError(
            f"Cannot write {path}: {reason} What was written before is kept; a fit can go on with --resume."
        ) from error
    finally:
        _remove(temporary)


def save(value: Saved, path: Path) -> None:
    """Save a record under `path`, whole or not at all."""
    with writing(path) as temporary:
        value.save(temporary)


def write_text(text: str, path: Path) -> None:
    """Write a text file, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(value: object, path: Path) -> None:
    """Write JSON, whole or not at all."""
    write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", path)


def read_json(path: Path) -> Any:
    """Read JSON that scanwise wrote; a damaged file is a `RunError`."""
    try:
        refuse_special(path, "JSON")
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, DataError) as error:
        raise RunError(f"{path} cannot be read: {error}. Delete it and run the stage again with --resume.") from error


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def owning(folder: Path) -> Iterator[None]:
    """Be the only writer of a folder while the block runs; what a killed one left there is removed first.

    Raises:
        RunError: if another process is writing there.
        StorageError: if the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        release = _lock(folder / layout.LOCK)
    except OSError as error:
        raise StorageError(f"Cannot write {folder}: {describe_os_error(error) or error}") from error
    if release is None:
        raise RunError(
            f"Another process is writing {folder}. Wait until it has ended, or choose another folder with --out."
        )
    try:
        remove_parts(folder)
        yield
    finally:
        release()


def remove_parts(folder: Path) -> None:
    """Remove what killed writers left in a folder of scanwise; a folder that had stepped aside takes its name again."""
    for path in list(folder.rglob(".*")):
        if (match := _LEFT.fullmatch(path.name)) is None:
            continue
        before = path.with_name(match[1])
        if match[2] == OLD and not before.exists():
            path.rename(before)
        else:
            _remove(path)


def refuse_foreign(folder: Path, mark: str, kind: str) -> None:
    """Refuse to write into a folder that holds something else.

    Args:
        folder: there or not.
        mark: the name of a file that every folder of this kind has.
        kind: what the folder may hold, such as "audit".

    Raises:
        RunError: if the folder is a file, a run, or holds files of others.
    """
    if not folder.exists():
        return
    ours = folder.is_dir() and ((folder / mark).is_file() or (folder / layout.LOCK).is_file() or is_unwritten(folder))
    if not ours or (folder / layout.RECIPE).is_file():
        raise RunError(f"{folder} holds files that no {kind} wrote. Choose another folder with --out.")


def is_unwritten(folder: Path) -> bool:
    """Whether a folder holds nothing but what a writer that was killed at once may have left."""
    return all(path.name == layout.LOCK or _LEFT.fullmatch(path.name) for path in folder.iterdir())


def _lock(file: Path) -> Callable[[], None] | None:
    """Take a lock at once; returns what releases it, or None if another process has it.

    A lock of the system, which ends with its process. The file goes before the lock is released: who opened it meanwhile
    sees that its name is gone, and opens it again.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where the user has to see to it
        return lambda: None
    while True:
        number = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _has_name(file, number):
                return functools.partial(_unlock, file, number)
        except OSError as error:
            os.close(number)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            if error.errno in (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK):  # a file system without locks
                return functools.partial(_remove, file)
            raise
        os.close(number)


def _has_name(file: Path, number: int) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(number), file.stat())
    except FileNotFoundError:
        return False


def _unlock(file: Path, number: int) -> None:
    _remove(file)
    os.close(number)


def _beside(path: Path, ending: str) -> Path:
    """A new name in the same folder, which no other process takes, on this machine or in another container."""
    name = path.name[:_LONGEST] if ending == PART else path.name
    return path.with_name(f".{name}.{secrets.token_hex(4)}{ending}")


def _is_about(error: OSError, path: Path) -> bool:
    """Whether an error is about writing here, and not about a file elsewhere that the block reads."""
    if not isinstance(error.filename, str | bytes):
        return True
    named = Path(os.fsdecode(error.filename))
    return named.is_relative_to(path.parent) or path.is_relative_to(named)


def _is_equal(new: Path, path: Path) -> bool:
    if not (new.is_dir() and path.is_dir()):
        return new.is_file() and path.is_file() and filecmp.cmp(new, path, shallow=False)
    names = [sorted(inner.relative_to(folder) for inner in folder.rglob("*")) for folder in (new, path)]
    return names[0] == names[1] and all(
        ((new / name).is_dir() and (path / name).is_dir()) or _is_equal(new / name, path / name) for name in names[0]
    )


def _put(new: Path, path: Path) -> None:
    """Rename; of a folder that replaces another, the old one is under the temporary name afterwards."""
    if not (new.is_dir() and path.is_dir()):
        new.replace(path)
    elif not _exchange(new, path):
        aside = _beside(path, OLD)
        path.rename(aside)
        new.rename(path)
        _remove(aside)
    _flush_one(path.parent)


def _flush(path: Path) -> None:
    """Bring a file, or a folder with all that it holds, to the disk."""
    inner: Iterable[Path] = path.rglob("*") if path.is_dir() else ()
    for file in [*inner, path]:
        _flush_one(file)


def _flush_one(path: Path) -> None:
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:  # some network file systems cannot
            raise
    finally:
        os.close(file)


def _remove(path: Path) -> None:
    """Remove a file or folder; what cannot be removed is left to the next owner."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _exchange(first: Path, second: Path) -> bool:
    """Give two paths each other's name in one step; False where the system or the file system cannot."""
    call = _exchange_call()
    return call is not None and call(os.fsencode(first), os.fsencode(second)) == 0


@functools.cache
def _exchange_call() -> Callable[[bytes, bytes], int] | None:
    """The function of the C library: `renameat2` of Linux, `renamex_np` of macOS."""
    try:
        library = ctypes.CDLL(None)
        if sys.platform == "darwin":
            return lambda first, second: int(library.renamex_np(first, second, ctypes.c_uint(_SWAP)))
        function = library.renameat2
    except (AttributeError, OSError, TypeError):
        return None
    return lambda first, second: int(function(_AT_FDCWD, first, _AT_FDCWD, second, ctypes.c_uint(_EXCHANGE)))
