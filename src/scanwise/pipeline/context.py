"""Values that all stages of a fit share."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from scanwise.auditing.evidence import AuditFinding, Evidence
from scanwise.cohort.store import Store
from scanwise.cohort.veil import OPEN, Veil
from scanwise.errors import RunError
from scanwise.progress_bar import work_step
from scanwise.recipe import Recipe
from scanwise.records import Cohort, Finding, FloatArray, Split, load_findings, replace_findings, save_findings
from scanwise.reporting.wording import counted
from scanwise.run import RunFolder, require_device_name, writing

CLEAN, LEAKS, UNJUDGED = 0, 1, 3
"""Exit codes of an audit."""


@dataclass(frozen=True, slots=True)
class AuditResult:
    """The result of an audit.

    Attributes:
        evidence: the scans and what was measured on them; its cohort carries the subjects that were given or recovered.
        checked: findings of the checks, with their pictures.
        seconds: what each stage took.
    """

    evidence: Evidence
    checked: tuple[AuditFinding, ...]
    seconds: dict[str, float]

    @property
    def exit_code(self) -> int:
        """0 clean, 1 something leaks, 3 what matters could not be judged, because the subjects are unknown."""
        if any(entry.finding.severity == "leak" for entry in self.checked):
            return LEAKS
        return CLEAN if self.evidence.subject is not None else UNJUDGED

    @property
    def verdict(self) -> str:
        """The answer in one line."""
        leaks = sum(entry.finding.severity == "leak" for entry in self.checked)
        if leaks:
            return f"These scans leak: {counted(leaks, 'finding')}"
        if self.evidence.subject is None:
            return "No leak was seen, but the subjects are unknown"
        return "No leak was found"

    def facts(self) -> list[tuple[str, str]]:
        """(what, value) rows about the data."""
        cohort = self.evidence.cohort
        split = self.evidence.split
        people = "not known"
        if self.evidence.subject is not None:
            people = f"{len(np.unique(self.evidence.subject)):,} ({cohort.subject_source})"
        counts = np.bincount(cohort.labels, minlength=len(cohort.classes))
        return [
            ("Scans", f"{len(cohort):,}"),
            ("Classes", ", ".join(f"{name} {count:,}" for name, count in zip(cohort.classes, counts, strict=True))),
            ("Subjects", people),
            ("Split", split.rule if split else "none comes with the data"),
            ("Set aside", counted(len(self.evidence.quarantine), "file")),
        ]


@dataclass(slots=True)
class Timings:
    """Seconds that each stage took; stages add to it while the fit runs."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of a block to its stage."""
        start = time.perf_counter()
        with work_step(stage):
            yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


@dataclass(slots=True)
class FeatureCache:
    """(N, D) frozen features of all scans, computed once for all folds and protocols."""

    features: FloatArray | None = None

    def get(self, compute: Callable[[], FloatArray]) -> FloatArray:
        """The features; the first call computes them."""
        if self.features is None:
            self.features = compute()
        return self.features


@dataclass(frozen=True, slots=True)
class Context:
    """Values that were read, and how to run; `timings` and `feature_cache` alone change while a fit runs."""

    recipe: Recipe
    cohort: Cohort
    store: Store
    splits: tuple[Split, ...]
    audited: AuditResult
    quarantine: tuple[tuple[str, str], ...]
    source: str
    veil: Veil = OPEN
    device: str = "cpu"
    progress: bool = False
    timings: Timings = field(default_factory=Timings)
    feature_cache: FeatureCache = field(default_factory=FeatureCache)
    send: Callable[[], None] | None = None
    """Called when something worth keeping was written, where the run folder stands at a URL."""

    @property
    def written_recipe(self) -> Recipe:
        """The recipe as it is written: without secrets, and under pseudonyms without names in its paths."""
        return self.veil.recipe(self.recipe, places=True)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of the checks, without their pictures."""
        return tuple(entry.finding for entry in self.audited.checked)


def resolve_device(device: str, threads: int) -> str:
    """The device that `auto` or a name means, after setting the threads of the CPU."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    require_device_name(device)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RunError(f"The device {device!r} cannot be used here: {str(error).splitlines()[0]} Try cpu.") from error
    return device


def write_findings(run: RunFolder, prefix: str, findings: Sequence[Finding]) -> None:
    """Write findings of a stage, whose checks begin with the prefix, among those of the run; they replace those of an earlier session."""
    with writing(run.findings) as temporary:
        save_findings(replace_findings(load_findings(run.findings), prefix, findings), temporary)
