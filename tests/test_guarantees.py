"""The rules that guarantees rest on, recomputed from the logits of a finished run: which subjects each number is learnt from.

Temperatures come from validation subjects, thresholds from calibration subjects, scans and subjects have their own, baselines
and the detector's reference come from training subjects, and nothing comes from test subjects. Every comparison is followed
by one that swaps subjects or units and must differ, so that the comparison itself can fail.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from scanwise import baselines, bundle, evaluation
from scanwise.bundle import load as load_bundle
from scanwise.conformal import ConformalSets, draws_from
from scanwise.novelty import NoveltyDetector
from scanwise.pipeline.stages import calibration as stage
from scanwise.pipeline.stages.operating_points import validation_predictions
from scanwise.recipe import load_recipe
from scanwise.records import Cohort, FloatArray, IntArray, Logits, Predictions, Split, StrArray
from scanwise.run import Fit, RunFolder
from scanwise.uncertainty import Abstention, abstention_grid
from tiny import picture, read_csv, run_command, write_csv

ALPHA, PENALTY, K_REG = 0.3, 0.07, 1
SETTINGS = (
    f"conformal.alpha={ALPHA}", f"conformal.penalty={PENALTY}", f"conformal.k_reg={K_REG}", "uncertainty.risk=0.6",
    "uncertainty.delta=0.4", "uncertainty.false_alarm=0.3", "evaluation.pooling=mean_logit", "rivals.names=[majority]",
    "train.epochs=30", "train.optimizer.lr=0.01",
    "train.label_smoothing=0.6",  # taught to doubt, it needs a temperature, whatever the processor
)  # fmt: skip
SIDES = ("train", "validation", "calibration", "test")
UNITS = ("scan", "subject")
LEARNT = ("calibrator", "conformal", "abstention", "novelty")


@dataclass(frozen=True)
class Fitted:
    """A finished run of people with several scans, and the subjects that the baseline was given."""

    run: RunFolder
    fit: Fit
    logits: dict[str, Logits]
    data: Path
    baseline_subjects: list[StrArray] = field(default_factory=list)

    def units(self, unit: str) -> dict[str, Logits]:
        return self.logits if unit == "scan" else {side: _mean_by_subject(own) for side, own in self.logits.items()}

    def hashes(self, unit: str, side: str) -> list[str]:
        cohort = Cohort.load(self.run.cohort)
        by_path = dict(zip(cohort.path.tolist(), cohort.pixels.tolist(), strict=True))
        scans = self.logits[side]
        own = [by_path[path] for path in scans.scans.tolist()]
        if unit == "scan":
            return own
        names = np.unique(scans.subjects)
        grouped = [sorted(np.array(own)[scans.subjects == name].tolist()) for name in names]
        return [hashlib.sha256("".join(group).encode()).hexdigest() for group in grouped]

    def saved(self, name: str) -> Any:
        return json.loads(getattr(self.fit, name).read_text(encoding="utf-8"))

    def context(self) -> Any:
        """What the calibration stage reads of its context."""
        return SimpleNamespace(recipe=load_recipe(self.run.recipe), cohort=Cohort.load(self.run.cohort))


def _cohort(folder: Path) -> Path:
    """60 people of three classes with five scans each; a few people, and most of everybody's scans, look like another
    class, so that scans and subjects both need calibration, and not the same."""
    random, rows = np.random.default_rng(1), []
    folder.mkdir()
    for person in range(60):
        kind = person % 3
        looks = kind if random.random() > 0.1 else int(random.integers(3))
        for index in range(5):
            shown = looks if random.random() > 0.6 else int(random.integers(3))
            name = f"p{person:02d}_{index}.png"
            picture(shown, 10 * person + index).save(folder / name)
            rows.append({"path": name, "label": "abc"[kind], "subject": f"p{person:02d}"})
    return write_csv(folder / "scans.csv", rows)


@pytest.fixture(scope="module")
def fitted(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    given: list[StrArray] = []
    majority = baselines.BASELINES["majority"]

    def recorded(pixels: Any, labels: IntArray, subjects: StrArray, *others: Any) -> FloatArray:
        given.append(subjects)
        return majority.classify(pixels, labels, subjects, *others)

    out = tmp_path_factory.mktemp("guarantees") / "run"
    data = _cohort(out.parent / "data")
    settings = [item for setting in SETTINGS for item in ("--set", setting)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(baselines.BASELINES, "majority", replace(majority, classify=recorded))
        done = run_command(
            "fit", tiny_recipe, "--data", data, "--out", out, *settings, "--device", "cpu", "--threads", 1
        )
    assert done.code == 0, done.err
    run = RunFolder.open(out)
    (fit,) = run.fits()
    return Fitted(run, fit, {side: Logits.load(fit.logits(side)) for side in SIDES}, data, given)


def _mean_by_subject(scans: Logits) -> Logits:
    names = np.unique(scans.subjects)
    rows = [scans.subjects == name for name in names]
    return replace(
        scans,
        logits=np.stack([scans.logits[own].mean(axis=0) for own in rows]),
        labels=np.array([scans.labels[own][0] for own in rows]),
        scans=names, subjects=names, groups={}, features=None, appearance=None,
    )  # fmt: skip


def _temperature(units: Logits) -> float:
    """The minimum of NLL, rows weighing together as much as subjects, beside a normal prior of half a subject."""
    weight = len(np.unique(units.subjects)) / len(units)

    def loss(log_temperature: float) -> float:
        members = log_softmax(units.logits / np.exp(log_temperature), axis=2)
        own = members[np.arange(len(units)), :, units.labels]
        nll = -np.log(np.exp(own).mean(axis=1)).sum()
        return float(weight * nll + 0.5 * log_temperature**2)

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(100.0)), method="bounded").x))


def _probs(units: Logits, temperature: float) -> FloatArray:
    return np.asarray(softmax(units.logits / temperature, axis=2).mean(axis=1))


def _threshold(units: Logits, hashes: list[str], temperature: float) -> float:
    """RAPS scores of labels, and their quantile with a mass of 1 / (K + 1) for each of K subjects."""
    draws, scores = draws_from(hashes), []
    for row, (probs, label) in enumerate(zip(_probs(units, temperature), units.labels.tolist(), strict=True)):
        order = sorted(range(len(probs)), key=lambda c: (-probs[c], c))
        rank = order.index(label)
        mass = sum(float(probs[c]) for c in order[:rank]) + float(draws[row] * probs[label])
        scores.append(mass + PENALTY * max(rank + 1 - K_REG, 0))
    names, counts = np.unique(units.subjects, return_counts=True)
    weights = np.array([1 / counts[names.tolist().index(name)] for name in units.subjects.tolist()])
    total, needed = 0.0, (1 - ALPHA) * (len(names) + 1)
    for row in np.argsort(scores, kind="stable"):
        total += weights[row]
        if total >= needed - 1e-9:
            return float(scores[row])
    return np.inf


def _calibrate_copy(fitted: Fitted, folder: Path, **changed: Logits) -> dict[str, bytes]:
    """Run the calibration stage again on a copy with other logits; the files that it writes."""
    fit = Fit(folder, "honest", 0)
    shutil.copytree(fitted.fit.path / "logits", folder / "logits")
    for side, logits in changed.items():
        logits.save(fit.logits(side))
    stage.calibrate_fit(fitted.context(), fit)
    return {name: getattr(fit, name).read_bytes() for name in LEARNT}


def _shuffled(logits: Logits, *, labels: bool = True) -> Logits:
    """Other logits of the same people: rows permuted against labels, and features and appearance moved."""
    order = np.random.default_rng(0).permutation(len(logits))
    moved = {name: getattr(logits, name)[order] * 1.7 for name in ("features", "appearance")}
    return replace(logits, logits=logits.logits[order] * 1.9, **moved)


def test_the_run_has_several_scans_a_subject_and_no_subject_twice(fitted: Fitted) -> None:
    split = [set(own.subjects.tolist()) for own in fitted.logits.values()]
    assert sum(map(len, split)) == len(set.union(*split))
    assert all(len(own) > len(np.unique(own.subjects)) for own in fitted.logits.values())
    wanted = Split.load(fitted.fit.split)
    cohort = Cohort.load(fitted.run.cohort)
    for side, own in fitted.logits.items():
        assert set(own.scans.tolist()) <= set(cohort.path[wanted.rows(side)].tolist()), side


@pytest.mark.parametrize("unit", UNITS)
def test_temperatures_come_from_validation_subjects_each_unit_its_own(fitted: Fitted, unit: str) -> None:
    saved = fitted.saved("calibrator")
    assert all(saved[each]["refused"] == "" for each in UNITS)
    mine = saved[unit]["temperature"]
    assert mine == pytest.approx(_temperature(fitted.units(unit)["validation"]), rel=1e-3)
    other = UNITS[1 - UNITS.index(unit)]
    wrong = [_temperature(fitted.units(unit)[side]) for side in ("train", "calibration", "test")]
    wrong.append(_temperature(fitted.units(other)["validation"]))
    assert all(abs(value / mine - 1) > 0.01 for value in wrong), (mine, wrong)


@pytest.mark.parametrize("unit", UNITS)
def test_thresholds_come_from_calibration_subjects_each_unit_its_own(fitted: Fitted, unit: str) -> None:
    saved = fitted.saved("conformal")
    temperatures = {each: fitted.saved("calibrator")[each]["temperature"] for each in UNITS}
    mine = saved[unit]
    assert (mine["alpha"], mine["score"], mine["penalty"], mine["k_reg"]) == (ALPHA, "raps", PENALTY, K_REG)
    subjects = len(np.unique(fitted.logits["calibration"].subjects))
    assert mine["calibration_count"] == subjects
    assert mine["guarantee"] == ("random scan of a new subject" if unit == "scan" else "new subject")

    def threshold(of: str, side: str, temperature: float) -> float:
        return _threshold(fitted.units(of)[side], fitted.hashes(of, side), temperature)

    assert mine["threshold"] == pytest.approx(threshold(unit, "calibration", temperatures[unit]), abs=1e-6)
    other = UNITS[1 - UNITS.index(unit)]
    wrong = [threshold(unit, side, temperatures[unit]) for side in ("train", "validation", "test")]
    wrong += [threshold(unit, "calibration", temperatures[other]), threshold(other, "calibration", temperatures[other])]
    assert all(abs(value - mine["threshold"]) > 1e-5 for value in wrong), (mine["threshold"], wrong)


def test_penalties_are_tuned_on_validation_subjects(fitted: Fitted, tmp_path: Path, monkeypatch: Any) -> None:
    given: list[set[str]] = []

    def recorded(probs: FloatArray, labels: IntArray, *, subjects: StrArray, **options: Any) -> tuple[float, int]:
        given.append(set(subjects.tolist()))
        return 0.0, 0

    monkeypatch.setattr(ConformalSets, "tune", recorded)
    context = fitted.context()
    context.recipe = load_recipe(fitted.run.recipe, ["conformal.penalty=auto", "conformal.k_reg=auto"])
    shutil.copytree(fitted.fit.path / "logits", tmp_path / "logits")
    stage.calibrate_fit(context, Fit(tmp_path, "honest", 0))
    assert given == [set(fitted.logits["validation"].subjects.tolist())] * 2


def test_pooling_is_chosen_on_validation_subjects(fitted: Fitted, tmp_path: Path, monkeypatch: Any) -> None:
    given: list[set[str]] = []

    def recorded(logits: Logits, choice: str) -> str:
        given.append(set(logits.subjects.tolist()))
        return choice

    monkeypatch.setattr(stage, "choose_pooling", recorded)
    shutil.copytree(fitted.fit.path / "logits", tmp_path / "logits")
    stage.calibrate_fit(fitted.context(), Fit(tmp_path, "honest", 0))
    assert given == [set(fitted.logits["validation"].subjects.tolist())]


def test_abstention_tries_validation_thresholds_on_calibration_subjects(fitted: Fitted) -> None:
    people = fitted.units("subject")
    temperature = fitted.saved("calibrator")["subject"]["temperature"]
    saved = fitted.saved("abstention")

    def learnt(grid: str, tested: str, temperature: float, risk: float) -> dict[str, Any]:
        uncertainty = {side: 1 - _probs(people[side], temperature).max(axis=1) for side in (grid, tested)}
        tries = abstention_grid(uncertainty[grid], len(people[tested]), risk=risk, delta=0.4)
        wrong = _probs(people[tested], temperature).argmax(axis=1) != people[tested].labels
        return bundle.abstention_to_dict(
            Abstention.fit(
                uncertainty[tested], wrong, grid=tries, risk=risk, delta=0.4, subjects=people[tested].subjects
            )
        )

    def table(grid: str, tested: str, temperature: float) -> list[Any]:
        rows = [learnt(grid, tested, temperature, row["risk"]) for row in saved["table"]]
        return [(row["threshold"], row["count"], row["answered"]) for row in rows]

    def close(rows: list[Any]) -> bool:
        mine = [(row["threshold"], row["count"], row["answered"]) for row in saved["table"]]
        pairs = zip(np.array(rows, dtype=float).ravel(), np.array(mine, dtype=float).ravel(), strict=True)
        return all(np.isclose(a, b, atol=1e-6, equal_nan=True) for a, b in pairs)

    assert any(row["threshold"] is not None for row in saved["table"])
    assert saved["chosen"] in saved["table"]
    assert saved["chosen"]["risk"] == 0.6
    assert close(table("validation", "calibration", temperature))
    for grid, tested in (("calibration", "validation"), ("calibration", "calibration"), ("validation", "test")):
        assert not close(table(grid, tested, temperature)), (grid, tested)
    assert not close(table("validation", "calibration", fitted.saved("calibrator")["scan"]["temperature"]))


def test_the_detector_has_its_alarm_thresholds_from_calibration_subjects(fitted: Fitted) -> None:
    saved = NoveltyDetector.load(fitted.fit.novelty)

    def distances(detector: NoveltyDetector) -> tuple[FloatArray, float]:
        return detector.distances(fitted.logits["test"]), detector.thresholds["scan"].threshold

    def same(detector: NoveltyDetector) -> bool:
        return all(np.allclose(*pair, rtol=1e-4) for pair in zip(distances(saved), distances(detector), strict=True))

    def learnt(*sides: str) -> NoveltyDetector:
        return NoveltyDetector.fit(*(fitted.logits[side] for side in sides), false_alarm=0.3)

    assert same(learnt("train", "validation", "calibration"))
    for wrong in (
        ("train", "calibration", "validation"), ("validation", "train", "calibration"), ("train", "validation", "test"),
    ):  # fmt: skip
        assert not same(learnt(*wrong)), wrong


def test_nothing_is_learnt_from_test_subjects(fitted: Fitted, tmp_path: Path) -> None:
    before = _calibrate_copy(fitted, tmp_path / "same")
    for name in LEARNT:
        assert before[name] == getattr(fitted.fit, name).read_bytes(), name
    assert _calibrate_copy(fitted, tmp_path / "test", test=_shuffled(fitted.logits["test"])) == before
    changes = {
        side: {
            name
            for name, content in _calibrate_copy(fitted, tmp_path / side, **{side: _shuffled(own)}).items()
            if content != before[name]
        }
        for side, own in fitted.logits.items()
        if side != "test"
    }
    assert changes["validation"] == set(LEARNT)
    assert changes["calibration"] == {"conformal", "abstention", "novelty"}
    assert changes["train"] == {"novelty"}


def test_test_predictions_have_the_calibrator_and_the_sets_of_their_unit(fitted: Fitted) -> None:
    opened = load_bundle(fitted.run.path)
    test = fitted.logits["test"]
    saved = {name: fitted.saved(name) for name in ("calibrator", "conformal")}
    for predictors in (opened.predictors, bundle.load_predictors(fitted.fit)):
        answers = bundle.predict_scans_and_subjects(predictors, test, fitted.hashes("scan", "test"))
        for unit, predictions in zip(UNITS, answers, strict=True):
            temperature = saved["calibrator"][unit]["temperature"]
            probs = _probs(fitted.units(unit)["test"], temperature)
            np.testing.assert_allclose(predictions.probs, probs, atol=1e-6)
            other = saved["calibrator"][UNITS[1 - UNITS.index(unit)]]["temperature"]
            assert np.abs(predictions.probs - _probs(fitted.units(unit)["test"], other)).max() > 1e-4
            sets = ConformalSets.from_dict(saved["conformal"][unit])
            np.testing.assert_array_equal(predictions.sets, sets(probs, draws_from(fitted.hashes(unit, "test"))))
            assert predictors[unit].sets == sets  # type: ignore[index]
            assert predictors[unit].unit == unit  # type: ignore[index]
        assert predictors["scan"].sets != predictors["subject"].sets
        assert predictors["scan"].abstention is None
        assert predictors["subject"].abstention == bundle.abstention_from_dict(fitted.saved("abstention")["chosen"])


def test_the_bundle_answers_for_files_as_the_run_does(fitted: Fitted) -> None:
    """From pixels to probabilities, by each unit's own temperature."""
    test = fitted.logits["test"]
    root = fitted.data.parent
    answers = load_bundle(fitted.run.path).predict(
        [root / scan for scan in test.scans.tolist()], test.subjects.tolist()
    )
    temperatures = {unit: fitted.saved("calibrator")[unit]["temperature"] for unit in UNITS}
    np.testing.assert_allclose(answers.scans.probs, _probs(test, temperatures["scan"]), atol=1e-4)
    assert answers.subjects is not None
    expected = _probs(fitted.units("subject")["test"], temperatures["subject"])
    np.testing.assert_allclose(answers.subjects.probs, expected, atol=1e-4)


def test_operating_points_are_chosen_on_validation_subjects(fitted: Fitted) -> None:
    by_scan, by_subject = validation_predictions(fitted.fit)
    for predictions in (by_scan, by_subject):
        assert set(predictions.subjects.tolist()) == set(fitted.logits["validation"].subjects.tolist())
    temperature = fitted.saved("calibrator")["subject"]["temperature"]
    np.testing.assert_allclose(by_subject.probs, _probs(fitted.units("subject")["validation"], temperature), atol=1e-6)
    test = bundle.predict_scans_and_subjects(
        bundle.load_predictors(fitted.fit), fitted.logits["test"], fitted.hashes("scan", "test")
    )
    rows = read_csv(fitted.run.tables / "operating_points.csv")
    for unit, validation, tested in zip(UNITS, (by_scan, by_subject), test, strict=True):
        saved = [float(row["threshold"]) for row in rows if row["unit"] == unit]
        assert saved

        def thresholds(chosen: Predictions, applied: Predictions) -> list[float]:
            points = evaluation.transfer_thresholds(chosen, applied, draws=100, confidence=0.95, seed=0)
            return [point["threshold"] for point in points]

        np.testing.assert_allclose(thresholds(validation, tested), saved, rtol=1e-9)
        assert thresholds(tested, tested) != pytest.approx(saved)


def test_baselines_learn_from_training_subjects_alone(fitted: Fitted) -> None:
    (given,) = fitted.baseline_subjects
    assert set(given.tolist()) == set(fitted.logits["train"].subjects.tolist())


def test_classes_stand_in_one_order_from_cohort_to_bundle(fitted: Fitted) -> None:
    cohort = Cohort.load(fitted.run.cohort)
    assert load_bundle(fitted.run.path).classes == cohort.classes
    named = {row["path"]: row["label"] for row in read_csv(fitted.data)}
    for own in fitted.logits.values():
        assert own.classes == cohort.classes
        spelled = {
            scan: own.classes[label] for scan, label in zip(own.scans.tolist(), own.labels.tolist(), strict=True)
        }
        kinds = {named[scan].casefold().replace(" ", "") for scan in spelled}
        pairs = {(named[scan], name) for scan, name in spelled.items()}
        assert len(pairs) == len(kinds)
        assert all(name.casefold().replace(" ", "") == label.casefold().replace(" ", "") for label, name in pairs), (
            pairs
        )
