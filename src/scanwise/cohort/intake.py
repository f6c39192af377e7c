"""A folder, manifest or URL of scans, read into a Cohort and the Store of its pixels."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from scanwise.cohort import classes, gathering, layouts, pseudonymised_paths, remote, slice_expansion, store
from scanwise.cohort.decoding.remote_files import is_remote
from scanwise.cohort.decoding.slice_names import file_of_scan, split_slice
from scanwise.cohort.empty_ends import empty_end_findings
from scanwise.cohort.listing import Listing, first, texts
from scanwise.cohort.store import Store
from scanwise.cohort.veil import OPEN, Veil
from scanwise.errors import DataError
from scanwise.phrases import none_readable
from scanwise.pooling import join_subjects, rows_alike
from scanwise.recipe import Recipe
from scanwise.records import Cohort, Finding, IntArray, StrArray
from scanwise.workers import OWN_PROCESS, Workers

LABEL = "label"
"""Group column of the labels as found, where the recipe merges several into one class."""
AUTO = "auto"
"""Stands for the subjects where the data names none and the pixels may show them."""
NAMING = (
    "Name the subjects with --subject (a column, a CSV of path,subject, or a pattern over the path). If you know that each file "
    "is of another subject, say so: --subject '(.+)'."
)


@dataclass(frozen=True, slots=True)
class LoadedCohort:
    """The scans that were read.

    Attributes:
        cohort: the scans that can be used.
        store: their pixels, in the same order.
        quarantine: (path, reason) of every file that cannot be.
        findings: what a reader must know about the data.
        veil: over persons' names, for what else is written.
        source: where the data is, as it may be shown.
    """

    cohort: Cohort
    store: Store
    quarantine: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    veil: Veil
    source: str


def read_cohort(
    data: str,
    recipe: Recipe,
    subject: str = "",
    *,
    pseudonymise: bool = False,
    bare: bool = False,
    progress: bool = False,
    workers: Workers = OWN_PROCESS,
) -> LoadedCohort:
    """Read the scans that `data` (a folder, a manifest, or an fsspec URL of one) holds.

    Files that cannot be read are listed in the quarantine and the rest goes on. With `pseudonymise` the cohort knows
    its scans and subjects by keyed hashes alone, and no word that names a person. With `bare` one class is enough, and a folder of files without
    classes has that one. `AUTO` as `subject` says no more than nothing does. The scans are decoded by `workers`.

    Raises:
        DataError: if nothing, or one class only, can be read; with what to do.
    """
    away = is_remote(data)
    path = remote.mirror_folder(data, progress=progress) if away else layouts.resolve_data(data)
    who = "" if subject == AUTO else subject
    listing = gathering.gather_files(path, recipe.data, who, anywhere=not away, bare=bare, progress=progress)
    listing = listing.with_similar_ids(show=not pseudonymise)
    veil = Veil.of(listing) if pseudonymise else OPEN
    listing, recipe = veil.listing(listing), veil.recipe(recipe)
    mapping = classes.resolve_classes(listing.label, recipe, least=1 if bare else 2)
    used = np.flatnonzero(mapping.labels >= 0)
    scans, files = slice_expansion.expand_slices(listing.take(used), recipe.data, progress=progress)
    if refusal := layouts.describe_patient_folders(scans):
        raise DataError(refusal)
    if pseudonymise:
        scans = pseudonymised_paths.pseudonymise_listing(scans)
    labels = mapping.labels[used][files]
    pixels, refused = store.build_store(scans.root, scans.path, recipe.data, progress=progress, workers=workers)
    kept = store.kept_rows(scans.path, refused)
    quarantine = (*refused.items(), *scans.unused)
    if not len(kept):
        raise DataError(
            f"{none_readable(len(used), f' in {data}')} ({_reasons(dict(quarantine))}). Nothing was written."
        )
    for index, name in enumerate(mapping.names):
        if not (labels[kept] == index).any():
            raise DataError(
                f"No scan of the class {name!r} can be read ({_reasons(dict(quarantine))}). Repair or remove it."
            )
    root = data.rstrip("/") if away and not pseudonymise else str(scans.root)
    scans = scans.take(kept)
    if classes.gathers_labels(recipe):  # the class alone no longer tells which label a scan had
        scans = replace(scans, groups={**scans.groups, LABEL: scans.label})
    cohort = _cohort(scans, root, mapping, labels[kept], pixels)
    findings = tuple(_findings(cohort, scans, mapping, quarantine))
    return LoadedCohort(cohort, pixels, quarantine, findings, veil, veil.source(data))


def _cohort(scans: Listing, root: str, mapping: classes.Classes, labels: IntArray, pixels: Store) -> Cohort:
    subject = scans.subject
    if subject is None or (subject == "").any():  # one header without a person, and no other is certain
        subject = None
    return Cohort(
        root=root,
        path=scans.path,
        labels=labels,
        classes=mapping.names,
        ordered=mapping.ordered,
        subject=_stand_ins(scans, pixels) if subject is None else subject,
        subject_source="" if subject is None else scans.subject_source,
        sha256=pixels.sha256,
        pixels=pixels.digest,
        groups=scans.groups,
        text=scans.text,
        given=scans.given,
        spelling=None if (scans.label == np.array(mapping.names)[labels]).all() else scans.label,
    )


def _stand_ins(scans: Listing, pixels: Store) -> StrArray:
    """(N,) subjects where not all are known: each file stands for a person, but for those that are certainly of one.

    These have identical pixels, or one subject or study of those that are known.
    """
    sliced = [split_slice(scans.root / path)[1] is not None for path in scans.path.tolist()]
    files = zip(scans.path.tolist(), sliced, strict=True)
    names = texts(file_of_scan(path) if is_slice else path for path, is_slice in files)
    if scans.subject is not None:
        names = np.where(scans.subject == "", names, scans.subject)
    same = [rows_alike(values) for values in (pixels.digest, scans.study) if values is not None]
    return join_subjects(names, np.concatenate(same))


def _findings(
    cohort: Cohort, scans: Listing, mapping: classes.Classes, quarantine: tuple[tuple[str, str], ...]
) -> list[Finding]:
    findings = [Finding("cohort.listing", "warning", remark) for remark in scans.remarks]
    findings += [Finding("cohort.listing", "note", note) for note in scans.notes]
    if not cohort.subjects_known:
        message = "No subject is known"
        if scans.subject is not None:
            absent = int((scans.subject == "").sum())
            message = f"{absent} of {len(scans)} scans have no PatientID in their headers, so no subject is known"
        message += (
            f": each file counts as a subject of its own, and leakage between the sides cannot be excluded. {NAMING}"
        )
        findings.append(Finding("cohort.subjects", "warning", message))
    if quarantine:
        message = f"{len(quarantine)} files are not used ({_reasons(dict(quarantine))}); see quarantine.csv."
        findings.append(Finding("cohort.quarantine", "warning", message, tuple(path for path, _ in quarantine[:50])))
    findings += empty_end_findings(cohort)
    if mapping.merged:
        spellings = [f"{' and '.join(map(repr, labels))} as {name!r}" for name, labels in mapping.merged.items()]
        message = (
            f"Labels that were taken for one class: {first(spellings, 8)}. If they are different classes, name them in full, or "
            "list them under `classes:` in the recipe."
        )
        findings.append(Finding("cohort.merged", "warning", message))
    if mapping.left_out:
        message = f"The recipe uses no scans with the labels {', '.join(mapping.left_out)}."
        findings.append(Finding("cohort.labels", "note", message))
    if not cohort.ordered and len(cohort.classes) > 2:
        message = f"The classes have no known order ({', '.join(cohort.classes)}); nothing treats them as stages."
        findings.append(Finding("cohort.order", "note", message))
    return findings


def _reasons(refused: dict[str, str]) -> str:
    counted = Counter(reason.split(":")[0] for reason in refused.values())
    return "; ".join(f"{count} × {reason}" for reason, count in counted.most_common(3))
