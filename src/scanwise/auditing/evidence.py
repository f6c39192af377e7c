"""Values that all audit checks share: the evidence that they examine, and findings with their pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scanwise.phrases import short_names
from scanwise.records import BoolArray, Cohort, Finding, FloatArray, IntArray, Severity, Split, StrArray

NAME_LENGTH = 20
"""Letters of a file name in captions."""
CERTAIN = 0.995
"""Confidence from which recovered subjects count beside given ones."""
CONFIDENT = 0.95
"""Confidence from which recovered subjects are used where none are given."""


@dataclass(frozen=True, slots=True)
class RecoveredSubjects:
    """Subjects recovered from the images.

    Attributes:
        subject: (N,) "auto-0001", …; where the recovery failed each scan is a subject of its own.
        confidence: agreement of two recoveries, each from one half of the image components (adjusted Rand index).
        threshold: similarity from which two scans are taken for one subject.
        succeeded: whether subjects could be recovered at all.
        reason: why, or why not, in words.
        values: similarity of the pairs on which the threshold was chosen, for the plot; may be empty.
        pairs: (P, 2) rows of the most similar scans, whose file names are compared.
    """

    subject: StrArray
    confidence: float
    threshold: float
    succeeded: bool
    reason: str
    values: FloatArray
    pairs: IntArray

    @property
    def is_certain(self) -> bool:
        """Whether they are so sure that they count beside given subjects: a confidence of 1.00."""
        return self.succeeded and self.confidence >= CERTAIN

    @property
    def is_confident(self) -> bool:
        """Whether they may be used as if subjects had been given."""
        return self.succeeded and self.confidence >= CONFIDENT


@dataclass(frozen=True, slots=True)
class CopyPairs:
    """Pairs of scans that are copies of each other after any of the changes in `copy_kinds`.

    Attributes:
        rows: (P, 2) rows of the cohort, the lower one first; which is the copy is not known.
        similarity: (P,) agreement of the two, in texture and in the places of their points; 1 for equal scans.
        likeness: (P,) in texture alone.
        displacement: (P,) largest movement of a point, as a share of the side.
        transform: (P, 2, 3) from pixels (y, x) of the first scan to those of the second.
        recall: for each kind of change, how many copies that the audit made itself were found, and how many it made.
    """

    rows: IntArray
    similarity: FloatArray
    likeness: FloatArray
    displacement: FloatArray
    transform: FloatArray
    recall: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def none(cls) -> Self:
        """No pairs, of a search that found no scans to compare."""
        nothing = np.empty(0)
        return cls(np.empty((0, 2), dtype=np.int64), nothing, nothing, nothing, np.empty((0, 2, 3), dtype=np.float32))

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, kept: IntArray | BoolArray) -> Self:
        """A selection of the pairs."""
        return replace(
            self,
            rows=self.rows[kept],
            similarity=self.similarity[kept],
            likeness=self.likeness[kept],
            displacement=self.displacement[kept],
            transform=self.transform[kept],
        )

    def among(self, scans: IntArray, count: int) -> Self:
        """The pairs whose scans are both among some of `count`, by their places in that selection."""
        position = np.full(count, -1)
        position[scans] = np.arange(len(scans))
        rows = position[self.rows]
        kept: BoolArray = np.asarray((rows >= 0).all(axis=1))
        return replace(self.take(kept), rows=rows[kept])

    def describe_recall(self) -> str:
        """The share of copies that this search finds, in words, from the copies that it made itself."""
        total = sum(count for _, count in self.recall.values())
        if not total:
            return "No changed copies of these scans could be made, so it is not known which ones would be found."
        hits = sum(count for count, _ in self.recall.values())
        kinds = ", ".join(f"{name} {_percent(*counts)}" for name, counts in self.recall.items())
        return (
            f"Of changed copies of these scans {_percent(hits, total)} are found: {total:,} were made here and searched in "
            f"the same way ({kinds}). Copies that were changed more, or in other ways, may go unseen."
        )


def _percent(hits: int, count: int) -> str:
    return f"{100 * hits / count:.0f} %"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A cohort as the checks examine it.

    Attributes:
        cohort: the scans; `cohort.given` is the split of the data itself, where it has one.
        pixels: (N, S, S) uint8 thumbnails of `registration.reduce_to_thumbnails`.
        vectors: (N, D) float32 of `registration.descriptors(pixels)`.
        subject: (N,) subjects, given or recovered with confidence; None where they are not known.
        split: the split that is examined, or None where there is none.
        files: facts about the files themselves (`quality.read_file_facts`), each (N,).
        quarantine: (path, reason) of files that cannot be read.
        seed: random seed of all checks.
        recovered: subjects recovered from the images, where that was done already.
        copies: augmented copies, where they were searched for already.
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
        """The evidence about these scans alone, in this order."""
        if np.array_equal(rows, np.arange(len(self))):
            return self
        return replace(
            self,
            cohort=self.cohort.take(rows),
            pixels=self.pixels[rows],
            vectors=self.vectors[rows],
            subject=None if self.subject is None else self.subject[rows],
            split=None,
            files={name: values[rows] for name, values in self.files.items()},
            recovered=None,
            copies=None if self.copies is None else self.copies.among(rows, len(self)),
        )


@dataclass(frozen=True, slots=True)
class PairSheet:
    """Picture of a finding: pairs of scans side by side."""

    rows: IntArray
    """(P, 2) rows of the cohort."""
    captions: tuple[str, ...]
    """P captions."""


@dataclass(frozen=True, slots=True)
class ScanSheet:
    """Picture of a finding: scans in a row, the most serious first."""

    rows: IntArray
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IntervalChart:
    """Picture of a finding: named values with their intervals, and a reference line at chance or at a bound."""

    names: tuple[str, ...]
    values: FloatArray
    low: FloatArray
    high: FloatArray
    axis: str
    reference: float | None = None


@dataclass(frozen=True, slots=True)
class Histogram:
    """Picture of a finding: the distribution of several sets of values, and the threshold between them."""

    values: Mapping[str, FloatArray]
    axis: str
    threshold: float | None = None


FindingPicture = PairSheet | ScanSheet | IntervalChart | Histogram


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """A finding, with the picture that shows it."""

    finding: Finding
    picture: FindingPicture | None = None
    twins: PairSheet | None = None
    """Test scans of a leak, each with its twin in training (`twins.find_twins`)."""


def caption_names(cohort: Cohort, rows: IntArray) -> dict[int, str]:
    """Short names for captions of these scans, by row: such that scans shown together can be told apart."""
    shown = np.unique(rows)
    paths = cohort.path[shown].tolist()
    files = [path.rpartition("/")[2] for path in paths]
    return dict(
        zip(shown.tolist(), short_names(files if len(set(files)) == len(paths) else paths, NAME_LENGTH), strict=True)
    )


def make_finding(
    check: str,
    severity: Severity,
    message: str,
    scans: StrArray | tuple[str, ...] = (),
    picture: FindingPicture | None = None,
    unchecked: str = "",
) -> AuditFinding:
    """A finding; `scans` are paths, of which the first 1,000 are kept."""
    kept = tuple(str(scan) for scan in scans[:1000])
    return AuditFinding(Finding(check, severity, message, kept, unchecked=unchecked), picture)
