"""The scans of a data set, and the sides that they stand on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from scanwise.errors import ShapeError
from scanwise.migrations import FORMATS, check_format
from scanwise.records.array_files import read_parquet, write_parquet
from scanwise.records.types import BoolArray, IntArray, StrArray
from scanwise.redaction import without_secrets


@dataclass(frozen=True, slots=True)
class Cohort:
    """The scans that can be used, one row a scan.

    Attributes:
        root: folder or URL that `path` is relative to.
        path: (N,) path of each scan, with forward slashes.
        labels: (N,) index into `classes`.
        classes: class names, in clinical order where `ordered`.
        ordered: whether the classes have an order (stages of a disease).
        subject: (N,) the person; where `subject_source` is empty each distinct scan stands for itself.
        subject_source: source of the subjects ("column subject", "pattern …"); empty where they are unknown.
        sha256: (N,) hash of the file.
        pixels: (N,) hash of the decoded pixels; empty for a scan of one value, which equals any other such scan.
        groups: columns that results are broken down by, each (N,).
        text: (N,) words that belong to the scan, or None.
        given: (N,) the side that the data itself assigns ("train", "test", …; "" where it does not), or None.
        spelling: (N,) the label of each scan as the data spells it, or None where that is the class name.
    """

    root: str
    path: StrArray
    labels: IntArray
    classes: tuple[str, ...]
    ordered: bool
    subject: StrArray
    subject_source: str
    sha256: StrArray
    pixels: StrArray
    groups: Mapping[str, StrArray] = field(default_factory=dict)
    text: StrArray | None = None
    given: StrArray | None = None
    spelling: StrArray | None = None

    def __len__(self) -> int:
        return len(self.path)

    def __post_init__(self) -> None:
        columns = [
            self.labels, self.subject, self.sha256, self.pixels, *self.groups.values(), self.text, self.given, self.spelling,
        ]  # fmt: skip
        if any(column is not None and len(column) != len(self.path) for column in columns):
            raise ShapeError(f"Every column of a cohort has one value a scan; expected {len(self.path)} of each.")

    @property
    def noun(self) -> str:
        """Noun for what counts as one: a subject, or a scan where nobody is known."""
        return "subject" if self.subjects_known else "scan"

    @property
    def subjects_known(self) -> bool:
        return bool(self.subject_source)

    def take(self, rows: IntArray | BoolArray) -> Self:
        """The same cohort with only these rows, in this order."""
        return replace(
            self,
            path=self.path[rows],
            labels=self.labels[rows],
            subject=self.subject[rows],
            sha256=self.sha256[rows],
            pixels=self.pixels[rows],
            groups={name: values[rows] for name, values in self.groups.items()},
            text=None if self.text is None else self.text[rows],
            given=None if self.given is None else self.given[rows],
            spelling=None if self.spelling is None else self.spelling[rows],
        )

    def save(self, path: Path) -> None:
        """Write a parquet table, with what is not a column in its metadata; the root loses secrets of its URL."""
        columns: dict[str, Any] = {
            "path": self.path,
            "label": np.array(self.classes)[self.labels],
            "subject": self.subject,
            "split": self.given,
            **{f"group_{name}": values for name, values in self.groups.items()},
            "text": self.text,
            "sha256": self.sha256,
            "pixels": self.pixels,
            "spelling": self.spelling,
        }
        about = {
            "format": FORMATS["cohort"],
            "root": without_secrets(self.root),
            "classes": self.classes,
            "ordered": self.ordered,
            "subject_source": without_secrets(self.subject_source),
        }
        write_parquet({name: values for name, values in columns.items() if values is not None}, about, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        columns, about = read_parquet(path)
        check_format("cohort", about.get("format"), path)
        index_of = {name: index for index, name in enumerate(about["classes"])}
        return cls(
            root=about["root"],
            path=columns["path"],
            labels=np.array([index_of[name] for name in columns["label"]], dtype=np.int64),
            classes=tuple(about["classes"]),
            ordered=about["ordered"],
            subject=columns["subject"],
            subject_source=about["subject_source"],
            sha256=columns["sha256"],
            pixels=columns["pixels"],
            groups={name[6:]: values for name, values in columns.items() if name.startswith("group_")},
            text=columns.get("text"),
            given=columns.get("split"),
            spelling=columns.get("spelling"),
        )


@dataclass(frozen=True, slots=True)
class Split:
    """A side for every scan of a cohort: training, validation, calibration or test.

    Attributes:
        side: (N,) one of `SIDES`, or "" for a scan that this split leaves out.
        protocol: "honest" (no subject on two sides) or "published" (as the original project did it).
        fold: number of the fold, from 0.
        rule: in words, how the sides were chosen ("by subject, stratified"; "random by scan, 70/15/15").
        leaky: whether a subject, or the same pixels, stand on two sides.
        not_evaluable: classes kept in training alone, with the number of subjects that each has.
    """

    side: StrArray
    protocol: str
    fold: int
    rule: str
    leaky: bool
    not_evaluable: Mapping[str, int] = field(default_factory=dict)

    def rows(self, side: str) -> IntArray:
        """Indices of the scans on one side, in cohort order."""
        return np.flatnonzero(self.side == side)

    def save(self, path: Path) -> None:
        """Write a parquet table of one column."""
        about = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "side"} | {"format": FORMATS["split"]}
        write_parquet({"split": self.side}, about, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        columns, about = read_parquet(path)
        check_format("split", about.pop("format", None), path)
        return cls(side=columns["split"], **about)
