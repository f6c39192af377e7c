"""Words of the checks that need the subjects, where these are not known."""

from collections.abc import Sequence
from dataclasses import replace

from scanwise.records import Finding

UNKNOWN = "not checked, because the subjects are not known; pass --subject"


def join_unchecked(findings: Sequence[Finding]) -> list[Finding]:
    """Findings with one in place of all that only say that the subjects are not known."""
    waiting = [index for index, finding in enumerate(findings) if finding.unchecked]
    if len(waiting) < 2:
        return list(findings)
    first, *others = waiting
    listed = ", ".join(dict.fromkeys(findings[index].unchecked for index in waiting))
    message = f"Not checked, because the subjects are not known: {listed}. Pass --subject."
    joined = [*findings[:first], replace(findings[first], message=message), *findings[first + 1 :]]
    return [finding for index, finding in enumerate(joined) if index not in others]
