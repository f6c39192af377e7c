"""Workers that map a function over blocks of scans: this process, or several processes of this machine.

They take whole blocks and give the results back in order; a result does not depend on the process that computes it.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Workers(Protocol):
    """Processes that map a function over items."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """The results, in the order of the items; few items are held at once."""
        ...


class OwnProcess:
    """This process alone."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """The results, each when it is asked for."""
        return map(function, items)


OWN_PROCESS = OwnProcess()


def open_workers(count: int | None = None) -> AbstractContextManager[Workers]:
    """Workers of this machine, while the block runs.

    Args:
        count: how many processes; this one alone where no number is given.
    """
    if count is None or count == 1:
        return nullcontext(OWN_PROCESS)
    from scanwise.workers.processes import local_processes

    return local_processes(count)
