"""Processes of this machine that map a function, each on one core."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from scanwise.errors import RunError
from scanwise.workers.ordering import map_ahead
from scanwise.workers.sharing import share_between

T = TypeVar("T")
R = TypeVar("R")


class LocalProcesses:
    """A pool of processes.

    Args:
        pool: it.
        count: of its processes.
    """

    def __init__(self, pool: ProcessPoolExecutor, count: int) -> None:
        self._pool, self._count = pool, count

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """The results in order.

        Raises:
            RunError: if a process died.
        """

        def submit(item: T) -> Future[R]:
            return self._pool.submit(function, item)

        def collect(future: Future[R]) -> R:
            return future.result()

        try:
            yield from map_ahead(submit, collect, items, self._count)
        except BrokenProcessPool as error:
            raise RunError(
                "A worker process died, perhaps for want of memory. Ask for fewer with --workers, or leave it out."
            ) from error


@contextmanager
def local_processes(count: int) -> Iterator[LocalProcesses]:
    """A pool of `count` processes that share the memory of this machine, ended with the block."""
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin, (count,))
    try:
        yield LocalProcesses(pool, count)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(count: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal; who started this one ends it
    share_between(count)
    use_one_core()


def use_one_core() -> None:
    """Compute on one core from now on, because others of this machine compute beside this process."""
    import torch

    torch.set_num_threads(1)
