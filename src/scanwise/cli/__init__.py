"""One thin command a stage. Nothing heavy is imported before a command runs."""

import sys

import click

from scanwise import __version__
from scanwise.cli.data import audit, augment, cohort, fetch
from scanwise.cli.endings import end, stoppable
from scanwise.cli.evaluating import compare, evaluate, fold
from scanwise.cli.explaining import explain
from scanwise.cli.exporting import export
from scanwise.cli.fitting import demo, fit, report
from scanwise.cli.launching import launch, train, verdict
from scanwise.cli.logits import calibrate, conformal
from scanwise.cli.opening import open_page
from scanwise.cli.options import Commands
from scanwise.cli.predicting import predict
from scanwise.cli.printing import guard_streams, say
from scanwise.cli.publishing import publish
from scanwise.cli.receiving import receive
from scanwise.cli.recipes import recipes
from scanwise.cli.registering import register
from scanwise.cli.serving import serve

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main() -> None:
    """Run the command line; every end is an exit code and, where it is not success, one clear message."""
    try:
        guard_streams()
        with stoppable():
            sys.exit(cli(standalone_mode=False))
    except BaseException as error:  # noqa: BLE001 - no end of a command is a traceback
        end(error)


@click.group(cls=Commands, context_settings=CONTEXT, invoke_without_command=True)
@click.version_option(__version__, prog_name="scanwise")
@click.pass_context
def cli(context: click.Context) -> None:
    """Turn a folder of labelled scans into a classifier that can be checked."""
    if context.invoked_subcommand is None:
        say(context.get_help())


for command in (
    audit,
    augment,
    calibrate,
    cohort,
    compare,
    conformal,
    demo,
    evaluate,
    explain,
    export,
    fetch,
    fit,
    fold,
    launch,
    open_page,
    predict,
    publish,
    receive,
    recipes,
    register,
    report,
    serve,
    train,
    verdict,
):
    cli.add_command(command)
