"""Ridge regression on people, solved exactly in the space of people: a Gram matrix a block of features, inner folds.

Each block is centred on the training people and divided by the mean diagonal of its Gram matrix there, so that every block
counts alike; the blocks' sum is the kernel. The strength is the one whose out-of-fold scores are nearest to the targets. The
same scores, of people that the member has not seen, place the cuts between the classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve

from scanwise.errors import TrainingError
from scanwise.records import BoolArray, FloatArray, IntArray

STRENGTHS = tuple(float(value) for value in 10.0 ** np.arange(-2, 2.01, 0.25))
"""Strengths that are tried, in units of the mean diagonal of a block."""
FEWEST = 10
"""People below which nothing is learnt."""
SHRINKAGE = 0.05
"""Part of the pooled variance of scores that is added to it for the cuts, and of the mean size of a class."""


@dataclass(frozen=True, slots=True)
class RidgeFit:
    """Members, one a fold of people.

    Attributes:
        weights: for each member (T), the weights of each block, (F, C), of features less their centre.
        centres: for each member, the centre of each block, (F,).
        bias: (T, C), the logits of a person at the centre.
        scores: (P, O) of the training people, each from the member that has not seen them.
        strength: of the ridge.
    """

    weights: tuple[tuple[FloatArray, ...], ...]
    centres: tuple[tuple[FloatArray, ...], ...]
    bias: FloatArray
    scores: FloatArray
    strength: float


def inner_folds(labels: IntArray, folds: int, seed: int) -> IntArray:
    """(P,) the inner fold of each person, class by class; the same for the same labels and seed.

    >>> np.bincount(inner_folds(np.array([0] * 7 + [1] * 3), 5, 0)).tolist()
    [2, 2, 2, 2, 2]
    """
    random, order = np.random.default_rng([seed, 271]), []
    for index in np.unique(labels):
        order += random.permutation(np.flatnonzero(labels == index)).tolist()
    turn = np.empty(len(labels), dtype=np.int64)
    turn[order] = np.arange(len(labels)) % folds
    return turn


def fit_ridge(
    blocks: Sequence[FloatArray],
    targets: FloatArray,
    labels: IntArray,
    folds: IntArray,
    num_classes: int,
    strengths: Sequence[float] = STRENGTHS,
    *,
    match_shares: bool = False,
) -> RidgeFit:
    """Fit one member a fold, choose the strength, and place the cuts.

    Args:
        blocks: of features, each (P, F), a row a person.
        targets: (P, O) to regress on.
        labels: (P,) class of each person.
        folds: (P,) from `inner_folds`.
        num_classes: C.
        strengths: to choose from.
        match_shares: place the cuts by `match_cuts`; for one score of ordered classes.

    Raises:
        TrainingError: if there are too few people, or nothing that differs between them.
    """
    count = int(folds.max()) + 1 if len(folds) else 0
    if len(labels) < max(count, FEWEST) or len(np.unique(labels)) < 2:
        raise TrainingError(
            f"{len(labels)} people of {len(np.unique(labels))} classes cannot teach subject_ridge with {count} inner folds. "
            "Lower model.ridge.folds, or bring more people."
        )
    kept = [folds != fold for fold in range(count)]
    grams = [_gram(block) for block in blocks]
    kernels = [_Kernel.of(blocks, grams, rows) for rows in kept]
    trials = np.stack([_out_of_fold(kernels, kept, targets, strength) for strength in strengths])
    best = int(((trials - targets) ** 2).mean(axis=(1, 2)).argmin())
    scores, strength = trials[best], strengths[best]
    slope, offset = (match_cuts if match_shares else cuts)(scores, labels, num_classes)
    weights, bias = [], []
    for kernel, rows in zip(kernels, kept, strict=True):
        dual, mean = kernel.dual(targets[rows], strength), targets[rows].mean(axis=0)
        own = tuple(
            scale * ((block[rows] - centre).T @ (dual @ slope))
            for block, centre, scale in zip(blocks, kernel.centres, kernel.scales, strict=True)
        )
        weights.append(own)
        bias.append(mean @ slope + offset)
    centres = tuple(kernel.centres for kernel in kernels)
    return RidgeFit(tuple(weights), centres, np.stack(bias), scores, strength)


def cuts(scores: FloatArray, labels: IntArray, num_classes: int) -> tuple[FloatArray, FloatArray]:
    """Slope (O, C) and offset (C,) of logits that are linear in the scores: normal classes of one spread (Fisher 1936).

    A class that is nowhere in `labels` has a logit far below all others.
    """
    there = np.bincount(labels, minlength=num_classes) > 0
    means = np.stack(
        [scores[labels == c].mean(axis=0) if there[c] else scores.mean(axis=0) for c in range(num_classes)]
    )
    left = scores - means[labels]
    spread = left.T @ left / max(len(scores) - int(there.sum()), 1)
    spread += (SHRINKAGE * np.trace(spread) / len(spread) + 1e-12) * np.eye(len(spread))
    slope = np.linalg.solve(spread, means.T)
    share = np.bincount(labels, minlength=num_classes) / len(labels)
    offset = np.log(np.maximum(share, 1e-12)) - 0.5 * np.einsum("co,oc->c", means, slope)
    return slope, offset


def match_cuts(scores: FloatArray, labels: IntArray, num_classes: int) -> tuple[FloatArray, FloatArray]:
    """Slope (1, C) and offset (C,) of logits by which each class is predicted as often as it occurs.

    The slopes are those of `cuts`; the score (N, 1) at which two neighbouring classes are equally probable moves to where the shares
    say. Cuts by probability alone seldom name the rarer stages, which costs agreement beyond chance (weighted kappa).
    """
    slope, offset = cuts(scores, labels, num_classes)
    there = np.flatnonzero(np.bincount(labels, minlength=num_classes))
    there = there[np.argsort(slope[0, there], kind="stable")]
    below = np.cumsum(np.bincount(labels, minlength=num_classes)[there])[:-1] / len(labels)
    borders = np.quantile(scores[:, 0], below)
    for lower, upper, border in zip(there[:-1], there[1:], borders, strict=True):
        offset[upper] = offset[lower] - (slope[0, upper] - slope[0, lower]) * border
    return slope, offset


def _gram(block: FloatArray) -> FloatArray:
    """(P, P) inner products of rows around the mean of all."""
    moved = block - block.mean(axis=0)
    return np.asarray((moved @ moved.T).astype(np.float64))


@dataclass(frozen=True, slots=True)
class _Kernel:
    """The kernel of the people that one member learns from.

    Attributes:
        centres, scales: of each block, from the rows that are kept.
        gram: (P, P) of all people.
        rows: (P,) who is kept.
    """

    centres: tuple[FloatArray, ...]
    scales: tuple[float, ...]
    gram: FloatArray
    rows: BoolArray

    @classmethod
    def of(cls, blocks: Sequence[FloatArray], grams: Sequence[FloatArray], rows: BoolArray) -> "_Kernel":
        centres, scales = [], []
        gram = np.zeros((len(rows), len(rows)))
        for block, inner in zip(blocks, grams, strict=True):
            centre = block[rows].mean(axis=0)
            towards = inner[:, rows].mean(axis=1)
            own = inner - towards[:, None] - towards + inner[np.ix_(rows, rows)].mean()
            size = float(np.diag(own)[rows].mean())
            scale = 0.0 if size <= 1e-12 else 1 / (size * len(blocks))
            centres.append(centre)
            scales.append(scale)
            gram += scale * own
        if not any(scales):
            raise TrainingError("All people have the same features; there is nothing to learn from.")
        return cls(tuple(centres), tuple(scales), gram, rows)

    def dual(self, targets: FloatArray, strength: float) -> FloatArray:
        inside = self.gram[np.ix_(self.rows, self.rows)]
        return np.asarray(
            solve(inside + strength * np.eye(len(inside)), targets - targets.mean(axis=0), assume_a="pos")
        )


def _out_of_fold(
    kernels: Sequence[_Kernel], kept: Sequence[BoolArray], targets: FloatArray, strength: float
) -> FloatArray:
    scores = np.empty_like(targets)
    for kernel, rows in zip(kernels, kept, strict=True):
        dual = kernel.dual(targets[rows], strength)
        scores[~rows] = kernel.gram[np.ix_(~rows, rows)] @ dual + targets[rows].mean(axis=0)
    return scores
