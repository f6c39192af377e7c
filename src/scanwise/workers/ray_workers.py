"""Workers of Ray that map a function: those of a cluster that runs, or of one that is started here and ends with the block.

Blocks travel to the workers and results back: of the command's machine a worker needs the files of the scans alone, under the same path.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from scanwise.errors import RunError, ScanwiseError
from scanwise.workers.ordering import map_ahead
from scanwise.workers.processes import use_one_core
from scanwise.workers.ray_session import connected_ray, return_home
from scanwise.workers.sharing import share_between

T = TypeVar("T")
R = TypeVar("R")

TRIES_AGAIN = 2
"""Times that a block is given to another worker because one died over it."""


class RayWorkers:
    """Workers of Ray, each on one core.

    Args:
        ray: the module, connected.
        count: of the workers that are busy at once.
    """

    def __init__(self, ray: Any, count: int) -> None:
        self._ray, self._count = ray, count
        self._run = ray.remote(num_cpus=1, max_retries=TRIES_AGAIN)(map_on_one_core)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """The results in order; what a worker leaves undone when it dies is given to another one.

        Raises:
            RunError: if workers die over the same block, or fail.
        """

        def submit(item: T) -> Any:
            return self._run.remote(function, item, self._count)

        return map_ahead(submit, self._collect, items, self._count)

    def _collect(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ScanwiseError):
                raise error.cause from error
            raise RunError(f"A worker of Ray failed: {error.cause!r}. Try --engine local.") from error
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise RunError(
                f"Workers of Ray died {TRIES_AGAIN + 1} times over the same scans, perhaps for want of memory ({reason}). Ask for "
                "fewer with --workers."
            ) from error


@contextmanager
def ray_workers(count: int, cluster: str) -> Iterator[RayWorkers]:
    """Workers of the cluster at HOST:PORT, or of one of this machine alone where that is "".

    Args:
        count: how many are busy at once; 0 for one a core of the cluster.
        cluster: its address.

    Raises:
        RunError: if Ray is not installed, or the cluster is not there.
    """
    with connected_ray(cluster, count or os.cpu_count() or 1) as ray:
        yield RayWorkers(ray, count or int(ray.cluster_resources().get("CPU", 1)))


def map_on_one_core(function: Callable[[T], R], item: T, workers: int) -> R:
    """The result of an item, computed in a worker of Ray, of which there are so many; at most one a core is on this machine."""
    return_home()
    share_between(min(workers, os.cpu_count() or 1))
    use_one_core()
    return function(item)
