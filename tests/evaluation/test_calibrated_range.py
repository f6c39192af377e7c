"""The calibration error beside what a calibrated network shows by chance."""

import numpy as np
import pytest
from scipy import stats

from scanwise.arrays import softmax
from scanwise.evaluation import measure_predictions
from scanwise.evaluation.calibrated_range import calibrated_errors
from scanwise.metrics import METRICS
from scanwise.records import FloatArray, IntArray, Predictions


def predictions_of(probs: FloatArray, labels: IntArray, of_subject: IntArray) -> Predictions:
    empty = np.zeros(len(probs))
    names = np.arange(len(probs)).astype(str)
    classes = tuple("abcdef"[: probs.shape[1]])
    return Predictions(names, of_subject.astype(str), classes, probs, None, empty, empty > 0, labels)


def calibrated(random: np.random.Generator, subjects: int, scans: str, num_classes: int) -> Predictions:
    """A network whose probabilities are right by construction; all scans of a subject share its label."""
    counts = random.integers(1, 30, subjects) if scans == "unequal" else np.full(subjects, int(scans))
    own = softmax(1.5 * random.normal(size=(subjects, num_classes)))
    labels = (own.cumsum(axis=1) < random.random((subjects, 1))).sum(axis=1).clip(0, num_classes - 1)
    of_subject = np.arange(subjects).repeat(counts)
    return predictions_of(own[of_subject], labels[of_subject], of_subject)


def share_with_zero(subjects: int, scans: str, trials: int, sharpen: float = 1.0) -> float:
    random, held = np.random.default_rng(subjects), 0
    for trial in range(trials):
        found = calibrated(random, subjects, scans, 3)
        probs = softmax(sharpen * np.log(found.probs))
        said = predictions_of(probs, found.labels, np.asarray(found.subjects).astype(int))  # type: ignore[arg-type]
        (ece,) = measure_predictions(said, subjects=said.subjects, names=["ece"], draws=200, seed=trial)
        held += ece.low == 0
    return held / trials


@pytest.mark.extended
@pytest.mark.parametrize("scans", ["1", "unequal"])
@pytest.mark.parametrize("subjects", [60, 200])
def test_the_interval_of_a_calibrated_network_holds_zero(subjects: int, scans: str) -> None:
    """It never did: none of 200 intervals at 60, 200 and 1,000 subjects."""
    share = share_with_zero(subjects, scans, 80)
    assert stats.binomtest(round(80 * share), 80, 0.95, alternative="less").pvalue > 0.001


@pytest.mark.slow
@pytest.mark.parametrize("scans", ["1", "unequal"])
@pytest.mark.parametrize("subjects", [60, 200, 1000])
def test_the_interval_of_a_calibrated_network_holds_zero_over_1000_trials(subjects: int, scans: str) -> None:
    share = share_with_zero(subjects, scans, 1000)
    print(f"{subjects} {scans}: {share}")  # noqa: T201
    assert 0.93 < share <= 0.985


def test_a_network_far_too_sure_of_itself_is_found_out() -> None:
    assert share_with_zero(200, "1", 20, sharpen=4) == 0


def test_one_row_is_off_by_its_own_doubt() -> None:
    errors = calibrated_errors(np.array([[0.9, 0.1]]), np.array([0]), 2000, 0)
    assert set(errors.round(9)) == {0.1, 0.9}
    assert (errors > 0.5).mean() == pytest.approx(0.1, abs=0.03)


def test_draws_give_the_errors_that_the_metric_gives() -> None:
    """Drawn labels, measured by the metric itself, have the same distribution."""
    random = np.random.default_rng(3)
    found = calibrated(random, 50, "1", 3)
    rows = np.arange(50)
    expected = []
    for _ in range(400):
        labels = (found.probs.cumsum(axis=1) < random.random((50, 1))).sum(axis=1)
        expected.append(float(METRICS["ece"](found.probs, labels)))
    errors = calibrated_errors(found.probs, rows, 400, 0)
    assert stats.ks_2samp(errors, expected).pvalue > 1e-3


def test_scans_of_one_subject_are_one_case() -> None:
    """Ten copies of every scan leave the range where it was."""
    found = calibrated(np.random.default_rng(4), 60, "1", 3)
    once = calibrated_errors(found.probs, np.arange(60), 500, 0)
    often = calibrated_errors(found.probs.repeat(10, axis=0), np.arange(60).repeat(10), 500, 0)
    np.testing.assert_allclose(once, often, atol=1e-12)


def test_the_range_stands_beside_the_error() -> None:
    found = calibrated(np.random.default_rng(5), 60, "1", 3)
    error, expected = measure_predictions(found, subjects=found.subjects, names=["ece", "calibrated_ece"], draws=300)
    assert (error.name, expected.name) == ("ece", "calibrated_ece")
    assert error.value == pytest.approx(METRICS["ece"](found.probs, found.labels))  # type: ignore[arg-type]
    assert 0 < expected.low < expected.value < expected.high
    assert error.low == pytest.approx(max(0, error.value - (error.high - error.value)))
