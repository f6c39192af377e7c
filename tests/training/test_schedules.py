"""Schedules, optimisers and the running mean of the weights."""

import copy
import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from scanwise.recipe import Optimizer, Schedule
from scanwise.training.schedules import OPTIMIZERS, build_optimizer, schedule_factor, update_average


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


@pytest.mark.parametrize("fused", [True, None])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_take_what_the_recipe_says(name: Any, fused: bool | None) -> None:
    section = Optimizer(name=name, momentum=0.8, weight_decay=0.01)
    made = build_optimizer(section, [torch.nn.Parameter(torch.ones(2))], 0.03, fused)
    (group,) = made.param_groups
    assert group["fused"] is fused
    assert type(made).__name__.lower() == name
    assert group["lr"] == 0.03
    assert group["weight_decay"] == 0.01
    assert group.get("momentum", 0.8) == 0.8


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fused_or_not_the_steps_are_the_same(name: Any) -> None:
    section = Optimizer(name=name, momentum=0.8, weight_decay=0.01)
    ends = []
    for fused in (True, False):
        random = torch.Generator().manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(40, generator=random))
        made = build_optimizer(section, [weight], 0.03, fused)
        for _ in range(5):
            weight.grad = torch.randn(40, generator=random)
            made.step()
        ends.append(weight.detach())
    torch.testing.assert_close(ends[0], ends[1], atol=1e-6, rtol=1e-5)


def test_the_running_mean_is_the_sum_of_its_steps() -> None:
    network, decay, steps = torch.nn.Linear(3, 2), 0.8, 40
    average = copy.deepcopy(network)
    expected = network.weight.detach().clone().double()
    for step in range(1, steps + 1):
        with torch.no_grad():
            network.weight.copy_(torch.randn(2, 3, generator=torch.Generator().manual_seed(step)))
        kept = min(decay, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * network.weight.detach().double()
        update_average(average, network, decay, step)
    torch.testing.assert_close(average.weight.detach().double(), expected, atol=1e-6, rtol=1e-5)


def test_the_running_mean_takes_the_statistics_of_batch_norm_as_they_are() -> None:
    network = torch.nn.BatchNorm1d(3)
    average = copy.deepcopy(network)
    network(torch.randn(8, 3))
    update_average(average, network, 0.9, 1)
    assert torch.equal(average.running_mean, network.running_mean)
    assert int(average.num_batches_tracked) == 1
