"""50 epochs of a frozen stage on kept features, over the same 50 epochs with features computed anew.

    OMP_NUM_THREADS=1 python benchmarks/features.py [--scans 512] [--backbone mobilenetv2_100] [--size 128]

Both are whole trainings (`training.train`: validation, checkpoints and history included) of the same recipe on random
pixels; computing anew is measured over a few epochs and scaled to 50, for its epochs are all alike. Times are CPU
seconds of this process, so that other programs on the machine do not count; wall clock stands beside. With r the time
of a head's step over that of the backbone's forward pass, both measured here on one batch, keeping V views of each
scan cannot be more than 50 (1 + r) / (V + 50 r) times as fast.

Bars: 15 with a pooled head; with self-attention of width 64 and one view, 0.8 of that bound. Exit code 1 where one is
missed.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from scanwise.cohort.store import Store
from scanwise.models import Network, build_network
from scanwise.recipe import Recipe
from scanwise.run import Fit
from scanwise.training import train_network
from scanwise.training.schedules import build_optimizer

EPOCHS, ANEW, CLASSES, BATCH = 50, 2, 4, 32
CASES = {  # head, views, and bar on (ratio, ratio over bound)
    "pooled head, 1 view": (None, 1, (15.0, 0.0)),
    "attention of width 64, 1 view": ({"width": 64}, 1, (0.0, 0.8)),
    "attention of width 64, 10 views": ({"width": 64}, 10, (0.0, 0.0)),
}


@dataclass(frozen=True)
class Spent:
    cpu: float
    wall: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=512)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many of the cases, the first ones first")
    options = parser.parse_args()
    logging.getLogger("lightning").setLevel(logging.ERROR)
    print(
        f"{options.backbone}@{options.size}, {options.scans} scans, batch {BATCH}, {torch.get_num_threads()} thread(s)\n"
    )
    missed = [compare(name, *case, options) for name, case in list(CASES.items())[: options.cases]]
    return int(any(missed))


def compare(name: str, head: dict[str, int] | None, views: int, bars: tuple[float, float], options: Any) -> bool:
    """One head and number of views; True where a bar is missed."""
    kept = spend(recipe_of(head, views, EPOCHS, options), options.scans, caching=True)
    anew = spend(recipe_of(head, views, ANEW, options), options.scans, caching=False)
    ratio = anew.cpu * EPOCHS / ANEW / kept.cpu
    forward, step = step_times(recipe_of(head, views, ANEW, options))
    share = step / forward
    bound = EPOCHS * (1 + share) / (views + EPOCHS * share)
    print(name)
    row("kept, 50 epochs", f"{kept.cpu:8.1f} s CPU   {kept.wall:8.1f} s wall")
    row(f"computed anew, {ANEW} epochs", f"{anew.cpu:8.1f} s CPU   {anew.wall:8.1f} s wall")
    row("times as fast over 50 epochs", f"{ratio:8.1f}    (wall clock {anew.wall * EPOCHS / ANEW / kept.wall:.1f})")
    row("r: head's step over backbone's forward", f"{share:8.4f}  ({1e3 * step:.2f} and {1e3 * forward:.2f} ms a scan)")
    row("bound 50 (1 + r) / (V + 50 r)", f"{bound:8.1f}")
    row("share of the bound", f"{ratio / bound:8.2f}")
    wrong = ratio < bars[0] or ratio / bound < bars[1]
    if any(bars):
        row("bar", f"{'ratio' if bars[0] else 'share'} {max(bars):g}  {'missed' if wrong else 'met'}")
    print()
    return wrong


def recipe_of(head: dict[str, int] | None, views: int, epochs: int, options: Any) -> Recipe:
    stage = {"epochs": epochs, "freeze": "backbone", "views": views}
    return Recipe.model_validate(
        {
            "name": "features",
            "data": {"size": options.size, "channels": 3},
            "model": {"name": options.backbone, "attention": head, "dropout": 0.2},
            "train": {
                "batch": BATCH,
                "stages": [stage],
                "augment": {"shift": 0.05, "rotate": 10, "flip": True},
                "monitor": "loss",
            },
        }
    )


def spend(made: Recipe, count: int, *, caching: bool) -> Spent:
    """What a whole training takes."""
    draws = np.random.default_rng(0)
    total = count + count // 8
    pixels = draws.integers(0, 256, (total, made.data.size, made.data.size, 3), np.uint8)
    names = np.arange(total).astype(str)
    store, labels = Store(pixels, np.arange(total), names, names), draws.integers(0, CLASSES, total)
    rows = {"train": np.arange(count), "validation": np.arange(count, total)}
    with tempfile.TemporaryDirectory() as folder:
        network = network_of(made)
        cpu, wall = time.process_time(), time.perf_counter()
        place = Fit(Path(folder), "honest", 0)
        train_network(network, made, store, labels, rows, place, device="cpu", caching=caching)
        return Spent(time.process_time() - cpu, time.perf_counter() - wall)


def step_times(made: Recipe) -> tuple[float, float]:
    """Seconds a scan takes in the backbone's forward pass, and in the head's step on its maps."""
    network = network_of(made).to(memory_format=torch.channels_last).eval()
    images = torch.randint(0, 256, (BATCH, made.data.size, made.data.size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    labels = torch.zeros(BATCH, dtype=torch.int64)
    with torch.no_grad():
        maps = network.forward_features(images)
        forward = typical(lambda: network.forward_features(images))
    head = [parameter for name, parameter in network.named_parameters() if not name.startswith("body.backbone.")]
    last = network.get_submodule(network.classifier).parameters()
    optimizer = build_optimizer(made.train.optimizer, head if made.model.attention else last, 1e-3, fused=True)
    network.train()

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(network.forward_head(maps), labels).backward()
        optimizer.step()

    return forward / BATCH, typical(step) / BATCH


def typical(work: Callable[[], object], times: int = 12) -> float:
    """The median CPU time of a few rounds, the first of which warms up."""
    spent = []
    for _ in range(times):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return statistics.median(spent[1:])


def network_of(made: Recipe) -> Network:
    """A network whose batch norm has seen a batch: without, its maps are so small that arithmetic on them is slow."""
    torch.manual_seed(0)
    network = build_network(made.model, CLASSES, 3)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train().forward_features(torch.randint(0, 256, (BATCH, 3, made.data.size, made.data.size)))
    return network


def row(what: str, value: str) -> None:
    print(f"  {what:<42}{value}")


if __name__ == "__main__":
    sys.exit(main())
