"""Patient tables: a row a person, joined to files by an id in their headers, subjects, folders or names.

Hospitals keep labels, ages and sites in a table of their own. A row gives the scans of its person the label, the groups
and, where nothing else names the person, the subject.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, Self

import numpy as np

from scanwise.cohort import table_files
from scanwise.cohort.header_subjects import HeaderIdentity
from scanwise.cohort.id_locations import IdMatch, id_locations, match_ids
from scanwise.cohort.layouts import manifests
from scanwise.cohort.listing import Listing, first, texts
from scanwise.cohort.table_files import TypedTable
from scanwise.errors import DataError, did_you_mean
from scanwise.phrases import count_of
from scanwise.records import IntArray
from scanwise.records.columns import names_persons, numbers_in, words_of
from scanwise.records.names import clean_subjects, clean_values

ID_NAMES = (
    "patientid", "subjectid", "participantid", "patient", "subject", "participant", "caseid", "recordid", "pid", "mrn", "case", "id",
)  # fmt: skip
"""Columns that are taken for the id where none is named, in lower case without signs; the first that is there."""
KEYWORDS = {
    "accessionnumber": "AccessionNumber", "accession": "AccessionNumber", "studyinstanceuid": "StudyInstanceUID",
    "studyuid": "StudyInstanceUID",
}  # fmt: skip
"""Columns whose ids are of examinations and not of persons, with the header value that they are."""
_FEW = 20
"""So many texts may be groups, even if no two persons share one."""


@dataclass(frozen=True, slots=True)
class PatientTable:
    """A table of persons.

    Attributes:
        file: its path.
        table: as it was read.
        id_column: the column that scans are found by.
        label_column: the column of classes; "" where these come with the scans.
        rows: the rows of each id; most have one.
    """

    file: Path
    table: TypedTable
    id_column: str
    label_column: str
    rows: Mapping[str, IntArray]

    @classmethod
    def read(cls, file: Path, id_column: str = "", label: str = "") -> Self:
        """Read a table of persons.

        Args:
            file: CSV, TSV, Parquet or Excel.
            id_column: default: the one with a usual name.
            label: the column of classes, where the table has it; default: `label`, if there is one.

        Raises:
            DataError: with the column or lines to change.
        """
        if not file.is_file():
            raise DataError(f"There is no patient table at {file}.")
        table = table_files.read_user_table(file, [id_column] if id_column else ["PatientID", "patient_id", "subject"])
        column = _id_column(file, [*table.columns], id_column)
        manifests.refuse_nobody(table, file, column)
        rows = defaultdict(list)
        for row, name in enumerate(clean_subjects(table.columns[column].tolist())):
            rows[name].append(row)
        wanted = label or "label"
        return cls(
            file,
            table,
            column,
            wanted if wanted in table.columns else "",
            {name: np.array(of, dtype=np.int64) for name, of in rows.items()},
        )

    @property
    def keyword(self) -> str:
        """The header value that the ids are: of persons, or of examinations, several of which may be of one person."""
        return KEYWORDS.get(_bare(self.id_column), "PatientID")

    def lines(self, rows: Sequence[int] | IntArray) -> str:
        """The lines of the file in which rows stand, for messages."""
        return first([self.table.lines[int(row)] for row in rows])

    def values(self, column: str) -> dict[str, str]:
        """The value of each id in a column: "" where there is none, or where its rows differ."""
        cells = clean_values(self.table.columns[column].fillna("").tolist())
        given = {name: {cells[row] for row in of.tolist()} - {""} for name, of in self.rows.items()}
        return {name: next(iter(values)) if len(values) == 1 else "" for name, values in given.items()}

    def labels(self) -> dict[str, str]:
        """The label of each id.

        Raises:
            DataError: if two rows of one id have different labels.
        """
        cells = clean_values(self.table.columns[self.label_column].fillna("").tolist())
        torn = [name for name, of in self.rows.items() if len({cells[row] for row in of.tolist()} - {""}) > 1]
        if torn:
            rows = self.rows[torn[0]]
            raise DataError(
                f"{self.file}: {count_of(len(torn), 'id')} in the column {self.id_column!r} {'has' if len(torn) == 1 else 'have'} rows that differ in "
                f"{self.label_column!r}, such as lines {self.lines(rows)} ({first([cells[row] for row in rows.tolist()])}). Keep one "
                "row of each, or name a column that tells the examinations apart with --id, such as AccessionNumber."
            )
        return self.values(self.label_column)


def is_patient_table(subject: str) -> bool:
    """Whether what names the subjects is a table of persons: one without a column `path`."""
    file = Path(subject)
    if not (subject and table_files.is_table(file) and file.is_file()):
        return False
    return "path" not in table_files.read_user_table(file).columns


def join_patients(
    listing: Listing, patients: PatientTable, subject: str = "", conceal: Callable[[str], str] = str
) -> Listing:
    """Give every file what the row of its person says; files without a row and rows without files are set aside and listed.

    The location where the most persons are found is taken for all files, and said.

    Args:
        listing: of files that were opened.
        patients: the table.
        subject: a column of the table that names the person, where that is not the id.
        conceal: applied to ids that headers hold, where these become subjects.

    Raises:
        DataError: if no file has an id of the table.
    """
    matches = [match_ids(location, patients.rows.keys()) for location in id_locations(listing, patients.keyword)]
    best = max(matches, key=lambda match: (match.persons, match.files))
    if not best.files:
        _refuse_strangers(patients, matches)
    label = patients.labels() if patients.label_column else None
    reasons = [_reason(listing, patients, label, row, name) for row, name in enumerate(best.ids)]
    kept = np.array([row for row, reason in enumerate(reasons) if not reason], dtype=np.int64)
    names = [best.ids[row] for row in kept.tolist()]
    set_aside = [(path, reason) for path, reason in zip(listing.path.tolist(), reasons, strict=True) if reason]
    sentence, complete = _describe_join(patients, best)
    joined = replace(
        listing.take(kept),
        unused=(*listing.unused, *set_aside, *_rows_without_scans(patients, best.ids)),
        remarks=(*listing.remarks, *patients.table.remarks, *_remarks(patients, matches, best)),
        notes=listing.notes,
    )
    if complete:
        joined = replace(joined, notes=(*joined.notes, sentence))
    else:
        joined = replace(joined, remarks=(sentence, *joined.remarks))
    if label is not None:
        joined = replace(joined, label=texts(label[name] for name in names), labels_from="patient table")
    return _with_subjects(_with_columns(joined, patients, names, subject), patients, names, subject, best, conceal)


def _refuse_strangers(patients: PatientTable, matches: Sequence[IdMatch]) -> NoReturn:
    """Say where ids were looked for; what headers hold is not quoted."""
    locations = [match.location for match in matches]
    searched = [
        location.name if location.kind == "header" else f"{location.name} ({location.examples})"
        for location in locations
    ]
    raise DataError(
        f"No scan has an id of the column {patients.id_column!r} of {patients.file} ({first(list(patients.rows))}). They were "
        f"looked for in {', '.join(searched)}. Name the column of ids with --id."
    )


def _reason(listing: Listing, patients: PatientTable, label: Mapping[str, str] | None, row: int, name: str) -> str:
    """The reason why a file is set aside, or ""; of one that cannot be opened that comes first."""
    contents = None if listing.opened is None else listing.opened[row]
    if name:
        return "" if label is None or label[name] else f"{patients.file.name} gives it no {patients.label_column}"
    return contents if isinstance(contents, str) else f"{patients.file.name} has no row for it"


def _rows_without_scans(patients: PatientTable, ids: Sequence[str]) -> list[tuple[str, str]]:
    there = set(ids)
    return [
        (f"{patients.file.name}: {name}", f"a row without scans (line {patients.lines(of)})")
        for name, of in patients.rows.items()
        if name not in there
    ]


def _with_columns(listing: Listing, patients: PatientTable, names: Sequence[str], subject: str) -> Listing:
    """The listing with the groups, words and sides of the table, but for what would name persons, which is said."""
    reserved = (patients.id_column, patients.label_column, "label", "subject", "path", "subject_source", subject)
    columns = {name: patients.values(name) for name in map(str, patients.table.columns) if name not in reserved}
    naming = [
        name for name, values in columns.items() if name not in ("text", "split") and _names_persons(name, values)
    ]
    taken = {name: texts(of[row] for row in names) for name, of in columns.items() if name not in naming}
    text, sides = taken.pop("text", listing.text), taken.pop("split", None)
    notes = listing.notes
    if naming:
        quoted = first([repr(name) for name in naming], most=6)
        notes = (*notes, f"{patients.file.name}: columns that would name persons were not taken over ({quoted}).")
    given = listing.given if sides is None else manifests.named_sides(sides.tolist(), patients.file)
    return replace(listing, groups={**listing.groups, **taken}, text=text, given=given, notes=notes)


def _names_persons(column: str, values: Mapping[str, str]) -> bool:
    """Whether a column would tell who somebody is, by its name or because no two persons share a text."""
    given = [value for value in values.values() if value]
    if names_persons(column) or set(words_of(column)) & {"name", "names"}:
        return True
    return len(given) > _FEW and len(set(given)) == len(given) and numbers_in(texts(given)) is None


def _with_subjects(
    listing: Listing,
    patients: PatientTable,
    names: Sequence[str],
    subject: str,
    match: IdMatch,
    conceal: Callable[[str], str],
) -> Listing:
    """The listing with the person of each row, where the table is what names the persons."""
    if subject in patients.table.columns:
        manifests.refuse_nobody(patients.table, patients.file, subject)
        of, source = patients.values(subject), f"column {subject} of {patients.file.name}"
    elif listing.subject is not None or patients.keyword != "PatientID":
        return listing
    else:
        of = {name: name for name in patients.rows}
        if match.location.kind == "header":
            of = {name: conceal(spelling) for name, spelling in match.spellings().items()}
            issued = _identity(listing).issued()  # so that a run without the table knows them by the same hashes
            of = {name: issued.get(hidden, hidden) for name, hidden in of.items()}
        source = f"{patients.id_column} of {patients.file.name}, by {match.location.name}"
    return replace(listing, subject=texts(of[name] for name in names), subject_source=source)


def _identity(listing: Listing) -> HeaderIdentity:
    """The persons of files by their headers."""
    columns = [{} if isinstance(contents, str) else contents.columns for contents in listing.opened or ()]
    subject, patient, spelling, study = (
        texts(of.get(name, ("",))[0] for of in columns) for name in ("subject", "patient", "spelling", "study")
    )
    return HeaderIdentity(subject, patient, spelling, study)


def _describe_join(patients: PatientTable, best: IdMatch) -> tuple[str, bool]:
    """Sentence on how the table was joined, and whether all of it and all files were."""
    ids, files = len(patients.rows), len(best.ids)
    sentence = (
        f"{patients.file.name} was joined by {best.location.name}: {best.persons:,} of {count_of(ids, 'id')} have scans, "
        f"{best.files:,} of {count_of(files, 'file')} a row."
    )
    return sentence, (best.persons, best.files) == (ids, files)


def _remarks(patients: PatientTable, matches: Sequence[IdMatch], best: IdMatch) -> list[str]:
    """Sentences on what does not agree between the table and the files."""
    table, remarks = patients.file.name, list[str]()
    if best.respelt:
        remarks.append(
            f"{table} writes the ids of {count_of(best.respelt, 'file')} otherwise, by case, leading zeros or a final .0; they were "
            "taken for the same."
        )
    for other in matches:
        disagree = sum(bool(a and b and a != b) for a, b in zip(best.ids, other.ids, strict=True))
        if disagree and other.location.kind != "path":
            where = f"{other.location.name} give {count_of(disagree, 'file')} another row of {table}"
            remarks.append(f"{where[0].upper()}{where[1:]}: check whose they are.")
    several = sum(len(of) > 1 for of in patients.rows.values())
    if several:
        remarks.append(
            f"{table}: {count_of(several, 'id')} {'has' if several == 1 else 'have'} several rows; values in which these differ were "
            "left blank."
        )
    return remarks


def _id_column(file: Path, columns: Sequence[str], wanted: str) -> str:
    if wanted:
        if wanted not in columns:
            raise DataError(
                f"{file} has no column {wanted!r}; it has {', '.join(columns)}.{did_you_mean(wanted, columns)}"
            )
        return wanted
    named = {_bare(name): name for name in reversed(columns)}
    column = next((named[name] for name in ID_NAMES if name in named), "")
    if not column:
        raise DataError(
            f"Which column of {file} holds the ids of patients is not clear; it has {', '.join(columns)}. Name it: --id COLUMN."
        )
    return column


def _bare(name: str) -> str:
    return "".join(words_of(name))
