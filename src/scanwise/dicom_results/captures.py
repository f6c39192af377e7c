"""The result as secondary captures for people: viewers show a report without coordinates as an empty pane.

The first page is about the person and lists the scans; those after it show one scan each, with its heatmap and the badge of the checks.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scanwise.dicom_results.headers import Placement, describe_equipment
from scanwise.dicom_results.sources import SourceScan
from scanwise.dicom_results.statements import INTENDED_USE, Statement
from scanwise.dicom_results.structured_report import ModelIdentity
from scanwise.records import Heatmap

if TYPE_CHECKING:
    from pydicom import Dataset

SERIES_NUMBER = 9802
WIDTH, HEIGHT = 1024, 768
_PICTURE = 440  # side of a scan on a page
_MARGIN = 40
_SHEET, _TEXT, _MUTED, _WARNING = (11, 13, 15), (232, 235, 238), (160, 168, 176), (255, 180, 84)
_LINES = 16
"""Scans that the first page lists."""


@dataclass(frozen=True, slots=True)
class ScanPicture:
    """A scan with the map over it.

    Attributes:
        overlay: (H, W, 3).
        badge: one line on the checks of the map.
        heatmap: its numbers; None where there is none.
    """

    overlay: NDArray[np.uint8]
    badge: str
    heatmap: Heatmap | None = None


def draw_summary(person: Statement | None, scans: Sequence[Statement], model: ModelIdentity) -> NDArray[np.uint8]:
    """The first page, (H, W, 3)."""
    page = _Page()
    if person is not None:
        page.write(_verdict(person), 30, _WARNING if person.review else _TEXT)
        for line in _lines(person):
            page.write(line, 18)
        page.skip(12)
    for statement in scans[:_LINES]:
        page.write(f"{statement.about}: {statement.verdict}", 15, _WARNING if statement.review else _TEXT, most=1)
    if len(scans) > _LINES:
        page.write(f"and {len(scans) - _LINES} more in the structured report.", 15, _MUTED)
    return page.finish(model)


def draw_scan_page(statement: Statement, picture: ScanPicture | None, model: ModelIdentity) -> NDArray[np.uint8]:
    """The page of a scan, (H, W, 3): its map, if there is one, and its statement."""
    page = _Page(left=_MARGIN if picture is None else 2 * _MARGIN + _PICTURE)
    if picture is not None:
        page.paste(picture)
    page.write(statement.about, 18, _MUTED)
    page.write(_verdict(statement), 24, _WARNING if statement.review else _TEXT)
    for line in _lines(statement):
        page.write(line, 16)
    return page.finish(model)


def build_capture(
    placement: Placement, model: ModelIdentity, pixels: NDArray[np.uint8], source: SourceScan
) -> "Dataset":
    """A page as a secondary capture.

    Args:
        placement: study, series and instance.
        model: that has answered.
        pixels: (H, W, 3).
        source: a scan that the page is about.
    """
    from highdicom.sc import SCImage
    from pydicom import Dataset

    header = placement.headers[0]
    built: Dataset = SCImage(
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        study_instance_uid=header.StudyInstanceUID,
        series_instance_uid=placement.series,
        series_number=SERIES_NUMBER,
        sop_instance_uid=placement.uid,
        instance_number=placement.number,
        patient_id=header.PatientID,
        patient_name=header.PatientName,
        patient_birth_date=header.PatientBirthDate,
        patient_sex=header.PatientSex,
        accession_number=header.AccessionNumber,
        study_id=header.StudyID,
        study_date=header.StudyDate,
        study_time=header.StudyTime,
        referring_physician_name=header.ReferringPhysicianName,
        series_description="Scanwise result (research use only)",
        **describe_equipment(model.name),
    )
    built.copy_patient_and_study_information(header)
    built.ConversionType = "WSD"
    built.PatientOrientation = built.Laterality = None  # a page is of no side and lies in no direction of the body
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.header.SOPClassUID, source.uid
    if source.frame is not None:
        reference.ReferencedFrameNumber = source.frame
    built.SourceImageSequence = [reference]
    built.DerivationDescription = "Statement of a classifier, with its heatmap where there is one"
    if header.get("BurnedInAnnotation") == "YES":
        built.BurnedInAnnotation = "YES"
    return built


def _verdict(statement: Statement) -> str:
    return f"REVIEW BY A PERSON: {'; '.join(statement.reasons)}" if statement.review else statement.verdict


def _lines(statement: Statement) -> list[str]:
    """Lines under the verdict."""
    ranked = sorted(statement.probs.items(), key=lambda pair: -pair[1])[:8]
    lines = ["Probabilities: " + ", ".join(f"{name} {p:.3f}" for name, p in ranked)]
    lines.append(f"Prediction set: {statement.set_in_words}")
    if statement.novelty is not None:
        state = "unlike training" if statement.unlike_training else "like the training scans"
        lines.append(f"Novelty: {min(statement.novelty, 99):.2f}, {state} (above 1 is an alarm)")
    return [*lines, statement.guarantee]


class _Page:
    """A sheet that is written from top to bottom."""

    def __init__(self, left: int = _MARGIN) -> None:
        from PIL import Image, ImageDraw

        self._image = Image.new("RGB", (WIDTH, HEIGHT), _SHEET)
        self._draw = ImageDraw.Draw(self._image)
        self._left, self._top = left, _MARGIN

    def write(self, text: str, size: int, colour: tuple[int, int, int] = _TEXT, most: int = 6) -> None:
        """Write a text over at most so many lines; nothing leaves the sheet."""
        for line in _fold(text, size, WIDTH - _MARGIN - self._left, most):
            if self._top + size > HEIGHT - 3 * _MARGIN:
                return
            self._draw.text((self._left, self._top), line, colour, _font(size))
            self._top += round(1.4 * size)
        self._top += size // 3

    def skip(self, height: int) -> None:
        """Leave a gap."""
        self._top += height

    def paste(self, picture: ScanPicture) -> None:
        """Lay a scan on the left side, with its badge below."""
        from PIL import Image

        scan = Image.fromarray(picture.overlay)
        scale = _PICTURE / max(scan.size)
        scan = scan.resize((round(scan.width * scale), round(scan.height * scale)), Image.Resampling.BICUBIC)
        self._image.paste(scan, (_MARGIN, _MARGIN))
        for number, line in enumerate(_fold(picture.badge, 14, _PICTURE, 4)):
            self._draw.text((_MARGIN, _MARGIN + scan.height + 12 + 20 * number), line, _MUTED, _font(14))

    def finish(self, model: ModelIdentity) -> NDArray[np.uint8]:
        """The pixels, with what stands below every page."""
        bottom = HEIGHT - 2 * _MARGIN
        self._draw.text((_MARGIN, bottom), INTENDED_USE, _WARNING, _font(16))
        self._draw.text((_MARGIN, bottom + 26), _fold(model.line, 12, WIDTH - 2 * _MARGIN, 1)[0], _MUTED, _font(12))
        return np.asarray(self._image)


def _fold(text: str, size: int, width: int, most: int) -> list[str]:
    """At most so many lines of a text, each no wider than so many pixels."""
    font, letters = _font(size), 2 * width // size
    while True:  # letters differ in width
        lines = textwrap.wrap(text, letters, max_lines=most, placeholder=" …") or [""]
        if letters <= 8 or max(font.getlength(line) for line in lines) <= width:
            return lines
        letters -= 2


@cache
def _font(size: int) -> Any:
    """The font that matplotlib brings, which has the letters of most alphabets."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
