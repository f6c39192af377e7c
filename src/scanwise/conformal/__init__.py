"""Prediction sets: sets of classes with a guaranteed coverage.

A score says how poorly a class fits a scan; the threshold is the exact finite-sample quantile of the scores of
calibration scans; a set holds every class whose score is at most that. Coverage is then at least 1 - alpha on average
over calibration samples, whatever the network and the data, as long as calibration and new scans (or subjects) are
exchangeable. With randomised scores and empty sets allowed it is at most 1 - alpha + 1 / (n + 1) as well.

`ConformalSets` guarantee 1 - alpha over everyone and learn from calibration scans, or subjects; `ConditionalSets`
guarantee it in each class or in each group, and learn cell by cell. `CrossSets` need no calibration side: they learn from the
people of training, each judged by a network that did not see them, and guarantee 1 - 2 alpha.

Beside them: `coverage_lines` and `size_lines`, the realised coverage; `compare_scores` and `compare_features`, tests of
exchangeability.
"""

from scanwise.conformal.conditional import ConditionalSets
from scanwise.conformal.coverage import CoverageLine, coverage_lines, size_lines
from scanwise.conformal.cross import CrossSets, PredictionSets, sets_from_dict
from scanwise.conformal.exchangeability import ShiftTest, compare_features, compare_scores
from scanwise.conformal.scores import SCORES, ScoreSpec
from scanwise.conformal.sets import ConformalSets, draws_from

__all__ = [
    "SCORES",
    "ConditionalSets",
    "ConformalSets",
    "CoverageLine",
    "CrossSets",
    "PredictionSets",
    "ScoreSpec",
    "ShiftTest",
    "compare_features",
    "compare_scores",
    "coverage_lines",
    "draws_from",
    "sets_from_dict",
    "size_lines",
]
