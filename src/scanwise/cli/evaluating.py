"""What to believe: compare runs with each other."""

from pathlib import Path

import click

from scanwise.cli.printing import console, make_table, percent, talk


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", default="comparison", type=click.Path(path_type=Path), show_default=True, help="Folder of tables and page."
)
@click.option("--draws", default=2000, type=click.IntRange(100), show_default=True, help="Draws behind each interval.")
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True, help="Of the draws.")
def compare(runs: tuple[Path, ...], out: Path, draws: int, seed: int) -> None:
    """Compare runs on the people that all were tested on: differences, McNemar, ranks.

    RUNS are run folders. Runs whose recipes differ in the seed alone are one system, averaged over its seeds.
    """
    talk()
    from scanwise.pipeline import comparing

    found = comparing.compare(runs, draws=draws, seed=seed)
    page = comparing.write(found, out)
    for note in found.notes:
        click.secho(f"note: {note}", fg="yellow", err=True)
    table = make_table(
        f"Accuracy by {found.unit}", ["system", "accuracy, %", "95 % interval", "place", "range of places"]
    )
    values = {m.model: m for m in found.metrics if m.name == "accuracy"}
    for rank in (one for one in found.ranks if one.metric == "accuracy"):
        m = values[rank.name]
        table.add_row(
            rank.name, percent(m.value), percent(m.low, m.high), f"{rank.place:g}", f"{rank.low:g} to {rank.high:g}"
        )
    console().print(table)
    for one in found.discordances:
        click.echo(
            f"{one.first} alone right {one.only_first}, {one.second} alone right {one.only_second}: "
            f"McNemar p = {_p(one.p_value)}, adjusted {_p(one.adjusted)}"
        )
    click.echo(f"page: {click.style(str(page), bold=True)}")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
