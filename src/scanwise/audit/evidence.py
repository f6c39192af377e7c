"""What every check of the audit looks at, and what it may show: values, made once, read by all."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scanwise.records import BoolArray, Cohort, Finding, FloatArray, IntArray, Severity, Split, StrArray

LONGEST = 20
"""Letters of a name that a caption shows in full."""
SURE = 0.95
"""Confidence from which recovered subjects are used where nobody gave any."""


@dataclass(frozen=True, slots=True)
class RecoveredSubjects:
    """Who is who, as far as pixels tell.

    Attributes:
        subject: (N,) "auto-0001", …; where nothing can be told each scan is a subject of its own.
        confidence: how well two halves of the evidence, each for itself, agree on who is who (adjusted Rand index).
        threshold: likeness from which two scans are taken for one subject.
        judged: whether the pixels can tell at all.
        reason: why, or why not, in words.
        values: likeness of the pairs on which the threshold was chosen, for the plot; may be empty.
        pairs: (P, 2) rows of scans that look most alike, for a look at their names.
    """

    subject: StrArray
    confidence: float
    threshold: float
    judged: bool
    reason: str
    values: FloatArray
    pairs: IntArray

    @property
    def sure(self) -> bool:
        """Whether it may stand in for subjects that somebody knows."""
        return self.judged and self.confidence >= SURE


@dataclass(frozen=True, slots=True)
class CopyPairs:
    """Pairs of scans that are one, after a flip, a rotation, a shift, a zoom or a change of intensity.

    Attributes:
        rows: (P, 2) rows of the cohort, the lower one first; which is the copy is not known.
        likeness: (P,) share of the detail of one that the other explains.
        moved: (P,) how far the edge of the subject lies from where it lies in the other, in pixels of the thumbnail.
        transform: (P, 2, 3) from pixels (y, x) of the first scan's thumbnail to those of the second.
        least: what a pair had to explain at least; near 1 where any two scans explain each other well.
    """

    rows: IntArray
    likeness: FloatArray
    moved: FloatArray
    transform: FloatArray
    least: float = 0.0

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, kept: IntArray | BoolArray) -> Self:
        """Some of the pairs."""
        return replace(
            self,
            rows=self.rows[kept],
            likeness=self.likeness[kept],
            moved=self.moved[kept],
            transform=self.transform[kept],
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a cohort before its checks.

    Attributes:
        cohort: the scans; `cohort.given` is the split of the data itself, where it has one.
        pixels: (N, S, S) uint8 thumbnails in the convention of `registration.THUMBNAIL`, memory-mapped.
        vectors: (N, D) float32 of `registration.descriptors(pixels)`.
        subject: (N,) who is who, given or recovered with confidence; None where nobody is known.
        split: the sides that are examined, or None where there are none.
        files: facts of the files themselves (`quality.read_file_facts`), each (N,).
        quarantine: (path, reason) of files that cannot be read.
        seed: of everything random.
        recovered: what the pixels alone say of who is who, where that was asked already.
        copies: pairs of scans that are one, where that was asked already.
    """

    cohort: Cohort
    pixels: NDArray[np.uint8]
    vectors: FloatArray
    subject: StrArray | None = None
    split: Split | None = None
    files: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    quarantine: tuple[tuple[str, str], ...] = ()
    seed: int = 0
    recovered: RecoveredSubjects | None = None
    copies: CopyPairs | None = None

    def __len__(self) -> int:
        return len(self.cohort)

    def take(self, rows: IntArray) -> Self:
        """What is known of these scans alone, in this order."""
        if np.array_equal(rows, np.arange(len(self))):
            return self  # thumbnails that are mapped from disk stay there
        return replace(
            self,
            cohort=self.cohort.take(rows),
            pixels=self.pixels[rows],
            vectors=self.vectors[rows],
            subject=None if self.subject is None else self.subject[rows],
            split=None,
            files={name: values[rows] for name, values in self.files.items()},
            recovered=None,
            copies=None,
        )


@dataclass(frozen=True, slots=True)
class PairSheet:
    """A picture: scans side by side, two and two."""

    rows: IntArray
    """(P, 2) rows of the cohort."""
    captions: tuple[str, ...]
    """P lines below them."""


@dataclass(frozen=True, slots=True)
class ScanSheet:
    """A picture: some scans in a row, the gravest first."""

    rows: IntArray
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IntervalChart:
    """A picture: named values with their intervals, and a line that says where chance or the bound lies."""

    names: tuple[str, ...]
    values: FloatArray
    low: FloatArray
    high: FloatArray
    axis: str
    reference: float | None = None


@dataclass(frozen=True, slots=True)
class Histogram:
    """A picture: how values of several kinds lie, and the threshold between them."""

    values: Mapping[str, FloatArray]
    axis: str
    threshold: float | None = None


FindingPicture = PairSheet | ScanSheet | IntervalChart | Histogram


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """What a check says, with the picture that shows it."""

    finding: Finding
    picture: FindingPicture | None = None


def short_file_name(path: str) -> str:
    """What a caption calls a scan: the name of its file, the middle of a long one left out.

    >>> called("train/mild/2340ed54-235f-b831-ff8d-0c9b4292982.jpg")
    '2340ed54…982.jpg'
    """
    name = path.rpartition("/")[2]
    return name if len(name) <= LONGEST else f"{name[:8]}…{name[-7:]}"


def make_finding(
    check: str,
    severity: Severity,
    message: str,
    scans: StrArray | tuple[str, ...] = (),
    picture: FindingPicture | None = None,
) -> AuditFinding:
    """One finding; `scans` are paths, and no more than the first 1,000 are kept."""
    return AuditFinding(Finding(check, severity, message, tuple(str(scan) for scan in scans[:1000])), picture)
