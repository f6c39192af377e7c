"""Tests of exchangeability between calibration and new scans; every conformal guarantee assumes it.

Two permutation tests, exact at any number of subjects: subjects are assigned to the two samples at random many times, and
the p-value is the share of assignments that look as different as the true one. Scans of one subject stay together because
they are not independent. A small p-value says that the guarantee should not be relied on. A large one proves nothing:
with few subjects only large shifts are detected, and only those that scores or features show.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scanwise.arrays import check_features, ends_of_ties, refuse_rows
from scanwise.errors import DataError, ShapeError
from scanwise.pooling import mean_by, subject_codes
from scanwise.records import BoolArray, FloatArray, IntArray, StrArray


@dataclass(frozen=True, slots=True)
class ShiftTest:
    """Difference between calibration and new subjects, and its p-value.

    Attributes:
        statistic: see the test.
        p_value: the chance of a difference as large if all subjects come from one population.
        calibration: calibration subjects.
        new: new subjects.
    """

    statistic: float
    p_value: float
    calibration: int
    new: int

    def __str__(self) -> str:
        verb = "differ" if self.p_value <= 0.05 else "are not seen to differ"
        return f"{self.calibration} calibration and {self.new} new subjects {verb} (p = {self.p_value:.2g})"


def compare_scores(
    calibration: FloatArray,
    new: FloatArray,
    *,
    calibration_subjects: StrArray,
    new_subjects: StrArray,
    permutations: int = 999,
    seed: int = 0,
) -> ShiftTest:
    """The largest gap between the distribution functions of a number of scans (Kolmogorov and Smirnov).

    Every subject is as heavy as another. The number may be the conformal score of the label, or, where labels are not
    known, the largest probability.

    Args:
        calibration: (N,) of calibration scans.
        new: (M,) of new ones.
        calibration_subjects: (N,) the subject of each.
        new_subjects: (M,) the subject of each; nobody is on both sides.
        permutations: random assignments.
        seed: random seed of the assignments.

    Raises:
        DataError: if a number is NaN, a subject is on both sides, or a side is empty.

    >>> names = [np.char.add(side, np.arange(9).astype(str)) for side in "ab"]
    >>> found = compare_scores(np.arange(9.0), np.arange(9.0) + 20, calibration_subjects=names[0], new_subjects=names[1])
    >>> round(found.statistic, 9), found.p_value
    (1.0, 0.001)
    """
    values = np.concatenate([np.asarray(calibration, dtype=np.float64), np.asarray(new, dtype=np.float64)])
    if values.ndim != 1:
        raise ShapeError(f"Expected one number a scan; found {np.shape(calibration)} and {np.shape(new)}.")
    refuse_rows(np.isnan(values), "a score that is not a number (rows counted over both sides)")
    owners, is_new = _sides(calibration_subjects, new_subjects, len(calibration), len(new))
    order = np.argsort(values, kind="stable")
    last = ends_of_ties(values[order])  # scores that are equal are passed together
    share, owner = (1 / np.bincount(owners))[owners][order], owners[order]

    def gaps(sides: BoolArray) -> FloatArray:
        heavy = np.where(sides, 1 / sides.sum(axis=1, keepdims=True), -1 / (~sides).sum(axis=1, keepdims=True))
        return np.asarray(np.abs(np.cumsum(heavy[:, owner] * share, axis=1)[:, last]).max(axis=1))

    return _permute(gaps, is_new, permutations, seed, len(values))


def compare_features(
    calibration: FloatArray,
    new: FloatArray,
    *,
    calibration_subjects: StrArray,
    new_subjects: StrArray,
    permutations: int = 999,
    seed: int = 0,
) -> ShiftTest:
    """AUROC of a classifier between new and calibration subjects, each left out in turn (Lopez-Paz and Oquab 2017).

    Features are averaged over the scans of each subject and standardised; a ridge regression then guesses the side of
    each subject from all others. The statistic is the AUROC of these guesses.

    Args:
        calibration: (N, D) features of calibration scans.
        new: (M, D) of new ones.
        calibration_subjects: (N,) the subject of each.
        new_subjects: (M,) the subject of each; nobody is on both sides.
        permutations: random assignments.
        seed: random seed of the assignments.

    Raises:
        DataError: if a feature is not finite, a subject is on both sides, or a side is empty.
        ShapeError: if the two differ in D.
    """
    calibration, new = check_features(calibration), check_features(new)
    if calibration.shape[1] != new.shape[1]:
        raise ShapeError(f"Features must be (N, D) and (M, D); they are {calibration.shape} and {new.shape}.")
    owners, is_new = _sides(calibration_subjects, new_subjects, len(calibration), len(new))
    left, shrunk = _directions(mean_by(np.concatenate([calibration, new]), owners, np.bincount(owners)))
    leverage = (left**2 @ shrunk + 1 / len(left))[:, None]

    def areas(sides: BoolArray) -> FloatArray:
        from scipy.stats import rankdata

        truth = sides.T.astype(np.float64)
        fitted = left @ (shrunk[:, None] * (left.T @ truth)) + truth.mean(axis=0)
        guess = (fitted - leverage * truth) / (1 - leverage)  # as if the subject had been left out
        count, ranks = sides[0].sum(), rankdata(guess.round(12), axis=0)
        return np.asarray(((ranks * truth).sum(axis=0) - count * (count + 1) / 2) / (count * (len(left) - count)))

    return _permute(areas, is_new, permutations, seed, len(left))


def _sides(calibration: StrArray, new: StrArray, num_calibration: int, num_new: int) -> tuple[IntArray, BoolArray]:
    """(N + M,) the index of each scan's subject, and (K,) whether each subject is new."""
    if not num_calibration or not num_new:
        raise DataError(f"A comparison needs scans on both sides; there are {num_calibration} and {num_new}.")
    subject_codes(calibration, num_calibration), subject_codes(new, num_new)
    shared = np.intersect1d(calibration, new)
    if len(shared):
        raise DataError(f"{len(shared)} subjects are on both sides, such as {str(shared[0])!r}. Give each to one side.")
    owners, names = subject_codes(np.concatenate([calibration, new]), num_calibration + num_new)
    is_new = np.zeros(len(names), dtype=np.bool_)
    is_new[owners[num_calibration:]] = True
    return owners, is_new


def _directions(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(K, P) left singular vectors of standardised rows (K, D), and (P,) how much a ridge regression keeps of each.

    The penalty is the mean of the squared singular values: little is known of the difference.
    """
    spread = rows.std(axis=0)
    varies = spread > 1e-9 * np.abs(rows).max(axis=0, initial=1e-300)
    if not varies.any():
        return np.zeros((len(rows), 1)), np.zeros(1)
    left, values, _ = np.linalg.svd((rows - rows.mean(axis=0))[:, varies] / spread[varies], full_matrices=False)
    return left, values**2 / (values**2 + np.mean(values**2))


def _permute(
    statistic: Callable[[BoolArray], FloatArray], is_new: BoolArray, permutations: int, seed: int, rows: int
) -> ShiftTest:
    """Hold the statistic of the true sides against that of random deals, (B, K) at a time."""
    if permutations < 1:
        raise DataError(f"A permutation test needs at least one permutation; it has {permutations}.")
    random = np.random.default_rng(seed)
    seen, as_large = float(statistic(is_new[None])[0]), 0
    step = max(1, 4_000_000 // rows)
    for start in range(0, permutations, step):
        deals = np.tile(is_new, (min(step, permutations - start), 1))
        as_large += int((statistic(random.permuted(deals, axis=1)) >= seen - 1e-9).sum())
    return ShiftTest(seen, (1 + as_large) / (1 + permutations), int((~is_new).sum()), int(is_new.sum()))
