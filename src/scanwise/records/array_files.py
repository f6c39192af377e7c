"""Parquet tables and npz files of records, never pickled."""

import json
import math
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from scanwise.errors import DataError, RunError
from scanwise.records.types import StrArray
from scanwise.untrusted import measure_archive, quote


def write_parquet(columns: Mapping[str, StrArray], about: Mapping[str, object], path: Path) -> None:
    """Write columns of text, with `about` as JSON in the metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: pa.array(values.astype(object), pa.string()) for name, values in columns.items()})
    pq.write_table(table.replace_schema_metadata({"scanwise": json.dumps(about)}), path)


def read_parquet(path: Path) -> tuple[dict[str, StrArray], dict[str, Any]]:
    """Columns and metadata that `write_parquet` wrote; a RunError where the file is damaged."""
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[b"scanwise"])
        return {name: np.array(table[name].to_pylist(), dtype=np.str_) for name in table.column_names}, about
    except FileNotFoundError:
        raise
    except Exception as error:  # pyarrow raises whatever a damaged file leads it to
        raise RunError(f"{path} is not a table that scanwise wrote, or is damaged: {_one_line(error)}.") from error


def read_arrays(path: Path) -> dict[str, Any]:
    """Every array of an npz, without pickle.

    No array is given memory before what its header claims has been compared with what the file holds.

    Raises:
        DataError: if it is none, is damaged, claims what it does not hold, or takes more memory than there is.
        OSError: if it cannot be opened.
    """
    size = 0
    with path.open("rb") as opened:
        try:
            with zipfile.ZipFile(opened) as archive:
                size = measure_archive(archive, path.stat().st_size)
                return _read_all(archive)
        except MemoryError as error:
            raise DataError(
                f"The arrays of {path} take {size / 1e6:,.0f} MB, more memory than there is. Close other programs, or use "
                "a machine with more."
            ) from error
        except Exception as error:  # zipfile and numpy raise whatever a damaged file leads them to
            raise DataError(
                f"{path} is not a file of logits that can be read without pickle: {_one_line(error)}. Save it again with "
                "numpy.savez."
            ) from error


def _read_all(archive: zipfile.ZipFile) -> dict[str, Any]:
    members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise ValueError("two of its arrays have one name")
    return {name: _read_array(archive, member, name) for name, member in members.items()}


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Any:
    """One array, after a look at its header."""
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"the array {quote(name)} is of version {version} of its format, which is not read")
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)
        held = member.file_size - stream.tell()
    if dtype.hasobject:
        raise ValueError(f"the array {quote(name)} holds Python objects; numbers and text can be read")
    if dtype.kind == "V":
        raise ValueError(f"the array {quote(name)} holds records; give each of their fields an array of its own")
    count: int = math.prod(map(int, shape))
    claimed = count * dtype.itemsize
    if claimed != held or any(length < 0 for length in shape) or (not dtype.itemsize and count):
        raise ValueError(f"the array {quote(name)} claims the shape {shape}, {claimed:,} bytes, and holds {held:,}")
    with archive.open(member) as stream:
        array = npy.read_array(stream, allow_pickle=False)
    return _text(array, name) if dtype.kind in "SU" else array


def _text(array: Any, name: str) -> StrArray:
    """Text, after a look at each of its letters: NumPy itself takes any number for one."""
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    codes = np.frombuffer(array.tobytes(), np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    if ((codes > sys.maxunicode) | ((codes >= 0xD800) & (codes < 0xE000))).any():
        raise ValueError(f"the array {quote(name)} holds text with letters that there are not")
    return np.asarray(array, dtype=np.str_)


def _one_line(error: Exception, most: int = 300) -> str:
    """The words of an error, or its kind where it has none."""
    return (" ".join(str(error).split()) or type(error).__name__)[:most].rstrip(".")
