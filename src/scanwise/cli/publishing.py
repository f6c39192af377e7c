"""A model for others: publish."""

from pathlib import Path

import click

from scanwise.cli.printing import say, say_value
from scanwise.errors import RunError
from scanwise.run import RunFolder


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--to", required=True, metavar="hub|FOLDER", help="The Hugging Face hub, or a folder that it would take.")
@click.option("--name", default="", metavar="OWNER/NAME", help="Of the model on the hub.")
@click.option("--license", "license_id", default="", help="Its licence, such as apache-2.0; the card asks for it else.")
@click.option("--public", is_flag=True, help="Everybody may see a new model.  [default: its owner alone]")
def publish(run: Path, to: str, name: str, license_id: str, public: bool) -> None:
    """Send the card and bundle of a run to the Hugging Face hub.

    Nothing else leaves the run folder. Others predict with `scanwise predict hf://OWNER/NAME SCANS…`.
    """
    RunFolder.open(run)
    if (to == "hub") != bool(name):
        raise RunError("Give --to hub with --name OWNER/NAME, or --to FOLDER without a name.")
    from scanwise import api

    if to != "hub":
        say_value("folder", api.publish(run, folder=to, license_id=license_id))
        return
    sent = api.publish(run, name=name, license_id=license_id, private=not public)
    say_value("sent", sent)
    say(f"Predict with it anywhere: scanwise predict {sent.partition('@')[0]} SCANS")
