"""Files with labels and persons, out of what a user names: a layout, a patient table joined to it, and series chosen of it."""

from functools import cache
from pathlib import Path

from scanwise.cohort import layouts
from scanwise.cohort.listing import Listing
from scanwise.cohort.patient_tables import PatientTable, is_patient_table, join_patients
from scanwise.cohort.pseudonyms import Pseudonyms
from scanwise.cohort.remote_tables import table_here
from scanwise.cohort.series import choose_series
from scanwise.cohort.slice_expansion import open_files
from scanwise.errors import DataError, did_you_mean
from scanwise.recipe import Data


def gather_files(
    path: Path,
    settings: Data,
    subject: str = "",
    *,
    anywhere: bool = True,
    bare: bool = False,
    clear: bool = False,
    progress: bool = False,
) -> Listing:
    """List the files of a cohort.

    Args:
        path: as in `layouts.discover_scans`, and so are `anywhere` and `bare`.
        settings: `label`, `patients`, `id` and `series` say where labels and persons are, and which series to use.
        subject: as in `layouts.discover_scans`; or a patient table, or one of its columns.
        clear: persons of headers stand in the clear, and not as keyed hashes.
        progress: show bars.

    Raises:
        DataError: with what to change.
    """
    with table_here(subject) as subjects, table_here(settings.patients) as patients:
        table = patient_table(settings.model_copy(update={"patients": patients}), subjects)
        if table:
            who = "" if table == subjects else subjects
            listing = _with_patients(path, layouts.resolve_data(table), settings, who, anywhere, bare, clear, progress)
        else:
            listing = layouts.discover_scans(path, subjects, settings.label, anywhere=anywhere, bare=bare)
    return with_series(listing, settings, clear=clear, progress=progress)


def patient_table(settings: Data, subject: str) -> str:
    """The patient table that the settings or the subjects name, or "".

    Raises:
        DataError: if both do.
    """
    if not is_patient_table(subject):
        return settings.patients
    if settings.patients:
        raise DataError(f"{settings.patients} and {subject} are both patient tables. Give one, with --patients.")
    return subject


def with_series(listing: Listing, settings: Data, *, clear: bool = False, progress: bool = False) -> Listing:
    """The files of the series that the settings choose; all where they choose none."""
    if not settings.series:
        return listing
    return choose_series(open_files(listing, settings, clear=clear, progress=progress), settings.series, show=clear)


def with_patients(
    listing: Listing,
    patients: PatientTable,
    settings: Data,
    column: str = "",
    *,
    clear: bool = False,
    progress: bool = False,
) -> Listing:
    """The files with what a patient table says of their persons; `column` of it names these where the id does not."""
    pseudonyms = cache(Pseudonyms.load)

    def hash_person(name: str) -> str:  # as a header with this PatientID and no issuer
        return pseudonyms()("subject", f"\0{name}")

    opened = open_files(listing, settings, clear=clear, progress=progress)
    return join_patients(opened, patients, column, str if clear else hash_person)


def _with_patients(
    path: Path, file: Path, settings: Data, subject: str, anywhere: bool, bare: bool, clear: bool, progress: bool
) -> Listing:
    patients = PatientTable.read(file, settings.id, settings.label)
    column = subject if subject in patients.table.columns else ""
    if settings.label and not patients.label_column and path.is_dir() and not settings.label.startswith("folder "):
        columns = [str(name) for name in patients.table.columns]
        raise DataError(
            f"{file} has no column {settings.label!r}; it has {', '.join(columns)}.{did_you_mean(settings.label, columns)}"
        )
    listing = layouts.discover_scans(
        path,
        "" if column else subject,
        settings.label,
        anywhere=anywhere,
        bare=bare,
        labelled=not patients.label_column,
    )
    joined = with_patients(listing, patients, settings, column, clear=clear, progress=progress)
    layouts.check_given(joined)
    return joined
