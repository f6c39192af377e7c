"""Counts behind the sliders of threshold and prevalence: how many test cases each threshold calls."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scanwise.records import Predictions
from scanwise.reporting.components import CLASSES_SHOWN
from scanwise.reporting.performance import true_labels

STEPS = 101
"""Thresholds from 0 to 1."""


@dataclass(frozen=True, slots=True)
class ThresholdExplorer:
    """The classes that a reader can choose, and their counts as JSON."""

    titles: tuple[str, ...]
    counts: str
    unit: str


def build_explorer(predictions: Predictions, titles: Sequence[str]) -> ThresholdExplorer | None:
    """Counts at every threshold: of two classes of the second, of many classes of the commonest; None where none can be."""
    labels, cuts = true_labels(predictions), np.linspace(0, 1, STEPS)
    sizes = np.bincount(labels, minlength=len(titles))
    classes = [1] if len(titles) == 2 else np.argsort(-sizes, kind="stable")[:CLASSES_SHOWN].tolist()
    entries, names = [], []
    for index in sorted(classes):
        scores, positive = predictions.probs[:, index], labels == index
        if not 0 < positive.sum() < len(labels):
            continue
        called = scores[None] >= cuts[:, None] - 1e-12
        names.append(titles[index])
        entries.append(
            {
                "positives": int(positive.sum()),
                "negatives": int((~positive).sum()),
                "hits": (called & positive).sum(axis=1).tolist(),
                "alarms": (called & ~positive).sum(axis=1).tolist(),
            }
        )
    counts = json.dumps(entries, separators=(",", ":"))
    return ThresholdExplorer(tuple(names), counts, predictions.unit) if entries else None
