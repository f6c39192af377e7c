"""Several runs on the same people: differences, McNemar, ranks, one table a kind and a page with a forest plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scanwise import evaluation, run
from scanwise.csv_files import write_table
from scanwise.errors import DataError, RunError
from scanwise.evaluation import breakdown, comparison
from scanwise.recipe import load_recipe
from scanwise.records import Cohort, Metric, Predictions, Unit
from scanwise.reporting import checksums, tables
from scanwise.reporting import comparison_page as page
from scanwise.reporting.wording import FEW, counted
from scanwise.run import RunFolder, layout

RANKED_BY = ("accuracy", "balanced_accuracy", "auroc", "nll")

SYSTEMS = ("system", "seeds", "unit", "name", "value", "low", "high", "count", "mean_of_seeds", "sd_of_seeds")
DIFFERENCES = ("pair", "unit", "name", "value", "low", "high", "count")
MCNEMAR = ("first", "second", "only_first", "only_second", "p_value", "adjusted")
RANKING = ("metric", "name", "value", "place", "low", "high", "best")


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run that takes part.

    Attributes:
        path: its folder.
        system: its recipe but for the seed: runs of one system are seeds of each other.
        seed: of the recipe.
        ordered: whether its classes are stages.
        predictions: its predictions on the honest test side, by `unit`.
    """

    path: Path
    system: str
    seed: int
    ordered: bool
    predictions: Predictions


@dataclass(frozen=True, slots=True)
class RunComparison:
    """The result of a comparison.

    Attributes:
        unit: what a row is.
        notes: what a reader must know, in sentences.
        systems: name to its runs.
        metrics: of each system over its seeds; `model` is the system's name.
        spreads: (system, metric) to the mean and the standard deviation over seeds.
        differences: first less second; `model` is "FIRST − SECOND".
        discordances: McNemar's test of every pair.
        ranks: by each of `RANKED_BY`.
    """

    unit: Unit
    notes: tuple[str, ...]
    systems: Mapping[str, Sequence[ComparedRun]]
    metrics: tuple[Metric, ...]
    spreads: Mapping[tuple[str, str], tuple[float, float]]
    differences: tuple[Metric, ...]
    discordances: tuple[comparison.McNemarTest, ...]
    ranks: tuple[comparison.RankInterval, ...]


def compare_runs(runs: Sequence[Path], *, draws: int = 2000, confidence: float = 0.95, seed: int = 0) -> RunComparison:
    """Compare the honest test answers of two runs or more, subject by subject.

    Runs whose recipes differ in the seed alone are one system: its figures are averaged over seeds, with their spread.
    Where systems were tested on different people, only those that all were tested on count.

    Raises:
        RunError: if a run lacks what is needed, or was changed by hand.
        DataError: if fewer than two runs are given, or they have no tested subjects in common.
    """
    if len(runs) < 2:
        raise DataError("A comparison needs two runs or more; give their folders.")
    if len({path.resolve() for path in runs}) < len(runs):
        raise DataError("A run is named twice; name each run once.")
    unit = _unit(runs)
    entries = [_entry(path, unit) for path in runs]
    systems = _systems(entries)
    stacked, notes = _common(systems)
    first = next(iter(stacked.values()))
    ordered = all(entry.ordered for entry in entries)
    names = comparison.comparable_metrics(first, ordered)
    shared: dict[str, Any] = {"draws": draws, "confidence": confidence, "seed": seed}
    metrics: list[Metric] = []
    for system, predictions in stacked.items():
        measured = evaluation.measure_predictions(
            predictions, subjects=predictions.subjects, names=names, ordered=ordered, **shared
        )
        metrics += [replace(m, model=system, protocol="honest") for m in measured if not m.group]
    differences: list[Metric] = []
    order = list(stacked)
    for position, first_system in enumerate(order):
        for second_system in order[position + 1 :]:
            differences += evaluation.paired_difference(
                stacked[first_system],
                stacked[second_system],
                names=names,
                model=f"{first_system} − {second_system}",
                **shared,
            )
    people = len(np.unique(first.subjects))
    if people < FEW:
        notes.append(
            f"Only {counted(people, 'subject')}: below {FEW}, intervals are wide and rough; read figures as a hint."
        )
    if len(first) != people and unit == "subject":
        notes.append("Several seeds tested the same subject: intervals and tests count each subject once.")
    return RunComparison(
        unit,
        tuple(notes),
        systems,
        tuple(metrics),
        _spreads(systems, names),
        tuple(differences),
        tuple(comparison.pairwise_mcnemar_tests(stacked)),
        tuple(
            rank
            for metric in RANKED_BY
            if metric in names
            for rank in comparison.rank_classifiers(stacked, metric, **shared)
        ),
    )


def _unit(runs: Sequence[Path]) -> Unit:
    """Subjects where all runs know them, else scans."""
    folders = [RunFolder.open(path).tables for path in runs]
    return "subject" if all((folder / layout.PREDICTIONS_SUBJECT).is_file() for folder in folders) else "scan"


def _entry(path: Path, unit: Unit) -> ComparedRun:
    folder = RunFolder.open(path)
    checksums.verify_checksums(folder)
    if not any(fit.protocol == "honest" for fit in folder.fits()):
        raise RunError(
            f"{path} has no honest protocol, and a comparison of leaked figures would tell nothing. Fit one."
        )
    recipe = load_recipe(folder.recipe)
    name = layout.predictions_file(unit)
    predictions = tables.read_predictions(folder.tables / name)
    ordered = Cohort.load(folder.cohort).ordered
    system = recipe.model_copy(update={"seed": 0}).to_yaml()
    return ComparedRun(path, system, recipe.seed, ordered, replace(predictions, groups={}))


def _systems(entries: Sequence[ComparedRun]) -> dict[str, list[ComparedRun]]:
    """The runs of each system, under a name that tells them apart: the recipe's, or the folder's where that is not enough."""
    runs_by_recipe: dict[str, list[ComparedRun]] = {}
    for entry in entries:
        runs_by_recipe.setdefault(entry.system, []).append(entry)
    names = {system: load_recipe(parts[0].path / layout.RECIPE).name for system, parts in runs_by_recipe.items()}
    taken = list(names.values())
    called = {
        system: name if taken.count(name) == 1 else runs_by_recipe[system][0].path.resolve().name
        for system, name in names.items()
    }
    if len(set(called.values())) < len(called):
        called = {system: str(parts[0].path) for system, parts in runs_by_recipe.items()}
    return {called[system]: sorted(parts, key=lambda entry: entry.seed) for system, parts in runs_by_recipe.items()}


def _common(systems: Mapping[str, Sequence[ComparedRun]]) -> tuple[dict[str, Predictions], list[str]]:
    """Each system's answers on rows that all have, over the seeds that all have; and what was left out, in words."""
    notes: list[str] = []
    seeds = [{entry.seed for entry in parts} for parts in systems.values()]
    together = sorted(set.intersection(*seeds))
    if together:
        used = {name: [e for e in parts if e.seed in together] for name, parts in systems.items()}
        lost = sum(map(len, systems.values())) - sum(map(len, used.values()))
        if lost:
            notes.append(
                f"{counted(lost, 'run')} of seeds that not every system has were left out of the paired figures."
            )
    elif all(len(parts) == 1 for parts in systems.values()):
        used = {name: list(parts) for name, parts in systems.items()}
    else:
        raise DataError(
            "These systems have no seed in common, so no subject was tested by all of them on the same split. "
            "Fit each with the same seeds."
        )
    blocks = [[parts[k].predictions for parts in used.values()] for k in range(len(next(iter(used.values()))))]
    aligned = [_aligned(block) for block in blocks]
    kept, whole = (sum(len(block[0]) for block in side) for side in (aligned, blocks))
    if kept < max(whole, *(sum(len(b[k]) for b in blocks) for k in range(len(used)))):
        unit = blocks[0][0].unit
        notes.append(f"Only the {counted(kept, unit)} that every system was tested on are compared.")
    return {name: _stacked([block[k] for block in aligned]) for k, name in enumerate(used)}, notes


def _aligned(parts: Sequence[Predictions]) -> list[Predictions]:
    """The rows that all have, in one order."""
    if len({part.classes for part in parts}) > 1:
        class_lists = " and ".join(f"({', '.join(part.classes)})" for part in parts[:2])
        raise DataError(f"These runs have different classes, {class_lists}; a comparison needs the same.")
    row_by_key = [{key: row for row, key in enumerate(_keys(part))} for part in parts]
    kept = [key for key in row_by_key[0] if all(key in index for index in row_by_key)]
    if len({key[1] for key in kept}) < 2:
        raise DataError(
            "These runs have fewer than two tested subjects in common: they were fitted on other data, or split "
            "differently. Fit them on the same data with the same seed."
        )
    aligned = [
        _rows(part, np.array([index[key] for key in kept])) for part, index in zip(parts, row_by_key, strict=True)
    ]
    for part in aligned[1:]:
        if not np.array_equal(np.asarray(part.labels), np.asarray(aligned[0].labels)):
            raise DataError("These runs give one scan or subject different labels; fit them on the same data.")
    return aligned


def _keys(predictions: Predictions) -> list[tuple[str, str]]:
    """The key of each row: the path of a scan, or the name of a subject (the number of scans may differ)."""
    first = predictions.scans.tolist() if predictions.unit == "scan" else [""] * len(predictions)
    return list(zip(first, predictions.subjects.tolist(), strict=True))


def _rows(predictions: Predictions, rows: Any) -> Predictions:
    """Some rows, without what no comparison looks at; pooled rows are called by their subject."""
    part = breakdown.select_rows(predictions, rows)
    plain = replace(part, sets=None, ood=None, ood_flag=None, expected_cdr=None, cdr_sd=None, mutual_information=None)
    return replace(plain, deferred=None, scan_counts=None)


def _stacked(parts: Sequence[Predictions]) -> Predictions:
    """Several seeds as one: a row for each seed and unit; the subject stays who it is."""
    arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in
              ("scans", "subjects", "probs", "entropy", "abstain", "labels")}  # fmt: skip
    return replace(parts[0], **arrays)


def _spreads(
    systems: Mapping[str, Sequence[ComparedRun]], names: Sequence[str]
) -> dict[tuple[str, str], tuple[float, float]]:
    from scanwise.metrics import METRICS

    spreads = {}
    for system, parts in systems.items():
        for name in names:
            values = [
                float(METRICS[name](entry.predictions.probs, np.asarray(entry.predictions.labels))) for entry in parts
            ]
            spreads[system, name] = comparison.mean_and_deviation(values)
    return spreads


def write_comparison(result: RunComparison, folder: Path) -> Path:
    """Write `comparison`, `differences`, `mcnemar` and `ranking` as CSV and Parquet, and the page.

    Raises:
        RunError: if the folder holds something that is no comparison.
    """
    run.refuse_foreign(folder, layout.COMPARISON, "comparison")
    systems = [
        (m.model, len(result.systems[m.model]), m.unit, m.name, m.value, m.low, m.high, m.count, *result.spreads[m.model, m.name])
        for m in result.metrics
    ]  # fmt: skip
    gaps = [
        (m.model, m.unit, m.name.removesuffix(" difference"), m.value, m.low, m.high, m.count)
        for m in result.differences
    ]
    pairs = [tuple(getattr(row, name) for name in MCNEMAR) for row in result.discordances]
    ranks = [(row.metric, row.name, row.value, row.rank, row.low, row.high, row.best) for row in result.ranks]
    text = page.build_comparison_page(
        result.unit, result.notes, {name: len(parts) for name, parts in result.systems.items()}, result.metrics,
        result.spreads, result.differences, result.discordances, result.ranks,
    )  # fmt: skip
    with run.owning(folder):
        write_table(SYSTEMS, systems, folder / layout.COMPARISON)
        write_table(DIFFERENCES, gaps, folder / layout.DIFFERENCES)
        write_table(MCNEMAR, pairs, folder / layout.MCNEMAR)
        write_table(RANKING, ranks, folder / layout.RANKING)
        run.write_text(text, folder / layout.COMPARISON_PAGE)
    return folder / layout.COMPARISON_PAGE
