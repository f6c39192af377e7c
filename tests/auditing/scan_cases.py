"""Scans for the audit's pixel checks: synthetic people as thumbnails, and the real ones where they are at hand."""

import csv
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from scanwise.auditing.evidence import Evidence
from scanwise.cohort import phantom
from scanwise.cohort.decoding import readers
from scanwise.records import Cohort, Split
from scanwise.registration import THUMBNAIL, descriptors

DATA = Path(os.environ.get("SCANWISE_SHARED") or Path(__file__).parents[3] / "shared") / "data"

Scans = tuple[NDArray[np.uint8], NDArray[np.str_], NDArray[np.int64]]
"""Thumbnails (N, S, S), the subject of each and its label."""


@lru_cache
def people(subjects: int, slices: int, seed: int = 0, size: int = 64) -> Scans:
    """Phantoms, slice after slice."""
    cohort = phantom.Phantom(subjects=subjects, slices=slices, size=size, seed=seed)
    drawn = [(person, phantom.draw_brain(cohort, person).pixels) for person in phantom.people(cohort)]
    pixels = np.stack([thumbnail(scan) for _, scans in drawn for scan in scans])
    names = np.repeat([person.name for person, _ in drawn], slices)
    return pixels, names, np.repeat([person.label for person, _ in drawn], slices)


def thumbnail(scan: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return readers.resize(scan[:, :, None], THUMBNAIL)[:, :, 0]


def evidence_of(pixels: NDArray[np.uint8], labels: NDArray[np.int64] | None = None, **about: Any) -> Evidence:
    """What a check is given; `path`, `subject`, `digest` and `side` are columns, and nobody is known without a subject."""
    count = len(pixels)
    labels = np.zeros(count, dtype=np.int64) if labels is None else labels
    path = about.get("path", np.array([f"c{label}/{row}.png" for row, label in enumerate(labels)]))
    subject = about.get("subject")
    cohort = Cohort(
        root="/nowhere",
        path=path,
        labels=labels,
        classes=tuple(f"c{index}" for index in range(int(labels.max()) + 1)),
        ordered=False,
        subject=path if subject is None else subject,
        subject_source="" if subject is None else "column subject",
        sha256=path,
        pixels=about.get("digest", path),
    )
    side = about.get("side")
    split = None if side is None else Split(side, "given", 0, "as the test has it", leaky=False)
    return Evidence(cohort, pixels, descriptors(pixels), subject, split)


def real(folder: str) -> Path:
    """A folder of real scans, or a skipped test."""
    if not (DATA / folder).is_dir():
        pytest.skip(f"no real scans at {DATA / folder}; set SCANWISE_SHARED")
    return DATA / folder


def read(root: Path, paths: list[str]) -> NDArray[np.uint8]:
    """Thumbnails of these files."""
    return np.stack([readers.read_scan((root / path).read_bytes(), THUMBNAIL).pixels[:, :, 0] for path in paths])


def alzheimer(subjects: int) -> tuple[list[str], NDArray[np.str_], NDArray[np.int64]]:
    """Path, subject and label of the scans of every so-many-th of the 200 people, in order of path."""
    real("alzheimer")
    with (DATA / "alzheimer-truth.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = np.unique([row["subject"] for row in rows])
    kept = set(names[:: len(names) // subjects].tolist())
    rows = sorted((row for row in rows if row["subject"] in kept), key=lambda row: row["path"])
    labels = np.unique([row["label"] for row in rows], return_inverse=True)[1]
    return [row["path"] for row in rows], np.array([row["subject"] for row in rows]), labels


def stroke() -> tuple[list[str], NDArray[np.str_], NDArray[np.int64]]:
    """Path, series and label of the head scans."""
    root = real("stroke")
    paths = sorted(file.relative_to(root).as_posix() for file in root.glob("*/*.jpg"))
    series = np.array([re.findall(r"(\d+) \(", path)[0] for path in paths])
    return paths, series, np.array([int(path.startswith("Stroke")) for path in paths])


def saved(scan: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The scan after a JPEG of this quality."""
    import io

    file = io.BytesIO()
    Image.fromarray(scan).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
