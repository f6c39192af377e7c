"""What 30 draws of dropout cost: prediction with them over prediction without, the same scans in turn.

    python benchmarks/dropout.py [--scans 128] [--rounds 5]

The bars are 1.1 where dropout and a linear layer stand on top, and 1.1 × (trunk + 30 heads) for any other head. Times
are CPU seconds of this process; each figure is the least of the rounds.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from scanwise.models import Network, build_network
from scanwise.prediction import predict_scans
from scanwise.recipe import Model

DRAWS = 30
TOP: dict[str, tuple[int, dict[str, Any]]] = {
    "mobilenetv2_100": (128, {"name": "mobilenetv2_100", "dropout": 0.2}),
    "efficientnet_b0": (128, {"name": "efficientnet_b0", "dropout": 0.2}),
    "resnet50, 512 hidden": (96, {"name": "resnet50", "dropout": 0.3, "hidden": [512]}),
}
ALEXNET = (32, {"name": "alexnet", "dropout": 0.5})


class Memory:
    def __init__(self, count: int, side: int) -> None:
        self.pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)

    def read(self, indices: Any) -> Any:
        return self.pixels[indices]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    for name, (side, section) in TOP.items():
        network, rows, scans = (
            build_network(Model(**section), 4, 3),
            np.arange(wanted.scans),
            Memory(wanted.scans, side),
        )
        works = [partial(predict_scans, network, scans, rows, draws=draws) for draws in (0, DRAWS)]
        one, many = least(works, wanted.rounds)
        print(f"{name:24} one pass {one:6.3f} s, {DRAWS} draws {many:6.3f} s, ratio {many / one:.3f} (bar 1.1)")
    side, section = ALEXNET
    network, rows, scans = build_network(Model(**section), 4, 3), np.arange(wanted.scans), Memory(wanted.scans, side)
    trunk, head, many = least(
        [*steps(network, scans), lambda: predict_scans(network, scans, rows, draws=DRAWS)], wanted.rounds
    )
    bound = trunk + DRAWS * head
    print(
        f"{'alexnet':24} trunk + {DRAWS} heads {bound:6.3f} s, {DRAWS} draws {many:6.3f} s, ratio {many / bound:.3f} (bar 1.1)"
    )


def steps(network: Network, scans: Memory) -> list[Callable[[], Any]]:
    images = torch.from_numpy(scans.pixels).permute(0, 3, 1, 2).split(64)
    with torch.inference_mode():
        maps = [network.forward_features(part) for part in images]
    return [
        torch.inference_mode()(lambda: [network.forward_features(part) for part in images]),
        torch.inference_mode()(lambda: [network.forward_head(part) for part in maps]),
    ]


def least(works: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """The least CPU seconds of each, run in turn so that what else the machine does hits all alike."""
    spent = []
    for _ in range(rounds + 1):  # the first is to warm up
        spent.append([])
        for work in works:
            begun = time.process_time()
            work()
            spent[-1].append(time.process_time() - begun)
    return [min(column) for column in zip(*spent[1:], strict=True)]


if __name__ == "__main__":
    main()
