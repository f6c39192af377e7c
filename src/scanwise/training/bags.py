"""Training of a network whose unit is the person: a batch is so many people, each a bag of scans with one label.

Memory is bounded by `model.bag`: of a person with more scans so many are drawn in each epoch, kept in anatomical order. In
validation all scans count; they pass through the network in pieces, and the answers are pooled at the end.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from scanwise.models.bags import pool_bags
from scanwise.pooling import common_label, subject_codes
from scanwise.records import IntArray, StrArray
from scanwise.training.augment import apply_augmentations, draw_augmentations
from scanwise.training.loaders import Batch, FeatureDataset, ScanDataset
from scanwise.training.module import ClassifierModule, StepResult, channels_first, unpack
from scanwise.training.sampling import EpochOrder, derive_seed

BAG = -2  # separates the seeds of bags from those of epochs and views


@dataclass(frozen=True, slots=True)
class Bags:
    """People of one side.

    Attributes:
        positions: for each of P people the positions of the scans in the side.
        labels: (P,) the most common label of the scans of each.
        subjects: (P,) names.
    """

    positions: tuple[IntArray, ...]
    labels: IntArray
    subjects: StrArray

    @classmethod
    def of(cls, subjects: StrArray, labels: IntArray) -> Self:
        """People of the scans (N,) of a side, in order of first appearance."""
        codes, names = subject_codes(subjects, len(labels))
        order = np.argsort(codes, kind="stable")
        positions = np.split(order, np.cumsum(np.bincount(codes))[:-1])
        return cls(tuple(positions), common_label(labels, codes, int(labels.max(initial=0)) + 1), names)

    @property
    def sizes(self) -> list[int]:
        """Number of scans of each person."""
        return [len(own) for own in self.positions]


class BagDataset(Dataset[Batch]):
    """Bags of one side; a batch is (scans of all bags, labels (B,), sizes (B,), tokens if there are any).

    Args:
        scans: of the side.
        bags: its people.
        most: scans of a person in a batch.
        seed: of the draws among more.
        order: with the current epoch, which the draws depend on.
    """

    def __init__(
        self, scans: ScanDataset | FeatureDataset, bags: Bags, most: int, seed: int, order: EpochOrder
    ) -> None:
        self.scans, self.bags, self.most, self.seed, self.order = scans, bags, most, seed, order

    def __len__(self) -> int:
        return len(self.bags.positions)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, people: list[int]) -> Batch:
        chosen = [self.draw(person) for person in people]
        scans, _, *words = self.scans.__getitems__(np.concatenate(chosen).tolist())
        sizes = torch.tensor([len(own) for own in chosen])
        return scans, torch.from_numpy(self.bags.labels[people]), sizes, *words

    def draw(self, person: int) -> IntArray:
        """Positions of the scans of a person in this epoch, in anatomical order."""
        own = self.bags.positions[person]
        if len(own) <= self.most:
            return own
        random = np.random.default_rng(derive_seed(self.seed, BAG, self.order.epoch, person))
        return own[np.sort(random.choice(len(own), self.most, replace=False))]


class BagClassifier(ClassifierModule):
    """Classifier of people.

    Args:
        arguments, more: of `ClassifierModule`.
        people: of the validation side.
    """

    def __init__(self, *arguments: Any, people: Bags, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.people = people

    def _loss_of_batch(self, batch: Batch, batch_idx: int) -> StepResult:
        whole = self._total_size(batch, batch_idx)
        scans, labels, sizes, *words = batch
        if not self.phase.section.is_cached:
            changes = draw_augmentations(len(scans), self.train_section.augment, self.generator)
            scans = apply_augmentations(channels_first(scans), changes)
        outputs = self._outputs(self.network, scans, words[0] if words else None)
        logits = pool_bags(outputs[:, :-1], outputs[:, -1], sizes.tolist())
        loss = self._loss(logits, labels) * self._process_factor(labels, logits, whole)
        own = len(labels) if self.share.counts(whole) else 0
        return StepResult(loss, logits.detach(), labels, whole / self.share.size, own)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        scans, labels, tokens = unpack(batch)
        images = scans if self.phase.section.is_cached else channels_first(scans)
        self.batches.append((self._outputs(self.evaluated, images, tokens).float(), labels))

    def _pooled(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(np.concatenate(self.people.positions)).to(logits.device)
        pooled = pool_bags(logits[rows, :-1], logits[rows, -1], self.people.sizes)
        return pooled, torch.from_numpy(self.people.labels).to(labels)

    def _outputs(self, network: Any, scans: Tensor, tokens: Tensor | None) -> Tensor:
        """(N, C + 1) logits of each scan alone, and its attention."""
        maps = scans if self.phase.section.is_cached else network.forward_features(scans)
        logits = network.forward_head(maps, tokens=tokens)
        if network.scan_attention is None:
            return torch.nn.functional.pad(logits, (0, 1))
        scores = network.score_scans(network.forward_head(maps, pre_logits=True, tokens=tokens))
        return torch.cat([logits, scores.to(logits)], dim=1)
