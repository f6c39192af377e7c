"""Calibrators help on fresh data, or refuse; nothing that logits can do breaks them."""

import json

import numpy as np
import pytest

from scanwise import calibration, metrics
from scanwise.arrays import softmax
from scanwise.calibration import CALIBRATORS, COLDEST, HOTTEST, Temperature
from scanwise.errors import DataError, RecipeError, ShapeError
from scanwise.metrics import METRICS
from scanwise.records import FloatArray, IntArray, StrArray


def _drawn(random: np.random.Generator, count: int, num_classes: int, factor: float) -> tuple[FloatArray, IntArray]:
    """Logits whose softmax at temperature `factor` is the law of the labels."""
    truth = 2 * random.normal(size=(count, num_classes))
    labels = (random.random((count, 1)) > softmax(truth).cumsum(axis=1)).sum(axis=1)
    return truth * factor, labels


def _names(count: int) -> StrArray:
    return np.array([f"s{i}" for i in range(count)])


@pytest.mark.parametrize("factor", [0.4, 1.7, 3.0, 8.0])
def test_temperature_finds_what_the_logits_were_multiplied_by(factor: float) -> None:
    logits, labels = _drawn(np.random.default_rng(0), 4000, 4, factor)
    fitted = Temperature.fit(logits, labels, _names(4000))
    assert fitted.refused == ""
    assert fitted.temperature == pytest.approx(factor, rel=0.06)


def test_temperature_equals_the_stationary_point_of_its_cost() -> None:
    logits, labels = _drawn(np.random.default_rng(3), 500, 3, 2.0)
    best = np.log(Temperature.fit(logits, labels, _names(500)).temperature)

    def cost(value: float) -> float:
        return (
            float(metrics.METRICS["nll"](softmax(logits / np.exp(value)), labels)) + calibration.PRIOR * value**2 / 500
        )

    assert abs(cost(best + 1e-4) - cost(best - 1e-4)) / 2e-4 < 1e-5


def test_overconfident_networks_reach_the_noise_floor() -> None:
    random = np.random.default_rng(1)
    before, after, floor = [], [], []
    for _ in range(20):
        logits, labels = _drawn(random, 2000, 4, 4.0)
        fitted = Temperature.fit(logits[:1000], labels[:1000], _names(1000))
        before.append(metrics.METRICS["ece"](softmax(logits[1000:]), labels[1000:]))
        after.append(metrics.METRICS["ece"](fitted(logits[1000:]), labels[1000:]))
        perfect = softmax(logits[1000:] / 4)
        drawn = (random.random((1000, 1)) > perfect.cumsum(axis=1)).sum(axis=1)
        floor.append(metrics.METRICS["ece"](perfect, drawn))
    assert np.mean(before) > 0.1
    assert np.mean(after) < np.mean(floor) + 2 * np.std(floor) / np.sqrt(20) + 0.003


def _change(random: np.random.Generator) -> float:
    """Mean NLL on fresh data, with the temperature less without, for a random network and a random n."""
    count, num_classes = int(random.choice([20, 50, 200])), int(random.choice([2, 4]))
    kind = random.choice(["scaled", "constant", "perfect", "inverted", "noise"])
    logits, labels = _drawn(random, count + 1000, num_classes, float(np.exp(random.normal())))
    if kind == "constant":
        logits = np.zeros_like(logits)
    if kind == "perfect":
        logits = 3.0 * np.eye(num_classes)[labels] + 0.1 * random.normal(size=logits.shape)
    if kind == "inverted":
        logits = -logits
    if kind == "noise":
        logits = random.permutation(logits)
    fitted = Temperature.fit(logits[:count], labels[:count], _names(count))
    fresh = slice(count, None)
    return float(metrics.METRICS["nll"](fitted(logits[fresh]), labels[fresh])) - float(
        metrics.METRICS["nll"](softmax(logits[fresh]), labels[fresh])
    )


@pytest.mark.extended
def test_fresh_data_gain_on_average() -> None:
    random = np.random.default_rng(2)
    changes = np.array([_change(random) for _ in range(100)])
    assert changes.mean() < 0
    assert changes.max() < 0.1


@pytest.mark.slow
def test_fresh_data_gain_on_average_over_1000_cases() -> None:
    random = np.random.default_rng(7)
    changes = np.array([_change(random) for _ in range(1000)])
    print(f"mean {changes.mean():.4f}, worst {changes.max():.4f}, worse in {(changes > 0).mean():.1%}")  # noqa: T201
    assert changes.mean() < 0
    assert changes.max() < 0.2


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("kind", ["constant", "perfect", "inverted", "huge"])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_odd_logits_break_nothing(name: str, kind: str, num_classes: int) -> None:
    labels = np.arange(40) % num_classes
    truth = np.eye(num_classes)[labels]
    logits = {"constant": np.ones_like(truth), "perfect": 9 * truth, "inverted": -9 * truth, "huge": 1e4 * truth}[kind]
    fitted = CALIBRATORS[name].fit(logits, labels, _names(40))
    probs = fitted(logits)
    assert np.isfinite(probs).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert float(metrics.METRICS["nll"](probs, labels)) <= float(metrics.METRICS["nll"](softmax(logits), labels)) + 1e-5
    if isinstance(fitted, Temperature):
        assert COLDEST <= fitted.temperature <= HOTTEST


def test_inverted_logits_are_softened_to_the_bound_and_not_beyond() -> None:
    labels = np.arange(200) % 3
    logits = -9.0 * np.eye(3)[labels]
    fitted = Temperature.fit(logits, labels, _names(200))
    assert 20 < fitted.temperature <= HOTTEST * logits.std(axis=1).mean()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_temperature_is_found_in_the_units_of_the_logits(scale: float) -> None:
    """Logits of ±1e4 met the bound of 100, which stood in no relation to them."""
    logits, labels = _drawn(np.random.default_rng(5), 600, 3, 4.0)
    usual, scaled = (Temperature.fit(factor * logits, labels, _names(600)) for factor in (1.0, scale))
    assert (usual.reached, scaled.reached) == ("", "")
    assert scaled.refused == ""
    assert scaled.temperature / scale == pytest.approx(usual.temperature, rel=0.05)


def test_a_bound_that_is_reached_is_said() -> None:
    labels = np.arange(4000) % 2
    fitted = Temperature.fit(-9.0 * np.eye(2)[labels], labels, _names(4000))
    assert "upper bound" in fitted.reached
    assert Temperature.from_dict(fitted.to_dict()) == fitted


@pytest.mark.parametrize("name", CALIBRATORS)
def test_the_figure_that_decides_is_the_one_that_is_shown(name: str) -> None:
    """NLL .648 without and .678 with, on subjects held out, and the calibrator was written all the same."""
    refused = 0
    for seed in range(12):
        random = np.random.default_rng(seed)
        labels = random.integers(0, 2, 40)
        logits = np.stack([np.zeros(40), random.normal(size=40) + 0.8 * (2 * labels - 1)], axis=1)
        fitted = CALIBRATORS[name].fit(logits, labels, _names(40))
        before = float(METRICS["nll"](Temperature(1.0)(logits), labels))
        after = float(METRICS["nll"](calibration.held_out_probs(name, logits, labels, _names(40)), labels))
        assert (fitted.refused != "") == (after >= before)
        refused += fitted.refused != ""
        if fitted.refused:
            assert f"{after:.4f} with" in fitted.refused
    assert refused > 0


def test_a_temperature_that_does_not_help_is_refused() -> None:
    constant = Temperature.fit(np.zeros((40, 3)), np.arange(40) % 3, _names(40))
    assert constant.temperature == 1.0
    assert "does not help" in constant.refused
    few = Temperature.fit(np.eye(3), np.arange(3), _names(3))
    assert few.temperature == 1.0
    assert "too few" in few.refused


def test_folds_hold_out_subjects_not_scans() -> None:
    """Noise logits, ten copies a subject: within-subject folds would see their own answers and accept anything."""
    random = np.random.default_rng(0)
    given = calibration.CalibrationRows.of(
        random.normal(size=(200, 3)), np.repeat(np.arange(20) % 3, 10), _names(20).repeat(10)
    )
    folds = calibration._folds(given)
    assert all(len(np.unique(folds[given.of_subject == subject])) == 1 for subject in range(20))
    assert np.bincount(folds).tolist() == [40] * 5


@pytest.mark.parametrize("name", CALIBRATORS)
def test_every_calibrator_helps_an_overconfident_network(name: str) -> None:
    logits, labels = _drawn(np.random.default_rng(5), 3000, 4, 4.0)
    fitted = CALIBRATORS[name].fit(logits[:1000], labels[:1000], _names(1000))
    assert fitted.refused == ""
    probs = fitted(logits[1000:])
    assert (
        float(metrics.METRICS["nll"](probs, labels[1000:]))
        < float(metrics.METRICS["nll"](softmax(logits[1000:]), labels[1000:])) - 0.1
    )
    assert metrics.METRICS["ece"](probs, labels[1000:]) < 0.06


@pytest.mark.parametrize("name", CALIBRATORS)
def test_members_are_averaged_after_softmax(name: str) -> None:
    logits, labels = _drawn(np.random.default_rng(6), 400, 3, 3.0)
    members = np.stack([logits, logits[:, ::-1]], axis=1)
    fitted = CALIBRATORS[name].fit(members, labels, _names(400))
    assert fitted(members).shape == (400, 3)
    np.testing.assert_allclose(Temperature(2.0)(members), (softmax(members / 2)).mean(axis=1))


@pytest.mark.parametrize("name", CALIBRATORS)
def test_json_gives_the_same_calibrator_back(name: str) -> None:
    logits, labels = _drawn(np.random.default_rng(8), 300, 3, 3.0)
    fitted = CALIBRATORS[name].fit(logits, labels, _names(300))
    again = calibration.calibrator_from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False)))
    assert again == fitted
    np.testing.assert_array_equal(again(logits), fitted(logits))


def test_temperature_keeps_argmax_and_binary_auroc() -> None:
    logits, labels = _drawn(np.random.default_rng(9), 300, 2, 3.0)
    softer = Temperature(2.5)(logits)
    assert (softer.argmax(axis=1) == logits.argmax(axis=1)).all()
    assert metrics.METRICS["auroc"](softer, labels) == pytest.approx(
        float(metrics.METRICS["auroc"](softmax(logits), labels)), abs=1e-12
    )


def test_logits_between_0_and_1_are_still_logits() -> None:
    np.testing.assert_allclose(Temperature(1.0)(np.array([[0.2, 0.8]])), softmax(np.array([[0.2, 0.8]])))


@pytest.mark.parametrize("name", CALIBRATORS)
def test_bad_input_is_refused(name: str) -> None:
    fit = CALIBRATORS[name].fit
    good, labels = np.zeros((6, 2)), np.zeros(6, dtype=int)
    with pytest.raises(DataError, match=r"NaN or infinite\. Rows: 0"):
        fit(np.full((6, 2), np.nan), labels, _names(6))
    with pytest.raises(DataError, match="Rows: 5"):
        fit(good, np.array([0, 0, 0, 0, 0, 2]), _names(6))
    with pytest.raises(ShapeError, match="subject of each of 6"):
        fit(good, labels, _names(5))
    with pytest.raises(DataError, match="N is 0"):
        fit(np.empty((0, 2)), labels[:0], _names(0))
    assert fit(good, labels, _names(6)).refused != "" or np.isfinite(fit(good, labels, _names(6))(good)).all()


def test_altered_files_are_refused() -> None:
    with pytest.raises(DataError, match="'temperature' must be a number"):
        calibration.calibrator_from_dict({"method": "temperature", "temperature": -2.0})
    with pytest.raises(DataError, match="'temperature' must be a number"):
        calibration.calibrator_from_dict({"method": "temperature", "temperature": float("nan")})
    with pytest.raises(RecipeError, match="no calibrator"):
        calibration.calibrator_from_dict({"method": "temprature"})
    with pytest.raises(DataError, match="as many numbers each"):
        calibration.calibrator_from_dict({"method": "vector", "factors": [1.0, 1.0], "shifts": [0.0]})
    with pytest.raises(DataError, match="lists of finite numbers"):
        calibration.calibrator_from_dict({"method": "vector", "factors": [1.0, float("inf")], "shifts": [0.0, 0.0]})
    with pytest.raises(DataError, match="the first rising"):
        calibration.calibrator_from_dict({"method": "isotonic", "said": [[0.5, 0.1]] * 2, "seen": [[0.0, 1.0]] * 2})
    for method in ("vector", "isotonic"):
        with pytest.raises(DataError, match="changed"):
            calibration.calibrator_from_dict({"method": method})


@pytest.mark.parametrize("name", ["vector", "isotonic"])
def test_a_calibrator_of_other_classes_is_refused(name: str) -> None:
    fitted = CALIBRATORS[name].fit(np.zeros((20, 3)), np.arange(20) % 3, _names(20))
    for num_classes in (2, 4):
        with pytest.raises(ShapeError, match=f"fitted on 3 classes; these logits have {num_classes}"):
            fitted(np.zeros((5, num_classes)))


def test_held_out_figures_are_of_calibrators_that_did_not_see_the_subject() -> None:
    """Labels are noise: what learnt on them knows them, what did not cannot."""
    random = np.random.default_rng(10)
    logits, labels = random.normal(size=(60, 2)), random.integers(0, 2, 60)
    probs = calibration.held_out_probs("isotonic", logits, labels, _names(60))
    given = calibration.CalibrationRows.of(logits, labels, _names(60))
    folds = calibration._folds(given)
    for fold in range(5):
        fitted = CALIBRATORS["isotonic"].solve(given.take(folds != fold))
        np.testing.assert_array_equal(probs[folds == fold], fitted(logits[folds == fold]))
    with pytest.raises(DataError, match="All rows are of one subject"):
        calibration.held_out_probs("temperature", logits, labels, np.full(60, "a"))
