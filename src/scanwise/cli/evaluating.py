"""Commands that judge runs: external validation, comparison, cross-validation."""

import logging
import re
from pathlib import Path
from typing import Any

import click

from scanwise.cli.arguments import check_data, check_data_settings, check_recipe, load_torch_meanwhile
from scanwise.cli.options import hiding, reading, running
from scanwise.cli.printing import make_table, print_notes, print_table, progress, say, say_folded, say_value, talk
from scanwise.phrases import count_of
from scanwise.run import RunFolder, is_writer, layout, refuse_foreign

SHOWN = ("accuracy", "balanced_accuracy", "auroc", "coverage")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Other people's scans, with labels: a folder, a manifest, or a URL.")
@click.option("--subject", default="", help="The subjects there, as in `fit`.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of tables and page.  [default: RUN/external]")
@click.option("--draws", default=2000, type=click.IntRange(100), show_default=True, help="Draws behind each interval.")
@click.option("--accept-copies", is_flag=True, help="Go on where scans seem to be changed copies, after a look.")
@reading
@hiding
@running
def evaluate(
    run: Path,
    data: str,
    subject: str,
    settings: tuple[str, ...],
    out: Path | None,
    draws: int,
    accept_copies: bool,
    pseudonymise: bool,
    device: str,
    threads: int,
) -> None:
    """External validation: a frozen run on other people.

    Nothing is re-tuned. RUN is a run folder. Data that holds scans which the run learnt from, or copies of them, is refused.
    """
    talk()
    RunFolder.open(run)
    check_data(data)
    check_data_settings(settings)
    refuse_foreign(out or run / layout.EXTERNAL, layout.EXTERNAL_PAGE, "external validation")
    from scanwise.pipeline.commands import external_validation
    from scanwise.reporting.headlines import deciding_metrics, headline
    from scanwise.reporting.wording import term, with_interval

    result = external_validation.validate_externally(
        run, data=data, subject=subject, settings=settings, draws=draws, device=device, threads=threads,
        pseudonymise=pseudonymise, accept_copies=accept_copies, progress=progress(),
    )  # fmt: skip
    page = external_validation.write_external_validation(result, out or run / layout.EXTERNAL)
    say_folded(f"On other people: {headline(deciding_metrics(result.metrics))}.", bold=True)
    print_notes(f.message for f in result.findings if f.severity != "note")
    table = make_table(f"On {count_of(len(result.main), result.main.unit)}", ["", "value (with interval)"])
    for m in result.metrics:
        if m.unit == result.main.unit and not m.group and m.name in SHOWN:
            table.add_row(term(m.name).title, with_interval(m))
    print_table(table)
    say_value("page", page)
    say_value("next", f"scanwise open {page.parent}")


@click.command()
@click.argument("runs", metavar="RUN [RUN]...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", default="comparison", type=click.Path(path_type=Path), show_default=True, help="Folder of tables and page."
)
@click.option("--draws", default=2000, type=click.IntRange(100), show_default=True, help="Draws behind each interval.")
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True, help="Of the draws.")
def compare(runs: tuple[Path, ...], out: Path, draws: int, seed: int) -> None:
    """Compare runs on the people that all were tested on.

    Differences, McNemar's test and ranks. Runs whose recipes differ in the seed alone are one system, averaged over its seeds.
    """
    talk()
    for run in runs:
        RunFolder.open(run)
    refuse_foreign(out, layout.COMPARISON, "comparison")
    from scanwise.pipeline.commands import comparison as comparison_command
    from scanwise.reporting.wording import with_interval

    comparison = comparison_command.compare_runs(runs, draws=draws, seed=seed)
    page = comparison_command.write_comparison(comparison, out)
    print_notes(comparison.notes)
    table = make_table(f"By {comparison.unit}", ["system", "accuracy (with interval)", "place", "range of places"])
    values = {m.model: m for m in comparison.metrics if m.name == "accuracy"}
    for rank in (entry for entry in comparison.ranks if entry.metric == "accuracy"):
        m = values[rank.name]
        table.add_row(rank.name, with_interval(m), f"{rank.rank:g}", f"{rank.low:g} to {rank.high:g}")
    print_table(table)
    for entry in comparison.discordances:
        say(
            f"{entry.first} alone right {entry.only_first}, {entry.second} alone right {entry.only_second}: "
            f"McNemar p = {_p(entry.p_value)}, adjusted {_p(entry.adjusted)}"
        )
    say_value("page", page)


@click.command()
@click.argument("recipe")
@click.option("--data", required=True, help="As in `fit`.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder; each candidate is a run in it.")
@click.option("--folds", default=5, type=click.IntRange(2), show_default=True)
@click.option("--subject", default="", help="The subjects, as in `fit`.")
@click.option(
    "--try",
    "tries",
    multiple=True,
    metavar="'KEY=VALUE …'",
    help="A candidate: its settings. Name several to choose between.",
)
@click.option(
    "--combine",
    type=click.Choice(["auto", "choose", "average"]),
    default="auto",
    show_default=True,
    help="Choose one candidate a fold, or average all; auto averages where fewer than 100 people validate.",
)
@click.option("--by", "criterion", default="nll", show_default=True, help="Metric on validation subjects that chooses.")
@click.option("--resume", is_flag=True, help="Go on with what lies in --out.")
@reading
@running
def fold(
    recipe: str,
    data: str,
    out: Path,
    folds: int,
    subject: str,
    settings: tuple[str, ...],
    tries: tuple[str, ...],
    combine: Any,
    criterion: str,
    resume: bool,
    device: str,
    threads: int,
) -> None:
    """K-fold by subject, nested where candidates compete.

    Every subject is tested once. Each fold averages the candidates, or chooses one by its own validation subjects; the other way is measured beside it.
    """
    check_recipe(recipe, settings)
    for candidate in tries:
        check_recipe(recipe, (*settings, *_settings_in(candidate)))
    check_data(data)
    talk(logging.INFO if is_writer() else logging.ERROR)  # torchrun may have started several
    load_torch_meanwhile()
    from scanwise.pipeline.commands import cross_validation
    from scanwise.reporting.headlines import deciding_metrics, headline
    from scanwise.reporting.wording import model_title, term, with_interval

    result = cross_validation.cross_validate(
        recipe, data=data, out=out, folds=folds, subject=subject, settings=settings, criterion=criterion, resume=resume,
        combine=combine,
        tries=[_settings_in(entry) for entry in tries], device=device, threads=threads,
        progress=progress() and is_writer(),
    )  # fmt: skip
    if not is_writer():
        return
    say_folded(f"All folds: {headline(deciding_metrics(result.metrics))}.", bold=True)
    units = {m.unit for m in result.metrics}
    unit = "subject" if "subject" in units else "scan"
    table = make_table(
        f"By {unit} (with interval, given the networks that were fitted)",
        ["fold", "chosen", *(term(name).title for name in SHOWN)],
    )
    chosen = {entry.fold: entry.candidate for entry in result.choices if entry.chosen}
    if result.combination == "average":
        chosen = dict.fromkeys(chosen, f"mean of {len(result.candidates)}")
    for number in [*sorted(chosen), -1]:
        key = ("network", number, unit, "")
        here = {m.name: m for m in result.metrics if (m.model, m.fold, m.unit, m.group) == key}
        cells = [with_interval(here[n]) if n in here else "not measured" for n in SHOWN]
        table.add_row("all" if number < 0 else str(number + 1), chosen.get(number, ""), *cells)
    print_table(table)
    for m in (m for m in result.metrics if (m.name, m.unit) == ("auroc difference", unit)):
        say_folded(
            f"AUROC, all folds: the network less {model_title(m.model).lower()} {m.value:+.3f} ({m.low:+.3f} to {m.high:+.3f})"
        )
    say_value("tables", out / layout.NESTED / layout.TABLES)
    say_value("next", f"scanwise open {out}")


def _settings_in(text: str) -> list[str]:
    """The settings of one candidate: a value may hold spaces, a new setting begins at `word.word=`."""
    return [part.strip() for part in re.split(r"\s+(?=[a-z_][a-z_.]*=)", text.strip()) if part.strip()]


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
