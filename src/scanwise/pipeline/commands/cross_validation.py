"""K-fold by subject as one command; nested, where there is a choice to make between candidates.

Every subject is tested once, by a network that saw no scan of theirs. Where candidates compete, each fold averages them, or
chooses among them by its own validation subjects alone; then only the chosen one answers for that fold's test subjects. The
figures that come out are those of the whole procedure, the choice included; the other way is measured beside it. The simple
baselines answer once, beside the first candidate, and the procedure is compared with them person by person. Heatmaps are made of
one candidate alone, once it is known which was best.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scanwise import bundle, evaluation, metrics, pipeline, run
from scanwise.csv_files import write_table
from scanwise.errors import RecipeError, RunError
from scanwise.evaluation.sample import require_labels
from scanwise.pipeline.commands.candidates import average_candidates, candidate_predictions
from scanwise.pipeline.stages.bags import measured_units
from scanwise.pipeline.stages.evaluation import ModelPredictions, load_baselines, pool_folds
from scanwise.pipeline.stages.operating_points import validation_predictions
from scanwise.progress_bar import running_job
from scanwise.recipe import Recipe, load_recipe
from scanwise.records import METRIC_COLUMNS, Cohort, Metric, Predictions, Split, save_metrics
from scanwise.reporting import fold_page, tables
from scanwise.run import Fit, RunFolder, layout

log = logging.getLogger("scanwise")

Combination = Literal["auto", "choose", "average"]
OTHER_WAY = {"choose": "averaging", "average": "choosing"}
"""Model name of the procedure that was not asked for."""
FEW = 100
"""Validation subjects of a fold below which `auto` averages: a choice on fewer is mostly noise."""
CHOICES = ("fold", "candidate", "settings", "criterion", "unit", "validation_value", "chosen")


@dataclass(frozen=True, slots=True)
class CandidateChoice:
    """The validation value of one candidate in one fold, and whether it was chosen."""

    fold: int
    candidate: str
    value: float
    chosen: bool


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """The result of all folds.

    Attributes:
        folder: where it lies.
        candidates: name to the settings that make it; one without settings where there was no choice.
        choices: of every fold and candidate.
        combination: `choose` or `average`.
        explained: the candidate whose run has the heatmaps, which are of its first fold.
        metrics: of the chosen networks, fold by fold and pooled (fold -1); of the baselines and their paired differences, pooled.
    """

    folder: Path
    candidates: Mapping[str, tuple[str, ...]]
    choices: tuple[CandidateChoice, ...]
    combination: str
    explained: str
    metrics: tuple[Metric, ...]


def cross_validate(
    source: str | Path | Recipe,
    *,
    data: str | Path,
    out: Path,
    folds: int = 5,
    subject: str = "",
    settings: Sequence[str] = (),
    tries: Sequence[Sequence[str]] = (),
    criterion: str = "nll",
    combine: Combination = "auto",
    resume: bool = False,
    **options: Any,
) -> CrossValidation:
    """Fit, choose and judge over folds of subjects.

    Args:
        source: as in `fit`.
        data: as in `fit`.
        out: the folder; each candidate is a run in it, and `nested/` holds what came of the choice.
        folds: how many; every subject that can be judged is tested in one.
        subject: as in `fit`.
        settings: of all candidates.
        tries: the settings of each candidate; none is a single candidate, and nothing to choose.
        criterion: an entry of `metrics.METRICS`, on validation subjects.
        combine: `choose` one candidate a fold, or `average` them; `auto` averages where a fold has fewer than `FEW` validation
            subjects.
        resume: go on with what lies in `out`.
        options: further arguments of `fit`.

    Raises:
        RecipeError: if there are fewer than two folds, or the criterion is unknown.
        RunError: if candidates were split differently.
    """
    if folds < 2:
        raise RecipeError(f"Cross-validation needs two folds or more; {folds} was asked for.")
    if criterion not in metrics.METRICS:
        raise RecipeError(f"There is no metric {criterion!r} to choose by; known are {', '.join(metrics.METRICS)}.")
    candidates = {f"candidate-{k}": tuple(settings_of_one) for k, settings_of_one in enumerate(tries, 1)} or {
        "candidate-1": ()
    }
    runs: dict[str, RunFolder] = {}
    shared: dict[str, Any] = {"data": data, "subject": subject, **options}
    own_settings: dict[str, list[str]] = {}
    with running_job(options.get("progress", False), parts=len(candidates)):
        for name, own in candidates.items():
            log.info("%s of %d: %s", name, len(candidates), ", ".join(own) or "the recipe as it is")
            # The baselines of the first candidate serve all.
            run_dir, lone = out / name, ["rivals.names=[majority]"] if runs else []
            own_settings[name] = [*settings, *own, *lone, f"split.folds={folds}", "split.protocols=[honest]"]
            runs[name] = pipeline.fit(
                source, out=run_dir, settings=own_settings[name], resume=resume and run_dir.is_dir(),
                explain=len(candidates) == 1, **shared,
            )  # fmt: skip
    result = _judge(out, candidates, runs, criterion, combine)
    if len(candidates) > 1:
        log.info("%s was best in the first fold; it is explained", result.explained)
        pipeline.fit(source, out=out / result.explained, settings=own_settings[result.explained], resume=True, **shared)
    return result


def _judge(
    out: Path,
    candidates: Mapping[str, tuple[str, ...]],
    runs: Mapping[str, RunFolder],
    criterion: str,
    combine: Combination,
) -> CrossValidation:
    """Choose or average in every fold, pool the predictions, and write `nested/`."""
    first = next(iter(runs))
    fits = {name: [fit for fit in folder.fits() if fit.protocol == "honest"] for name, folder in runs.items()}
    _refuse_other_splits(fits)
    recipe, cohort = load_recipe(runs[first].recipe), Cohort.load(runs[first].cohort)
    unit_index = 1 if cohort.subjects_known else 0
    choices: list[CandidateChoice] = []
    combination = _combination(combine, fits[first], unit_index) if len(runs) > 1 else "choose"
    ways: dict[str, list[ModelPredictions]] = {"choose": [], "average": []}
    baselines: list[list[ModelPredictions]] = []
    bests: list[str] = []
    for number, beside in enumerate(fits[first]):
        values = {name: _worth(parts[number], criterion, unit_index) for name, parts in fits.items()}
        best = _best(values, criterion)
        bests.append(best)
        answers = {name: name == best or combination == "average" for name in values}
        choices += [CandidateChoice(number, name, value, answers[name]) for name, value in values.items()]
        ways["choose"].append(candidate_predictions((runs[best], fits[best][number])))
        if len(runs) > 1:
            ways["average"].append(average_candidates([(runs[name], fits[name][number]) for name in runs]))
        baselines.append(load_baselines(beside, ways["choose"][-1].split, recipe.rivals.names))
    answering = ways[combination]
    whole = pool_folds(answering)
    beside_it = [pool_folds(list(entries)) for entries in zip(*baselines, strict=True)]
    if len(runs) > 1:
        (other,) = (way for way in ways if way != combination)
        beside_it.append(replace(pool_folds(ways[other]), model=OTHER_WAY[combination]))
    results = _measure(recipe, cohort, [*answering, whole], beside_it)
    folded = CrossValidation(out, dict(candidates), tuple(choices), combination, bests[0], tuple(results))
    if run.is_writer():
        with run.owning(out / layout.NESTED):
            _write(folded, whole, criterion, "subject" if unit_index else "scan", cohort.subjects_known)
    return folded


def _measure(
    recipe: Recipe, cohort: Cohort, chosen: Sequence[ModelPredictions], baselines: Sequence[ModelPredictions]
) -> list[Metric]:
    """Figures of the chosen networks, all folds together last; then of the baselines, with its lead over each."""
    section = recipe.evaluation
    shared: dict[str, Any] = {"draws": section.draws, "confidence": section.confidence, "seed": recipe.seed}
    options: dict[str, Any] = {
        "ordered": cohort.ordered,
        "ratings": bundle.cdr_by_class(recipe, cohort.classes),
        **shared,
    }
    results: list[Metric] = []
    for entry in [*chosen, *baselines]:
        for unit in measured_units(recipe, cohort.subjects_known):
            predictions: Predictions = getattr(entry, unit)
            measured = evaluation.measure_predictions(
                predictions, subjects=predictions.subjects, by_class=entry.model == "network", **options
            )
            if entry.model != "network":
                measured += evaluation.paired_difference(getattr(chosen[-1], unit), predictions, **shared)
            results += [replace(m, model=entry.model, protocol="honest", fold=entry.split.fold) for m in measured]
    return results


def _refuse_other_splits(fits: Mapping[str, Sequence[Fit]]) -> None:
    names = list(fits)
    for name in names[1:]:
        for first, other in zip(fits[names[0]], fits[name], strict=True):
            if not np.array_equal(Split.load(first.split).side, Split.load(other.split).side):
                raise RunError(
                    f"{name} was split differently from {names[0]}, so their folds cannot be chosen between. Candidates "
                    "may not change the seed, the data or the split."
                )


def _combination(combine: Combination, fits: Sequence[Fit], unit_index: int) -> str:
    """`choose` or `average`."""
    if combine != "auto":
        return combine
    fewest = min(len(validation_predictions(fit)[unit_index]) for fit in fits)
    return "average" if fewest < FEW else "choose"


def _worth(fit: Fit, criterion: str, unit_index: int) -> float:
    """The criterion on the validation side of one fold, by subject where they are known."""
    predictions = validation_predictions(fit)[unit_index]
    return float(metrics.METRICS[criterion](predictions.probs, require_labels(predictions)))


def _best(values: Mapping[str, float], criterion: str) -> str:
    """The candidate that is best; the first of equals, and one without a value never."""
    sign = 1.0 if metrics.lower_is_better(criterion) else -1.0
    return min(values, key=lambda name: sign * values[name] if values[name] == values[name] else np.inf)


def _write(result: CrossValidation, whole: ModelPredictions, criterion: str, unit: str, subjects_known: bool) -> None:
    folder = RunFolder(result.folder / layout.NESTED)
    with run.writing(folder.metrics) as temporary:
        save_metrics(result.metrics, temporary)
    rows = [
        (
            choice.fold,
            choice.candidate,
            " ".join(result.candidates[choice.candidate]),
            criterion,
            unit,
            choice.value,
            choice.chosen,
        )
        for choice in result.choices
    ]
    write_table(CHOICES, rows, folder.tables / layout.CHOICES)
    tables.write_prediction_tables(folder, "honest", whole.scans, whole.subjects if subjects_known else None)
    values = [[getattr(m, column) for column in METRIC_COLUMNS] for m in result.metrics]
    write_table(METRIC_COLUMNS, values, folder.tables / layout.SUMMARY_STATISTICS)
    tables.write_baseline_table(folder, result.metrics)
    deciding = whole.subjects if subjects_known else whole.scans
    recipe = load_recipe(RunFolder(result.folder / next(iter(result.candidates))).recipe)
    titles = [recipe.stages[name].title or name if name in recipe.stages else name for name in deciding.classes]
    explained = result.explained if len(result.candidates) > 1 else ""
    page = fold_page.build_fold_page(deciding, titles, result.metrics, rows, result.combination, whole.scans, explained)
    run.write_text(page, result.folder / layout.FOLD_PAGE)
