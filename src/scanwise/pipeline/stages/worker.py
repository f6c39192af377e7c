"""The part of all processes but the first in a fit: train with it, and leave everything else to it."""

import atexit
from pathlib import Path

import numpy as np

from scanwise import cohort
from scanwise.auditing.evidence import Evidence
from scanwise.errors import RunError
from scanwise.pipeline.context import AuditResult, Context
from scanwise.pipeline.stages.explanation import follow_explanation
from scanwise.pipeline.stages.training import train_fit
from scanwise.recipe import load_recipe
from scanwise.records import Cohort, Split
from scanwise.run import RunFolder, processes


def let_workers_begin() -> None:
    """Let the other processes, if there are some, begin: cohort and splits are written."""
    if processes() > 1:
        from scanwise.training import distributed as company

        company.join_processes()
        company.wait_for_all()


def finish_together() -> None:
    """Wait, where there are several processes, until the first has written all: then every one of them may read it.

    They stay together until they end, since they may be asked for another fit, and cannot meet a second time.
    """
    if processes() > 1:
        from scanwise.training import distributed as company

        company.wait_for_all()
        atexit.register(company.leave_processes)


def follow_fit(out: Path, *, data: str, subject: str, device: str, pseudonymise: bool, explain: bool) -> RunFolder:
    """Wait until the first process has written cohort and splits, train with it all that it trains, and wait for the rest.

    All processes must see the run folder; each reads the data for itself, the pixels from the store that the first has
    filled where they are on one machine.
    """
    let_workers_begin()
    folder = RunFolder.open(out)
    context = _take_up(folder, data, subject, device, pseudonymise)
    for split in context.splits:
        train_fit(context, folder.fit(split.protocol, split.fold), split)
    if explain:
        follow_explanation(context, folder)
    finish_together()
    return folder


def _take_up(folder: RunFolder, data: str, subject: str, device: str, pseudonymise: bool) -> Context:
    recipe = load_recipe(folder.recipe)
    kept = Cohort.load(folder.cohort)
    intake = cohort.read_cohort(data, recipe, subject, pseudonymise=pseudonymise)
    where = {path: row for row, path in enumerate(intake.cohort.path.tolist())}
    missing = [path for path in kept.path.tolist() if path not in where]
    if missing:
        raise RunError(
            f"This process finds {len(missing)} scans fewer in {data} than the first; it lacks {missing[0]}."
        )
    rows = np.array([where[path] for path in kept.path.tolist()])
    return Context(
        recipe=recipe,
        cohort=kept,
        store=intake.store.take(rows),
        splits=tuple(Split.load(fit.split) for fit in folder.fits()),
        audited=AuditResult(Evidence(kept, np.empty((0, 0, 0), np.uint8), np.empty((0, 0))), (), {}),
        quarantine=(),
        source=intake.source,
        veil=intake.veil,
        device=device,
    )
