"""Python objects as files that the stages read: arrays, pictures, DICOM datasets, and tables of scans."""

import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanwise.cohort.store import cache_folder
from scanwise.csv_files import write_csv
from scanwise.errors import DataError
from scanwise.run import writing

if TYPE_CHECKING:
    import pandas as pd

IMAGE = "image"
"""Column of a table whose cells are scans themselves, in place of `path`."""

MANIFEST = "scans.csv"

FORMS = (
    "a path, an array (H, W) or (H, W, C) of 1, 3 or 4 channels, a PIL image, or a pydicom dataset; C stands last, and "
    "colours are uint8"
)
CHANNELS = (1, 3, 4)


def data_source(data: Any) -> str:
    """Labelled scans as a folder, manifest or URL.

    Args:
        data: one of these, or a DataFrame with the columns of a manifest: `path`, or `image` with scans in its cells. A table
            is kept in the cache under a name of its content, so that a run of it can go on.

    Raises:
        DataError: for anything else.
    """
    if isinstance(data, str | os.PathLike):
        return os.fspath(data)
    if is_table(data):
        return str(_keep_table(data))
    raise DataError(
        f"{type(data).__name__} is no source of labelled scans: give a folder, a manifest, a URL, or a DataFrame with the "
        "columns path (or image, with arrays in it) and label."
    )


def scan_list(scans: Any) -> list[Any]:
    """Scans one by one: of one scan, of a list of them, or of an array (N, H, W) or (N, H, W, C)."""
    if isinstance(scans, str | os.PathLike) or _is_dataset(scans) or _is_picture(scans):
        return [scans]
    if hasattr(scans, "__array__"):
        array = np.asarray(scans)
        stacked = array.ndim == 4 or (array.ndim == 3 and array.shape[-1] not in CHANNELS)
        return list(array) if stacked or array.dtype.kind in "OU" else [array]
    if isinstance(scans, Iterable):
        return list(scans)
    raise DataError(f"{type(scans).__name__} is no scan: give {FORMS}.")


def write_scan_files(scans: Sequence[Any], folder: Path) -> list[Path]:
    """The path of each scan; what is no path is written into the folder as `scan-INDEX`.

    Raises:
        DataError: for what is no scan.
    """
    paths = []
    for index, scan in enumerate(scans):
        if isinstance(scan, str | os.PathLike):
            paths.append(Path(scan))
            continue
        suffix, content = encode(scan)
        paths.append(folder / f"scan-{index}{suffix}")
        paths[-1].write_bytes(content)
    return paths


def write_scan_table(paths: Sequence[Path], columns: Mapping[str, Sequence[Any]], folder: Path) -> Path:
    """A manifest of these paths with further columns, of as many values each.

    Raises:
        DataError: if a column has another length.
    """
    for name, values in columns.items():
        if len(values) != len(paths):
            raise DataError(f"{len(paths)} scans need as many values of {name}, not {len(values)}.")
    own = all(path.parent == folder for path in paths)  # a table's paths are all of one kind
    names = [path.name if own else str(path) for path in paths]
    rows = zip(names, *(map(_cell, values) for values in columns.values()), strict=True)
    write_csv(("path", *columns), rows, folder / MANIFEST)
    return folder / MANIFEST


def table_manifest(table: "pd.DataFrame", folder: Path) -> Path:
    """A DataFrame of scans as a manifest in this folder; paths are those seen from here, and become absolute.

    Raises:
        DataError: without a column `path` or `image`, or if a cell is no scan.
    """
    columns = {str(name): list(table[name]) for name in table.columns}
    if IMAGE in columns:
        paths = write_scan_files(columns.pop(IMAGE), folder)
        columns.pop("path", None)
    elif "path" in columns:
        paths = [Path(str(path)) for path in columns.pop("path")]
    else:
        raise DataError(
            f"The table has the columns {', '.join(columns)}: name one path, or image with the scans in it."
        )
    return write_scan_table([path if "://" in str(path) else path.absolute() for path in paths], columns, folder)


def encode(scan: Any) -> tuple[str, bytes]:
    """The suffix and the bytes of a file that holds an array, a picture or a dataset without loss.

    Raises:
        DataError: if it is none of them.
    """
    if _is_dataset(scan):
        return ".dcm", _dicom_bytes(scan)
    picture = scan if _is_picture(scan) else _picture_of(scan)
    kind = "TIFF" if picture.mode in ("F", "I") else "PNG"
    stream = io.BytesIO()
    try:
        picture.save(stream, kind)
    except OSError as error:
        raise DataError(f"A picture of mode {picture.mode} cannot be read; convert it to L or RGB.") from error
    return (".tif" if kind == "TIFF" else ".png"), stream.getvalue()


def _picture_of(scan: Any) -> Any:
    from PIL import Image

    array = np.asarray(scan) if hasattr(scan, "__array__") or isinstance(scan, list) else None
    if array is None or array.dtype.kind not in "buif":
        raise DataError(f"{type(scan).__name__} is no scan: give {FORMS}.")
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    colour = array.ndim == 3 and array.shape[-1] in CHANNELS and array.dtype == np.uint8
    if not (array.ndim == 2 or colour) or 0 in array.shape:
        raise DataError(f"An array {array.shape} of {array.dtype} is no scan: give {FORMS}.")
    if array.dtype not in (np.uint8, np.uint16):
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int32)
    return Image.fromarray(np.ascontiguousarray(array))


def _dicom_bytes(dataset: Any) -> bytes:
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    stream = io.BytesIO()
    if not getattr(dataset, "file_meta", None):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    try:
        dcmwrite(stream, dataset, enforce_file_format=True)
    except Exception as error:
        raise DataError(
            f"The DICOM dataset cannot be written: {error}. Save it to a file, and give its path."
        ) from error
    return stream.getvalue()


def _keep_table(table: "pd.DataFrame") -> Path:
    """The manifest of a table, in the cache."""
    content = hashlib.sha256()
    for name in table.columns:
        content.update(f"{len(str(name))} {name}".encode())
        for value in table[name]:
            cell = (
                b"".join(map(_bytes, encode(value))) if name == IMAGE and not isinstance(value, str) else _bytes(value)
            )
            content.update(f"{len(cell)} ".encode() + cell)
    content.update(str(Path.cwd()).encode())  # paths are seen from here
    folder = cache_folder() / "tables" / content.hexdigest()[:32]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with writing(folder) as temporary:
            temporary.mkdir()
            table_manifest(table, temporary)
    return folder / MANIFEST


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def _cell(value: Any) -> str:
    """A cell; what pandas has for a missing value is empty."""
    return "" if value is None or value != value else str(value)


def is_table(data: Any) -> bool:
    return hasattr(data, "columns") and hasattr(data, "iloc")


def _is_picture(scan: Any) -> bool:
    return hasattr(scan, "mode") and hasattr(scan, "save") and hasattr(scan, "getbands")


def _is_dataset(scan: Any) -> bool:
    return hasattr(scan, "PixelData") and hasattr(scan, "to_json")
