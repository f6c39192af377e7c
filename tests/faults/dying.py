"""Deaths of a command: at a rename that was counted, or after a time; `forked` plants them in a child that it forks.

A death is told through the environment variable `TESTS_DEATH`: `before 7` and `after 7` name a rename by its number,
`seconds 0.3` a time, and `record FILE` lets the command live and writes the names of all its renames. `TESTS_DEATHS` names a file that gets a line
for each rename at which one died.
"""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE, LOG = "TESTS_DEATH", "TESTS_DEATHS"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _note_death(how: str, target: Any) -> None:
    if file := os.environ.get(LOG):
        with Path(file).open("a", encoding="utf-8") as log:
            log.write(f"{how} {os.fsdecode(target)}\n")


def plant(death: str) -> None:
    """In the process that shall die: wrap all by which a file or folder gets its name."""
    from scanwise.run import files

    how, _, value = death.partition(" ")
    if how == "seconds":
        threading.Timer(float(value), die).start()
        return
    renames = Renames(how, value)
    os.replace = renames.watch(os.replace)  # type: ignore[assignment]
    os.rename = renames.watch(os.rename)  # type: ignore[assignment]
    os.link = renames.watch(os.link)  # type: ignore[assignment]
    files._exchange = renames.watch(files._exchange)


class Renames:
    """A count of renames, and the death at one of them."""

    def __init__(self, how: str, value: str) -> None:
        self.how = how
        self.file = Path(value) if how == "record" else None
        self.last = 0 if self.file else int(value)
        self.count = 0

    def watch(self, rename: Callable[..., Any]) -> Callable[..., Any]:
        def renamed(source: Any, target: Any, *more: Any, **options: Any) -> Any:
            if any(part.endswith(".part") for part in Path(os.fsdecode(target)).parts[:-1]):
                return rename(source, target, *more, **options)  # within a folder that has no name yet
            self.count += 1
            if self.how == "before" and self.count == self.last:
                _note_death("before", target)
                die()
            done = rename(source, target, *more, **options)
            if self.how == "after" and self.count == self.last:
                _note_death("after", target)
                die()
            if self.file:
                with self.file.open("a", encoding="utf-8") as log:
                    log.write(f"{os.fsdecode(target)}\n")
            return done

        return renamed
