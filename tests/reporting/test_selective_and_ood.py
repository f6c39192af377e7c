"""The report says when no answer should be given: the alarm with its price, and the threshold or why there is none."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scanwise.csv_files import write_csv
from scanwise.novelty import AlarmThreshold, NeighbourReference, NoveltyDetector, WhitenedComponents
from scanwise.pipeline.stages.selective import DETECTION_COLUMNS, SELECTIVE
from scanwise.records import Metric, load_metrics, save_metrics
from scanwise.reporting import report as report_page
from scanwise.reporting import tables
from scanwise.reporting.run_data import RunData
from scanwise.reporting.selective_and_ood import build_abstention
from scanwise.run import RunFolder
from tiny import Whole

Make = Callable[..., RunFolder]


def text_of(run: RunFolder) -> str:
    """The words of the section, with plain spaces."""
    found = re.search(r'<section aria-labelledby="doubt">.*?</section>', report_page.build_report(run), re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<svg.*?</svg>|<[^>]+>", " ", found[0], flags=re.DOTALL)) if found else ""


def learnt(run: RunFolder, *, refused: str = "", count: int = 40, share: float = 0.05) -> RunFolder:
    """Add what a fit learns about doubt, and its tables."""
    components = WhitenedComponents(
        np.zeros(3, np.float32), np.eye(1, 3, dtype=np.float32), np.ones(1, np.float32), 1.0
    )
    look = NeighbourReference(np.zeros((4, 2), np.float32), 1.0)
    cuts = {unit: AlarmThreshold(1.754, share, count) for unit in ("scan", "subject")}
    NoveltyDetector(components, {"network": look}, cuts).save(run.fit("honest", 0).novelty)
    row = {"fold": 0, "delta": 0.1, "calibration": count, "test": 34}
    rows = [
        {**row, "chosen": True, "risk": 0.1, "refused": refused, "calibration_answered": 0 if refused else 20, "answered": 17, "wrong": 1},
        {**row, "chosen": False, "risk": 0.2, "refused": "", "calibration_answered": 30, "answered": 25, "wrong": 3},
    ]  # fmt: skip
    write(run, "selective.csv", SELECTIVE, rows)
    strange = [
        {"fold": fold, "kind": "noise", "scans": 64, "subjects": 34, "score": score, "auroc": area, "flagged": flagged}
        for fold, flagged in ((0, 1.0), (1, 0.75))
        for score, area in (("default", 1.0), ("features", 0.5), ("mahalanobis", 0.75), ("energy", 0.25))
    ]
    write(run, "out_of_distribution.csv", DETECTION_COLUMNS, strange)
    shared = {"unit": "subject", "protocol": "honest"}
    metrics = [
        Metric("answered_share", 0.735, 0.56, 0.87, count=34, group="risk=0.2", **shared),  # type: ignore[arg-type]
        Metric("selective_error", 0.12, 0.03, 0.31, count=25, group="risk=0.2", **shared),  # type: ignore[arg-type]
        Metric("aurc", 0.1234, np.nan, np.nan, count=34, **shared),  # type: ignore[arg-type]
        Metric("ood_flag_share", 0.03, 0.01, 0.15, count=34, **shared),  # type: ignore[arg-type]
    ]
    save_metrics([*load_metrics(run.metrics), *metrics], run.metrics)
    return run


def write(run: RunFolder, name: str, columns: tuple[str, ...], rows: list[dict[str, object]]) -> None:
    write_csv(columns, [[row[column] for column in columns] for row in rows], run.tables / name)


@pytest.fixture
def run(make_run: Make, tmp_path: Path) -> RunFolder:
    shutil.copytree(make_run().path, tmp_path / "run")
    (tmp_path / "run" / "SHA256SUMS").unlink()
    return RunFolder(tmp_path / "run")


def test_alarm_is_stated_with_threshold_price_and_people(run: RunFolder) -> None:
    text = text_of(learnt(run))
    assert "more than 1.75 times as far from the training scans as scans usually do" in text
    assert "set on 40 calibration subjects: of scans like theirs, at most 5 % are false alarms" in text
    assert "asked for" not in text
    assert "False alarms on the test set: by subject 3 % (1–15), 34 subjects." in text
    assert "its prediction set has no guarantee" in text


def test_price_that_is_higher_than_asked_for_is_said(run: RunFolder) -> None:
    text = text_of(learnt(run, count=9, share=0.1))
    assert "at most 10 % are false alarms, on average (target: 5 %, for which there are too few)" in text


def test_deferral_is_said_as_a_clinic_reads_it(run: RunFolder) -> None:
    text = text_of(learnt(run))
    assert "It answers 50 % of subjects at 10 % error or less, and leaves the others to review." in text
    assert "holds with 90 % probability" in text
    assert re.search(r"at most 20 % 40 calibration subjects 75 % 74 % \(56–87\) 12 % \(3–31\)", text)
    assert "Mean error (AURC)" in text


def test_the_unit_that_decides_is_shown_and_the_other_folded(run: RunFolder) -> None:
    by_scan = Metric("aurc", 0.2345, np.nan, np.nan, count=136, unit="scan", protocol="honest")
    learnt(run)
    save_metrics([*load_metrics(run.metrics), by_scan], run.metrics)
    doubt = build_abstention(RunData.of(run))
    assert doubt is not None
    shown = next(table for table in doubt.tables if table.caption.endswith("By subject"))
    assert [row[1][:2] for row in shown.rows] == ["12"]
    ((unit, folded),) = doubt.folded
    assert unit == "scan"
    assert folded.rows[0][1].startswith("23")


def test_no_threshold_is_a_result_with_its_reason(run: RunFolder) -> None:
    text = text_of(learnt(run, refused="the 12 surest subjects have 3 errors, too many for a bound of 0.1"))
    assert "no threshold qualifies: the 12 surest subjects have 3 errors" in text
    assert "It answers" not in text
    assert re.search(r"at most 10 % the 12 surest [^%]* no threshold qualifies – –", text)


def test_made_up_scans_are_told_with_every_score_over_folds(run: RunFolder) -> None:
    text = text_of(learnt(run))
    assert re.search(r"Noise pixels at random; 128 scans 87\.5 % 1\.000 0\.500 0\.750 0\.250", text)


def test_run_without_any_of_it_shows_the_curve_alone(run: RunFolder) -> None:
    found = build_abstention(RunData.of(run))
    assert found is not None
    assert (found.strange, found.answered, found.tables) == ("", "", ())
    text = text_of(run)
    assert "Scans unlike training" not in text
    assert "Predictions that are too uncertain" in text


def test_curve_says_where_it_ends(run: RunFolder) -> None:
    found = build_abstention(RunData.of(run))
    assert found is not None
    said = tables.read_predictions(run.tables / "predictions_subject.csv")
    error = float((said.predicted != said.labels).mean())
    words = re.search(r"<desc[^>]*>(.*?)</desc>", str(found.curve.svg))
    assert words
    assert words[1].replace("\xa0", " ").endswith(f"{100 * error:.0f} % wrong with 100 % of subjects answered.")


def test_a_real_run_refuses_and_says_why(whole: Whole) -> None:
    text = text_of(whole.run)
    assert "no threshold qualifies" in text
    assert "it takes 22 without an error" in text
    assert "One value every pixel the same" in text
    assert "A scan of one single value is always flagged." in text


def test_leaked_protocol_alone_has_no_such_section(make_run: Make, tmp_path: Path) -> None:
    shutil.copytree(make_run().path, tmp_path / "leaked")
    (tmp_path / "leaked" / "SHA256SUMS").unlink()
    run = RunFolder(tmp_path / "leaked")
    shutil.rmtree(run.path / "fits" / "honest")
    for name in ("predictions.csv", "predictions_subject.csv"):
        (run.tables / name).unlink()
    save_metrics([m for m in load_metrics(run.metrics) if m.protocol != "honest"], run.metrics)
    assert text_of(run) == ""
