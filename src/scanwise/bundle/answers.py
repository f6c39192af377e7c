"""Answers of a model to some files, and the one way that they are written as JSON."""

import json
from dataclasses import dataclass
from pathlib import Path

from scanwise.records import Predictions


@dataclass(frozen=True, slots=True)
class BundlePredictions:
    """Predictions of a bundle for some files.

    Attributes:
        scans: a row a scan.
        subjects: a row a subject, or None where no subject is known.
        quarantine: (path, reason) of files that cannot be read.
        remarks: what a reader must know of how files and persons were found.
        root: that names of scans are relative to.
    """

    scans: Predictions
    subjects: Predictions | None
    quarantine: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    root: Path = Path()

    def to_json(self) -> str:
        """Scans, subjects, quarantine and remarks as JSON, for the command and for programs."""
        values = {
            "scans": self.scans.rows(),
            "subjects": [] if self.subjects is None else self.subjects.rows(),
            "quarantine": [{"path": path, "reason": reason} for path, reason in self.quarantine],
            "remarks": list(self.remarks),
        }
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"
