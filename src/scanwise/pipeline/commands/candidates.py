"""Predictions of the candidates of one fold, alone or as the mean of all.

Choosing among many on few validation people picks noise; averaging has nothing to pick. The mean of the candidates'
probabilities is a model like any other, so its prediction sets have thresholds of their own, from calibration subjects.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scanwise import bundle, uncertainty
from scanwise.conformal import SCORES, ConformalSets, draws_from
from scanwise.evaluation.sample import require_labels
from scanwise.pipeline.stages.evaluation import ModelPredictions
from scanwise.recipe import Recipe, load_recipe
from scanwise.records import Cohort, FloatArray, Logits, Predictions, Split
from scanwise.run import Fit, Run

Candidate = tuple[Run, Fit]
Units = tuple[Predictions, Predictions]


def candidate_predictions(candidate: Candidate) -> ModelPredictions:
    """The predictions of one candidate on its own test side."""
    return ModelPredictions("network", Split.load(candidate[1].split), *_predictions(candidate, "test")[0])


def average_candidates(candidates: Sequence[Candidate]) -> ModelPredictions:
    """The mean probabilities of all candidates on the test side of a fold, with sets from its calibration subjects.

    Args:
        candidates: fits of one split; the recipe of the first says score and alpha.
    """
    folder, fit = candidates[0]
    recipe = load_recipe(folder.recipe)
    test, calibration = (
        [_predictions(candidate, side) for candidate in candidates] for side in ("test", "calibration")
    )
    ratings = bundle.cdr_by_class(recipe, test[0][0][0].classes)
    units: list[Predictions] = []
    for index in (0, 1):
        learnt = _mean_of([both[index] for both, _ in calibration])
        sets = _fit_sets(recipe, learnt, calibration[0][1][index])
        units.append(_with_sets(_mean_of([both[index] for both, _ in test]), sets, test[0][1][index], ratings))
    return ModelPredictions("network", Split.load(fit.split), *units)


def _predictions(candidate: Candidate, side: str) -> tuple[Units, tuple[list[str], list[str]]]:
    """Predictions of one side by scan and by subject, and the hashes behind their rows."""
    folder, fit = candidate
    recipe, cohort = load_recipe(folder.recipe), Cohort.load(folder.cohort)
    logits = Logits.load(fit.logits(side))
    predictors = bundle.load_predictors(fit, bundle.cdr_by_class(recipe, cohort.classes))
    hashes = bundle.scan_hashes(cohort, logits.scans)
    units: Units = bundle.predict_scans_and_subjects(predictors, logits, hashes)
    return units, (hashes, bundle.subject_hashes(units[1].subjects, logits, hashes))


def _mean_of(parts: Sequence[Predictions]) -> Predictions:
    """Predictions with the mean of the probabilities; what belongs to one network alone is left out."""
    probs = np.mean([part.probs for part in parts], axis=0)
    spread = uncertainty.mutual_information(np.stack([part.probs for part in parts], axis=1))
    return replace(
        parts[0],
        probs=probs,
        sets=None,
        entropy=uncertainty.predictive_entropy(probs),
        mutual_information=spread,
        abstain=np.zeros(len(probs), dtype=np.bool_),
        ood=None,
        ood_flag=None,
        deferred=None,
    )


def _fit_sets(recipe: Recipe, learnt: Predictions, hashes: Sequence[str]) -> ConformalSets:
    section = recipe.conformal
    return ConformalSets.fit(
        learnt.probs,
        require_labels(learnt),
        alpha=section.alpha,
        score=section.score,
        penalty=0.0 if section.penalty == "auto" else section.penalty,
        k_reg=0 if section.k_reg == "auto" else section.k_reg,
        subjects=learnt.subjects,
        draws=draws_from(hashes) if SCORES[section.score].randomised else None,
    )


def _with_sets(
    predictions: Predictions, sets: ConformalSets, hashes: Sequence[str], ratings: tuple[float, ...] | None
) -> Predictions:
    draws: FloatArray | None = draws_from(hashes) if sets.randomised else None
    of_rows = sets(predictions.probs, draws)
    rating = (None, None) if ratings is None else uncertainty.expected_value(predictions.probs, ratings)
    return replace(
        predictions, sets=of_rows, abstain=of_rows.sum(axis=1) != 1, expected_cdr=rating[0], cdr_sd=rating[1]
    )
