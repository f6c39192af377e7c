"""The question that a run answers, as the title of its pages: which classes, from what kind of scans, of how many people."""

import re
from collections.abc import Mapping, Sequence

from scanwise.phrases import printable
from scanwise.records import StrArray
from scanwise.records.columns import kinds_in, words_of
from scanwise.reporting.run_data import RunData
from scanwise.reporting.wording import counted, listed

NAMED = 5
"""Classes at most that a title names; of more, it says how many there are."""
LONGEST = 90
"""Letters of the class names in a title; longer names are counted instead."""
MODALITIES = {
    "MR": "MRI", "CT": "CT", "PT": "PET", "CR": "radiographs", "DX": "radiographs", "RG": "radiographs", "XR": "radiographs",
    "US": "ultrasound", "MG": "mammograms", "XA": "angiograms", "OP": "fundus photographs", "OPT": "OCT", "NM": "scintigrams",
    "SM": "slide images", "GM": "microscope images", "ES": "endoscopy", "T1W": "T1 MRI", "T2W": "T2 MRI", "T1": "T1 MRI", "T2": "T2 MRI",
    "FLAIR": "FLAIR MRI", "T2STAR": "T2* MRI", "PDW": "PD MRI", "BOLD": "functional MRI", "DWI": "diffusion MRI", "MRI": "MRI",
}  # fmt: skip
"""Codes of DICOM and suffixes of BIDS, as people say them."""


def build_question(contents: RunData) -> str:
    """The question of a run, as its title: "AD, MCI or CN from MRI of 90 people"."""
    cohort = contents.cohort
    people = len(set(cohort.subject.tolist())) if cohort.subjects_known else None
    return ask_question(contents.titles(), cohort.groups, len(cohort), people)


def ask_question(titles: Sequence[str], groups: Mapping[str, StrArray], scans: int, people: int | None) -> str:
    """A title from the data.

    Args:
        titles: what the classes are called.
        groups: columns of the scans, by name; one may be the modality.
        scans: how many there are.
        people: how many people they are of; None where that is not known.

    >>> import numpy as np
    >>> ask_question(["AD", "MCI", "CN"], {"modality": np.array(["MR"])}, 270, 90)
    'AD, MCI or CN from MRI of 90 people'
    >>> ask_question(["normal", "stroke"], {}, 1, None)
    'Normal or stroke from 1\\xa0scan'
    """
    names = listed([printable(title) for title in titles], "or")
    if len(titles) > NAMED or len(names) > LONGEST:
        names = f"one of {counted(len(titles), 'class')}"
    if re.match(r"[a-z]+\b", names):
        names = names[0].upper() + names[1:]
    modality = name_modality(groups)
    if people is None:
        return f"{names} from {counted(scans, f'{modality} scan' if modality else 'scan')}"
    return f"{names} from {modality or 'scans'} of {people:,} {'person' if people == 1 else 'people'}"


def name_modality(groups: Mapping[str, StrArray]) -> str:
    """The kind of scans as a column of the data names it; empty where none does, or where there are more than two."""
    for name, values in groups.items():
        if "modality" in words_of(name):
            kinds = [printable(kind) for kind in kinds_in(name, values)]
            titles = list(dict.fromkeys(MODALITIES.get(kind.strip().upper(), kind) for kind in kinds))
            return listed(titles) if 1 <= len(titles) <= 2 else ""
    return ""
