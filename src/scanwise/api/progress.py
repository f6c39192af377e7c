"""Bars and messages of the stages while a Python function runs."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from scanwise.progress_bar import LinesAboveBar


@contextmanager
def showing_progress(wanted: bool | None) -> Iterator[bool]:
    """Let the stages speak: bars, and their messages as plain lines; nothing where a program of its own handles them.

    Args:
        wanted: or None: in a terminal and in a notebook.
    """
    shown = (sys.stderr.isatty() or in_notebook()) if wanted is None else wanted
    log = logging.getLogger("scanwise")
    if not shown or log.handlers:
        yield shown
        return
    handler, level = LinesAboveBar(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield shown
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this: its shell has one."""
    shell = sys.modules.get("IPython")
    return shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None
