"""Whether `predict` overlaps decoding with the network: scans a second over those of the slower of the two alone.

    python benchmarks/overlap.py [--scans 2000] [--network small:64] [--rounds 3] [--data FOLDER]

Each alone and both together, side by side in one process, the best of some rounds; JPEGs of 176 × 208 that are drawn, or those of a
folder. Decoding alone is `read_files`; the network alone gets pixels that are decoded; both together are `Bundle.predict`, judges and
sets included. Bar: at least 0.9. Exit code 1 where it is missed. With few scans (`--scans 100`) it shows that they pay for no process.
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
BAR = 0.9


def write_scans(folder: Path, count: int) -> list[Path]:
    """JPEGs that all differ, as smooth as a scan."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{index:05d}.jpg" for index in range(count)]
    for path in paths:
        small = Image.fromarray(rng.integers(0, 256, (26, 22), np.uint8))
        small.resize((176, 208), Image.Resampling.BICUBIC).save(path)
    return paths


def make_model(folder: Path, network: str) -> Path:
    """A bundle of an untrained network."""
    import tiny_bundles

    name, size = network.split(":")
    tiny_bundles.SIZE = int(size)
    tiny_bundles.KINDS["measured"] = {"name": name}
    return tiny_bundles.write_tiny_bundle(folder, "measured")


def seconds_of(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=2000)
    parser.add_argument("--network", default="small:64", help="NAME:SIZE; small is the network of the demo")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="folder of JPEGs in place of drawn ones")
    given = parser.parse_args()
    from scanwise import bundle
    from scanwise.bundle.engines import run_in_shape
    from scanwise.cohort.decoding.readers import DecodedScan
    from scanwise.cohort.decoding.streams import read_files

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        loaded = bundle.load(make_model(root / "bundle", given.network))
        paths = sorted(given.data.rglob("*.jpg"))[: given.scans] if given.data else write_scans(root, given.scans)
        shape = loaded.mapper().shape or 1
        scans = [scan for scan in read_files(paths, loaded.recipe.data) if isinstance(scan, DecodedScan)]
        loaded.predict(paths[:8])
        best = dict.fromkeys(("decoding", "network", "both"), math.inf)
        for _ in range(given.rounds):
            work: dict[str, Callable[[], Any]] = {
                "decoding": lambda: list(read_files(paths, loaded.recipe.data)),
                "network": lambda: list(
                    run_in_shape(loaded.engine(), ((scan.pixels[None], None) for scan in scans), shape)
                ),
                "both": lambda: loaded.predict(paths),
            }
            for name, run in work.items():
                best[name] = min(best[name], seconds_of(run))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{cores} cores, {given.network}, {len(paths):,} scans; best of {given.rounds} rounds")
    for name, seconds in best.items():
        print(f"{name:>10}: {seconds:6.2f} s, {len(paths) / seconds:8,.0f} scans a second")
    ratio = max(best["decoding"], best["network"]) / best["both"]
    print(f"both over the slower alone: {ratio:.2f} (bar: at least {BAR})")
    return int(ratio < BAR)


if __name__ == "__main__":
    sys.exit(main())
