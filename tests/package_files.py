"""Test files that pydicom and nibabel bring along, with what these packages make of them.

`python tests/package_files.py` prints the comparison as a table for the log.
"""

import itertools
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from pydicom import data as pydicom_data
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_windowing
from pydicom.pixels.utils import pixel_array

from scanwise.cohort.decoding import dicom, nifti, readers
from scanwise.recipe import Data

PYDICOM = Path(pydicom_data.__file__).parent
NIBABEL = Path(nibabel.__file__).parent / "tests" / "data"
SETTINGS = Data()
COMPARED = 2.0
"""Gray values of 255 that a statistic may differ by."""


@dataclass(frozen=True)
class Comparison:
    """One file: what the package makes of it, and what we do.

    Attributes:
        file: under the folder of its package.
        kind: what the package says it is.
        theirs: statistics (mean, deviation, least, quartiles, most) of the slices looked at, or None where it raises.
        ours: the same, or the reason why the file is refused.
    """

    file: str
    kind: str
    theirs: np.ndarray | None
    ours: "np.ndarray | str"

    @property
    def difference(self) -> float:
        """The largest difference of a statistic; NaN where one of the two has none."""
        if self.theirs is None or isinstance(self.ours, str):
            return float("nan")
        return float(np.abs(self.theirs - self.ours).max())


def statistics(frame: np.ndarray) -> np.ndarray:
    return np.array([frame.mean(), frame.std(), *np.percentile(frame, [0, 25, 50, 75, 100])])


@cache
def compare_all() -> tuple[Comparison, ...]:
    """Every file of the two packages, but for their Python."""
    found = []
    for folder in (PYDICOM, NIBABEL):
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file.suffix not in (".py", ".pyc"):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    name = f"{'pydicom' if folder == PYDICOM else 'nibabel'}/{file.relative_to(folder)}"
                    is_volume = file.name.endswith((".nii", ".nii.gz"))
                    found.append(_compare_volume(file, name) if is_volume else _compare_dicom(file, name))
    return tuple(found)


def _compare_dicom(file: Path, name: str) -> Comparison:
    kind, theirs, frames = "", None, 1
    try:
        header = pydicom.dcmread(file, force=True)
        frames = int(header.get("NumberOfFrames") or 1)
        index = frames // 2
        kind = f"{header.file_meta.TransferSyntaxUID.name}, {header.PhotometricInterpretation}"
        theirs = statistics(_shown_by_pydicom(header, index))
    except Exception as error:  # noqa: BLE001 - whatever pydicom cannot do
        kind = kind or type(error).__name__
    wanted = None if frames == 1 else frames // 2
    return Comparison(name, kind, theirs, _ours(file, wanted, dicom.decode_dicom))


def _shown_by_pydicom(header: pydicom.FileDataset, index: int) -> np.ndarray:
    """0 to 255, by pydicom's decoding, rescaling and windowing, and our rule where a header says nothing of a window."""
    stored = pixel_array(header, index=index)
    photometric = header.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        painted = apply_color_lut(stored, header)[..., :3]
        return painted * (255.0 / np.iinfo(painted.dtype).max)
    bits = int(header.BitsStored)
    if stored.ndim == 3:
        return stored * (255.0 / (2**bits - 1))
    units = apply_modality_lut(stored, header).astype(np.float64)
    if "WindowCenter" in header and header.WindowWidth:
        # pydicom spreads the window over all values that the bits can hold.
        ends = np.array([0, 2**bits - 1]) - (2 ** (bits - 1) if header.PixelRepresentation else 0)
        low, high = ends * float(header.get("RescaleSlope", 1)) + float(header.get("RescaleIntercept", 0))
        share = (apply_windowing(units, header) - low) / (high - low)
    elif bits == 8:
        share = units / 255
    else:
        low, high = np.percentile(units, SETTINGS.percentiles)
        low, high = (units.min(), units.max()) if low == high else (low, high)
        share = np.clip((units - low) / (high - low), 0, 1)
    return 255 * (1 - share if photometric == "MONOCHROME1" else share)


def _compare_volume(file: Path, name: str) -> Comparison:
    kind, theirs, middle = "", None, None
    try:
        image: Any = nibabel.load(file)
        kind = f"{type(image).__name__} {image.get_data_dtype()}, {'×'.join(map(str, image.shape))}"
        canonical = nibabel.as_closest_canonical(image)
        volume = np.asarray(canonical.dataobj, dtype=np.float64)
        volume = volume[..., 0] if volume.ndim == 4 else volume
        middle = volume.shape[2] // 2
        low, high = np.percentile(volume, SETTINGS.percentiles)
        theirs = statistics(255 * np.clip((volume[:, :, middle] - low) / (high - low), 0, 1))
    except Exception as error:  # noqa: BLE001
        kind = kind or type(error).__name__
    return Comparison(name, kind, theirs, _ours(file, middle, nifti.decode_nifti))


def _ours(file: Path, index: int | None, decode: Any) -> "np.ndarray | str":
    """By the command's own path, and then the pixels before they are resized."""
    (result,) = readers.read_slices(file, [index], SETTINGS)
    if isinstance(result, str):
        return result
    (frame,) = decode(file.read_bytes(), [index], SETTINGS)
    return statistics(frame.astype(np.float64))


def table() -> Iterator[str]:
    """Lines of Markdown: files by what became of them."""

    def outcome(one: Comparison) -> tuple[str, str, str]:
        package = one.file.split("/")[0]
        if not isinstance(one.ours, str):
            return package, "read", one.kind if package == "pydicom" else one.kind.split(" ")[0]
        reason = one.ours.split(" (")[0].split(":")[0] if one.ours.startswith("damaged") else one.ours
        return package, "refused", reason.split("; ")[0].split(" (modality")[0]

    yield "| package | files | outcome | kind or reason | largest difference (of 255) |"
    yield "|---|---:|---|---|---:|"
    for (package, result, kind), group in itertools.groupby(sorted(compare_all(), key=outcome), key=outcome):
        files = list(group)
        widest = max((one.difference for one in files), default=float("nan"))
        yield f"| {package} | {len(files)} | {result} | {kind} | {'' if result == 'refused' else f'{widest:.2f}'} |"
    compared = [one.difference for one in compare_all() if np.isfinite(one.difference)]
    yield f"| both | {len(compare_all())} | {len(compared)} compared | all | {max(compared):.2f} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join(table()) + "\n")
