"""Losses against loops of our own and against torch."""

from contextlib import nullcontext
from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from scanwise.models.ordinal import class_log_probs
from scanwise.recipe import Recipe, Train
from scanwise.recipe.train import LossName
from scanwise.training.losses import LOSSES, corn, cross_entropy, focal

LOGITS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
LABELS = torch.arange(12) % 4
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 0.25], dtype=torch.float64)


def by_hand(smoothing: float) -> np.ndarray:
    """Cross-entropy of each scan, one class after the other, before class weights."""
    losses = []
    for row, label in zip(LOGITS.numpy(), LABELS.tolist(), strict=True):
        log_probs = row - np.log(np.exp(row).sum())
        wanted = np.full(4, smoothing / 4)
        wanted[label] += 1 - smoothing
        losses.append(-(wanted * log_probs))
    return np.array(losses)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_the_mean_weighed_by_class(smoothing: float) -> None:
    plain = by_hand(smoothing)
    assert float(cross_entropy(LOGITS, LABELS, None, smoothing)) == pytest.approx(plain.sum(1).mean())
    own = WEIGHTS.numpy()[LABELS.numpy()]  # of the scan's own label, also for what smoothing gives to other classes
    weighed = (plain.sum(1) * own).sum() / own.sum()
    assert float(cross_entropy(LOGITS, LABELS, WEIGHTS, smoothing)) == pytest.approx(weighed)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_scales_each_scan_by_how_unsure_it_is(smoothing: float, weights: torch.Tensor | None) -> None:
    own = np.ones(12) if weights is None else weights.numpy()[LABELS.numpy()]
    probs = np.exp(LOGITS.numpy()) / np.exp(LOGITS.numpy()).sum(1, keepdims=True)
    expected = np.mean(own * ((1 - probs) ** 2 * by_hand(smoothing)).sum(1))
    assert float(focal(LOGITS, LABELS, weights, smoothing)) == pytest.approx(expected)


@pytest.mark.parametrize("name", [name for name, spec in LOSSES.items() if spec.label_smoothing])
@pytest.mark.parametrize("smoothing", [0.05, 0.2])
@pytest.mark.parametrize("rare", [1.0, 50.0, 1000.0])
def test_a_smoothed_loss_is_least_at_its_label_and_short_of_certainty(name: str, smoothing: float, rare: float) -> None:
    """Whatever the weight of the other class: torch's smoothed and weighted loss is least at the rare class."""
    gap = torch.linspace(
        -20, 20, 401, dtype=torch.float64
    )  # a common scan: how far its logit is above the rare class's
    logits = torch.stack([gap, torch.zeros_like(gap)], 1)
    weights = torch.tensor([0.5, rare], dtype=torch.float64)
    label = torch.zeros(1, dtype=torch.long)
    costs = [float(LOSSES[name].function(row[None], label, weights, smoothing)) for row in logits]
    best = float(gap[int(np.argmin(costs))])
    assert 0.5 < best < 6


def test_focal_is_torchvisions_where_both_are_defined() -> None:
    from torchvision.ops import sigmoid_focal_loss

    one = LOGITS[:, :1]  # two classes with logits (0, z) are one sigmoid
    two, labels = torch.cat([torch.zeros_like(one), one], 1), LABELS % 2
    reference = sigmoid_focal_loss(one[:, 0], labels.double(), alpha=-1, gamma=2, reduction="mean")
    assert float(focal(two, labels, None, 0.0)) == pytest.approx(float(reference))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_a_scalar_that_falls_downhill(name: str) -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = LOSSES[name].function(logits, LABELS, None, 0.0)
    assert loss.shape == ()
    loss.backward()
    lower = LOSSES[name].function(LOGITS - 0.1 * logits.grad, LABELS, None, 0.0)
    assert 0 < float(lower) < float(loss.detach())


@pytest.mark.parametrize("name", LOSSES)
def test_a_sure_and_right_answer_costs_nothing(name: str) -> None:
    assert float(LOSSES[name].function(50 * F.one_hot(LABELS, 4).double(), LABELS, None, 0.0)) == pytest.approx(
        0, abs=1e-12
    )


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_corn_is_binary_cross_entropy_over_its_conditional_subsets(weights: torch.Tensor | None) -> None:
    """As the paper has it: task k learns from the scans that reached class k, whether they are beyond it."""
    questions = LOGITS[:, :3].clone().requires_grad_()
    total, count = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for task in range(3):
        reached = torch.ge(LABELS, task)
        each = torch.ones(12, dtype=torch.float64) if weights is None else weights[LABELS]
        beyond = (LABELS[reached] > task).double()
        losses = F.binary_cross_entropy_with_logits(questions[reached, task], beyond, reduction="none")
        total = total + (each[reached] * losses).sum()
        count = count + each[reached].sum()
    expected = total / count
    found = corn(class_log_probs(questions), LABELS, weights, 0.0)
    assert float(found.detach()) == pytest.approx(float(expected.detach()))
    (one,) = torch.autograd.grad(found, questions, retain_graph=True)
    (other,) = torch.autograd.grad(expected, questions)
    torch.testing.assert_close(one, other)


# --- the table


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_parts_of_a_batch_weighed_by_the_divisor_add_up_to_the_whole(name: str, weights: torch.Tensor | None) -> None:
    spec, parts = LOSSES[name], (slice(0, 3), slice(3, 12))
    whole = spec.function(LOGITS, LABELS, weights, 0.0)
    amounts = [spec.divisor(LABELS[part], weights, 4) for part in parts]
    assert float(sum(amounts)) == pytest.approx(float(spec.divisor(LABELS, weights, 4)))
    sums = [
        amount * spec.function(LOGITS[part], LABELS[part], weights, 0.0)
        for part, amount in zip(parts, amounts, strict=True)
    ]
    assert float(sum(sums) / spec.divisor(LABELS, weights, 4)) == pytest.approx(float(whole))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_heeds_class_weights(name: str) -> None:
    function = LOSSES[name].function
    assert float(function(LOGITS, LABELS, WEIGHTS, 0.0)) != pytest.approx(float(function(LOGITS, LABELS, None, 0.0)))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_finite_where_the_network_is_sure_and_wrong(name: str) -> None:
    logits = (50 * F.one_hot((LABELS + 1) % 4, 4).double()).requires_grad_()
    loss = LOSSES[name].function(logits, LABELS, WEIGHTS, 0.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0


def test_the_recipe_names_the_losses_of_the_table() -> None:
    assert list(get_args(LossName)) == list(LOSSES)
    assert all(spec.name == name and spec.title for name, spec in LOSSES.items())


@pytest.mark.parametrize("name", LOSSES)
def test_the_recipe_takes_the_settings_that_a_loss_has(name: str) -> None:
    spec = LOSSES[name]
    with nullcontext() if spec.label_smoothing else pytest.raises(ValueError, match="label smoothing"):
        Train(loss=name, label_smoothing=0.1)  # type: ignore[arg-type]
    for ordinal in (False, True):
        with nullcontext() if spec.needs_ordinal == ordinal else pytest.raises(ValueError, match="ordinal"):
            Recipe(name="a", model={"ordinal": ordinal}, train={"loss": name})  # type: ignore[arg-type]
