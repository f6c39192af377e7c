"""Duration of steps on this machine, for the plan of a fit."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from scanwise.models import Network, dry_run
from scanwise.recipe import Recipe
from scanwise.training.augment import augment_batch
from scanwise.training.losses import cross_entropy
from scanwise.training.module import ClassifierModule, channels_first


@dataclass(frozen=True, slots=True)
class SecondsPerScan:
    """Seconds per scan, in training and in prediction."""

    train: float
    predict: float


def time_steps(network: Network, recipe: Recipe, device: str, steps: int = 3) -> SecondsPerScan:
    """Time a few steps on random pixels, augmentation included; the weights are changed, so throw the network away."""
    section, data = recipe.train, recipe.data
    module = ClassifierModule(network, section, None, recipe.seed, steps).to(device, memory_format=torch.channels_last)
    optimizer = module.configure_optimizers()["optimizer"]
    images = torch.randint(
        0, 256, (section.batch, data.size, data.size, data.channels), dtype=torch.uint8, device=device
    )
    labels = torch.zeros(section.batch, dtype=torch.int64, device=device)
    tokens = [part.to(device) for part in dry_run.blank_tokens(network, recipe, section.batch)]

    def step() -> None:
        optimizer.zero_grad()
        logits = network(augment_batch(channels_first(images), section.augment, module.generator), *tokens)
        cross_entropy(logits, labels, None, 0.0).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def predict() -> None:
        with torch.no_grad():
            network(channels_first(images), *tokens)

    predicted = _seconds(predict, steps, device) / section.batch
    return SecondsPerScan(_seconds(step, steps, device) / section.batch if section.epochs else predicted, predicted)


def _seconds(function: Callable[[], object], repeats: int, device: str) -> float:
    """Mean seconds of a call, after one to warm up."""
    function()
    started = time.perf_counter()
    for _ in range(repeats):
        function()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / repeats
