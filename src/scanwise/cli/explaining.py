"""New scans: why this answer."""

from pathlib import Path
from typing import Any

import click

from scanwise.cli.arguments import check_model
from scanwise.cli.options import naming_model, running
from scanwise.cli.printing import progress, say, talk


@click.command()
@click.argument("run")
@click.argument("scans", nargs=-1)
@click.option("--method", default="", help="Method of explanation, such as grad_cam (default: the recipe's).")
@click.option(
    "--target",
    multiple=True,
    default=["predicted"],
    show_default=True,
    help="A class by name or number, `predicted`, or `all`; several if repeated.",
)
@click.option("--layer", default="", help="Layer to read, for class activation maps.")
@click.option(
    "--opacity", type=click.FloatRange(0, 1), help="Opacity of the map over the scan (default: the recipe's)."
)
@click.option("--uncertainty", is_flag=True, help="Also show where the members of the network, or its draws, differ.")
@click.option("--manifest", help="CSV/TSV or its URL, with a column path, and text.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("heatmaps"), show_default=True, help="A folder.")
@naming_model
@running
def explain(
    run: str,
    scans: tuple[str, ...],
    method: str,
    target: tuple[str, ...],
    layer: str,
    opacity: float | None,
    uncertainty: bool,
    manifest: str | None,
    out: Path,
    registry: str,
    device: str,
    threads: int,
) -> None:
    """Heatmaps of new scans, as pictures and as arrays.

    Arrays lie on the grid of each file. Of a network that reads titles, words.csv says what each word gave.

    RUN is a run folder or its URL, a bundle, NAME:VERSION of a registered model, or hf://OWNER/NAME; SCANS are image files, folders of
    them, one table with a column path, or URLs of these.
    """
    check_model(run)
    talk()
    from scanwise.cohort.layouts import resolve_place
    from scanwise.pipeline.commands import explain_scans
    from scanwise.pipeline.model_reference import locate_model

    options: dict[str, Any] = {
        "method": method, "target": target, "layer": layer, "opacity": opacity, "uncertainty": uncertainty,
    }  # fmt: skip
    maps, files, quarantine = explain_scans.explain_files(
        locate_model(run, registry),
        list(map(resolve_place, scans)),
        out,
        manifest=manifest if manifest is None else resolve_place(manifest),
        device=device,
        threads=threads,
        progress=progress(),
        **options,
    )
    for path, reason in quarantine:
        say(f"not used: {path}: {reason}", fg="yellow", err=True)
    reasons = dict.fromkeys(heatmap.reason for heatmap in maps if heatmap.passed is False)
    for reason in reasons:
        count = sum(heatmap.reason == reason for heatmap in maps)
        say(
            f"{count} of {len(maps)} heatmaps did not pass the checks of {maps[0].method}: {reason}.",
            fg="yellow",
            err=True,
        )
    if any(heatmap.passed is None for heatmap in maps):
        say(f"{maps[0].method} was not checked on this run.", fg="yellow", err=True)
    for file in files:
        say(file)
