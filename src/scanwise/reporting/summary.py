"""The first screen of a report: the classifier, its cohort, its performance on new people, and its limits of use."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from scanwise.phrases import printable
from scanwise.records import Metric, Unit
from scanwise.reporting.run_data import RunData
from scanwise.reporting.tested_people import describe_tested
from scanwise.reporting.wording import (
    FEW,
    SPACE,
    counted,
    fixed,
    in_full,
    lead,
    listed,
    model_title,
    range_of,
    term,
    value_of,
)

HEADLINES = ("accuracy", "balanced_accuracy", "auroc")


@dataclass(frozen=True, slots=True)
class BaselineVerdict:
    """Whether the network beats what needs no learning of the disease."""

    beats: bool
    text: str


@dataclass(frozen=True, slots=True)
class ProtocolCard:
    """The answer of one protocol."""

    protocol: str
    title: str
    leaked: bool
    value: str
    detail: str
    about: str
    verdict: BaselineVerdict | None


@dataclass(frozen=True, slots=True)
class ComparisonCell:
    """A figure in the comparison: the value, its interval below."""

    value: str
    interval: str
    leaked: bool


@dataclass(frozen=True, slots=True)
class FirstScreen:
    """Values of the template's first screen."""

    title: str
    summary: tuple[str, ...]
    alarms: tuple[str, ...]
    cards: tuple[ProtocolCard, ...]
    heads: tuple[tuple[str, bool], ...]
    comparison: tuple[tuple[str, str, tuple[ComparisonCell | None, ...]], ...]
    glossary: tuple[tuple[str, str], ...]
    misuse: tuple[str, ...]
    subjects_known: bool


def build_first_screen(contents: RunData) -> FirstScreen:
    """Gather the first screen."""
    return FirstScreen(
        title=printable(contents.recipe.title or contents.recipe.name),
        summary=(*_summary(contents), *describe_tested(contents), describe_start(contents)),
        alarms=_alarms(contents),
        cards=tuple(build_card(contents, protocol) for protocol in contents.shown),
        heads=_heads(contents),
        comparison=_comparison(contents),
        glossary=tuple((term(name).title, term(name).meaning) for name in HEADLINES),
        misuse=_misuse(contents),
        subjects_known=contents.cohort.subjects_known,
    )


def protocol_title(contents: RunData, protocol: str) -> str:
    """Title of the evaluation under one protocol."""
    if protocol != "honest":
        return "As published"
    return "On new people" if contents.cohort.subjects_known else "On new scans"


def build_card(contents: RunData, protocol: str) -> ProtocolCard:
    """The accuracy of one protocol, large, with its interval and the verdict against the rivals."""
    unit = contents.unit(protocol)
    metric = contents.numbers.find("accuracy", protocol, unit)
    fits = contents.fits_of(protocol)
    rule = printable(fits[0].split.rule)
    if len(fits) > 1:  # each rule names its own fold
        rule = f"{rule.partition(', fold ')[0]}, {len(fits)} folds"
    if metric is None:
        value, detail = "–", "The accuracy was not measured."
    else:
        value, detail = value_of(metric), f"accuracy by {unit}, {_interval(contents, metric)}, on {_tested(metric)}"
    return ProtocolCard(
        protocol,
        protocol_title(contents, protocol),
        contents.leaky(protocol),
        value,
        detail,
        f"{_about(contents, protocol)} Split: {rule}.",
        compare_with_baselines(contents, protocol),
    )


def compare_with_baselines(contents: RunData, protocol: str) -> BaselineVerdict | None:
    """Comparison with every baseline; None where no baseline was run."""
    unit, numbers = contents.unit(protocol), contents.numbers
    rivals = numbers.rivals(protocol, unit)
    if not rivals:
        return None
    leads = [(rival, numbers.find("accuracy difference", protocol, unit, rival.model)) for rival in rivals]
    unbeaten = [rival.model for rival, difference in leads if difference is None or not difference.low > 0]
    best, difference = leads[0]
    title, reached = model_title(best.model), in_full(best)
    gap = f"Difference, case by case: {lead(difference)}." if difference else "The paired difference was not measured."
    if not unbeaten:
        beaten = f"The best of them, {title.lower()}, reaches {reached}."
        return BaselineVerdict(True, f"It beats every baseline. {beaten} {gap}")
    if best.model in unbeaten:
        luck = " The lead may be due to chance." if difference and difference.value > 0 else ""
        return BaselineVerdict(False, f"It does not beat the best baseline. {title} reaches {reached}. {gap}{luck}")
    names = listed([model_title(name).lower() for name in unbeaten])
    sentence = f"It does not beat every baseline: it was not shown to be better than {names}."
    return BaselineVerdict(False, f"{sentence} The best, {title.lower()}, reaches {reached}. {gap}")


def _summary(contents: RunData) -> tuple[str, ...]:
    cohort = contents.cohort
    people = (
        counted(len(set(cohort.subject.tolist())), "subject")
        if cohort.subjects_known
        else "an unknown number of people"
    )
    built = (
        f"A classifier of scans into {counted(len(cohort.classes), 'class')} ({_named(contents.titles())}), "
        f"from {counted(len(cohort), 'scan')} of {people}."
    )
    if "honest" not in contents.protocols:
        return (built, "It was never tested on new people: this run has no honest protocol.")
    trained, tested = contents.side("honest", "train"), contents.side("honest", "test")
    folds = len(contents.fits_of("honest"))
    if not cohort.subjects_known:
        return (built, f"It learnt from {counted(trained[0], 'scan')} and was tested on {tested[0]:,} others.")
    if folds > 1:
        return (
            built,
            f"It was fitted {folds} times; each time, the {counted(tested[1], 'subject')} were divided anew, "
            "and each was tested by a network that had not seen any scan of theirs.",
        )
    return (
        built,
        f"It learnt from {counted(trained[0], 'scan')} of {counted(trained[1], 'subject')} and was tested on "
        f"{counted(tested[0], 'scan')} of {tested[1]:,} other people, none seen in training.",
    )


def describe_start(contents: RunData) -> str:
    """The weights that training started from."""
    start = printable(str(contents.provenance.get("weights", "")))
    return f"Weights at the start: {start}." if start else "Weights at the start: not recorded."


def _named(titles: list[str], most: int = 8) -> str:
    """Names as a sentence lists them; of many the first, and how many more there are."""
    return listed(titles if len(titles) <= most else [*titles[: most - 2], f"{len(titles) - most + 2} more"])


def _alarms(contents: RunData) -> tuple[str, ...]:
    alarms = []
    if not contents.cohort.subjects_known:
        alarms.append(
            "Leakage cannot be excluded. This run does not know which scans belong to the same person, so scans of one "
            "person may have been used both to train and to test. Every figure below may be too good. Name the "
            "subjects with --subject and run again."
        )
    if "honest" in contents.protocols and contents.cohort.subjects_known:
        tested = contents.side("honest", "test")[1]
        if tested < FEW:
            alarms.append(
                f"Only {counted(tested, 'subject')} {'was' if tested == 1 else 'were'} tested. Below {FEW}, intervals are "
                "wide and rough: read every figure as a hint, not as a finding."
            )
    alarms += [printable(finding.message) for finding in contents.findings if finding.check.startswith("rates.")]
    noun = "subject" if contents.cohort.subjects_known else "scan"
    for name, subjects in contents.not_evaluable().items():
        alarms.append(
            f"“{contents.title(name)}” is not evaluable: {counted(subjects, noun)} "
            f"{'has' if subjects == 1 else 'have'} it, too few to train on some and test on others. It was used in "
            "training only, and no figure or guarantee on this page is about it."
        )
    return tuple(alarms)


def _about(contents: RunData, protocol: str) -> str:
    if contents.leaky(protocol):
        return (
            "The same people, or the same pictures, were used to train and to test. This figure measures recognising "
            "them again, not recognising the disease; it is shown because such figures get published."
        )
    if not contents.cohort.subjects_known:
        return "The subjects are not known, so the same person may be in training and test."
    return "No training subject is in the test set."


def _interval(contents: RunData, metric: Metric) -> str:
    interval = range_of(metric)
    share = fixed(100 * contents.recipe.evaluation.confidence, 0)
    return f"{share}{SPACE}% interval {interval}" if interval else "no interval can be had"


def _tested(metric: Metric) -> str:
    return counted(metric.count, metric.unit)


def _heads(contents: RunData) -> tuple[tuple[str, bool], ...]:
    """Column heads: the protocols; of one alone, its units."""
    if len(contents.shown) > 1:
        return tuple((protocol_title(contents, p), contents.leaky(p)) for p in contents.shown)
    only = contents.shown[0]
    return tuple(
        (f"{protocol_title(contents, only)}, by {unit}", contents.leaky(only)) for unit in contents.units(only)
    )


def _comparison(contents: RunData) -> tuple[tuple[str, str, tuple[ComparisonCell | None, ...]], ...]:
    """Rows of metric and unit with a cell a protocol, and the best baseline of each below the network.

    Of one protocol alone the units are the columns.
    """
    kinds: tuple[Unit, ...] = ("subject", "scan")
    columns = [(p, unit) for p in contents.shown for unit in contents.units(p)]
    if len(contents.shown) == 1:
        return tuple(_compared(contents, columns, ""))
    return tuple(
        row
        for unit in kinds
        if any(unit == other for _, other in columns)
        for row in _compared(contents, [(p, unit) for p in contents.shown], f"by {unit}")
    )


def _compared(
    contents: RunData, places: list[tuple[str, Unit]], about: str
) -> Iterator[tuple[str, str, tuple[ComparisonCell | None, ...]]]:
    """A row each headline figure, and one of the best rival, with a cell each of these protocols and units."""
    for name in HEADLINES:
        values = [contents.numbers.find(name, protocol, unit) for protocol, unit in places]
        if any(values):
            yield (
                term(name).title,
                about,
                tuple(_cell(contents, p, m) for (p, _), m in zip(places, values, strict=True)),
            )
    best = [next(iter(contents.numbers.rivals(protocol, unit)), None) for protocol, unit in places]
    if any(best):
        cells = (
            _cell(contents, p, m, model_title(m.model) if m else "") for (p, _), m in zip(places, best, strict=True)
        )
        yield "Best baseline: accuracy", about, tuple(cells)


def _cell(contents: RunData, protocol: str, metric: Metric | None, who: str = "") -> ComparisonCell | None:
    if metric is None or not math.isfinite(metric.value):
        return None
    interval = range_of(metric)
    below = [f"({interval})" if interval else "", _tested(metric), who]
    return ComparisonCell(value_of(metric), ", ".join(filter(None, below)), contents.leaky(protocol))


def _misuse(contents: RunData) -> tuple[str, ...]:
    """Uses that the evidence of this run does not support."""
    limits = ["Care of any person: no diagnosis, no screening, no triage, no treatment decision."]
    honest = compare_with_baselines(contents, "honest") if "honest" in contents.protocols else None
    if honest is not None and not honest.beats:
        limits.append("Any claim that it has learnt the disease: it was not shown to beat classifiers that have not.")
    if names := [contents.title(name) for name in contents.not_evaluable()]:
        limits.append(f"Telling {listed([f'“{name}”' for name in names], 'or')} from the rest: that was never tested.")
    if any(contents.leaky(protocol) for protocol in contents.protocols):
        limits.append("Quoting the leaked figure as if it held for new people.")
    if not contents.cohort.subjects_known:
        limits.append("Claims about new people: the subjects are not known.")
    limits.append("Scans of other hospitals, scanners, ages or diseases than those it was tested on.")
    limits.append("Anything that is none of its classes: it always answers with one of them.")
    return tuple(limits)
