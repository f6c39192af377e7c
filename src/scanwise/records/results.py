"""Metrics, findings and heatmaps."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scanwise.records.types import FloatArray, Severity, Unit


@dataclass(frozen=True, slots=True)
class Metric:
    """A number with its interval, and the rows that it was measured on.

    `low` and `high` are NaN where no interval can be had. `count` counts units. `group` is "" for all,
    `class=NAME` for a class, `COLUMN=VALUE` for a group. `model` is "network" or a baseline's name; a paired
    difference has the name `METRIC difference` and the baseline as its model (network minus baseline).
    """

    name: str
    value: float
    low: float
    high: float
    unit: Unit
    count: int
    group: str = ""
    model: str = "network"
    protocol: str = ""
    fold: int = 0
    split: str = "test"


METRIC_COLUMNS = ("model", "protocol", "fold", "split", "unit", "group", "name", "value", "low", "high", "count")


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of a check: its severity, the scans concerned, and a message with the remedy.

    `unchecked` names what was not looked at because the subjects are not known; it is "" of all other findings.
    """

    check: str
    severity: Severity
    message: str
    scans: tuple[str, ...] = ()
    figure: str = ""
    unchecked: str = ""


@dataclass(frozen=True, slots=True)
class Heatmap:
    """Evidence of each pixel of a scan for a class.

    Attributes:
        scan: its name.
        target: index of the class that is explained.
        values: (H, W) float32, at the size of the scan as the network sees it; 0 is no evidence, more is stronger.
        method: name of the explanation method.
        prob: probability of the target class.
        passed: whether the method passed its checks on this network; None where it was not checked.
        reason: why it did not pass; empty where it did.
    """

    scan: str
    target: int
    values: FloatArray
    method: str
    prob: float
    passed: bool | None = None
    reason: str = ""


def save_metrics(metrics: Sequence[Metric], path: Path) -> None:
    """Write `metrics.json`: a list of objects with the keys of `METRIC_COLUMNS`; NaN is null."""
    rows = [{name: getattr(metric, name) for name in METRIC_COLUMNS} for metric in metrics]
    _write_json([{name: None if value != value else value for name, value in row.items()} for row in rows], path)


def load_metrics(path: Path) -> list[Metric]:
    """Read what `save_metrics` wrote."""
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    filled: list[dict[str, Any]] = [{k: float("nan") if v is None else v for k, v in row.items()} for row in rows]
    return [Metric(**row) for row in filled]


def save_findings(findings: Sequence[Finding], path: Path) -> None:
    """Write `findings.json`: a list of objects with the fields of `Finding`, `unchecked` only where it says something."""
    rows = [asdict(finding) for finding in findings]
    _write_json([{key: row[key] for key in row if key != "unchecked" or row[key]} for row in rows], path)


def load_findings(path: Path) -> list[Finding]:
    """Read what `save_findings` wrote."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Finding(**{**row, "scans": tuple(row["scans"])}) for row in rows]


def replace_findings(findings: Sequence[Finding], prefix: str, new: Sequence[Finding]) -> list[Finding]:
    """The findings with new ones in place of those whose check begins with the prefix, or behind all others."""
    start = next((index for index, finding in enumerate(findings) if finding.check.startswith(prefix)), len(findings))
    others = [finding for finding in findings if not finding.check.startswith(prefix)]
    return [*others[:start], *new, *others[start:]]


def _write_json(value: object, path: Path) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
