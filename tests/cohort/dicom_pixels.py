"""Pixels for DICOM files of tests, and what is seen of such a file."""

from pathlib import Path

import numpy as np

from scanwise.cohort.decoding import dicom, readers
from scanwise.cohort.pseudonyms import Pseudonyms
from scanwise.recipe import Data

HASHES = Pseudonyms(b"a key")
RANDOM = np.random.default_rng(0)
DEEP = RANDOM.integers(0, 4096, (12, 10)).astype(np.uint16)
SIGNED = RANDOM.integers(-1000, 3000, (12, 10)).astype(np.int16)
GRAY = RANDOM.integers(0, 256, (12, 10)).astype(np.uint8)
COLOUR = RANDOM.integers(0, 256, (12, 10, 3)).astype(np.uint8)
WHOLE = Data(percentiles=(0, 100))


def seen(file: Path, index: int | None = None, settings: Data = WHOLE) -> np.ndarray:
    (found,) = dicom.decode_dicom(file.read_bytes(), [index], settings)
    assert not isinstance(found, str), found
    return found[:, :, 0] if found.shape[2] == 1 else found


def refusal(file: Path, index: int | None = None) -> str:
    found = readers.read_file(file if index is None else Path(f"{file}#{index:03d}"), Data(size=16))
    assert isinstance(found, str)
    return found


def stretched(values: np.ndarray) -> np.ndarray:
    return np.rint((values - values.min()) * (255.0 / (values.max() - values.min()))).astype(np.uint8)
