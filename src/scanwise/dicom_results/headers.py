"""Headers of results: the person and study of the scans, and where in the study a result stands.

A result is written in UTF-8, whatever the scans have. Values of a header that no DICOM file may have are left empty.
"""

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pydicom import config
from pydicom.datadict import dictionary_VM
from pydicom.valuerep import PersonName, validate_value

from scanwise.cohort.decoding.dicom_header import text
from scanwise.dicom_results.sources import NEEDED

if TYPE_CHECKING:
    from pydicom import Dataset

VERSION = version("scanwise")
_ALWAYS = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""Values that a result has even where they are empty."""
_STUDY_ID = 0x00200010
_CARRIED_GROUPS = (0x0008, 0x0010, 0x0012, 0x0032, 0x0038)
"""Groups of the person and the study; what of them a result takes over is up to its kind."""
_LEFT = ("SpecificCharacterSet", *NEEDED)
"""Values that the others are read by, or that were checked before."""
_ENUMERATED = {
    "PatientSex": ("M", "F", "O"),
    "PatientSexNeutered": ("ALTERED", "UNALTERED"),
    "SmokingStatus": ("YES", "NO", "UNKNOWN"),
    "PregnancyStatus": ("1", "2", "3", "4"),
    "PatientIdentityRemoved": ("YES", "NO"),
    "LongitudinalTemporalInformationModified": ("UNMODIFIED", "MODIFIED", "REMOVED"),
}
_SEQUENCES = ("DeidentificationMethodCodeSequence",)
"""Sequences that are taken over; whether others hold what they must, no rule of values says."""
_TRIAL = (
    ("ClinicalTrialSponsorName",),
    ("ClinicalTrialProtocolID",),
    ("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
)
"""Values of a clinical trial, of which each must be there, or the other."""
_TEXTS = ("LT", "ST", "UT")
_LINES = dict.fromkeys(map(ord, "\t\n\f\r"))
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
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
    """Copies of headers whose person and study are complete and valid: what is not is left out, or empty where it must be there."""
    carried = []
    for header in headers:
        own = copy(header)
        for tag in list(own.keys()):
            if (tag.group in _CARRIED_GROUPS or tag == _STUDY_ID) and not _is_valid(own, tag):
                del own[tag]
        if not all(any(text(own, name) for name in names) for names in _TRIAL):
            for name in [name for name in own.dir("ClinicalTrial") if name.startswith("ClinicalTrial")]:
                delattr(own, name)
        for name in _ALWAYS:
            if name not in own:
                setattr(own, name, "")
        if text(own, "PatientIdentityRemoved") == "YES" and not any(name in own for name in _REMOVALS):
            own.DeidentificationMethod = "Not said in the headers of the scans"  # which must be there
        carried.append(own)
    return carried


def _is_valid(dataset: "Dataset", tag: int) -> bool:
    """Whether an element, with all that is within, can stand in a DICOM file."""
    try:
        element = dataset[tag]
        if element.keyword in _LEFT:
            return True
        if element.VR == "SQ":
            return element.keyword in _SEQUENCES and all(
                _is_valid(item, within) for item in element.value for within in list(item.keys())
            )
        values = element.value if element.VM > 1 else [element.value] * element.VM
        return (element.VM <= 1 or dictionary_VM(element.tag) != "1") and all(
            _is_valid_value(element.VR, element.keyword, value) for value in values
        )
    except Exception:  # noqa: BLE001 - whatever pydicom makes of a damaged value
        return False


def _is_valid_value(kind: str, keyword: str, value: Any) -> bool:
    shown = str(value)
    if kind == "DA":
        datetime.strptime(shown, "%Y%m%d")
    if isinstance(value, str | PersonName) and _CONTROL.search(shown.translate(_LINES) if kind in _TEXTS else shown):
        return False
    validate_value(kind, shown if kind in ("PN", "DA", "TM", "DT", "DS", "IS") else value, config.RAISE)
    return shown in _ENUMERATED.get(keyword, (shown,)) and not (kind in ("DA", "TM") and "-" in shown)


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
