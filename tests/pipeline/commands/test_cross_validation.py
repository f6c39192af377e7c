"""K-fold by subject: everyone is tested once, and what is chosen is chosen without looking at whom it is tested on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scanwise import metrics
from scanwise.errors import RecipeError, RunError
from scanwise.pipeline.commands import cross_validation
from scanwise.records import Logits, Split, load_metrics
from scanwise.reporting import tables
from scanwise.run import Run
from tiny import Command


@pytest.fixture(scope="module")
def folded(hospital: Path, tiny_recipe: Path, scanwise: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folds") / "out"
    said = scanwise(
        "fold", tiny_recipe, "--data", hospital, "--out", out, "--folds", 2,
        "--set", "rivals.names=[majority, pca_logistic]",
        "--try", "train.epochs=1", "--try", "train.epochs=2 model.dropout=0.1", "--device", "cpu", "--threads", 1,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "candidate-" in said.out
    return out


def test_everyone_is_tested_once_by_a_network_that_did_not_see_them(folded: Path) -> None:
    run = Run.open(folded / "candidate-1")
    splits = [Split.load(fit.split).side for fit in run.fits()]
    assert len(splits) == 2
    tested = np.stack([side == "test" for side in splits]).sum(axis=0)
    learnt_only = np.all([side == "train" for side in splits], axis=0)
    assert set(tested[~learnt_only].tolist()) == {1}
    said = tables.read_predictions(folded / "nested" / "tables" / "predictions.csv")
    assert len(said) == int(tested.sum())
    assert len(set(said.scans.tolist())) == len(said)


def test_the_choice_is_the_best_on_validation_and_nothing_else(folded: Path) -> None:
    choices = pd.read_csv(folded / "nested" / "tables" / "choices.csv")
    assert len(choices) == 4
    for _, here in choices.groupby("fold"):
        assert here["chosen"].sum() == 1
        assert here.loc[here["chosen"], "validation_value"].item() == here["validation_value"].min()
        assert set(here["settings"]) == {"train.epochs=1", "train.epochs=2 model.dropout=0.1"}


def test_the_chosen_one_answers_for_its_fold(folded: Path) -> None:
    choices = pd.read_csv(folded / "nested" / "tables" / "choices.csv")
    said = tables.read_predictions(folded / "nested" / "tables" / "predictions.csv")
    called = dict(zip(said.scans.tolist(), said.predicted.tolist(), strict=True))
    for _, row in choices[choices["chosen"]].iterrows():
        logits = Logits.load(Run(folded / row["candidate"]).fit("honest", int(row["fold"])).logits("test"))
        best = logits.logits.mean(axis=1).argmax(axis=1)
        assert [called[scan] for scan in logits.scans.tolist()] == best.tolist()


def test_figures_are_told_fold_by_fold_and_pooled(folded: Path) -> None:
    everything = load_metrics(folded / "nested" / "metrics.json")
    found = {(m.fold, m.unit, m.name): m for m in everything if not m.group and m.model == "network"}
    assert {fold for fold, _, _ in found} == {0, 1, -1}
    said = tables.read_predictions(folded / "nested" / "tables" / "predictions_subject.csv")
    pooled = found[-1, "subject", "accuracy"]
    assert pooled.value == pytest.approx(metrics.METRICS["accuracy"](said.probs, said.labels))  # type: ignore[arg-type]
    assert pooled.count == sum(found[fold, "subject", "accuracy"].count for fold in (0, 1))


def test_the_procedure_is_compared_with_the_rivals_person_by_person(folded: Path) -> None:
    pooled = [m for m in load_metrics(folded / "nested" / "metrics.json") if m.fold == -1 and not m.group]
    found = {(m.unit, m.model, m.name): m for m in pooled}
    lead = found["subject", "pca_logistic", "auroc difference"]
    mine, theirs = (found["subject", model, "auroc"].value for model in ("network", "pca_logistic"))
    assert lead.value == pytest.approx(mine - theirs)
    assert lead.low <= lead.value <= lead.high
    kept = Logits.load(Run(folded / "candidate-1").fit("honest", 0).rival("pca_logistic", "scan"))
    tested = Logits.load(Run(folded / "candidate-1").fit("honest", 0).logits("test"))
    assert kept.scans.tolist() == tested.scans.tolist()
    rows = pd.read_csv(folded / "nested" / "tables" / "rivals.csv")
    assert {"network", "majority", "pca_logistic"} == set(rows["model"])
    assert not (folded / "candidate-2" / "fits" / "honest" / "0" / "rivals" / "pca_logistic_scan.npz").exists()


def test_a_setting_may_hold_spaces() -> None:
    from scanwise.cli.evaluating import _settings_in

    said = "train.stages=[{epochs: 2, lr: 1e-3}] model.dropout=0.1"
    assert _settings_in(said) == ["train.stages=[{epochs: 2, lr: 1e-3}]", "model.dropout=0.1"]


def test_what_is_refused(tmp_path: Path, folded: Path) -> None:
    with pytest.raises(RecipeError, match="two folds or more"):
        cross_validation.cross_validate("demo", data="x", out=tmp_path, folds=1)
    with pytest.raises(RecipeError, match="no metric 'nil'"):
        cross_validation.cross_validate("demo", data="x", out=tmp_path, criterion="nil")
    runs = [Run.open(folded / name) for name in ("candidate-1", "candidate-2")]
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
