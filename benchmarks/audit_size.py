"""What `scanwise audit` costs as scans grow: peak of memory, and CPU seconds a scan beside those of the smallest count.

    python benchmarks/audit_size.py --data ../shared/data [--counts 6400 40000] [--workers 2]

Every real person stands there as often as the largest count needs, at every count, under the names of made-up people: once as they are,
and of the others one in eight as they are (links to the same files) and the rest turned, mirrored, zoomed, shifted and brightened, each in
a way of their own. So the share of copies is the same at every count. A fifth of all made-up people are the test side. Each count runs in a process of its
own with an empty cache. Memory is the peak of that process, pages of memory-mapped files included. Bars: 6 GiB, and 1.3 x the cost a scan.
Exit code 1 where one is missed.
"""

import argparse
import csv
import os
import random
import shutil
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

from PIL import Image

from audit import augmented

MEMORY, COST = 6144, 1.3
REAL = 6400
"""Scans of real people."""
PERSON = r"(p\d+)_"


def write_cohort(data: Path, folder: Path, total: int, versions: int) -> None:
    """`total` scans below SIDE/CLASS, `versions` of every real person."""
    with (data / "alzheimer-truth.csv").open(encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    people: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        people.setdefault(row["subject"], []).append(row)
    names = sorted(people)
    random.Random(0).shuffle(names)  # noqa: S311 - nothing secret
    made = 0
    for person in count():
        dice = random.Random(person)  # noqa: S311 - nothing secret
        side = "test" if dice.random() < 0.2 else "train"
        as_it_is = person % versions == 0 or dice.random() < 0.125
        change = dice.getrandbits(60)
        for row in people[names[person // versions]]:
            if made == total:
                return
            origin, place = data / "alzheimer" / row["path"], folder / side / row["label"]
            place.mkdir(parents=True, exist_ok=True)
            file = place / f"p{person:05d}_{made:06d}.jpg"
            made += 1
            if as_it_is:
                file.symlink_to(origin.resolve())
                continue
            with Image.open(origin) as scan:
                augmented(scan.convert("L"), random.Random(change)).save(file, quality=85)  # noqa: S311 - nothing secret


def measure(command: list[str], cache: Path) -> tuple[float, float]:
    """Peak of memory in MiB, and CPU seconds, of an audit."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "SCANWISE_CACHE": str(cache)})
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        sys.exit(f"{' '.join(command)} ended with {status}")
    shutil.rmtree(cache)
    return usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of alzheimer/ and alzheimer-truth.csv")
    parser.add_argument("--counts", type=int, nargs="+", default=[6400, 40_000])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--known", action="store_true", help="give the made-up people to the audit, with --subject")
    given = parser.parse_args()
    peaks, costs = [], []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for total in given.counts:
            write_cohort(given.data, root / str(total), total, -(-max(given.counts) // REAL))
            command = [sys.executable, "-m", "scanwise", "audit", str(root / str(total)), "--out", str(root / "out")]
            command += ["--workers", str(given.workers), *(["--subject", PERSON] if given.known else [])]
            peak, seconds = measure(command, root / "cache")
            peaks.append(peak)
            costs.append(1000 * seconds / total)
            print(
                f"{total:>8,} scans: {peak:6,.0f} MiB at most, {seconds:8.1f} s of CPU, {costs[-1]:6.1f} ms a scan, "
                f"{costs[-1] / costs[0]:.2f} x the first",
                flush=True,
            )
            shutil.rmtree(root / str(total))
    missed = max(peaks) > MEMORY or max(costs) > COST * costs[0]
    print(f"bars: {MEMORY:,} MiB, {COST} x: {'missed' if missed else 'met'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
