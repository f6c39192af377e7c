"""Results by group (site, sex, modality, decade of age) and at operating points that a clinic could use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scanwise.csv_files import read_csv
from scanwise.evaluation import bands, breakdown
from scanwise.evaluation.breakdown import UNREPORTED
from scanwise.phrases import printable
from scanwise.records import BoolArray, Metric, Predictions, Unit
from scanwise.records.columns import is_identifier
from scanwise.reporting import curves, figures
from scanwise.reporting.components import (
    CLASSES_SHOWN,
    ReportFigure,
    ReportTable,
    describe_pick,
    embed_svg,
    pick_classes,
    shorten_table,
)
from scanwise.reporting.legacy_tables import breakdown_file, parse_group
from scanwise.reporting.performance import true_labels
from scanwise.reporting.run_data import POOLED, RunData
from scanwise.reporting.wording import counted, fixed, lead, listed, percent, term, with_interval
from scanwise.run import layout

Rows = Sequence[Mapping[str, Any]]
RULE_TITLES = {
    "youden": "maximises sensitivity + specificity (Youden)",
    "specificity 90 %": "specificity 90\u00a0%",
    "sensitivity 90 %": "sensitivity 90\u00a0%",
}
RATE_TITLES = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "positive_predictive_value": "PPV",
    "negative_predictive_value": "NPV",
}


@dataclass(frozen=True, slots=True)
class GroupSection:
    """Performance by group: a forest plot of the groups that are large enough, and a line for all that are not.

    Attributes:
        verdict: which groups differ from the others.
        forest: accuracy of each group, a panel a column; None where no group is large enough.
        small: the groups that are too small, in one line; empty where none is.
        tables: a table a column, folded.
        refused: why other columns make no groups, in one line.
    """

    verdict: str
    forest: ReportFigure | None
    small: str
    tables: tuple[ReportTable, ...]
    refused: str


def build_breakdowns(contents: RunData) -> GroupSection | None:
    """Performance by group, by subject where that was measured; columns that name single cases are no groups."""
    fold, unit = contents.numbers.fold("honest"), contents.unit("honest")
    columns_of = {unit: breakdown.group_columns(contents.predictions["honest", unit].groups)}
    if unit == "subject":  # a column that differs between the scans of a person, such as the slice
        used = {column.name for column in columns_of[unit] if not column.refused}
        columns = breakdown.group_columns(contents.predictions["honest", "scan"].groups)
        columns_of["scan"] = [column for column in columns if column.name not in used]
    measured: list[Metric] = []
    for kind, columns in columns_of.items():
        names = {column.name for column in columns if not column.refused}
        measured += [
            m
            for m in contents.numbers.metrics
            if (m.model, m.protocol, m.unit, m.fold, m.split) == ("network", "honest", kind, fold, "test")
            and parse_group(m)[0] in names
        ]
    last = columns_of["scan" if "scan" in columns_of else unit]
    reasons = [
        f"“{printable(column.name)}”, {column.refused}"
        for column in last
        if column.refused and not is_identifier(column.name, column.values)
    ]
    refused = f"Not broken down: {'; '.join(reasons)}." if reasons else ""
    return build_group_section(measured, refused) if measured or reasons else None


def build_group_section(measured: Sequence[Metric], refused: str = "", folder: str = "tables/") -> GroupSection:
    """The section from metrics of groups."""
    of_groups = [(m, *parse_group(m)[:2]) for m in measured if parse_group(m)[0] and not parse_group(m)[2]]
    panels: dict[str, list[figures.ForestRow]] = {}
    for m, column, group in of_groups:
        if m.name == "accuracy":
            low, high = (m.value if end != end else end for end in (m.low, m.high))
            title = f"{printable(group)} ({m.count:,})"
            panels.setdefault(f"By “{printable(column)}”, counting {m.unit}s", []).append(
                figures.ForestRow(title, m.value, low, high, m.count)
            )
    small = [
        f"{printable(column)} {printable(group)} ({m.count})" for m, column, group in of_groups if m.name == UNREPORTED
    ]
    apart = [
        f"{printable(column)} {printable(group)} ({lead(replace(m, name='accuracy difference'))})"
        for m, column, group in of_groups
        if m.name == breakdown.GAP and (m.low > 0 or m.high < 0)
    ]
    svg = figures.draw_forest("groups", panels, "accuracy") if panels else None
    return GroupSection(
        f"Accuracy differs from the others in {listed(apart)}."
        if apart
        else "No group differs clearly from the others.",
        embed_svg(svg, "Accuracy of each group, with its interval; in brackets, how many it has.") if svg else None,
        f"Too few to report (fewer than {breakdown.MIN_SUBJECTS}): {', '.join(small)}." if small else "",
        tuple(build_breakdown_tables([m for m in measured if m.name != UNREPORTED], folder)),
        refused,
    )


def build_operating_points(contents: RunData) -> tuple[list[ReportTable], list[ReportFigure]]:
    """Cuts chosen on validation subjects and tried on test ones, and what acting on a probability is worth.

    Of several folds all together speak: each fold's cuts are its own, and what they called is pooled.
    """
    unit = contents.unit("honest")
    cuts = [row for row in _rows(contents, layout.OPERATING_POINTS) if row["unit"] == unit]
    folds = sorted({int(row["fold"]) for row in cuts} - {POOLED})
    pooled = [row for row in cuts if int(row["fold"]) == POOLED]
    where = f"chosen on validation {unit}s, applied to test {unit}s"
    if pooled:
        caption = f"{where}: all {len(folds)} folds together, each by its own threshold"
        report_tables = [build_operating_point_table(_with_cuts(pooled, cuts), caption, contents)]
    else:  # one fold, or a run of an older scanwise, which has no row of all
        which = f" (fold {folds[0] + 1} of {len(folds)})" if len(folds) > 1 else ""
        here = [row for row in cuts if int(row["fold"]) == folds[0]]
        report_tables = [build_operating_point_table(here, f"{where}{which}", contents)] if here else []
    shown = _shown(pooled or cuts)
    return report_tables, _curves(contents, unit, shown)


def _with_cuts(pooled: Sequence[dict[str, str]], cuts: Rows) -> list[dict[str, Any]]:
    """The rows of all folds together, with the least and the greatest cut of the folds."""
    own: dict[tuple[str, str], list[float]] = {}
    for row in cuts:
        if int(row["fold"]) != POOLED:
            own.setdefault((row["class"], row["rule"]), []).append(float(row["threshold"]))
    return [
        {**row, "threshold": "", "cuts": (min(thresholds), max(thresholds))}
        for row in pooled
        for thresholds in [own[row["class"], row["rule"]]]
    ]


def _shown(cuts: Rows) -> list[str]:
    """The classes that stand open: all where they are few, else the commonest and those whose cut is worth least."""
    best = {(row["class"], row["rate"]): row for row in cuts if row["rule"] == "youden"}
    names = list(dict.fromkeys(row["class"] for row in cuts))
    if len(names) <= CLASSES_SHOWN:
        return names
    rates = [[best.get((name, rate)) for rate in ("sensitivity", "specificity")] for name in names]
    sizes = [int(pair[0]["count"]) if pair[0] else 0 for pair in rates]
    worth = [sum(_number(row["value"]) if row else np.nan for row in pair) for pair in rates]
    return [names[index] for index in pick_classes(sizes, worth)]


def _curves(contents: RunData, unit: Unit, shown: Sequence[str]) -> list[ReportFigure]:
    rows = [row for row in _rows(contents, layout.DECISION_CURVE) if row["unit"] == unit]
    predictions, drawings = contents.predictions["honest", unit], []
    weights = bands.draw_weights(predictions) if rows else None
    for index, name in enumerate(dict.fromkeys(row["class"] for row in rows)):
        if shown and name not in shown:
            continue
        here = [row for row in rows if row["class"] == name]
        curve = {key: np.array([float(row[key]) for row in here]) for key in ("threshold", "network", "everybody")}
        title = contents.title(name)
        scores, positive = predictions.probs[:, predictions.classes.index(name)], _is_of(predictions, name)
        band = None if weights is None else bands.net_benefit_band(scores, positive, weights, curve["threshold"])
        svg = curves.draw_decision_curve(f"benefit-{index}", curve, title, unit, band)
        drawings.append(
            embed_svg(svg, f"“{title}”: net benefit, in cases detected less weighted false alarms. Shaded: 95 % band.")
        )
    return drawings


def _is_of(predictions: Predictions, name: str) -> BoolArray:
    return np.asarray(true_labels(predictions) == predictions.classes.index(name))


def _rows(contents: RunData, name: str) -> list[dict[str, str]]:
    path = contents.run.tables / name
    if not path.is_file():
        return []
    header, lines = read_csv(path)
    return [dict(zip(header, line, strict=True)) for line in lines]


def build_operating_point_table(rows: Rows, where: str, contents: RunData | None = None) -> ReportTable:
    """Each threshold with its rates where it was chosen and its rates elsewhere."""
    keys = list(dict.fromkeys((row["class"], row["rule"]) for row in rows))
    by_key = {(row["class"], row["rule"], row["rate"]): row for row in rows}
    cells, notes = [], []
    for name, rule in keys:
        rates = [by_key.get((name, rule, rate)) for rate in RATE_TITLES]
        first = next(row for row in rates if row)
        title = contents.title(str(name)) if contents else printable(str(name))
        cells.append((f"{title}: {RULE_TITLES.get(str(rule), rule)}", *(_rate(row) for row in rates)))
        notes.append(f"{_cut(first)} ({_chosen_rates(rates)})")
    columns = ("Threshold", *RATE_TITLES.values())
    table = ReportTable(
        f"Operating points, {where}", columns, tuple(cells), layout.table_link(layout.OPERATING_POINTS), tuple(notes)
    )
    shown, count = _shown(rows), len({name for name, _ in keys})
    if len(shown) == count:
        return table
    kept = [index for index, (name, rule) in enumerate(keys) if name in shown and rule == "youden"]
    which = f"{describe_pick(count, 'with the lowest sensitivity + specificity')}, one threshold each ({RULE_TITLES['youden']})"
    rule = f": {RULE_TITLES['youden']}"
    short = replace(table, rows=tuple((row[0].removesuffix(rule), *row[1:]) for row in table.rows))
    return replace(table, short=shorten_table(short, kept, which).short)


def _chosen_rates(rows: Sequence[Mapping[str, Any] | None]) -> str:
    """Sensitivity and specificity on the validation side, where the threshold was chosen."""
    rates = [f"{row['rate']} {percent(_number(row['chosen']), 100)}" for row in rows[:2] if row]
    return f"validation: {', '.join(rates)}"


def _cut(row: Mapping[str, Any]) -> str:
    if "cuts" in row:
        low, high = (_place(end) for end in row["cuts"])
        return f"threshold {low}" if low == high else f"thresholds {low} to {high}, fold by fold"
    return f"threshold {_place(float(row['threshold']))}"


def _place(threshold: float) -> str:
    return fixed(threshold, 2) if threshold >= 0.005 else "below 0.01"


def _number(cell: object) -> float:
    return float("nan") if cell == "" else float(str(cell))


def _rate(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    nan = float("nan")
    low, high = (nan if row[end] == "" else float(row[end]) for end in ("low", "high"))
    return with_interval(Metric("recall", float(row["value"]), low, high, "subject", int(row["count"])))


def build_breakdown_tables(measured: Sequence[Metric], folder: str = "tables/") -> list[ReportTable]:
    """One table a column: every group's figures, and how far it is from the others."""
    names = ("accuracy", "balanced_accuracy", "auroc", "coverage", "accuracy gap")
    columns: dict[str, dict[str, dict[str, Metric]]] = {}
    for m in measured:
        column, group, of_class = parse_group(m)
        if column and not of_class:
            columns.setdefault(column, {}).setdefault(group, {})[m.name] = m
    report_tables = []
    for column, groups in columns.items():
        used = [name for name in names if any(name in part for part in groups.values())]
        rows, notes = [], []
        for group, part in groups.items():
            rows.append((printable(group), *(with_interval(part[n]) if n in part else "–" for n in used)))
            notes.append(_count(part))
        kind = next(iter(next(iter(groups.values())).values())).unit
        title = f"By “{printable(column)}”, counting {kind}s"
        heads = ("Group", *(term(name).title for name in used))
        file = f"{folder}{breakdown_file(column)}.csv" if folder else layout.METRICS
        report_tables.append(ReportTable(title, heads, tuple(rows), file, tuple(notes)))
    return report_tables


def _count(part: Mapping[str, Metric]) -> str:
    m = part.get("accuracy") or next(iter(part.values()))
    return counted(m.count, m.unit)
