"""Selective figures are counts of the test side under thresholds of the calibration side; leaked fits have none."""

from pathlib import Path

import numpy as np
import pytest

from scanwise import bundle
from scanwise.pipeline.stages import selective
from scanwise.pipeline.stages.evaluation import ModelPredictions
from scanwise.records import Logits, Predictions, Split, load_metrics
from scanwise.reporting import tables
from scanwise.run import RunFolder, write_json
from scanwise.uncertainty import Abstention
from tiny import Whole, read_csv

SELECTIVE = {"aurc", "excess_aurc", "answered_share", "selective_error", "ood_flag_share"}


def people(doubts: list[float], wrong: list[bool], unit: str = "subject") -> Predictions:
    count = len(doubts)
    probs = np.stack([1 - np.array(doubts), np.array(doubts)], axis=1)
    return Predictions(
        np.full(count, "4"), np.array([f"s{row}" for row in range(count)]), ("a", "b"), probs, None, np.zeros(count),
        np.zeros(count, dtype=bool), np.array(wrong).astype(int), unit=unit,  # type: ignore[arg-type]
    )  # fmt: skip


def judged(fold: int, doubts: list[float], wrong: list[bool]) -> ModelPredictions:
    split = Split(np.array(["test"]), "honest", fold, "by subject", False)
    return ModelPredictions("network", split, people(doubts, wrong, "scan"), people(doubts, wrong))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Two folds: the first answers below 0.25 and, where 20 % may be wrong, below 0.4; the second refuses 10 %."""
    run = RunFolder(tmp_path)
    refused = Abstention(-np.inf, 0.1, 0.1, 30, 0.0, "too many errors")
    tables_of = (
        [Abstention(0.25, 0.1, 0.1, 30, 0.5), Abstention(0.4, 0.2, 0.1, 30, 0.8)],
        [refused, Abstention(0.3, 0.2, 0.1, 30, 0.7)],
    )
    for fold, learnt in enumerate(tables_of):
        told = [bundle.abstention_to_dict(one) for one in learnt]
        write_json({"chosen": told[0], "table": told}, run.fit("honest", fold).abstention)
    return run


def test_thresholds_of_a_fold_are_counted_on_its_own_test_side(folder: RunFolder) -> None:
    entry = judged(0, [0.1, 0.2, 0.25, 0.3, 0.45], [False, True, False, True, True])
    strict, loose = selective.selective_rows(folder.fit("honest", 0), entry)
    assert (strict["test"], strict["answered"], strict["wrong"]) == (5, 3, 1)
    assert (loose["answered"], loose["wrong"]) == (4, 2)
    assert (strict["calibration"], strict["calibration_answered"], strict["chosen"]) == (30, 15, True)
    assert not loose["chosen"]


def test_refused_threshold_answers_nobody(folder: RunFolder) -> None:
    strict, _ = selective.selective_rows(folder.fit("honest", 1), judged(1, [0.0, 0.1], [False, False]))
    assert strict["refused"] == "too many errors"
    assert (strict["answered"], strict["wrong"]) == (0, 0)


def test_folds_are_summed_and_refused_where_one_refuses(folder: RunFolder) -> None:
    entries = [judged(0, [0.1, 0.5], [False, True]), judged(1, [0.2, 0.29, 0.31], [True, False, False])]
    rows = [selective.selective_rows(folder.fit("honest", entry.split.fold), entry) for entry in entries]
    strict, loose = (selective._summed(list(same)) for same in zip(*rows, strict=True))
    assert strict["refused"] == "too many errors"
    assert (loose["refused"], loose["calibration"], loose["calibration_answered"]) == ("", 60, 45)
    assert (loose["test"], loose["answered"], loose["wrong"]) == (5, 3, 1)


def test_area_is_the_share_of_pairs_in_order() -> None:
    assert selective.detection_auroc(np.array([1.0, 2.0]), np.array([2.0, 3.0])) == pytest.approx(3.5 / 4)


# --- a whole run


def test_leaked_protocol_has_none_of_it(whole: Whole) -> None:
    found = load_metrics(whole.run.metrics)
    assert not {m.name for m in found if m.protocol == "published"} & SELECTIVE
    assert {m.name for m in found if m.protocol == "honest" and m.model == "network"} >= {"aurc", "ood_flag_share"}
    assert {m.model for m in found if m.name in SELECTIVE} == {"network"}
    assert all(row["ood"] == row["ood_flag"] == "" for row in whole.table("published/predictions.csv"))


def test_areas_are_those_of_the_table(whole: Whole) -> None:
    said = tables.read_predictions(whole.run.tables / "predictions_subject.csv")
    order = np.argsort(1 - said.probs.max(axis=1), kind="stable")
    wrong = (said.predicted != said.labels)[order]
    (metric,) = [
        m for m in load_metrics(whole.run.metrics) if (m.name, m.unit, m.protocol) == ("aurc", "subject", "honest")
    ]
    assert metric.value == pytest.approx(np.mean(np.cumsum(wrong) / np.arange(1, len(wrong) + 1)), abs=1e-9)


def test_too_few_calibration_subjects_are_refused_with_their_number(whole: Whole) -> None:
    rows = {float(row["risk"]): row for row in read_csv(whole.run.tables / "selective.csv")}
    known = Logits.load(whole.run.fit("honest", 0).logits("calibration"))
    count = len(set(known.subjects.tolist()))
    assert count < 22
    assert rows[0.1]["refused"] == f"it takes 22 without an error, and there are {count}"
    assert rows[0.1]["chosen"] == "True"
    assert rows[0.1]["answered"] == "0"
    assert not [m for m in load_metrics(whole.run.metrics) if m.name == "selective_error" and m.group == "risk=0.1"]
    assert {row["deferred"] for row in whole.table("predictions_subject.csv")} == {""}


def test_flags_are_counted(whole: Whole) -> None:
    rows = read_csv(whole.run.tables / "out_of_distribution.csv")
    flags = [row["ood_flag"] == "True" for row in whole.table("predictions.csv")]
    assert float(rows[0]["flagged"]) == pytest.approx(np.mean(flags))
    assert {row["kind"] for row in rows[1:]} == {"noise", "blank", "inverted", "rotated", "brighter", "darker"}
    assert {row["score"] for row in rows[1:]} == set(selective.SCORES)
    blank = next(row for row in rows if (row["kind"], row["score"]) == ("blank", "default"))
    assert float(blank["flagged"]) == 1
    for row in rows[1:]:
        assert 0 <= float(row["auroc"]) <= 1
    (metric,) = [
        m for m in load_metrics(whole.run.metrics) if (m.name, m.unit, m.group) == ("ood_flag_share", "scan", "")
    ]
    assert metric.value == pytest.approx(np.mean(flags))
