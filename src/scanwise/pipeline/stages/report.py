"""The last stage: tables, figures, provenance, checksums and the report."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from scanwise import run as run_folder
from scanwise.migrations import FORMATS
from scanwise.pipeline.context import Context
from scanwise.pipeline.stages.evaluation import ModelPredictions, pool_folds
from scanwise.pipeline.stages.failures import write_cases, write_failures
from scanwise.pipeline.stages.operating_points import write_operating_points
from scanwise.pipeline.stages.resume import data_hash
from scanwise.pipeline.stages.selective import write_selective_tables
from scanwise.pipeline.stages.stated_rates import write_missed_rates
from scanwise.records import Cohort
from scanwise.reporting import tables
from scanwise.reporting.components import CLASSES_SHOWN
from scanwise.run import RunFolder, layout

MONTAGE_CLASSES = 60
"""Classes at most of which the report shows a scan."""


def write_results(context: Context, run: RunFolder, predictions: Sequence[ModelPredictions]) -> None:
    """Write tables, figures and checksums into the run folder, then the report."""
    from scanwise.reporting import checksums, figures, legacy_tables
    from scanwise.reporting import report as report_page

    network = [entry for entry in predictions if entry.model == "network"]
    for protocol in dict.fromkeys(split.protocol for split in context.splits):
        folds = [entry for entry in network if entry.split.protocol == protocol]
        pooled = folds[0] if len(folds) == 1 else pool_folds(folds)
        tables.write_prediction_tables(
            run, protocol, pooled.scans, pooled.subjects if context.cohort.subjects_known else None
        )
        legacy_tables.write_legacy_tables(
            run, context.recipe.results_name or context.recipe.name, protocol, pooled.scans
        )
        if protocol == context.splits[0].protocol:
            by_people = context.cohort.subjects_known and protocol == "honest"
            write_cases(context, run, pooled.subjects if by_people else pooled.scans, pooled.scans)
    write_selective_tables(run, predictions)
    write_operating_points(context, run, predictions)
    write_missed_rates(context, run)
    first = next(entry for entry in network if entry.split is context.splits[0])
    write_failures(context, run, first.scans)
    tables.write_overview_tables(run)
    legacy_tables.write_breakdowns(run)
    rows, titles = _montage_rows(context.cohort)
    with run_folder.writing(run.figures / layout.SCANS_SHEET) as temporary:
        temporary.write_bytes(figures.draw_montage(context.store.read(rows), titles))
    checksums.write_checksums(run)
    report_page.write_report(run)


def _montage_rows(cohort: Cohort) -> tuple[np.ndarray[Any, np.dtype[np.int64]], list[str]]:
    """Four scans of each class, of different subjects, with their class as title; one where classes are many."""
    rows: list[int] = []
    most = 4 if len(cohort.classes) <= CLASSES_SHOWN else 1
    for index in range(len(cohort.classes[:MONTAGE_CLASSES])):
        members = np.flatnonzero(cohort.labels == index)
        _, first = np.unique(cohort.subject[members], return_index=True)
        scans_by_subject = [np.flatnonzero(cohort.subject[members] == cohort.subject[members][i]) for i in first[:most]]
        rows += [int(members[scans[len(scans) // 2]]) for scans in scans_by_subject]
    return np.array(rows), [cohort.classes[cohort.labels[row]] for row in rows]


def write_provenance(context: Context, run: RunFolder, started: datetime) -> None:
    """Write `provenance.json`: versions, device, seed, data hash, weights, times and changes."""
    import torch

    from scanwise.models import describe_weights

    device = context.device
    before = run_folder.read_json(run.provenance) if run.provenance.is_file() else {}
    earlier = before.get("times", {})
    data = {"source": context.source, "scans": len(context.cohort), "sha256": data_hash(context.cohort)}
    run_folder.write_json(
        {
            "format": FORMATS["run"],
            "environment": run_folder.environment(context.veil.command(sys.argv)),
            "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
            "threads": torch.get_num_threads(),
            "seed": context.recipe.seed,
            "data": data,
            "weights": context.veil(describe_weights(context.recipe.model)),
            # A stage that an earlier, interrupted session finished took next to nothing now: keep its time.
            "times": {name: max(spent, earlier.get(name, 0)) for name, spent in context.timings.seconds.items()},
            "started": before.get("started", started.isoformat(timespec="seconds")),
            "changes": before.get("changes", []),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        run.provenance,
    )
