"""Headers of results: the person and study of the scans, and where in the study a result stands.

A result is written in UTF-8, whatever the scans have. Values of a header that no DICOM file may have are left empty.
"""

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from scanwise.cohort.decoding.dicom_header import text

if TYPE_CHECKING:
    from pydicom import Dataset

VERSION = version("scanwise")
_CARRIED = {
    "PatientID": r".{0,64}",
    "PatientName": r".*",
    "PatientBirthDate": r"[0-9]{8}",
    "PatientSex": r"[MFO]",
    "AccessionNumber": r".{0,16}",
    "StudyID": r".{0,16}",
    "StudyDate": r"[0-9]{8}",
    "StudyTime": r"[0-9]{2}([0-9]{2}([0-9]{2}(\.[0-9]{1,6})?)?)?",
    "ReferringPhysicianName": r".*",
}
"""Values that a result takes over, and the form that each must have."""
_REMOVALS = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")


@dataclass(frozen=True, slots=True)
class Placement:
    """Position of a result in its study.

    Attributes:
        headers: of its images, one a file, each with all that a result takes over.
        series: Series Instance UID.
        uid: SOP Instance UID.
        number: of the instance in its series.
    """

    headers: "list[Dataset]" = field(repr=False)
    series: str
    uid: str
    number: int = 1


def carried_headers(headers: "Sequence[Dataset]") -> "list[Dataset]":
    """Copies of headers whose person and study are complete: what is missing or cannot be read is empty."""
    carried = []
    for header in headers:
        own = copy(header)
        for name, form in _CARRIED.items():
            if name not in own or not re.fullmatch(form, text(header, name)):
                setattr(own, name, "")
        if text(own, "PatientIdentityRemoved") == "YES" and not any(name in own for name in _REMOVALS):
            own.DeidentificationMethod = "Not said in the headers of the scans"  # which must be there
        carried.append(own)
    return carried


def describe_equipment(model: str) -> dict[str, Any]:
    """Details of the maker that every result has, as keywords of highdicom."""
    from highdicom import ContentQualificationValues

    return {
        "manufacturer": "Scanwise",
        "manufacturer_model_name": model[:64],
        "software_versions": (VERSION,),
        "content_qualification": ContentQualificationValues.RESEARCH,
        "specific_character_set": "ISO_IR 192",
    }
