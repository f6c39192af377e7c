"""How long do intervals over subjects take, and how much faster is that than a loop over scikit-learn?

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py

Twelve metrics of 6,400 scans in four classes, 2,000 draws of 200 subjects. The loop takes the same draws, repeats the rows of
each drawn subject and calls scikit-learn; a few draws are timed and scaled up. CPU seconds, the best of three.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
from sklearn import metrics as theirs

from scanwise import metrics
from scanwise.arrays import softmax
from scanwise.evaluation.estimates import estimate_with_interval, overall_estimand
from scanwise.evaluation.sample import SubjectBootstrap
from scanwise.records import FloatArray, IntArray, Predictions

NAMES = (
    "accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "auroc", "average_precision", "matthews", "kappa",
    "quadratic_kappa", "nll", "brier", "ece",
)  # fmt: skip


def make(scans: int, subjects: int, classes: int) -> Predictions:
    """Scans of subjects that share most of what the network thinks of them."""
    random = np.random.default_rng(0)
    labels = (np.arange(subjects) % classes).repeat(scans // subjects)
    own = random.normal(size=(subjects, classes)).repeat(scans // subjects, axis=0)
    probs = softmax(own + 0.4 * random.normal(size=own.shape) + 1.5 * np.eye(classes)[labels])
    names = np.array([f"{row}" for row in range(scans)])
    who = np.array([f"s{row}" for row in range(subjects)]).repeat(scans // subjects)
    empty = np.zeros(scans)
    return Predictions(names, who, tuple("abcdefgh"[:classes]), probs, None, empty, empty > 0, labels)


def ours(said: Predictions, draws: int) -> float:
    """CPU seconds of every metric with its interval."""
    begun = time.process_time()
    sample = SubjectBootstrap.of(said, said.subjects, draws, 0)
    for name in NAMES:
        estimate_with_interval(sample, overall_estimand(name, len(said.classes)), 0.95)
    return time.process_time() - begun


def loop(said: Predictions, draws: int) -> float:
    """CPU seconds of the same metrics by scikit-learn, draw by draw; ECE, which it lacks, by our own function."""
    sample = SubjectBootstrap.of(said, said.subjects, draws, 0)
    rows_of = [np.flatnonzero(sample.of_subject == person) for person in range(len(sample.strata))]
    begun = time.process_time()
    for counts in sample.drawn.astype(int):
        rows = np.concatenate([np.tile(rows_of[person], count) for person, count in enumerate(counts) if count])
        probs, labels = said.probs[rows], sample.labels[rows]
        called = probs.argmax(axis=1)
        for measure in REFERENCES:
            measure(probs, labels, called)
    return time.process_time() - begun


REFERENCES: tuple[Callable[[FloatArray, IntArray, IntArray], object], ...] = (
    lambda p, y, c: theirs.accuracy_score(y, c),
    lambda p, y, c: theirs.balanced_accuracy_score(y, c),
    lambda p, y, c: theirs.f1_score(y, c, average="macro"),
    lambda p, y, c: theirs.f1_score(y, c, average="weighted"),
    lambda p, y, c: theirs.roc_auc_score(y, p, multi_class="ovr"),
    lambda p, y, c: [theirs.average_precision_score(y == k, p[:, k]) for k in range(p.shape[1])],
    lambda p, y, c: theirs.matthews_corrcoef(y, c),
    lambda p, y, c: theirs.cohen_kappa_score(y, c),
    lambda p, y, c: theirs.cohen_kappa_score(y, c, weights="quadratic"),
    lambda p, y, c: theirs.log_loss(y, p),
    lambda p, y, c: theirs.brier_score_loss(y, p),
    lambda p, y, c: metrics.METRICS["ece"](p, y),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=6400)
    parser.add_argument("--subjects", type=int, default=200)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--timed", type=int, default=10, help="draws of the loop that are timed")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    said = make(asked.scans, asked.subjects, asked.classes)
    loop(said, 2)  # what is done once
    mine = min(ours(said, asked.draws) for _ in range(3))
    other = min(loop(said, asked.timed) for _ in range(3)) * asked.draws / asked.timed
    print(f"{len(NAMES)} metrics, {asked.scans:,} × {asked.classes}, {asked.subjects} subjects, {asked.draws:,} draws")
    print(f"scanwise            {mine:8.2f} s  (bar 3 s)")
    print(f"loop, scikit-learn  {other:8.0f} s  (from {asked.timed} draws)")
    print(f"ratio               {other / mine:8.0f} ×  (bar 50)")


if __name__ == "__main__":
    main()
