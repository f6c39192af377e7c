"""What all stages of a fit share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scanwise.audit.evidence import AuditFinding, Evidence
from scanwise.cohort.store import Store
from scanwise.recipe import Recipe
from scanwise.records import Cohort, Finding, Split
from scanwise.reporting.wording import counted

CLEAN, LEAKS, UNJUDGED = 0, 1, 3
"""Exit codes of an audit."""


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What an audit found.

    Attributes:
        evidence: what was looked at; its cohort carries the subjects that were given or recovered.
        noted: what the checks said.
        seconds: what each stage took.
    """

    evidence: Evidence
    noted: tuple[AuditFinding, ...]
    seconds: dict[str, float]

    @property
    def exit_code(self) -> int:
        """0 clean, 1 something leaks, 3 what matters could not be judged, because nobody knows who is who."""
        if any(one.finding.severity == "leak" for one in self.noted):
            return LEAKS
        return CLEAN if self.evidence.subject is not None else UNJUDGED

    @property
    def verdict(self) -> str:
        """The answer in one line."""
        leaks = sum(one.finding.severity == "leak" for one in self.noted)
        if leaks:
            return f"These scans leak: {counted(leaks, 'finding')}"
        if self.evidence.subject is None:
            return "No leak was seen, but nobody knows who is who"
        return "Nothing leaks"

    def facts(self) -> list[tuple[str, str]]:
        """(what, value) rows about the data."""
        known = self.evidence.cohort
        split = self.evidence.split
        people = "not known"
        if self.evidence.subject is not None:
            people = f"{len(np.unique(self.evidence.subject)):,} ({known.subject_source})"
        counts = np.bincount(known.labels, minlength=len(known.classes))
        return [
            ("Scans", f"{len(known):,}"),
            ("Classes", ", ".join(f"{name} {count:,}" for name, count in zip(known.classes, counts, strict=True))),
            ("Subjects", people),
            ("Split", split.rule if split else "none comes with the data"),
            ("Set aside", counted(len(self.evidence.quarantine), "file")),
        ]


@dataclass(frozen=True, slots=True)
class Context:
    """What all stages share: the values that were read, and how to run."""

    recipe: Recipe
    cohort: Cohort
    store: Store
    splits: tuple[Split, ...]
    audited: AuditResult
    quarantine: tuple[tuple[str, str], ...]
    source: str
    device: str = "cpu"
    progress: bool = False
    times: dict[str, float] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict)
    send: Callable[[], None] | None = None
    """Called when something worth keeping was written, where the run folder stands at a URL."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the checks said, without the pictures."""
        return tuple(one.finding for one in self.audited.noted)
