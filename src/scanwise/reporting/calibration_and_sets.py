"""Calibration and prediction sets: confidence before and after the temperature, and coverage with its guarantee."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from scanwise import evaluation
from scanwise.arrays import softmax
from scanwise.phrases import printable
from scanwise.pooling import pool_by_subject
from scanwise.records import BoolArray, IntArray, Metric, Predictions, Unit
from scanwise.reporting import figures
from scanwise.reporting.components import (
    CLASSES_SHOWN,
    ReportFigure,
    ReportTable,
    describe_pick,
    embed_svg,
    pick_classes,
    shorten_table,
)
from scanwise.reporting.coverage_outcome import judge_coverage
from scanwise.reporting.performance import true_labels
from scanwise.reporting.run_data import RunData
from scanwise.reporting.wording import (
    SPACE,
    counted,
    fixed,
    in_full,
    listed,
    percent,
    range_of,
    term,
    value_of,
    with_interval,
)
from scanwise.run import layout

CALIBRATION_METRICS = ("ece", "calibrated_ece", "nll", "brier")
SHORT = {
    "kept": "",
    "within chance": " The threshold of this calibration set covers less than the average one: within chance for so few subjects.",
    "missed": " This is below the guarantee: the people tested may differ from those that the sets were made from.",
}
GUARANTEED_TO = {
    "new scan": "a new scan",
    "new subject": "a new person, all scans taken together",
    "random scan of a new subject": "one scan, drawn at random, of a new person",
    "every scan of a new subject": "all scans of a new person at once",
}


@dataclass(frozen=True, slots=True)
class CalibrationPart:
    """Calibration by one unit: the verdict, then confidence beside accuracy before and after the temperature."""

    unit: Unit
    decides: bool
    verdict: str
    figure: ReportFigure
    table: ReportTable


def build_calibration(contents: RunData) -> list[CalibrationPart]:
    """Calibration before and after the temperature, the unit that decides first."""
    units = sorted(contents.units("honest"), key=lambda unit: unit != contents.unit("honest"))
    return [_calibration(contents, unit) for unit in units]


def _calibration(contents: RunData, unit: Unit) -> CalibrationPart:
    predictions, logits = contents.predictions["honest", unit], contents.raw_logits()
    if unit == "subject":
        logits = [pool_by_subject(part) for part in logits]
    both = {"after calibration": predictions}
    if logits:
        raw = np.concatenate([softmax(part.logits).mean(axis=1) for part in logits])
        names, labels, subjects = (
            np.concatenate([getattr(part, name) for part in logits]) for name in ("scans", "labels", "subjects")
        )
        counts = (
            None
            if unit == "scan"
            else np.concatenate([part.scan_counts for part in logits if part.scan_counts is not None])
        )
        plain = replace(predictions, scans=names, subjects=subjects, scan_counts=counts, probs=raw, labels=labels)
        both = {"before": plain, **both}
    figure = figures.draw_reliability(
        f"reliability-{unit}",
        {name: evaluation.reliability_bins(part.probs, true_labels(part), 10) for name, part in both.items()},
        unit,
    )
    figures_of = {when: _calibration_figures(contents, part, when) for when, part in both.items()}
    rows, notes = [], []
    for name in CALIBRATION_METRICS:
        values = [part.get(name) for part in figures_of.values()]
        if any(values):
            rows.append((term(name).title, *(with_interval(m) if m else "–" for m in values)))
            notes.append(term(name).meaning)
    columns = ("Measure", *(name.capitalize() for name in both))
    title = f"By {unit}, on the test set of {counted(len(predictions), unit)}"
    table = ReportTable(title, columns, tuple(rows), layout.METRICS, tuple(notes))
    caption = "On the dotted line, confidence equals accuracy; below it the network is overconfident."
    after = figures_of["after calibration"]
    verdict = describe_calibration_error(after.get("ece"), after.get("calibrated_ece"))
    band = " Lines up and down: 95 % intervals of the accuracy." if unit == "subject" else ""
    decides = unit == contents.unit("honest")
    return CalibrationPart(unit, decides, verdict, embed_svg(figure, f"{caption}{band}"), table)


def _calibration_figures(contents: RunData, predictions: Predictions, when: str) -> dict[str, Metric]:
    """The measures of calibration by name: those of the run, or of the network's own probabilities, measured here."""
    if when != "before":
        stored = {name: contents.numbers.find(name, "honest", predictions.unit) for name in CALIBRATION_METRICS}
        return {name: metric for name, metric in stored.items() if metric}
    section = contents.recipe.evaluation
    measured = evaluation.measure_predictions(
        replace(predictions, sets=None, ood_flag=None, groups={}),
        subjects=predictions.subjects,
        names=CALIBRATION_METRICS,
        by_class=False,
        draws=section.draws,
        confidence=section.confidence,
        seed=contents.recipe.seed,
    )
    return {metric.name: metric for metric in measured}


def describe_calibration_error(error: Metric | None, expected: Metric | None) -> str:
    """Whether the calibration error is more than a calibrated network shows by chance; empty where it was not measured."""
    if error is None or expected is None:
        return ""
    range_of_chance = (
        f"{value_of(expected)} ({range_of(expected)}) by chance alone, on these {counted(error.count, error.unit)}"
    )
    if error.low <= 0:
        return (
            f"A calibration error of {value_of(error)} is no sign of miscalibration: a perfectly calibrated network would "
            f"show {range_of_chance}."
        )
    return (
        f"The confidence is off: a calibration error of {value_of(error)}, where a perfectly calibrated network would show "
        f"{range_of_chance}."
    )


def describe_temperatures(contents: RunData) -> list[str]:
    """The temperature of each unit, over folds, and why it was left at 1 where it was."""
    sentences, learnt = [], contents.learnt("calibrator")
    for unit in contents.units("honest"):
        parts = [part[unit] for part in learnt if "temperature" in part.get(unit, {})]
        refused = sorted({printable(str(part["refused"])).rstrip(".") for part in parts if part.get("refused")})
        reached = sorted({printable(str(part["reached"])) for part in parts if part.get("reached")})
        why = f" (left at 1 because {listed(refused)})" if refused else f" ({listed(reached)})" if reached else ""
        if parts:
            sentences.append(f"{_spread([float(part['temperature']) for part in parts])} by {unit}{why}")
    return sentences


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return fixed(values[0], 2)
    return f"{fixed(min(values), 2)} to {fixed(max(values), 2)}, fold by fold,"


@dataclass(frozen=True, slots=True)
class PredictionSetSection:
    """The prediction sets of one unit: the promise, what came of it, and the details."""

    unit: Unit
    guarantee: str
    outcome: str
    kept: bool
    figure: ReportFigure
    table: ReportTable


def build_prediction_sets(contents: RunData) -> list[PredictionSetSection]:
    """Guaranteed and measured coverage, by subject and by scan."""
    units = [(unit, contents.predictions["honest", unit]) for unit in contents.units("honest")]
    return [
        _sets(contents, unit, predictions, predictions.sets)
        for unit, predictions in units
        if predictions.sets is not None
    ]


def _sets(contents: RunData, unit: Unit, predictions: Predictions, named: BoolArray) -> PredictionSetSection:
    size, most = named.sum(axis=1), len(predictions.classes) + 1
    inside = named[np.arange(len(predictions)), true_labels(predictions)]
    sizes, covered = np.bincount(size, minlength=most), np.bincount(size[inside], minlength=most)
    figure = figures.draw_set_sizes(f"sets-{unit}", sizes, covered, unit, 0 if sizes[0] else 1)
    caption = (
        f"By {unit}: how many classes a set names. Exactly one is a clear answer; otherwise the case goes to review."
    )
    columns = ("Group", "Coverage", "Mean set size")
    rows = tuple(_set_rows(contents, predictions, inside, size, unit))
    counts = [len(predictions), *np.bincount(true_labels(predictions), minlength=len(predictions.classes)).tolist()]
    notes = tuple(counted(count, unit) for count in counts)
    title = f"By {unit}: how often the set held the true class"
    table = ReportTable(title, columns, rows, layout.METRICS, notes)
    if len(predictions.classes) > CLASSES_SHOWN:
        held = [
            float(inside[true_labels(predictions) == index].mean()) if n else np.nan
            for index, n in enumerate(counts[1:])
        ]
        kept_rows = [0, *(1 + row for row in pick_classes(counts[1:], held))]
        table = shorten_table(table, kept_rows, describe_pick(len(predictions.classes), "with the lowest coverage"))
    outcome, kept = _outcome(contents, unit)
    return PredictionSetSection(
        unit,
        describe_guarantee(contents, unit),
        outcome,
        kept,
        embed_svg(figure, caption),
        table,
    )


def describe_guarantee(contents: RunData, unit: str) -> str:
    """The coverage guarantee in plain words: its level, for which people, and the calibration set behind it."""
    learnt, weaker = contents.prediction_sets(unit), contents.recipe.conformal.is_out_of_fold
    if any(not sets.coverage for sets in learnt):
        return f"No guarantee: too few {'' if weaker else 'calibration '}subjects. The sets name every class."
    subjects_known = contents.cohort.subjects_known
    people = [len(np.unique(contents.cohort.subject[f.split.rows("calibration")])) for f in contents.fits_of("honest")]
    if weaker:
        people = [sets.calibration_count for sets in learnt]
    usual = "new subject" if unit == "subject" else "random scan of a new subject"
    population = (
        GUARANTEED_TO[learnt[0].guarantee if learnt else usual] if subjects_known else GUARANTEED_TO["new scan"]
    )
    from_whom = counted(people[0], f"calibration {contents.cohort.noun}")
    if len(set(people)) > 1:
        from_whom = f"{min(people)} to {max(people)} calibration subjects, fold by fold"
    case, cases = ("person", "people") if subjects_known else ("scan", "scans")
    origin = f"The threshold was set on {from_whom}, none of them used in training."
    if weaker:
        origin = (
            f"These sets are cross-conformal: they were made from {from_whom.replace('calibration', 'training')}, each judged by a "
            f"member that did not see them. Sets from a calibration set would guarantee "
            f"{_share(1 - contents.recipe.conformal.alpha)}; usually these hold the true class more often than they guarantee."
        )
    unfit = [f"“{contents.title(name)}”" for name in contents.not_evaluable()]
    outside = f" It does not cover anyone with {listed(unfit, 'or')}." if unfit else ""
    return (
        f"Guarantee: for {population}, the set holds the true class with a probability of at least {_target(contents)}, "
        f"averaged over {cases} like those of this cohort. {origin} "
        f"It does not hold for each class, for one given {case}, or for {cases} from elsewhere.{outside}"
    )


def _target(contents: RunData) -> str:
    return _share(contents.recipe.conformal.coverage)


def _share(value: float) -> str:
    return f"{fixed(100 * value, 1).removesuffix('.0')}{SPACE}%"


def _outcome(contents: RunData, unit: str) -> tuple[str, bool]:
    """Measured beside guaranteed coverage, and whether the interval is compatible with the guarantee."""
    coverage = contents.numbers.find("coverage", "honest", unit)
    single = contents.numbers.find("singleton_share", "honest", unit)
    alone = f"Sets that name exactly one class: {with_interval(single)}." if single else ""
    if coverage is None:
        return alone, True
    if any(not sets.coverage for sets in contents.prediction_sets(unit)):
        return f"Nothing is guaranteed. Measured: {in_full(coverage)}. {alone}", True
    outcome = judge_coverage(coverage, contents.prediction_sets(unit))
    return (
        f"Guaranteed: {_target(contents)} or more. Measured: {in_full(coverage)}.{SHORT[outcome]} {alone}",
        outcome != "missed",
    )


def _set_rows(
    contents: RunData, predictions: Predictions, inside: BoolArray, size: IntArray, unit: str
) -> Iterable[tuple[str, ...]]:
    labels = true_labels(predictions)
    groups = [
        (contents.title(name), f"class={name}", labels == index) for index, name in enumerate(predictions.classes)
    ]
    for title, group, here in [("Everyone", "", np.ones(len(predictions), dtype=np.bool_)), *groups]:
        count = int(here.sum())
        if not count:
            yield title, "–", "–"
            continue
        coverage = contents.numbers.find("coverage", "honest", unit, group=group)
        average = contents.numbers.find("mean_set_size", "honest", unit, group=group)
        yield (
            title,
            with_interval(coverage) if coverage else percent(float(inside[here].mean()), count),
            with_interval(average) if average else fixed(float(size[here].mean()), 2),
        )
