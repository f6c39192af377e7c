"""What stands below the first screen, one function a section: tables and drawings for the template to place."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from scanwise import metrics
from scanwise.records import Metric, Predictions, Unit
from scanwise.reporting import figures, tables
from scanwise.reporting.answer import protocol_title
from scanwise.reporting.contents import POOLED, Contents, Fitted
from scanwise.reporting.curves import Reliability, Roc, confusion
from scanwise.reporting.wording import (
    MODELS,
    PROTOCOLS,
    SIDES,
    counted,
    fixed,
    in_full,
    lead,
    listed,
    model_title,
    percent,
    printable,
    term,
    with_interval,
)
from scanwise.risk import softmax

SHOWN = 20  # of a list that may be long, this many; the file has the rest
CALIBRATION = {"ece": metrics.expected_calibration_error, "nll": metrics.nll, "brier": metrics.brier}
PER_CLASS = ("precision", "recall", "specificity", "f1")


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a caption; the first cell of a row is its heading."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    file: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure and what it shows."""

    svg: Markup
    caption: str


def drawing(svg: str, caption: str) -> Drawing:
    """A drawing of ours: its text was escaped where it was made."""
    return Drawing(Markup(svg), caption)  # noqa: S704


# --- data ---


def cohort_table(contents: Contents) -> Table:
    """What went in."""
    cohort, data = contents.cohort, contents.provenance["data"]
    source = cohort.subject_source
    rows = [
        ("Source", printable(str(data["source"]))),
        ("Scans used", f"{len(cohort):,}"),
        ("Scans set aside (quarantine)", f"{len(contents.quarantine):,}"),
        ("Subjects", f"{len(np.unique(cohort.subject)):,}" if source else "not known"),
        ("How subjects are known", printable(source) if source else "they are not: each scan stands for itself"),
        ("Order of the classes", "stages, in order" if cohort.ordered else "no order"),
    ]
    for name, values in cohort.groups.items():
        kinds, counts = np.unique(values, return_counts=True)
        most = np.argsort(-counts, kind="stable")[:8]
        shown = [f"{printable(str(kinds[i])) or 'not given'}: {counts[i]:,}" for i in most]
        rows.append((f"Column “{printable(name)}”", ", ".join(shown) + (" …" if len(kinds) > len(most) else "")))
    return Table("The scans of this run", ("What", "Value"), tuple(rows), "cohort.parquet")


def class_table(contents: Contents) -> Table:
    """The classes with their clinical meaning."""
    cohort, rows = contents.cohort, []
    for index, name in enumerate(cohort.classes):
        here, stage = cohort.labels == index, contents.recipe.stages.get(name)
        people = f"{len(np.unique(cohort.subject[here])):,}" if cohort.subjects_known else "not known"
        about = printable(stage.description) if stage else ""
        if stage and stage.cdr is not None:
            about = f"{about} (CDR {stage.cdr:g})".strip()
        rows.append((contents.title(name), about or "no description given", f"{int(here.sum()):,}", people))
    return Table("The classes", ("Class", "Meaning", "Scans", "Subjects"), tuple(rows))


def split_tables(contents: Contents) -> list[tuple[Table, Drawing]]:
    """Who learns and who judges, a table and a figure a protocol; of several folds the first is shown."""
    return [_split_table(contents, protocol) for protocol in contents.protocols]


def _split_table(contents: Contents, protocol: str) -> tuple[Table, Drawing]:
    fits, cohort = contents.fits_of(protocol), contents.cohort
    counts = tables.distribution(cohort, fits[0].split)
    sides = list(dict.fromkeys(row[2] for row in counts))
    by_people = cohort.subjects_known
    cells = {(side, name): (scans, people) for _, _, side, name, scans, people in counts}
    rows = [
        (contents.title(name), *(_scans_and_people(*cells[side, name], by_people) for side in sides))
        for name in cohort.classes
    ]
    which = f", {fits[0].label} of {len(fits)}" if len(fits) > 1 else ""
    title = f"{PROTOCOLS.get(protocol, protocol)} split{which}: {'scans (subjects)' if by_people else 'scans'}"
    table = Table(title, ("Class", *(SIDES[s] for s in sides)), tuple(rows), "tables/class_distribution.csv")
    drawn = {
        SIDES[side]: np.array([cells[side, name][0] for name in cohort.classes])
        for side in sides
        if any(cells[side, name][0] for name in cohort.classes)
    }
    figure = figures.class_distribution(f"classes-{protocol}", contents.titles(), drawn, "scan")
    return table, drawing(figure, f"{title.split(':')[0]}: scans of each class on each side.")


def _scans_and_people(scans: int, people: int, known: bool) -> str:
    return f"{scans:,} ({people:,})" if known else f"{scans:,}"


# --- training ---


def training(contents: Contents) -> list[tuple[str, Drawing, Table]]:
    """Learning curves and the epochs that were kept, a protocol each."""
    found = []
    for protocol in contents.protocols:
        fits = [fitted for fitted in contents.fits_of(protocol) if fitted.history]
        if not fits:
            continue
        kept = [best_epoch(fitted, contents.recipe.train.monitor) for fitted in fits]
        watched = contents.recipe.train.monitor
        column = "validation_macro_f1" if watched == "loss" else f"validation_{watched}"
        figure = figures.learning_curves(f"learning-{protocol}", [f.history for f in fits], kept, column)
        title = protocol_title(contents, protocol)
        rows = tuple(_history_row(fitted, epoch) for fitted, epoch in zip(fits, kept, strict=True))
        columns = ("Fit", "Epochs", "Kept", "Training loss", "Validation loss", "Validation macro F1")
        table = Table(f"{title}: the epoch that was kept", columns, rows, "tables/history.csv")
        found.append((title, drawing(figure, f"{title}: learning curves. The dot is the epoch that was kept."), table))
    return found


def best_epoch(fitted: Fitted, monitor: str) -> int:
    """The first epoch that is best at what the recipe watches."""
    values = fitted.history[f"validation_{monitor}"]
    place = np.nanargmin(values) if monitor == "loss" else np.nanargmax(values)
    return int(fitted.history["epoch"][place])


def _history_row(fitted: Fitted, epoch: int) -> tuple[str, ...]:
    history = fitted.history
    at = int(np.flatnonzero(history["epoch"] == epoch)[0])
    columns = ("train_loss", "validation_loss", "validation_macro_f1")
    return (
        fitted.label.capitalize(), f"{len(history['epoch']):,}", str(epoch),
        *(fixed(float(history[name][at]), 3) for name in columns),
    )  # fmt: skip


# --- discrimination ---


def discrimination(contents: Contents, protocol: str) -> tuple[list[Drawing], list[Table]]:
    """Who was taken for whom, ROC and the figures of each class, by subject where known and by scan."""
    drawings, found = [], []
    where = protocol_title(contents, protocol)
    folder = "tables/" if protocol == "honest" else f"tables/{protocol}/"
    for unit in units(contents, protocol):
        said, name = contents.predictions[protocol, unit], f"{protocol}-{unit}"
        titles = [contents.title(c) for c in said.classes]
        matrix = confusion(_labels(said), said.predicted, len(said.classes))
        figure = figures.confusion_matrix(f"confusion-{name}", matrix, titles, unit)
        share = "Each row is a true class; the deeper the colour, the larger the share of that row."
        drawings.append(drawing(figure, f"{where}, by {unit}: who was taken for whom. {share}"))
        curves = roc_curves(said, titles)
        if curves and protocol == "honest":
            figure = figures.roc(f"roc-{name}", curves, unit)
            drawings.append(drawing(figure, f"{where}, by {unit}: each class against all others, with its AUROC."))
        rows = tuple(_report_cells(contents, row, protocol, unit) for row in tables.report_rows(said))
        columns = ("Class", *(term(m).title for m in PER_CLASS), f"{unit.capitalize()}s")
        found.append(Table(f"{where}, by {unit}: per class", columns, rows, f"{folder}classification_report.csv"))
    return drawings, found


def units(contents: Contents, protocol: str) -> list[Unit]:
    """By whom a protocol was judged, people first."""
    kinds: tuple[Unit, ...] = ("subject", "scan")
    return [unit for unit in kinds if (protocol, unit) in contents.predictions]


def roc_curves(said: Predictions, titles: Sequence[str]) -> list[Roc]:
    """A curve a class that some test cases have and some have not; one of two classes says it all."""
    labels = _labels(said)
    columns = [1] if len(titles) == 2 else range(len(titles))
    curves = [Roc.of(titles[index], labels == index, said.probs[:, index]) for index in columns]
    return [curve for curve in curves if curve is not None]


def _report_cells(contents: Contents, row: tables.Row, protocol: str, unit: str) -> tuple[str, ...]:
    _, kind, name, *scores, support = row
    total, title = int(str(support)), {"macro": "Mean of classes", "weighted": "Mean weighted by size"}.get(str(kind))
    cells = []
    for measure, score in zip(PER_CLASS, scores, strict=True):
        found = contents.numbers.find(measure, protocol, unit, group=f"class={name}") if kind == "class" else None
        cells.append(with_interval(found) if found else percent(float(str(score)), total))
    if not total:
        cells = ["not tested"] * len(cells)
    return (title or contents.title(str(name)), *cells, f"{total:,}")


def _labels(said: Predictions) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.asarray(said.labels, dtype=np.int64)


# --- calibration ---


def calibration(contents: Contents) -> tuple[list[Drawing], list[Table], list[str]]:
    """Whether "90 % sure" is right nine times in ten, before and after the temperature."""
    said, logits = contents.predictions["honest", "scan"], contents.raw_logits()
    both = {"after calibration": (said.probs, _labels(said))}
    if logits:
        raw = np.concatenate([softmax(part.logits).mean(axis=1) for part in logits])
        both = {"before": (raw, np.concatenate([part.labels for part in logits])), **both}
    figure = figures.reliability("reliability", {name: Reliability.of(*pair) for name, pair in both.items()})
    rows = []
    for name, measure in CALIBRATION.items():
        cells = [
            in_full(contents.numbers.find(name, "honest", "scan") or _plain(name, measure(*pair), len(pair[1])))
            if when != "before"
            else with_interval(_plain(name, measure(*pair), len(pair[1])))
            for when, pair in both.items()
        ]
        rows.append((term(name).title, *cells))
    columns = ("Measure", *(name.capitalize() for name in both))
    table = Table("By scan, on the test side", columns, tuple(rows), "metrics.json")
    caption = "On the dotted line, confidence means what it says; below it the network is too sure of itself."
    return [drawing(figure, caption)], [table], _temperatures(contents)


def _plain(name: str, value: metrics.Value, count: int) -> Metric:
    return Metric(name, float(value), float("nan"), float("nan"), "scan", count)


def _temperatures(contents: Contents) -> list[str]:
    found = []
    for unit in ("scan", "subject"):
        values = [
            part[unit]["temperature"] for part in contents.learnt("calibrator") if "temperature" in part.get(unit, {})
        ]
        if values:
            found.append(f"{listed([fixed(float(value), 2) for value in values])} (by {unit})")
    return found


# --- prediction sets ---


def sets(contents: Contents) -> list[tuple[Unit, Drawing, Table, list[str]]]:
    """What the sets promise and what they did, by subject and by scan."""
    found: list[tuple[Unit, Drawing, Table, list[str]]] = []
    for unit in units(contents, "honest"):
        said = contents.predictions["honest", unit]
        if said.sets is None:
            continue
        inside = said.sets[np.arange(len(said)), _labels(said)]
        size, most = said.sets.sum(axis=1), len(said.classes) + 1
        sizes, covered = np.bincount(size, minlength=most), np.bincount(size[inside], minlength=most)
        start = 0 if sizes[0] else 1
        figure = figures.set_sizes(f"sets-{unit}", sizes, covered, unit, start)
        table = Table(
            f"By {unit}: how often the set held the true class",
            ("Who", "Coverage", "Mean set size", f"{unit.capitalize()}s"),
            tuple(_set_rows(contents, said, unit)),
            "metrics.json",
        )
        caption = (
            f"By {unit}: how many classes a set names. Exactly one is a clear answer; otherwise a person must look."
        )
        found.append(
            (unit, drawing(figure, caption), table, [guarantee(contents, unit), _verdict(contents, said, unit)])
        )
    return found


def guarantee(contents: Contents, unit: str) -> str:
    """The promise in plain words."""
    share = f"{fixed(100 * (1 - contents.recipe.conformal.alpha), 1).removesuffix('.0')}\u00a0%"
    people = [len(np.unique(contents.cohort.subject[f.split.rows("calibration")])) for f in contents.fits_of("honest")]
    known = contents.cohort.subjects_known
    who = (
        "a new person" if unit == "subject" else "one scan, drawn at random, of a new person" if known else "a new scan"
    )
    from_whom = counted(people[0], "calibration subject" if known else "calibration scan")
    if len(set(people)) > 1:
        from_whom = f"{min(people)} to {max(people)} calibration subjects, fold by fold"
    return (
        f"The promise: for {who}, the set holds the true class with a probability of at least {share}, averaged over "
        f"people like those of this cohort. It was set on {from_whom}, none of whom the network learnt from. It is no "
        "promise for any one class, for any one person, or for people from elsewhere."
    )


def _verdict(contents: Contents, said: Predictions, unit: str) -> str:
    found = contents.numbers.find("coverage", "honest", unit)
    target = percent(1 - contents.recipe.conformal.alpha, 1)
    single = int((said.sets.sum(axis=1) == 1).sum()) if said.sets is not None else 0
    alone = f"{percent(single / len(said), len(said))} of the sets name exactly one class."
    return f"Promised: {target} or more. Found: {in_full(found)}. {alone}" if found else alone


def _set_rows(contents: Contents, said: Predictions, unit: str) -> Iterable[tuple[str, ...]]:
    labels, numbers = _labels(said), contents.numbers
    everyone = [("Everyone", "", np.ones(len(said), dtype=bool))]
    for title, group, here in everyone + [
        (contents.title(name), f"class={name}", labels == index) for index, name in enumerate(said.classes)
    ]:
        count = int(here.sum())
        if not count:
            yield title, "not tested", "not tested", "0"
            continue
        coverage = numbers.find("coverage", "honest", unit, group=group)
        size = numbers.find("mean_set_size", "honest", unit, group=group)
        inside, sizes = said.sets[np.arange(len(said)), labels][here], said.sets.sum(axis=1)[here]  # type: ignore[index, union-attr]
        yield (
            title,
            with_interval(coverage) if coverage else percent(float(inside.mean()), count),
            with_interval(size) if size else fixed(float(sizes.mean()), 2),
            f"{count:,}",
        )


# --- rivals and folds ---


def rivals(contents: Contents) -> tuple[Drawing | None, list[Table], list[tuple[str, str]]]:
    """The network beside what needs no learning of the disease."""
    panels, found = {}, []
    for protocol in contents.protocols:
        title = protocol_title(contents, protocol)
        for unit in units(contents, protocol):
            rows, bars = _rival_rows(contents, protocol, unit)
            if len(rows) > 1:
                columns = ("Model", "Accuracy", "Balanced accuracy", "Network minus this, accuracy")
                found.append(Table(f"{title}, by {unit}", columns, tuple(rows), "tables/rivals.csv"))
                if unit == contents.unit(protocol):
                    stamp = " (leaked)" if contents.leaky(protocol) else ""
                    panels[f"{title}{stamp}, by {unit}"] = bars
    used = {m.model for m in contents.numbers.metrics if m.model != "network"}
    words = [(title, meaning) for name, (title, meaning) in MODELS.items() if name in used]
    if not panels:
        return None, found, words
    svg = figures.forest("forest", panels, "accuracy")
    return drawing(svg, "Accuracy of the network (diamond) and of its trivial rivals, with intervals."), found, words


def _rival_rows(contents: Contents, protocol: str, unit: str) -> tuple[list[tuple[str, ...]], list[figures.Estimate]]:
    numbers, bars = contents.numbers, []
    rows: list[tuple[str, ...]] = []
    mine = numbers.find("accuracy", protocol, unit)
    for metric in [*([mine] if mine else []), *numbers.rivals(protocol, unit)]:
        gap = numbers.find("accuracy difference", protocol, unit, metric.model)
        balanced = numbers.find("balanced_accuracy", protocol, unit, metric.model)
        title = model_title(metric.model)
        rows.append(
            (title, with_interval(metric), with_interval(balanced) if balanced else "–", lead(gap) if gap else "–")
        )
        low, high = (metric.value if np.isnan(end) else end for end in (metric.low, metric.high))
        bars.append(figures.Estimate(title, metric.value, low, high, metric.count, metric.model == "network"))
    return rows, bars


def folds(contents: Contents, protocol: str) -> Table | None:
    """Each fold's figures and those of all together, where there are several."""
    fits, unit = contents.fits_of(protocol), contents.unit(protocol)
    names = ("accuracy", "balanced_accuracy", "auroc")
    if len(fits) < 2:
        return None
    places = [(fitted.label.capitalize(), fitted.fit.fold) for fitted in fits] + [("All folds", POOLED)]
    rows = []
    for title, fold in places:
        found = [contents.numbers.find(name, protocol, unit, fold=fold) for name in names]
        count = next((m.count for m in found if m), 0)
        rows.append((title, *(with_interval(m) if m else "–" for m in found), f"{count:,}"))
    columns = ("Fold", *(term(name).title for name in names), f"{unit.capitalize()}s")
    return Table(f"{protocol_title(contents, protocol)}: fold by fold, by {unit}", columns, tuple(rows), "metrics.json")
