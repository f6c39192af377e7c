"""How long `scanwise --help` and `import scanwise` take, beside an interpreter that does nothing.

    python benchmarks/startup.py [--runs 20]

Bars: 0.3 s for the help, 0.1 s for the import over a bare interpreter. Each run is a fresh process; the first, which may
still be reading from a cold disk, is told apart. Exit code 1 where the best run misses its bar.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

BARE = "python -c pass"
COMMANDS = {
    BARE: [sys.executable, "-c", "pass"],
    "python -c 'import scanwise'": [sys.executable, "-c", "import scanwise"],
    "scanwise --help": [str(Path(sys.executable).with_name("scanwise")), "--help"],
}
BARS = {"python -c 'import scanwise'": (0.1, True), "scanwise --help": (0.3, False)}  # seconds; less the bare one?


def timed(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    first = {name: timed(command) for name, command in COMMANDS.items()}
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):  # in turn, so that another program's load meets all of them alike
        for name, command in COMMANDS.items():
            times[name].append(timed(command))
    bare = min(times[BARE])
    missed = False
    print(f"{'':30}{'first':>9}{'best':>9}{'median':>9}")
    for name, spent in times.items():
        line = f"{name:30}{first[name]:8.3f}s{min(spent):8.3f}s{statistics.median(spent):8.3f}s"
        if name in BARS:
            bar, over_bare = BARS[name]
            best = min(spent) - bare * over_bare
            missed |= best > bar
            counted = f"{best:.3f} s over the bare interpreter" if over_bare else f"{best:.3f} s"
            line += f"   {counted}, bar {bar} s: {'missed' if best > bar else 'kept'}"
        print(line)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
