"""Batches for training and validation: pixels of the store, or cached feature maps."""

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
"""Scans (n, H, W, C) uint8 or feature maps (n, …), labels (n,), and tokens (n, L) for a network that reads words."""


class ScanDataset(Dataset[Batch]):
    """Scans of one split, a whole batch in one read.

    Args:
        store: store of the cohort.
        labels: (N,) labels of the cohort.
        rows: rows of the split.
        tokens: (N, L) tokens of the cohort, or None.
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
    """Feature maps of the scans of one split, followed by synthetic ones from SMOTE.

    Args:
        source: source of the maps.
        labels: (N,) labels of the split.
        tokens: (N, L) tokens of the split, or None.
        order: order with the current epoch, which sets the view; None for the first view always.
        synthetic: synthetic scans between real ones.
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

    def batches_in_place(self, batches: Iterable[list[int]]) -> Iterator[Batch]:
        """Batches in the same memory, which saves much of the reading: use each before the next."""
        memory = torch.empty(0)
        for indices in batches:
            out = memory[: len(indices)] if len(memory) >= len(indices) else None
            batch = self._batch(indices, out)
            memory = batch[0] if out is None else memory
            yield batch

    def _batch(self, indices: list[int], out: Tensor | None) -> Batch:
        view = 0 if self.order is None else (self.order.epoch - self.order.first) % self.source.views
        chosen = np.asarray(indices, dtype=np.int64)
        between = chosen[chosen >= len(self.source)] - len(self.source)
        rows = chosen.copy()
        rows[chosen >= len(self.source)] = self.synthetic.base[between]
        maps = self.source.read(view, rows, out)
        if len(between):
            synthetic = torch.from_numpy(chosen >= len(self.source)).to(maps.device)
            others = self.source.read(view, self.synthetic.other[between])
            share = torch.from_numpy(self.synthetic.share[between]).to(maps).reshape(-1, *[1] * (maps.ndim - 1))
            maps[synthetic] += share * (others - maps[synthetic])
        words = () if self.tokens is None else (torch.from_numpy(self.tokens[rows]),)
        return maps, torch.from_numpy(self.labels[rows]), *words


SINGLE_PROCESS = BatchShare()


def train_loader(
    scans: Dataset[Batch], order: EpochOrder, batch: int, share: BatchShare = SINGLE_PROCESS
) -> "DataLoader[Batch]":
    """Batches in a new order each epoch; a last batch of one scan is dropped (batch norm needs two).

    With several processes `batch` is their total, and each loads its part only.
    """
    lonely = len(order) % batch == 1
    return DataLoader(scans, batch_sampler=SharedBatchSampler(order, batch, lonely, share), collate_fn=_keep_batch)


class BatchGroups:
    """Groups of batches of cached features: steps on them are so short that Lightning's overhead around each would show.

    A group reads a batch when it is needed, into the memory of the one before.

    Args:
        loader: loader of single batches.
    """

    LENGTH = 16

    def __init__(self, loader: "DataLoader[Batch]") -> None:
        self.scans: Any = loader.dataset
        self.batch_sampler: Any = loader.batch_sampler  # here Lightning looks for set_epoch

    def __len__(self) -> int:
        return -(-len(self.batch_sampler) // self.LENGTH)

    def __iter__(self) -> Iterator[Iterator[Batch]]:
        batches = self.scans.batches_in_place(self.batch_sampler)
        return (islice(batches, self.LENGTH) for _ in range(len(self)))


def validation_loader(scans: Dataset[Batch], batch: int, share: BatchShare = SINGLE_PROCESS) -> "DataLoader[Batch]":
    """All scans of a split in order; with several processes, the part of this one."""
    if share.size == 1:
        return DataLoader(scans, batch_size=batch, collate_fn=_keep_batch)
    positions = share.evenly(len(scans))  # type: ignore[arg-type]
    return DataLoader(scans, batch_size=-(-batch // share.size), sampler=positions, collate_fn=_keep_batch)


def _keep_batch(batch: Any) -> Any:
    return batch
