"""Nonconformity scores: how poorly each class fits a scan; prediction sets hold the classes below a threshold.

`SCORES` has one row a score. A row needs one function, the score of every class. Two more may be given for speed: the
score of the labels alone, which needs no sort, and the classes within a threshold, which sorts values only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scanwise.records import BoolArray, FloatArray, IntArray

ROUNDING = 1e-10
"""Scores are sums; those that should equal the threshold may miss it by this, and then they count as equal."""


FEW = 8
"""Up to so many classes every pair of them is compared; beyond, rows are sorted."""


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """One conformal score.

    Attributes:
        name: the key in recipes and on the command line.
        title: its full name.
        source: the publication.
        of_all: (probs, draws, penalty, k_reg) to the score of every class (N, C); higher fits worse.
        tunable: the parameters that the score reads: "penalty" (lambda), "k_reg".
        needs_order: whether classes must be in order.
        randomised: whether the score reads draws.
        label_scores: (probs, labels, draws, penalty, k_reg) to the score of each row's label (N,); None for the entries
            of `of_all`.
        set_members: (probs, threshold, draws, penalty, k_reg) to the classes within the threshold (N, C); None for a
            comparison with `of_all`.
    """

    name: str
    title: str
    source: str
    of_all: Callable[[FloatArray, FloatArray, float, int], FloatArray]
    tunable: tuple[Literal["penalty", "k_reg"], ...] = ()
    needs_order: bool = False
    randomised: bool = True
    label_scores: Callable[[FloatArray, IntArray, FloatArray, float, int], FloatArray] | None = None
    set_members: Callable[[FloatArray, float, FloatArray, float, int], BoolArray] | None = None

    def of_labels(
        self, probs: FloatArray, labels: IntArray, draws: FloatArray, penalty: float, k_reg: int
    ) -> FloatArray:
        """(N,) the score of each row's label."""
        if self.label_scores is not None:
            return self.label_scores(probs, labels, draws, penalty, k_reg)
        return np.take_along_axis(self.of_all(probs, draws, penalty, k_reg), labels[:, None], axis=1)[:, 0]

    def within(self, probs: FloatArray, threshold: float, draws: FloatArray, penalty: float, k_reg: int) -> BoolArray:
        """(N, C) the classes whose score is at most the threshold."""
        if self.set_members is not None:
            return self.set_members(probs, threshold, draws, penalty, k_reg)
        return np.asarray(self.of_all(probs, draws, penalty, k_reg) <= threshold + ROUNDING)


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
    """The classes within the threshold: for few classes each by its score, for many by one sort."""
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
    """SAPS: of the probabilities only the largest counts; every rank after it costs the same."""
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
    row, num_classes = np.arange(len(block)), block.shape[1]
    down = np.sort(block, axis=1)[:, ::-1]
    width = 16
    while True:
        scores = by_rank(down[:, :width], draws, penalty, k_reg)
        if width >= num_classes or (scores[:, -1] > threshold + ROUNDING).all():
            break
        width *= 4
    size = np.count_nonzero(scores <= threshold + ROUNDING, axis=1)
    last = np.where(size > 0, down[row, np.maximum(size - 1, 0)], np.inf).astype(block.dtype)
    chosen: BoolArray = block >= last[:, None]
    next_one = down[row, np.minimum(size, num_classes - 1)]
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


def _ordinal_all(probs: FloatArray, draws: FloatArray, penalty: float, k_reg: int) -> FloatArray:
    return _scores_along(probs, _outwards(probs), draws, 0.0, 0, _summed)


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
    scores = np.empty(probs.shape)
    np.put_along_axis(scores, order, by_rank(own, draws[:, None], penalty, k_reg), axis=1)
    return scores


_ROWS = (
    ScoreSpec(
        name="lac",
        title="least ambiguous classes (LAC)",
        source="Sadinle et al. 2019",
        of_all=_lac_all,
        randomised=False,
        label_scores=_lac_labels,
        set_members=_lac_within,
    ),
    ScoreSpec(
        name="aps",
        title="adaptive prediction sets (APS)",
        source="Romano et al. 2020",
        of_all=_aps_all,
        label_scores=_aps_labels,
        set_members=_aps_within,
    ),
    ScoreSpec(
        name="raps",
        title="regularised adaptive prediction sets (RAPS)",
        source="Angelopoulos et al. 2021",
        of_all=_raps_all,
        tunable=("penalty", "k_reg"),
        label_scores=_raps_labels,
        set_members=_raps_within,
    ),
    ScoreSpec(
        name="saps",
        title="sorted adaptive prediction sets (SAPS)",
        source="Huang et al. 2024",
        of_all=_saps_all,
        tunable=("penalty",),
        label_scores=_saps_labels,
        set_members=_saps_within,
    ),
    ScoreSpec(
        name="ordinal",
        title="ordinal adaptive prediction sets",
        source="Lu et al. 2022",
        of_all=_ordinal_all,
        needs_order=True,
    ),
)
SCORES: dict[str, ScoreSpec] = {row.name: row for row in _ROWS}
"""Every conformal score, by name."""


def _blocks(probs: FloatArray) -> Iterator[slice]:
    """Rows at a time, so that what is made of them stays in a processor's cache."""
    step = max(1, 65_536 // probs.shape[1])
    return (slice(start, start + step) for start in range(0, len(probs), step))
