"""Whether workers of Ray cost more than the cores of one machine: seconds of `--engine ray` over those of `--engine local`.

    python benchmarks/ray_over_local.py [--scans 4000] [--network small:64] [--workers 2] [--shard 1000] [--rounds 3]

Both map the same shards of JPEGs of 176 × 208 that are drawn, side by side in one process, the best of some rounds, and must say the
same of every scan. The start of Ray and of its workers is measured apart and does not count: workers have opened the model and mapped
a few scans before. It runs in a network of its own with loopback alone (`unshare --net`). Bar: at most 1.25. Exit code 1 where it is missed.
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
BAR = 1.25
INSIDE = "SCANWISE_IN_OWN_NETWORK"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=4000)
    parser.add_argument("--network", default="small:64", help="NAME:SIZE; small is the network of the demo")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shard", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if INSIDE not in os.environ:
        from own_network import own_network

        command = [*own_network(), sys.executable, __file__, *sys.argv[1:]]
        os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})  # noqa: S606
    from overlap import make_model, write_scans
    from scanwise import bundle
    from scanwise.bundle.contents import digest_of_model
    from scanwise.bundle.mapping import AskedScans, MappedScans, map_shards
    from scanwise.bundle.ray_engine import WorkerPool, map_with
    from scanwise.workers.ray_session import connected_ray

    def answers(mapped: Iterable[tuple[int, MappedScans]]) -> MappedScans:
        """Rows of all shards, in order."""
        return MappedScans.join([rows for _, rows in sorted(mapped, key=lambda pair: pair[0])])

    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as temporary:  # names of sockets are short
        root = Path(temporary)
        model = make_model(root / "bundle", given.network)
        paths = write_scans(root, given.scans)
        shards = AskedScans(paths, [path.name for path in paths], None).shards(given.shard)
        loaded = bundle.load(model)
        start = time.perf_counter()
        with connected_ray("", given.workers) as ray:
            pool = WorkerPool(ray, model, digest_of_model(model))
            pool.start(given.workers)
            while pool.opening:
                pool.wait()
            few = [AskedScans(paths[:8], [path.name for path in paths[:8]], None)]
            list(map_with(pool, few * given.workers))
            print(f"Ray and {given.workers} workers: {time.perf_counter() - start:.1f} s to start")
            engines: dict[str, Callable[[], MappedScans]] = {
                "local": lambda: answers(map_shards(shards, loaded.mapper())),
                "ray": lambda: answers(map_with(pool, shards)),
            }
            loaded.predict(paths[:8])
            best, logits = dict.fromkeys(engines, math.inf), {}
            for _ in range(given.rounds):
                for name, run in engines.items():
                    start = time.perf_counter()
                    logits[name] = run().logits
                    best[name] = min(best[name], time.perf_counter() - start)
    if not np.array_equal(logits["local"], logits["ray"]):
        sys.exit("The engines differ in what they say of the scans.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"{cores} cores, {given.network}, {len(paths):,} scans in shards of {given.shard:,}; best of {given.rounds} rounds"
    )
    for name, seconds in best.items():
        print(f"{name:>6}: {seconds:6.2f} s, {len(paths) / seconds:8,.0f} scans a second")
    ratio = best["ray"] / best["local"]
    print(f"ray over local: {ratio:.2f} (bar: at most {BAR})")
    return int(ratio > BAR)


if __name__ == "__main__":
    sys.exit(main())
