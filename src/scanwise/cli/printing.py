"""Output of commands: tables, notes, and the path of the report."""

import logging
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from scanwise.records import Metric
    from scanwise.run import Run


def talk(level: int = logging.INFO) -> None:
    """Send what the stages say to the terminal."""
    log = logging.getLogger("scanwise")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(level)


def progress() -> bool:
    return sys.stderr.isatty()


def console() -> Any:
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False)  # names of files and classes are not markup


def make_table(title: str, headings: list[str]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(
        title=title or None,
        min_width=len(title),  # else a title is folded into the width of a narrow table
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title_justify="left",
        title_style="bold",
        caption_justify="left",
    )
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right", overflow="fold")
    return table


def percent(*shares: float) -> str:
    """A share, or two ends of an interval, in per cent; nothing where it is not known."""
    return "" if shares[0] != shares[0] else "–".join(f"{100 * share:.1f}" for share in shares)


def print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        click.secho(f"note: {note}", fg="yellow", err=True)


def print_report(run: "Run") -> None:
    click.echo(f"report: {click.style(str(run.report), bold=True)}")


def print_summary(run: "Run") -> None:
    """Headline figures of a run beside its baselines: one table a unit."""
    from scanwise import recipe
    from scanwise.records import Split, load_metrics
    from scanwise.reporting.wording import model_title

    confidence = recipe.load_recipe(run.recipe).evaluation.confidence
    leaked = {fit.protocol for fit in run.fits() if Split.load(fit.split).leaky}
    accuracies = [m for m in load_metrics(run.metrics) if (m.name, m.group, m.split) == ("accuracy", "", "test")]
    for unit in ("subject", "scan"):
        here = [m for m in accuracies if m.unit == unit]
        if not here:
            continue
        columns = _columns(here)
        headings = [
            f"{protocol}{', LEAKED' if protocol in leaked else ''}\n{count} {unit}s"
            for (protocol, _), count in columns.items()
        ]
        table = make_table(f"Test accuracy by {unit} (with {100 * confidence:g} % interval)", ["", *headings])
        for model in dict.fromkeys(m.model for m in here):
            table.add_row(model_title(model), *(_cell(here, model, column) for column in columns))
        console().print(table)
        click.echo()


def _columns(metrics: "list[Metric]") -> dict[tuple[str, int], int]:
    """Protocol and fold to the number of units, honest first; of several folds, all of them together."""
    kinds = {(m.protocol, m.fold): m.count for m in sorted(metrics, key=lambda m: m.protocol)}
    pooled = {protocol for protocol, fold in kinds if fold < 0}
    return {kind: count for kind, count in kinds.items() if kind[1] < 0 or kind[0] not in pooled}


def _cell(metrics: "list[Metric]", model: str, column: tuple[str, int]) -> str:
    from scanwise.reporting.wording import with_interval

    for m in metrics:
        if (m.model, m.protocol, m.fold) == (model, *column):
            return with_interval(m)
    return ""
