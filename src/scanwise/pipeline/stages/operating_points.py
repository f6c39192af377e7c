"""Thresholds chosen on validation subjects and measured on test subjects, and decision curves."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scanwise import bundle, evaluation
from scanwise.pipeline.context import Context
from scanwise.pipeline.stages.evaluation import POOLED, ModelPredictions, pool_folds
from scanwise.records import Logits, Predictions
from scanwise.reporting import legacy_tables
from scanwise.run import Fit, RunFolder

ANONYMOUS = "0" * 64
"""Thresholds use probabilities alone, never at randomised sets, so no hash of a scan is needed."""
UNITS = ("scans", "subjects")


def write_operating_points(context: Context, folder: RunFolder, predictions: Sequence[ModelPredictions]) -> None:
    """Write `tables/operating_points` and `tables/decision_curve` of the honest fits.

    Of several folds each has rows of its own, and all together have the fold -1: every fold's cut is chosen on its own
    validation people and tried on its own test people, and what it called is pooled.
    """
    honest = [entry for entry in predictions if entry.model == "network" and entry.split.protocol == "honest"]
    if not honest:
        return
    chosen = [validation_predictions(folder.fit("honest", entry.split.fold)) for entry in honest]
    whole = pool_folds(honest) if len(honest) > 1 else honest[0]
    points: list[dict[str, Any]] = []
    curved: list[dict[str, Any]] = []
    for index, unit in enumerate(UNITS if context.cohort.subjects_known else UNITS[:1]):
        choosing = [both[index] for both in chosen]
        trying: list[Predictions] = [getattr(entry, unit) for entry in honest]
        for entry, own, other in zip(honest, choosing, trying, strict=True):
            points += _transport(context, entry.split.fold, [own], [other], other)
        if len(honest) > 1:
            points += _transport(context, POOLED, choosing, trying, getattr(whole, unit))
        curved += decision_curves(getattr(whole, unit))
    legacy_tables.write_operating_point_tables(folder, points, curved)


def _transport(
    context: Context, fold: int, chosen: Sequence[Predictions], tried: Sequence[Predictions], together: Predictions
) -> list[dict[str, Any]]:
    section = context.recipe.evaluation
    options: dict[str, Any] = {"draws": section.draws, "confidence": section.confidence, "seed": context.recipe.seed}
    return [
        {"fold": fold, **row} for row in evaluation.transfer_thresholds_over_folds(chosen, tried, together, **options)
    ]


def validation_predictions(fit_dir: Fit) -> tuple[Predictions, Predictions]:
    """Predictions of a fit on its own validation side, by scan and by subject."""
    logits = Logits.load(fit_dir.logits("validation"))
    return bundle.predict_scans_and_subjects(bundle.load_predictors(fit_dir), logits, [ANONYMOUS] * len(logits))


def decision_curves(predictions: Predictions) -> list[dict[str, Any]]:
    """The decision curve of each class that some rows have and some have not (of the second, where there are two)."""
    rows: list[dict[str, Any]] = []
    for index in [1] if len(predictions.classes) == 2 else range(len(predictions.classes)):
        here = np.asarray(predictions.labels) == index
        if here.any() and not here.all():
            curve = evaluation.decision_curve(predictions, index)
            shared = {"unit": predictions.unit, "class": predictions.classes[index]}
            rows += [
                {**shared, **{name: float(values[k]) for name, values in curve.items()}}
                for k in range(len(curve["threshold"]))
            ]
    return rows
