"""A finished model for the place where it will run: export."""

from pathlib import Path

import click

from scanwise.cli.arguments import check_model
from scanwise.cli.options import naming_model
from scanwise.cli.printing import progress, say, talk
from scanwise.errors import DataError


@click.command()
@click.argument("run", default="")
@click.option("--out", type=click.Path(path_type=Path), help="A new folder.")
@click.option(
    "--scans",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Scans to compare graph and network on; several if repeated.  [default: those of the run]",
)
@click.option(
    "--verify", type=click.Path(path_type=Path), help="An exported folder: ask it about its golden cases here."
)
@naming_model
def export(run: str, out: Path | None, scans: tuple[Path, ...], verify: Path | None, registry: str) -> None:
    """Write a model as an ONNX graph that predicts without torch.

    The graph is compared with the network on at least 200 scans, and nothing is written unless classes, prediction sets and
    flags are the same. With --verify an exported folder is checked on the machine where it will run.

    RUN is a run folder or its URL, a bundle, or NAME:VERSION of a registered model.
    """
    from scanwise.pipeline.commands import export_model

    talk()
    if verify is not None:
        if run or out is not None:
            raise DataError("--verify takes an exported folder and nothing else: scanwise export --verify DIR.")
        say(export_model.verify_export(verify))
        return
    if not run or out is None:
        raise DataError("Name a run and a new folder: scanwise export RUN --out DIR; or scanwise export --verify DIR.")
    from scanwise.pipeline.model_reference import locate_model

    check_model(run)
    agreement = export_model.export_model(locate_model(run, registry), out, scans=scans, progress=progress())
    say(f"{out}: the graph answers as the network does ({agreement}).")
    say(f"On the machine where it will run: scanwise export --verify {out}")
