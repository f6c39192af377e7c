"""RAPS beside MAPIE's on the public MRI set, by subject, over many random divisions of the subjects.

    python benchmarks/raps_alzheimer.py RUN/fits/honest/0/logits                # validation, calibration, test .npz

The temperature, lambda and k_reg are learnt on validation subjects, once. The subjects of calibration and test are then
dealt anew to two halves, many times: thresholds from one half make sets of the other. MAPIE gets the same calibrated
probabilities; it chooses lambda and k_reg itself from a part of the half that it calibrates on (a quarter here; MAPIE
1.x loses the share that it is told, which is put right). Two units: one row a subject (scans pooled), and single scans,
whose coverage is that of a random scan of a new subject. A class without anybody on these sides (moderate dementia is
two people, who are learnt from) is left out for all, for MAPIE knows no class without rows. Peers come from an environment of their own: see conformal.py.
"""

import argparse
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scanwise.calibration import Temperature
from scanwise.conformal import ConformalSets, draws_from
from scanwise.pooling import pool_by_subject
from scanwise.records import Logits

ALPHA = 0.1


@dataclass(frozen=True)
class Rows:
    """Calibrated probabilities (N, C) with all that belongs to them."""

    probs: np.ndarray
    labels: np.ndarray
    subjects: np.ndarray
    draws: np.ndarray

    def take(self, rows: np.ndarray) -> "Rows":
        return Rows(self.probs[rows], self.labels[rows], self.subjects[rows], self.draws[rows])


Method = Callable[[Rows, Rows, Rows, int], np.ndarray]


def scanwise(score: str) -> Method:
    """Sets of scanwise, randomised, with the hierarchical quantile where subjects repeat."""
    tuned: dict[int, dict[str, Any]] = {}

    def run(checked: Rows, known: Rows, new: Rows, seed: int) -> np.ndarray:
        if id(checked) not in tuned:
            penalty, k_reg = ConformalSets.tune(
                checked.probs, checked.labels, alpha=ALPHA, score=score, subjects=checked.subjects, draws=checked.draws
            )
            tuned[id(checked)] = {"penalty": penalty, "k_reg": k_reg}
            if penalty:
                print(f"  scanwise {score}: lambda {penalty:g}, k_reg {k_reg}")
        draws = (None, None) if score == "lac" else (known.draws, new.draws)
        options: dict[str, Any] = {"alpha": ALPHA, "score": score, **tuned[id(checked)]}
        fitted = ConformalSets.fit(known.probs, known.labels, subjects=known.subjects, draws=draws[0], **options)
        return fitted(new.probs, draws[1])

    return run


def mapie(last: bool | str) -> Method:
    """Sets of MAPIE's RAPS; `last` is its include_last_label, True by default."""
    from mapie.classification import SplitConformalClassifier
    from mapie.conformity_scores import RAPSConformityScore
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Quarter(RAPSConformityScore):
        def set_external_attributes(self, *, size_raps: float | None = None, **kwargs: object) -> None:
            super().set_external_attributes(size_raps=0.25, **kwargs)

    class Given(ClassifierMixin, BaseEstimator):
        def fit(self, features: np.ndarray, labels: np.ndarray) -> "Given":
            self.classes_ = np.arange(features.shape[1])
            return self

        def predict_proba(self, features: np.ndarray) -> np.ndarray:
            return features

        def predict(self, features: np.ndarray) -> np.ndarray:
            return features.argmax(axis=1)

    def run(checked: Rows, known: Rows, new: Rows, seed: int) -> np.ndarray:
        fitted = SplitConformalClassifier(
            Given().fit(known.probs, known.labels),
            confidence_level=1 - ALPHA,
            conformity_score=Quarter(),
            prefit=True,
            random_state=seed,
        )
        fitted.conformalize(known.probs, known.labels)
        return fitted.predict_set(new.probs, conformity_score_params={"include_last_label": last})[1][:, :, 0]

    return run


def compare(checked: Rows, rest: Rows, divisions: int) -> None:
    """One table: coverage with its standard error over divisions, distance from nominal, and mean size."""
    methods = {
        "scanwise raps": scanwise("raps"),
        "scanwise aps": scanwise("aps"),
        "scanwise lac": scanwise("lac"),
        "mapie raps": mapie(True),
        "mapie raps, randomized": mapie("randomized"),
    }
    people, owner = np.unique(rest.subjects, return_inverse=True)
    kind = np.array([rest.labels[owner == person][0] for person in range(len(people))])
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    refused: dict[str, int] = dict.fromkeys(methods, 0)
    for seed in range(divisions):
        random = np.random.default_rng(seed)
        order = np.lexsort((random.random(len(people)), kind))  # by class, so that both halves have their share
        half = np.zeros(len(people), dtype=bool)
        half[order[random.integers(2) :: 2]] = True
        known, new = rest.take(half[owner]), rest.take(~half[owner])
        heavy = 1 / np.unique(new.subjects, return_inverse=True, return_counts=True)[2]
        heavy = heavy[np.unique(new.subjects, return_inverse=True)[1]]  # every subject as heavy as another
        for name, method in methods.items():
            try:
                sets = method(checked, known, new, seed)
            except ValueError as error:
                refused[name] += 1
                if refused[name] == 1:
                    print(f"  {name} refuses: {str(error)[:100]}")
                continue
            covered = sets[np.arange(len(new.labels)), new.labels]
            found[name].append((np.average(covered, weights=heavy), np.average(sets.sum(axis=1), weights=heavy)))
    print(f"  {'':24} {'coverage':>16} {'from 0.9':>9} {'mean size':>10}")
    for name, pairs in found.items():
        if pairs:
            coverage, size = np.array(pairs).T
            error = coverage.std() / math.sqrt(len(coverage))
            told = f"{coverage.mean():.4f} ± {error:.4f} {abs(coverage.mean() - 1 + ALPHA):9.4f} {size.mean():10.3f}"
            print(f"  {name:24} {told}{f'  (refused {refused[name]} times)' if refused[name] else ''}")


def _among(probs: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return probs[:, classes] / probs[:, classes].sum(axis=1, keepdims=True)


def main() -> None:
    """Both units."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logits", type=Path)
    parser.add_argument("--divisions", type=int, default=500)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    sides = {side: Logits.load(given.logits / f"{side}.npz") for side in ("validation", "calibration", "test")}
    for unit in ("subject", "scan"):
        units = {side: pool_by_subject(logits) if unit == "subject" else logits for side, logits in sides.items()}
        check = units["validation"]
        temperature = Temperature.fit(check.logits, check.labels, check.subjects)
        present = np.unique(check.labels)
        rows = {
            side: Rows(
                _among(temperature(part.logits), present),
                np.searchsorted(present, part.labels),
                part.subjects,
                draws_from((part.subjects if unit == "subject" else part.scans).tolist()),
            )
            for side, part in units.items()
        }
        rest = Rows(
            *(
                np.concatenate([getattr(rows[side], name) for side in ("calibration", "test")])
                for name in ("probs", "labels", "subjects", "draws")
            )
        )
        print(
            f"\n{unit}s: {len(rest.labels)} of {len(np.unique(rest.subjects))} people in two halves, dealt {given.divisions} times"
        )
        compare(rows["validation"], rest, given.divisions)


if __name__ == "__main__":
    main()
