"""The values that travel between stages: frozen, saved as npz, parquet or JSON, never pickled.

Arrays are not copied on the way; treat them as read-only. Text arrays hold `""` where a value is missing.
"""

from scanwise.records.array_files import read_arrays
from scanwise.records.cohort import Cohort, Split
from scanwise.records.logits import Logits
from scanwise.records.predictions import Predictions
from scanwise.records.results import (
    METRIC_COLUMNS,
    Finding,
    Heatmap,
    Metric,
    load_findings,
    load_metrics,
    replace_findings,
    save_findings,
    save_metrics,
)
from scanwise.records.scan_novelty import ScanNovelty
from scanwise.records.types import SIDES, BoolArray, FloatArray, IntArray, Severity, StrArray, Unit

__all__ = [
    "METRIC_COLUMNS",
    "SIDES",
    "BoolArray",
    "Cohort",
    "Finding",
    "FloatArray",
    "Heatmap",
    "IntArray",
    "Logits",
    "Metric",
    "Predictions",
    "ScanNovelty",
    "Severity",
    "Split",
    "StrArray",
    "Unit",
    "load_findings",
    "load_metrics",
    "read_arrays",
    "replace_findings",
    "save_findings",
    "save_metrics",
]
