"""The manifest that scanwise understood, for people to check, edit and feed back."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scanwise import run
from scanwise.cohort import gathering, header_subjects, layouts, pseudonymised_paths, remote, slice_expansion
from scanwise.cohort.decoding.remote_files import is_remote
from scanwise.cohort.layouts import folders, manifests
from scanwise.cohort.listing import Listing, first, texts
from scanwise.cohort.series import describe_series
from scanwise.cohort.table_files import check_table_name
from scanwise.cohort.veil import Veil
from scanwise.csv_files import write_csv
from scanwise.errors import DataError
from scanwise.phrases import count_of, none_readable
from scanwise.recipe import Data, load_recipe
from scanwise.records import IntArray


@dataclass(frozen=True, slots=True)
class ManifestResult:
    """The manifest that was written.

    Attributes:
        manifest: the table.
        quarantine: the table of files that are not in it, or None where all are.
        scans: the rows of the manifest.
        files: how many files they lie in.
    """

    manifest: Path
    quarantine: Path | None
    scans: Listing
    files: int

    @property
    def summary(self) -> str:
        """Counts of scans, files, subjects and labels, in one line."""
        scans = self.scans
        labels = [f"{label or '(none)'} {count:,}" for label, count in sorted(Counter(scans.label.tolist()).items())]
        people = f"{len(set(scans.subject.tolist())):,}" if scans.subject is not None else "unknown"
        source = f" ({scans.subject_source})" if scans.subject is not None else ""
        columns = f"; columns: {', '.join(scans.groups)}" if scans.groups else ""
        return f"{count_of(len(scans), 'scan')} in {count_of(self.files, 'file')}; subjects: {people}{source}; labels: {first(labels, 12)}{columns}"


def make_manifest(
    data: str | Path,
    out: Path,
    *,
    source: str = "",
    settings: tuple[str, ...] = (),
    subject: str = "",
    pseudonymise: bool = False,
    progress: bool = False,
) -> ManifestResult:
    """Write the scans of a cohort as a table that leads to the same cohort again; no pixels are read.

    Args:
        data: folder, manifest or fsspec URL. A folder without class folders gives an empty label to fill in.
        out: the table; its name ends in .csv, .tsv, .parquet or .xlsx.
        source: the recipe whose `data` section says how volumes are cut; default: the defaults of a recipe.
        settings: `data.axis=coronal` and the like, laid over it.
        subject: as for `fit`.
        pseudonymise: put keyed hashes in place of subjects and of names in paths; on this machine the table leads to
            the scans all the same. Without it, PatientIDs of headers stand in the clear.
        progress: show bars.

    Raises:
        DataError: if nothing can be listed.
    """
    check_table_name(out)
    section = load_recipe(source or "demo", settings).data
    away = is_remote(str(data))
    path = remote.mirror_folder(str(data), progress=progress) if away else layouts.resolve_data(str(data))
    clear = not pseudonymise
    listing = _list(path, section, subject, anywhere=not away, clear=clear, progress=progress)
    listing = listing.with_similar_ids(show=clear)
    if pseudonymise:
        listing = Veil.of(listing).listing(listing)
    listing = slice_expansion.open_files(listing, section, clear=clear, progress=progress)
    scans, rows = slice_expansion.expand_slices(listing, section)
    if layouts.describe_patient_folders(scans):
        remark = "The folders look like patients and not like classes, so no label is known: fill in that column."
        scans = replace(
            scans,
            label=texts("" for _ in range(len(scans))),
            remarks=(*(() if pseudonymise else scans.remarks), remark),
            notes=() if pseudonymise else scans.notes,
        )
    if pseudonymise:
        scans = pseudonymised_paths.pseudonymise_listing(scans)
    else:
        scans = _with_descriptions(header_subjects.spell_out(scans), listing, rows)
    if scans.subject is not None and (scans.subject == "").any():
        remark = "Some headers name no patient, so the table has no subjects; fill in that column yourself."
        scans = replace(scans, subject=None, subject_source="", remarks=(*scans.remarks, remark))
    if not len(scans):
        raise DataError(f"{none_readable(len(listing), f' in {data}')}; the first: {': '.join(scans.unused[0])}.")
    with run.writing(out) as temporary:
        manifests.write_manifest(scans, temporary, out)
    return ManifestResult(out, _write_unused(scans, out), scans, len(np.unique(rows)))


def _with_descriptions(scans: Listing, files: Listing, rows: IntArray) -> Listing:
    """The scans with the description of their series, by which series are chosen."""
    descriptions = [describe_series(contents) for contents in files.opened or ()]
    if not any(descriptions) or "series_description" in scans.groups:
        return scans
    return replace(
        scans, groups={**scans.groups, "series_description": texts(descriptions[row] for row in rows.tolist())}
    )


def _list(root: Path, settings: Data, subject: str, *, anywhere: bool, clear: bool, progress: bool) -> Listing:
    """The labelled scans; of a folder of loose files, these without labels."""
    options: dict[str, Any] = {"clear": clear, "progress": progress}
    if gathering.patient_table(settings, subject) or not root.is_dir() or folders.tops(folders.descend(root)):
        return gathering.gather_files(root, settings, subject, anywhere=anywhere, **options)
    listing = layouts.list_unlabelled([root], None, subject)
    below = len(str(root)) + 1
    loose = replace(
        listing,
        root=root,
        path=texts(path[below:] for path in listing.path.tolist()),
        unused=tuple((path[below:], reason) for path, reason in listing.unused),
        remarks=("There are no class folders, so no label is known: fill in that column.",),
    )
    return gathering.with_series(loose, settings, **options)


def _write_unused(scans: Listing, out: Path) -> Path | None:
    path = out.with_name(f"{out.stem}.quarantine.csv")
    if not scans.unused:
        path.unlink(missing_ok=True)  # of an earlier time
        return None
    write_csv(("path", "reason"), scans.unused, path)
    return path
