"""Sections below the first screen, one function each: tables and drawings for the template to place."""

from collections.abc import Mapping

import numpy as np

from scanwise import metrics
from scanwise.csv_files import read_csv
from scanwise.phrases import printable
from scanwise.records import FloatArray, StrArray
from scanwise.records.columns import are_codes, is_identifier, numbers_in
from scanwise.redaction import without_secrets
from scanwise.reporting import figures, tables
from scanwise.reporting.components import (
    CLASSES_SHOWN,
    ReportFigure,
    ReportTable,
    describe_pick,
    embed_svg,
    pick_classes,
    shorten_table,
)
from scanwise.reporting.run_data import POOLED, FitData, RunData
from scanwise.reporting.summary import protocol_title
from scanwise.reporting.wording import MODELS, PROTOCOLS, SIDES, fixed, lead, model_title, term, with_interval
from scanwise.run import layout

ROWS_SHOWN = 20  # of a list that may be long, this many; the file has the rest
OVERALL_METRICS = (*(name for name, spec in metrics.METRICS.items() if not spec.needs_calibration), "cdr_error")


# --- data ---


def build_cohort_table(contents: RunData) -> ReportTable:
    """The input data."""
    cohort, data = contents.cohort, contents.provenance["data"]
    source = cohort.subject_source
    rows = [
        ("Source", printable(without_secrets(str(data["source"])))),
        ("Scans used", f"{len(cohort):,}"),
        ("Scans set aside (quarantine)", f"{len(contents.quarantine):,}"),
        ("Subjects", _people(len(np.unique(cohort.subject)), len(cohort)) if source else "not known"),
        (
            "How subjects are known",
            printable(without_secrets(source)) if source else "not known: each scan counts by itself",
        ),
        ("Order of the classes", "stages, in order" if cohort.ordered else "no order"),
    ]
    for name, values in cohort.groups.items():
        if is_identifier(name, values):
            continue
        rows.append((f"Column “{printable(name)}”", describe_column(name, values)))
    return ReportTable("The scans of this run", ("What", "Value"), tuple(rows), layout.COHORT)


def describe_column(name: str, values: StrArray) -> str:
    """A column in words: the range of amounts, or the most frequent values with their counts.

    >>> describe_column("age", np.array([str(age) for age in range(58, 89)]))
    '58 to 88, median 73'
    >>> describe_column("sex", np.array(["F", "M", "F", ""]))
    'F: 2, not given: 1, M: 1'
    """
    numbers = numbers_in(values)
    if numbers is not None and not are_codes(name, numbers):
        given = numbers[np.isfinite(numbers)]
        low, middle, high = (f"{end:g}" for end in np.quantile(given, [0, 0.5, 1]))
        missing = len(numbers) - len(given)
        return f"{low} to {high}, median {middle}" + (f"; not given: {missing:,}" if missing else "")
    kinds, counts = np.unique(values, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:8]
    shown = [f"{printable(str(kinds[i])) or 'not given'}: {counts[i]:,}" for i in most]
    return ", ".join(shown) + (" …" if len(kinds) > len(most) else "")


def _people(count: int, scans: int) -> str:
    return f"{count:,}" + (", one scan each" if count == scans else "")


def build_class_table(contents: RunData) -> ReportTable:
    """The classes with their clinical meaning."""
    cohort, rows = contents.cohort, []
    for index, name in enumerate(cohort.classes):
        here, stage = cohort.labels == index, contents.recipe.stages.get(name)
        people = f"{len(np.unique(cohort.subject[here])):,}" if cohort.subjects_known else "not known"
        about = printable(stage.description) if stage else ""
        if stage and stage.cdr is not None:
            about = f"{about} (CDR {stage.cdr:g})".strip()
        rows.append((contents.title(name), about or "no description given", f"{int(here.sum()):,}", people))
    table = ReportTable("The classes", ("Class", "Meaning", "Scans", "Subjects"), tuple(rows))
    return _commonest_and_rarest(contents, table)


def _commonest_and_rarest(contents: RunData, table: ReportTable) -> ReportTable:
    """A table with a row a class, short where classes are many."""
    count = len(contents.cohort.classes)
    scans = np.bincount(contents.cohort.labels, minlength=count).tolist()
    return (
        shorten_table(table, pick_classes(scans, scans), describe_pick(count, "rarest"))
        if count > CLASSES_SHOWN
        else table
    )


def build_split_tables(contents: RunData) -> list[tuple[ReportTable, ReportFigure]]:
    """The split of each protocol, as a table and a figure; of several folds the first is shown."""
    return [_split_table(contents, protocol) for protocol in contents.protocols]


def _split_table(contents: RunData, protocol: str) -> tuple[ReportTable, ReportFigure]:
    fits, cohort = contents.fits_of(protocol), contents.cohort
    counts = tables.class_distribution_rows(cohort, fits[0].split)
    sides = list(dict.fromkeys(row[2] for row in counts if row[4]))  # the published protocol has no calibration side
    by_people = cohort.subjects_known
    cells = {(side, name): (scans, people) for _, _, side, name, scans, people in counts}
    rows = [
        (contents.title(name), *(_scans_and_people(*cells[side, name], by_people) for side in sides))
        for name in cohort.classes
    ]
    which = f", {contents.label(fits[0])} of {len(fits)}" if len(fits) > 1 else ""
    title = f"{PROTOCOLS.get(protocol, protocol)} split{which}: {'scans (subjects)' if by_people else 'scans'}"
    table = ReportTable(
        title, ("Class", *(SIDES[s] for s in sides)), tuple(rows), layout.table_link(layout.CLASS_DISTRIBUTION)
    )
    table = _commonest_and_rarest(contents, table)
    drawn = {SIDES[side]: np.array([cells[side, name][0] for name in cohort.classes]) for side in sides}
    figure = figures.draw_class_distribution(f"classes-{protocol}", contents.titles(), drawn, "scan")
    caption = f"{title.split(':')[0]}: scans of each class in each part."
    return table, embed_svg(figure, caption, folded=len(cohort.classes) > CLASSES_SHOWN)


def _scans_and_people(scans: int, people: int, subjects_known: bool) -> str:
    return f"{scans:,} ({people:,})" if subjects_known else f"{scans:,}"


# --- training ---


def build_training(contents: RunData) -> list[tuple[str, ReportFigure, ReportTable]]:
    """Learning curves and the epochs that were kept, a protocol each."""
    panels = []
    for protocol in contents.shown:
        fits = [fitted for fitted in contents.fits_of(protocol) if fitted.history]
        if not fits:
            continue
        kept = [best_epoch(fitted, contents.recipe.train.monitor) for fitted in fits]
        watched = contents.recipe.train.monitor
        column = "validation_macro_f1" if watched == "loss" else f"validation_{watched}"
        figure = figures.draw_learning_curves(f"learning-{protocol}", [f.history for f in fits], kept, column)
        title = protocol_title(contents, protocol)
        rows = tuple(
            _history_row(contents.label(fitted), fitted.history, epoch)
            for fitted, epoch in zip(fits, kept, strict=True)
        )
        columns = ("Fit", "Epoch kept", "Loss in training", "in validation", "Macro F1 in validation")
        table = ReportTable(f"{title}: the epoch that was kept", columns, rows, layout.table_link(layout.HISTORY))
        panels.append(
            (title, embed_svg(figure, f"{title}: learning curves. The dot is the epoch that was kept."), table)
        )
    return panels


def best_epoch(fitted: FitData, monitor: str) -> int:
    """The first epoch that is best at what the recipe watches."""
    values = fitted.history[f"validation_{monitor}"]
    row = np.nanargmin(values) if metrics.lower_is_better(monitor) else np.nanargmax(values)
    return int(fitted.history["epoch"][row])


def _history_row(title: str, history: Mapping[str, FloatArray], epoch: int) -> tuple[str, ...]:
    at = int(np.flatnonzero(history["epoch"] == epoch)[0])
    columns = ("train_loss", "validation_loss", "validation_macro_f1")
    values = (fixed(float(history[name][at]), 3) for name in columns)
    return (title.capitalize(), f"{epoch} of {len(history['epoch']):,}", *values)


# --- rivals and folds ---


def build_baselines(
    contents: RunData,
) -> tuple[ReportFigure | None, list[tuple[bool, ReportTable]], list[tuple[str, str]]]:
    """The network beside simple baselines that need no learning of the disease; each table with whether its unit decides."""
    panels, report_tables = {}, []
    for protocol in contents.shown:
        title = protocol_title(contents, protocol)
        for unit in contents.units(protocol):
            rows, bars = _rival_rows(contents, protocol, unit)
            if len(rows) > 1:
                columns = ("Model", "Accuracy", "Balanced accuracy", "AUROC", *_LEADS)
                file = layout.table_link(layout.BASELINES)
                report_tables.append(
                    (unit == contents.unit(protocol), ReportTable(f"{title}, by {unit}", columns, tuple(rows), file))
                )
                if unit == contents.unit(protocol):
                    stamp = " (leaked)" if contents.leaky(protocol) else ""
                    panels[f"{title}{stamp}, by {unit}"] = bars
    used = {m.model for m in contents.numbers.metrics}
    words = [(title, meaning) for name, (title, meaning) in MODELS.items() if name in used and name != "network"]
    if not panels:
        return None, report_tables, words
    svg = figures.draw_forest("forest", panels, "accuracy")
    return (
        embed_svg(svg, "Accuracy of the network (diamond) and of the baselines, with intervals."),
        report_tables,
        words,
    )


def draw_lead(contents: RunData) -> ReportFigure | None:
    """The network beside the best baseline, by the unit that decides; None where no baseline was run."""
    protocol = contents.shown[0]
    unit = contents.unit(protocol)
    _, bars = _rival_rows(contents, protocol, unit)
    if len(bars) < 2:
        return None
    svg = figures.draw_forest("lead", {f"accuracy, by {unit}": bars[:2]}, "accuracy")
    return embed_svg(svg, "With intervals; the diamond is this network.")


_LEADS = ("Network minus this, accuracy", "Network minus this, AUROC")


def _rival_rows(contents: RunData, protocol: str, unit: str) -> tuple[list[tuple[str, ...]], list[figures.ForestRow]]:
    numbers, bars = contents.numbers, []
    rows: list[tuple[str, ...]] = []
    network = numbers.find("accuracy", protocol, unit)
    for metric in [*([network] if network else []), *numbers.rivals(protocol, unit)]:
        title = model_title(metric.model)
        others = [numbers.find(name, protocol, unit, metric.model) for name in ("balanced_accuracy", "auroc")]
        gaps = [numbers.find(f"{name} difference", protocol, unit, metric.model) for name in ("accuracy", "auroc")]
        cells = [*(with_interval(m) if m else "–" for m in others), *(lead(m) if m else "–" for m in gaps)]
        rows.append((title, with_interval(metric), *cells))
        low, high = (metric.value if np.isnan(end) else end for end in (metric.low, metric.high))
        bars.append(figures.ForestRow(title, metric.value, low, high, metric.count, metric.model == "network"))
    return rows, bars


def build_input_parts(contents: RunData) -> list[ReportTable]:
    """Performance without the text, without the scan, or with the class words hidden."""
    numbers, report_tables = contents.numbers, []
    for protocol in contents.shown:
        unit = contents.unit(protocol)
        network = numbers.find("accuracy", protocol, unit)
        less = numbers.parts(protocol, unit)
        rows = []
        for metric in [*([network] if network and less else []), *less]:
            f1, gap = (numbers.find(name, protocol, unit, metric.model) for name in ("macro_f1", "accuracy difference"))
            shown = (with_interval(f1) if f1 else "–", lead(gap) if gap else "–")
            rows.append((model_title(metric.model), with_interval(metric), *shown))
        if rows:
            columns = ("Given", "Accuracy", "Macro F1", "All of it minus this, accuracy")
            title = f"{protocol_title(contents, protocol)}: what each part of the input gives, by {unit}"
            report_tables.append(ReportTable(title, columns, tuple(rows), layout.table_link(layout.BASELINES)))
    return report_tables


def describe_members(contents: RunData) -> list[str]:
    """Whether the members of each network are several opinions, or one that is counted several times."""
    path = contents.run.tables / layout.MEMBERS
    if not path.is_file():
        return []
    header, rows = read_csv(path)
    entries = [dict(zip(header, row, strict=True)) for row in rows]
    return [
        f"Members, {row['protocol']}, fold {int(row['fold']) + 1}, on test scans: {row['told']}." for row in entries
    ]


def build_fold_table(contents: RunData, protocol: str) -> ReportTable | None:
    """Each fold's figures and those of all together, where there are several."""
    fits, unit = contents.fits_of(protocol), contents.unit(protocol)
    names = ("accuracy", "balanced_accuracy", "auroc")
    if len(fits) < 2:
        return None
    places = [(contents.label(fitted).capitalize(), fitted.fit.fold) for fitted in fits] + [("All folds", POOLED)]
    rows = []
    for title, fold in places:
        values = [contents.numbers.find(name, protocol, unit, fold=fold) for name in names]
        count = next((m.count for m in values if m), 0)
        rows.append((title, *(with_interval(m) if m else "–" for m in values), f"{count:,}"))
    columns = ("Fold", *(term(name).title for name in names), f"{unit.capitalize()}s")
    return ReportTable(
        f"{protocol_title(contents, protocol)}: fold by fold, by {unit}", columns, tuple(rows), layout.METRICS
    )
