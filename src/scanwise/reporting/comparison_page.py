"""The page of a model comparison: ranking, paired differences and their uncertainty."""

from collections.abc import Mapping, Sequence
from importlib import metadata

from scanwise.evaluation import comparison
from scanwise.phrases import printable
from scanwise.records import Metric
from scanwise.reporting import curves, figures
from scanwise.reporting.components import ReportTable, embed_svg
from scanwise.reporting.page import render_page
from scanwise.reporting.wording import NO_INTERVAL, counted, fixed, lead, listed, percent, term, with_interval
from scanwise.run import layout

NAMED = 3
"""Systems at most that the title names."""
SHARES = ("accuracy", "balanced_accuracy", "macro_f1")
"""Metrics in the plot of differences: all are shares, so that one axis serves them."""


def build_comparison_page(
    unit: str,
    notes: Sequence[str],
    systems: Mapping[str, int],
    metrics: Sequence[Metric],
    spreads: Mapping[tuple[str, str], tuple[float, float]],
    differences: Sequence[Metric],
    discordances: Sequence[comparison.McNemarTest],
    ranks: Sequence[comparison.RankInterval],
) -> str:
    """The page as text.

    Args:
        unit: what a row is.
        notes: what a reader must know, in sentences.
        systems: name to its number of seeds.
        metrics: of each system; `model` is its name.
        spreads: (system, metric) to mean and standard deviation over seeds.
        differences: of each pair; `model` is the pair.
        discordances: McNemar's test of every pair.
        ranks: by several metrics.
    """
    own = [_systems(metrics, systems, unit)]
    if any(count > 1 for count in systems.values()):
        own.append(_seeds(spreads, systems))
    names = [printable(name) for name in systems]
    which = listed(names, "or") if len(names) <= NAMED else f"Which of {len(names)} systems"
    tested = counted(max(m.count for m in metrics), unit)
    return render_page(
        "comparison.html.jinja",
        {
            "scanwise": metadata.version("scanwise"),
            "answer": _answer(ranks, discordances, metrics, differences, unit),
            "notes": [printable(note) for note in notes],
            "drawings": _drawings(metrics, differences),
            "question": f"{which}: which is right more often, on {tested}?"
            if len(names) <= NAMED
            else f"{which} is best, on {tested}?",
            "parts": [
                ("systems", "Each system", f"every figure by {unit}", own),
                ("differences", "Differences", "paired, case by case", [_differences(differences, unit)]),
                (
                    "mcnemar",
                    "McNemar’s test",
                    "cases on which one of two alone is right",
                    [_mcnemar(discordances, unit)],
                ),
                ("ranking", "Ranking", "with the range of places", _rankings(ranks)),
            ],
            "unit": unit,
        },
    )


def _answer(
    ranks: Sequence[comparison.RankInterval],
    discordances: Sequence[comparison.McNemarTest],
    metrics: Sequence[Metric],
    differences: Sequence[Metric],
    unit: str,
) -> str:
    """The result in a sentence or two, no surer than the numbers: a lead is one where test and interval both show it."""
    first, *others = [rank for rank in ranks if rank.metric == "accuracy"]
    if not others:
        return f"These runs differ in the seed alone: they are one system, {printable(first.name)}, with nothing to compare it to."
    second = others[0]
    pair = next(test for test in discordances if {test.first, test.second} == {first.name, second.name})
    values = {m.model: m for m in metrics if m.name == "accuracy"}
    names = f"{pair.first} − {pair.second}"
    gap = next((m for m in differences if m.name == "accuracy difference" and m.model == names), None)
    apart = gap is not None and (gap.low > 0 or gap.high < 0)
    many = " after allowing for how many pairs there are" if len(discordances) > 1 else ""
    evidence = [f"McNemar, p {_p(pair.adjusted)}{many}"]
    if gap:
        evidence.append(f"{printable(gap.model)}: {lead(gap)}")
    tested = counted(values[first.name].count, unit)
    reached = [f"{printable(rank.name)} {with_interval(values[rank.name])}" for rank in (first, second)]
    if pair.adjusted < 0.05 and apart:
        return (
            f"{printable(first.name)} is right more often than {printable(second.name)} on {tested}: accuracy "
            f"{reached[0]} and {reached[1]} ({'; '.join(evidence)}). It comes first in {percent(first.best, 0)} of draws of "
            "the people tested."
        )
    disagree = ""
    if (pair.adjusted < 0.05) != apart:
        disagree = " Test and interval disagree, which happens where a difference is at the edge of what can be seen."
    return (
        f"{printable(first.name)} and {printable(second.name)} cannot be told apart on {tested}: accuracy {reached[0]} and "
        f"{reached[1]} ({'; '.join(evidence)}).{disagree}"
    )


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else fixed(value, 3)


def _systems(metrics: Sequence[Metric], systems: Mapping[str, int], unit: str) -> ReportTable:
    names = list(dict.fromkeys(m.name for m in metrics))
    by_key = {(m.model, m.name): m for m in metrics}
    rows = tuple(
        (term(name).title, *(with_interval(by_key[s, name]) if (s, name) in by_key else "–" for s in systems))
        for name in names
    )
    columns = ("Figure", *(printable(name) for name in systems))
    return ReportTable(
        f"Each system, by {unit}", columns, rows, layout.COMPARISON, tuple(term(name).meaning for name in names)
    )


def _differences(differences: Sequence[Metric], unit: str) -> ReportTable:
    pairs = list(dict.fromkeys(m.model for m in differences))
    names = list(dict.fromkeys(m.name for m in differences))
    by_key = {(m.model, m.name): m for m in differences}
    rows = tuple(
        (
            term(name.removesuffix(" difference")).title,
            *(_gap(by_key[pair, name]) if (pair, name) in by_key else "–" for pair in pairs),
        )
        for name in names
    )
    columns = ("First less second", *(printable(pair) for pair in pairs))
    return ReportTable(f"Paired differences, by {unit}", columns, rows, layout.DIFFERENCES)


def _gap(metric: Metric) -> str:
    if term(metric.name.removesuffix(" difference")).percent:
        return lead(metric)
    ends = f"{fixed(metric.low, 3)} to {fixed(metric.high, 3)}" if metric.low == metric.low else NO_INTERVAL
    return f"{fixed(metric.value, 3)} ({ends})"


def _mcnemar(discordances: Sequence[comparison.McNemarTest], unit: str) -> ReportTable:
    rows = tuple(
        (
            f"{printable(test.first)} and {printable(test.second)}",
            f"{test.only_first:,}",
            f"{test.only_second:,}",
            _p(test.p_value),
            _p(test.adjusted),
        )
        for test in discordances
    )
    columns = ("Pair", "Only the first right", "Only the second right", "p-value", "Adjusted (Holm)")
    return ReportTable(f"McNemar: {unit}s on which one of two alone is right", columns, rows, layout.MCNEMAR)


def _rankings(ranks: Sequence[comparison.RankInterval]) -> list[ReportTable]:
    return [_ranks(ranks, name) for name in dict.fromkeys(rank.metric for rank in ranks)]


def _ranks(ranks: Sequence[comparison.RankInterval], metric: str) -> ReportTable:
    rows = tuple(
        (
            printable(rank.name),
            fixed(rank.rank, 1).removesuffix(".0"),
            f"{fixed(rank.low, 1)} to {fixed(rank.high, 1)}".replace(".0", ""),
            percent(rank.best, 100),
        )
        for rank in ranks
        if rank.metric == metric
    )
    columns = ("System", "Place", "Range of places", "Comes first")
    return ReportTable(f"Ranking: {term(metric).title}", columns, rows, layout.RANKING)


def _seeds(spreads: Mapping[tuple[str, str], tuple[float, float]], systems: Mapping[str, int]) -> ReportTable:
    names = list(dict.fromkeys(name for _, name in spreads))
    rows = tuple((term(name).title, *(_spread(*spreads[system, name]) for system in systems)) for name in names)
    columns = ("Figure", *(f"{printable(name)}, {counted(count, 'seed')}" for name, count in systems.items()))
    return ReportTable("Mean over seeds ± standard deviation", columns, rows, layout.COMPARISON)


def _spread(mean: float, deviation: float) -> str:
    return fixed(mean, 3) + (f" ± {fixed(deviation, 3)}" if deviation == deviation else "")


def _drawings(metrics: Sequence[Metric], differences: Sequence[Metric]) -> list[object]:
    """Forest plots: every system's accuracy, and every pair's differences."""
    panels: dict[str, list[figures.ForestRow]] = {}
    for m in metrics:
        if m.name in ("accuracy", "balanced_accuracy"):
            low, high = (m.value if end != end else end for end in (m.low, m.high))
            panels.setdefault(term(m.name).title, []).append(
                figures.ForestRow(m.model, m.value, low, high, m.count, network=True)
            )
    gaps: dict[str, list[curves.DifferenceEstimate]] = {}
    for m in differences:
        name = m.name.removesuffix(" difference")
        if name in SHARES:
            gap = curves.DifferenceEstimate(term(name).title, 100 * m.value, 100 * m.low, 100 * m.high, lead(m))
            gaps.setdefault(printable(m.model), []).append(gap)
    systems = figures.draw_forest("systems", panels, "share classified correctly")
    drawings: list[object] = [embed_svg(systems, "Each system with its interval.")]
    if gaps:  # not of one system alone
        pairs = curves.draw_differences("differences", gaps, "points, first less second")
        caption = "Paired differences: where the interval crosses the dotted line, the lead may be due to chance."
        drawings.append(embed_svg(pairs, caption))
    return drawings
