"""The first screen of a report: the classifier, its cohort, its performance on new people, and its limits of use."""

from dataclasses import dataclass

from scanwise.phrases import printable
from scanwise.records import Metric
from scanwise.reporting.question import build_question
from scanwise.reporting.run_data import RunData, RunMetrics
from scanwise.reporting.tested_people import describe_tested
from scanwise.reporting.verdicts import VerdictChip, build_verdicts, name_missed_rates
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
class Caution:
    """A caution above the answer; `quotable` is false where a figure must not be quoted."""

    text: str
    quotable: bool = True


@dataclass(frozen=True, slots=True)
class FirstScreen:
    """Values of the template for the first screen.

    `facts` are rows of (what, text): people tested, people trained on, weights at the start.
    """

    title: str
    summary: tuple[str, ...]
    alarms: tuple[Caution, ...]
    cards: tuple[ProtocolCard, ...]
    verdicts: tuple[VerdictChip, ...]
    facts: tuple[tuple[str, str], ...]
    misuse: tuple[str, ...]
    subjects_known: bool


def build_first_screen(contents: RunData) -> FirstScreen:
    """Gather the first screen."""
    summary = _summary(contents)
    tested = " ".join(describe_tested(contents)).removeprefix("Tested: ")
    facts = (
        ("Tested", tested or "no one under an honest split."),
        ("Trained", " ".join(summary[1:])),
        ("Weights at the start", describe_start(contents).partition(": ")[2]),
    )
    return FirstScreen(
        title=build_question(contents),
        summary=(*summary, *describe_tested(contents), describe_start(contents)),
        alarms=_alarms(contents),
        cards=tuple(build_card(contents, protocol) for protocol in contents.shown),
        verdicts=build_verdicts(contents),
        facts=facts,
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
        f"{_about(contents, protocol)} Split: {rule}.".strip(),
        compare_with_baselines(contents, protocol),
    )


def compare_with_baselines(contents: RunData, protocol: str) -> BaselineVerdict | None:
    """Comparison with every baseline, by the unit that decides; None where no baseline was run."""
    return weigh_baselines(contents.numbers, protocol, contents.unit(protocol))


def weigh_baselines(numbers: RunMetrics, protocol: str, unit: str) -> BaselineVerdict | None:
    """Comparison with every baseline by one unit; None where no baseline was run."""
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
    sides = [contents.side("honest", side) for side in contents.recipe.learning_sides]
    trained, tested = [sum(counts) for counts in zip(*sides, strict=True)], contents.side("honest", "test")
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
    return f"Weights at the start: {start or 'not recorded'}."


def _named(titles: list[str], most: int = 8) -> str:
    """Names as a sentence lists them; of many the first, and how many more there are."""
    return listed(titles if len(titles) <= most else [*titles[: most - 2], f"{len(titles) - most + 2} more"])


def _alarms(contents: RunData) -> tuple[Caution, ...]:
    alarms = []
    leaked = [protocol for protocol in contents.shown if contents.leaky(protocol)]
    if leaked:
        alarms.append(Caution(f"The figure is leaked: it must not be quoted. {_about(contents, leaked[0])}", False))
    if not contents.cohort.subjects_known:
        text = (
            "Leakage cannot be excluded. This run does not know which scans belong to the same subject, so scans of one "
            "subject may have been used both to train and to test. Every figure below may be too good. Name the "
            "subjects with --subject and run again."
        )
        alarms.append(Caution(text, False))
    if missed := name_missed_rates(contents):
        text = f"{listed(missed).capitalize()}: stated, and not reached on the test side. The other figures stand. See the findings."
        alarms.append(Caution(text, False))
    if "honest" in contents.protocols and contents.cohort.subjects_known:
        tested = contents.side("honest", "test")[1]
        if tested < FEW:
            text = (
                f"Only {counted(tested, 'subject')} {'was' if tested == 1 else 'were'} tested. Below {FEW}, intervals are "
                "wide and rough: read every figure as a hint, not as a finding."
            )
            alarms.append(Caution(text))
    for name, subjects in contents.not_evaluable().items():
        text = (
            f"“{contents.title(name)}” is not evaluable: {counted(subjects, contents.cohort.noun)} "
            f"{'has' if subjects == 1 else 'have'} it, too few to train on some and test on others. It was used in "
            "training only, and no figure or guarantee on this page is about it."
        )
        alarms.append(Caution(text))
    return tuple(alarms)


def _about(contents: RunData, protocol: str) -> str:
    if contents.leaky(protocol):
        return (
            "The same people, or the same pictures, were used to train and to test. This figure measures recognising "
            "them again, not recognising the disease; it is shown because such figures get published."
        )
    if not contents.cohort.subjects_known:
        return "The subjects are not known, so the same one may be in training and test."
    return ""


def _interval(contents: RunData, metric: Metric) -> str:
    interval = range_of(metric)
    share = fixed(100 * contents.recipe.evaluation.confidence, 0)
    return f"{share}{SPACE}% interval {interval}" if interval else "no interval can be had"


def _tested(metric: Metric) -> str:
    return counted(metric.count, metric.unit)


def _misuse(contents: RunData) -> tuple[str, ...]:
    """Uses that the evidence of this run does not support."""
    limits = ["Care of any person: no diagnosis, no screening, no triage, no treatment decision."]
    honest = compare_with_baselines(contents, "honest") if "honest" in contents.protocols else None
    if honest is not None and not honest.beats:
        limits.append("A claim that it has learnt what the classes look like: no lead over the baselines was shown.")
    if names := [contents.title(name) for name in contents.not_evaluable()]:
        limits.append(f"Telling {listed([f'“{name}”' for name in names], 'or')} from the rest: that was never tested.")
    if any(contents.leaky(protocol) for protocol in contents.protocols):
        limits.append("Quoting the leaked figure as if it held for new people.")
    if not contents.cohort.subjects_known:
        limits.append("Claims about new people: the subjects are not known.")
    limits.append("Scans of other sources, devices, ages or diseases than those tested.")
    limits.append("Scans of none of its classes: it always names one of them.")
    return tuple(limits)
