"""Order and frequency of the training scans, from seed and epoch alone."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import BatchSampler, Sampler

from scanwise.errors import DataError
from scanwise.records import FloatArray, IntArray, StrArray

NEIGHBOURS = 5  # as in the paper of SMOTE


def derive_seed(*parts: int) -> int:
    """63-bit seed from a few numbers."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


class EpochOrder(Sampler[int]):
    """A new order every epoch: every scan once, or with `weights` as many draws with replacement.

    Args:
        count: number of scans.
        seed: of the run.
        first: first epoch of this stage.
        weights: (count,) probability of each scan, or None for every scan once.
    """

    def __init__(self, count: int, seed: int, first: int = 0, weights: FloatArray | None = None) -> None:
        self.count, self.seed, self.first, self.epoch = count, seed, first, first
        self.weights = None if weights is None else torch.from_numpy(weights)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning with the epoch, counted from the first of this stage."""
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
    """Part of every batch that one of several processes takes; together they train on the batch of one process.

    Attributes:
        rank: of the process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    def of(self, count: int) -> list[int]:
        """Positions of this process in a batch of that many scans; at least one, since all processes step together.

        >>> BatchShare(1, 2).of(5), BatchShare(3, 4).of(2)
        ([1, 3], [0])
        """
        return list(range(self.rank, count, self.size)) or [0]

    def counts(self, count: int) -> bool:
        """True if its part of such a batch counts; otherwise it only keeps step with the others."""
        return self.rank < count

    def evenly(self, count: int) -> list[int]:
        """Positions among all scans of a split, as many in every process: the last one is repeated to fill up.

        >>> [BatchShare(rank, 2).evenly(5) for rank in range(2)]
        [[0, 2, 4], [1, 3, 4]]
        """
        return [min(first + self.rank, count - 1) for first in range(0, count, self.size)]


class SharedBatchSampler(BatchSampler):
    """Batches of an order, cut to the part of this process.

    Args:
        order: of all scans.
        batch: batch size of all processes together.
        drop_last: leave out a last batch that is not whole.
        share: part of this process.
    """

    def __init__(self, order: EpochOrder, batch: int, drop_last: bool, share: BatchShare) -> None:
        super().__init__(order, batch, drop_last)
        self.share = share

    def __iter__(self) -> Iterator[list[int]]:
        return ([batch[position] for position in self.share.of(len(batch))] for batch in super().__iter__())

    def whole(self, index: int) -> int:
        """Number of scans of a batch in all processes together."""
        return min(self.batch_size, len(self.sampler) - index * self.batch_size)  # type: ignore[arg-type]


def sampling_weights(sampling: str, labels: IntArray, subjects: StrArray | None) -> FloatArray | None:
    """Probability of each scan under the recipe's `train.sampling`; None if every scan comes once.

    Args:
        sampling: `scans`, `smote` (which draws nothing twice), `classes`, `subjects`, or `classes_and_subjects`.
        labels: (N,) of the training scans.
        subjects: (N,) subject of each scan, or None if unknown.

    Returns:
        (N,) weights with sum 1.

    Raises:
        DataError: if subjects are needed and unknown.

    >>> sampling_weights("classes", np.array([0, 0, 0, 1]), None).round(3).tolist()
    [0.167, 0.167, 0.167, 0.5]
    """
    if sampling in ("scans", "smote"):
        return None
    if sampling == "classes":
        return _share(labels)
    if subjects is None:
        raise DataError(
            f"train.sampling is {sampling}, but the subjects are unknown. Pass --subject, or set train.sampling to classes."
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


def class_weights(
    labels: IntArray, num_classes: int, sampling: str = "scans", subjects: StrArray | None = None
) -> torch.Tensor:
    """(C,) weights inverse to how often a class is drawn, with mean 1 over the draws; 0 for a class without scans.

    Classes that the sampling evens out already are not evened out once more, which would make the rare one the most heeded.

    Args:
        labels: (N,) of the training scans.
        num_classes: C.
        sampling: as of `sampling_weights`; `smote` fills every class up to the largest.
        subjects: (N,) as of `sampling_weights`.

    >>> class_weights(np.array([0, 0, 0, 1]), 2).tolist(), class_weights(np.array([0, 0, 0, 1]), 2, "classes").tolist()
    ([0.6666666865348816, 2.0], [1.0, 1.0])
    """
    shares = sampling_weights("classes" if sampling == "smote" else sampling, labels, subjects)
    drawn = np.bincount(labels, weights=shares, minlength=num_classes)
    mean = drawn.sum() / (drawn > 0).sum()
    weights = np.divide(mean, drawn, out=np.zeros(num_classes), where=drawn > 0)
    return torch.tensor(weights, dtype=torch.float32)


def _share(values: IntArray | StrArray) -> FloatArray:
    """Weights that give every distinct value the same total."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    weights: FloatArray = 1 / (counts[inverse] * len(counts))
    return weights


@dataclass(frozen=True, slots=True)
class SyntheticScans:
    """Synthetic scans: points on the line between the features of two scans of one class.

    Attributes:
        base: (M,) positions among the training scans.
        other: (M,) of a near neighbour in the same class.
        share: (M,) position between the two, from 0 to 1.
    """

    base: IntArray
    other: IntArray
    share: FloatArray

    def __len__(self) -> int:
        return len(self.base)


NO_SYNTHETIC = SyntheticScans(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def smote(features: FloatArray, labels: IntArray, seed: int) -> SyntheticScans:
    """Synthetic scans that fill every class up to the size of the largest one (SMOTE, Chawla et al. 2002).

    Pass training scans only: a neighbour in another split would leak. A class of one scan has no neighbour and is repeated.

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
    """(n, k) positions of the nearest neighbours of each row; a single row is its own."""
    if len(features) == 1:
        return np.zeros((1, 1), np.int64)
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(features) - 1)).fit(features)
    near: IntArray = neighbours.kneighbors(return_distance=False)  # of the rows themselves, without each row itself
    return near
