"""How much faster an exported network answers one scan on one core than the same network in torch, side by side.

    python benchmarks/export.py [--rounds 7] [--networks mobilenetv2_100:128 …]

Bar: 2.5 times as fast at batch 1 on one thread, for each network. Both run in this process in turn, so that another program's load
meets both alike; the best of the rounds counts. Exit code 1 where a network misses the bar.
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from scanwise.bundle.graph import export_graph
from scanwise.bundle.onnx_engine import OnnxEngine
from scanwise.models import build_network
from scanwise.prediction import TorchEngine
from scanwise.recipe import Model

BAR = 2.5
NETWORKS = ("small:64", "mobilenetv2_100:128", "efficientnet_b0:128", "alexnet:32", "resnet50:224")


def per_scan(run: Callable[[], object], seconds: float = 0.5) -> float:
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        run()
        count += 1
    return (time.perf_counter() - begun) / count


def ratio(name: str, size: int, rounds: int) -> float:
    torch.manual_seed(0)
    network = build_network(Model(name=name), 4, 1, pretrained=False).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 1), np.uint8)
    graph = export_graph(network, pixels, None)
    engines = (TorchEngine(network), OnnxEngine.open(graph.model, {"draws": 0, "layers": []}))
    scan = pixels[:1]
    best = [float("inf")] * 2
    for engine in engines:
        engine.run(scan, None)
    for _ in range(rounds):
        for place, engine in enumerate(engines):
            best[place] = min(best[place], per_scan(lambda engine=engine: engine.run(scan, None)))  # type: ignore[misc]
    faster = best[0] / best[1]
    print(
        f"{name:24}{size:4}  torch {1e3 * best[0]:8.2f} ms  ONNX Runtime {1e3 * best[1]:8.2f} ms  {faster:5.2f} times as fast"
    )
    return faster


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    ratios = [
        ratio(*(part if index == 0 else int(part) for index, part in enumerate(name.split(":"))), given.rounds)
        for name in given.networks
    ]  # type: ignore[arg-type]
    return int(min(ratios) < BAR)


if __name__ == "__main__":
    sys.exit(main())
