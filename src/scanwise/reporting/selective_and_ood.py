"""Abstention: scans unlike training, and subjects with too uncertain predictions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from scanwise import uncertainty
from scanwise.csv_files import read_csv
from scanwise.novelty import AlarmThreshold, NoveltyDetector
from scanwise.phrases import printable
from scanwise.records import Predictions, Unit
from scanwise.reporting import figures
from scanwise.reporting.components import ReportFigure, ReportTable, embed_svg
from scanwise.reporting.performance import true_labels
from scanwise.reporting.run_data import RunData
from scanwise.reporting.wording import SPACE, counted, fixed, in_full, percent, term, with_interval
from scanwise.run import layout

OOD_KINDS = {
    "noise": ("Noise", "pixels at random"),
    "blank": ("One value", "every pixel the same"),
    "inverted": ("Negative", "black and white exchanged"),
    "rotated": ("Rotated", "by a quarter turn"),
    "brighter": ("Brighter", "every pixel × 1.6"),
    "darker": ("Darker", "every pixel × 0.5"),
}
OOD_SCORES = {
    "default": "All three looks",
    "features": "Network features alone",
    "mahalanobis": "Distance to class means",
    "energy": "Energy of the logits",
}
SELECTION_METRICS = ("answered_share", "selective_error")
AREA_METRICS = ("aurc", "excess_aurc")


@dataclass(frozen=True, slots=True)
class AbstentionSection:
    """The parts of the section; a list that is empty, or an empty text, is left out."""

    strange: str
    strange_outcome: str
    strange_missed: bool
    strange_tables: tuple[ReportTable, ...]
    answered: str
    curve: ReportFigure
    tables: tuple[ReportTable, ...]
    folded: tuple[tuple[str, ReportTable], ...]
    """Unit and table of the unit that does not decide."""


def build_abstention(contents: RunData) -> AbstentionSection | None:
    """Abstention of the honest fits: thresholds as learnt, and results on the test set."""
    kinds = contents.units("honest")
    if not kinds:
        return None
    predictions = contents.predictions["honest", kinds[0]]
    rows = _deferral_rows(contents)
    areas = {unit: table for unit in kinds if (table := _areas(contents, unit))}
    return AbstentionSection(
        _promise(contents),
        _outcome(contents, kinds),
        any(finding.check in ("rates.false_alarms", "rates.brightness") for finding in contents.findings),
        tuple(_strange_tables(contents)),
        _sentence(rows, contents.cohort.noun),
        _curve(predictions),
        (*_deferral_table(contents, rows), *(table for unit, table in areas.items() if unit == kinds[0])),
        tuple((unit, table) for unit, table in areas.items() if unit != kinds[0]),
    )


# --- scans unlike those of training


def _promise(contents: RunData) -> str:
    """Threshold of the out-of-distribution flag, its calibration set and false-alarm rate; empty where none was learnt."""
    places = [fitted.fit.novelty for fitted in contents.fits_of("honest")]
    cuts = [NoveltyDetector.load(path).thresholds["scan"] for path in places if path.is_file()]
    if not cuts:
        return ""
    target = contents.recipe.uncertainty.false_alarm
    share = max(cut.false_alarm for cut in cuts)
    least = f" (target: {_share(target)}, for which there are too few)" if share > target else ""
    return (
        f"A scan is flagged where it lies more than {_spread([cut.threshold for cut in cuts])} times as far from the "
        f"training scans as scans usually do. That threshold was set on {_people(cuts, contents.cohort.noun)}: of scans like theirs, at "
        f"most {_share(share)} are false alarms, on average{least}. A scan of one single value is always flagged."
    )


def _people(cuts: Sequence[AlarmThreshold], noun: str) -> str:
    counts = sorted({cut.count for cut in cuts})
    if len(counts) == 1:
        return counted(counts[0], f"calibration {noun}")
    return f"{counts[0]} to {counts[-1]} calibration {noun}s, fold by fold"


def _spread(values: Sequence[float]) -> str:
    low, high = (fixed(end, 2) for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high} (fold by fold)"


def _share(value: float) -> str:
    return f"{fixed(100 * value, 1).removesuffix('.0')}{SPACE}%"


def _outcome(contents: RunData, kinds: Sequence[Unit]) -> str:
    """False alarms on the test set: flagged though of this cohort."""
    shares = [contents.numbers.find("ood_flag_share", "honest", unit) for unit in kinds]
    sentences = [f"by {m.unit} {in_full(m)}" for m in shares if m]
    return f"False alarms on the test set: {'; '.join(sentences)}." if sentences else ""


def _strange_tables(contents: RunData) -> list[ReportTable]:
    """Made-up scans: how many are flagged, and how well each score tells them from test scans; means over folds."""
    path = contents.run.tables / layout.OUT_OF_DISTRIBUTION
    if not path.is_file():
        return []
    header, lines = read_csv(path)
    entries = [dict(zip(header, line, strict=True)) for line in lines]
    rows, notes = [], []
    for kind, (title, about) in OOD_KINDS.items():
        here = [entry for entry in entries if entry["kind"] == kind]
        if here:
            count = sum(int(entry["scans"]) for entry in here if entry["score"] == "default")
            flagged = _mean(entry["flagged"] for entry in here if entry["score"] == "default")
            areas = [_mean(entry["auroc"] for entry in here if entry["score"] == score) for score in OOD_SCORES]
            rows.append((title, percent(flagged, count), *(fixed(area, 3) for area in areas)))
            notes.append(f"{about}; {counted(count, 'scan')}")
    columns = ("Made from test scans", "Flagged", *(f"AUROC: {title.lower()}" for title in OOD_SCORES.values()))
    title = "Synthetic and altered scans: are they flagged?"
    return (
        [ReportTable(title, columns, tuple(rows), layout.table_link(layout.OUT_OF_DISTRIBUTION), tuple(notes))]
        if rows
        else []
    )


def _mean(cells: Iterable[str]) -> float:
    return float(np.mean([float(cell) for cell in cells]))


# --- whom to answer


def _deferral_rows(contents: RunData) -> list[dict[str, str]]:
    path = contents.run.tables / layout.SELECTIVE
    if not path.is_file():
        return []
    header, lines = read_csv(path)
    return [dict(zip(header, line, strict=True)) for line in lines]


def _by_risk(rows: Sequence[dict[str, str]]) -> dict[float, list[dict[str, str]]]:
    return {
        risk: [row for row in rows if float(row["risk"]) == risk] for risk in sorted({float(r["risk"]) for r in rows})
    }


def _sentence(rows: Sequence[dict[str, str]], noun: str) -> str:
    """The chosen threshold and its error bound, as a sentence."""
    chosen = [row for row in rows if row["chosen"] == "True"]
    if not chosen:
        return ""
    risk, sure = _share(float(chosen[0]["risk"])), _share(1 - float(chosen[0]["delta"]))
    refused = [row["refused"] for row in chosen if row["refused"]]
    if refused:
        return f"To answer with at most {risk} error, no threshold qualifies: {printable(refused[0])}."
    answered, count = (sum(int(row[name]) for row in chosen) for name in ("calibration_answered", "calibration"))
    return (
        f"It answers {percent(answered / count, count)} of {noun}s at {risk} error or less, and leaves the others to "
        f"review. The threshold was tested on {counted(count, f'calibration {noun}')}, so that the bound holds with "
        f"{sure} probability over the luck of which they were."
    )


def _deferral_table(contents: RunData, rows: Sequence[dict[str, str]]) -> list[ReportTable]:
    """Allowed error to how many are answered, as learnt on calibration subjects and as found on the test side."""
    cells, notes = [], []
    for risk, same in _by_risk(rows).items():
        answered, count = (sum(int(row[name]) for row in same) for name in ("calibration_answered", "calibration"))
        refused = [row["refused"] for row in same if row["refused"]]
        rates = [contents.numbers.find(name, "honest", "subject", group=f"risk={risk:g}") for name in SELECTION_METRICS]
        learnt = "no threshold qualifies" if refused else percent(answered / count, count)
        cells.append(
            (f"at most {_share(risk)}", learnt, *(with_interval(m) if m and not refused else "–" for m in rates))
        )
        notes.append(printable(refused[0]) if refused else counted(count, f"calibration {contents.cohort.noun}"))
    columns = ("Error allowed", "Answers, on calibration", "Answers, on test", "Error among them")
    title = "Selective prediction: how many are answered, for each allowed error rate"
    return (
        [ReportTable(title, columns, tuple(cells), layout.table_link(layout.SELECTIVE), tuple(notes))] if cells else []
    )


def _curve(predictions: Predictions) -> ReportFigure:
    """Error among the answered against the share answered, the surest first."""
    covered, risk = uncertainty.risk_coverage_curve(
        predictions.doubt, predictions.predicted != true_labels(predictions)
    )
    figure = figures.draw_risk_coverage("risk-coverage", covered, risk, predictions.unit)
    about = f"By {predictions.unit}: error rate if only the most confident are answered. The right end answers all."
    return embed_svg(figure, about)


def _areas(contents: RunData, unit: Unit) -> ReportTable | None:
    """The area under that curve: one number for how well doubt tells wrong answers from right ones; None if not measured."""
    measured = [m for name in AREA_METRICS if (m := contents.numbers.find(name, "honest", unit))]
    rows = tuple((term(m.name).title, with_interval(m)) for m in measured)
    notes = tuple(term(m.name).meaning for m in measured)
    title = f"Does uncertainty separate wrong from correct predictions? By {unit}"
    return ReportTable(title, ("Figure", "Value"), rows, layout.METRICS, notes) if rows else None
