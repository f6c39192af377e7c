"""How often does the audit warn of a leak where there is none? Clean splits by subject of few people, with unequal scans.

    OMP_NUM_THREADS=1 python benchmarks/clean_splits.py --trials 200
    OMP_NUM_THREADS=1 python benchmarks/clean_splits.py --trials 50 --leak

The pictures are coarse patterns, alike within a person; classes show as little as `--signal` says. With `--leak` every
tested person learns under another name, which should be warned of.
"""

import argparse

import numpy as np

from scanwise.auditing import leakage
from scanwise.auditing.evidence import Evidence
from scanwise.records import Cohort, Split
from scanwise.registration import descriptors


def evidence_of(random: np.random.Generator, people: int, most: int, signal: float, leak: bool) -> Evidence:
    """A cohort of people with 1 to `most` scans (log-uniform), a quarter of them tested; half of the scans of each of these, with a leak."""
    label_of = random.permutation(np.arange(people) % 2)
    scans = np.exp(random.uniform(np.log(2 if leak else 1), np.log(most), people)).round().astype(int)
    who = np.arange(people).repeat(scans)
    labels, coarse = label_of[who], random.normal(size=(people, 4, 4))
    own = coarse.repeat(4, axis=1).repeat(4, axis=2)  # all scans of a person have the same nearest other person
    own[:, 6:10, 6:10] += signal * label_of[:, None, None]
    pixels = 128 + 30 * own[who] + 3 * random.normal(size=(len(who), 16, 16))
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    name = np.array([f"p{person:03}" for person in who])
    tested = np.concatenate([random.permutation(np.flatnonzero(label_of == k))[: max(1, people // 8)] for k in (0, 1)])
    side = np.isin(who, tested)
    if leak:
        side &= np.arange(len(who)) % 2 == 0
        name = np.char.add(name, np.where(side, "x", ""))
    path = np.array([f"{row}.png" for row in range(len(who))])
    cohort = Cohort("/nowhere", path, labels, ("a", "b"), False, name, "column subject", path, path, {})
    split = Split(np.where(side, "test", "train"), "published", 0, "by subject", False)
    return Evidence(cohort, pixels, descriptors(pixels), subject=cohort.subject, split=split)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--most", type=int, default=100, help="scans of a person, at most")
    parser.add_argument("--signal", type=float, default=0.0)
    parser.add_argument("--leak", action="store_true")
    parser.add_argument("--people", type=int, nargs="+", default=[8, 12, 20, 40])
    arguments = parser.parse_args()
    for people in arguments.people:
        random, warned = np.random.default_rng(people), 0
        for _ in range(arguments.trials):
            evidence = evidence_of(random, people, arguments.most, arguments.signal, arguments.leak)
            (finding,) = [f.finding for f in leakage.examine(evidence) if f.finding.check == "leakage.points"]
            warned += finding.severity != "note"
        print(f"{people:3} people: {warned} of {arguments.trials} splits warned of", flush=True)


if __name__ == "__main__":
    main()
