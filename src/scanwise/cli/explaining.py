"""New scans: why this answer."""

from pathlib import Path
from typing import Any

import click

from scanwise.cli.options import running
from scanwise.cli.printing import progress, talk


@click.command()
@click.argument("run")
@click.argument("scans", nargs=-1, type=click.Path(path_type=Path))
@click.option("--method", default="", help="Of explanation; unsaid, the recipe's.")
@click.option(
    "--target", default="predicted", show_default=True, help="A class by name or number, `predicted`, or `all`."
)
@click.option("--layer", default="", help="Of class activation maps: the layer to read.")
@click.option("--opacity", type=click.FloatRange(0, 1), help="Of the map over the scan; unsaid, the recipe's.")
@click.option("--manifest", type=click.Path(path_type=Path), help="CSV/TSV with a column path, and text.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("heatmaps"), show_default=True, help="A folder.")
@running
def explain(
    run: str,
    scans: tuple[Path, ...],
    method: str,
    target: str,
    layer: str,
    opacity: float | None,
    manifest: Path | None,
    out: Path,
    device: str,
    threads: int,
) -> None:
    """Heatmaps of new scans, as pictures and as arrays.

    Arrays lie on the grid of each file. Of a network that reads titles, words.csv says what each word gave.

    RUN is a run folder or its URL, a bundle, or NAME:VERSION of a registered model; SCANS are image files or folders of
    them.
    """
    talk()
    from scanwise.pipeline import showing
    from scanwise.pipeline.naming import locate

    asked: dict[str, Any] = {"method": method, "target": target, "layer": layer, "opacity": opacity}
    maps, files, quarantine = showing.show(
        locate(run), scans, out, manifest=manifest, device=device, threads=threads, progress=progress(), **asked
    )
    for path, reason in quarantine:
        click.secho(f"not used: {path}: {reason}", fg="yellow", err=True)
    failed = [one for one in maps if one.passed is False]
    if failed:
        click.secho(
            f"{failed[0].method} did not pass its checks on this run: {failed[0].reason}.", fg="yellow", err=True
        )
    elif any(one.passed is None for one in maps):
        click.secho(f"{maps[0].method} was not checked on this run.", fg="yellow", err=True)
    for file in files:
        click.echo(str(file))
