"""Every pair of settings of the loss: what a step computes is what is stated, or the recipe refuses the pair."""

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
import toy
from pydantic import ValidationError

from scanwise.recipe import Recipe
from scanwise.records import FloatArray
from scanwise.training import module as module_room
from scanwise.training.losses import LOSSES
from scanwise.training.mixing import MixedBatch, mix_batch
from scanwise.training.module import ClassifierModule
from scanwise.training.sampling import class_weights

OFF: dict[str, Any] = {
    "class_weights": False, "label_smoothing": 0.0, "mixup": 0.0, "cutmix": 0.0, "ema": 0.0, "loss": "cross_entropy",
    "augment": {}, "sampling": "scans",
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "class_weights": {"class_weights": True},
    "label_smoothing": {"label_smoothing": 0.1},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 0.4},
    "ema": {"ema": 0.9},
    "focal": {"loss": "focal"},
    "corn": {"loss": "corn"},  # with the ordinal network that it needs
    "classes": {"sampling": "classes"},
}
PAIRS = [*combinations(SETTINGS, 2), ("class_weights", "label_smoothing", "focal", "mixup", "ema")]
REFUSED = {("label_smoothing", "corn"): "corn has no label smoothing", ("focal", "corn"): ""}  # one loss, not two
LABELS = np.array([0] * 12 + [1] * 3 + [2])


def recipe_of(*names: str) -> Recipe:
    section = OFF | {key: value for name in names for key, value in SETTINGS[name].items()}
    model = {"name": "small", "ordinal": "corn" in names}
    return Recipe.model_validate({"name": "toy", "data": {"size": 16}, "model": model, "train": section})


def loss_by_hand(logits: FloatArray, label: int, loss: str, smoothing: float) -> tuple[float, float]:
    """Loss of one scan with one label, and what it counts for in the divisor, before class weights."""
    log_probs = logits - np.log(np.exp(logits).sum())
    if loss == "corn":
        return -log_probs[label], min(label + 1, len(logits) - 1)
    share = np.full(len(logits), smoothing / len(logits))
    share[label] += 1 - smoothing
    focus = (1 - np.exp(log_probs)) ** 2 if loss == "focal" else 1.0
    return float((share * focus * -log_probs).sum()), 1.0


@pytest.mark.parametrize("names", PAIRS, ids="+".join)
def test_every_pair_of_settings_is_right_or_refused(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    if names in REFUSED:
        if REFUSED[names]:
            with pytest.raises(ValidationError, match=REFUSED[names]):
                recipe_of(*names)
        return
    recipe = recipe_of(*names)
    section = recipe.train
    weights = class_weights(LABELS, 3, section.sampling) if section.class_weights else None
    step = ClassifierModule(toy.network(recipe).double(), section, weights, 0, 1)
    mixed: list[MixedBatch] = []
    logits: list[torch.Tensor] = []

    def mix(*arguments: Any) -> MixedBatch:
        mixed.append(mix_batch(*arguments))
        return mixed[-1]

    def forward(images: torch.Tensor) -> torch.Tensor:
        logits.append(step.network(images.double()))
        return logits[-1]

    monkeypatch.setattr(module_room, "mix_batch", mix)
    monkeypatch.setattr(step, "forward_batch", forward)
    images = torch.randint(0, 256, (len(LABELS), 16, 16, 1), generator=torch.Generator().manual_seed(1))
    found = step.training_step((images.to(torch.uint8), torch.from_numpy(LABELS)), 0)["loss"]

    parts = [(1.0, LABELS)]
    if section.mixup or section.cutmix:
        parts = [(mixed[0].share, LABELS), (1 - mixed[0].share, mixed[0].others.numpy())]
    total = 0.0
    for share, labels in parts:
        costs, counts = zip(
            *[loss_by_hand(row, label, section.loss, section.label_smoothing)
              for row, label in zip(logits[0].detach().numpy(), labels, strict=True)], strict=True,
        )  # fmt: skip
        own = np.ones(len(labels)) if weights is None else weights.numpy()[labels]
        divisor = len(labels) if section.loss == "focal" else float((own * counts).sum())
        total += share * float((own * costs).sum()) / divisor
    assert float(found.detach()) == pytest.approx(total, rel=1e-6)


def test_ema_changes_no_loss() -> None:
    """It is about weights alone, and validation sees its network."""
    recipe = recipe_of("ema", "focal")
    step = ClassifierModule(toy.network(recipe), recipe.train, None, 0, 1)
    assert step.average is not None
    assert step.evaluated is step.average


MIXES: tuple[dict[str, Any], ...] = ({}, {"mixup": 0.4})


@pytest.mark.parametrize(
    ("loss", "smoothing", "weighed", "mix"),
    [
        pytest.param(
            *case, marks=() if case[1:] == (0.3, True, {}) else pytest.mark.extended
        )  # every day: each loss, smoothed and weighed
        for case in product(LOSSES, (0.0, 0.1, 0.3), (False, True), MIXES)
    ],
)
def test_a_rare_bright_class_does_not_take_over(
    loss: str, smoothing: float, weighed: bool, mix: dict[str, Any]
) -> None:
    """The cohort of 60 people with 4 dark scans each and 5 with a bright one: every scan can be told by its brightness."""
    if smoothing and not LOSSES[loss].label_smoothing:
        return
    labels = torch.tensor([0] * 240 + [1] * 5)
    generator = torch.Generator().manual_seed(0)
    bright = labels + 0.2 * torch.randn(245, generator=generator)
    weights = class_weights(labels.numpy(), 2) if weighed else None
    line = torch.nn.Linear(1, 2)
    optimizer = torch.optim.Adam(line.parameters(), 0.1)
    function = LOSSES[loss].function
    for step in range(200):
        share = 1.0 if not mix or step % 2 else float(torch.rand((), generator=generator))
        others = torch.randperm(245, generator=generator)
        scores = line((share * bright + (1 - share) * bright[others])[:, None])
        cost = share * function(scores, labels, weights, smoothing)
        cost = cost + (1 - share) * function(scores, labels[others], weights, smoothing)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    called = line(bright[:, None]).argmax(1)
    recalls = [float((called[labels == index] == index).float().mean()) for index in (0, 1)]
    assert recalls[0] > 0.95
    if weighed:  # unweighted, mixed labels may leave five of 245 to the common class
        assert recalls[1] > 0.79
