"""Several processes that train one network: ranks, barriers, sums and rows over all of them.

Ranks come from the environment, as torchrun and `scanwise fit --processes` set it. Lightning's DDP averages gradients over
the same process group. With a single process all of this costs nothing.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from scanwise import run
from scanwise.errors import TrainingError
from scanwise.training.sampling import BatchShare

T = TypeVar("T")

# The others wait while the first one audits and predicts; if it dies, their launcher ends them.
PATIENCE = timedelta(days=1)


def process_share() -> BatchShare:
    """Part of every batch that this process takes."""
    return BatchShare(run.rank(), run.processes())


def local_rank() -> int:
    """Rank of this process on this machine."""
    return int(os.environ.get("LOCAL_RANK", run.rank()))


def local_process_count() -> int:
    """Number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", run.processes()))


def process_device(device: str) -> str:
    """Device of this process: with several on a machine, the first takes the first GPU, and so on.

    Raises:
        TrainingError: if there are more processes than GPUs, or all are set to one.
    """
    if run.processes() == 1 or not device.startswith("cuda"):
        return device
    if ":" in device:
        raise TrainingError(
            f"{run.processes()} processes cannot all train on {device}. Leave the number out: each takes a GPU of its own."
        )
    if local_process_count() > torch.cuda.device_count():
        raise TrainingError(
            f"{local_process_count()} processes need as many GPUs, and this machine shows {torch.cuda.device_count()}. "
            "Start fewer, or use --device cpu."
        )
    return f"cuda:{local_rank()}"


def join_processes() -> None:
    """Join the process group; does nothing with a single process, or a second time."""
    if run.processes() == 1 or dist.is_initialized():
        return
    with_gpu = torch.cuda.is_available() and local_process_count() <= torch.cuda.device_count()
    if with_gpu:
        torch.cuda.set_device(local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if with_gpu else "gloo", timeout=PATIENCE)


def wait_for_all() -> None:
    """Wait until all processes are here."""
    sum_over_processes(torch.zeros(1))


def writer_first(function: Callable[[], T]) -> T:
    """Call a function that writes files in the first process, and then in the others, which find the files."""
    if run.processes() == 1:
        return function()
    results = [function()] if run.is_writer() else []
    wait_for_all()
    return results[0] if results else function()


def leave_processes() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def sum_over_processes(values: Tensor) -> Tensor:
    """Sum of a small tensor over all processes, on the CPU."""
    summed = values.detach().cpu().clone()
    if run.processes() > 1:
        dist.all_reduce(summed)
    return summed


def gather_rows(rows: Tensor, count: int) -> Tensor:
    """(count, …) rows of all processes, in the order before `BatchShare.evenly`."""
    if run.processes() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(run.processes())]
    dist.all_gather(parts, rows.contiguous())
    return torch.stack(parts, 1).flatten(0, 1)[:count]
