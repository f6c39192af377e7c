"""Tables of metrics: right values, and intervals that hold what they promise."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from scanwise import metrics
from scanwise.arrays import softmax
from scanwise.errors import DataError, ShapeError
from scanwise.evaluation import (
    classification_report,
    confusion_counts,
    measure_predictions,
    paired_difference,
    reliability_bins,
    roc_curve,
)
from scanwise.records import Metric, Predictions
from scanwise.risk import clopper_pearson, mid_p_limits


def _predictions(
    random: np.random.Generator, subjects: int, scans: int, num_classes: int = 3, skill: float = 1.5, **changes: Any
) -> Predictions:
    """Scans of a subject share its label and most of what the network thinks of it."""
    labels = (np.arange(subjects) % num_classes).repeat(scans)
    own = random.normal(size=(subjects, num_classes)).repeat(scans, axis=0)
    noise = random.normal(size=(subjects * scans, num_classes))
    probs = softmax(own + 0.4 * noise + skill * np.eye(num_classes)[labels])
    values: dict[str, Any] = {
        "scans": np.array([f"{i}.png" for i in range(len(labels))]),
        "subjects": np.array([f"s{i}" for i in range(subjects)]).repeat(scans),
        "classes": tuple("abcdefgh"[:num_classes]),
        "probs": probs,
        "sets": probs > 0.2,
        "entropy": np.zeros(len(labels)),
        "abstain": (probs > 0.2).sum(axis=1) != 1,
        "labels": labels,
    }
    return Predictions(**{**values, **changes})


def _by_name(found: list[Metric]) -> dict[tuple[str, str], Metric]:
    return {(metric.name, metric.group): metric for metric in found}


def test_values_are_those_of_the_metrics() -> None:
    given = _predictions(np.random.default_rng(0), 40, 3)
    found = _by_name(measure_predictions(given, subjects=given.subjects, draws=200, ordered=True))
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "auroc", "average_precision", "matthews",
                 "quadratic_kappa", "nll", "brier", "ece"):  # fmt: skip
        assert found[name, ""].value == pytest.approx(metrics.METRICS[name](given.probs, given.labels), abs=1e-12)
    for name in ("precision", "recall", "f1", "specificity"):
        for index, expected in enumerate(metrics.CLASS_METRICS[name].by_class(given.probs, given.labels)):
            assert found[name, f"class={given.classes[index]}"].value == pytest.approx(expected, abs=1e-12)
    for index, expected in enumerate(metrics.METRICS["auroc"].by_class(given.probs, given.labels)):
        assert found["auroc", f"class={given.classes[index]}"].value == pytest.approx(expected, abs=1e-12)
    assert given.sets is not None
    covered = given.sets[np.arange(120), given.labels]
    assert found["coverage", ""].value == pytest.approx(covered.mean())
    assert found["coverage", "class=b"].value == pytest.approx(covered[given.labels == 1].mean())
    assert found["mean_set_size", ""].value == pytest.approx(given.sets.sum(axis=1).mean())
    assert found["abstain_share", ""].value == pytest.approx(given.abstain.mean())
    assert found["accuracy", ""].count == 120
    assert found["recall", "class=b"].count == int((given.labels == 1).sum())
    assert all(metric.low <= metric.value <= metric.high for metric in found.values())


def test_only_what_was_asked_for() -> None:
    given = _predictions(np.random.default_rng(0), 12, 2)
    asked = measure_predictions(given, subjects=given.subjects, draws=100, names=["macro_f1"])
    assert [(metric.name, metric.unit) for metric in asked] == [("macro_f1", "scan")]
    leaked = {
        metric.name for metric in measure_predictions(given, subjects=given.subjects, draws=100, accuracy_only=True)
    }
    averages = {f"{mean}_{name}" for mean in ("macro", "weighted") for name in ("precision", "specificity", "f1")}
    assert leaked == {"accuracy", "balanced_accuracy", "auroc", "precision", "recall", "f1", "specificity", *averages}
    without = replace(given, sets=None)
    assert not {"coverage", "abstain_share"} & {
        m.name for m in measure_predictions(without, subjects=given.subjects, draws=100)
    }
    assert "quadratic_kappa" not in {m.name for m in measure_predictions(given, subjects=given.subjects, draws=100)}


def test_the_same_seed_gives_the_same_intervals() -> None:
    given = _predictions(np.random.default_rng(0), 20, 2)
    first = measure_predictions(given, subjects=given.subjects, draws=100, seed=3)
    assert first == measure_predictions(given, subjects=given.subjects, draws=100, seed=3)
    assert first != measure_predictions(given, subjects=given.subjects, draws=100, seed=4)


def test_a_class_without_scans_is_left_out() -> None:
    given = _predictions(np.random.default_rng(0), 20, 2)
    kept = given.labels != 2  # type: ignore[operator]
    fewer = Predictions(
        scans=given.scans[kept], subjects=given.subjects[kept], classes=given.classes, probs=given.probs[kept],
        sets=None, entropy=given.entropy[kept], abstain=given.abstain[kept], labels=given.labels[kept],  # type: ignore[index]
    )  # fmt: skip
    found = _by_name(measure_predictions(fewer, subjects=fewer.subjects, draws=100))
    assert ("recall", "class=c") not in found
    assert ("auroc", "class=c") not in found
    assert ("auroc", "") in found


@pytest.mark.parametrize(("right", "value"), [(True, 1.0), (False, 0.0)])
def test_all_or_nothing_is_as_sure_as_its_subjects_allow(right: bool, value: float) -> None:
    """Of a class with five subjects, mid-P; of both classes together, as far from certain as ten subjects."""
    labels = np.repeat([0, 1], 15)
    probs = np.eye(2)[labels if right else 1 - labels] * 0.8 + 0.1
    given = _predictions(np.random.default_rng(0), 10, 3, 2, labels=labels, probs=probs, sets=probs > 0.5)
    found = _by_name(measure_predictions(given, subjects=given.subjects, draws=100))
    low, high = mid_p_limits(np.array([value]), np.array([5.0]))
    for name, group in [("recall", "class=a"), ("coverage", "class=b")]:
        assert (found[name, group].low, found[name, group].high) == pytest.approx((low[0], high[0]))
    exact = clopper_pearson(10 if right else 0, 10)
    for name in ("accuracy", "coverage", "auroc"):
        assert found[name, ""].value == value
        assert (found[name, ""].low, found[name, ""].high) == pytest.approx(exact, abs=0.4 if name == "auroc" else 0.03)
    assert np.isnan(found["nll", ""].low)


def test_one_subject_a_class_leaves_nearly_everything_open() -> None:
    given = _predictions(np.random.default_rng(1), 3, 20, skill=0.5)
    found = _by_name(measure_predictions(given, subjects=given.subjects, draws=100))
    assert found["accuracy", ""].high - found["accuracy", ""].low > 0.5
    assert found["auroc", ""].high - found["auroc", ""].low > 0.5
    recall = found["recall", "class=a"]
    assert recall.high - recall.low > 0.9


def test_every_metric_has_an_interval_that_holds_its_value() -> None:
    """Kappa, shares of flags and sets, and metrics that rank, of a rare class with one subject too."""
    random = np.random.default_rng(5)
    labels = np.repeat([0, 0, 0, 0, 0, 0, 1, 2], 3)
    given = _predictions(random, 8, 3, 3, labels=labels, ood_flag=np.arange(24) % 5 == 0)
    for m in measure_predictions(given, subjects=given.subjects, draws=200, ordered=True, ratings=[0, 0.5, 1]):
        assert m.low <= m.value + 1e-12, m
        assert m.value <= m.high + 1e-12, m
        assert m.high > m.low, m


def _shares_covered(
    names: Sequence[str], subjects: int, trials: int, *, clustered: bool = True, draws: int = 500
) -> dict[str, float]:
    """How often the interval of each metric holds its value in an endless population."""
    random = np.random.default_rng(subjects)
    endless = _predictions(random, 60_000, 2, 2, 1.0)
    truth = {name: float(metrics.METRICS[name](endless.probs, endless.labels)) for name in names}  # type: ignore[arg-type]
    hits = dict.fromkeys(names, 0)
    for trial in range(trials):
        given = _predictions(random, subjects, 10, 2, 1.0)
        owners = given.subjects if clustered else given.scans
        asked = measure_predictions(given, subjects=owners, draws=draws, seed=trial, names=names, by_class=False)
        for metric in asked:
            hits[metric.name] += metric.low <= truth[metric.name] <= metric.high
    return {name: hit / trials for name, hit in hits.items()}


def test_intervals_hold_the_truth() -> None:
    for share in _shares_covered(("accuracy", "macro_f1", "nll"), 60, 400).values():
        assert 0.95 - 0.035 < share < 0.95 + 0.03


def test_intervals_equal_those_of_scipy_stretched_for_few_subjects() -> None:
    """BCa of a mean of few, skewed values: bias, skewness and the stretch each move it by more than the tolerance."""
    values = np.random.default_rng(0).exponential(size=20) + 0.01
    chances = np.exp(-values)
    given = _predictions(
        np.random.default_rng(0),
        20,
        1,
        2,
        labels=np.zeros(20, dtype=int),
        probs=np.stack([chances, 1 - chances], axis=1),
    )
    ours = measure_predictions(given, subjects=given.subjects, draws=30_000, names=["nll"])[0]
    theirs = stats.bootstrap((values,), np.mean, n_resamples=30_000, method="BCa", rng=1).confidence_interval
    stretch = stats.t.ppf(0.975, 19) / stats.norm.ppf(0.975) * np.sqrt(20 / 19)
    error = values.std() / np.sqrt(20)
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(ours.value + stretch * (theirs.low - ours.value), abs=0.06 * error)
    assert ours.high == pytest.approx(ours.value + stretch * (theirs.high - ours.value), abs=0.1 * error)


def test_stretched_intervals_stay_where_a_metric_can_lie() -> None:
    """Six subjects of whom one is half wrong: a stretch alone would end beyond one, and below zero."""
    labels = np.repeat([0, 1], 6)
    right = np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0], dtype=bool)
    probs = np.eye(2)[np.where(right, labels, 1 - labels)] * 0.998 + 0.001
    given = _predictions(np.random.default_rng(0), 6, 2, 2, labels=labels, probs=probs)
    found = _by_name(measure_predictions(given, subjects=given.subjects, draws=500))
    assert (found["accuracy", ""].low, found["accuracy", ""].high) == pytest.approx((0.55, 1), abs=0.15)
    assert found["accuracy", ""].high <= 1
    assert found["nll", ""].low >= 0


@pytest.mark.extended
def test_a_bootstrap_of_scans_would_not() -> None:
    assert _shares_covered(("accuracy",), 60, 200, clustered=False)["accuracy"] < 0.7


SIMULATED = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "nll", "brier")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("subjects", "low", "high"), [(10, 0.9, 1), (30, 0.9, 1), (60, 0.935, 0.965), (200, 0.935, 0.965)]
)
def test_intervals_hold_the_truth_over_5000_trials(subjects: int, low: float, high: float) -> None:
    """The margin of 0.006 is two standard errors of a share of 0.95 over so many trials."""
    shares = _shares_covered(SIMULATED, subjects, 5000)
    print(f"{subjects} subjects: {shares}")  # noqa: T201
    assert all(low - 0.006 <= share <= high + 0.006 for share in shares.values())


@pytest.mark.slow
@pytest.mark.parametrize("subjects", [10, 30, 60, 200])
def test_a_bootstrap_of_scans_holds_the_truth_in_under_60_percent_of_trials(subjects: int) -> None:
    """The margin of 0.03 is two standard errors of a share of 0.6 over so many trials."""
    names = ("accuracy", "macro_f1", "nll")
    shares = _shares_covered(names, subjects, 1000, clustered=False, draws=200)
    print(f"{subjects} subjects, scans resampled: {shares}")  # noqa: T201
    assert max(shares.values()) < 0.6 + 0.03


def test_differences_are_paired() -> None:
    random = np.random.default_rng(2)
    network = _predictions(random, 60, 4)
    noise = replace(network, probs=softmax(np.log(network.probs) + 0.05 * random.normal(size=network.probs.shape)))
    close = paired_difference(network, noise, draws=500)
    alone = _by_name(measure_predictions(network, subjects=network.subjects, draws=500))
    assert [metric.name for metric in close] == [
        f"{n} difference" for n in ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
    ]
    assert close[0].high - close[0].low < 0.8 * (alone["accuracy", ""].high - alone["accuracy", ""].low)
    rival = _predictions(random, 60, 4, skill=0.2)
    worse = paired_difference(network, rival, draws=500, model="majority")[0]
    gap = np.subtract(*(metrics.METRICS["accuracy"](side.probs, side.labels) for side in (network, rival)))  # type: ignore[arg-type]
    assert worse.low > 0
    assert worse.model == "majority"
    assert worse.value == pytest.approx(gap)


def test_differences_refuse_other_rows() -> None:
    network = _predictions(np.random.default_rng(2), 10, 4)
    assert network.labels is not None
    for other in (
        replace(network, scans=network.scans[::-1]),
        replace(network, labels=network.labels[::-1]),
        _predictions(np.random.default_rng(2), 9, 4),
    ):
        with pytest.raises(DataError, match="same rows"):
            paired_difference(network, other)


def test_reports_equal_scikit_learn() -> None:
    given = _predictions(np.random.default_rng(3), 50, 2, 4)
    theirs = reference.classification_report(
        given.labels, given.predicted, target_names=list(given.classes), output_dict=True, zero_division=0
    )
    rows = {row["class"]: row for row in classification_report(given)}
    for name in (*given.classes, "macro avg", "weighted avg"):
        ours = [rows[name][key] for key in ("precision", "recall", "f1", "support")]
        assert ours == pytest.approx([theirs[name][k] for k in ("precision", "recall", "f1-score", "support")])
    assert rows["accuracy"]["f1"] == pytest.approx(theirs["accuracy"])
    np.testing.assert_array_equal(confusion_counts(given), reference.confusion_matrix(given.labels, given.predicted))


def test_roc_curves_equal_scikit_learn() -> None:
    random = np.random.default_rng(4)
    for step in (100, 5):
        probs = np.round(random.dirichlet([1, 1, 1], 80) * step) + 1
        probs /= probs.sum(axis=1, keepdims=True)
        labels = random.integers(0, 3, 80)
        for index in range(3):
            fpr, tpr = roc_curve(probs, labels, index)
            theirs = reference.roc_curve(labels == index, probs[:, index], drop_intermediate=False)
            np.testing.assert_allclose(np.interp(theirs[0], fpr, tpr), np.interp(theirs[0], theirs[0], theirs[1]))
            assert np.trapezoid(tpr, fpr) == pytest.approx(metrics.METRICS["auroc"].by_class(probs, labels)[index])
            assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    fpr, tpr = roc_curve(probs, np.zeros(80, dtype=int), 0)
    assert np.isnan(fpr).all()


def test_reliability_bins_make_up_the_calibration_error() -> None:
    given = _predictions(np.random.default_rng(5), 50, 2)
    assert given.labels is not None
    rows = reliability_bins(given.probs, given.labels)
    gap = sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / 100
    assert gap == pytest.approx(metrics.METRICS["ece"](given.probs, given.labels))
    for row in rows:
        assert row["low"] <= row["confidence"] <= row["high"]
        bounds = clopper_pearson(round(row["accuracy"] * row["count"]), int(row["count"]))
        assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx(bounds)


def test_bad_input_is_refused() -> None:
    given = _predictions(np.random.default_rng(6), 10, 2)
    with pytest.raises(DataError, match="no labels"):
        measure_predictions(replace(given, labels=None), subjects=given.subjects)
    with pytest.raises(ShapeError, match="subject of each of 20"):
        measure_predictions(given, subjects=given.subjects[:-1])
    with pytest.raises(DataError, match=r"no subject.*Rows: 0"):
        measure_predictions(given, subjects=np.where(np.arange(20) == 0, "", given.subjects))
    with pytest.raises(ShapeError, match="Prediction sets must be"):
        measure_predictions(replace(given, sets=np.ones((3, 3), dtype=bool)), subjects=given.subjects, draws=10)
    with pytest.raises(DataError, match="needs draws"):
        measure_predictions(given, subjects=given.subjects, draws=0)


@pytest.mark.slow
@pytest.mark.parametrize("subjects", [200, 6400])
def test_twelve_metrics_of_6400_scans_take_three_seconds(subjects: int) -> None:
    given = _predictions(np.random.default_rng(7), subjects, 6400 // subjects, 4)
    names = ["accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "auroc", "average_precision", "matthews",
             "nll", "brier", "ece", "coverage", "mean_set_size"]  # fmt: skip
    start = time.process_time()
    measure_predictions(given, subjects=given.subjects, names=names)
    assert time.process_time() - start < 3
