"""Questions that every row of `SCORES` must answer, and the names that the recipe repeats."""

from typing import get_args

import numpy as np
import pytest

from scanwise.cohort.classes import check_stage_names
from scanwise.conformal import SCORES, ConformalSets, ScoreSpec
from scanwise.errors import RecipeError
from scanwise.recipe import Conformal, Recipe
from scanwise.records import FloatArray, IntArray
from scanwise.risk import coverage_band

rows = pytest.mark.parametrize("spec", SCORES.values(), ids=list(SCORES))


def _scans(random: np.random.Generator, count: int, num_classes: int) -> tuple[FloatArray, IntArray]:
    """Probabilities that are those of the labels."""
    probs = random.dirichlet(np.full(num_classes, 0.6), count)
    labels = (random.random(count)[:, None] > probs.cumsum(axis=1)).sum(axis=1).clip(max=num_classes - 1)
    return probs, labels


def _tied(random: np.random.Generator, count: int, num_classes: int) -> FloatArray:
    weights = random.integers(1, 3, (count, num_classes)).astype(float)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _parameters(spec: ScoreSpec) -> list[tuple[float, int]]:
    penalties = (0.0, 0.3) if "penalty" in spec.tunable else (0.0,)
    return [(penalty, k_reg) for penalty in penalties for k_reg in ((0, 2) if "k_reg" in spec.tunable else (0,))]


def test_the_recipe_knows_every_score() -> None:
    assert set(get_args(Conformal.model_fields["score"].annotation)) == set(SCORES)
    assert all(name == spec.name for name, spec in SCORES.items())


@rows
def test_a_score_that_needs_order_is_refused_without_it(spec: ScoreSpec) -> None:
    recipe = Recipe.model_validate({"name": "x", "model": {"name": "small"}, "conformal": {"score": spec.name}})
    if spec.needs_order:
        with pytest.raises(RecipeError, match=f"conformal.score={spec.name}"):
            check_stage_names(recipe, ("a", "b"))
    else:
        check_stage_names(recipe, ("a", "b"))


@rows
@pytest.mark.parametrize("num_classes", [2, 4, 11])
def test_its_three_functions_agree_on_ties_and_without(spec: ScoreSpec, num_classes: int) -> None:
    random = np.random.default_rng(0)
    for probs in (_scans(random, 60, num_classes)[0], _tied(random, 60, num_classes)):
        labels, draws = random.integers(0, num_classes, 60), random.random(60)
        for penalty, k_reg in _parameters(spec):
            scores = spec.of_all(probs, draws, penalty, k_reg)
            assert scores.shape == probs.shape
            assert np.isfinite(scores).all()
            of_labels = spec.of_labels(probs, labels, draws, penalty, k_reg)
            np.testing.assert_allclose(of_labels, scores[np.arange(60), labels], atol=1e-9)
            threshold = float(np.median(scores)) + 1e-6
            np.testing.assert_array_equal(
                spec.within(probs, threshold, draws, penalty, k_reg), scores <= threshold, err_msg=f"{penalty} {k_reg}"
            )


@rows
def test_a_more_probable_class_fits_no_worse(spec: ScoreSpec) -> None:
    """Within a row for scores of any classes; for ordered ones away from the mode to either side."""
    random = np.random.default_rng(1)
    probs, draws = _scans(random, 200, 5)[0], random.random(200)
    for penalty, k_reg in _parameters(spec):
        scores = spec.of_all(probs, draws, penalty, k_reg)
        for row, own in enumerate(probs):
            if spec.needs_order:
                mode = int(own.argmax())
                assert (np.diff(scores[row, mode:]) >= -1e-12).all()
                assert (np.diff(scores[row, mode::-1]) >= -1e-12).all()
            elif spec.name == "saps" and penalty == 0:  # beyond the first rank all classes are alike but for the draw
                assert scores[row, own.argmax()] == scores[row].min()
            else:
                assert (np.diff(scores[row][np.argsort(-own)]) >= -1e-12).all()


@rows
def test_draws_and_parameters_count_where_the_row_says_so(spec: ScoreSpec) -> None:
    random = np.random.default_rng(2)
    probs = _scans(random, 30, 4)[0]
    low, high = (spec.of_all(probs, np.full(30, value), 0.3, 1) for value in (0.1, 0.9))
    assert (not np.array_equal(low, high)) == spec.randomised
    assert (low <= high).all()
    penalised = spec.of_all(probs, np.ones(30), 0.7, 1), spec.of_all(probs, np.ones(30), 0.3, 1)
    assert (not np.array_equal(*penalised)) == ("penalty" in spec.tunable)
    ranked = spec.of_all(probs, np.ones(30), 0.3, 0), spec.of_all(probs, np.ones(30), 0.3, 2)
    assert (not np.array_equal(*ranked)) == ("k_reg" in spec.tunable)


@rows
@pytest.mark.parametrize("randomised", [False, True])
def test_it_covers_over_trials(spec: ScoreSpec, randomised: bool) -> None:
    """The mean over 300 calibration samples of 30 scans: at least 1 - alpha, and where scores have no ties no more than
    1 - alpha + 1 / (n + 1), each within four standard errors."""
    random, alpha, count = np.random.default_rng(3), 0.2, 30
    coverage = []
    for _ in range(300):
        probs, labels = _scans(random, count + 50, 4)
        draws = random.random(count + 50) if randomised else None
        fitted = ConformalSets.fit(
            probs[:count], labels[:count], alpha=alpha, score=spec.name, penalty=0.1,
            draws=None if draws is None else draws[:count],
        )  # fmt: skip
        sets = fitted(probs[count:], None if draws is None else draws[count:])
        coverage.append(sets[np.arange(50), labels[count:]].mean())
    slack = 4 * float(np.std(coverage)) / np.sqrt(len(coverage))
    assert np.mean(coverage) >= 1 - alpha - slack
    if randomised or not spec.randomised:
        assert np.mean(coverage) <= 1 - alpha + 1 / (count + 1) + slack
    low, high = (coverage_band(count, 50, alpha, share) for share in (0.025, 0.975))
    assert np.mean([low <= value for value in coverage]) > 0.93
    assert high > low
