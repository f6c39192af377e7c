"""The terminal: the one place where text goes to it, without what would steer it.

Names of classes, subjects, files and columns are of others, and may hold escape sequences or turn the text around them. So
every line, table and message passes `printable`, and no other module prints; `tests/test_cli_printing.py` holds that.
"""

import io
import logging
import re
import sys
import warnings
from collections.abc import Iterable
from textwrap import shorten, wrap
from typing import TYPE_CHECKING, Any

import click

from scanwise.phrases import PlainLines, printable
from scanwise.progress_bar import LinesAboveBar

if TYPE_CHECKING:
    from rich.text import Text

    from scanwise.records import Finding, Metric
    from scanwise.run import RunFolder


WIDTH = 80
"""Columns of a plain terminal."""


def talk(level: int = logging.INFO) -> None:
    """Send what the stages say to the terminal."""
    log = logging.getLogger("scanwise")
    if not log.handlers:
        log.addHandler(LinesAboveBar())
    log.setLevel(level)


def guard_streams() -> None:
    """Make the streams take every character, whatever the encoding of the terminal, and what packages warn of plain."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:  # of loggers that nobody has told where to write
        logging.lastResort.setFormatter(PlainLines())
    warnings.formatwarning = lambda message, category, *_, **__: f"{category.__name__}: {printable(str(message))}\n"


def progress() -> bool:
    return sys.stderr.isatty()


def say(text: object = "", *, lead: str = "", err: bool = False, **style: Any) -> None:
    """Print a line.

    Args:
        text: of the line.
        lead: words before it; then the style is theirs.
        err: to standard error.
        style: as `click.style` has it, such as fg="red".
    """
    shown = printable(str(text), lines=True)
    click.echo(click.style(lead, **style) + shown if lead else click.style(shown, **style), err=err)


def say_value(name: str, value: object, after: str = "") -> None:
    """Print a line "name: value", the value in bold."""
    click.echo(f"{printable(name)}: {click.style(printable(str(value)), bold=True)}{printable(after)}")


def say_json(text: str) -> None:
    """Print JSON whose texts keep every character, as an escape where it would steer the terminal."""
    click.echo(_escape(text), nl=False)


def say_table_text(text: str) -> None:
    """Print CSV: as it is for another program, and plain for people."""
    click.echo(printable(text, lines=True) if sys.stdout.isatty() else text, nl=False)


def _escape(text: str) -> str:
    """The text with JSON's escapes for what `printable` would replace."""
    return re.sub(r"[^\n -~]", lambda m: m[0] if printable(m[0]) == m[0] else f"\\u{ord(m[0]):04x}", text)


def print_table(table: Any) -> None:
    from rich.console import Console

    class PlainCells(Console):
        def render_str(self, text: str, **options: Any) -> "Text":
            return super().render_str(printable(text, lines=True), **options)

    PlainCells(markup=False, emoji=False, highlight=False).print(table)  # names of files and classes are not markup


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
    tell = say_folded if sys.stderr.isatty() else say
    for note in notes:
        tell(f"note: {note}", fg="yellow", err=True)


MARKS = {"good": "green", "caution": "yellow", "bad": "red", "none": ""}


def print_report(run: "RunFolder") -> None:
    say_value("report", run.report)
    say_value("next", f"scanwise open {run.path}")


def print_answer(run: "RunFolder") -> None:
    """The answer of a run as its report opens: question, figures, cautions and verdicts, folded to 80 columns."""
    from scanwise.reporting.run_data import RunData
    from scanwise.reporting.summary import build_first_screen

    screen = build_first_screen(RunData.of(run))
    say()
    say_folded(screen.title, bold=True)
    for card in screen.cards:
        leaked = ", LEAKED" if card.leaked else ""
        against = f" {card.verdict.text}" if card.verdict else ""
        say_folded(f"{card.title}{leaked}: {card.value} {card.detail}.{against}")
    for caution in screen.alarms:
        say_folded(f"Caution: {caution.text}", fg="yellow" if caution.quotable else "red")
    say()
    for chip in screen.verdicts:
        say_folded(chip.text, lead=f"{chip.title:13}", indent=13, fg=MARKS[chip.mark] or None)
    say()


def brief_message(finding: "Finding") -> str:
    """The message of a finding; a note is cut, since its page has the rest."""
    return shorten(finding.message, 150, placeholder=" …") if finding.severity == "note" else finding.message


def say_folded(text: str, *, lead: str = "", indent: int = 0, **style: Any) -> None:
    """Print a paragraph in lines of at most 80 columns; a word or a number is not broken."""
    lines = wrap(printable(text), WIDTH - indent, break_long_words=False, break_on_hyphens=False) or [""]
    for index, line in enumerate(lines):
        say(line, lead=lead if index == 0 else " " * indent, **style)


def print_summary(run: "RunFolder") -> None:
    """Headline figures of a run beside its baselines: one table a unit."""
    from scanwise import recipe
    from scanwise.records import Split, load_metrics
    from scanwise.reporting.wording import model_title

    confidence = recipe.load_recipe(run.recipe).evaluation.confidence
    leaked = {fit.protocol for fit in run.fits() if Split.load(fit.split).leaky}
    accuracies = [m for m in load_metrics(run.metrics) if (m.name, m.group, m.split) == ("accuracy", "", "test")]
    units = [unit for unit in ("subject", "scan") if any(m.unit == unit for m in accuracies)]
    for unit in units[:1]:  # the one that decides
        here = [m for m in accuracies if m.unit == unit]
        columns = _columns(here)
        headings = [
            f"{protocol}{', LEAKED' if protocol in leaked else ''}\n{count} {unit}s"
            for (protocol, _), count in columns.items()
        ]
        table = make_table(f"Test accuracy by {unit} (with {100 * confidence:g} % interval)", ["", *headings])
        for model in dict.fromkeys(m.model for m in here):
            table.add_row(model_title(model), *(_cell(here, model, column) for column in columns))
        print_table(table)
        say()


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
