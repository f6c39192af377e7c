"""Checks of a cohort before training: duplicates, leakage, shortcuts, quality, sample size, and what leakage is worth in points.

Each check is a module with `examine(evidence) -> list[AuditFinding]` and a row of `CHECKS`. The checks share the values of
`evidence` and nothing else.
"""

from scanwise.auditing.checks import CHECKS, CheckSpec, run_checks, spec_of

__all__ = ["CHECKS", "CheckSpec", "run_checks", "spec_of"]
