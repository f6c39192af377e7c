"""The order of the stages: from a folder of scans to a report. The one file a newcomer needs.

    read scans -> audit -> split -> train -> logits -> calibrate -> prediction sets -> compare with trivial rivals
               -> measure -> tables, bundle, report

Each stage reads and writes the run folder, and what a fit has already left there is not done again: a run that was
killed at any moment goes on, and deleting a stage's output is how to do it anew. Beside this file lie `work` (what the
stages share), `auditing` (whether the scans can be trusted), `titles` (the words beside them), `learning` (training),
`predicting`, `calibrating` (what is learnt after training), `judging` (rivals and figures), `doubting`, `planning`
(what a fit would cost), `resuming` (what a run goes on with), `following` (several processes) and `demonstration`.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from scanwise import bundle, cohort, recipe, run
from scanwise.cohort import splits
from scanwise.csv_files import write_csv
from scanwise.errors import DataError, RunError
from scanwise.pipeline import remote_run
from scanwise.pipeline.context import Context
from scanwise.pipeline.stages import (
    audit as audit_stage,
)
from scanwise.pipeline.stages import (
    explanation as explanation_stage,
)
from scanwise.pipeline.stages import (
    failures,
    operating_points,
    selective,
    text_inputs,
    worker,
)
from scanwise.pipeline.stages import (
    prediction as prediction_stage,
)
from scanwise.pipeline.stages import (
    resume as resume_stage,
)
from scanwise.pipeline.stages import (
    training as training_stage,
)
from scanwise.pipeline.stages.calibration import calibrate_fit
from scanwise.pipeline.stages.evaluation import (
    ModelPredictions,
    measure_models,
    pool_folds,
    predict_baselines,
    predict_without_parts,
)
from scanwise.recipe import Recipe
from scanwise.records import (
    Cohort,
    Finding,
    Logits,
    Split,
    load_findings,
    save_findings,
    save_metrics,
)
from scanwise.reporting import tables
from scanwise.reporting.components import MOST
from scanwise.run import Run

log = logging.getLogger("scanwise")

PICTURED = 60  # classes at most of which the report shows a scan


def fit(
    source: str | Path | Recipe,
    *,
    data: str | Path,
    out: str | Path,
    subject: str = "",
    settings: Iterable[str] = (),
    device: str = "auto",
    threads: int = 0,
    resume: bool = False,
    pseudonymise: bool = False,
    progress: bool = False,
) -> Run:
    """The main job: everything from a folder of scans to a report.

    Args:
        source: a shipped recipe's name, a YAML file, or a Recipe.
        data: folder, manifest, or fsspec URL.
        out: the run folder, or an fsspec URL of one; must be new or empty unless `resume`.
        subject: manifest column, CSV of path,subject, or pattern over the path that tells who is who.
        settings: `a.b=value` laid over the recipe.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        threads: for the CPU; 0 leaves the choice to torch.
        resume: go on with the run in `out`.
        pseudonymise: put keyed hashes in place of the subjects and of names in paths, in all that is written.
        progress: show bars.

    Returns:
        the run folder (of a URL, the copy here); `scanwise.load(run.path)` predicts with it.

    Raises:
        ScanwiseError: with what happened and what to do.
    """
    started = datetime.now(UTC)
    if not run.is_writer():
        return worker.follow_fit(
            remote_run.local_folder(out),
            data=str(data),
            subject=subject,
            device=resolve_device(device, threads),
            pseudonymise=pseudonymise,
        )
    away = remote_run.RemoteRun.open(str(out), resume=resume) if cohort.remote.is_remote(str(out)) else None
    place = away.folder if away else Path(out)
    _refuse_taken(place, resume)
    context = prepare(
        source, data=data, subject=subject, settings=settings, device=device, threads=threads,
        pseudonymise=pseudonymise, progress=progress,
    )  # fmt: skip
    context = replace(context, send=away.send if away else None)
    _refuse_network(context, place)
    explanation_stage.check_explanation_method(context)
    folder = _open_run(context, place, resume)
    worker.join_processes()
    for finding in context.findings:
        if finding.severity != "note":
            log.warning("%s: %s", finding.severity, finding.message)
    judged: list[ModelPredictions] = []
    for split in context.splits:
        judged += _fit_one(context, folder, split)
    with _timed(context, "evaluation"):
        metrics = [*measure_models(context, judged), *selective.measure_selective_prediction(context, folder, judged)]
        with run.writing(folder.metrics) as temporary:
            save_metrics(metrics, temporary)
    with _timed(context, "explanation"):
        explanation_stage.explain_run(context, folder, judged)
    _write_bundle(context, folder)
    _write_provenance(context, folder, started)
    _report(context, folder, judged)
    if away:
        away.finish()
    worker.finish_together()
    return folder


def predict_files(
    place: Path,
    scans: Sequence[Path],
    *,
    manifest: Path | None = None,
    subject: str = "",
    device: str = "auto",
    threads: int = 0,
    pseudonymise: bool = False,
    progress: bool = False,
) -> bundle.BundlePredictions:
    """Answer for files, folders of files, or the rows of a manifest, with the bundle of a run.

    With `pseudonymise` the answer names scans and subjects by keyed hashes.

    Raises:
        DataError: if there is nothing to predict, or nothing that can be read.
    """
    loaded = bundle.load(place)
    files = cohort.layouts.unlabelled(scans, manifest, subject)
    if pseudonymise:
        files = cohort.pseudonymised_paths.cover(files)
    listing, _ = cohort.slice_expansion.expand(files, loaded.recipe.data, progress=progress)
    if not len(listing):
        raise DataError(f"None of the {len(files)} files can be read; the first: {': '.join(listing.unused[0])}.")
    known = listing.subject is not None and bool((listing.subject != "").all())
    answer = loaded.predict(
        [listing.root / path for path in listing.path.tolist()],
        listing.subject.tolist() if known and listing.subject is not None else None,
        listing.groups,
        words=None if listing.text is None else listing.text.tolist(),
        names=listing.path,
        device=resolve_device(device, threads),
        progress=progress,
    )
    return replace(answer, quarantine=(*answer.quarantine, *listing.unused))


def prepare(
    source: str | Path | Recipe,
    *,
    data: str | Path,
    subject: str = "",
    settings: Iterable[str] = (),
    device: str = "auto",
    threads: int = 0,
    pseudonymise: bool = False,
    progress: bool = False,
) -> Context:
    """Read the recipe and the scans, settle the classes and make the splits; writes nothing but the cache.

    Raises:
        LeakageError: if an honest split leaks.
    """
    made = source if isinstance(source, Recipe) else recipe.load_recipe(source, settings)
    times: dict[str, float] = {}
    begun = time.perf_counter()
    intake = cohort.read(str(data), made, subject, pseudonymise=pseudonymise, progress=progress)
    made = _with_stages(made, intake.cohort.classes)
    if not intake.cohort.ordered:
        cohort.classes.refuse_stages(made, intake.cohort.classes)
    evidence = audit_stage.gather_evidence(
        intake.cohort,
        audit_stage.audit_thumbnails(intake.cohort, progress=progress),
        quarantine=intake.quarantine,
        seed=made.seed,
        seek="copies" in made.audit.checks,
        progress=progress,
    )
    known, rows, told = splits.settle_small_classes(evidence.cohort, made.split)
    evidence = replace(evidence.take(rows), cohort=known)
    made_splits = splits.make(known, made.split, made.seed)
    findings = [*intake.findings, *_small_classes(told)]
    if known.subjects_known:  # they may have been recovered since
        findings = [finding for finding in findings if finding.check != "cohort.subjects"]
    for split in made_splits:
        findings += [f for f in splits.check(known, split) if f not in findings]
    findings += [*_not_evaluable(made_splits), *training_stage.untrained_findings(made)]
    times["reading"] = time.perf_counter() - begun
    begun = time.perf_counter()
    audited = audit_stage.audit_before_fit(evidence, made_splits, findings, made.audit.checks, progress=progress)
    times["audit"] = time.perf_counter() - begun
    return Context(
        recipe=made,
        cohort=known,
        store=intake.store.take(rows),
        splits=tuple(made_splits),
        audited=audited,
        quarantine=intake.quarantine,
        source=str(data),
        device=resolve_device(device, threads),
        progress=progress,
        times=times,
    )


def _with_stages(made: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe with the clinical titles of the classes that a known scale has and the recipe does not name itself."""
    known = {name: cohort.classes.STAGES[name] for name in names if name in cohort.classes.STAGES}
    return made.model_copy(update={"stages": {**known, **made.stages}})


def _small_classes(told: Sequence[str], most: int = 6) -> list[Finding]:
    """What was done with classes that are too small, in one line however many they are."""
    if not told:
        return []
    more = f"; and {len(told) - most} more like these" if len(told) > most else ""
    return [Finding("split.classes", "warning", f"{'; '.join(told[:most])}{more}.")]


def _not_evaluable(made: Sequence[Split]) -> list[Finding]:
    unfit = {name: count for split in made for name, count in split.not_evaluable.items()}
    return [
        Finding(
            "split.classes",
            "warning",
            f"{name} is not evaluable: {count} subjects cannot stand on every side. Its scans are kept in training; it has "
            "no test figures and stands under no guarantee. Merge or drop it with split.small_classes.",
        )
        for name, count in unfit.items()
    ]


def resolve_device(device: str, threads: int) -> str:
    """The device that is meant by `auto` or a name, after setting the threads of the CPU."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if device.split(":")[0] not in ("cpu", "cuda", "mps"):
            raise RunError(f"There is no device {device!r}; choose auto, cpu, cuda, cuda:1 or mps.")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RunError(f"The device {device!r} cannot be used here: {str(error).splitlines()[0]} Try cpu.") from error
    return device


def _refuse_taken(out: Path, resume: bool) -> None:
    """Say early that the folder is taken, before any work; make nothing yet."""
    if out.exists():
        Run.create(out, resume=resume)


def _refuse_network(context: Context, out: Path) -> None:
    """Build the network once before anything is written: its name, options, weights or the size of scans may be wrong."""
    if all(Run(out).fit(split.protocol, split.fold).model.is_file() for split in context.splits):
        return
    from scanwise.models import build_network

    made, classes = context.recipe, context.cohort.classes
    if made.model.reads_words:
        text_inputs.cohort_titles(context.cohort, made)
    training_stage.check_trainable(build_network(made.model, len(classes), made.data.channels, classes=classes), made)


def _open_run(context: Context, out: Path, resume: bool) -> Run:
    """Make the run folder and write what is known before training."""
    folder = Run.create(out, resume=resume)
    changes = resume_stage.resume_run(folder, context)
    run.write_text(context.recipe.to_yaml(), folder.recipe)
    run.save(context.cohort, folder.cohort)
    audit_stage.write_audit_page(context.audited, folder.path)
    if changes:
        with run.writing(folder.findings) as temporary:
            save_findings([*load_findings(folder.findings), *changes], temporary)
    write_csv(("path", "reason"), context.quarantine, folder.quarantine)
    for split in context.splits:
        run.save(split, folder.fit(split.protocol, split.fold).split)
    return folder


def _fit_one(context: Context, folder: Run, split: Split) -> list[ModelPredictions]:
    """Train, predict, calibrate and judge one fit, then its rivals; returns their answers on the test side."""
    place = folder.fit(split.protocol, split.fold)
    log.info("%s protocol: %s%s", split.protocol, split.rule, " (leaked)" if split.leaky else "")
    with _timed(context, f"training {split.protocol} {split.fold}"):
        training_stage.train_fit(context, place, split)
    with _timed(context, f"prediction {split.protocol} {split.fold}"):
        prediction_stage.predict_sides(context, place, split)
    if split.protocol == "honest":
        calibrate_fit(context, place)
    if context.send:
        context.send()
    test = Logits.load(place.logits("test"))
    judges = bundle.load_predictors(place, bundle.cdr_by_class(context.recipe, context.cohort.classes))
    judged = bundle.predict_scans_and_subjects(judges, test, bundle.scan_hashes(context.cohort, test.scans))
    with _timed(context, f"rivals {split.protocol} {split.fold}"):
        mine = [ModelPredictions("network", split, *judged), *predict_without_parts(place, split, context.recipe)]
        return [*mine, *predict_baselines(context, place, split, test)]


def _write_bundle(context: Context, folder: Run) -> None:
    """The first honest fit is what leaves; where there is none, the published one, without guarantees."""
    first = context.splits[0]
    bundle.write_bundle(
        folder, folder.fit(first.protocol, first.fold), context.recipe, context.cohort.classes, context.cohort.ordered
    )


def _report(context: Context, folder: Run, judged: Sequence[ModelPredictions]) -> None:
    from scanwise.reporting import checksums, figures, legacy_tables
    from scanwise.reporting import report as report_page

    for protocol in dict.fromkeys(split.protocol for split in context.splits):
        mine = [entry for entry in judged if entry.model == "network" and entry.split.protocol == protocol]
        pooled = mine[0] if len(mine) == 1 else pool_folds(mine)
        tables.write(folder, protocol, pooled.scans, pooled.subjects if context.cohort.subjects_known else None)
        legacy_tables.write(folder, context.recipe.name, protocol, pooled.scans)
    selective.write_selective_tables(folder, judged)
    operating_points.write_operating_points(context, folder, judged)
    first = [entry.scans for entry in judged if entry.model == "network" and entry.split is context.splits[0]]
    failures.write_failures(context, folder, first[0])
    tables.write_overview(folder)
    legacy_tables.write_breakdowns(folder)
    rows, titles = _examples(context.cohort)
    with run.writing(folder.figures / "scans.png") as temporary:
        temporary.write_bytes(figures.montage(context.store.read(rows), titles))
    checksums.seal(folder)
    report_page.write(folder)


def _examples(known: Cohort) -> tuple[np.ndarray[Any, np.dtype[np.int64]], list[str]]:
    """Four scans of each class, of different subjects, with their class as title; one where classes are many."""
    rows: list[int] = []
    most = 4 if len(known.classes) <= MOST else 1
    for index in range(len(known.classes[:PICTURED])):
        here = np.flatnonzero(known.labels == index)
        _, first = np.unique(known.subject[here], return_index=True)
        middle = [np.flatnonzero(known.subject[here] == known.subject[here][i]) for i in first[:most]]
        rows += [int(here[scans[len(scans) // 2]]) for scans in middle]
    return np.array(rows), [known.classes[known.labels[row]] for row in rows]


def _write_provenance(context: Context, folder: Run, started: datetime) -> None:
    import torch

    from scanwise.models import describe_weights

    before = run.read_json(folder.provenance) if folder.provenance.is_file() else {}
    run.write_json(
        {
            "environment": run.environment(),
            "device": torch.cuda.get_device_name(context.device)
            if context.device.startswith("cuda")
            else context.device,
            "threads": torch.get_num_threads(),
            "seed": context.recipe.seed,
            "data": {
                "source": context.source,
                "scans": len(context.cohort),
                "sha256": resume_stage.data_hash(context.cohort),
            },
            "weights": describe_weights(context.recipe.model),
            # A stage that an earlier, interrupted session finished took next to nothing now: keep its time.
            "times": {name: max(spent, before.get("times", {}).get(name, 0)) for name, spent in context.times.items()},
            "started": before.get("started", started.isoformat(timespec="seconds")),
            "changes": before.get("changes", []),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        folder.provenance,
    )


@contextmanager
def _timed(context: Context, stage: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    context.times[stage] = context.times.get(stage, 0.0) + time.perf_counter() - begun
