"""The values that travel: what is saved comes back, and what does not fit together is refused."""

import json
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import numpy as np
import pytest

from scanwise.errors import DataError, RunError, ShapeError
from scanwise.records import (
    METRIC_COLUMNS,
    Cohort,
    Finding,
    Logits,
    Metric,
    Predictions,
    Split,
    load_findings,
    load_metrics,
    save_findings,
    save_metrics,
)

COHORT = Cohort(
    root="/data",
    path=np.array(["a b/1.png", "ü/2.png", "脳/3.png"]),
    labels=np.array([1, 0, 1]),
    classes=("healthy", "sick", "never seen"),
    ordered=True,
    subject=np.array(["007", "8", ""]),
    subject_source="column subject",
    sha256=np.array(["aa", "bb", "cc"]),
    pixels=np.array(["dd", "", "ee"]),
    groups={"site": np.array(["north", "", "south"]), "sex": np.array(["f", "m", "f"])},
    text=np.array(["", "two\nlines, a comma", '"']),
    given=np.array(["train", "", "test"]),
    spelling=np.array(["Sick", "healthy", "SICK"]),
)
LOGITS = Logits(
    logits=np.arange(12, dtype=np.float32).reshape(3, 2, 2),
    labels=np.array([0, 1, 1]),
    scans=COHORT.path,
    subjects=COHORT.subject,
    classes=("healthy", "sick"),
    groups={"site": COHORT.groups["site"]},
    features=np.ones((3, 4), dtype=np.float32),
    appearance=np.full((3, 5), 0.5, dtype=np.float32),
    split="calibration",
    protocol="honest",
    fold=3,
)


def same(one: object, two: object) -> None:
    """Two records agree in every field, types and kinds of arrays included."""
    assert type(one) is type(two)
    for field in fields(one):  # type: ignore[arg-type]
        a, b = getattr(one, field.name), getattr(two, field.name)
        if isinstance(a, dict) and a and isinstance(next(iter(a.values())), np.ndarray):
            assert list(a) == list(b)
            for name in a:
                np.testing.assert_array_equal(a[name], b[name])
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
            assert a.dtype.kind == b.dtype.kind, field.name
        else:
            assert a == b, field.name


# --- cohorts and splits ---


@pytest.mark.parametrize("cohort", [COHORT, replace(COHORT, groups={}, text=None, given=None, subject_source="")])
def test_a_cohort_comes_back(tmp_path: Path, cohort: Cohort) -> None:
    cohort.save(tmp_path / "cohort.parquet")
    same(Cohort.load(tmp_path / "cohort.parquet"), cohort)


def test_take_keeps_every_column_in_step() -> None:
    taken = COHORT.take(np.array([2, 0]))
    assert len(taken) == 2
    assert taken.classes == COHORT.classes
    for column in ("path", "labels", "subject", "sha256", "pixels", "text", "given"):
        np.testing.assert_array_equal(getattr(taken, column), getattr(COHORT, column)[[2, 0]])
    assert taken.groups["site"].tolist() == ["south", "north"]
    same(COHORT.take(np.array([True, False, True])), COHORT.take(np.array([0, 2])))


@pytest.mark.parametrize("column", ["labels", "subject", "sha256", "pixels", "text", "given"])
def test_a_column_of_another_length_is_refused(column: str) -> None:
    with pytest.raises(ShapeError, match="expected 3"):
        replace(COHORT, **{column: getattr(COHORT, column)[:2]})
    with pytest.raises(ShapeError):
        replace(COHORT, groups={"site": np.array(["x"])})


def test_records_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        COHORT.root = "/other"  # type: ignore[misc]


def test_a_split_comes_back_and_finds_its_rows(tmp_path: Path) -> None:
    split = Split(np.array(["train", "", "test", "train"]), "honest", 2, "by subject", False, {"rare": 3})
    split.save(tmp_path / "split.parquet")
    same(Split.load(tmp_path / "split.parquet"), split)
    assert split.rows("train").tolist() == [0, 3]
    assert split.rows("calibration").tolist() == []


@pytest.mark.parametrize("kind", [Cohort, Split])
def test_a_damaged_table_is_a_run_error(tmp_path: Path, kind: type[Cohort] | type[Split]) -> None:
    file = tmp_path / "x.parquet"
    COHORT.save(file)
    whole = file.read_bytes()
    for damaged in (b"", b"junk", whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(RunError, match="damaged"):
            kind.load(file)


def test_a_table_of_another_maker_is_a_run_error(tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"path": ["a"]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(RunError, match="not a table that scanwise wrote"):
        Cohort.load(tmp_path / "x.parquet")


# --- logits ---


@pytest.mark.parametrize("logits", [LOGITS, replace(LOGITS, features=None, groups={}, split="", fold=0)])
def test_logits_come_back(tmp_path: Path, logits: Logits) -> None:
    logits.save(tmp_path / "test.npz")
    same(Logits.load(tmp_path / "test.npz"), logits)


def test_logits_of_one_member_may_be_a_matrix(tmp_path: Path) -> None:
    arrays = {"labels": [0, 1], "scans": ["a", "b"], "subjects": ["a", "b"], "classes": ["x", "y"]}
    np.savez(tmp_path / "m.npz", logits=np.zeros((2, 2), np.float32), **arrays)
    assert Logits.load(tmp_path / "m.npz").logits.shape == (2, 1, 2)


def test_a_file_of_logits_that_lacks_something_says_what(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", logits=np.zeros((2, 2)), labels=[0, 1])
    with pytest.raises(DataError, match=r"lacks \['classes', 'scans', 'subjects'\]"):
        Logits.load(tmp_path / "m.npz")


def test_damaged_or_pickled_logits_are_data_errors(tmp_path: Path) -> None:
    file = tmp_path / "m.npz"
    LOGITS.save(file)
    whole = file.read_bytes()
    for damaged in (b"", b"junk", whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match="not a file of logits"):
            Logits.load(file)
    np.savez(file, logits=np.zeros((1, 2)), classes=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="without pickle"):
        Logits.load(file)


def test_logits_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(N, T, 3\)"):
        replace(LOGITS, classes=("a", "b", "c"))
    with pytest.raises(ShapeError):
        replace(LOGITS, logits=LOGITS.logits[:, 0])
    for column in ("labels", "scans", "subjects", "features", "appearance"):
        with pytest.raises(ShapeError, match="3 scans need 3"):
            replace(LOGITS, **{column: getattr(LOGITS, column)[:2]})


# --- predictions, metrics, findings ---

PREDICTIONS = Predictions(
    scans=np.array(["a.png", "b.png"]),
    subjects=np.array(["1", "2"]),
    classes=("healthy", "sick"),
    probs=np.array([[0.9, 0.1], [0.4, 0.6]]),
    sets=np.array([[True, False], [True, True]]),
    entropy=np.array([0.3, 0.7]),
    abstain=np.array([False, True]),
    labels=np.array([0, 0]),
    groups={"site": np.array(["north", "south"])},
)


def test_rows_have_the_columns_that_others_read_in_their_order() -> None:
    first, second = PREDICTIONS.rows()
    columns = (
        "path subject site label predicted p_healthy p_sick set entropy abstain correct mutual_information ood ood_flag"
    )
    assert list(first) == columns.split()
    known = ["a.png", "1", "north", "healthy", "healthy", 0.9, 0.1, "healthy", 0.3, False, True]
    assert list(first.values()) == [*known, "", "", ""]
    assert (second["predicted"], second["set"], second["correct"]) == ("sick", "healthy|sick", False)


def test_later_columns_stand_at_the_end() -> None:
    later = {
        "mutual_information": np.array([0.0, 0.25]),
        "ood": np.array([0.5, 2.0]),
        "ood_flag": np.array([False, True]),
        "expected_cdr": np.array([0.1, 0.6]),
        "cdr_sd": np.array([0.3, 0.5]),
    }
    said = replace(PREDICTIONS, **later)
    for row, expected in zip(
        said.rows(), zip(*(values.tolist() for values in later.values()), strict=True), strict=True
    ):
        assert list(row)[-5:] == list(later)
        assert tuple(row.values())[-5:] == expected
        assert {type(value) for value in tuple(row.values())[-5:]} == {float, bool}
    people = replace(
        said, unit="subject", scans=np.array(["", ""]), scan_counts=np.array([12, 3]), deferred=np.array([False, True])
    )
    assert [row["deferred"] for row in people.rows()] == [False, True]
    assert list(people.rows()[0])[-1] == "deferred"
    assert replace(people, deferred=None).rows()[0]["deferred"] == ""
    np.testing.assert_allclose(said.doubt, [0.1, 0.4])


def test_rows_without_truth_or_sets_leave_blanks_and_subjects_count_scans() -> None:
    row = replace(
        PREDICTIONS, labels=None, sets=None, unit="subject", scans=np.array(["", ""]), scan_counts=np.array([12, 3])
    ).rows()[0]
    assert (row["label"], row["correct"], row["set"]) == ("", "", "")
    assert row["scans"] == 12
    assert "path" not in row


def test_metrics_come_back_with_their_missing_intervals(tmp_path: Path) -> None:
    nan = float("nan")
    metrics = [
        Metric("accuracy", 0.75, 0.5, 0.9, "subject", 40, "site=north", "majority", "honest", 1),
        Metric("auroc", nan, nan, nan, "scan", 0),
    ]
    save_metrics(metrics, tmp_path / "metrics.json")
    back = load_metrics(tmp_path / "metrics.json")
    assert back[0] == metrics[0]
    assert np.isnan([back[1].value, back[1].low, back[1].high]).all()
    told = json.loads((tmp_path / "metrics.json").read_text())
    assert list(told[0]) == list(METRIC_COLUMNS)
    assert set(METRIC_COLUMNS) == {field.name for field in fields(Metric)}
    assert told[1]["value"] is None


def test_findings_come_back(tmp_path: Path) -> None:
    findings = [Finding("split.subject", "leak", "zwölf", ("a.png", "b.png"), "x.svg"), Finding("c", "note", "m")]
    save_findings(findings, tmp_path / "findings.json")
    assert load_findings(tmp_path / "findings.json") == findings
