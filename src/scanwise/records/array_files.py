"""Parquet tables and npz files of records, never pickled."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scanwise.errors import DataError, RunError
from scanwise.records.types import StrArray


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
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is not a table that scanwise wrote, or is damaged: {error}.") from error
    return {name: np.array(table[name].to_pylist(), dtype=np.str_) for name in table.column_names}, about


def read_arrays(path: Path) -> dict[str, Any]:
    """Every array of an npz, without pickle; a DataError if it is none, or is damaged."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a file of logits that can be read without pickle: {error}.") from error
