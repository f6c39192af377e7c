"""Optimisers, learning-rate schedules, and the running mean of the weights."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from scanwise.recipe import Optimizer, Schedule

Parameters = Iterable[nn.Parameter] | list[dict[str, Any]]

OPTIMIZERS: dict[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def build_optimizer(
    section: Optimizer, parameters: Parameters, lr: float, fused: bool | None = None
) -> torch.optim.Optimizer:
    """Optimiser of a recipe.

    Args:
        section: of the recipe.
        parameters: parameters to train, or groups of them.
        lr: learning rate of groups without their own.
        fused: do the arithmetic of a step in one kernel, which halves its time on a CPU; None for torch's default.
    """
    momentum = {"momentum": section.momentum} if section.name == "sgd" else {}
    optimizer: torch.optim.Optimizer = OPTIMIZERS[section.name](
        parameters, lr, weight_decay=section.weight_decay, fused=fused, **momentum
    )
    return optimizer


def schedule_factor(schedule: Schedule, epochs: int, steps_per_epoch: int) -> Callable[[int], float]:
    """Factor of the learning rate as a function of the step alone."""

    def factor(step: int) -> float:
        epoch = step / steps_per_epoch
        if epoch < schedule.warmup:
            return (step + 1) / (schedule.warmup * steps_per_epoch + 1)
        if schedule.name == "step":
            return float(schedule.factor ** (epoch // schedule.every))
        if schedule.name == "cosine":
            done = min(1.0, (epoch - schedule.warmup) / max(epochs - schedule.warmup, 1e-9))
            return 0.5 * (1 + math.cos(math.pi * done))
        return 1.0

    return factor


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move a running mean of the weights one step towards them (Polyak & Juditsky 1992).

    Early on its decay is (1 + step) / (10 + step) at most, so that it forgets the start. Buffers (the statistics of batch
    norm) are means already and are copied. Frozen parameters and modules in evaluation mode are left alone.

    Args:
        average: the mean, a copy of the network; changed in place.
        network: the network after the step.
        decay: share of the mean that stays in a step.
        step: number of optimiser steps so far, this one included.
    """
    kept = min(decay, (1 + step) / (10 + step))
    for mean, now in zip(average.parameters(), network.parameters(), strict=True):
        if now.requires_grad:
            mean.lerp_(now, 1 - kept)
    for there, here in zip(average.modules(), network.modules(), strict=True):
        if here.training:
            for kept_buffer, buffer in zip(there.buffers(recurse=False), here.buffers(recurse=False), strict=True):
                kept_buffer.copy_(buffer)
