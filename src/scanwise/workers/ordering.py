"""Results in the order of the items, from workers that are given a few items ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
F = TypeVar("F")
R = TypeVar("R")

AHEAD = 2
"""Items in hand a worker: one that it maps, and the next."""


def map_ahead(submit: Callable[[T], F], collect: Callable[[F], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """The results in order; `AHEAD` items a worker are taken ahead, and no more.

    Args:
        submit: gives an item to a worker.
        collect: waits for what was submitted.
        items: to be mapped.
        workers: their number.
    """
    todo = iter(items)
    running = deque(map(submit, islice(todo, AHEAD * workers)))
    while running:
        result = collect(running.popleft())
        running.extend(map(submit, islice(todo, 1)))
        yield result
