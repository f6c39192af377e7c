"""Versions of models: register."""

import click

from scanwise.cli.printing import print_notes, say_value


@click.command()
@click.argument("run")
@click.option("--name", required=True, help="Letters, digits, dots, dashes and underscores.")
@click.option(
    "--registry",
    default="",
    help="A folder, or MLflow's registry as sqlite:///FILE or its URL.  [default: SCANWISE_REGISTRY, or your own folder]",
)
def register(run: str, name: str, registry: str) -> None:
    """Give the bundle of a run the next version of a name.

    `scanwise predict NAME:VERSION SCANS…` answers with it, NAME:latest with the last one. A version never changes.
    """
    from scanwise import registry as versions
    from scanwise.pipeline.model_reference import locate_model

    version = versions.register(locate_model(run), name, registry=registry)
    print_notes([version.note] if version.note else [])
    say_value("registered", f"{version.name}:{version.number}", f"  {version.path}")
