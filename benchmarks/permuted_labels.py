"""Labels shuffled between people, through the whole procedure of `subject-ridge`: split, strength, cuts, test.

    python benchmarks/permuted_labels.py DATA RECIPE [--set KEY=VALUE …] [--draws 20]

Nothing can be learnt, so the mean AUROC of all test people must be near 0.5; more would be a leak between the sides.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.metrics import roc_auc_score

from scanwise import pipeline, pooling
from scanwise.cohort.splits import make_splits
from scanwise.pipeline.context import Context
from scanwise.pipeline.stages.prediction import load_network
from scanwise.pipeline.stages.subject_ridge import predict_kept, train_ridge
from scanwise.pipeline.stages.text_inputs import cohort_tokens
from scanwise.records import Cohort
from scanwise.run import Fit


def shuffled(cohort: Cohort, seed: int) -> Cohort:
    """The cohort with the labels of people, whole, shuffled between them; of two classes, whatever was merged."""
    people, rows = np.unique(cohort.subject, return_inverse=True)
    classes = pooling.common_label(cohort.labels, rows, len(cohort.classes))
    drawn = np.random.default_rng(seed).permutation(len(people))
    first = np.unique(rows, return_index=True)[1][drawn]
    groups = {name: values[first][rows] if name == "label" else values for name, values in cohort.groups.items()}
    spelled = None if cohort.spelling is None else cohort.spelling[first][rows]
    return replace(cohort, labels=classes[drawn][rows], groups=groups, spelling=spelled)


def area(context: Context, seed: int, folder: Path) -> float:
    """AUROC of all people, each tested once, with labels shuffled by this seed."""
    cohort = shuffled(context.cohort, seed)
    context = replace(context, cohort=cohort)
    scores, labels = [], []
    for split in make_splits(cohort, context.recipe.split, seed):
        fit = Fit(folder / f"{seed}-{split.fold}", "honest", split.fold)
        fit.path.mkdir()
        train_ridge(context, fit, split)
        network, vocabulary, _ = load_network(context, fit, split)
        rows = split.rows("test")
        logits, _ = predict_kept(context, network, split, rows, cohort_tokens(context, vocabulary))
        index = np.unique(cohort.subject[rows], return_inverse=True)[1]
        means = logits.mean(axis=1)
        gaps = np.bincount(index, means[:, 1] - means[:, 0]) / np.bincount(index)
        scores.append(gaps)
        labels.append(pooling.common_label(cohort.labels[rows], index, 2))
    return float(roc_auc_score(np.concatenate(labels), np.concatenate(scores)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("recipe")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--draws", type=int, default=20)
    asked = parser.parse_args()
    context = pipeline.prepare(asked.recipe, data=asked.data, settings=asked.settings, device="cpu", threads=1)
    with TemporaryDirectory() as folder:
        areas = [area(context, seed, Path(folder)) for seed in range(asked.draws)]
    error = np.std(areas, ddof=1) / np.sqrt(len(areas))
    print(
        f"AUROC of {len(areas)} draws: mean {np.mean(areas):.3f} ± {error:.3f}, from {min(areas):.3f} to {max(areas):.3f}"
    )


if __name__ == "__main__":
    main()
