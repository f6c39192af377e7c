"""Tables of metrics with intervals that respect who the scans belong to.

Scans of a subject are not independent, so every interval comes from whole subjects: resampled within each class, so
that a rare class cannot vanish from a draw, or, of areas under the ROC curve, by DeLong's formula over subjects.
"""

from scanwise.evaluation.breakdown import break_down
from scanwise.evaluation.delong import auroc_interval
from scanwise.evaluation.estimates import PLAIN, measure, paired_difference
from scanwise.evaluation.operating import decision_curve, transport, transport_folds
from scanwise.evaluation.tables import classification_report, confusion, precision_recall_curve, reliability, roc_curve

__all__ = [
    "PLAIN",
    "auroc_interval",
    "break_down",
    "classification_report",
    "confusion",
    "decision_curve",
    "measure",
    "paired_difference",
    "precision_recall_curve",
    "reliability",
    "roc_curve",
    "transport",
    "transport_folds",
]
