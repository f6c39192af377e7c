"""K-fold by subject: everyone is tested once, and what is chosen is chosen without looking at whom it is tested on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scanwise import metrics
from scanwise.conformal import ConformalSets
from scanwise.errors import RecipeError, RunError
from scanwise.pipeline.commands import cross_validation
from scanwise.pipeline.commands.candidates import average_candidates
from scanwise.records import FloatArray, IntArray, Logits, Split, StrArray, load_metrics
from scanwise.reporting import tables
from scanwise.run import Fit, RunFolder
from tiny import Command


@pytest.fixture(scope="module")
def folded(hospital: Path, tiny_recipe: Path, scanwise: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folds") / "out"
    said = scanwise(
        "fold", tiny_recipe, "--data", hospital, "--out", out, "--folds", 2,
        "--set", "rivals.names=[majority, pca_logistic]", "--set", "explain.scans=2",
        "--try", "train.epochs=1", "--try", "train.epochs=2 model.dropout=0.1", "--combine", "choose", "--device", "cpu", "--threads", 1,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "candidate-" in said.out
    return out


@pytest.mark.extended
def test_everyone_is_tested_once_by_a_network_that_did_not_see_them(folded: Path) -> None:
    run = RunFolder.open(folded / "candidate-1")
    splits = [Split.load(fit.split).side for fit in run.fits()]
    assert len(splits) == 2
    tested = np.stack([side == "test" for side in splits]).sum(axis=0)
    learnt_only = np.all([side == "train" for side in splits], axis=0)
    assert set(tested[~learnt_only].tolist()) == {1}
    said = tables.read_predictions(folded / "nested" / "tables" / "predictions.csv")
    assert len(said) == int(tested.sum())
    assert len(set(said.scans.tolist())) == len(said)


@pytest.mark.extended
def test_the_choice_is_the_best_on_validation_and_nothing_else(folded: Path) -> None:
    choices = pd.read_csv(folded / "nested" / "tables" / "choices.csv")
    assert len(choices) == 4
    for _, here in choices.groupby("fold"):
        assert here["chosen"].sum() == 1
        assert here.loc[here["chosen"], "validation_value"].item() == here["validation_value"].min()
        assert set(here["settings"]) == {"train.epochs=1", "train.epochs=2 model.dropout=0.1"}


@pytest.mark.extended
def test_the_chosen_one_answers_for_its_fold(folded: Path) -> None:
    choices = pd.read_csv(folded / "nested" / "tables" / "choices.csv")
    said = tables.read_predictions(folded / "nested" / "tables" / "predictions.csv")
    called = dict(zip(said.scans.tolist(), said.predicted.tolist(), strict=True))
    for _, row in choices[choices["chosen"]].iterrows():
        logits = Logits.load(RunFolder(folded / row["candidate"]).fit("honest", int(row["fold"])).logits("test"))
        best = logits.logits.mean(axis=1).argmax(axis=1)
        assert [called[scan] for scan in logits.scans.tolist()] == best.tolist()


@pytest.mark.extended
def test_only_the_candidate_that_was_best_in_the_first_fold_is_explained(folded: Path) -> None:
    choices = pd.read_csv(folded / "nested" / "tables" / "choices.csv")
    best = choices.loc[(choices["fold"] == 0) & choices["chosen"], "candidate"].item()
    explained = [
        name for name in ("candidate-1", "candidate-2") if (folded / name / "heatmaps" / "checks.json").is_file()
    ]
    assert explained == [best]
    assert f"in the report of {best}" in (folded / "folds.html").read_text(encoding="utf-8")


@pytest.mark.extended
def test_figures_are_told_fold_by_fold_and_pooled(folded: Path) -> None:
    everything = load_metrics(folded / "nested" / "metrics.json")
    found = {(m.fold, m.unit, m.name): m for m in everything if not m.group and m.model == "network"}
    assert {fold for fold, _, _ in found} == {0, 1, -1}
    said = tables.read_predictions(folded / "nested" / "tables" / "predictions_subject.csv")
    pooled = found[-1, "subject", "accuracy"]
    assert pooled.value == pytest.approx(metrics.METRICS["accuracy"](said.probs, said.labels))  # type: ignore[arg-type]
    assert pooled.count == sum(found[fold, "subject", "accuracy"].count for fold in (0, 1))


@pytest.mark.extended
def test_the_procedure_is_compared_with_the_rivals_person_by_person(folded: Path) -> None:
    pooled = [m for m in load_metrics(folded / "nested" / "metrics.json") if m.fold == -1 and not m.group]
    found = {(m.unit, m.model, m.name): m for m in pooled}
    lead = found["subject", "pca_logistic", "auroc difference"]
    mine, theirs = (found["subject", model, "auroc"].value for model in ("network", "pca_logistic"))
    assert lead.value == pytest.approx(mine - theirs)
    assert lead.low <= lead.value <= lead.high
    kept = Logits.load(RunFolder(folded / "candidate-1").fit("honest", 0).rival("pca_logistic", "scan"))
    tested = Logits.load(RunFolder(folded / "candidate-1").fit("honest", 0).logits("test"))
    assert kept.scans.tolist() == tested.scans.tolist()
    rows = pd.read_csv(folded / "nested" / "tables" / "rivals.csv")
    assert set(rows["model"]) == {"network", "majority", "pca_logistic", "averaging"}
    assert not (folded / "candidate-2" / "fits" / "honest" / "0" / "rivals" / "pca_logistic_scan.npz").exists()


@pytest.fixture(scope="module")
def averaged(folded: Path, hospital: Path, tiny_recipe: Path, scanwise: Command) -> Path:
    """The same candidates, averaged; nothing is trained again."""
    said = scanwise(
        "fold", tiny_recipe, "--data", hospital, "--out", folded, "--folds", 2, "--resume", "--combine", "average",
        "--set", "rivals.names=[majority, pca_logistic]", "--set", "explain.scans=2",
        "--try", "train.epochs=1", "--try", "train.epochs=2 model.dropout=0.1", "--device", "cpu", "--threads", 1,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "mean of 2" in said.out
    assert "less choosing" in said.out.lower()
    return folded


@pytest.mark.extended
def test_the_average_of_candidates_answers_with_sets_of_its_own(averaged: Path) -> None:
    answers = tables.read_predictions(averaged / "nested" / "tables" / "predictions_subject.csv")
    alone = [
        tables.read_predictions(averaged / f"candidate-{k}" / "tables" / "predictions_subject.csv") for k in (1, 2)
    ]
    rows = [{name: row for row, name in enumerate(one.subjects.tolist())} for one in alone]
    mean = np.mean(
        [one.probs[[row[name] for name in answers.subjects.tolist()]] for one, row in zip(alone, rows, strict=True)],
        axis=0,
    )
    assert answers.probs == pytest.approx(mean, abs=1e-6)
    assert answers.sets is not None
    runs = [RunFolder(averaged / f"candidate-{k}") for k in (1, 2)]
    learnt = average_candidates([(run, run.fit("honest", 0)) for run in runs])
    assert learnt.subjects.sets is not None
    expected = {name: sets.tolist() for name, sets in zip(learnt.subjects.subjects, learnt.subjects.sets, strict=True)}
    found = {name: sets.tolist() for name, sets in zip(answers.subjects, answers.sets, strict=True)}
    assert all(found[name] == sets for name, sets in expected.items())


@pytest.mark.extended
def test_the_way_that_was_not_asked_for_is_measured_beside_it(averaged: Path) -> None:
    pooled = {
        (m.model, m.name): m
        for m in load_metrics(averaged / "nested" / "metrics.json")
        if m.fold == -1 and m.unit == "subject" and not m.group
    }
    gap = pooled["choosing", "auroc difference"]
    assert gap.value == pytest.approx(pooled["network", "auroc"].value - pooled["choosing", "auroc"].value)
    choices = pd.read_csv(averaged / "nested" / "tables" / "choices.csv")
    assert choices["chosen"].all()


@pytest.mark.extended
def test_sets_of_the_average_are_learnt_from_calibration_subjects(
    averaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[set[str]] = []
    fit = ConformalSets.fit

    def recorded(probs: FloatArray, labels: IntArray, *, subjects: StrArray, **options: Any) -> ConformalSets:
        given.append(set(subjects.tolist()))
        return fit(probs, labels, subjects=subjects, **options)

    monkeypatch.setattr(ConformalSets, "fit", recorded)
    runs = [RunFolder(averaged / f"candidate-{k}") for k in (1, 2)]
    average_candidates([(run, run.fit("honest", 1)) for run in runs])
    calibration = Logits.load(runs[0].fit("honest", 1).logits("calibration"))
    assert given == [set(calibration.subjects.tolist())] * 2


@pytest.mark.parametrize(("count", "expected"), [(99, "average"), (100, "choose")])
def test_few_validation_people_are_averaged(count: int, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_validation, "validation_predictions", lambda _: ([], [0] * count))
    assert cross_validation._combination("auto", [Fit(Path(), "honest", 0)], 1) == expected
    assert cross_validation._combination("choose", [], 1) == "choose"


def test_a_setting_may_hold_spaces() -> None:
    from scanwise.cli.evaluating import _settings_in

    said = "train.stages=[{epochs: 2, lr: 1e-3}] model.dropout=0.1"
    assert _settings_in(said) == ["train.stages=[{epochs: 2, lr: 1e-3}]", "model.dropout=0.1"]


@pytest.mark.extended
def test_what_is_refused(tmp_path: Path, folded: Path) -> None:
    with pytest.raises(RecipeError, match="two folds or more"):
        cross_validation.cross_validate("demo", data="x", out=tmp_path, folds=1)
    with pytest.raises(RecipeError, match="no metric 'nil'"):
        cross_validation.cross_validate("demo", data="x", out=tmp_path, criterion="nil")
    runs = [RunFolder.open(folded / name) for name in ("candidate-1", "candidate-2")]
    fits = {folder.path.name: folder.fits() for folder in runs}
    cross_validation._refuse_other_splits(fits)
    fits["candidate-2"] = [
        replace(fit, path=other.path) for fit, other in zip(fits["candidate-2"], fits["candidate-1"][::-1], strict=True)
    ]
    with pytest.raises(RunError, match="split differently"):
        cross_validation._refuse_other_splits(fits)


def test_a_lower_loss_and_a_higher_accuracy_are_better() -> None:
    values = {"a": 0.4, "b": 0.3, "c": float("nan")}
    assert (cross_validation._best(values, "nll"), cross_validation._best(values, "accuracy")) == ("b", "a")
