"""Scanwise turns a folder of labelled scans into a classifier that can be checked.

>>> import scanwise
>>> run = scanwise.fit("demo", data="phantom/", out="runs/demo", epochs=3)  # doctest: +SKIP
>>> run.metrics  # a DataFrame  # doctest: +SKIP
>>> scanwise.predict(run, ["scan.png"]).scans  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanwise.api import (
        audit,
        compare,
        evaluate,
        explain,
        export,
        fit,
        fold,
        load,
        predict,
        publish,
        recipes,
        register,
    )
    from scanwise.api.classifier import Classifier
    from scanwise.api.results import Run
    from scanwise.bundle import Bundle
    from scanwise.errors import ScanwiseError
    from scanwise.recipe import Recipe
    from scanwise.records import Cohort, Finding, Logits, Metric, Split

__version__ = "0.1.0"
__all__ = [
    "Bundle",
    "Classifier",
    "Cohort",
    "Finding",
    "Logits",
    "Metric",
    "Recipe",
    "Run",
    "ScanwiseError",
    "Split",
    "__version__",
    "audit",
    "compare",
    "evaluate",
    "explain",
    "export",
    "fit",
    "fold",
    "load",
    "predict",
    "publish",
    "recipes",
    "register",
]

_HOMES = {
    "api": (
        "audit",
        "compare",
        "evaluate",
        "explain",
        "export",
        "fit",
        "fold",
        "load",
        "predict",
        "publish",
        "recipes",
        "register",
    ),
    "api.classifier": ("Classifier",),
    "api.results": ("Run",),
    "bundle": ("Bundle",),
    "errors": ("ScanwiseError",),
    "recipe": ("Recipe",),
    "records": ("Cohort", "Finding", "Logits", "Metric", "Split"),
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that importing scanwise costs milliseconds."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"scanwise.{module}"), name)
    raise AttributeError(f"module 'scanwise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
