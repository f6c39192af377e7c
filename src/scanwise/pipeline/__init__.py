"""The order of the stages: from a folder of scans to a report. The one file a newcomer needs.

    read scans -> audit -> split -> train -> logits -> calibrate -> prediction sets -> compare with simple baselines
               -> measure -> explain -> tables, bundle, report

Each stage reads and writes the run folder, and skips what a fit has already left there: a run that was killed at any
moment goes on, and deleting a stage's output is how to compute it again. `stages/` holds what `fit` runs, `commands/`
everything else, `preflight` all that is refused before anything is written, `context` the value that all stages share.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from scanwise import cohort
from scanwise.bundle import hashed_content, load_predictors, predict_scans_and_subjects, scan_hashes, write_bundle
from scanwise.bundle.predictors import cdr_by_class
from scanwise.cohort import splits
from scanwise.cohort.classes import check_stage_names, describe_classes
from scanwise.cohort.covariates import settle_covariates
from scanwise.cohort.decoding.remote_files import is_remote
from scanwise.csv_files import write_csv
from scanwise.pipeline.context import Context, Timings, resolve_device
from scanwise.pipeline.preflight import check_output, preflight
from scanwise.pipeline.remote_run import RemoteRun, local_folder
from scanwise.pipeline.stages.audit import (
    as_asked_for,
    audit_before_fit,
    audit_pixels,
    gather_evidence,
    write_audit_files,
)
from scanwise.pipeline.stages.bags import bag_findings
from scanwise.pipeline.stages.calibration import calibrate_fit
from scanwise.pipeline.stages.evaluation import (
    ModelPredictions,
    measure_models,
    predict_baselines,
    predict_without_parts,
)
from scanwise.pipeline.stages.explanation import explain_run, retrained_on
from scanwise.pipeline.stages.prediction import predict_sides
from scanwise.pipeline.stages.report import write_provenance, write_results
from scanwise.pipeline.stages.resume import kept_findings, record_changes, stored_splits
from scanwise.pipeline.stages.selective import measure_selective_prediction
from scanwise.pipeline.stages.subject_ridge import order_findings, with_recovered_order
from scanwise.pipeline.stages.training import train_fit, untrained_findings
from scanwise.pipeline.stages.worker import finish_together, follow_fit, let_workers_begin
from scanwise.progress_bar import plan_work, running_job, usual_seconds_of, work_step
from scanwise.recipe import Recipe, load_recipe
from scanwise.records import SIDES, Finding, Logits, Split, save_metrics
from scanwise.run import RunFolder, is_writer, owning, save, write_text, writing
from scanwise.workers import open_workers

log = logging.getLogger("scanwise")


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
    explain: bool = True,
    workers: int = 1,
) -> RunFolder:
    """The main job: everything from a folder of scans to a report.

    Args:
        source: a shipped recipe's name, a YAML file, or a Recipe.
        data: folder, manifest, or fsspec URL.
        out: the run folder, or an fsspec URL of one; must be new or empty unless `resume`.
        subject: manifest column, CSV of path,subject, or pattern over the path that gives each scan's subject.
        settings: `a.b=value` laid over the recipe.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        threads: for the CPU; 0 leaves the choice to torch.
        resume: go on with the run in `out`.
        pseudonymise: put keyed hashes in place of the subjects and of names in paths, in all that is written.
        progress: show bars.
        explain: make the heatmaps that the recipe asks for. Without, a later call with `resume` makes them.
        workers: processes that describe and compare the scans for the audit; their results have the bytes of one.

    Returns:
        the run folder (of a URL, the copy here); `scanwise.load(run.path)` predicts with it.

    Raises:
        ScanwiseError: with what happened and what to do.
    """
    started = datetime.now(UTC)
    if not is_writer():
        return follow_fit(
            local_folder(out),
            data=str(data),
            subject=subject,
            device=resolve_device(device, threads),
            pseudonymise=pseudonymise,
            explain=explain,
        )
    remote = RemoteRun.open(str(out), resume=resume) if is_remote(str(out)) else None
    path = remote.folder if remote else Path(out)
    check_output(path, resume=resume)
    with running_job(progress):
        context = prepare(
            source, data=data, subject=subject, settings=settings, device=device, threads=threads,
            pseudonymise=pseudonymise, progress=progress, folder=path if resume else None, workers=workers,
        )  # fmt: skip
        context = replace(context, send=remote.send if remote else None)
        preflight(context, path)
        plan_work(_expected_work(context) | ({} if explain else {"explanation": 0}))
        with owning(path):
            run = _run_stages(context, path, started, resume=resume, explain=explain)
    if remote:
        remote.finish()
    finish_together()
    return run


def _run_stages(context: Context, path: Path, started: datetime, *, resume: bool, explain: bool) -> RunFolder:
    """All that is written, from the recipe to the report."""
    run = _open_run(context, path, resume)
    let_workers_begin()
    for finding in context.findings:
        if finding.severity != "note":
            log.warning("%s: %s", finding.severity, finding.message)
    predictions: list[ModelPredictions] = []
    for split in context.splits:
        predictions += _fit_split(context, run, split)
    with context.timings.measure("evaluation"):
        metrics = [*measure_models(context, predictions), *measure_selective_prediction(context, run, predictions)]
        with writing(run.metrics) as temporary:
            save_metrics(metrics, temporary)
    if explain:
        with context.timings.measure("explanation"):
            explain_run(context, run, predictions)
    _write_first_bundle(context, run)
    write_provenance(context, run, started)
    with work_step("report"):
        write_results(context, run, predictions)
    return run


def usual_seconds(context: Context) -> float:
    """Usual seconds of all stages that do not depend on the network's speed: baselines, figures, heatmaps, report."""
    return usual_seconds_of(_expected_work(context))


def _expected_work(context: Context) -> dict[str, float]:
    """The stages to come and the work of each, in scans (in training, of all epochs; of heatmaps, those explained); the report is one piece."""
    scans, units = len(context.cohort), dict[str, float]()
    for split in context.splits:
        name, sides = f"{split.protocol} {split.fold}", {side: len(split.rows(side)) for side in SIDES}
        learning = context.recipe.train.epochs * (sides["train"] + sides["validation"])
        features = scans if split is context.splits[0] else 0  # those of the first serve all splits
        units[f"training {name}"] = features if context.recipe.model.is_ridge else learning
        units[f"prediction {name}"] = scans - sides["train"]
        units[f"rivals {name}"] = scans
    first = context.splits[0]
    units |= {f"training {name}": units[f"training {first.protocol} {first.fold}"] for name in retrained_on(context)}
    return units | {"evaluation": scans, "explanation": context.recipe.explain.scans, "report": 1}


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
    folder: Path | None = None,
    workers: int = 1,
) -> Context:
    """Read the recipe and the scans, settle the classes and make the splits; writes nothing but the cache.

    Args:
        source, data, subject, settings, device, threads, pseudonymise, progress, workers: as in `fit`.
        folder: of a run that goes on, whose splits stay.

    Raises:
        LeakageError: if an honest split leaks.
    """
    timings = Timings()
    with timings.measure("reading"):
        recipe = source if isinstance(source, Recipe) else load_recipe(source, settings)
        intake = cohort.read_cohort(str(data), recipe, subject, pseudonymise=pseudonymise, progress=progress)
        recipe = _with_stage_titles(intake.veil.recipe(recipe), intake.cohort.classes)
        if not intake.cohort.ordered:
            check_stage_names(recipe, intake.cohort.classes)
        pixels = audit_pixels(intake.cohort, progress=progress)
        with open_workers(count=workers) as mapping:
            evidence = gather_evidence(
                intake.cohort,
                pixels,
                quarantine=intake.quarantine,
                seed=recipe.seed,
                seek="copies" in recipe.audit.checks,
                workers=mapping,
            )
        settled, rows, messages = splits.settle_small_classes(evidence.cohort, recipe.split)
        settled = with_recovered_order(recipe, settled, intake.store.take(rows))
        evidence = replace(evidence.take(rows), cohort=settled)
        all_splits = splits.make_splits(settled, recipe.split, recipe.seed)
        if folder is not None:
            all_splits = stored_splits(RunFolder(folder), settled, all_splits)
        recipe, about_people = settle_covariates(settled, recipe)
        findings = [*intake.findings, *about_people, *_small_class_findings(messages)]
        if settled.subjects_known:  # they may have been recovered since
            findings = [finding for finding in findings if finding.check != "cohort.subjects"]
        for split in all_splits:
            checked = [as_asked_for(finding, split, all_splits) for finding in splits.check_split(settled, split)]
            findings += [finding for finding in checked if finding not in findings]
        findings += [
            *splits.label_change_findings(settled),
            *_not_evaluable(all_splits),
            *untrained_findings(recipe),
            *order_findings(recipe, intake.cohort.take(rows), settled),
            *bag_findings(recipe, settled),
        ]
    with timings.measure("audit"):
        audited = audit_before_fit(evidence, all_splits, findings, recipe.audit.checks)
    return Context(
        recipe=recipe,
        cohort=settled,
        store=intake.store.take(rows),
        splits=tuple(all_splits),
        audited=audited,
        quarantine=intake.quarantine,
        source=intake.source,
        veil=intake.veil,
        device=resolve_device(device, threads),
        progress=progress,
        timings=timings,
    )


def _with_stage_titles(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe with what is known of these classes, by their names."""
    return recipe.model_copy(update={"stages": describe_classes(names, recipe.stages)})


def _small_class_findings(messages: Sequence[str], most: int = 6) -> list[Finding]:
    """One finding about all classes that are too small, however many they are."""
    if not messages:
        return []
    more = f"; and {len(messages) - most} more like these" if len(messages) > most else ""
    return [Finding("split.classes", "warning", f"{'; '.join(messages[:most])}{more}.")]


def _not_evaluable(all_splits: Sequence[Split]) -> list[Finding]:
    """A finding about each class with too few subjects to be on every side."""
    counts = {name: count for split in all_splits for name, count in split.not_evaluable.items()}
    return [
        Finding(
            "split.classes",
            "warning",
            f"{name} is not evaluable: {count} subjects cannot stand on every side. Its scans are kept in training; it has "
            "no test figures and stands under no guarantee. Merge or drop it with split.small_classes.",
        )
        for name, count in counts.items()
    ]


def _open_run(context: Context, path: Path, resume: bool) -> RunFolder:
    """Make the run folder and write what is fixed before training."""
    run = RunFolder.create(path, resume=resume)
    changes = record_changes(run, context)
    write_text(context.written_recipe.to_yaml(), run.recipe)
    save(context.cohort, run.cohort)
    write_audit_files(context.audited, run.path, [*changes, *kept_findings(run, context)])
    write_csv(("path", "reason"), context.quarantine, run.quarantine)
    for split in context.splits:
        save(split, run.fit(split.protocol, split.fold).split)
    return run


def _fit_split(context: Context, run: RunFolder, split: Split) -> list[ModelPredictions]:
    """Train, predict and calibrate one fit, then its baselines.

    Returns:
        the predictions of the network and of the baselines on the test side.
    """
    fit_dir, name = run.fit(split.protocol, split.fold), f"{split.protocol} {split.fold}"
    log.info("%s protocol: %s%s", split.protocol, split.rule, " (leaked)" if split.leaky else "")
    with context.timings.measure(f"training {name}"):
        train_fit(context, fit_dir, split)
    with context.timings.measure(f"prediction {name}"):
        predict_sides(context, fit_dir, split)
    if split.protocol == "honest":
        calibrate_fit(context, fit_dir)
    if context.send:
        context.send()
    test = Logits.load(fit_dir.logits("test"))
    predictors = load_predictors(fit_dir, cdr_by_class(context.recipe, context.cohort.classes))
    hashes = scan_hashes(context.cohort, test.scans, hashed_content(fit_dir))
    by_scan, by_subject = predict_scans_and_subjects(predictors, test, hashes)
    with context.timings.measure(f"rivals {name}"):
        return [
            ModelPredictions("network", split, by_scan, by_subject),
            *predict_without_parts(fit_dir, split, context.recipe),
            *predict_baselines(context, fit_dir, split, test),
        ]


def _write_first_bundle(context: Context, run: RunFolder) -> None:
    """The bundle of the first honest fit; where there is none, of the published one, without guarantees."""
    first = context.splits[0]
    write_bundle(run, run.fit(first.protocol, first.fold), context.written_recipe, context.cohort)
