"""One fixed forward shape: a scan gets the same bytes alone, among others, at any place and with any number of threads.

Libraries add numbers up in an order that depends on the number of rows, on the place of a row among them, and on the number of
threads, so the last digits of an answer would depend on the scans beside it. Every batch therefore has the same number of
rows, on a CPU one, and runs on one core; several run at once.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
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
SHORT = 0.0015
"""Seconds of a batch that is shorter in turn: most of them are Python's, which runs one thread at a time."""


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
    cores, rest, runs = engine.cores, iter(batches), _Runs(engine, shape)
    with engine.one_core_each() as prepare:
        prepare()
        yield from map(runs.run, islice(rest, 1))  # alone: it may settle how the others run
        if cores > 1:
            yield from _run_beside(runs, rest, cores, prepare)
        yield from map(runs.run, rest)


@dataclass(slots=True)
class _Runs:
    """Batches that are run in one shape, and the seconds of the shortest."""

    engine: Engine
    shape: int
    shortest: float = math.inf

    def run(self, batch: Inputs) -> Outputs:
        """Run one batch."""
        pixels, tokens = batch
        start = time.perf_counter()
        outputs = self.engine.run(_filled(pixels, self.shape), None if tokens is None else _filled(tokens, self.shape))
        self.shortest = min(self.shortest, time.perf_counter() - start)
        return _rows(len(pixels), outputs)


def _run_beside(runs: _Runs, rest: Iterator[Inputs], cores: int, prepare: Callable[[], None]) -> Iterator[Outputs]:
    """Run several batches at once, as long as they are not so short that threads wait for one another."""
    waiting: deque[Future[Outputs]] = deque()
    with ThreadPoolExecutor(cores, initializer=prepare) as pool:
        while runs.shortest > SHORT and (batch := next(rest, None)) is not None:
            waiting.append(pool.submit(runs.run, batch))
            if len(waiting) > cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _filled(values: Values, shape: int) -> Values:
    """Values with copies of the last row behind them, up to `shape` rows."""
    if len(values) == shape:
        return values
    return np.concatenate([values, np.repeat(values[-1:], shape - len(values), axis=0)])


def _rows(count: int, outputs: Outputs) -> Outputs:
    logits, features, attention = outputs
    return logits[:count], features[:count], None if attention is None else attention[:count]
