"""The page of a run, an audit, a cross-validation, an external validation or a comparison, in the browser."""

import os
import sys
import webbrowser
from pathlib import Path

import click

from scanwise.cli.printing import say
from scanwise.errors import RunError
from scanwise.run import layout

PAGES = (layout.REPORT, layout.FOLD_PAGE, layout.EXTERNAL_PAGE, layout.COMPARISON_PAGE, layout.AUDIT_PAGE)
"""Pages that a folder may have, the one that says most first."""


@click.command("open")
@click.argument("run", type=click.Path(path_type=Path))
def open_page(run: Path) -> None:
    """Show the page of a run in the browser.

    RUN is the folder of a run, an audit, a cross-validation, an external validation or a comparison. Where there is no browser, the path of the
    page is printed and nothing else happens.
    """
    page = find_page(run)
    say(page)
    if has_screen():
        webbrowser.open(page.resolve().as_uri())


def find_page(folder: Path) -> Path:
    """The page of a folder.

    Raises:
        RunError: if it has none.
    """
    for name in PAGES:
        if (folder / name).is_file():
            return folder / name
    if not folder.is_dir():
        raise RunError(f"There is no folder {folder}. Give the folder of a run, such as runs/a.")
    raise RunError(
        f"{folder} has no page ({', '.join(PAGES)}). If it is a run, `scanwise report {folder}` writes its report; a run "
        "that was interrupted goes on with `scanwise fit … --resume`."
    )


def has_screen() -> bool:
    """Whether a browser would have a window to open; without one, a text browser would take over the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
