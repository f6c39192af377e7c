"""Predictions for new files, with the bundle of a run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from scanwise import bundle
from scanwise.bundle.inputs import EXPANDED, FileReader
from scanwise.bundle.mapping import ShardMap, map_in_memory
from scanwise.cohort import gathering, layouts, pseudonymised_paths, slice_expansion
from scanwise.cohort.decoding.pixels import Source
from scanwise.cohort.decoding.remote_files import is_remote
from scanwise.cohort.listing import Listing, first
from scanwise.cohort.patient_tables import PatientTable
from scanwise.cohort.remote_tables import table_here
from scanwise.cohort.veil import Veil
from scanwise.errors import DataError
from scanwise.phrases import count_of, none_readable
from scanwise.pipeline.context import resolve_device
from scanwise.pipeline.stages.bags import people_of_files
from scanwise.progress_bar import with_one_bar
from scanwise.records import Predictions
from scanwise.records.names import label_key


@with_one_bar
def predict_files(
    model: Path | bundle.Bundle,
    scans: Sequence[Path | str],
    *,
    manifest: Path | str | None = None,
    subject: str = "",
    id_column: str = "",
    series: str = "",
    device: str = "auto",
    threads: int = 0,
    pseudonymise: bool = False,
    progress: bool = False,
    shards: ShardMap = map_in_memory,
) -> bundle.BundlePredictions:
    """Predict files, folders of files, or the rows of a manifest, with the bundle of a run.

    Args:
        model: a run folder or a bundle, or one that is open.
        scans: files and folders, or fsspec URLs of them, which are read where they lie.
        manifest: a table in their place, or the URL of one.
        subject: as in `fit`, a patient table included.
        id_column: of that table.
        series: pattern over the series description; files of other series, and localizers, are set aside.
        device: as in `fit`.
        threads: as in `fit`.
        pseudonymise: scans and subjects are named by keyed hashes.
        progress: show bars.
        shards: asks the network, a shard at a time.

    Raises:
        DataError: if there is nothing to predict, or nothing that can be read.
    """
    loaded = model if isinstance(model, bundle.Bundle) else bundle.load(model)
    listing = list_scans_to_predict(
        loaded, scans, manifest=manifest, subject=subject, id_column=id_column, series=series,
        pseudonymise=pseudonymise, progress=progress,
    )  # fmt: skip
    device = device_of(loaded, device, threads)
    outputs = outputs_of_listing(loaded, listing, listing.sources(), device=device, progress=progress, shards=shards)
    return predict_listings(loaded, [(listing, outputs)])[0]


def list_scans_to_predict(
    loaded: bundle.Bundle,
    scans: Sequence[Path | str],
    *,
    manifest: Path | str | None = None,
    subject: str = "",
    id_column: str = "",
    series: str = "",
    pseudonymise: bool = False,
    progress: bool = False,
) -> Listing:
    """List the scans of files, of which headers are read and no pixels; arguments and errors as in `predict_files`."""
    own = {"patients": "", "label": "", "id": id_column, "series": series}  # those of the run are of its own data
    settings = loaded.recipe.data.model_copy(update=own)
    with table_here(subject) as subjects:
        table = gathering.patient_table(settings, subjects)
        files = layouts.list_unlabelled(scans, manifest, "" if table else subjects)
        if table:
            patients = PatientTable.read(layouts.resolve_data(table), id_column)
            files = gathering.with_patients(files, patients, settings, progress=progress)
    files = gathering.with_series(files, settings, progress=progress)
    if pseudonymise and any(map(is_remote, files.path.tolist())):
        raise DataError(
            "Scans at a URL cannot be pseudonymised: nothing of them is kept here. Copy them, or leave it out."
        )
    if pseudonymise:
        files = pseudonymised_paths.pseudonymise_listing(Veil.of(files).listing(files))
    listing, _ = slice_expansion.expand_slices(files, settings, progress=progress)
    if not len(listing):
        raise DataError(f"{none_readable(len(files))}; the first: {', '.join(listing.unused[0])}.")
    return listing


def outputs_of_listing(
    loaded: bundle.Bundle,
    listing: Listing,
    sources: Sequence[Source],
    *,
    files: FileReader = EXPANDED,
    device: str = "cpu",
    progress: bool = False,
    shards: ShardMap = map_in_memory,
) -> bundle.NetworkOutputs:
    """Network outputs for the scans of a listing whose files were opened and expanded.

    Args:
        loaded: the bundle.
        listing: a row a scan.
        sources: of the scans.
        files: decodes them.
        device: where the network runs.
        progress: show bars.
        shards: asks the network, a shard at a time.

    Raises:
        DataError: if nothing can be read.
    """
    subjects = None
    if listing.subject is not None and bool((listing.subject != "").any()):
        subjects = listing.subject.tolist()
    names = listing.path.tolist()
    people = people_of_files(loaded.recipe, names, subjects)
    words = None if listing.text is None else listing.text.tolist()
    given = bundle.GivenScans(sources, names, people, listing.groups, words)
    return loaded.outputs_of(given, device=device, progress=progress, files=files, shards=shards)


def predict_listings(
    loaded: bundle.Bundle, outputs: Sequence[tuple[Listing, bundle.NetworkOutputs]]
) -> list[bundle.BundlePredictions]:
    """Answers to several listings, each as if it were alone."""
    answers = loaded.predict_outputs([own for _, own in outputs])
    return [_with_listing(loaded, listing, own) for (listing, _), own in zip(outputs, answers, strict=True)]


def _with_listing(
    loaded: bundle.Bundle, listing: Listing, predictions: bundle.BundlePredictions
) -> bundle.BundlePredictions:
    """Answers with what must be known of their listing."""
    remarks = (
        *listing.notes,
        *listing.remarks,
        *predictions.remarks,
        *_by_subject(loaded, predictions),
        *_new_kinds(loaded, predictions.scans),
        *_disagreement(loaded, predictions),
    )
    unread = (*predictions.quarantine, *listing.unused)
    return replace(predictions, quarantine=unread, remarks=remarks, root=listing.root)


def device_of(loaded: bundle.Bundle, device: str, threads: int) -> str:
    """The device that a model runs on; an exported one needs no torch to tell."""
    if loaded.exported is None:
        return resolve_device(device, threads)
    if threads:
        loaded.exported.cores = threads
    return "cpu" if device == "auto" else device


def _new_kinds(loaded: bundle.Bundle, scans: Predictions) -> list[str]:
    """A remark on each column whose value for some scans no scan of training had."""
    remarks = []
    for column, taught in loaded.about.get("groups", {}).items():
        values = scans.groups.get(column, np.empty(0, np.str_))
        keys = {label_key(kind) for kind in taught}
        new = np.array([bool(value) and label_key(value) not in keys for value in values.tolist()])
        if new.any():
            kinds = np.unique(values[new]).tolist()
            remarks.append(
                f"No scan of training had the {column} of {count_of(int(new.sum()), 'scan')} here ({first(kinds)}); training "
                f"had {first(taught, 8)}. Do not rely on their probabilities and prediction sets."
            )
    return remarks


def _by_subject(loaded: bundle.Bundle, predictions: bundle.BundlePredictions) -> list[str]:
    """A remark on the rows of scans, of a network that was trained with one label a subject."""
    if not loaded.recipe.model.by_subject:
        return []
    if predictions.subjects is None:
        return [
            "This network answers for subjects, and whose scans these are is not known: each was taken for a subject with one scan. "
            "Give --subject, or a manifest with that column."
        ]
    return [
        "This network answers for subjects: the row of a scan is its answer to that scan alone. Quote the row of the subject."
    ]


def _disagreement(loaded: bundle.Bundle, predictions: bundle.BundlePredictions) -> list[str]:
    """A remark on subjects whose class is not that of all their scans; nothing where there are none."""
    scans, subjects = predictions.scans, predictions.subjects
    if subjects is None or loaded.recipe.model.by_subject:
        return []
    of_subject = dict(zip(subjects.subjects.tolist(), subjects.predicted.tolist(), strict=True))
    scan_classes = zip(scans.subjects.tolist(), scans.predicted.tolist(), strict=True)
    differing = {name for name, predicted in scan_classes if name and of_subject[name] != predicted}
    if not differing:
        return []
    return [
        f"{count_of(len(differing), 'subject')} of {len(subjects):,} {'has' if len(differing) == 1 else 'have'} another class "
        f"than some of {'its' if len(differing) == 1 else 'their'} own scans: the row of a subject is the answer to all its "
        f"scans together (pooling: {loaded.predictors['subject'].pooling}), with a calibration of its own. Quote that row."
    ]
