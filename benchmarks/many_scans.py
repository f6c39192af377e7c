"""What `scanwise predict --out` costs as scans grow: memory of 10,000 scans over that of 1,000, and seconds a scan.

    python benchmarks/many_scans.py [--counts 1000 10000] [--shard 1000] [--engine ray --workers 2]

Tiny drawn scans of 32 × 32 and a tiny untrained network (tests/tiny_bundles.py); each count runs in a process of its own. Memory is the
peak of that process (of the command, not of workers of Ray). The time of a scan beyond the first count is without all starts.
Bar: at most 1.2. Exit code 1 where it is missed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

TESTS = Path(__file__).parents[1] / "tests"
BAR = 1.2


def write_scans(folder: Path, count: int) -> None:
    """Scans that all differ, four a person."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        Image.fromarray(rng.integers(0, 256, (32, 32), np.uint8)).save(folder / f"p{index // 4:06d}_{index % 4}.png")


def measure(command: list[str]) -> tuple[float, float]:
    """Peak of memory in MiB, and seconds, of a command that ends well."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} ended with {status}")
    return usage.ru_maxrss / 1024, time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--shard", type=int, default=1000)
    parser.add_argument("--kind", default="demo", help="network of tests/tiny_bundles.py")
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--workers", type=int, default=2, help="of Ray")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root, peaks, times = Path(temporary), [], []
        making = f"from tiny_bundles import *; from pathlib import Path; write_tiny_bundle(Path({str(root / 'bundle')!r}), {given.kind!r})"
        tests = {
            **os.environ,
            "PYTHONPATH": str(TESTS),
        }  # apart: a process starts with the peak of the one that starts it
        subprocess.run([sys.executable, "-c", making], env=tests, check=True)
        for count in given.counts:
            write_scans(root / str(count), count)
            command = [sys.executable, "-m", "scanwise", "predict", str(root / "bundle"), str(root / str(count))]
            command += ["--subject", r"(p\d+)_", "--out", str(root / "a.parquet"), "--shard", str(given.shard)]
            if given.engine == "ray":
                command += ["--engine", "ray", "--workers", str(given.workers)]
            planned = subprocess.run([*command, "--plan"], capture_output=True, text=True, check=True).stdout
            print("\n".join(f"    plan: {line}" for line in planned.splitlines()[:-1]))
            peak, seconds = measure(command)
            peaks.append(peak)
            times.append(seconds)
            print(
                f"{count:>8,} scans: {peak:7.0f} MiB at most, {seconds:6.1f} s, {1000 * seconds / count:.2f} ms a scan"
            )
    if more := given.counts[-1] - given.counts[0]:
        print(
            f"beyond the first: {1000 * (times[-1] - times[0]) / more:.2f} ms a scan, {(peaks[-1] - peaks[0]) / more * 1024:.2f} KiB a scan"
        )
    ratio = peaks[-1] / peaks[0]
    print(f"memory: {ratio:.2f} x (bar: at most {BAR})")
    return int(ratio > BAR)


if __name__ == "__main__":
    sys.exit(main())
