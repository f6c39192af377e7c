"""What it costs that a run survives a crash: `fit` as it is, beside one without flushing, checksums and comparisons.

    python benchmarks/durability.py --data ../shared/data/SOME_COHORT [--recipe alexnet-gray-fast] [--pairs 5] [--set KEY=VALUE]

Both run in turn, in processes of their own with a warm cache, in one order and then in the other. The bar: the median of the ratios
of their times is at most 1.02. The seconds inside of the three are counted as well, because on a busy machine whole runs differ by more
than that. Exit code 1 where both the ratio and that share miss the bar.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BAR = 0.02
WITHOUT = """
import zlib
from scanwise.run import files
files._flush = files._flush_one = lambda path: None
files._is_equal = lambda new, path: False
from scanwise.cohort import store
class NoSums:
    crc32 = staticmethod(lambda data, value=0: 0)
store.zlib = NoSums
"""
COUNTED = """
import json, time, zlib
from scanwise.run import files
from scanwise.cohort import store
spent = {"flush": 0.0, "compare": 0.0, "checksum": 0.0}
def counted(function, name):
    def call(*given):
        start = time.perf_counter()
        try:
            return function(*given)
        finally:
            spent[name] += time.perf_counter() - start
    return call
files._flush, files._is_equal = counted(files._flush, "flush"), counted(files._is_equal, "compare")
class Sums:
    crc32 = staticmethod(counted(zlib.crc32, "checksum"))
store.zlib = Sums
"""
RUN = """
import sys, time
from scanwise.cli import main
import scanwise.pipeline, scanwise.training.trainer, scanwise.reporting.report
start = time.perf_counter()
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
print(json.dumps({"seconds": time.perf_counter() - start, **globals().get("spent", {})}))
"""


def fit(change: str, arguments: list[str], out: Path) -> dict[str, float]:
    """Seconds of one fit, and those inside of what was counted."""
    command = [sys.executable, "-c", f"import json\n{change}\n{RUN}", *arguments, "--out", str(out)]
    caches = os.environ | {"SCANWISE_CACHE": str(out.parent / ("cache" if change is COUNTED else "cache_without"))}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=caches)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", default="alexnet-gray-fast")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--subject", default="")
    options = parser.parse_args()
    arguments = ["fit", options.recipe, "--data", options.data, "--subject", options.subject, "--device", "cpu"]
    arguments += [part for setting in options.set for part in ("--set", setting)]
    ratios, shares = [], []
    with tempfile.TemporaryDirectory() as folder:
        for change in (COUNTED, WITHOUT):  # each fills a cache of its own, whose checksums are those that it makes
            fit(change, arguments, Path(folder) / f"warm{len(change)}")
        for pair in range(options.pairs):
            order = ("with", "without") if pair % 2 else ("without", "with")
            times = {
                kind: fit(COUNTED if kind == "with" else WITHOUT, arguments, Path(folder) / f"{kind}{pair}")
                for kind in order
            }
            ratios.append(times["with"]["seconds"] / times["without"]["seconds"])
            spent = {name: seconds for name, seconds in times["with"].items() if name != "seconds"}
            shares.append(sum(spent.values()) / times["with"]["seconds"])
            print(
                f"with {times['with']['seconds']:.2f} s, without {times['without']['seconds']:.2f} s, ratio {ratios[-1]:.3f}; "
                + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in spent.items()),
                flush=True,
            )
    ratio, share = statistics.median(ratios), statistics.median(shares)
    print(
        f"median ratio {ratio:.3f} (bar {1 + BAR}), {100 * share:.2f} % of the time inside flush, compare and checksum"
    )
    return int(ratio > 1 + BAR and share > BAR)


if __name__ == "__main__":
    sys.exit(main())
