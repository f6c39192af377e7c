"""In which order scans are learnt from, and how often each: told by the seed and the epoch alone."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import BatchSampler, Sampler

from scanwise.errors import DataError
from scanwise.records import FloatArray, IntArray, StrArray

NEIGHBOURS = 5  # of SMOTE, the number of its paper


def derive_seed(*parts: int) -> int:
    """A 63-bit seed from a few numbers, all of which matter."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


class EpochOrder(Sampler[int]):
    """A new order every epoch: every scan once, or with `weights` as many draws with replacement.

    Args:
        count: of scans.
        seed: of the run.
        first: the epoch that this training begins with.
        weights: (count,) how likely each scan is, or None for every scan once.
    """

    def __init__(self, count: int, seed: int, first: int = 0, weights: FloatArray | None = None) -> None:
        self.count, self.seed, self.first, self.epoch = count, seed, first, first
        self.weights = None if weights is None else torch.from_numpy(weights)

    def set_epoch(self, epoch: int) -> None:
        """Lightning says which epoch it is, counted from the first of this training."""
        self.epoch = self.first + epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        if self.weights is None:
            return iter(torch.randperm(self.count, generator=generator).tolist())
        return iter(torch.multinomial(self.weights, self.count, replacement=True, generator=generator).tolist())


@dataclass(frozen=True, slots=True)
class BatchShare:
    """What one of several processes takes of every batch, so that together they learn from the batch of one.

    Attributes:
        rank: of the process, from 0.
        size: how many processes there are.
    """

    rank: int = 0
    size: int = 1

    def of(self, count: int) -> list[int]:
        """Positions of this process in a batch of that many scans; never none, since all must make the step together.

        >>> Share(1, 2).of(5), Share(3, 4).of(2)
        ([1, 3], [0])
        """
        return list(range(self.rank, count, self.size)) or [0]

    def counts(self, count: int) -> bool:
        """Whether what it takes of such a batch is its own; else it only keeps step with the others."""
        return self.rank < count

    def evenly(self, count: int) -> list[int]:
        """Positions among all scans of a side, as many in every process: the last one is repeated where they do not go round.

        >>> [Share(rank, 2).evenly(5) for rank in range(2)]
        [[0, 2, 4], [1, 3, 4]]
        """
        return [min(first + self.rank, count - 1) for first in range(0, count, self.size)]


class SharedBatchSampler(BatchSampler):
    """The batches of an order, and of each the share of this process.

    Args:
        order: of all scans.
        batch: scans in one step of all processes together.
        drop_last: leave out a last batch that is not whole.
        share: of this process.
    """

    def __init__(self, order: EpochOrder, batch: int, drop_last: bool, share: BatchShare) -> None:
        super().__init__(order, batch, drop_last)
        self.share = share

    def __iter__(self) -> Iterator[list[int]]:
        return ([batch[position] for position in self.share.of(len(batch))] for batch in super().__iter__())

    def whole(self, index: int) -> int:
        """How many scans all processes together have in a batch."""
        return min(self.batch_size, len(self.sampler) - index * self.batch_size)  # type: ignore[arg-type]


def sampling_weights(sampling: str, labels: IntArray, subjects: StrArray | None) -> FloatArray | None:
    """How likely each scan is to be drawn, as the recipe's `train.sampling` says; None where every scan comes once.

    Args:
        sampling: `scans`, `smote` (which draws nothing twice), `classes`, `subjects`, or `classes_and_subjects`.
        labels: (N,) of the training scans.
        subjects: (N,) who they are of, or None if nobody knows.

    Returns:
        (N,) weights with sum 1.

    Raises:
        DataError: if subjects are asked for and not known.

    >>> weigh("classes", np.array([0, 0, 0, 1]), None).round(3).tolist()
    [0.167, 0.167, 0.167, 0.5]
    """
    if sampling in ("scans", "smote"):
        return None
    if sampling == "classes":
        return _share(labels)
    if subjects is None:
        raise DataError(
            f"train.sampling is {sampling}, but nobody said who is who. Say it with --subject, or set train.sampling to classes."
        )
    if sampling == "subjects":
        return _share(subjects)
    # In a class every subject counts once; a subject with scans of two classes is one in each.
    cells, inverse = np.unique(np.stack([labels.astype(str), subjects.astype(str)]), axis=1, return_inverse=True)
    counts = np.bincount(inverse.reshape(-1))
    _, class_of_cell = np.unique(cells[0], return_inverse=True)
    cells_of_class = np.bincount(class_of_cell)
    weights: FloatArray = 1 / (counts * cells_of_class[class_of_cell] * len(cells_of_class))[inverse.reshape(-1)]
    return weights


def _share(values: IntArray | StrArray) -> FloatArray:
    """Each distinct value together as likely as any other."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    weights: FloatArray = 1 / (counts[inverse] * len(counts))
    return weights


@dataclass(frozen=True, slots=True)
class SyntheticScans:
    """Scans that are none: points on the line between two scans of one class, in the space of features.

    Attributes:
        base: (M,) positions among the training scans.
        other: (M,) of a near neighbour in the same class.
        share: (M,) how far from the one to the other, 0 to 1.
    """

    base: IntArray
    other: IntArray
    share: FloatArray

    def __len__(self) -> int:
        return len(self.base)


NO_SYNTHETIC = SyntheticScans(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def smote(features: FloatArray, labels: IntArray, seed: int) -> SyntheticScans:
    """Fill every class up to the size of the largest one (SMOTE, Chawla et al. 2002).

    Only training scans may come in here: a neighbour on another side would leak it. A class of one scan has no neighbour
    and is repeated.

    Args:
        features: (N, D) of the training scans.
        labels: (N,) of the same.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    bases, others = [], []
    for name, count in zip(classes, counts, strict=True):
        rows = np.flatnonzero(labels == name)
        chosen = random.integers(0, count, counts.max() - count)
        near = _nearest(features[rows])
        bases.append(rows[chosen])
        others.append(rows[near[chosen, random.integers(0, near.shape[1], len(chosen))]])
    base, other = np.concatenate(bases), np.concatenate(others)
    return SyntheticScans(base, other, random.random(len(base)))


def _nearest(features: FloatArray) -> IntArray:
    """(n, k) positions of the nearest others of each row; of a single row, itself."""
    if len(features) == 1:
        return np.zeros((1, 1), np.int64)
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(features) - 1)).fit(features)
    near: IntArray = found.kneighbors(return_distance=False)  # of the rows themselves, without each row itself
    return near
