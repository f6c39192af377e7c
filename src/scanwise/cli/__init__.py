"""One thin command a stage. Nothing heavy is imported before a command runs."""

import sys

import click

from scanwise import __version__
from scanwise.cli.data import audit, augment, cohort, fetch
from scanwise.cli.evaluating import compare, evaluate, fold
from scanwise.cli.explaining import explain
from scanwise.cli.fitting import demo, fit, report
from scanwise.cli.launching import launch, train, verdict
from scanwise.cli.logits import calibrate, conformal
from scanwise.cli.predicting import predict
from scanwise.cli.recipes import recipes
from scanwise.cli.registering import register
from scanwise.errors import ScanwiseError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main() -> None:
    """Run the command line; every foreseen mistake is one clear message and an exit code."""
    try:
        sys.exit(cli(standalone_mode=False))
    except ScanwiseError as error:
        _fail(str(error), error.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        _fail(_usage(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("Interrupted. What was finished is kept; go on with the same command and --resume.", 130)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stdout = None
        sys.exit(141)
    except (MemoryError, RuntimeError) as error:
        if not _is_for_memory(error):
            raise
        _fail(
            "Out of memory. Lower train.batch or data.size, or close other programs; on a GPU, --device cpu has more.",
            2,
        )
    except OSError as error:
        if error.errno is None:
            raise
        _fail(f"{error.strerror}: {error.filename or 'while writing'}. Nothing half-written was left.", 2)


def _fail(message: str, code: int) -> None:
    click.secho("error: ", fg="red", bold=True, err=True, nl=False)
    click.echo(message, err=True)
    sys.exit(code)


def _is_for_memory(error: MemoryError | RuntimeError) -> bool:
    """Whether there was no memory, on a GPU or here; torch, which has errors of its own, may not be imported."""
    named = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return named or isinstance(error, MemoryError)


def _usage(error: click.ClickException) -> str:
    """The mistake in a command line, and where its options are explained."""
    context = getattr(error, "ctx", None)
    return error.format_message() + (f" See `{context.command_path} --help`." if context else "")


@click.group(context_settings=CONTEXT, invoke_without_command=True)
@click.version_option(__version__, prog_name="scanwise")
@click.pass_context
def cli(context: click.Context) -> None:
    """Turn a folder of labelled scans into a classifier that can be checked."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


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
    fetch,
    fit,
    fold,
    launch,
    predict,
    recipes,
    register,
    report,
    train,
    verdict,
):
    cli.add_command(command)
