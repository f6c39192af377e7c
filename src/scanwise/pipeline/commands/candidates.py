"""Predictions of the candidates of one fold, alone or as the mean of all.

Choosing among many on few validation people picks noise; averaging has nothing to pick. The mean of the candidates'
probabilities is a model like any other, so its prediction sets have thresholds of their own, from calibration subjects.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scanwise import bundle
from scanwise.bundle import Predictor
from scanwise.calibration import Temperature
from scanwise.pipeline.stages.calibration import fit_sets
from scanwise.pipeline.stages.evaluation import ModelPredictions
from scanwise.recipe import Recipe, load_recipe
from scanwise.records import Cohort, Logits, Predictions, Split, Unit
from scanwise.run import Fit, RunFolder

Candidate = tuple[RunFolder, Fit]
UNITS: tuple[Unit, ...] = ("scan", "subject")


@dataclass(frozen=True, slots=True)
class Side:
    """Predictions of one candidate for one side, and the hashes behind their rows; both by scan and by subject."""

    predictions: tuple[Predictions, Predictions]
    hashes: tuple[list[str], list[str]]


def candidate_predictions(candidate: Candidate) -> ModelPredictions:
    """The predictions of one candidate on its own test side."""
    run, fit = candidate
    side = _read_side(fit, load_recipe(run.recipe), Cohort.load(run.cohort), "test")
    return ModelPredictions("network", Split.load(fit.split), *side.predictions)


def average_candidates(candidates: Sequence[Candidate]) -> ModelPredictions:
    """The mean probabilities of all candidates on the test side of a fold, with sets from its calibration subjects.

    Where these taught a candidate (`conformal.data: out_of_fold`), the mean has no sets.

    Args:
        candidates: fits of one split; the recipe of the first says score and alpha.
    """
    recipes, tested, calibrated = [], [], []
    for run, fit in candidates:
        recipe, cohort = load_recipe(run.recipe), Cohort.load(run.cohort)
        recipes.append(recipe)
        tested.append(_read_side(fit, recipe, cohort, "test"))
        calibrated.append(_read_side(fit, recipe, cohort, "calibration"))
    recipe = recipes[0]
    ratings = bundle.cdr_by_class(recipe, tested[0].predictions[0].classes)
    units = []
    for index, unit in enumerate(UNITS):
        learn, hashes = _as_members(calibrated, index), calibrated[0].hashes[index]
        mean = Predictor(Temperature(1.0), None, unit, ratings=ratings)
        sets = None
        if not any(own.conformal.is_out_of_fold for own in recipes):
            sets = fit_sets(recipe.conformal, mean.calibrator(learn.logits), learn, hashes)
        units.append(replace(mean, sets=sets)(_as_members(tested, index), tested[0].hashes[index]))
    return ModelPredictions("network", Split.load(candidates[0][1].split), *units)


def _read_side(fit: Fit, recipe: Recipe, cohort: Cohort, name: str) -> Side:
    logits = Logits.load(fit.logits(name))
    predictors = bundle.load_predictors(fit, bundle.cdr_by_class(recipe, cohort.classes))
    hashes = bundle.scan_hashes(cohort, logits.scans, bundle.hashed_content(fit))
    predictions = bundle.predict_scans_and_subjects(predictors, logits, hashes)
    return Side(predictions, (hashes, bundle.subject_hashes(predictions[1].subjects, logits, hashes)))


def _as_members(sides: Sequence[Side], index: int) -> Logits:
    """Log-probabilities (N, T, C) of T candidates, as those of the members of one network."""
    first = sides[0].predictions[index]
    probs = np.stack([side.predictions[index].probs for side in sides], axis=1)
    return Logits(
        logits=np.log(np.maximum(probs, np.finfo(np.float64).tiny)),
        labels=np.full(len(first), -1) if first.labels is None else first.labels,
        scans=first.scans,
        subjects=first.subjects,
        classes=first.classes,
        groups=first.groups,
        scan_counts=first.scan_counts,
    )
