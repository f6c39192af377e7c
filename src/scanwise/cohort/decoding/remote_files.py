"""Files at fsspec URLs, read where they lie: nothing is copied to a disk, and no more is fetched than is asked for."""

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from scanwise.errors import DataError

UNFETCHED = "fetching it failed"
"""Part of the reason where the network, or what is behind it, is at fault at that moment."""
BLOCK = 2**18
"""Bytes that are fetched at once, at least."""

_OBJECTS = ("requestType", "studyUID", "seriesUID", "objectUID")
"""Parameters by which WADO-URI names an object."""
MOST_OF_UNKNOWN_SIZE = 2**28
"""Bytes of a file whose server does not tell how many it has: so much is fetched before there is a budget for it."""


class RemoteStream(io.RawIOBase):
    """The content of a file at a URL, with whatever goes wrong on the way as the reason why a scan is not read.

    Args:
        url: of the file.

    Raises:
        OSError: if it cannot be opened.
    """

    name = ""  # pydicom asks a stream for that of its file

    def __init__(self, url: str) -> None:
        super().__init__()
        self._opened: Any = io.BytesIO()
        with _Faults():
            self._filesystem, self._path = _located(url)
            self._opened = self._filesystem.open(self._path, "rb", block_size=BLOCK)
            try:
                self._opened.seek(0, io.SEEK_END)
                self._opened.seek(0)
            except ValueError:
                self._go_forward(0)

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fetch the next bytes into a buffer; their number."""
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """Fetch all that is left, at once."""
        return self._read()

    def _read(self, count: int = -1) -> bytes:
        with _Faults():
            try:
                return bytes(self._opened.read(count))
            except ValueError:  # so says fsspec where a server was asked for a part, and sent all
                if isinstance(self._opened, _ForwardStream):
                    raise
                self._go_forward(self._opened.tell())
                return bytes(self._opened.read(count))

    def _go_forward(self, position: int) -> None:
        """Read on from a place in the file as its server sends it, from the beginning and whole."""
        self._opened.close()
        self._opened = _ForwardStream(
            self._filesystem.open(self._path, "rb", block_size=0), self._filesystem.info(self._path).get("size")
        )
        self._opened.seek(position)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to another place."""
        with _Faults():
            return int(self._opened.seek(offset, whence))

    def close(self) -> None:
        """Let go of the file."""
        if not self.closed:
            self._opened.close()
        super().close()


class _ForwardStream:
    """A file that only comes whole. Nothing is fetched before it is asked for; what came is kept, to go back to.

    Args:
        opened: gives its bytes one after another.
        size: of the file; None where its server does not tell.
    """

    def __init__(self, opened: Any, size: int | None) -> None:
        self._opened, self._size = opened, size
        self._position, self._came = 0, io.BytesIO()

    def read(self, count: int = -1) -> bytes:
        """The next bytes; all that are left without a count."""
        end = None if count < 0 else self._position + count
        self._fetch(end)
        if end is None and not self._position:
            data = self._came.getvalue()  # not a copy
        else:
            self._came.seek(self._position)
            data = self._came.read(count)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to another place."""
        if whence == io.SEEK_END and self._size is None:
            self._fetch(None)
        self._position = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence, self._size or 0))
        return self._position

    def tell(self) -> int:
        """The place in the file."""
        return self._position

    def close(self) -> None:
        """Let go of the file."""
        self._opened.close()

    def _fetch(self, end: int | None) -> None:
        """Fetch up to a place, or all."""
        came = self._came.seek(0, io.SEEK_END)
        while end is None or came < end:
            block = self._opened.read(BLOCK)
            if not block:
                self._size = came
                return
            came += self._came.write(block)
            if self._size is None and came > MOST_OF_UNKNOWN_SIZE:
                raise OSError(
                    errno.EFBIG,
                    f"its server does not tell its size, which is above {MOST_OF_UNKNOWN_SIZE / 1e6:,.0f} MB",
                )


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Say in one line what is wrong with a URL that the block looks up.

    Raises:
        DataError: whatever the block raises.
    """
    try:
        yield
    except DataError:
        raise
    except ImportError as error:
        raise DataError(
            f"Reading {url} needs another package: {error}. For s3:// run `pip install 'scanwise[s3]'`."
        ) from error
    except Exception as error:
        raise DataError(
            f"{url} cannot be reached: {type(error).__name__}: {error}. Check the address and credentials."
        ) from error


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """A file or folder in a folder at a URL.

    Attributes:
        name: in its folder.
        path: as its place spells it.
        folder: whether it is one.
    """

    name: str
    path: str
    folder: bool

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a folder."""
        return self.folder

    def is_file(self) -> bool:
        """Whether it is a file."""
        return not self.folder

    def is_symlink(self) -> bool:
        """Links are not known of other places."""
        return False


class RemoteFolder:
    """A folder at a URL.

    Args:
        url: of the folder; a query, such as a signature, holds for all below.

    Raises:
        DataError: if its place cannot be reached, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        address, self._query = split_query(url)
        self.url = address.rstrip("/")
        with reaching(url):
            self._filesystem, root = _located(address)
            self._root = root.rstrip("/")
            self._filesystem.invalidate_cache()  # in one Python session a bucket may change between two runs
            # A web server tells no folder from a file.
            self.is_folder = address.endswith("/") if is_web(url) else bool(self._filesystem.isdir(root))
            self.is_there = self.is_folder or bool(self._filesystem.exists(root + self._query))

    def entries(self, folder: str) -> Iterator[RemoteEntry]:
        """Files and folders of a folder below, without hidden ones.

        Raises:
            DataError: if it cannot be read.
        """
        path = url_below(self._root, folder).rstrip("/")
        request = f"{path}/{self._query}" if "://" in path else path
        try:
            listed = self._filesystem.ls(request, detail=True)
        except Exception as error:
            raise DataError(
                f"The folder {self.url}/{folder} cannot be read: {type(error).__name__}: {error}."
            ) from error
        for about in listed:
            # A web server's link stands behind what was asked for, query and all, and may have a query of its own.
            listed_path = path_below(path, split_query(about["name"].replace(request.rstrip("/"), path, 1))[0])
            name = listed_path.rstrip("/").rpartition("/")[2]
            if name and about["name"].rstrip("/") != path and not name.startswith(".") and name != "__MACOSX":
                yield RemoteEntry(name, about["name"], about["type"] == "directory" or listed_path.endswith("/"))

    def url_of(self, path: str) -> str:
        """The URL of a file by its path below."""
        return url_below(self.url, path) + self._query


def is_remote(url: str) -> bool:
    """Whether this names a place that is not on the local disk.

    >>> is_remote("s3://bucket/scans"), is_remote("file:///scans"), is_remote("scans")
    (True, False, False)
    """
    return "://" in url and not url.startswith("file://")


def is_web(url: str) -> bool:
    """Whether this is a web address, in which some signs of a name are quoted."""
    return url.startswith(("http://", "https://"))


def split_query(url: str) -> tuple[str, str]:
    """A URL without what a web address says behind the place, such as a signature; and that, from its question mark.

    >>> split_query("https://host/a.csv?key=1"), split_query("s3://bucket/a?.csv")
    (('https://host/a.csv', '?key=1'), ('s3://bucket/a?.csv', ''))
    """
    if not is_web(url):
        return url, ""
    parts = urlsplit(url)
    return parts._replace(query="", fragment="").geturl(), f"?{parts.query}" if parts.query else ""


def shown_url(url: str) -> str:
    """A URL as it is shown and kept: without a password and a query, which may be secret, but for names of DICOM objects.

    >>> shown_url("https://me:secret@host/a.png?signature=1#003"), shown_url("https://host/wado?objectUID=1.2&token=3")
    ('https://host/a.png#003', 'https://host/wado?objectUID=1.2')
    >>> shown_url("sftp://me:secret@host/a.png"), shown_url("abfs://container@account/a.png")
    ('sftp://host/a.png', 'abfs://container@account/a.png')
    """
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    user = host.rpartition("@")[0]
    if ":" in user or is_web(url):
        host = host.removeprefix(f"{user}@")
    url = f"{scheme}{separator}{host}{slash}{path}"
    if not is_web(url):
        return url
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name in _OBJECTS]
    return parts._replace(query=urlencode(kept)).geturl()


def url_below(folder: str, path: str) -> str:
    """The URL of a file by its path below a folder.

    >>> url_below("https://host/scans", "a/50% #1?.png"), url_below("s3://bucket/scans", "a/50% #1?.png")
    ('https://host/scans/a/50%25%20%231%3F.png', 's3://bucket/scans/a/50% #1?.png')
    """
    return f"{folder}/{quote(path) if is_web(folder) else path}"


def path_below(folder: str, url: str) -> str:
    """The path of a file below a folder by its URL.

    >>> path_below("https://host/scans", "https://host/scans/a/50%25%20%231%3F.png")
    'a/50% #1?.png'
    """
    path = url.removeprefix(folder)
    return (unquote(path) if is_web(folder) else path).lstrip("/")


def version_of(url: str) -> str:
    """Size and version tag of a file, which change with its content; "" where its place tells none."""
    with _Faults():
        filesystem, path = _located(url)
        about = filesystem.info(path)
    tags = [about.get(name) for name in ("ETag", "md5Hash", "mtime", "LastModified", "created")]
    tag = next((str(tag) for tag in tags if tag), "")
    return f"{about.get('size')} {tag}" if tag else ""


def size_of(url: str) -> int:
    """Bytes of a file; 0 where its place does not tell."""
    with _Faults():
        filesystem, path = _located(url)
        return int(filesystem.info(path).get("size") or 0)


def _located(url: str) -> tuple[Any, str]:
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem, path


class _Faults:
    """A block whose errors become the reason why a scan is not read."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, "there is no such file at this address") from error
        if isinstance(error, OSError) and error.errno == errno.EFBIG:  # as we say of one whose size is not told
            return
        if isinstance(error, Exception):
            raise OSError(errno.EIO, f"{UNFETCHED} ({type(error).__name__}); try again") from error
