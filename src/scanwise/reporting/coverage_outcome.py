"""The coverage that was measured beside the one that is guaranteed: kept, within chance, or missed."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from scanwise import risk
from scanwise.records import Metric

CoverageOutcome = Literal["kept", "within chance", "missed"]
TAIL = 0.025
"""Share of runs in which sets that keep their guarantee are called missed."""


def judge_coverage(coverage: Metric, sets: Sequence[Mapping[str, Any]]) -> CoverageOutcome:
    """Judge the coverage on the test side.

    The guarantee is an average over calibration sets: the coverage of one threshold is beta distributed about it, the wider
    the fewer the calibration subjects (`risk.coverage_band`). So of subjects an interval below the guarantee is not yet a
    miss. Scans of one person are no independent draws: there the interval decides.

    Args:
        coverage: with its interval.
        sets: of each fold what was learnt, with `alpha` and `calibration_count`.
    """
    alpha = max((float(part["alpha"]) for part in sets), default=0.1)
    if not coverage.high < 1 - alpha:
        return "kept"
    counts = [int(part["calibration_count"]) for part in sets if "calibration_count" in part]
    if coverage.unit != "subject" or not counts:
        return "missed"
    least = risk.coverage_band(min(counts), coverage.count, alpha, TAIL)
    return "within chance" if coverage.value >= least else "missed"
