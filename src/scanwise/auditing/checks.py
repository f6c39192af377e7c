"""The table of audit checks, and the function that runs them."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module

from scanwise.auditing.evidence import AuditFinding, Evidence
from scanwise.errors import lookup
from scanwise.records import Finding

Examine = Callable[[Evidence], list[AuditFinding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSpec:
    """One check of the audit, and all that `scanwise audit` and `fit` need to know about it.

    Attributes:
        name: key in `CHECKS` and in the recipe's `audit.checks`; the `check` of each of its findings is this name, or begins
            with it and a dot, as in "quality.blank".
        title: what the check looks for, for progress messages.
        examine: the check itself.
        needs_classes: skipped where all scans have one class.
        stops_fit: a finding of severity "leak" on an honest split stops `fit`. False for `copies`: that two scans are copies is
            inferred, and simple pictures may look so; the finding is shown in red and `fit` goes on.
        each_protocol: `fit` runs it on the first split of every protocol; otherwise on its first split alone.
    """

    name: str
    title: str
    examine: Examine
    needs_classes: bool = False
    stops_fit: bool = False
    each_protocol: bool = False


def _examine_in(module: str) -> Examine:
    """`examine` of a module of this room, imported when the check runs: `scanwise --help` needs none of them."""

    def examine(evidence: Evidence) -> list[AuditFinding]:
        findings: list[AuditFinding] = import_module(f"scanwise.auditing.{module}").examine(evidence)
        return findings

    return examine


CHECKS: Mapping[str, CheckSpec] = {
    spec.name: spec
    for spec in (
        CheckSpec(
            name="duplicates",
            title="exact and near duplicates",
            examine=_examine_in("duplicates"),
            stops_fit=True,
        ),
        CheckSpec(name="copies", title="augmented copies of one scan", examine=_examine_in("copies")),
        CheckSpec(
            name="subjects",
            title="subjects, as the images show them",
            examine=_examine_in("subjects"),
            stops_fit=True,
        ),
        CheckSpec(
            name="leakage",
            title="leakage between the sides of the split",
            examine=_examine_in("leakage"),
            needs_classes=True,
            stops_fit=True,
            each_protocol=True,
        ),
        CheckSpec(
            name="shortcuts",
            title="cues beside the content that predict the class",
            examine=_examine_in("shortcuts"),
            needs_classes=True,
        ),
        CheckSpec(name="quality", title="unreadable, odd and mislabelled scans", examine=_examine_in("quality")),
        CheckSpec(
            name="evaluability",
            title="classes and groups of too few subjects",
            examine=_examine_in("sample_size"),
            needs_classes=True,
        ),
    )
}
"""Every check by its name, in the order in which they run."""


def run_checks(
    evidence: Evidence,
    names: Iterable[str] = tuple(CHECKS),
    report_progress: Callable[[str], None] = lambda _: None,
    checks: Mapping[str, CheckSpec] = CHECKS,
) -> tuple[list[AuditFinding], dict[str, float]]:
    """Run some checks; those that need classes are skipped where all scans have one.

    Args:
        evidence: the cohort, its thumbnails and its split.
        names: keys of `checks`.
        report_progress: called with the title of each check before it runs.
        checks: the table; give `CHECKS | {"mine": ...}` to run a check of your own.

    Returns:
        their findings in order, and the seconds that each check took.

    Raises:
        RecipeError: if there is no check of a name.
    """
    specs = [lookup(checks, name, "check") for name in names]
    findings: list[AuditFinding] = []
    seconds: dict[str, float] = {}
    for spec in specs:
        if spec.needs_classes and len(evidence.cohort.classes) < 2:
            continue
        report_progress(spec.title)
        start = time.perf_counter()
        findings += spec.examine(evidence)
        seconds[spec.name] = time.perf_counter() - start
    return findings, seconds


def spec_of(finding: Finding, checks: Mapping[str, CheckSpec] = CHECKS) -> CheckSpec | None:
    """The check that a finding is of; None where it is of none, such as a finding of reading or splitting."""
    return checks.get(finding.check.partition(".")[0])
