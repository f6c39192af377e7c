"""Deaths of a command: at a rename, or after a time; `forked` plants them in a child that it forks.

A death is told through the environment variable `TESTS_DEATH`: `before` and `after` mean the first rename at which none has died
in that way yet, `seconds 0.3` a time, and `record FILE` lets the command live and writes the names of all its renames.
`TESTS_DEATHS` names the file that remembers where they died.
"""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE, LOG = "TESTS_DEATH", "TESTS_DEATHS"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def plant(death: str) -> None:
    """In the process that shall die: wrap all by which a file or folder gets its name."""
    from scanwise.run import files

    how, _, value = death.partition(" ")
    if how == "seconds":
        threading.Timer(float(value), die).start()
        return
    renames = Renames(how, Path(value or os.environ[LOG]))
    os.replace = renames.watch(os.replace)  # type: ignore[assignment]
    os.rename = renames.watch(os.rename)  # type: ignore[assignment]
    os.link = renames.watch(os.link)  # type: ignore[assignment]
    files._exchange = renames.watch(files._exchange)


class Renames:
    """Renames of a process, each known by its target and how often that was one before; and the death at one of them."""

    def __init__(self, how: str, log: Path) -> None:
        self.how = how
        self.log = log
        self.before = set(log.read_text(encoding="utf-8").splitlines()) if log.exists() else set()
        self.counts: Counter[str] = Counter()

    def watch(self, rename: Callable[..., Any]) -> Callable[..., Any]:
        def renamed(source: Any, target: Any, *more: Any, **options: Any) -> Any:
            if any(part.endswith(".part") for part in Path(os.fsdecode(target)).parts[:-1]):
                return rename(source, target, *more, **options)  # within a folder that has no name yet
            name = os.fsdecode(target)
            self.counts[name] += 1
            line = f"{self.how} {name} {self.counts[name]}"
            if self.how == "before" and line not in self.before:
                self.note(line)
                die()
            done = rename(source, target, *more, **options)
            if self.how == "record":
                self.note(name)
            elif self.how == "after" and line not in self.before:
                self.note(line)
                die()
            return done

        return renamed

    def note(self, line: str) -> None:
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")
