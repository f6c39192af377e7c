"""Guards around a training: errors of memory become advice, the tiniest numbers zero, and Lightning is quiet."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from scanwise.errors import TrainingError
from scanwise.recipe import Recipe


@contextmanager
def explain_memory_errors(recipe: Recipe) -> Iterator[None]:
    """Turn errors of memory into advice."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"The GPU is out of memory. The last good checkpoint is kept. {_memory_advice(recipe)} With "
            "train.precision=mixed it needs less as well; with a lower data.size begin anew, in another --out."
        ) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
        raise TrainingError(
            f"This machine is out of memory. The last good checkpoint is kept. {_memory_advice(recipe)} Or close other "
            "programs, or begin anew with a lower data.size and another --out."
        ) from error


def _memory_advice(recipe: Recipe) -> str:
    """Advice for less memory: smaller batches, with as many scans per step."""
    section = recipe.train
    bags = f" A step holds up to train.batch × model.bag scans; a lower model.bag (now {recipe.model.bag}) needs a new --out."
    return (
        f"Go on with --resume and a lower train.batch (now {section.batch}), and train.accumulate (now "
        f"{section.accumulate}) as much higher: their product must stay.{bags if recipe.model.by_subject else ''}"
    )


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Flush numbers below 1e-38 to zero: gradients of a head that fits its scans are full of them, and a CPU needs ten times
    as long for each."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's advice on workers and hardware: the data is in memory, the device is chosen."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", "Grad strides do not match")  # advice on speed, of DDP
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
