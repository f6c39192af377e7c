"""A finished run on other people: everything frozen, nothing re-tuned, and what recalibrating with some of them would give."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scanwise import bundle, cohort, evaluation, registration, run
from scanwise.auditing.duplicates import SAME_SCAN
from scanwise.bundle import Bundle
from scanwise.cohort import layouts, remote, splits
from scanwise.cohort.classes import match_labels
from scanwise.cohort.decoding.remote_files import is_remote
from scanwise.csv_files import write_csv, write_table
from scanwise.errors import DataError, LeakageError, ScanwiseError
from scanwise.evaluation import shift
from scanwise.pipeline.commands.recalibration import recalibration_curve
from scanwise.pipeline.context import resolve_device
from scanwise.pipeline.stages.audit import audit_pixels
from scanwise.pipeline.stages.bags import check_people_known
from scanwise.pipeline.stages.copy_cache import find_copies_once
from scanwise.pipeline.stages.operating_points import validation_predictions
from scanwise.pooling import common_label
from scanwise.progress_bar import with_one_bar
from scanwise.recipe import Recipe, with_settings
from scanwise.records import (
    METRIC_COLUMNS,
    Cohort,
    Finding,
    Metric,
    Predictions,
    Split,
    StrArray,
    save_findings,
    save_metrics,
)
from scanwise.records.names import subject_key
from scanwise.reporting import external_page as page
from scanwise.reporting import tables
from scanwise.reporting.wording import FEW, counted
from scanwise.run import RunFolder, layout

EXTERNAL = "external"
LEARNING_SIDES = ("train", "validation", "calibration")
"""Sides of the run whose scans may not come back in an external validation."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ExternalValidation:
    """The results of a run on other people.

    Attributes:
        source: where they are from.
        scans: answers by scan, with labels.
        subjects: answers by subject, or None where nobody is known.
        own: metrics of the run's own test answers, by the unit of `main`.
        metrics: with the split `external`.
        drift: rows of `shift.drift`.
        recalibration: rows of `recalibrating.learning_curve`.
        transport: the run's thresholds, on its validation side and here.
        findings: what a reader must know.
        quarantine: (path, reason) of files that cannot be read.
        guaranteed: coverage that the prediction sets guarantee, 0 where there were too few people for any; None without sets.
    """

    source: str
    scans: Predictions
    subjects: Predictions | None
    own: tuple[Metric, ...]
    metrics: tuple[Metric, ...]
    drift: tuple[Row, ...]
    recalibration: tuple[Row, ...]
    transport: tuple[Row, ...]
    findings: tuple[Finding, ...]
    quarantine: tuple[tuple[str, str], ...]
    guaranteed: float | None

    @property
    def main(self) -> Predictions:
        """By subject where they are known."""
        return self.scans if self.subjects is None else self.subjects


@with_one_bar
def validate_externally(
    path: Path,
    *,
    data: str,
    subject: str = "",
    settings: Sequence[str] = (),
    draws: int = 2000,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 0,
    pseudonymise: bool = False,
    accept_copies: bool = False,
    progress: bool = False,
) -> ExternalValidation:
    """Judge the bundle of a run on other people's scans.

    Args:
        place: the run folder.
        data: folder, manifest or URL of the other scans, with labels.
        subject: their subjects, as in `fit`.
        settings: `data.label=COLUMN` and the like: where their labels and persons are, and which series to use.
        draws: behind each interval.
        seed: of the draws.
        device: where the network runs, as in `fit`.
        threads: for the CPU; 0 leaves the choice to torch.
        pseudonymise: keyed hashes in place of names, as in `fit`.
        accept_copies: say changed copies of scans that the run learnt from, and go on: for eyes that have looked.
        progress: show bars.

    Raises:
        LeakageError: if scans that the run learnt from are among them.
        DataError: if no class of theirs is one of the run's, or nothing can be read.
    """
    folder = RunFolder.open(path)
    if not is_remote(data):
        layouts.resolve_data(data)  # a mistyped path is refused before the network is loaded
    loaded = bundle.load(path)
    others, findings, quarantine, source = _read(loaded, data, subject, settings, pseudonymise, progress)
    check_people_known(loaded.recipe, others)
    fit = folder.fit(str(loaded.about["protocol"]), int(loaded.about["fold"]))
    learnt = _learnt(Cohort.load(folder.cohort), Split.load(fit.split))
    findings += check_training_overlap(learnt, others, accept_copies=accept_copies, progress=progress)
    scans, subjects, refused = _answer(loaded, others, resolve_device(device, threads), progress)
    main = scans if subjects is None else subjects
    findings += _few(main)
    before = tables.read_predictions(
        folder.tables_of(fit.protocol) / (layout.PREDICTIONS if subjects is None else layout.PREDICTIONS_SUBJECT)
    )
    shared: dict[str, Any] = {"draws": draws, "confidence": loaded.recipe.evaluation.confidence, "seed": seed}
    ordered = bool(loaded.about["ordered"])
    ratings = bundle.cdr_by_class(loaded.recipe, loaded.classes)
    metrics: list[Metric] = []
    units = [scans, *([subjects] if subjects is not None else [])]
    for predictions in units[-1:] if loaded.recipe.model.by_subject else units:
        metrics += evaluation.measure_predictions(
            predictions, subjects=predictions.subjects, ordered=ordered, ratings=ratings, **shared
        )
        metrics += evaluation.break_down(predictions, **shared)
    metrics += shift.calibration_intercepts_and_slopes(main, confidence=shared["confidence"], seed=seed)
    sets = loaded.predictors[main.unit].sets
    chosen = validation_predictions(fit)[0 if subjects is None else 1] if fit.logits("validation").is_file() else None
    return ExternalValidation(
        source=source,
        scans=scans,
        subjects=subjects,
        own=tuple(
            evaluation.measure_predictions(
                before,
                subjects=before.subjects,
                ordered=ordered,
                ratings=ratings,
                by_class=False,
                names=page.SIDE_BY_SIDE,
                **shared,
            )
        ),
        metrics=tuple(replace(m, split=EXTERNAL, protocol=fit.protocol, fold=fit.fold) for m in metrics),
        drift=tuple(shift.measure_drift(before, main, **shared)),
        recalibration=tuple(recalibration_curve(main, alpha=None if sets is None else sets.alpha, seed=seed)),
        transport=() if chosen is None else tuple(evaluation.transfer_thresholds(chosen, main, **shared)),
        findings=tuple(findings),
        quarantine=(*quarantine, *refused),
        guaranteed=None if sets is None else sets.coverage,
    )


def _read(
    loaded: Bundle, data: str, subject: str, settings: Sequence[str], pseudonymise: bool, progress: bool
) -> tuple[Cohort, list[Finding], list[tuple[str, str]], str]:
    """The other scans under the run's classes, findings, quarantine and source; labels that the run does not know are left out."""
    own = {"patients": "", "id": "", "series": ""}  # of the run's data
    if loaded.recipe.data.patients:
        own["label"] = ""
    bare = Recipe(name=loaded.recipe.name, data=loaded.recipe.data.model_copy(update=own))  # any classes, in no order
    free = with_settings(bare, settings)
    intake = cohort.read_cohort(data, free, subject, pseudonymise=pseudonymise, bare=True, progress=progress)
    findings = [finding for finding in intake.findings if finding.check != "cohort.order"]
    findings += splits.label_change_findings(intake.cohort)
    meant = match_labels(intake.cohort.classes, loaded.recipe, loaded.classes)
    if not meant:
        raise DataError(
            f"None of the labels in {data} ({', '.join(intake.cohort.classes)}) is a class of this run "
            f"({', '.join(loaded.classes)}). Rename the folders, or the values of the label column."
        )
    index_by_class = {name: index for index, name in enumerate(loaded.classes)}
    index = np.array([index_by_class.get(meant.get(name, ""), -1) for name in intake.cohort.classes])
    labels = index[intake.cohort.labels]
    relabelled = replace(intake.cohort, labels=labels, classes=loaded.classes).take(labels >= 0)
    unknown_labels = sorted(set(intake.cohort.classes) - set(meant))
    if unknown_labels:
        text = f"The run knows no class {', '.join(unknown_labels)}: {int((labels < 0).sum()):,} scans were left out."
        findings.append(Finding("external.labels", "warning", text))
    absent = [name for name in loaded.classes if name not in set(meant.values())]
    if absent:
        text = (
            f"No scan here has {', '.join(absent)}: it has no sensitivity, is left out of means over classes, and nothing "
            "is learnt of how the run does on it."
        )
        findings.append(Finding("external.classes", "warning", text))
    return relabelled, findings, list(intake.quarantine), intake.source


def _few(predictions: Predictions) -> list[Finding]:
    people = len(np.unique(predictions.subjects))
    if people >= FEW:
        return []
    text = f"Only {counted(people, 'subject')} here: below {FEW}, intervals are wide and rough; read figures as a hint."
    return [Finding("external.few", "warning", text)]


def _learnt(cohort: Cohort, split: Split) -> Cohort:
    return cohort.take(np.isin(split.side, LEARNING_SIDES))


def check_training_overlap(
    learnt: Cohort, other: Cohort, *, accept_copies: bool = False, progress: bool = False
) -> list[Finding]:
    """Say what could be checked, after refusing scans that the run learnt from: same files, same pixels, changed copies.

    Raises:
        LeakageError: naming the first of them.
    """
    same = np.isin(other.sha256, learnt.sha256) | ((other.pixels != "") & np.isin(other.pixels, learnt.pixels))
    _refuse(other.path[same], len(other), "are scans that this run learnt from, file by file or pixel by pixel")
    findings: list[Finding] = []
    both = other.subjects_known and learnt.subjects_known
    taught = set(map(subject_key, set(learnt.subject.tolist()))) if both else set()
    shared = [name for name in np.unique(other.subject).tolist() if subject_key(name) in taught]
    if len(shared):
        text = (
            f"{len(shared)} subjects here have names that subjects of the run have ({', '.join(shared[:3])}, …). "
            "If they are the same people, these figures are not external."
        )
        findings.append(Finding("external.subjects", "warning", text))
    try:
        other_pixels, learnt_pixels = (audit_pixels(cohort, progress=progress) for cohort in (other, learnt))
    except (ScanwiseError, OSError):
        text = (
            "The scans that the run learnt from are not where they were, so only exact copies could be looked for, by hash. "
            "Turned or brightened copies among these scans would go unseen."
        )
        return [*findings, Finding("external.copies", "warning", text)]
    pixels = np.concatenate([learnt_pixels, other_pixels]).reshape(-1, *learnt_pixels.shape[1:3])
    vectors = registration.descriptors(registration.reduce_to_thumbnails(pixels))
    alike = (
        registration.nearest_neighbours(vectors[len(learnt_pixels) :], vectors[: len(learnt_pixels)], 1)[1][:, 0]
        >= SAME_SCAN
    )
    _refuse(other.path[alike], len(other), "look just like scans that this run learnt from")
    searched = find_copies_once(
        pixels, np.repeat(["learnt", EXTERNAL], [len(learnt_pixels), len(other_pixels)]), EXTERNAL
    )
    pairs = searched.rows
    across = pairs[(pairs < len(learnt_pixels)).sum(axis=1) == 1].max(axis=1, initial=0)
    rows = np.unique(across[across >= len(learnt_pixels)]) - len(learnt_pixels)
    what = "seem to be turned, shifted or brightened copies of scans that this run learnt from"
    if len(rows) and accept_copies:
        text = f"{len(rows):,} of {len(other):,} scans {what}; accepted after review (--accept-copies)."
        return [*findings, Finding("external.copies", "warning", text, tuple(other.path[rows].tolist()))]
    _refuse(other.path[rows], len(other), what, " If your eyes say otherwise, go on with --accept-copies.")
    text = (
        f"None of {len(other):,} scans is an exact copy of the {len(learnt):,} that the run learnt from, and none was "
        f"recognised as a changed one. {searched.describe_recall()}"
    )
    return [*findings, Finding("external.copies", "note", text)]


def _refuse(paths: StrArray, count: int, what: str, escape: str = "") -> None:
    if len(paths):
        raise LeakageError(
            f"{len(paths):,} of {count:,} scans {what}; figures on them would flatter. Take them out: "
            f"`scanwise audit` shows copies. First: {', '.join(paths[:3].tolist())}.{escape}"
        )


def _answer(
    loaded: Bundle, other: Cohort, device: str, progress: bool
) -> tuple[Predictions, Predictions | None, Sequence[tuple[str, str]]]:
    """The bundle's answers, with labels, by scan and by subject."""
    root = remote.local_root(other.root)
    answer = loaded.predict(
        [root / path for path in other.path.tolist()],
        other.subject.tolist() if other.subjects_known else None,
        dict(other.groups),
        words=other.text.tolist() if other.text is not None and loaded.recipe.model.reads_words else None,
        names=other.path,
        device=device,
        progress=progress,
    )
    label = dict(zip(other.path.tolist(), other.labels.tolist(), strict=True))
    labels = np.array([label[path] for path in answer.scans.scans.tolist()], dtype=np.int64)
    scans = replace(answer.scans, labels=labels)
    if answer.subjects is None:
        own = np.array([other.subject[other.path.tolist().index(path)] for path in answer.scans.scans.tolist()])
        return replace(scans, subjects=own), None, answer.quarantine
    names, codes = np.unique(scans.subjects, return_inverse=True)
    common = dict(zip(names.tolist(), common_label(labels, codes, len(other.classes)).tolist(), strict=True))
    pooled = np.array([common[name] for name in answer.subjects.subjects.tolist()], dtype=np.int64)
    return scans, replace(answer.subjects, labels=pooled), answer.quarantine


def write_external_validation(result: ExternalValidation, folder: Path) -> Path:
    """Write metrics, tables, findings and the page of an external validation into a folder of their own.

    Raises:
        RunError: if the folder holds something that is no external validation.
    """
    run.refuse_foreign(folder, layout.EXTERNAL_PAGE, "external validation")
    with run.owning(folder):
        _write_files(result, folder)
    return folder / layout.EXTERNAL_PAGE


def _write_files(result: ExternalValidation, folder: Path) -> None:
    with run.writing(folder / layout.METRICS) as temporary:
        save_metrics(result.metrics, temporary)
    with run.writing(folder / layout.FINDINGS) as temporary:
        save_findings(result.findings, temporary)
    folder_run = RunFolder(folder)
    tables.write_prediction_tables(folder_run, "honest", result.scans, result.subjects)
    write_table(
        METRIC_COLUMNS,
        [[getattr(m, c) for c in METRIC_COLUMNS] for m in result.metrics],
        folder_run.tables / layout.SUMMARY_STATISTICS,
    )
    write_csv(("path", "reason"), result.quarantine, folder_run.quarantine)
    for name, rows in (
        ("drift", result.drift),
        ("recalibration", result.recalibration),
        ("operating_points", result.transport),
    ):
        if rows:
            write_table(list(rows[0]), [list(row.values()) for row in rows], folder_run.tables / f"{name}.csv")
    run.write_text(
        page.build_external_page(
            result.source, result.main, result.own, result.metrics, result.drift, result.recalibration, result.transport,
            result.findings, result.guaranteed,
        ),
        folder / layout.EXTERNAL_PAGE,
    )  # fmt: skip
