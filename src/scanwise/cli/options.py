"""Options that several commands share, and what holds for the arguments of all."""

import json
import stat
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from scanwise.errors import DataError
from scanwise.run import require_device_name

F = TypeVar("F", bound=Callable[..., Any])


hiding = click.option("--pseudonymise", is_flag=True, help="Keyed hashes for subjects and names in paths.")


def reading(command: F) -> F:
    """Options of every command that reads labelled data: a keyword `settings` for the recipe."""

    @wraps(command)
    def with_settings(
        *args: Any, label: str, patients: str, ident: str, series: str, settings: tuple[str, ...], **options: Any
    ) -> Any:
        given = {"label": label, "patients": patients, "id": ident, "series": series}
        described = tuple(f"data.{name}={json.dumps(value)}" for name, value in given.items() if value)
        return command(*args, settings=(*described, *settings), **options)

    decorated: Any = with_settings
    for option in (
        click.option(
            "--series", default="", help="Series to use: a pattern over the description; localizers are left out."
        ),
        click.option(
            "--id", "ident", default="", help="Its column by which scans are found.  [default: PatientID or alike]"
        ),
        click.option("--patients", default="", help="A table with a row a person, joined to the scans by an id."),
        click.option("--label", default="", help="The column that holds the class, of the data or of --patients."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="Change the recipe, such as data.slices=[40,60].",
        ),
    ):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def naming_model(command: F) -> F:
    """The registry of a model that is named NAME:VERSION."""
    return click.option(
        "--registry",
        default="",
        help="A folder, or MLflow's registry as sqlite:///FILE or its URL.  [default: SCANWISE_REGISTRY, or your own folder]",
    )(command)


def running(command: F) -> F:
    """Options of every command that computes."""
    command = click.option(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps.", callback=lambda *given: _device(given[-1])
    )(command)
    return click.option("--threads", default=0, type=click.IntRange(0), help="CPU threads; 0 lets torch choose.")(
        command
    )


def _device(name: str) -> str:
    require_device_name(name)
    return name


def npz(name: str) -> Callable[[F], F]:
    return click.argument(name, type=click.Path(dir_okay=False, exists=True, path_type=Path))


def file(name: str, help_text: str, **options: Any) -> Callable[[F], F]:
    return click.option(name, type=click.Path(dir_okay=False, path_type=Path), help=help_text, **options)


class Commands(click.Group):
    """Commands that take files and folders; what could not be read or written down is refused before anything is read."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The arguments as click has them.

        Raises:
            DataError: if one of them names a pipe, a socket or a device, which may never end, or is no text.
        """
        for argument in args:
            _refuse_broken(argument)
            for name in (argument, argument.partition("=")[2]):
                _refuse_endless(name.removeprefix("file://"))
        return super().parse_args(ctx, args)


def _refuse_broken(argument: str) -> None:
    """Refuse a name whose bytes are no UTF-8: it could stand in no table, recipe or page."""
    try:
        argument.encode()
    except UnicodeEncodeError as error:
        spelt = argument.encode("utf-8", "backslashreplace").decode()
        raise DataError(f"{spelt} is not UTF-8 text. Rename that file or folder, and give its new name.") from error


def _refuse_endless(name: str) -> None:
    try:
        mode = Path(name).stat().st_mode
    except (OSError, ValueError):  # no name of anything
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DataError(
            f"{name} is a pipe or a device, not a file or folder. Save its content to a file, and name that."
        )
