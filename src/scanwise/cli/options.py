"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


hiding = click.option("--pseudonymise", is_flag=True, help="Keyed hashes for subjects and names in paths.")


def running(command: F) -> F:
    """Options of every command that computes."""
    command = click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps.")(command)
    return click.option("--threads", default=0, type=click.IntRange(0), help="CPU threads; 0 lets torch choose.")(
        command
    )


def npz(name: str) -> Callable[[F], F]:
    return click.argument(name, type=click.Path(dir_okay=False, exists=True, path_type=Path))


def file(name: str, help_text: str, **options: Any) -> Callable[[F], F]:
    return click.option(name, type=click.Path(dir_okay=False, path_type=Path), help=help_text, **options)
