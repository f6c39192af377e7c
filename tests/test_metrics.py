"""Metrics against scikit-learn, over random cases with ties, missing classes and weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from scanwise import metrics
from scanwise.errors import DataError, ShapeError
from scanwise.records import FloatArray, IntArray

Case = tuple[FloatArray, IntArray, FloatArray]


def _cases(count: int = 60) -> list[Case]:
    random = np.random.default_rng(0)
    cases = []
    for number in range(count):
        num_classes, rows = int(random.integers(2, 6)), int(random.integers(4, 80))
        logits = random.normal(size=(rows, num_classes)) * random.choice([0.5, 3])
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        if number % 2:  # many ties
            probs = np.round(probs, 1) + 0.1
            probs /= probs.sum(axis=1, keepdims=True)
        present = random.permutation(num_classes)[: max(2, num_classes - number % 3)]
        labels = random.choice(present, rows)
        labels[:2] = present[:2]
        weights = random.random(rows) + 0.1 if number % 3 else random.integers(0, 4, rows).astype(float)
        weights[:2] = 1
        cases.append((probs, labels, weights))
    return cases


def _macro(score: Callable[..., float], probs: FloatArray, labels: IntArray, weights: FloatArray) -> float:
    if probs.shape[1] == 2:
        return score(labels == 1, probs[:, 1], sample_weight=weights)
    kept = [c for c in range(probs.shape[1]) if 0 < weights[labels == c].sum() < weights.sum()]
    return float(np.mean([score(labels == c, probs[:, c], sample_weight=weights) for c in kept]))


def _sensitivity_at_90(is_class: IntArray, scores: FloatArray, sample_weight: FloatArray) -> float:
    """The best point of scikit-learn's curve among those with at most a tenth of false alarms."""
    used = sample_weight > 0
    alarms, caught, _ = reference.roc_curve(
        is_class[used], scores[used], sample_weight=sample_weight[used], drop_intermediate=False
    )
    return float(caught[alarms <= 0.1 + 1e-9].max())


def _specificity(probs: FloatArray, labels: IntArray, weights: FloatArray, of_class: FloatArray) -> float:
    """The recall of "not this class", averaged over the classes that are present and not everybody's."""
    kept = [c for c in range(probs.shape[1]) if 0 < weights[labels == c].sum() < weights.sum()]
    recalls = [
        reference.recall_score(labels != c, probs.argmax(1) != c, sample_weight=weights, zero_division=0) for c in kept
    ]
    return float(np.average(recalls, weights=of_class[kept]))


def _present(labels: IntArray, weights: FloatArray) -> IntArray:
    return np.unique(labels[weights > 0])


REFERENCES: dict[str, Callable[[FloatArray, IntArray, FloatArray], float]] = {
    "accuracy": lambda p, y, w: reference.accuracy_score(y, p.argmax(1), sample_weight=w),
    "balanced_accuracy": lambda p, y, w: reference.recall_score(
        y, p.argmax(1), labels=_present(y, w), average="macro", sample_weight=w
    ),
    "macro_f1": lambda p, y, w: reference.f1_score(
        y, p.argmax(1), labels=_present(y, w), average="macro", sample_weight=w, zero_division=0
    ),
    "weighted_f1": lambda p, y, w: reference.f1_score(
        y, p.argmax(1), average="weighted", sample_weight=w, zero_division=0
    ),
    "auroc": lambda p, y, w: _macro(reference.roc_auc_score, p, y, w),
    "average_precision": lambda p, y, w: _macro(reference.average_precision_score, p, y, w),
    "macro_precision": lambda p, y, w: reference.precision_score(
        y, p.argmax(1), labels=_present(y, w), average="macro", sample_weight=w, zero_division=0
    ),
    "weighted_precision": lambda p, y, w: reference.precision_score(
        y, p.argmax(1), average="weighted", sample_weight=w, zero_division=0
    ),
    "macro_specificity": lambda p, y, w: _specificity(p, y, w, np.ones(p.shape[1])),
    "weighted_specificity": lambda p, y, w: _specificity(p, y, w, np.bincount(y, w, p.shape[1])),
    "sensitivity_at_90": lambda p, y, w: _macro(_sensitivity_at_90, p, y, w),
    "stage_error": lambda p, y, w: reference.mean_absolute_error(y, p.argmax(1), sample_weight=w),
    "matthews": lambda p, y, w: reference.matthews_corrcoef(y, p.argmax(1), sample_weight=w),
    "kappa": lambda p, y, w: reference.cohen_kappa_score(y, p.argmax(1), labels=range(p.shape[1]), sample_weight=w),
    "quadratic_kappa": lambda p, y, w: reference.cohen_kappa_score(
        y, p.argmax(1), labels=range(p.shape[1]), weights="quadratic", sample_weight=w
    ),
    "nll": lambda p, y, w: reference.log_loss(y, p, labels=range(p.shape[1]), sample_weight=w),
    "brier": lambda p, y, w: reference.brier_score_loss(y, p, labels=range(p.shape[1]), sample_weight=w),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_equals_scikit_learn(name: str) -> None:
    for probs, labels, weights in _cases():
        assert metrics.METRICS[name](probs, labels, weights) == pytest.approx(
            REFERENCES[name](probs, labels, weights), abs=1e-9
        )
        ones = np.ones(len(labels))
        assert metrics.METRICS[name](probs, labels) == pytest.approx(REFERENCES[name](probs, labels, ones), abs=1e-9)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_class_metrics_equal_scikit_learn(name: str) -> None:
    for probs, labels, weights in _cases(30):
        ours = metrics.CLASS_METRICS[name].by_class(probs, labels, weights)
        theirs = getattr(reference, f"{name}_score")(
            labels, probs.argmax(1), labels=range(probs.shape[1]), average=None, sample_weight=weights, zero_division=0
        )
        present = np.bincount(labels, weights, probs.shape[1]) > 0
        known = np.ones_like(present) if name == "precision" else present
        np.testing.assert_allclose(ours[known], theirs[known], atol=1e-12)
        assert np.isnan(ours[~known]).all()


def test_specificity_is_the_recall_of_the_rest() -> None:
    for probs, labels, weights in _cases(20):
        ours = metrics.CLASS_METRICS["specificity"].by_class(probs, labels, weights)
        for index in range(probs.shape[1]):
            theirs = reference.recall_score(labels != index, probs.argmax(1) != index, sample_weight=weights)
            assert ours[index] == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_many_weights_equal_one_at_a_time(name: str) -> None:
    random = np.random.default_rng(1)
    for probs, labels, _ in _cases(12):
        weights = random.integers(0, 3, (5, len(labels))).astype(float)
        together = metrics.METRICS[name](probs, labels, weights)
        assert together.shape == (5,)
        np.testing.assert_allclose(together, [metrics.METRICS[name](probs, labels, row) for row in weights], atol=1e-12)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_a_weight_repeats_a_row(name: str) -> None:
    random = np.random.default_rng(2)
    for probs, labels, _ in _cases(12):
        weights = random.integers(1, 4, len(labels))
        repeated = metrics.METRICS[name](probs.repeat(weights, axis=0), labels.repeat(weights))
        assert metrics.METRICS[name](probs, labels, weights.astype(float)) == pytest.approx(repeated, abs=1e-9)


@pytest.mark.parametrize(
    "name", [name for name, spec in metrics.METRICS.items() if isinstance(spec.function, metrics.AdditiveMetric)]
)
def test_sums_over_rows_are_enough(name: str) -> None:
    """What lets a bootstrap sum the rows of a subject once."""
    for probs, labels, weights in _cases(12):
        metric = metrics.METRICS[name].function
        assert isinstance(metric, metrics.AdditiveMetric)
        value = metric.finish(weights @ metric.statistic(probs, labels))
        assert float(value) == pytest.approx(metrics.METRICS[name](probs, labels, weights), abs=1e-12)


def test_ties_count_half() -> None:
    probs = np.tile([[0.5, 0.5]], (6, 1))
    assert metrics.METRICS["auroc"](probs, np.array([0, 1, 0, 1, 1, 1])) == 0.5


def test_undefined_is_nan_and_not_a_warning() -> None:
    probs, one_class = np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([0, 0])
    assert np.isnan(metrics.METRICS["auroc"](probs, one_class))
    assert np.isnan(metrics.METRICS["average_precision"](probs, one_class))
    assert metrics.METRICS["matthews"](probs, one_class) == 0
    assert np.isnan(metrics.CLASS_METRICS["recall"].by_class(probs, one_class)[1])
    for metric in metrics.METRICS.values():
        assert np.isnan(metric(probs, np.array([0, 1]), np.zeros(2)))


def test_calibration_error_equals_a_loop() -> None:
    for probs, labels, _ in _cases(20):
        said, right = probs.max(axis=1), probs.argmax(axis=1) == labels
        expected = 0.0
        for index in range(15):
            inside = (said > index / 15) & (said <= (index + 1) / 15)
            if inside.any():
                expected += inside.mean() * abs(said[inside].mean() - right[inside].mean())
        ours = metrics.METRICS["ece"](probs, labels)
        assert ours == pytest.approx(expected, abs=1e-12)


def test_classwise_error_lies_within_bounds() -> None:
    for probs, labels, _ in _cases(20):
        assert 0 <= metrics.classwise_calibration_error(probs, labels) <= 1
    exact = np.eye(3)[[0, 1, 2]]
    assert metrics.classwise_calibration_error(exact, np.arange(3)) == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_is_taken(dtype: Any) -> None:
    probs = np.array([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]], dtype=dtype)
    for metric in metrics.METRICS.values():
        assert np.isfinite(metric(probs, np.array([0, 1, 1])))


def test_bad_input_is_refused() -> None:
    probs, labels = np.array([[0.5, 0.5]]), np.array([0])
    with pytest.raises(ShapeError, match=r"Weights must be"):
        metrics.METRICS["accuracy"](probs, labels, np.ones(2))
    with pytest.raises(DataError, match="not negative"):
        metrics.METRICS["accuracy"](probs, labels, np.array([-1.0]))
    with pytest.raises(DataError, match="sum to one"):
        metrics.METRICS["nll"](np.array([[2.0, 1.0]]), labels)
    with pytest.raises(DataError, match="num_bins is 0"):
        metrics.assign_bins(probs[:, 0], 0)


# --- contracts: every row of the tables ---

COMPUTED = {**metrics.METRICS, **metrics.CLASS_METRICS}


def _values(name: str, probs: FloatArray, labels: IntArray) -> FloatArray:
    """The value of a metric over all classes, or one of each class."""
    spec = COMPUTED[name]
    value = spec(probs, labels) if name in metrics.METRICS else spec.by_class(probs, labels)
    return np.atleast_1d(value)


def _one_hot(classes: IntArray, num_classes: int) -> FloatArray:
    return np.eye(num_classes)[classes]


def test_every_metric_has_one_row_with_words() -> None:
    tables = [metrics.METRICS, metrics.CLASS_METRICS, metrics.OTHER_METRICS]
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))
    for table in tables:
        for name, spec in table.items():
            assert spec.name == name
            assert metrics.find_metric(name) is spec
            assert spec.title
            assert spec.meaning
            assert spec.bounds[0] < spec.bounds[1]
            assert (spec.function is None) == (table is metrics.OTHER_METRICS)


def test_every_metric_but_the_calibration_error_has_a_reference() -> None:
    assert set(REFERENCES) == set(metrics.METRICS) - {"ece"}


@pytest.mark.parametrize("name", COMPUTED)
def test_a_metric_lies_within_its_bounds(name: str) -> None:
    low, high = COMPUTED[name].bounds
    for probs, labels, _ in _cases():
        values = _values(name, probs, labels)
        values = values[np.isfinite(values)]
        assert ((values >= low - 1e-12) & (values <= high + 1e-12)).all()


@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.parametrize("num_classes", [2, 4])
def test_perfect_predictions_reach_the_best_end(name: str, num_classes: int) -> None:
    spec, labels = COMPUTED[name], np.arange(num_classes).repeat(5)
    best = spec.bounds[1] if spec.higher_is_better else spec.bounds[0]
    np.testing.assert_allclose(_values(name, _one_hot(labels, num_classes), labels), best, atol=1e-12)


@pytest.mark.parametrize("name", COMPUTED)
def test_a_metric_gets_worse_with_the_share_of_errors(name: str) -> None:
    random, labels = np.random.default_rng(6), np.arange(3).repeat(60)
    means = []
    for share in (0.0, 0.2, 0.4, 0.6):
        wrong = random.random((20, len(labels))) < share
        classes = [np.where(row, random.permutation(labels), labels) for row in wrong]
        means.append(np.mean([_values(name, 0.9 * _one_hot(c, 3) + 0.1 / 3, labels).mean() for c in classes]))
    worse = np.diff(means) if metrics.lower_is_better(name) else -np.diff(means)
    if name == "ece":  # at a confidence of 93 %, no error at all is a gap too
        worse = worse[1:]
    assert (worse > 0).all()


@pytest.mark.parametrize("name", COMPUTED)
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    random = np.random.default_rng(7)
    for probs, labels, _ in _cases(12):
        order = random.permutation(len(labels))
        np.testing.assert_allclose(_values(name, probs[order], labels[order]), _values(name, probs, labels), atol=1e-12)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_only_metrics_of_stages_depend_on_the_order_of_classes(name: str) -> None:
    random = np.random.default_rng(8)
    probs, labels = random.dirichlet([1, 1, 1, 1], 80), random.integers(0, 4, 80)
    order = np.array([2, 0, 3, 1])
    same = metrics.METRICS[name](probs[:, order], np.argsort(order)[labels]) == pytest.approx(
        metrics.METRICS[name](probs, labels), abs=1e-12
    )
    assert same != metrics.needs_order(name)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_only_metrics_of_calibration_depend_on_a_temperature(name: str) -> None:
    random = np.random.default_rng(9)
    probs, labels = random.dirichlet([1, 1], 80), random.integers(0, 2, 80)
    softer = np.sqrt(probs) / np.sqrt(probs).sum(axis=1, keepdims=True)
    same = metrics.METRICS[name](softer, labels) == pytest.approx(metrics.METRICS[name](probs, labels), abs=1e-12)
    assert same != metrics.METRICS[name].needs_calibration


@pytest.mark.parametrize("name", metrics.OTHER_METRICS)
def test_a_metric_that_needs_more_than_probabilities_says_so(name: str) -> None:
    probs, labels = np.array([[0.5, 0.5]]), np.array([0])
    with pytest.raises(DataError, match="cannot be computed"):
        metrics.OTHER_METRICS[name](probs, labels)
    with pytest.raises(DataError, match="single classes"):
        metrics.OTHER_METRICS[name].by_class(probs, labels)
