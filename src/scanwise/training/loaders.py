"""Batches for training and validation: pixels from the store, or feature maps from the cache."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scanwise.cohort.store import Store
from scanwise.records import IntArray
from scanwise.training.features import FeatureSource
from scanwise.training.sampling import NO_SYNTHETIC, BatchShare, EpochOrder, SharedBatchSampler, SyntheticScans

Batch = tuple[Tensor, ...]
"""Scans (n, H, W, C) uint8 or feature maps (n, …), labels (n,), and the words (n, L) of a network that reads them."""


class ScanDataset(Dataset[Batch]):
    """Scans of one side, a whole batch in one read.

    Args:
        store: of the cohort.
        labels: (N,) of the cohort.
        rows: of the side.
        tokens: (N, L) of the cohort's words, or None.
    """

    def __init__(self, store: Store, labels: IntArray, rows: IntArray, tokens: IntArray | None = None) -> None:
        self.store, self.labels, self.rows, self.tokens = store, labels, rows, tokens

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        return tuple(part[0] for part in self.__getitems__([index]))

    def __getitems__(self, indices: list[int]) -> Batch:
        rows = self.rows[indices]
        words = () if self.tokens is None else (torch.from_numpy(self.tokens[rows]),)
        return torch.from_numpy(self.store.read(rows)), torch.from_numpy(self.labels[rows]), *words


class FeatureDataset(Dataset[Batch]):
    """Feature maps of one side in the place of its scans, and after them those that SMOTE made.

    Args:
        source: of the maps.
        labels: (N,) of the side.
        tokens: (N, L) of the side's words, or None.
        order: says which epoch it is, and so which view; None for the first view always.
        synthetic: what lies between scans.
    """

    def __init__(
        self,
        source: FeatureSource,
        labels: IntArray,
        tokens: IntArray | None = None,
        order: EpochOrder | None = None,
        synthetic: SyntheticScans = NO_SYNTHETIC,
    ) -> None:
        self.source, self.labels, self.tokens = source, labels, tokens
        self.order, self.synthetic = order, synthetic

    def __len__(self) -> int:
        return len(self.source) + len(self.synthetic)

    def __getitem__(self, index: int) -> Batch:
        return tuple(part[0] for part in self.__getitems__([index]))

    def __getitems__(self, indices: list[int]) -> Batch:
        return self._batch(indices, None)

    def in_turn(self, batches: Iterable[list[int]]) -> Iterator[Batch]:
        """One batch after the other in the same memory, which spares a good part of reading: use each before the next."""
        place = torch.empty(0)
        for indices in batches:
            out = place[: len(indices)] if len(place) >= len(indices) else None
            batch = self._batch(indices, out)
            place = batch[0] if out is None else place
            yield batch

    def _batch(self, indices: list[int], out: Tensor | None) -> Batch:
        view = 0 if self.order is None else (self.order.epoch - self.order.first) % self.source.views
        chosen = np.asarray(indices, dtype=np.int64)
        between = chosen[chosen >= len(self.source)] - len(self.source)
        rows = chosen.copy()
        rows[chosen >= len(self.source)] = self.synthetic.base[between]
        maps = self.source.read(view, rows, out)
        if len(between):
            made = torch.from_numpy(chosen >= len(self.source)).to(maps.device)
            others = self.source.read(view, self.synthetic.other[between])
            share = torch.from_numpy(self.synthetic.share[between]).to(maps).reshape(-1, *[1] * (maps.ndim - 1))
            maps[made] += share * (others - maps[made])
        words = () if self.tokens is None else (torch.from_numpy(self.tokens[rows]),)
        return maps, torch.from_numpy(self.labels[rows]), *words


SINGLE_PROCESS = BatchShare()


def train_loader(
    scans: Dataset[Batch], order: EpochOrder, batch: int, share: BatchShare = SINGLE_PROCESS
) -> "DataLoader[Batch]":
    """Batches in an order of their own each epoch; a last batch of one scan is dropped (batch norm needs two).

    With several processes `batch` is what they have together, and each loads its share alone.
    """
    lonely = len(order) % batch == 1
    return DataLoader(scans, batch_sampler=SharedBatchSampler(order, batch, lonely, share), collate_fn=_as_is)


class BatchGroups:
    """Batches of kept features, several together: a step on them is so short that what Lightning does around each would show.

    A run reads a batch when it is asked for, in the place of the one before.

    Args:
        loader: of single batches.
    """

    LENGTH = 16

    def __init__(self, loader: "DataLoader[Batch]") -> None:
        self.scans: Any = loader.dataset
        self.batch_sampler: Any = loader.batch_sampler  # where Lightning looks for what must know the epoch

    def __len__(self) -> int:
        return -(-len(self.batch_sampler) // self.LENGTH)

    def __iter__(self) -> Iterator[Iterator[Batch]]:
        batches = self.scans.in_turn(self.batch_sampler)
        return (islice(batches, self.LENGTH) for _ in range(len(self)))


def validation_loader(scans: Dataset[Batch], batch: int, share: BatchShare = SINGLE_PROCESS) -> "DataLoader[Batch]":
    """All scans of a side in order; with several processes, the share of this one."""
    if share.size == 1:
        return DataLoader(scans, batch_size=batch, collate_fn=_as_is)
    mine = share.evenly(len(scans))  # type: ignore[arg-type]
    return DataLoader(scans, batch_size=-(-batch // share.size), sampler=mine, collate_fn=_as_is)


def _as_is(batch: Any) -> Any:
    return batch
