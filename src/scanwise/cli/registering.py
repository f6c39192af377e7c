"""Versions of models: register."""

import click

from scanwise.cli.arguments import check_model
from scanwise.cli.options import naming_model
from scanwise.cli.printing import print_notes, say_value


@click.command()
@click.argument("run")
@click.option("--name", required=True, help="Letters, digits, dots, dashes and underscores.")
@naming_model
def register(run: str, name: str, registry: str) -> None:
    """Give the bundle of a run the next version of a name.

    `scanwise predict NAME:VERSION SCANS…` answers with it, NAME:latest with the last one. A version never changes.
    """
    check_model(run)
    from scanwise import registry as versions
    from scanwise.pipeline.model_reference import locate_model

    version = versions.register(locate_model(run, registry), name, registry=registry)
    print_notes([version.note] if version.note else [])
    say_value("registered", f"{version.name}:{version.number}", f"  {version.path}")
