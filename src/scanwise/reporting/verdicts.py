"""The verdicts of a report, one a guarantee: leakage, calibration, coverage, novelty, explanations.

Red (`bad`) means that a figure must not be quoted, and nothing else does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scanwise import auditing
from scanwise.records import Finding, Metric
from scanwise.reporting.coverage_outcome import judge_coverage
from scanwise.reporting.run_data import RunData
from scanwise.reporting.wording import SPACE, counted, fixed, listed, value_of, with_interval
from scanwise.run import layout, read_json

Mark = Literal["good", "caution", "bad", "none"]
MISSED = {
    "coverage": "the coverage of the prediction sets",
    "errors": "the error among the answered",
    "false_alarms": "the share of false alarms",
    "operating_points": "the rates of the operating points",
}
"""Stated rates that may not hold on the test set, by the end of the finding that says so."""


@dataclass(frozen=True, slots=True)
class VerdictChip:
    """One verdict: what it is about, the section that has the evidence, its mark, and a few words."""

    title: str
    section: str
    mark: Mark
    text: str


def build_verdicts(contents: RunData) -> tuple[VerdictChip, ...]:
    """The verdicts of a run, in the order in which a reader should ask."""
    return (
        VerdictChip("Leakage", "findings", *_leakage(contents)),
        VerdictChip("Calibration", "calibration", *_calibration(contents)),
        VerdictChip("Coverage", "sets", *_coverage(contents)),
        VerdictChip("Novelty", "doubt", *_novelty(contents)),
        VerdictChip("Explanations", "explanations", *_explanations(contents)),
    )


def name_missed_rates(contents: RunData) -> list[str]:
    """Stated rates that do not hold on the test set, in words."""
    checks = dict.fromkeys(finding.check.removeprefix("rates.") for finding in contents.findings)
    return [MISSED[check] for check in checks if check in MISSED]


def leaks_of_honest(contents: RunData) -> list[Finding]:
    """Leaks that the checks of the images found in the honest split; those of a published split are its own."""
    return [f for f in contents.findings if f.severity == "leak" and auditing.spec_of(f) is not None]


def _leakage(contents: RunData) -> tuple[Mark, str]:
    if "honest" not in contents.protocols:
        leaked = any(contents.leaky(protocol) for protocol in contents.protocols)
        return ("bad", "leaked: must not be quoted") if leaked else ("caution", "never tested by subject")
    if not contents.cohort.subjects_known:
        return "bad", "not excluded: subjects unknown"
    if leaks := leaks_of_honest(contents):
        return "bad", f"{counted(len(leaks), 'leak')} found in the data"
    return "good", "none: no person is in both training and test"


def _calibration(contents: RunData) -> tuple[Mark, str]:
    error, chance = (_figure(contents, name) for name in ("ece", "calibrated_ece"))
    if error is None:
        return "none", "not measured"
    if chance is None:
        return "none", f"error (ECE) {value_of(error)}"
    if error.low <= 0:
        return "good", f"no sign of an error beyond chance (ECE {value_of(error)})"
    return "caution", f"confidence is off: ECE {value_of(error)}, by chance {value_of(chance)}"


def _coverage(contents: RunData) -> tuple[Mark, str]:
    coverage = _figure(contents, "coverage")
    if coverage is None:
        return "none", "not measured"
    unit = contents.unit("honest")
    if any(not sets.coverage for sets in contents.prediction_sets(unit)):
        return "caution", "no guarantee: too few to calibrate on"
    target = contents.recipe.conformal.coverage
    stated = f"{fixed(100 * target, 1).removesuffix('.0')}{SPACE}%"
    outcome = judge_coverage(coverage, contents.prediction_sets(unit))
    if outcome == "missed":
        return "bad", f"{value_of(coverage)} where {stated} is stated: do not quote the guarantee"
    if outcome == "within chance":
        return "caution", f"{with_interval(coverage)}, guaranteed {stated}: low, but within chance"
    return "good", f"{with_interval(coverage)}, guaranteed {stated}"


def _novelty(contents: RunData) -> tuple[Mark, str]:
    share = _figure(contents, "ood_flag_share")
    if share is None:
        return "none", "not measured"
    checks = {finding.check for finding in contents.findings}
    alarms = f"{value_of(share)} false alarms"
    if "rates.false_alarms" in checks:
        return "bad", f"{alarms}, more than stated: do not quote the rate"
    if "rates.brightness" in checks:
        return "caution", f"{alarms}; a change of brightness alone is flagged"
    return "good", f"{alarms} on people like these"


def _explanations(contents: RunData) -> tuple[Mark, str]:
    path = contents.run.heatmaps / layout.CHECKS
    if not path.is_file():
        return "none", "none were made"
    return judge_checks([bool(check["passed"]) for check in read_json(path)["checks"]])


def judge_checks(passed: list[bool]) -> tuple[Mark, str]:
    """The verdict on explanations from their sanity checks.

    >>> judge_checks([True, False, True]), judge_checks([True])
    (('bad', '1 of 3\\xa0checks failed: do not use them'), ('good', '1\\xa0check passed'))
    """
    if not passed:
        return "none", "not checked"
    failed = passed.count(False)
    if failed:
        return "bad", f"{failed} of {counted(len(passed), 'check')} failed: do not use them"
    return "good", f"{counted(len(passed), 'check')} passed"


def describe_counts(severities: Sequence[str]) -> str:
    """Findings counted by severity, the gravest first.

    >>> describe_counts(["note", "leak", "note"])
    '1 leak and 2 notes'
    """
    counts = [(name, severities.count(name)) for name in ("leak", "warning", "note")]
    return listed([counted(count, name) for name, count in counts if count]).replace(SPACE, " ") or "nothing to report"


def _figure(contents: RunData, name: str) -> Metric | None:
    """A figure of the honest protocol by the unit that decides."""
    return contents.numbers.find(name, "honest", contents.unit("honest")) if "honest" in contents.protocols else None
