"""Persons that DICOM headers tell: one subject for one person, however a header was filled in.

A PatientID belongs to its issuer (PS3.3, C.7.1.1), and many systems write the issuer into some files alone. A study is of
one person: its scans are of one subject, whatever else a header, table or path says.
"""

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from scanwise.cohort.listing import Listing
from scanwise.phrases import count_of
from scanwise.pooling import join_subjects, rows_alike
from scanwise.records import StrArray

HEADER = "DICOM header, as a keyed hash"
"""The source of subjects that come from headers."""

CLEAR = "PatientID of the DICOM header"
"""The source of subjects that stand in the clear."""


def spell_out(scans: Listing) -> Listing:
    """The listing with PatientIDs for subjects that headers gave in the clear; with the issuer where two have one number."""
    if scans.subject is None or scans.subject_source != HEADER:
        return scans
    issuers: dict[str, set[str]] = defaultdict(set)
    parts = {name: name.partition("\0")[::2] for name in set(scans.subject.tolist())}
    for issuer, person in parts.values():
        issuers[person].add(issuer)
    names = {
        name: f"{person} ({issuer})" if issuer and len(issuers[person]) > 1 else person
        for name, (issuer, person) in parts.items()
    }
    subject = np.array([names[name] for name in scans.subject.tolist()], dtype=np.str_)
    return replace(scans, subject=subject, subject_source=CLEAR)


@dataclass(frozen=True, slots=True)
class HeaderIdentity:
    """The persons of some scans by their headers, as keyed hashes; "" where a header does not say.

    Attributes:
        subject: (N,) of PatientID and its issuer.
        patient: (N,) of PatientID alone; equal to `subject` where no issuer is said.
        spelling: (N,) of the part of PatientID in which spellings of one number agree.
        study: (N,) of StudyInstanceUID.
    """

    subject: StrArray
    patient: StrArray
    spelling: StrArray
    study: StrArray

    def issued(self) -> dict[str, str]:
        """The subject of each PatientID that has one issuer alone, by the hash of the PatientID."""
        issued: dict[str, set[str]] = defaultdict(set)
        for patient, subject in zip(self.patient.tolist(), self.subject.tolist(), strict=True):
            if subject != patient:
                issued[patient].add(subject)
        return {patient: next(iter(subjects)) for patient, subjects in issued.items() if len(subjects) == 1}

    def subjects(self) -> StrArray:
        """(N,) the subjects; a PatientID without its issuer is that of its issuer, where it has one alone."""
        only = self.issued()
        return np.array([only.get(subject, subject) for subject in self.subject.tolist()], dtype=np.str_)

    def remarks(self) -> tuple[str, ...]:
        """A remark on PatientIDs that differ only in case, leading zeros or a final `.0`."""
        pairs = np.unique(np.column_stack([self.spelling, self.patient]), axis=0)
        _, counts = np.unique(pairs[pairs[:, 0] != "", 0], return_counts=True)
        similar = int(counts[counts > 1].sum())
        if not similar:
            return ()
        return (
            f"{similar} PatientIDs differ from another only in case, leading zeros or a final .0, and count as different people. "
            "If they are the same, name the subjects with --subject.",
        )


def settle_subjects(scans: Listing, identity: HeaderIdentity) -> Listing:
    """The listing with the persons of its headers where it names none, and with one subject for each study; it is said."""
    scans = replace(scans, study=identity.study)
    before = identity.subject if scans.subject is None else scans.subject
    if scans.subject is None and (identity.subject != "").any():
        scans = replace(
            scans, subject=identity.subjects(), subject_source=HEADER, remarks=(*scans.remarks, *identity.remarks())
        )
    if scans.subject is None:
        return scans
    joined = join_subjects(scans.subject, rows_alike(identity.study))
    many, fewer = _count(before), _count(joined)
    if fewer == 1 < many and _count(identity.study) == 1:
        remark = (
            f"All scans have one StudyInstanceUID, though they are of {count_of(many, 'subject')}: it was not used. A study is of "
            "one person; if the number is right, so are all scans."
        )
        return replace(scans, study=None, remarks=(*scans.remarks, remark))
    if fewer == many:
        return replace(scans, subject=joined)
    remark = (
        f"{count_of(many, 'subject')} in the data are {fewer:,}: scans of one study, and of one PatientID with and without its "
        "issuer, are of one person. They were joined, and stay on one side of the split."
    )
    return replace(scans, subject=joined, remarks=(*scans.remarks, remark))


def _count(names: StrArray) -> int:
    return len(set(names.tolist()) - {""})
