"""How often do intervals hold the truth, and how often do two equally good classifiers differ "significantly"?

    OMP_NUM_THREADS=1 python benchmarks/intervals.py --trials 2000
    OMP_NUM_THREADS=1 python benchmarks/intervals.py --trials 500 --scans 1-200

Cohorts of few subjects and rare classes, with one scan a subject, ten, or unequally many (log-uniform). The truth comes from
the same numbers of subjects of each class, in an endless population. Of differences the share of trials is given in which the
interval leaves out zero, for two classifiers that are equally good.
"""

import argparse
from collections import defaultdict

import numpy as np

from scanwise.arrays import softmax
from scanwise.evaluation import measure_predictions, paired_difference
from scanwise.evaluation.comparison import mcnemar_test
from scanwise.records import FloatArray, IntArray, Predictions

COHORTS = {
    "30+1": (30, 1),
    "30+2": (30, 2),
    "56+4": (56, 4),
    "16+4": (16, 4),
    "30+30": (30, 30),
    "40+10+3": (40, 10, 3),
}
NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "kappa", "matthews", "macro_precision", "brier", "nll",
         "average_precision", "sensitivity_at_90")  # fmt: skip


def scan_counts(random: np.random.Generator, subjects: int, scans: str) -> IntArray:
    """Scans of each subject: a number, or LOW-HIGH for log-uniform ones."""
    low, _, high = scans.partition("-")
    if not high:
        return np.full(subjects, int(low))
    drawn = np.exp(random.uniform(np.log(float(low)), np.log(float(high) + 1), subjects))
    return drawn.astype(np.int64).clip(int(low), int(high))


def classifier(
    random: np.random.Generator, labels: IntArray, of_subject: IntArray, own: FloatArray, skill: float
) -> FloatArray:
    """(N, C) probabilities that share what they think of a subject (K, C)."""
    count = own.shape[1]
    noise = 0.5 * random.normal(size=(len(labels), count))
    return softmax(own[of_subject] + noise + skill * np.eye(count)[labels])


def cohort(
    random: np.random.Generator, sizes: tuple[int, ...], scans: str, skill: float, classifiers: int = 1
) -> list[Predictions]:
    """Predictions of equally good classifiers on the scans of one cohort."""
    of_class = np.repeat(np.arange(len(sizes)), sizes)
    counts = scan_counts(random, len(of_class), scans)
    of_subject, labels = np.arange(len(of_class)).repeat(counts), of_class.repeat(counts)
    common = random.normal(size=(len(of_class), len(sizes)))
    names, empty = np.arange(len(labels)).astype(str), np.zeros(len(labels))
    subjects, classes = of_subject.astype(str), tuple("abcdef"[: len(sizes)])
    return [
        Predictions(names, subjects, classes, classifier(random, labels, of_subject, 0.7 * common + 0.7 * random.normal(size=common.shape), skill),
                    None, empty, empty > 0, labels)
        for _ in range(classifiers)
    ]  # fmt: skip


def truth_of(random: np.random.Generator, sizes: tuple[int, ...], skill: float) -> dict[str, float]:
    """Every metric in a population with the classes in these proportions."""
    many = tuple(np.array(sizes) * -(-120_000 // sum(sizes)))
    (whole,) = cohort(random, many, "1", skill)
    from scanwise.metrics import CLASS_METRICS, METRICS

    values = {name: float(METRICS[name](whole.probs, whole.labels)) for name in NAMES}
    for name in ("precision", "f1"):
        values[name] = float(CLASS_METRICS[name].by_class(whole.probs, whole.labels)[-1])
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--scans", default="1", help="scans of a subject: a number, or LOW-HIGH")
    parser.add_argument("--skill", type=float, default=2.0)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--cohorts", nargs="+", default=list(COHORTS), choices=list(COHORTS))
    arguments = parser.parse_args()
    for name in arguments.cohorts:
        sizes, random = COHORTS[name], np.random.default_rng(0)
        truth = truth_of(random, sizes, arguments.skill)
        held, width, given = defaultdict(int), defaultdict(float), defaultdict(int)
        apart: dict[str, int] = defaultdict(int)
        for trial in range(arguments.trials):
            first, second = cohort(random, sizes, arguments.scans, arguments.skill, 2)
            options = {"draws": arguments.draws, "seed": trial}
            for m in measure_predictions(first, subjects=first.subjects, names=(*NAMES, "precision", "f1"), **options):
                key = m.name if not m.group else m.name * (m.group == f"class={first.classes[-1]}")
                if key in truth and (not m.group or m.name in ("precision", "f1")) and np.isfinite(m.low):
                    held[key] += m.low <= truth[key] <= m.high
                    width[key] += m.high - m.low
                    given[key] += 1
            for m in paired_difference(first, second, **options):
                apart[m.name] += m.low > 0 or m.high < 0
            apart["McNemar"] += mcnemar_test(first, second)[2] < 0.05
        print(
            f"{name} subjects, {arguments.scans} scans each, {arguments.trials} trials: the share of intervals that hold the truth (mean width; share of trials with an interval)"
        )
        for key in truth:
            n = max(given[key], 1)
            print(f"  {key:20} {held[key] / n:.3f}  {width[key] / n:.3f}  {given[key] / arguments.trials:.2f}")
        print(
            "  apart at 5 %:",
            ", ".join(
                f"{key.removesuffix(' difference')} {value / arguments.trials:.3f}" for key, value in apart.items()
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
