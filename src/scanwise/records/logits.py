"""Outputs of a network, as files keep them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from scanwise.errors import DataError, ShapeError
from scanwise.migrations import FORMATS, check_format
from scanwise.records.array_files import read_arrays
from scanwise.records.types import FloatArray, IntArray, StrArray, Unit


@dataclass(frozen=True, slots=True)
class Logits:
    """Outputs of a network before normalisation, a row a scan; after pooling, a row a subject.

    Attributes:
        logits: (N, T, C) float32, T members or dropout draws; log-probabilities are logits too.
        labels: (N,) index into `classes`.
        scans: (N,) the path of each scan; "" where a row is a subject.
        subjects: (N,) the subject of each scan.
        classes: C names.
        groups: columns that results are broken down by, each (N,).
        features: (N, D) penultimate features, or None.
        split: the side that these scans are on.
        protocol: the protocol of that split.
        fold: its fold.
        appearance: (N, P) features of the pixels alone, without a network, or None.
        scan_counts: (N,) number of scans pooled, where a row is a subject; else None.
        attention: (N, T) score of each scan, whose softmax over the scans of its subject are their weights in its answer; None
            where all weigh alike.
    """

    logits: FloatArray
    labels: IntArray
    scans: StrArray
    subjects: StrArray
    classes: tuple[str, ...]
    groups: Mapping[str, StrArray] = field(default_factory=dict)
    features: FloatArray | None = None
    split: str = ""
    protocol: str = ""
    fold: int = 0
    appearance: FloatArray | None = None
    scan_counts: IntArray | None = None
    attention: FloatArray | None = None

    def __post_init__(self) -> None:
        count, _, num_classes = self.logits.shape if self.logits.ndim == 3 else (-1, 0, 0)
        if num_classes != len(self.classes):
            raise ShapeError(f"Logits must be (N, T, {len(self.classes)}) for {self.classes}, not {self.logits.shape}.")
        columns = [
            self.labels,
            self.scans,
            self.subjects,
            *self.groups.values(),
            self.features,
            self.appearance,
            self.scan_counts,
        ]
        if self.attention is not None and self.attention.shape != self.logits.shape[:2]:
            raise ShapeError(
                f"Attention must be {self.logits.shape[:2]}, a value a scan and member, not {self.attention.shape}."
            )
        if any(column is not None and len(column) != count for column in columns):
            raise ShapeError(f"Logits of {count} scans need {count} labels, scans, subjects, groups and features.")

    def __len__(self) -> int:
        return len(self.labels)

    def save(self, path: Path) -> None:
        """Write an npz of plain arrays; `scans` of subjects are their numbers of scans, as text."""
        arrays: dict[str, Any] = {
            **{name: getattr(self, name) for name in ("logits", "labels", "subjects", "classes")},
            "scans": self.scans if self.scan_counts is None else self.scan_counts.astype(str),
            **{f"group_{name}": values for name, values in self.groups.items()},
            **{name: getattr(self, name) for name in ("split", "protocol", "fold")},
            "format": FORMATS["logits"],
        }
        optional = {name: getattr(self, name) for name in ("features", "appearance", "attention")}
        arrays |= {name: values for name, values in optional.items() if values is not None}
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path, unit: Unit = "scan") -> Self:
        """Read an npz of logits (N, T, C) or (N, C), labels, scans, subjects, classes, and optional arrays.

        `unit` says what a row is.
        """
        arrays = read_arrays(path)
        missing = {"logits", "labels", "scans", "subjects", "classes"} - arrays.keys()
        if missing:
            raise DataError(f"{path} lacks {sorted(missing)}; see Logits for what a file of logits holds.")
        check_format("logits", arrays["format"].item() if "format" in arrays else None, path)
        return cls.of(arrays, unit)

    @classmethod
    def of(cls, arrays: Mapping[str, Any], unit: Unit = "scan") -> Self:
        """Record of arrays under the names that `save` gives them."""
        logits, scans = arrays["logits"], arrays["scans"].astype(str)
        return cls(
            logits=logits[:, None, :] if logits.ndim == 2 else logits,
            labels=arrays["labels"],
            scans=scans if unit == "scan" else np.full(len(scans), ""),
            subjects=arrays["subjects"].astype(str),
            classes=tuple(str(name) for name in arrays["classes"]),
            groups={name[6:]: values.astype(str) for name, values in arrays.items() if name.startswith("group_")},
            features=arrays.get("features"),
            split=str(arrays.get("split", "")),
            protocol=str(arrays.get("protocol", "")),
            fold=_fold_of(arrays.get("fold", 0)),
            appearance=arrays.get("appearance"),
            attention=arrays.get("attention"),
            scan_counts=None if unit == "scan" else scans.astype(np.int64),
        )


def _fold_of(value: Any) -> int:
    """The number of a fold, from an array of one value.

    Raises:
        DataError: if it is no whole number.
    """
    try:
        number = float(value)
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise DataError(f"fold must be a whole number; it is {str(value)!r:.60}. Write it as one, or leave it out.")
