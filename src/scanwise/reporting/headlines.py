"""Headline figures in a line of text: those of the unit that decides."""

from collections.abc import Sequence

from scanwise.phrases import count_of
from scanwise.records import Metric
from scanwise.reporting.wording import term, with_interval

HEADLINES = ("auroc", "accuracy")


def deciding_metrics(metrics: Sequence[Metric]) -> list[Metric]:
    """Figures of all units together, of the unit that decides: the subject where there is one, honest where it is."""
    whole = [m for m in metrics if not m.group]
    whole = [m for m in whole if m.protocol == "honest"] or whole
    whole = [m for m in whole if m.unit == "subject"] or whole
    return [m for m in whole if m.fold < 0] or whole


def headline(metrics: Sequence[Metric]) -> str:
    """The headline figures of the network."""
    by_name = {m.name: m for m in metrics if m.model == "network"}
    shown = [by_name[name] for name in HEADLINES if name in by_name]
    if not shown:
        return "nothing was measured"
    figures = ", ".join(f"{term(m.name).title} {with_interval(m)}" for m in shown)
    return f"{figures} on {count_of(shown[0].count, f'test {shown[0].unit}')}"
