"""What all stages of a fit share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scanwise.cohort.store import Store
from scanwise.pipeline.auditing import Audited
from scanwise.recipe import Recipe
from scanwise.records import Cohort, Finding, Split


@dataclass(frozen=True, slots=True)
class Work:
    """What all stages share: the values that were read, and how to run."""

    recipe: Recipe
    cohort: Cohort
    store: Store
    splits: tuple[Split, ...]
    audited: Audited
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
