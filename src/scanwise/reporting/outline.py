"""The outline of a report: its sections in order, each with a few words of what it found; all are folded below the answer."""

from collections.abc import Mapping
from dataclasses import dataclass

from scanwise.reporting.run_data import RunData
from scanwise.reporting.summary import HEADLINES, FirstScreen
from scanwise.reporting.verdicts import Mark, describe_counts
from scanwise.reporting.wording import counted, term, with_interval


@dataclass(frozen=True, slots=True)
class ReportSection:
    """A section of the page: its heading, its name in the index, and its result in a few words."""

    title: str
    short: str
    gist: str
    mark: Mark = "none"


TITLES = {
    "discrimination": ("Performance", "Performance"),
    "rivals": ("Simple baselines", "Baselines"),
    "groups": ("Groups: performance in each", "Groups"),
    "points": ("Operating points: thresholds for use", "Thresholds"),
    "calibration": ("Calibration: does 90 % confidence mean 90 % accuracy?", "Calibration"),
    "sets": ("Prediction sets: all classes that cannot be ruled out", "Sets"),
    "doubt": ("Abstention: cases for review", "Abstention"),
    "explanations": ("Explanations and their sanity checks", "Explanations"),
    "failures": ("Most confident errors", "Errors"),
    "findings": ("Findings of the data checks", "Findings"),
    "data": ("Data and split", "Data"),
    "training": ("Training", "Training"),
    "published": ("As published", "Published"),
    "provenance": ("Provenance", "Provenance"),
    "files": ("Files", "Files"),
}
"""Heading and name in the index of every section, in the order of the page."""


def build_outline(contents: RunData, answer: FirstScreen, values: Mapping[str, object]) -> dict[str, ReportSection]:
    """The sections that this run has something for.

    Args:
        contents: the run.
        answer: its first screen, whose verdicts are also the result of their sections.
        values: what the template prints; a section without a value of its name, or with an empty one, is left out.
    """
    verdicts = {verdict.section: (verdict.text, verdict.mark) for verdict in answer.verdicts}
    sections = {}
    for name, (title, short) in TITLES.items():
        if values.get(name, True):
            gist, mark = verdicts.get(name) or (_gist(contents, answer, name, values), "none")
            sections[name] = ReportSection(title, short, gist, mark)
    if "findings" in sections:
        severities = [finding.severity for finding in contents.findings]
        worst: Mark = "bad" if "leak" in severities else "caution" if "warning" in severities else "good"
        sections["findings"] = ReportSection(*TITLES["findings"], describe_counts(severities), worst)
    return sections


def _gist(contents: RunData, answer: FirstScreen, name: str, values: Mapping[str, object]) -> str:
    """The result of a section without a verdict."""
    cohort, shown = contents.cohort, contents.shown[0]
    match name:
        case "discrimination":
            measured = [contents.numbers.find(m, shown, contents.unit(shown)) for m in HEADLINES[1:]]
            return "; ".join(f"{term(m.name).title} {with_interval(m)}" for m in measured if m)
        case "rivals":
            verdict = answer.cards[0].verdict
            return "no baseline was run" if verdict is None else "beaten" if verdict.beats else "not all beaten"
        case "groups":
            return values["groups"].verdict.rstrip(".")  # type: ignore[attr-defined,no-any-return]
        case "points":
            return "chosen on the validation side, tried on the test side"
        case "failures":
            return counted(len(values["failures"][1].rows), "error")  # type: ignore[index]
        case "data":
            people = (
                counted(len(set(cohort.subject.tolist())), "subject") if cohort.subjects_known else "unknown subjects"
            )
            return f"{counted(len(cohort), 'scan')} of {people}, {counted(len(cohort.classes), 'class')}"
        case "training":
            return f"network {contents.recipe.model.name.replace('_', ' ')}"
        case "published":
            return "leaked: not to be quoted" if values["leaked"] else "no subject is shared"
        case "provenance":
            return f"seed {contents.provenance.get('seed', contents.recipe.seed)}, versions and times"
        case "files":
            return "every figure in full precision"
    return ""
