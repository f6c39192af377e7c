"""Keyed hashes in place of what names a person: scans of one person stay together, the name does not.

A hash without a key can be undone by trying all names. The key is made once and kept in the user's configuration
folder, so that the same person has the same hash in all runs of one user; set `SCANWISE_KEY` to share it between
machines, or to keep it elsewhere. It is written into no run, table or log.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Self

from scanwise.errors import StorageError
from scanwise.records.names import compose

_MARKS = {"subject": "subject-", "study": "study-", "series": "series-", "path": ""}


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """A keyed hash for each value; values of different kinds have different ones."""

    key: bytes = field(repr=False)

    @classmethod
    def load(cls) -> Self:
        """With the key of `SCANWISE_KEY`, or the user's own, which is made on first use.

        Raises:
            StorageError: if there is none and none can be kept.
        """
        key = os.environ.get("SCANWISE_KEY", "")
        return cls(key.encode() if key else _own_key())

    def __call__(self, kind: str, value: str) -> str:
        """The stand-in of a value; nothing stays nothing."""
        if not value:
            return ""
        digest = hmac.new(self.key, f"{kind}\0{value}".encode(), hashlib.sha256)
        return _MARKS[kind] + digest.hexdigest()[:16]

    def path(self, path: str, keep: Collection[str] = ()) -> str:
        """The path of a file with a stand-in for each of its parts but those to keep (in NFC), and its endings."""
        return "/".join(part if compose(part) in keep else self._part(part) for part in PurePosixPath(path).parts)

    def _part(self, part: str) -> str:
        ending = "".join(suffix for suffix in PurePosixPath(part).suffixes[-2:] if suffix.casefold() in _ENDINGS)
        return self("path", part) + ending


class ClearSubjects(Pseudonyms):
    """Keyed hashes of all but subjects, for a table that people fill in by hand."""

    def __call__(self, kind: str, value: str) -> str:
        """A subject as it is, or the stand-in of another value."""
        return value if kind == "subject" else Pseudonyms.__call__(self, kind, value)


def is_stand_in(value: str) -> bool:
    """Whether a subject is a keyed hash already, as headers and earlier tables give them."""
    return re.fullmatch(rf"{_MARKS['subject']}[0-9a-f]{{16}}", value) is not None


_ENDINGS = (
    ".png",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".webp",
    ".jp2",
    ".dcm",
    ".dicom",
    ".ima",
    ".nii",
    ".gz",
)


def _own_key() -> bytes:
    file = key_file()
    try:
        if not file.is_file():
            _make_key(file)
        return file.read_bytes().strip()
    except OSError as error:
        raise StorageError(
            f"Cannot keep a key for pseudonyms in {file}: {error.strerror}. Set SCANWISE_KEY to a long secret of your own."
        ) from error


def key_file() -> Path:
    """Path of the user's key."""
    from platformdirs import user_config_path

    return user_config_path("scanwise") / "key"


def _make_key(file: Path) -> None:
    """Readable for its owner alone, and whole or not at all; of two processes the first makes it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:  # noqa: PTH123
        opened.write(secrets.token_hex(32).encode())
    try:
        os.link(temporary, file)  # unlike a rename, it does not replace the key of another process
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
