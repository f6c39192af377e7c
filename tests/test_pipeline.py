"""The whole way on a tiny cohort: what the run folder holds, and what a run that was killed or altered does."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import scanwise as api
from scanwise import recipe, training
from scanwise.bundle import load as load_bundle
from scanwise.cohort.splits import BY_DATA
from scanwise.errors import LeakageError, RecipeError, RunError
from scanwise.pipeline import fit as fit_run
from scanwise.pipeline.commands.predict_files import predict_files
from scanwise.records import Cohort, Logits, Split, load_findings, load_metrics
from scanwise.run import RunFolder, read_json
from scanwise.training import trackers
from tiny import JUNK, ODD, SETTINGS, Again, Command, Fill, Whole, read_csv, write_csv

RUN = """
    recipe.yaml provenance.json cohort.parquet findings.json quarantine.csv metrics.json report.html
    tables/predictions.csv tables/predictions_subject.csv tables/summary_statistics.csv
    tables/predictions.parquet tables/breakdown_site.csv tables/operating_points.csv tables/decision_curve.csv
    tables/failures.csv model_card.md checklists.html SHA256SUMS
    figures/scans.png bundle/bundle.json bundle/recipe.yaml bundle/model.safetensors bundle/SHA256SUMS
    fits/honest/0/split.parquet fits/honest/0/model.safetensors fits/honest/0/history.csv
    fits/honest/0/logits/validation.npz fits/honest/0/logits/calibration.npz fits/honest/0/logits/test.npz
    fits/honest/0/calibrator.json fits/honest/0/conformal.json
    fits/honest/0/abstention.json fits/honest/0/novelty.safetensors bundle/novelty.safetensors
    fits/honest/0/logits/train.npz fits/honest/0/logits/strange.npz
    fits/published/0/split.parquet fits/published/0/model.safetensors fits/published/0/history.csv
    fits/published/0/logits/validation.npz fits/published/0/logits/test.npz
    tables/published/predictions.csv
"""
GUARANTEES = {"coverage", "mean_set_size", "ece", "nll", "brier"}


def files(folder: Path) -> set[str]:
    return {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


# --- one run, from scans to report


def test_run_folder_is_whole(whole: Whole) -> None:
    there = files(whole.run.path)
    assert set(RUN.split()) <= there
    assert not [name for name in there if name.endswith(".part")]


def test_nothing_in_a_run_needs_pickle(whole: Whole) -> None:
    for name in files(whole.run.path / "bundle") | {n for n in files(whole.run.path) if n.endswith(".npz")}:
        assert not name.endswith((".pkl", ".pickle", ".pt", ".pth", ".ckpt"))
    for file in whole.run.path.glob("fits/*/*/logits/*.npz"):
        with np.load(file, allow_pickle=False) as arrays:
            assert {"logits", "labels", "scans", "subjects", "classes", "group_site", "features"} <= set(arrays.files)


def test_junk_is_quarantined_and_the_rest_goes_on(whole: Whole) -> None:
    told = {row["path"]: row["reason"] for row in read_csv(whole.run.quarantine)}
    assert told.keys() == JUNK.keys()
    assert "empty" in told["nondemented/empty.png"]
    assert "not an image" in told["milddemented/notes.png"]
    assert "damaged or truncated" in told["verymilddemented/half.png"]
    known = Cohort.load(whole.run.cohort)
    assert len(known) == 90 + 4
    assert not JUNK.keys() & set(known.path.tolist())
    assert "3 files are not used" in whole.said.err


def test_names_of_all_kinds_come_through(whole: Whole) -> None:
    assert set(ODD.values()) <= set(Cohort.load(whole.run.cohort).path.tolist())
    told = Logits.load(whole.run.fit("published", 0).logits("test")).scans.tolist()
    assert [row["path"] for row in whole.table("published/predictions.csv")] == told


def test_class_of_two_subjects_is_not_evaluable(whole: Whole) -> None:
    fit = whole.run.fit("honest", 0)
    split, known = Split.load(fit.split), Cohort.load(whole.run.cohort)
    assert known.classes[3] == "Moderate Demented"
    assert split.not_evaluable == {"Moderate Demented": 2}
    assert set(split.side[known.labels == 3]) == {"train"}
    told = [f.message for f in load_findings(whole.run.findings) if f.check == "split.classes"]
    assert told
    assert told[0].startswith("Moderate Demented is not evaluable: 2 subjects")
    assert told[0] in whole.said.err
    assert not [m for m in whole.metrics if m["protocol"] == "honest" and m["group"] == "class=Moderate Demented"]
    assert "Moderate Demented" not in {row["label"] for row in whole.table()}


def test_honest_split_shares_no_subject(whole: Whole) -> None:
    split, known = Split.load(whole.run.fit("honest", 0).split), Cohort.load(whole.run.cohort)
    assert not split.leaky
    table = pd.DataFrame({"subject": known.subject, "side": split.side})
    assert (table.groupby("subject").side.nunique() == 1).all()
    assert set(table.side) == {"train", "validation", "calibration", "test"}


def test_metrics_have_their_form(whole: Whole) -> None:
    keys = {"model", "protocol", "fold", "split", "unit", "group", "name", "value", "low", "high", "count"}
    assert all(metric.keys() == keys for metric in whole.metrics)
    assert {m["model"] for m in whole.metrics} == {"network", "majority", "nearest_neighbour"}
    assert {m["unit"] for m in whole.metrics} == {"scan", "subject"}
    names = {m["name"] for m in whole.metrics if m["model"] == "network" and m["protocol"] == "honest"}
    assert names >= GUARANTEES | {"accuracy", "balanced_accuracy", "macro_f1"}
    assert any(m["group"] == "class=nondemented" for m in whole.metrics)
    differences = {m["model"] for m in whole.metrics if m["name"] == "accuracy difference"}
    assert differences == {"majority", "nearest_neighbour"}


def test_accuracy_is_that_of_the_table(whole: Whole) -> None:
    rows = whole.table()
    right = np.mean([row["correct"] == "True" for row in rows])
    key = {"model": "network", "protocol": "honest", "unit": "scan", "name": "accuracy", "group": "", "split": "test"}
    (metric,) = [m for m in whole.metrics if {name: m[name] for name in key} == key]
    assert metric["value"] == pytest.approx(right)
    assert metric["count"] == len(rows)


def test_leaky_published_protocol_has_accuracies_alone(whole: Whole) -> None:
    fit = whole.run.fit("published", 0)
    assert Split.load(fit.split).leaky
    assert not fit.calibrator.exists()
    assert not fit.conformal.exists()
    assert not fit.abstention.exists()
    assert not fit.novelty.exists()
    assert not fit.logits("strange").exists()
    assert not fit.logits("calibration").exists()
    names = {m["name"] for m in whole.metrics if m["protocol"] == "published"}
    assert "accuracy" in names
    assert not names & GUARANTEES
    assert all(row["set"] == "" and row["abstain"] == "False" for row in whole.table("published/predictions.csv"))
    said = [f for f in load_findings(whole.run.findings) if "published split" in f.message]
    assert said
    assert {f.severity for f in said} == {"note"}  # no fault of the data: the recipe asked for it
    assert "(leaked)" in whole.said.err


def test_terminal_stamps_the_leak_and_gives_no_interval_where_there_is_none(whole: Whole) -> None:
    assert "published, LEAKED" in whole.said.out
    assert "honest, LEAKED" not in whole.said.out
    assert "nan" not in whole.said.out.casefold()
    assert str(whole.run.report) in whole.said.out


def test_provenance_is_told(whole: Whole) -> None:
    told = json.loads(whole.run.provenance.read_text(encoding="utf-8"))
    assert told["data"]["scans"] == 94
    assert told["seed"] == 0
    assert told["environment"]["packages"]["scanwise"] == api.__version__
    assert {"reading", "training honest 0", "evaluation"} <= told["times"].keys()


# --- other shapes of a run


@pytest.mark.extended
def test_folds_are_fitted_and_pooled(phantom_cohort: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    run = fit_run(
        tiny_recipe,
        data=phantom_cohort / "scans",
        subject=str(phantom_cohort / "truth.csv"),
        out=tmp_path / "run",
        settings=["split.folds=3", "train.epochs=1"],
        device="cpu",
        threads=1,
    )
    assert [(fit.protocol, fit.fold) for fit in run.fits()] == [("honest", 0), ("honest", 1), ("honest", 2)]
    tests = [Logits.load(fit.logits("test")) for fit in run.fits()]
    assert sorted(scan for test in tests for scan in test.scans) == sorted(Cohort.load(run.cohort).path)
    found = [
        m
        for m in load_metrics(run.metrics)
        if (m.model, m.name, m.group, m.unit) == ("network", "accuracy", "", "scan")
    ]
    counts = {m.fold: m.count for m in found}
    assert counts == {0: 30, 1: 30, 2: 30, -1: 90}
    values = {m.fold: m.value for m in found}
    assert values[-1] == pytest.approx(np.mean([values[0], values[1], values[2]]))
    assert len(pd.read_csv(run.tables / "predictions.csv")) == 90
    assert run.report.is_file()


@pytest.mark.extended
def test_unknown_subjects_are_a_warning(fill: Fill, tiny_recipe: Path, tmp_path: Path, scanwise: Command) -> None:
    data = fill(tmp_path / "data", {"a": 10, "b": 10})
    said = scanwise("fit", tiny_recipe, "--data", data, "--out", tmp_path / "run", "--set", "train.epochs=1")
    assert said.code == 0, said.err
    assert "warning: No subject is known" in said.err
    run = RunFolder.open(tmp_path / "run")
    (finding,) = [f for f in load_findings(run.findings) if f.check == "cohort.subjects"]
    assert finding.severity == "warning"
    assert {m.unit for m in load_metrics(run.metrics)} == {"scan"}
    assert not (run.tables / "predictions_subject.csv").exists()
    sets = read_json(run.bundle / "bundle.json")["sets"]
    assert [sets[unit]["guarantee"] for unit in ("scan", "subject")] == ["new scan", "new scan"]


@pytest.mark.parametrize("wish", [["--plan"], []], ids=["plan", "fit"])
def test_a_tracker_that_is_not_installed_is_said_before_anything_is_written(
    whole: Whole, tiny_recipe: Path, tmp_path: Path, scanwise: Command, monkeypatch: pytest.MonkeyPatch, wish: list[str]
) -> None:
    spec = replace(trackers.TRACKERS["wandb"], packages=("no_such_package",))
    monkeypatch.setitem(trackers.TRACKERS, "wandb", spec)
    out, names = tmp_path / "run", "train.tracking.names=[wandb]"
    said = scanwise("fit", tiny_recipe, "--data", whole.data, "--out", out, "--set", names, *wish)
    assert (said.code, out.exists()) == (2, False)
    assert "pip install 'scanwise[wandb]'" in said.err


def test_plan_writes_nothing(whole: Whole, tiny_recipe: Path, tmp_path: Path, scanwise: Command) -> None:
    out = tmp_path / "runs" / "plan"
    said = scanwise("fit", tiny_recipe, "--data", whole.data, "--out", out, "--set", "split.folds=2", "--plan")
    assert said.code == 0, said.err
    assert list(tmp_path.iterdir()) == []
    for word in ("honest 1 train", "honest 2 test", "time: ", "disk: ", "not evaluable", "Nothing was written"):
        assert word in said.out


# --- resume


@pytest.mark.extended
@pytest.mark.figures
def test_finished_run_resumes_to_itself(again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(again.run.path)
    monkeypatch.setattr(training, "train_network", None)  # to train again would fail
    again.resume()
    after = content(again.run.path)
    for name in before.keys() - {"provenance.json", "report.html", "checklists.html", "SHA256SUMS"}:  # hold its times
        assert after[name] == before[name], name
    assert after.keys() == before.keys()


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(["logits"], marks=pytest.mark.extended),
        pytest.param(["model.safetensors"], marks=pytest.mark.extended),
        pytest.param(["model.safetensors", "checkpoints"], marks=pytest.mark.extended),
        ["calibrator.json", "conformal.json"],
    ],
    ids=" and ".join,
)
def test_deleted_stage_is_done_again(lost: list[str], again: Again) -> None:
    """Only that stage, on that fit; and it says what it said before."""
    fit, other = again.run.fit("honest", 0), again.run.fit("published", 0)
    table = (again.run.tables / "predictions.csv").read_bytes()
    untouched = {file: file.stat().st_mtime_ns for file in (other.model, other.history, other.logits("test"))}
    for name in lost:
        place = fit.path / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    again.resume()
    assert all((fit.path / name).exists() for name in lost)
    assert (again.run.tables / "predictions.csv").read_bytes() == table
    assert {file: file.stat().st_mtime_ns for file in untouched} == untouched


@pytest.mark.extended
def test_retrained_network_speaks_for_itself(again: Again) -> None:
    """Logits of a network that is gone are not kept beside the new one."""
    fit = again.run.fit("honest", 0)
    true = Logits.load(fit.logits("test")).logits
    fit.model.unlink()
    with np.load(fit.logits("test")) as file:
        arrays = {**file, "logits": file["logits"] + 1.0}
    np.savez(fit.logits("test"), **arrays)
    again.resume(settings=[*SETTINGS, "train.clip=1"])  # too late for a network whose epochs are all there
    assert np.array_equal(Logits.load(fit.logits("test")).logits, true)
    (said,) = [one.message for one in load_findings(again.run.findings) if one.check == "train.changed"]
    assert "train.clip 1.0 instead of 0.0 after epoch 2 of honest/0, epoch 2 of published/0" in said
    assert recipe.load_recipe(again.run.recipe).train.clip == 1
    (change,) = read_json(again.run.provenance)["changes"]
    assert change == {"settings": {"train.clip": [0.0, 1.0]}, "epochs": {"honest/0": 2, "published/0": 2}}


def test_resume_with_another_recipe_is_refused(again: Again) -> None:
    before = content(again.run.path)
    with pytest.raises(RunError, match=r"another recipe; it differs in train\.epochs, train\.optimizer\.lr\."):
        again.resume(settings=[*SETTINGS, "train.epochs=3", "train.optimizer.lr=1e-2"])
    assert content(again.run.path) == before


def changed(row: dict[str, str], name: str, value: str) -> dict[str, str]:
    return {**row, name: value}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda rows: rows[1:], r"other scans \(94 then, 93 now\)", marks=pytest.mark.extended),
        (lambda rows: [*rows[:-1], changed(rows[-1], "subject", "s0001")], "other subjects"),
        (lambda rows: [*rows[:-4], changed(rows[-4], "label", "nondemented"), *rows[-3:]], "other labels"),
    ],
    ids=["scans", "subjects", "labels"],
)
def test_resume_with_other_data_is_refused(change: Any, expected: str, again: Again) -> None:
    other = again.data.with_name("other.csv")
    write_csv(other, change(read_csv(again.data)))
    before = content(again.run.path)
    try:
        with pytest.raises(RunError, match=expected):
            again.resume(data=other)
    finally:
        other.unlink()
    assert content(again.run.path) == before


def test_resume_with_another_split_is_refused(again: Again) -> None:
    """A manifest's split column may change while scans, labels and subjects stay."""
    place = again.run.fit("honest", 0).split
    split = Split.load(place)
    swapped = {"train": "test", "test": "train"}
    side = np.array([swapped.get(side, side) for side in split.side.tolist()])
    Split(side, split.protocol, split.fold, BY_DATA, split.leaky, split.not_evaluable).save(place)
    with pytest.raises(RunError, match="another honest split"):
        again.resume()


@pytest.mark.extended
def test_a_run_that_was_drawn_otherwise_keeps_its_split(again: Again) -> None:
    """An older scanwise drew who is tested in another way: its runs go on with theirs."""
    place = again.run.fit("honest", 0).split
    split = Split.load(place)
    swapped = {"calibration": "test", "test": "calibration"}
    side = np.array([swapped.get(side, side) for side in split.side.tolist()])
    Split(side, split.protocol, split.fold, split.rule, split.leaky, split.not_evaluable).save(place)
    again.resume()
    assert Split.load(place).side.tolist() == side.tolist()


def test_taken_folder_is_refused_before_any_work(whole: Whole, tiny_recipe: Path) -> None:
    before = content(whole.run.path)
    with pytest.raises(RunError, match="already holds a run"):
        fit_run(tiny_recipe, data="nowhere", out=whole.run.path)
    assert content(whole.run.path) == before


def test_honest_leak_stops_before_the_folder_is_made(fill: Fill, tiny_recipe: Path, tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"a": 10, "b": 10})
    for file in sorted(data.rglob("*.png")):
        shutil.copy(file, file.with_name("copy" + file.name))
    with pytest.raises(LeakageError, match="identical pixels"):
        fit_run(tiny_recipe, data=data, out=tmp_path / "run", subject=r"((copy)?[ab]\d\d)_")
    assert not (tmp_path / "run").exists()


def test_unknown_device_is_refused(whole: Whole) -> None:
    with pytest.raises(RunError, match="no device 'gpu'"):
        predict_files(whole.run.path, [whole.data.parent / "few"], device="gpu")


@pytest.mark.extended
@pytest.mark.parametrize("score", ["ordinal", "saps"])
def test_every_score_goes_from_recipe_to_prediction(score: str, tiny_recipe: Path, fill: Fill, tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"nondemented": 14, "verymilddemented": 14, "milddemented": 14})
    run = fit_run(
        tiny_recipe, data=data, out=tmp_path / "run", subject=r"(\w+)_\d", settings=[f"conformal.score={score}", "audit.checks=[]"],
        device="cpu", threads=1,
    )  # fmt: skip
    answer = load_bundle(run.path).predict(sorted(data.rglob("*.png"))[:8])
    assert answer.scans.sets is not None
    if score == "ordinal":  # neighbouring stages alone
        edges = np.abs(np.diff(np.pad(answer.scans.sets.astype(int), ((0, 0), (1, 1))), axis=1)).sum(axis=1)
        assert (edges <= 2).all()


@pytest.mark.parametrize(
    "settings", [["conformal.score=ordinal"], ["model.ordinal=true", "train.loss=corn"], ["train.monitor=stage_error"]]
)
def test_what_only_stages_have_needs_an_order(
    settings: list[str], tiny_recipe: Path, fill: Fill, tmp_path: Path
) -> None:
    data = fill(tmp_path / "data", {"cats": 8, "dogs": 8})
    with pytest.raises(RecipeError, match="clinical order"):
        fit_run(tiny_recipe, data=data, out=tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()
