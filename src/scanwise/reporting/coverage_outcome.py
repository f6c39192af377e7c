"""The coverage that was measured beside the one that is guaranteed: kept, within chance, or missed."""

from collections.abc import Sequence
from typing import Literal

from scanwise import risk
from scanwise.conformal import ConformalSets, PredictionSets
from scanwise.records import Metric

CoverageOutcome = Literal["kept", "within chance", "missed"]
TAIL = 0.025
"""Share of runs in which sets that keep their guarantee are called missed."""


def judge_coverage(coverage: Metric, sets: Sequence[PredictionSets]) -> CoverageOutcome:
    """Judge the coverage on the test side.

    The guarantee is an average over calibration sets: the coverage of one threshold is beta distributed about it, the wider
    the fewer the calibration subjects (`risk.coverage_band`). So of subjects an interval below the guarantee is not yet a
    miss. Scans of one person are no independent draws, and for cross-conformal sets there is no such law: there the interval
    decides.

    Args:
        coverage: with its interval.
        sets: of each fold, all with a guarantee.
    """
    guaranteed = min((own.coverage for own in sets), default=0.9)
    if not coverage.high < guaranteed:
        return "kept"
    counts = [own.calibration_count for own in sets if isinstance(own, ConformalSets) and own.calibration_count]
    if coverage.unit != "subject" or not counts:
        return "missed"
    least = risk.coverage_band(min(counts), coverage.count, 1 - guaranteed, TAIL)
    return "within chance" if coverage.value >= least else "missed"
