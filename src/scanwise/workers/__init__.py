"""Workers that map a function over blocks of scans: this process, several processes of this machine, or those of a Ray cluster.

They take whole blocks and give the results back in order; a result does not depend on the process that computes it.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

from scanwise.errors import DataError

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


def open_workers(engine: str = "local", count: int | None = None, cluster: str = "") -> AbstractContextManager[Workers]:
    """Workers, while the block runs.

    Args:
        engine: "local" for processes of this machine, "ray" for those of Ray.
        count: how many; where no number is given this process alone, or for Ray one a core of the cluster.
        cluster: HOST:PORT of a Ray cluster; "" for one of this machine alone.

    Raises:
        DataError: if a cluster is named and the engine is not Ray.
        RunError: if Ray cannot be started or reached.
    """
    if engine == "ray":
        from scanwise.workers.ray_workers import ray_workers

        return ray_workers(count or 0, cluster)
    if cluster:
        raise DataError("--cluster is the address of a Ray cluster; give --engine ray too.")
    if count is None or count == 1:
        return nullcontext(OWN_PROCESS)
    from scanwise.workers.processes import local_processes

    return local_processes(count)
