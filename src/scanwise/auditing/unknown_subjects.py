"""Words of the checks that need the subjects, where these are not known."""

import re
from collections.abc import Sequence
from dataclasses import replace

from scanwise.records import Finding

UNKNOWN = "not checked, because the subjects are not known; pass --subject"
_UNCHECKED = re.compile(r"(?:Under the \w+ split: )?([^:.]+): not checked, because the subjects are not known[^.:]*\.")


def join_unchecked(findings: Sequence[Finding]) -> list[Finding]:
    """Findings with one in place of all that only say that the subjects are not known."""
    names = {index: match[1] for index, f in enumerate(findings) if (match := _UNCHECKED.fullmatch(f.message))}
    if len(names) < 2:
        return list(findings)
    first = min(names)
    listed = ", ".join(name[0].lower() + name[1:] for name in dict.fromkeys(names.values()))
    message = f"Not checked, because the subjects are not known: {listed}. Pass --subject."
    kept = [f for index, f in enumerate(findings) if index == first or index not in names]
    return [replace(f, message=message) if f is findings[first] else f for f in kept]
