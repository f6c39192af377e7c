"""A rate that was asked for or stated, and that the test side contradicts, is a finding; one that may hold is none."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scanwise.conformal import ConformalSets
from scanwise.novelty import NoveltyDetector
from scanwise.pipeline.stages import stated_rates
from scanwise.records import Finding, Metric, load_findings, save_findings, save_metrics
from scanwise.reporting.verdicts import MISSED
from scanwise.risk import mid_p_limits
from scanwise.run import RunFolder, write_json
from tiny import Whole

CONTEXT: Any = SimpleNamespace(recipe=SimpleNamespace(uncertainty=SimpleNamespace(risk=0.1)))


def metric(name: str, seen: int, count: int, group: str = "", unit: str = "subject") -> Metric:
    import numpy as np

    low, high = mid_p_limits(np.array([seen / count]), np.array([float(count)]))
    return Metric(name, seen / count, float(low[0]), float(high[0]), unit, count, group, protocol="honest")  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that guarantees 90 % coverage, allows 10 % error among the answered and 5 % false alarms."""
    folder = RunFolder(tmp_path)
    fit = folder.fit("honest", 0)
    sets = ConformalSets("lac", 0.1, 0.8).to_dict()
    write_json({"subject": sets, "scan": sets}, fit.conformal)
    write_json({"chosen": {"refused": ""}}, fit.abstention)
    fit.novelty.write_bytes(b"")
    cut = SimpleNamespace(false_alarm=0.05)
    detector = SimpleNamespace(thresholds={"subject": cut, "scan": cut})
    monkeypatch.setattr(NoveltyDetector, "load", lambda _: detector)
    monkeypatch.setattr(RunFolder, "fits", lambda _: [fit])
    return folder


def found(run: RunFolder, *metrics: Metric) -> dict[str, str]:
    save_metrics(metrics, run.metrics)
    return {one.check: one.message.replace("\u00a0", " ") for one in stated_rates.missed_rates(CONTEXT, run)}


def test_rates_that_hold_or_may_hold_are_no_finding(run: RunFolder) -> None:
    kept = [metric("coverage", 50, 60), metric("ood_flag_share", 3, 18), metric("selective_error", 4, 20, "risk=0.1")]
    assert found(run, *kept) == {}


def test_false_alarms_of_half_the_people_are_found(run: RunFolder) -> None:
    """5 % asked for, 56 % of 18 people seen: it stood in ordinary prose."""
    messages = found(run, metric("ood_flag_share", 10, 18))
    assert list(messages) == ["rates.false_alarms"]
    assert "at most 5 % asked for, 56 %" in messages["rates.false_alarms"]
    assert "18 subjects" in messages["rates.false_alarms"]


def test_missed_coverage_and_errors_are_found(run: RunFolder) -> None:
    messages = found(run, metric("coverage", 40, 60), metric("selective_error", 9, 20, "risk=0.1"))
    assert set(messages) == {"rates.coverage", "rates.errors"}
    assert "90 % guaranteed, 67 %" in messages["rates.coverage"]
    assert "at most 10 % allowed, 45 %" in messages["rates.errors"]


def test_coverage_that_so_few_calibration_subjects_explain_is_not_missed(run: RunFolder) -> None:
    """Sets of 90 calibration subjects that keep their guarantee cover 100 of 120 subjects or fewer in one run of eighteen."""
    for count, missed in ((90, False), (100_000, True)):
        sets = ConformalSets("lac", 0.1, 0.8, calibration_count=count).to_dict()
        write_json({"subject": sets, "scan": sets}, run.fit("honest", 0).conformal)
        assert bool(found(run, metric("coverage", 100, 120))) == missed


def test_what_scans_alone_miss_is_a_finding_of_its_own(run: RunFolder) -> None:
    """A first screen said "coverage: not reached" beside a chip of subjects whose coverage held."""
    by_subject, by_scan = metric("coverage", 55, 60), metric("coverage", 100, 240, unit="scan")
    assert list(found(run, by_subject, by_scan)) == ["rates.coverage.scan"]
    assert list(found(run, by_scan)) == ["rates.coverage"]


def test_what_was_never_guaranteed_is_not_missed(run: RunFolder) -> None:
    fit = run.fit("honest", 0)
    sets = ConformalSets("lac", 0.1, math.inf).to_dict()
    write_json({"subject": sets, "scan": sets}, fit.conformal)
    write_json({"chosen": {"refused": "too few"}}, fit.abstention)
    assert found(run, metric("coverage", 40, 60), metric("selective_error", 9, 20, "risk=0.1")) == {}


def point(rule: str, rate: str, chosen: float, chosen_low: str, value: float, low: str, high: str) -> dict[str, Any]:
    return {"unit": "subject", "class": "ill", "rule": rule, "rate": rate, "chosen": chosen, "chosen_low": chosen_low,
            "value": value, "low": low, "high": high, "count": 12}  # fmt: skip


def test_operating_points_that_do_not_carry_over_are_found() -> None:
    """100 % where chosen, and 0 % on test."""
    kept = point("youden", "sensitivity", 1.0, "0.6", 0.8, "0.5", "0.95")
    lost = point("youden", "sensitivity", 1.0, "0.6", 0.0, "0", "0.22")
    asked = point("specificity 90 %", "specificity", 0.92, "0.5", 0.6, "0.4", "0.8")
    predictive = point("youden", "positive_predictive_value", 1.0, "0.6", 0.0, "0", "0.2")
    assert stated_rates.missed_operating_points([kept, predictive]) == []
    (finding,) = stated_rates.missed_operating_points([kept, lost, asked])
    message = finding.message.replace("\u00a0", " ")
    assert "sensitivity 100 % where chosen, 0 % (0–22) on test" in message
    assert "specificity 92 % where chosen, 60 % (40–80) on test" in message
    assert finding.severity == "warning"


@pytest.mark.parametrize(("flagged", "said"), [(1.0, True), (0.2, False)])
def test_brightness_alone_is_said_where_it_flags_nearly_all(run: RunFolder, flagged: float, said: bool) -> None:
    from scanwise.csv_files import write_table
    from scanwise.run import layout

    rows = [
        (0, kind, 64, 12, "default", 0.9, flagged if kind != "rotated" else 1.0)
        for kind in ("rotated", "brighter", "darker")
    ]
    write_table(
        ("fold", "kind", "scans", "subjects", "score", "auroc", "flagged"),
        rows,
        run.tables / layout.OUT_OF_DISTRIBUTION,
    )
    messages = found(run)
    assert ("rates.brightness" in messages) == said
    if said:
        assert "× 1.6" in messages["rates.brightness"]
        assert "× 0.5" in messages["rates.brightness"]


def test_findings_of_an_earlier_session_are_replaced(run: RunFolder) -> None:
    others = [Finding("audit.copies", "note", "none"), Finding("rates.coverage", "warning", "stale")]
    save_findings(others, run.findings)
    save_metrics([metric("ood_flag_share", 10, 18)], run.metrics)
    stated_rates.write_missed_rates(CONTEXT, run)
    assert [one.check for one in load_findings(run.findings)] == ["audit.copies", "rates.false_alarms"]


def test_a_fit_writes_them_and_its_report_shows_them_first(whole: Whole) -> None:
    checks = [one.check for one in load_findings(whole.run.findings) if one.check.startswith("rates.")]
    missed = [MISSED[end] for end in (check.removeprefix("rates.") for check in checks) if end in MISSED]
    page = whole.run.report.read_text(encoding="utf-8")
    first = page[page.index('<section aria-labelledby="answer">') : page.index('<div class="cards">')]
    assert all(rate.removeprefix("the ") in first for rate in missed)
    rows = whole.table("operating_points.csv")
    assert all(
        float(row["chosen_low"]) <= float(row["chosen"]) <= float(row["chosen_high"])
        for row in rows
        if row["chosen_low"]
    )
