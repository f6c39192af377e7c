"""Tables at fsspec URLs: fetched to be read, and gone again."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

from scanwise.cohort import table_files
from scanwise.cohort.decoding.remote_files import RemoteStream, is_remote, reaching, split_query, url_below
from scanwise.cohort.decoding.slice_names import file_of_scan
from scanwise.cohort.listing import Listing, texts
from scanwise.errors import DataError


def is_remote_table(named: str) -> bool:
    """Whether this is the URL of a table.

    >>> [is_remote_table(name) for name in ("s3://b/a.csv", "https://host/a.tsv?key=1", "s3://b/(p.*)_", "a.csv")]
    [True, True, False, False]
    """
    return is_remote(named) and table_files.is_table(Path(split_query(named)[0]))


@contextmanager
def table_here(named: str) -> Iterator[str]:
    """The path of a table on the local disk: one at a URL is there until the block ends; any other text stays as it is.

    Raises:
        DataError: if it cannot be fetched, or is too large; what the block says of the file names the URL.
    """
    if not is_remote_table(named):
        yield named
        return
    folder_there, _, name = split_query(named)[0].rpartition("/")
    with TemporaryDirectory(prefix="scanwise-") as folder:
        file = Path(folder) / unquote(name)
        file.write_bytes(_fetch(named))
        try:
            yield str(file)
        except DataError as error:
            raise DataError(str(error).replace(str(file), named).replace(folder, folder_there)) from error


def with_urls(listing: Listing, table: str) -> Listing:
    """The listing of a table at a URL with the URL of each scan: paths are relative to the folder that the table lies in."""
    folder = split_query(table)[0].rpartition("/")[0]

    def url_of(path: str) -> str:
        file = file_of_scan(path)
        return path if is_remote(path) else url_below(folder, file) + path[len(file) :]

    return replace(listing, root=Path(), path=texts(map(url_of, listing.path.tolist())))


def _fetch(url: str) -> bytes:
    try:
        with reaching(url), BufferedReader(RemoteStream(url)) as stream:
            content = stream.read(table_files.MOST_BYTES + 1)
    except DataError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise DataError(
                f"There is no table at {url}, or it may not be read. Check the address and credentials."
            ) from error
        raise
    if len(content) > table_files.MOST_BYTES:
        raise DataError(
            f"{url} is too large for a table of scans: more than {table_files.MOST_BYTES / 1e6:,.0f} MB. Leave out columns and "
            "rows that are not needed."
        )
    return content
