"""Rates that were asked for or stated, beside what the test side shows: one whose interval leaves it out is a finding."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from scanwise.conformal import sets_from_dict
from scanwise.csv_files import read_csv
from scanwise.novelty import NoveltyDetector
from scanwise.phrases import printable
from scanwise.pipeline.context import Context, write_findings
from scanwise.pipeline.stages.evaluation import POOLED
from scanwise.records import Finding, Metric, load_metrics
from scanwise.reporting.coverage_outcome import judge_coverage
from scanwise.reporting.wording import counted, listed, percent, with_interval
from scanwise.run import Fit, RunFolder, layout, read_json

PREFIX = "rates."
"""Start of the names of these checks: the first screen of the report shows them all."""
SHOWN = 3
"""Operating points that one finding names; the table has the others."""
NEARLY_ALL = 0.5
"""Share of flagged scans from which on a mere change of brightness is said to be enough."""
BRIGHTNESS = {"brighter": "1.6", "darker": "0.5"}
ASKED = {"specificity 90 %": ("specificity", 0.9), "sensitivity 90 %": ("sensitivity", 0.9)}
"""Rules of operating points that ask for a rate."""


def write_missed_rates(context: Context, run: RunFolder) -> None:
    """Add a finding for each stated rate that the test side contradicts; those of an earlier session are replaced."""
    write_findings(run, PREFIX, missed_rates(context, run))


def missed_rates(context: Context, run: RunFolder) -> list[Finding]:
    """Findings about the honest network: coverage, errors among the answered, false alarms, operating points, brightness."""
    fits = [fit for fit in run.fits() if fit.protocol == "honest"]
    if not fits:
        return []
    fold = POOLED if len(fits) > 1 else 0
    measured: dict[tuple[str, str, str], Metric] = {
        (m.name, m.unit, m.group): m
        for m in load_metrics(run.metrics)
        if (m.model, m.protocol, m.fold, m.split) == ("network", "honest", fold, "test")
    }
    points = [row for row in _table(run, layout.OPERATING_POINTS) if int(row["fold"]) == fold]
    return [
        *_missed_coverage(fits, measured),
        *_missed_errors(context, fits, measured),
        *_missed_false_alarms(fits, measured),
        *missed_operating_points(points),
        *_brightness(_table(run, layout.OUT_OF_DISTRIBUTION)),
    ]


Measured = Mapping[tuple[str, str, str], Metric]


def _missed_coverage(fits: Sequence[Fit], measured: Measured) -> list[Finding]:
    findings = []
    for unit in ("subject", "scan"):
        metric = measured.get(("coverage", unit, ""))
        sets = [sets_from_dict(read_json(fit.conformal)[unit]) for fit in fits]
        target = min(own.coverage for own in sets)
        if metric and target and judge_coverage(metric, sets) == "missed":
            message = (
                f"Coverage of the prediction sets by {unit}: {_whole(target)} guaranteed, {_seen(metric)}. The people tested "
                "may differ from those that the sets were made from; do not rely on the sets."
            )
            findings.append(_decided_by(unit, _finding("coverage", message), measured))
    return findings


def _missed_errors(context: Context, fits: Sequence[Fit], measured: Measured) -> list[Finding]:
    risk = context.recipe.uncertainty.risk
    metric = measured.get(("selective_error", "subject", f"risk={risk:g}"))
    if metric is None or any(read_json(fit.abstention)["chosen"]["refused"] for fit in fits) or metric.low <= risk:
        return []
    message = (
        f"Errors among the answered subjects: at most {_whole(risk)} allowed, {_seen(metric)}. The threshold for abstaining "
        "does not hold for the people tested; have all answers reviewed."
    )
    return [_finding("errors", message)]


def _missed_false_alarms(fits: Sequence[Fit], measured: Measured) -> list[Finding]:
    findings = []
    for unit in ("subject", "scan"):
        metric = measured.get(("ood_flag_share", unit, ""))
        cuts = [NoveltyDetector.load(fit.novelty).thresholds[unit] for fit in fits if fit.novelty.is_file()]
        target = max((cut.false_alarm for cut in cuts), default=1.0)
        if metric and metric.low > target:
            message = (
                f"False alarms by {unit}: at most {_whole(target)} asked for, {_seen(metric)}. That many of this cohort’s own "
                "test cases are flagged as unlike training, so the flag says little; look at what differs."
            )
            findings.append(_decided_by(unit, _finding("false_alarms", message), measured))
    return findings


def missed_operating_points(points: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """One finding about the thresholds whose rates on validation subjects, or as asked for, do not hold where applied."""
    missed = []
    for row in points:
        rate, target = ASKED.get(str(row["rule"]), ("", 0.0))
        if row["rate"] not in ("sensitivity", "specificity") or row["high"] == "":
            continue
        stated = [target] if row["rate"] == rate else []
        stated += [float(row["chosen_low"])] if row.get("chosen_low", "") != "" else []
        if stated and float(row["high"]) < max(stated):
            value, low, high = (float(row[end]) for end in ("value", "low", "high"))
            metric = Metric("recall", value, low, high, "scan", int(row["count"]))
            of_unit = f"{row['unit']}, “{printable(str(row['class']))}” ({row['rule']})"
            chosen = percent(float(row["chosen"]), 0)
            missed.append(f"by {of_unit}: {row['rate']} {chosen} where chosen, {with_interval(metric)} on test")
    if not missed:
        return []
    more = f"; and {len(missed) - SHOWN} more" if len(missed) > SHOWN else ""
    message = (
        f"Operating points that do not hold: {'; '.join(missed[:SHOWN])}{more}. A threshold chosen on few validation "
        "subjects is not to be relied on."
    )
    return [_finding("operating_points", message)]


def _brightness(rows: Sequence[Mapping[str, str]]) -> list[Finding]:
    """A finding where nearly all scans are flagged once they are made brighter or darker."""
    flagged = []
    for kind, factor in BRIGHTNESS.items():
        here = [row for row in rows if row["kind"] == kind and row["score"] == "default"]
        scans = sum(int(row["scans"]) for row in here)
        share = sum(int(row["scans"]) * float(row["flagged"]) for row in here) / scans if scans else 0.0
        if share > NEARLY_ALL:
            flagged.append(f"{percent(share, scans)} of {counted(scans, 'scan')} with every pixel × {factor}")
    if not flagged:
        return []
    message = (
        f"A mere change of brightness is flagged as unlike training: {listed(flagged)}. Bring scans to one scale of gray "
        "values before use, or expect these alarms."
    )
    return [_finding("brightness", message)]


def _decided_by(unit: str, finding: Finding, measured: Measured) -> Finding:
    """The finding; of scans where subjects decide, under a name of its own, which the first screen does not repeat."""
    beside = unit == "scan" and any(other == "subject" for _, other, _ in measured)
    return replace(finding, check=f"{finding.check}.scan") if beside else finding


def _finding(check: str, message: str) -> Finding:
    return Finding(f"{PREFIX}{check}", "warning", message)


def _seen(metric: Metric) -> str:
    return f"{with_interval(metric)} of {counted(metric.count, metric.unit)} seen"


def _whole(share: float) -> str:
    return f"{100 * share:.4g} %"


def _table(run: RunFolder, name: str) -> list[dict[str, str]]:
    path = run.tables / name
    if not path.is_file():
        return []
    header, lines = read_csv(path)
    return [dict(zip(header, line, strict=True)) for line in lines]
