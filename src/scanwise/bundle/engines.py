"""One fixed forward shape: a scan gets the same bytes alone, among others, at any place and with any number of threads.

Libraries add numbers up in an order that depends on the number of rows, on the place of a row among them, and on the number of
threads, so the last digits of an answer would depend on the scans beside it. Every batch therefore has the same number of
rows, on a CPU one, and runs on one core; several run at once.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import numpy as np

from scanwise.cohort.decoding.pixels import Pixels
from scanwise.recipe import Recipe
from scanwise.records import FloatArray, IntArray

Tokens = IntArray | FloatArray
Values = TypeVar("Values", Pixels, IntArray | FloatArray)
Inputs = tuple[Pixels, Tokens | None]
Outputs = tuple[FloatArray, FloatArray, FloatArray | None]

CPU_SHAPE = 1
"""Rows of a batch on a CPU; of eight, those of some networks differ by their place in the last digit."""
ACCELERATOR_SHAPE = 64
"""Rows of a batch on an accelerator, which one scan at a time would leave idle. A short batch is filled up."""


def forward_shapes(recipe: Recipe) -> dict[str, int]:
    """Rows of a batch by device; never more than in training, so that a low `train.batch` saves memory here too."""
    return {"cpu": CPU_SHAPE, "accelerator": min(ACCELERATOR_SHAPE, recipe.train.batch)}


class Engine(Protocol):
    """Anything that runs a network.

    Attributes:
        cores: number of batches that can be run at once.
    """

    @property
    def cores(self) -> int: ...

    def run(self, pixels: Pixels | None, tokens: Tokens | None) -> Outputs:
        """Logits (N, T, C), features (N, D) and attention (N, T) or None, float32, of pixels (N, H, W, C), tokens (N, L) or both."""
        ...

    def one_core_each(self) -> AbstractContextManager[Callable[[], None]]:
        """Context in which a batch runs on one core; it gives what each thread calls first."""
        ...


def run_in_shape(engine: Engine, batches: Iterable[Inputs], shape: int) -> Iterator[Outputs]:
    """Run batches of at most `shape` scans, each filled up to it; answers come in order, a batch at a time."""
    cores = engine.cores
    if cores == 1:
        yield from _run_in_turn(engine, batches, shape)
        return
    waiting: deque[tuple[int, Future[Outputs]]] = deque()
    with engine.one_core_each() as prepare, ThreadPoolExecutor(cores, initializer=prepare) as pool:
        for number, (pixels, tokens) in enumerate(batches):
            filled = _filled(pixels, shape), None if tokens is None else _filled(tokens, shape)
            waiting.append((len(pixels), pool.submit(engine.run, *filled)))
            while len(waiting) > (cores if number else 0):  # the first alone: it may settle how the others run
                yield _next_rows(waiting)
        while waiting:
            yield _next_rows(waiting)


def _run_in_turn(engine: Engine, batches: Iterable[Inputs], shape: int) -> Iterator[Outputs]:
    """As above, in this thread: to start another takes longer than a small network."""
    with engine.one_core_each() as prepare:
        prepare()
        for pixels, tokens in batches:
            outputs = engine.run(_filled(pixels, shape), None if tokens is None else _filled(tokens, shape))
            yield _rows(len(pixels), outputs)


def _filled(values: Values, shape: int) -> Values:
    """Values with copies of the last row behind them, up to `shape` rows."""
    if len(values) == shape:
        return values
    return np.concatenate([values, np.repeat(values[-1:], shape - len(values), axis=0)])


def _next_rows(waiting: deque[tuple[int, Future[Outputs]]]) -> Outputs:
    count, result = waiting.popleft()
    return _rows(count, result.result())


def _rows(count: int, outputs: Outputs) -> Outputs:
    logits, features, attention = outputs
    return logits[:count], features[:count], None if attention is None else attention[:count]
