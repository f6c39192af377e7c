"""Read scans: from a folder, manifest or URL to a Cohort and the Store of its pixels.

The names here are loaded on first use: a process that only decodes needs none of them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanwise.cohort.intake import AUTO, LABEL, LoadedCohort, read_cohort

__all__ = ["AUTO", "LABEL", "LoadedCohort", "read_cohort"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'scanwise.cohort' has no attribute {name!r}")
    from scanwise.cohort import intake

    return getattr(intake, name)
