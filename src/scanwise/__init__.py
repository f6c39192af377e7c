"""Scanwise turns a folder of labelled scans into a classifier that can be checked.

>>> import scanwise
>>> run = scanwise.fit("demo", data="phantom/", out="runs/demo")  # doctest: +SKIP
>>> scanwise.load(run.path).predict(["scan.png"])  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanwise.bundle import Bundle, load
    from scanwise.errors import ScanwiseError
    from scanwise.pipeline import fit
    from scanwise.recipe import Recipe
    from scanwise.records import Cohort, Finding, Logits, Metric, Split
    from scanwise.run import RunFolder

__version__ = "0.1.0"
__all__ = [
    "Bundle",
    "Cohort",
    "Finding",
    "Logits",
    "Metric",
    "Recipe",
    "RunFolder",
    "ScanwiseError",
    "Split",
    "__version__",
    "fit",
    "load",
]

_HOMES = {
    "bundle": ("Bundle", "load"),
    "errors": ("ScanwiseError",),
    "pipeline": ("fit",),
    "recipe": ("Recipe",),
    "records": ("Cohort", "Finding", "Logits", "Metric", "Split"),
    "run": ("RunFolder",),
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that importing scanwise costs milliseconds."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"scanwise.{module}"), name)
    raise AttributeError(f"module 'scanwise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
