"""Can these scans be trusted: what a cohort gives away before anything is trained, and what that costs in points.

Each check is a module with `examine(evidence) -> list[Noted]`; they share the values of `evidence` and nothing else.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module

from scanwise.audit.evidence import AuditFinding, Evidence
from scanwise.errors import lookup

CHECKS: Mapping[str, str] = {
    "duplicates": "the same pixels twice",
    "copies": "augmented copies of one scan",
    "subjects": "who is who",
    "leakage": "what a split gives away, in points",
    "shortcuts": "what tells the class without looking at the anatomy",
    "quality": "unreadable, odd and mislabelled scans",
    "evaluability": "who is too few to be judged",
}
"""Every check, in the order in which they run: a module of this room, and what it looks for."""

_MODULES = {"evaluability": "sample_size"}


def run_checks(
    evidence: Evidence, checks: Iterable[str] = tuple(CHECKS), said: Callable[[str], None] = lambda _: None
) -> tuple[list[AuditFinding], dict[str, float]]:
    """Run the checks.

    Args:
        evidence: what is known.
        checks: names of `CHECKS`.
        said: called with what each check looks for, before it looks.

    Returns:
        what they noted, in their order, and the seconds that each took.
    """
    noted: list[AuditFinding] = []
    seconds: dict[str, float] = {}
    for name in checks:
        said(lookup(CHECKS, name, "check"))
        begun = time.perf_counter()
        noted += import_module(f"scanwise.audit.{_MODULES.get(name, name)}").examine(evidence)
        seconds[name] = time.perf_counter() - begun
    return noted, seconds
