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
        strengths: of the ridge, for each member.
    """

    weights: tuple[tuple[FloatArray, ...], ...]
    centres: tuple[tuple[FloatArray, ...], ...]
    bias: FloatArray
    scores: FloatArray
    strengths: tuple[float, ...]


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
    apart: bool = False,
) -> RidgeFit:
    """Fit one member a fold, choose the strength, and place the cuts.

    Strength and cuts are those of all people's out-of-fold scores, or, `apart`, of the people that the member learns from, in
    inner folds once more: then nothing of a member depends on the people of its fold.

    Args:
        blocks: of features, each (P, F), a row a person.
        targets: (P, O) to regress on.
        labels: (P,) class of each person.
        folds: (P,) from `inner_folds`.
        num_classes: C.
        strengths: to choose from.
        match_shares: place the cuts by `match_cuts`; for one score of ordered classes.
        apart: choose strength and cuts for each member by itself; needs three folds or more.

    Raises:
        TrainingError: if there are too few people, or nothing that differs between them.
    """
    count = int(folds.max()) + 1 if len(folds) else 0
    if len(labels) < max(count, FEWEST) or len(np.unique(labels)) < 2:
        raise TrainingError(
            f"{len(labels)} people of {len(np.unique(labels))} classes cannot teach subject_ridge with {count} inner folds. "
            "Lower model.ridge.folds, or bring more people."
        )
    place_cuts, everyone = match_cuts if match_shares else cuts, np.ones(len(labels), dtype=np.bool_)
    grams, scores = [_gram(block) for block in blocks], np.empty_like(targets)
    shared = None if apart else _choose(grams, targets, folds, everyone, strengths)
    weights, centres, bias, chosen = [], [], [], []
    for fold in range(count):
        rows = folds != fold
        kernel = _Kernel.of(grams, rows)
        strength, seen = shared or _choose(grams, targets, folds, rows, strengths)
        learnt = rows if apart else everyone
        slope, offset = place_cuts(seen[learnt], labels[learnt], num_classes)
        dual, mean = kernel.dual(targets, strength), targets[rows].mean(axis=0)
        scores[~rows] = kernel.scores(dual, ~rows) + mean
        middle = tuple(block[rows].mean(axis=0) for block in blocks)
        weights.append(
            tuple(
                scale * ((block[rows] - centre).T @ (dual @ slope))
                for block, centre, scale in zip(blocks, middle, kernel.scales, strict=True)
            )
        )
        centres.append(middle)
        bias.append(mean @ slope + offset)
        chosen.append(strength)
    return RidgeFit(tuple(weights), tuple(centres), np.stack(bias), scores, tuple(chosen))


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
        scales: of each block, from the rows that are kept.
        gram: (P, P) of all people.
        rows: (P,) who is kept.
    """

    scales: tuple[float, ...]
    gram: FloatArray
    rows: BoolArray

    @classmethod
    def of(cls, grams: Sequence[FloatArray], rows: BoolArray) -> "_Kernel":
        scales, gram = [], np.zeros((len(rows), len(rows)))
        for inner in grams:
            towards = inner[:, rows].mean(axis=1)
            own = inner - towards[:, None] - towards + inner[np.ix_(rows, rows)].mean()
            size = float(np.diag(own)[rows].mean())
            scale = 0.0 if size <= 1e-12 else 1 / (size * len(grams))
            scales.append(scale)
            gram += scale * own
        if not any(scales):
            raise TrainingError("All people have the same features; there is nothing to learn from.")
        return cls(tuple(scales), gram, rows)

    def dual(self, targets: FloatArray, strength: float) -> FloatArray:
        """(K, O) of the people that are kept, from the targets (P, O) of all."""
        inside, own = self.gram[np.ix_(self.rows, self.rows)], targets[self.rows]
        return np.asarray(solve(inside + strength * np.eye(len(inside)), own - own.mean(axis=0), assume_a="pos"))

    def scores(self, dual: FloatArray, others: BoolArray) -> FloatArray:
        """(M, O) of these people, less the mean target."""
        return np.asarray(self.gram[np.ix_(others, self.rows)] @ dual)


def _choose(
    grams: Sequence[FloatArray], targets: FloatArray, folds: IntArray, learning: BoolArray, strengths: Sequence[float]
) -> tuple[float, FloatArray]:
    """The strength whose scores of left-out people are nearest to their targets, and these scores (P, O) of the learning ones."""
    kernels = [_Kernel.of(grams, learning & (folds != fold)) for fold in np.unique(folds[learning])]
    trials = np.zeros((len(strengths), *targets.shape))
    for trial, strength in zip(trials, strengths, strict=True):
        for kernel in kernels:
            left_out = learning & ~kernel.rows
            trial[left_out] = kernel.scores(kernel.dual(targets, strength), left_out) + targets[kernel.rows].mean(
                axis=0
            )
    best = int(((trials - targets)[:, learning] ** 2).mean(axis=(1, 2)).argmin())
    return strengths[best], trials[best]
