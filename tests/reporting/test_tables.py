"""Tables hold what was predicted, whole, and can be read back."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from scanwise.csv_files import read_csv, write_csv
from scanwise.errors import RunError
from scanwise.records import METRIC_COLUMNS, Cohort, Metric, Predictions, Split, load_metrics
from scanwise.reporting import tables
from scanwise.run import RunFolder

Make = Callable[..., RunFolder]
NAMES = ("nondemented", "verymilddemented", "milddemented", "moderatedemented")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_predictions_have_the_columns_of_the_design(make_run: Make) -> None:
    run = make_run()
    probs = [f"p_{name}" for name in NAMES]
    tail = ["label", "predicted", *probs, "set", "entropy", "abstain", "correct"]
    tail += ["mutual_information", "ood", "ood_flag"]
    assert read_csv(run.tables / "predictions.csv")[0] == ["path", "subject", "site", *tail]
    assert read_csv(run.tables / "predictions_subject.csv")[0] == ["scans", "subject", *tail, "deferred"]


def test_predictions_read_back_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    classes = ("a|b", "a", 'c,"d"\n')
    probs = rng.dirichlet(np.ones(3), 40)
    said = Predictions(
        np.array([f"p/{i}.png" for i in range(40)]), np.array([f"s{i % 7}" for i in range(40)]), classes, probs,
        rng.random((40, 3)) < 0.5, rng.random(40), rng.random(40) < 0.5, rng.integers(0, 3, 40),
        {"label x": np.array(["n,s"] * 40)}, mutual_information=rng.random(40), ood=rng.random(40),
        ood_flag=rng.random(40) < 0.5, expected_cdr=rng.random(40), cdr_sd=rng.random(40),
    )  # fmt: skip
    run = RunFolder(tmp_path)
    tables.write_prediction_tables(run, "honest", said, None)
    back = tables.read_predictions(run.tables / "predictions.csv")
    for name in ("scans", "subjects", "probs", "sets", "entropy", "abstain", "labels", *tables.LATER_COLUMNS[:-1]):
        np.testing.assert_array_equal(getattr(back, name), getattr(said, name))
    assert back.deferred is None
    assert back.classes == classes
    assert back.unit == "scan"
    np.testing.assert_array_equal(back.groups["label x"], said.groups["label x"])


def test_classification_report_equals_scikit_learn(make_run: Make) -> None:
    run = make_run()
    for unit, name in (("scan", "predictions.csv"), ("subject", "predictions_subject.csv")):
        said = tables.read_predictions(run.tables / name)
        rows = [row for row in rows_of(run.tables / "classification_report.csv") if row["unit"] == unit]
        want = precision_recall_fscore_support(said.labels, said.predicted, labels=[0, 1, 2], zero_division=0)
        for index in range(3):
            got = [float(rows[index][key]) for key in ("precision", "recall", "f1", "support")]
            np.testing.assert_allclose(got, [column[index] for column in want], atol=1e-12)
        assert rows[3]["recall"] == ""
        assert rows[3]["support"] == "0"
        macro = next(row for row in rows if row["kind"] == "macro")
        np.testing.assert_allclose(float(macro["f1"]), np.mean(want[2]), atol=1e-12)
        weighted = next(row for row in rows if row["kind"] == "weighted")
        np.testing.assert_allclose(float(weighted["recall"]), (said.labels == said.predicted).mean(), atol=1e-12)


def test_confusion_matrix_equals_scikit_learn(make_run: Make) -> None:
    run = make_run()
    said = tables.read_predictions(run.tables / "predictions.csv")
    rows = [row for row in rows_of(run.tables / "confusion_matrix.csv") if row["unit"] == "scan"]
    got = [[int(row[f"predicted_{name}"]) for name in NAMES] for row in rows]
    np.testing.assert_array_equal(got, confusion_matrix(said.labels, said.predicted, labels=range(4)))


def test_summary_is_the_metrics_in_full(make_run: Make) -> None:
    run = make_run()
    header, rows = read_csv(run.tables / "summary_statistics.csv")
    assert tuple(header) == METRIC_COLUMNS
    metrics = load_metrics(run.metrics)
    assert [float(row[7]) for row in rows] == [m.value for m in metrics]


def test_rivals_stand_beside_the_network(make_run: Make) -> None:
    run = make_run()
    rows = rows_of(run.tables / "rivals.csv")
    found = {(row["protocol"], row["unit"], row["model"]): row for row in rows if row["name"] == "accuracy"}
    network, rival = found["honest", "subject", "network"], found["honest", "subject", "pca_logistic"]
    gap = float(network["value"]) - float(rival["value"])
    assert float(rival["difference"]) == pytest.approx(gap)
    assert network["difference"] == ""


def test_class_distribution_counts_every_scan_once(make_run: Make) -> None:
    run = make_run()
    cohort, split = Cohort.load(run.cohort), Split.load(run.fit("honest", 0).split)
    rows = tables.class_distribution_rows(cohort, split)
    assert sum(row[4] for row in rows) == len(cohort)
    assert ("honest", 0, "train", "moderatedemented", 8, 2) in rows
    file = rows_of(run.tables / "class_distribution.csv")
    assert list(file[0]) == ["protocol", "fold", "side", "class", "scans", "subjects"]
    assert {row["protocol"] for row in file} == {"honest", "published"}


def test_history_has_every_fold(make_run: Make) -> None:
    rows = rows_of(make_run(folds=3, published=False).tables / "history.csv")
    assert {row["fold"] for row in rows} == {"0", "1", "2"}
    assert list(rows[0])[:4] == ["protocol", "fold", "epoch", "train_loss"]


def test_published_tables_lie_apart_and_have_no_sets(make_run: Make) -> None:
    run = make_run()
    rows = rows_of(run.tables / "published" / "predictions.csv")
    assert {row["set"] for row in rows} == {""}
    assert not (run.tables / "published" / "summary_statistics.csv").exists()


def test_missing_numbers_are_empty_cells(tmp_path: Path) -> None:
    write_csv(["a"], [[float("nan")], [np.float64(0.1)], [True]], tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == 'a\n""\n0.1\nTrue\n'


def test_a_foreign_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("path,subject\n1.png,a\n")
    with pytest.raises(RunError, match="not a table of predictions"):
        tables.read_predictions(path)


def test_no_difference_without_network() -> None:
    alone = [Metric("accuracy", 0.5, 0.4, 0.6, "scan", 10, model="majority", protocol="honest")]
    assert tables._rival_rows(alone)
