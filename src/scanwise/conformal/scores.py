"""How strange each class is for a scan: the scores that prediction sets are cut from.

Of every score three questions are asked: that of the labels, that of all classes, and which classes lie within a
threshold. The first needs no sort and the last sorts values only, which is what makes large problems fast.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scanwise.records import BoolArray, FloatArray, IntArray

ROUNDING = 1e-10
"""Scores are sums; those that should equal the threshold may miss it by this, and then they count as equal."""


FEW = 8
"""Up to so many classes every pair of them is compared; beyond, rows are sorted."""


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """How strange classes are.

    Attributes:
        of_labels: (probs, labels, draws, penalty, k_reg) to the score of each row's label (N,).
        of_all: (probs, draws, penalty, k_reg) to the score of every class (N, C).
        within: (probs, threshold, draws, penalty, k_reg) to the classes not stranger than the threshold (N, C).
        regularised: whether lambda means anything.
        ranked: whether k_reg does.
    """

    of_labels: Callable[[FloatArray, IntArray, FloatArray, float, int], FloatArray]
    of_all: Callable[[FloatArray, FloatArray, float, int], FloatArray]
    within: Callable[[FloatArray, float, FloatArray, float, int], BoolArray]
    regularised: bool = False
    ranked: bool = False


def _lac_labels(probs: FloatArray, labels: IntArray, draws: FloatArray, penalty: float, k_reg: int) -> FloatArray:
    return 1 - probs[np.arange(len(labels)), labels].astype(np.float64)


def _lac_all(probs: FloatArray, draws: FloatArray, penalty: float, k_reg: int) -> FloatArray:
    return 1 - probs.astype(np.float64)


def _lac_within(probs: FloatArray, threshold: float, draws: FloatArray, penalty: float, k_reg: int) -> BoolArray:
    return np.asarray(probs >= 1 - threshold - ROUNDING)


def _raps_labels(probs: FloatArray, labels: IntArray, draws: FloatArray, penalty: float, k_reg: int) -> FloatArray:
    """Mass of the classes before the label, a draw's share of its own, and the penalty of its rank.

    Classes as probable as the label come before it when their index is lower.
    """
    scores = np.empty(len(labels))
    for rows in _blocks(probs):
        own, mass, rank = _before(probs[rows], labels[rows])
        scores[rows] = mass + draws[rows] * own + penalty * np.maximum(rank - k_reg, 0)
    return scores


def _before(block: FloatArray, label: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(N,) the label's own mass, (N,) the mass of the classes before it, and (N,) its rank."""
    own = block[np.arange(len(block)), label]
    few = block.shape[1] <= FEW
    return own, *(_before_few(block.T, own, label) if few else _before_many(block, own, label))


def _before_few(columns: FloatArray, own: FloatArray, label: IntArray) -> tuple[FloatArray, FloatArray]:
    """(N,) mass of the classes before the label, and (N,) its rank, class by class over whole columns (C, N)."""
    mass, rank = np.zeros(len(own)), np.ones(len(own))
    for index, column in enumerate(columns):
        before = (column > own) | ((column == own) & (index < label))
        mass += column * before
        rank += before
    return mass, rank


def _before_many(block: FloatArray, own: FloatArray, label: IntArray) -> tuple[FloatArray, FloatArray]:
    """The same, row by row; ties are rare there and are looked at again."""
    more = block > own[:, None]
    rank = 1.0 + np.count_nonzero(more, axis=1)
    mass = (block * more).sum(axis=1, dtype=np.float64)
    tied = np.flatnonzero(np.count_nonzero(block >= own[:, None], axis=1) > rank)
    earlier = (block[tied] == own[tied, None]) & (np.arange(block.shape[1]) < label[tied, None])
    mass[tied] += earlier.sum(axis=1) * own[tied].astype(np.float64)
    rank[tied] += earlier.sum(axis=1)
    return mass, rank


def _raps_all(probs: FloatArray, draws: FloatArray, penalty: float, k_reg: int) -> FloatArray:
    return _scores_along(probs, _downwards(probs), draws, penalty, k_reg, _summed)


def _raps_within(probs: FloatArray, threshold: float, draws: FloatArray, penalty: float, k_reg: int) -> BoolArray:
    """The classes not stranger than the threshold: for few classes each by its score, for many by one sort."""
    sets = np.empty(probs.shape, dtype=np.bool_)
    for rows in _blocks(probs):
        if probs.shape[1] <= FEW:
            columns = np.ascontiguousarray(probs[rows].T)
            for index, own in enumerate(columns):
                mass, rank = _before_few(columns, own, np.array(index))
                scores = mass + draws[rows] * own + penalty * np.maximum(rank - k_reg, 0)
                sets[rows, index] = scores <= threshold + ROUNDING
        else:
            sets[rows] = _within_sorted(probs[rows], threshold, draws[rows, None], penalty, k_reg, _summed)
    return sets


ByRank = Callable[[FloatArray, FloatArray, float, int], FloatArray]
"""(probabilities in the order of classes (N, W), draws (N, 1), penalty, k_reg) to the scores of the first W ranks."""


def _summed(own: FloatArray, draws: FloatArray, penalty: float, k_reg: int) -> FloatArray:
    scores = np.cumsum(own, axis=1, dtype=np.float64) - own * (1 - draws)
    scores += penalty * np.maximum(np.arange(1, own.shape[1] + 1) - k_reg, 0)
    return scores


def _counted(own: FloatArray, draws: FloatArray, penalty: float, k_reg: int) -> FloatArray:
    """SAPS: of the probabilities only the largest is believed; every rank after it costs the same."""
    top = own[:, :1].astype(np.float64)
    scores: FloatArray = top + penalty * (np.arange(own.shape[1]) - 1 + draws)
    scores[:, :1] = draws * top
    return scores


def _within_sorted(
    block: FloatArray, threshold: float, draws: FloatArray, penalty: float, k_reg: int, by_rank: ByRank
) -> BoolArray:
    """Scores grow with the rank, so a set is the most probable so many: a sort of values says how many.

    Only so many ranks are summed as it takes to pass the threshold in every row. The set is then every class at least
    as probable as the last one in it, except in the rare rows where the first one out is as probable: there the
    indices decide.
    """
    place, num_classes = np.arange(len(block)), block.shape[1]
    down = np.sort(block, axis=1)[:, ::-1]
    width = 16
    while True:
        scores = by_rank(down[:, :width], draws, penalty, k_reg)
        if width >= num_classes or (scores[:, -1] > threshold + ROUNDING).all():
            break
        width *= 4
    size = np.count_nonzero(scores <= threshold + ROUNDING, axis=1)
    last = np.where(size > 0, down[place, np.maximum(size - 1, 0)], np.inf).astype(block.dtype)
    chosen: BoolArray = block >= last[:, None]
    next_one = down[place, np.minimum(size, num_classes - 1)]
    tied = np.flatnonzero((size > 0) & (size < num_classes) & (next_one == last))
    if len(tied):
        order = _downwards(block[tied])
        cut = np.empty((len(tied), num_classes), dtype=np.bool_)
        np.put_along_axis(cut, order, np.arange(num_classes) < size[tied, None], axis=1)
        chosen[tied] = cut
    return chosen


def _aps_labels(probs: FloatArray, labels: IntArray, draws: FloatArray, penalty: float, k_reg: int) -> FloatArray:
    return _raps_labels(probs, labels, draws, 0.0, 0)


def _aps_all(probs: FloatArray, draws: FloatArray, penalty: float, k_reg: int) -> FloatArray:
    return _raps_all(probs, draws, 0.0, 0)


def _aps_within(probs: FloatArray, threshold: float, draws: FloatArray, penalty: float, k_reg: int) -> BoolArray:
    return _raps_within(probs, threshold, draws, 0.0, 0)


def _saps_labels(probs: FloatArray, labels: IntArray, draws: FloatArray, penalty: float, k_reg: int) -> FloatArray:
    scores = np.empty(len(labels))
    for rows in _blocks(probs):
        _, _, rank = _before(probs[rows], labels[rows])
        top, draw = probs[rows].max(axis=1).astype(np.float64), draws[rows]
        scores[rows] = np.where(rank == 1, draw * top, top + penalty * (rank - 2 + draw))
    return scores


def _saps_all(probs: FloatArray, draws: FloatArray, penalty: float, k_reg: int) -> FloatArray:
    return _scores_along(probs, _downwards(probs), draws, penalty, k_reg, _counted)


def _saps_within(probs: FloatArray, threshold: float, draws: FloatArray, penalty: float, k_reg: int) -> BoolArray:
    sets = np.empty(probs.shape, dtype=np.bool_)
    for rows in _blocks(probs):
        sets[rows] = _within_sorted(probs[rows], threshold, draws[rows, None], penalty, k_reg, _counted)
    return sets


def _ordinal_labels(probs: FloatArray, labels: IntArray, draws: FloatArray, penalty: float, k_reg: int) -> FloatArray:
    return np.take_along_axis(_ordinal_all(probs, draws, penalty, k_reg), labels[:, None], axis=1)[:, 0]


def _ordinal_all(probs: FloatArray, draws: FloatArray, penalty: float, k_reg: int) -> FloatArray:
    return _scores_along(probs, _outwards(probs), draws, 0.0, 0, _summed)


def _ordinal_within(probs: FloatArray, threshold: float, draws: FloatArray, penalty: float, k_reg: int) -> BoolArray:
    return np.asarray(_ordinal_all(probs, draws, penalty, k_reg) <= threshold + ROUNDING)


def _outwards(probs: FloatArray) -> IntArray:
    """(N, C) classes in the order in which an interval around the mode takes in the more probable neighbour."""
    count, num_classes = probs.shape
    fenced = np.full((count, num_classes + 2), -1.0)
    fenced[:, 1:-1] = probs
    order, row = np.empty((count, num_classes), dtype=np.int64), np.arange(count)
    order[:, 0] = probs.argmax(axis=1)
    low, high = order[:, 0].copy(), order[:, 0].copy()
    for step in range(1, num_classes):
        downwards = fenced[row, low] >= fenced[row, high + 2]
        low, high = low - downwards, high + ~downwards
        order[:, step] = np.where(downwards, low, high)
    return order


def _downwards(probs: FloatArray) -> IntArray:
    """(N, C) classes from the most probable on; of those as probable the lower index comes first."""
    return np.argsort(-probs, axis=1, kind="stable")


def _scores_along(
    probs: FloatArray, order: IntArray, draws: FloatArray, penalty: float, k_reg: int, by_rank: ByRank
) -> FloatArray:
    """(N, C) the score of every class when classes come in this order (N, C)."""
    own = np.take_along_axis(probs, order, axis=1)
    found = np.empty(probs.shape)
    np.put_along_axis(found, order, by_rank(own, draws[:, None], penalty, k_reg), axis=1)
    return found


SCORES: dict[str, ScoreSpec] = {
    "lac": ScoreSpec(_lac_labels, _lac_all, _lac_within),  # Sadinle et al. 2019
    "aps": ScoreSpec(_aps_labels, _aps_all, _aps_within),  # Romano et al. 2020
    "raps": ScoreSpec(_raps_labels, _raps_all, _raps_within, regularised=True, ranked=True),  # Angelopoulos et al. 2021
    "saps": ScoreSpec(_saps_labels, _saps_all, _saps_within, regularised=True),  # Huang et al. 2024
    "ordinal": ScoreSpec(_ordinal_labels, _ordinal_all, _ordinal_within),  # Lu et al. 2022
}


def _blocks(probs: FloatArray) -> Iterator[slice]:
    """Rows at a time, so that what is made of them stays in a processor's cache."""
    step = max(1, 65_536 // probs.shape[1])
    return (slice(start, start + step) for start in range(0, len(probs), step))
