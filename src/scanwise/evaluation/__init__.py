"""Tables of metrics with intervals that respect who the scans belong to.

Scans of a subject are not independent, so every interval comes from resampling whole subjects, within each class so
that a rare class cannot vanish from a draw.
"""

from scanwise.evaluation.estimates import PLAIN, measure, paired_difference
from scanwise.evaluation.tables import classification_report, confusion, reliability, roc_curve

__all__ = ["PLAIN", "classification_report", "confusion", "measure", "paired_difference", "reliability", "roc_curve"]
