"""Runs beside each other: the same people, seeds averaged, and what cannot be compared."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scanwise import metrics, recipe, run
from scanwise.arrays import softmax
from scanwise.errors import DataError, RunError
from scanwise.pipeline.commands import comparison as comparison_command
from scanwise.records import Cohort, Predictions, Split, Unit
from scanwise.reporting import checksums, tables
from scanwise.run import RunFolder
from tiny import Command


def _said(subjects: range, skill: float, seed: int, classes: tuple[str, ...], unit: Unit) -> Predictions:
    scans = 3 if unit == "scan" else 1
    who = np.repeat(np.array(list(subjects)), scans)
    labels = who % len(classes)
    own = np.random.default_rng(5).normal(size=(1000, len(classes)))[who]
    noise = 0.4 * np.random.default_rng(seed).normal(size=own.shape)
    count = len(who)
    names = np.array([f"{s}_{row % 3}.png" if unit == "scan" else "" for row, s in enumerate(who)])
    return Predictions(
        names, np.array([f"p{s}" for s in who]), classes, softmax(own + noise + skill * np.eye(len(classes))[labels]),
        None, np.zeros(count), np.zeros(count, dtype=bool), labels, unit=unit,
        scan_counts=None if unit == "scan" else np.full(count, 3),
    )  # fmt: skip


def _run(
    path: Path, *, skill: float = 1.0, seed: int = 0, name: str = "one", subjects: range = range(80),
    classes: tuple[str, ...] = ("no", "yes"), noise: int = 1, protocol: str = "honest",
) -> Path:  # fmt: skip
    folder = RunFolder.create(path)
    run.write_text(recipe.Recipe(name=name, seed=seed).to_yaml(), folder.recipe)
    scans = np.array([f"{s}.png" for s in subjects])
    labels = np.array([s % len(classes) for s in subjects])
    run.save(Cohort("data", scans, labels, classes, False, scans, "column", scans, scans), folder.cohort)
    run.save(Split(np.full(len(scans), "test"), protocol, 0, "by subject", False), folder.fit(protocol, 0).split)
    units: tuple[Unit, ...] = ("scan", "subject")
    said = [_said(subjects, skill, noise + 100 * seed, classes, unit) for unit in units]
    tables.write_prediction_tables(folder, protocol, said[0], said[1])
    checksums.write_checksums(folder)
    return path


def test_figures_and_differences_are_those_of_the_runs(tmp_path: Path) -> None:
    good, bad = _run(tmp_path / "a", skill=2.0, noise=1), _run(tmp_path / "b", skill=0.2, name="two", noise=2)
    found = comparison_command.compare_runs([good, bad], draws=200)
    assert (found.unit, found.notes) == ("subject", ())
    values = {m.model: m for m in found.metrics if m.name == "accuracy"}
    said = {
        name: tables.read_predictions(path / "tables" / "predictions_subject.csv")
        for name, path in (("one", good), ("two", bad))
    }
    for name, part in said.items():
        assert values[name].value == pytest.approx(metrics.METRICS["accuracy"](part.probs, part.labels))  # type: ignore[arg-type]
    gap = next(m for m in found.differences if m.name == "accuracy difference")
    assert gap.value == pytest.approx(values["one"].value - values["two"].value)
    assert gap.low > 0
    assert gap.model == "one − two"
    assert [rank.name for rank in found.ranks if rank.metric == "accuracy"] == ["one", "two"]


@pytest.mark.extended
def test_seeds_of_one_recipe_are_averaged_with_their_spread(tmp_path: Path) -> None:
    ones = [_run(tmp_path / f"a{seed}", skill=1.5, seed=seed) for seed in range(3)]
    twos = [_run(tmp_path / f"b{seed}", skill=0.5, seed=seed, name="two") for seed in range(3)]
    found = comparison_command.compare_runs([*ones, *twos], draws=200)
    assert {name: len(parts) for name, parts in found.systems.items()} == {"one": 3, "two": 3}
    alone = []
    for path in ones:
        said = tables.read_predictions(path / "tables" / "predictions_subject.csv")
        alone.append(float(metrics.METRICS["accuracy"](said.probs, said.labels)))  # type: ignore[arg-type]
    mean, deviation = found.spreads["one", "accuracy"]
    assert (mean, deviation) == (pytest.approx(np.mean(alone)), pytest.approx(np.std(alone, ddof=1)))
    accuracy = next(m for m in found.metrics if (m.model, m.name) == ("one", "accuracy"))
    assert accuracy.value == pytest.approx(mean)
    assert "count each subject once" in " ".join(found.notes)
    single = comparison_command.compare_runs([ones[0], twos[0]], draws=200)
    before = next(m for m in single.metrics if (m.model, m.name) == ("one", "accuracy"))
    assert accuracy.high - accuracy.low > 0.6 * (before.high - before.low)  # three seeds are not three times the people


def test_only_people_whom_all_were_tested_on_count(tmp_path: Path) -> None:
    one, two = _run(tmp_path / "a"), _run(tmp_path / "b", name="two", subjects=range(40, 120))
    found = comparison_command.compare_runs([one, two], draws=100)
    assert found.metrics[0].count == 40
    assert "40" in found.notes[0]


def test_files_and_page_are_written_and_typed(tmp_path: Path, scanwise: Command) -> None:
    one, two = _run(tmp_path / "a", skill=2.0), _run(tmp_path / "b", name="two", noise=2)
    out = tmp_path / "out"
    said = scanwise("compare", one, two, "--out", out, "--draws", 100)
    assert said.code == 0
    assert "McNemar p" in said.out
    for name in ("comparison", "differences", "mcnemar", "ranking"):
        table = pd.read_parquet(out / f"{name}.parquet")
        assert len(table) == len(pd.read_csv(out / f"{name}.csv"))
    assert pd.read_parquet(out / "mcnemar.parquet")["p_value"].dtype == "float64"
    page = (out / "comparison.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "Research use only" in page
    assert scanwise("compare", one, two, "--out", out, "--draws", 100).code == 0
    assert "no comparison wrote" in scanwise("compare", one, two, "--out", tmp_path / "a", "--draws", 100).refusal


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    one = _run(tmp_path / "a")
    with pytest.raises(DataError, match="two runs or more"):
        comparison_command.compare_runs([one])
    with pytest.raises(DataError, match="named twice"):
        comparison_command.compare_runs([one, one])
    with pytest.raises(DataError, match="different classes"):
        comparison_command.compare_runs([one, _run(tmp_path / "c", name="c", classes=("no", "maybe", "yes"))])
    with pytest.raises(DataError, match="fewer than two tested subjects in common"):
        comparison_command.compare_runs([one, _run(tmp_path / "d", name="d", subjects=range(200, 260))])
    with pytest.raises(RunError, match="no honest protocol"):
        comparison_command.compare_runs([one, _run(tmp_path / "e", name="e", protocol="published")])
    with pytest.raises(DataError, match="no seed in common"):
        comparison_command.compare_runs(
            [one, _run(tmp_path / "f", seed=1), _run(tmp_path / "g", seed=2, name="two")], draws=100
        )


def test_a_table_edited_by_hand_is_noticed(tmp_path: Path) -> None:
    one, two = _run(tmp_path / "a"), _run(tmp_path / "b", name="two", noise=2)
    table = two / "tables" / "predictions_subject.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("False", "True", 1), encoding="utf-8")
    with pytest.raises(RunError, match=r"predictions_subject\.csv is not what scanwise wrote"):
        comparison_command.compare_runs([one, two])
