"""Schedules, seeds and the optimisers of the step."""

import math
from itertools import pairwise

import pytest
import torch

from scanwise.recipe import Schedule
from scanwise.training.module import channels_first
from scanwise.training.sampling import seed_of
from scanwise.training.schedules import OPTIMIZERS, schedule_factor


def test_a_constant_rate_stays() -> None:
    factor = schedule_factor(Schedule(), 10, 7)
    assert {factor(step) for step in range(70)} == {1.0}


def test_steps_drop_at_their_epochs() -> None:
    factor = schedule_factor(Schedule(name="step", every=3, factor=0.1), 10, 7)
    assert [factor(7 * epoch) for epoch in range(10)] == pytest.approx([1] * 3 + [0.1] * 3 + [0.01] * 3 + [0.001])
    assert factor(7 * 3 - 1) == 1


@pytest.mark.parametrize("warmup", [0, 2])
def test_cosine_falls_from_one_to_nothing(warmup: int) -> None:
    epochs, steps = 10, 7
    factor = schedule_factor(Schedule(name="cosine", warmup=warmup), epochs, steps)
    rates = [factor(step) for step in range(epochs * steps + 1)]
    first = warmup * steps
    expected = [0.5 * (1 + math.cos(math.pi * k / (epochs * steps - first))) for k in range(epochs * steps + 1 - first)]
    assert rates[first:] == pytest.approx(expected)
    assert rates[first] == 1
    assert rates[-1] == pytest.approx(0)


@pytest.mark.parametrize("name", ["constant", "cosine", "step"])
def test_a_warm_up_climbs_evenly_and_never_stands_still_at_nothing(name: str) -> None:
    factor = schedule_factor(Schedule(name=name, warmup=1.5), 10, 8)
    rates = [factor(step) for step in range(13)]
    rises = [b - a for a, b in pairwise(rates)]
    assert rates[0] > 0
    assert rises == pytest.approx([rises[0]] * 12)
    assert rates[12] == 1


def test_all_parts_of_a_seed_matter_and_their_order_too() -> None:
    seeds = {seed_of(a, b, c) for a in range(12) for b in range(12) for c in range(12)} | {
        seed_of(1, 11),
        seed_of(11, 1),
    }
    assert len(seeds) == 12**3 + 2
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(1, 2, 3) == 733464669408481064  # else no run of an earlier version could be resumed


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_take_what_the_recipe_says(name: str) -> None:
    made = OPTIMIZERS[name]([torch.nn.Parameter(torch.ones(2))], 0.03, 0.8, 0.01)
    (group,) = made.param_groups
    assert type(made).__name__.lower() == name
    assert group["lr"] == 0.03
    assert group["weight_decay"] == 0.01
    assert group.get("momentum", 0.8) == 0.8


def test_channels_come_first_without_a_copy() -> None:
    images = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    out = channels_first(images)
    assert out.shape == (2, 5, 3, 4)
    assert out[1, 2, 0, 3] == images[1, 0, 3, 2]
    assert out.data_ptr() == images.data_ptr()
    assert out.is_contiguous(memory_format=torch.channels_last)
