"""A synthetic hospital: DICOM as it is exported, ids in headers alone, and a table of its patients."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medical_files import write_dicom

SERIES = (("localizer", 1), ("T1 MPRAGE sag", 3), ("T2 FLAIR", 2))
Rows = list[dict[str, str]]


def write_export(folder: Path, patients: int = 8, *, series: Sequence[tuple[str, int]] = SERIES, **tags: Any) -> Rows:
    """Write FOLDER/EXAMnnn/Sn/IMnnnn, one examination a patient, every second one sick; the rows of a table of them."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:24, :24]
    rows = []
    for patient in range(patients):
        sick, name = patient % 2, f"{patient + 1:05d}"
        row, column = random.uniform(9, 14, 2)
        base = 300 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / random.uniform(20, 50))
        base = base + 250 * sick * (np.hypot(y - row - 4, x - column - 4) < 3)
        for number, (description, count) in enumerate(series):
            for index in range(count):
                header: dict[str, Any] = {
                    "PatientID": name, "PatientName": f"Quibble^{name}", "AccessionNumber": f"A{patient:04d}",
                    "StudyInstanceUID": f"1.2.3.{patient}", "SeriesInstanceUID": f"1.2.3.{patient}.{number}",
                    "SeriesDescription": description, "ImagePositionPatient": [0, 0, index],
                    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                    "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER" if number == 0 else "M"],
                }  # fmt: skip
                shade = 1.0 if number < 2 else 0.5
                pixels = (base * shade + random.normal(60, 12, base.shape) + 8 * index).clip(0, 4000).astype(np.uint16)
                write_dicom(folder / f"EXAM{patient:03d}" / f"S{number}" / f"IM{index:04d}", pixels, **header, **tags)
        rows.append(
            {
                "PatientID": name,
                "PatientName": f"Quibble^{name}",
                "age": str(50 + 2 * patient),
                "sex": "fm"[patient // 2 % 2],
                "site": ("north", "south")[patient * 2 // patients],
                "diagnosis": ("Control", "AD")[sick],
            }
        )
    return rows


def write_patients(file: Path, rows: Rows, separator: str = ",") -> Path:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
    return file
