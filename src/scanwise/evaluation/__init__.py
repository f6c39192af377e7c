"""Metrics with intervals over subjects, comparisons, operating points, and the data of tables and curves.

Scans of a subject are not independent, so every interval comes from whole subjects, class by class: mid-P limits put together
(`strata`), areas under the ROC curve by placements (`placements`), and the bootstrap within each class where there is no
formula.
"""

from scanwise.evaluation.breakdown import break_down
from scanwise.evaluation.estimates import measure_predictions, paired_difference
from scanwise.evaluation.operating import decision_curve, transfer_thresholds, transfer_thresholds_over_folds
from scanwise.evaluation.placements import expected_auroc_margin
from scanwise.evaluation.tables import (
    classification_report,
    confusion_counts,
    precision_recall_curve,
    reliability_bins,
    roc_curve,
)

__all__ = [
    "break_down",
    "classification_report",
    "confusion_counts",
    "decision_curve",
    "expected_auroc_margin",
    "measure_predictions",
    "paired_difference",
    "precision_recall_curve",
    "reliability_bins",
    "roc_curve",
    "transfer_thresholds",
    "transfer_thresholds_over_folds",
]
