"""Turn probabilities into sets of classes with a stated coverage.

A score says how strange a class is for a scan; the threshold is the exact finite-sample quantile of the scores of
calibration scans; a set holds every class that is not stranger than that. Coverage is then at least 1 - alpha on
average over calibration sets, whatever the network and the data, as long as calibration and new scans (or subjects)
are exchangeable. With randomised scores and empty sets allowed it is at most 1 - alpha + 1 / (n + 1) as well.

| sets | promise | learnt from |
|---|---|---|
| `ConformalSets` | 1 - alpha, over everyone | calibration scans, or subjects |
| `ConditionalSets` | 1 - alpha, in each class or in each group | the same, cell by cell |
| `WeightedSets` | 1 - alpha, over new scans of another mix | calibration subjects, and weights |
| `CrossSets` | about 1 - 2 alpha, over everyone | all scans, by cross-validation (CV+) |
Beside them: `SensitivityFloor`, a cut that misses few of the ill; `diagnose` and `coverage_lines`, what became of sets;
`compare_scores` and `compare_features`, whether new scans look as if drawn like those of calibration.
"""

from scanwise.conformal.conditional import ConditionalSets
from scanwise.conformal.control import SensitivityFloor
from scanwise.conformal.coverage import CoverageLine, coverage_lines, size_lines
from scanwise.conformal.cross import CrossSets
from scanwise.conformal.diagnostics import CoverageDiagnosis, diagnose
from scanwise.conformal.exchangeability import ShiftTest, compare_features, compare_scores
from scanwise.conformal.scores import SCORES, ScoreSpec
from scanwise.conformal.sets import ConformalSets, draws_from
from scanwise.conformal.weighted import LikelihoodRatio, WeightedSets

__all__ = [
    "SCORES",
    "ConditionalSets",
    "ConformalSets",
    "CoverageDiagnosis",
    "CoverageLine",
    "CrossSets",
    "LikelihoodRatio",
    "ScoreSpec",
    "SensitivityFloor",
    "ShiftTest",
    "WeightedSets",
    "compare_features",
    "compare_scores",
    "coverage_lines",
    "diagnose",
    "draws_from",
    "size_lines",
]
