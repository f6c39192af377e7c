"""Files that were answered, by study: their headers, the order of their scans, and identifiers derived from them.

Of a header everything that places a result is needed: who, which study, which image. A study whose headers contradict each
other is set aside, for a result in the wrong place is worse than none.
"""

import hashlib
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scanwise.cohort.decoding import slice_names
from scanwise.cohort.decoding.dicom import read_dataset
from scanwise.cohort.decoding.dicom_header import numbers, text, whole
from scanwise.cohort.decoding.pixels import UnreadableScan, open_file
from scanwise.cohort.decoding.readers import HEAD, kind_of
from scanwise.phrases import count_of
from scanwise.records.names import compose

if TYPE_CHECKING:
    from pydicom import Dataset

LAYOUT = 2
"""Version of what is written; another layout is another object, and gets identifiers of its own."""
NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_SAME_SHAPE = ("Rows", "Columns", "SamplesPerPixel")


@dataclass(frozen=True, slots=True)
class SourceScan:
    """A scan that was answered.

    Attributes:
        row: of the answer.
        file: that it is in.
        header: of the file, without pixels.
        frame: its number from 1, where the file has several.
    """

    row: int
    file: Path
    header: "Dataset" = field(repr=False)
    frame: int | None = None

    @property
    def source(self) -> Path:
        """The file, or `file#slice`, as readers take it."""
        return self.file if self.frame is None else Path(slice_names.name(str(self.file), self.frame - 1, self.frames))

    @property
    def frames(self) -> int:
        """Frames of its file."""
        return max(1, whole(self.header, "NumberOfFrames"))

    @property
    def uid(self) -> str:
        """SOP Instance UID of its file."""
        return text(self.header, "SOPInstanceUID")


@dataclass(frozen=True, slots=True)
class SourceStudy:
    """The scans of one study, in the order of series and images.

    Attributes:
        scans: at least one.
        unread: names of the images of the study that could not be read.
    """

    scans: tuple[SourceScan, ...]
    unread: tuple[str, ...] = ()

    @property
    def headers(self) -> "list[Dataset]":
        """One header a file."""
        return list({scan.uid: scan.header for scan in self.scans}.values())

    @property
    def seed(self) -> str:
        """Text that is the same for the same scans, in whatever order they came."""
        frames = sorted(f"{scan.uid}#{scan.frame or 0}" for scan in self.scans)
        unread = ("unread", *self.unread) if self.unread else ()
        return f"{text(self.scans[0].header, 'StudyInstanceUID')} {' '.join((*frames, *unread))}"


def derive_uid(*parts: str) -> str:
    """A UID that the same parts always have (PS3.5, B.2: a UUID as a number).

    >>> derive_uid("a", "b") == derive_uid("a", "b"), derive_uid("a", "b") == derive_uid("ab")
    (True, False)
    """
    content = hashlib.sha256("\0".join((f"scanwise {LAYOUT}", *parts)).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=content[:16], version=5).int}"


def group_by_study(names: Sequence[str], unread: Sequence[str] = ()) -> tuple[list[SourceStudy], list[tuple[str, str]]]:
    """Studies of the DICOM files among scans, and (name, reason) of those that get no result.

    Args:
        names: of the scans, as an answer has them: a path, or `path#slice`.
        unread: names of what could not be read, beside them.
    """
    lost = _images_by_study(unread)
    studies: dict[str, list[SourceScan]] = defaultdict(list)
    refused: list[tuple[str, str]] = []
    headers: dict[Path, Dataset | str] = {}
    for row, name in enumerate(names):
        file, index = slice_names.split_slice(Path(name))
        if file not in headers:
            headers[file] = _read(file)
        header = headers[file]
        if isinstance(header, str):
            refused.append((name, header))
            continue
        several = whole(header, "NumberOfFrames") > 1
        scan = SourceScan(row, file, header, (index or 0) + 1 if several else None)
        studies[text(header, "StudyInstanceUID")].append(scan)
    kept = []
    for uid in sorted(studies):
        scans = sorted(studies[uid], key=_place)
        if reason := refuse_contradictions([scan.header for scan in scans], [scan.file for scan in scans]):
            refused.append((names[scans[0].row], reason))
        else:
            kept.append(SourceStudy(tuple(scans), tuple(sorted(lost[uid]))))
    return kept, refused


def _images_by_study(names: Iterable[str]) -> dict[str, list[str]]:
    """Identifiers of those of the files that are images, as far as their headers say it, by study."""
    images: dict[str, list[str]] = defaultdict(list)
    for name in names:
        file, index = slice_names.split_slice(Path(name))
        header = _read(file)
        if not isinstance(header, str) and whole(header, "Rows"):
            images[text(header, "StudyInstanceUID")].append(f"{text(header, 'SOPInstanceUID')}#{index or 0}")
    return images


def refuse_contradictions(headers: "Sequence[Dataset]", files: Sequence[Path]) -> str:
    """Why these files of one study get no result; "" where nothing is against it. The reason quotes no header.

    Args:
        headers: a row a scan.
        files: of the scans.
    """
    persons = {(compose(text(header, "IssuerOfPatientID")), compose(text(header, "PatientID"))) for header in headers}
    if len(persons) > 1:
        return f"{len(persons)} PatientIDs stand in one study; correct the headers, or send each person's study alone"
    of_uid: dict[str, set[Path]] = defaultdict(set)
    series: dict[str, list[Dataset]] = defaultdict(list)
    for header, file in zip(headers, files, strict=True):
        of_uid[text(header, "SOPInstanceUID")].add(file)
        series[text(header, "SeriesInstanceUID")].append(header)
    if twins := next((sorted(same) for same in of_uid.values() if len(same) > 1), None):
        return f"{twins[0].name} and {twins[1].name} have one SOPInstanceUID; keep one of them"
    for own in series.values():
        if (shapes := len(set(_geometries(own)))) > 1:
            return (
                f"one series of {count_of(len(own), 'scan')} has {shapes} geometries (size, spacing, orientation or frame of "
                "reference); give each as a series of its own"
            )
    return ""


def _read(file: Path) -> "Dataset | str":
    """The header of a DICOM file, or why it gets no result."""
    try:
        with open_file(file) as stream:
            if kind_of(stream.read(HEAD)) != "dicom":
                return "not DICOM"
        header = read_dataset(file)
    except (UnreadableScan, OSError) as error:
        return str(error) if isinstance(error, UnreadableScan) else "cannot be opened"
    unusable = [name for name in NEEDED if not is_uid(text(header, name))]
    return f"its header has no valid {', '.join(unusable)}" if unusable else header


def is_uid(value: str) -> bool:
    """Whether a text is a UID (PS3.5, 9.1).

    >>> is_uid("1.2.840"), is_uid("1.02"), is_uid("../x"), is_uid("1." * 40 + "1")
    (True, False, False, False)
    """
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def _place(scan: SourceScan) -> tuple[int, str, int, str, int]:
    header = scan.header
    return (
        whole(header, "SeriesNumber"),
        text(header, "SeriesInstanceUID"),
        whole(header, "InstanceNumber"),
        scan.uid,
        scan.frame or 0,
    )


def _geometries(headers: "Iterable[Dataset]") -> "list[tuple[object, ...]]":
    """The geometry of each slice of a series; images that lie nowhere, such as radiographs, may differ in size."""
    shapes: list[tuple[object, ...]] = []
    for header in headers:
        lies = numbers(header, "ImageOrientationPatient", 6)
        if lies is None and text(header, "Modality") not in ("CT", "MR", "PT"):
            shapes.append(())
            continue
        spacing = numbers(header, "PixelSpacing", 2)
        shapes.append(
            (
                *(whole(header, name) for name in _SAME_SHAPE),
                None if lies is None else tuple(round(value, 2) + 0.0 for value in lies),
                None if spacing is None else tuple(round(value, 3) for value in spacing),
                text(header, "FrameOfReferenceUID"),
            )
        )
    return shapes
