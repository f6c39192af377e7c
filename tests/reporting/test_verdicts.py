"""The verdicts of the first screen: red means that something must not be quoted, and nothing else is red."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scanwise.conformal import ConformalSets
from scanwise.records import Finding, Metric, load_findings, load_metrics, save_findings, save_metrics
from scanwise.reporting.run_data import RunData
from scanwise.reporting.verdicts import build_verdicts
from scanwise.run import RunFolder

Make = Callable[..., RunFolder]


def marks(run: RunFolder) -> dict[str, tuple[str, str]]:
    return {verdict.title: (verdict.mark, verdict.text) for verdict in build_verdicts(RunData.of(run))}


@pytest.fixture
def run(make_run: Make, tmp_path: Path) -> RunFolder:
    shutil.copytree(make_run().path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def change(run: RunFolder, name: str, **values: float) -> None:
    """A figure of the honest network by subject with other values; one that was not measured is added."""
    kept = [
        m for m in load_metrics(run.metrics) if not (m.name == name and m.model == "network" and m.unit == "subject")
    ]
    base = Metric(name, 0.1, 0.1, 0.1, "subject", 34, protocol="honest")
    save_metrics([*kept, dataclasses.replace(base, **values)], run.metrics)


def test_leak_of_the_published_split_is_no_leak_of_the_honest_one(run: RunFolder) -> None:
    assert marks(run)["Leakage"][0] == "good"
    copies = Finding("copies.across", "leak", "Copies of test scans are in training.")
    save_findings([*load_findings(run.findings), copies], run.findings)
    assert marks(run)["Leakage"] == ("bad", "1\xa0leak found in the data")


def test_unknown_subjects_are_red(make_run: Make) -> None:
    assert marks(make_run(known=False, published=False))["Leakage"][0] == "bad"


@pytest.mark.parametrize(("high", "mark"), [(0.95, "good"), (0.9, "good"), (0.85, "bad")])
def test_coverage_below_what_is_guaranteed_is_red(run: RunFolder, high: float, mark: str) -> None:
    change(run, "coverage", value=0.8, low=0.7, high=high)
    assert marks(run)["Coverage"][0] == mark


@pytest.mark.parametrize(("count", "mark"), [(40, "caution"), (100_000, "bad")])
def test_coverage_that_few_calibration_subjects_explain_is_no_red(run: RunFolder, count: int, mark: str) -> None:
    change(run, "coverage", value=0.75, low=0.6, high=0.88)
    sets = ConformalSets("lac", 0.1, 0.93, calibration_count=count).to_dict()
    run.fit("honest", 0).conformal.write_text(json.dumps({"subject": sets, "scan": sets}))
    assert marks(run)["Coverage"][0] == mark


@pytest.mark.parametrize(("low", "mark"), [(0.0, "good"), (0.01, "caution")])
def test_calibration_is_off_beyond_chance_alone(run: RunFolder, low: float, mark: str) -> None:
    change(run, "calibrated_ece", value=0.1, low=0.05, high=0.2)
    change(run, "ece", value=0.15, low=low, high=0.2)
    assert marks(run)["Calibration"][0] == mark


@pytest.mark.parametrize(
    ("check", "mark"), [("rates.false_alarms", "bad"), ("rates.brightness", "caution"), ("quality.size", "good")]
)
def test_novelty(run: RunFolder, check: str, mark: str) -> None:
    change(run, "ood_flag_share", value=0.05, low=0.01, high=0.1)
    save_findings([Finding(check, "warning", "It differs.")], run.findings)
    assert marks(run)["Novelty"][0] == mark


def test_failed_checks_of_heatmaps_are_counted(run: RunFolder) -> None:
    assert marks(run)["Explanations"] == ("none", "none were made")
    run.heatmaps.mkdir()
    checks = [{"name": f"c{k}", "passed": k > 2, "message": ""} for k in range(5)]
    (run.heatmaps / "checks.json").write_text(json.dumps({"checks": checks}))
    assert marks(run)["Explanations"] == ("bad", "3 of 5\xa0checks failed: do not use them")
