"""Feature maps stand in for scans, those that SMOTE made lie between two of them, and the next batch is read in time."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
import toy
from torch.utils.data import DataLoader

from scanwise.training.features import Cached
from scanwise.training.loaders import Ahead, FeatureScans, Scans
from scanwise.training.sampling import EpochOrder, Synthetic

VIEWS = Cached(tuple(np.random.default_rng(view).normal(size=(6, 4)).astype(np.float16) for view in range(2)))
LABELS = np.array([0, 1, 0, 1, 2, 2])


def test_synthetic_scans_lie_between_their_two() -> None:
    made = Synthetic(np.array([4, 1]), np.array([5, 3]), np.array([0.25, 0.0]))
    scans = FeatureScans(VIEWS, LABELS, np.arange(12).reshape(6, 2), None, made)
    assert len(scans) == 8
    maps, labels, words = scans.__getitems__([6, 2, 7])
    array = VIEWS.arrays[0].astype(np.float32)
    np.testing.assert_allclose(maps, [0.75 * array[4] + 0.25 * array[5], array[2], array[1]], rtol=1e-5)
    assert labels.tolist() == [2, 0, 1]
    assert words.tolist() == [[8, 9], [4, 5], [2, 3]]
    one = scans[6]
    assert torch.equal(one[0], maps[0])


def test_each_epoch_has_its_view_counted_from_the_stage() -> None:
    order = EpochOrder(6, 0, first=3)
    scans = FeatureScans(VIEWS, LABELS, None, order)
    for epoch in range(4):
        order.set_epoch(epoch)
        maps, _ = scans.__getitems__([5, 1])
        assert np.array_equal(maps.numpy(), VIEWS.arrays[epoch % 2][[5, 1]].astype(np.float32))


def test_words_travel_with_their_scans() -> None:
    rows, words = np.array([7, 3]), np.arange(204).reshape(102, 2)
    images, labels, tokens = Scans(toy.store(), toy.LABELS, rows, words).__getitems__([1, 0])
    assert tokens.tolist() == words[[3, 7]].tolist()
    assert labels.tolist() == toy.LABELS[[3, 7]].tolist()
    assert np.array_equal(images.numpy(), toy.store().array[[3, 7]])


class Watched(Scans):
    """Says when each batch is read; the last cannot be, if it is to fail."""

    def __init__(self, failing: bool = False) -> None:
        super().__init__(toy.store(), toy.LABELS, np.arange(12))
        self.read = {first: threading.Event() for first in (0, 4, 8)}
        self.failing = failing

    def __getitems__(self, indices: list[int]) -> Any:
        self.read[indices[0]].set()
        if self.failing and indices[0] == 8:
            raise OSError("the disk is gone")
        return super().__getitems__(indices)


def _as_it_is(batch: Any) -> Any:
    return batch


def test_the_next_batch_is_read_while_one_is_used() -> None:
    scans = Watched()
    batches = iter(Ahead(scans, batch_size=4, collate_fn=_as_it_is))
    next(batches)
    assert scans.read[4].wait(60)
    assert not scans.read[8].is_set()


def test_batches_read_ahead_are_those_of_a_plain_loader_in_every_epoch() -> None:
    ahead = Ahead(Watched(), batch_size=4, collate_fn=_as_it_is)
    plain = DataLoader(Watched(), batch_size=4, collate_fn=_as_it_is)
    for _ in range(2):
        pairs = list(zip(ahead, plain, strict=True))
        assert len(pairs) == len(ahead) == 3
        assert all(torch.equal(mine, other) for pair in pairs for mine, other in zip(*pair, strict=True))


def test_a_batch_that_cannot_be_read_is_an_error_in_its_turn() -> None:
    batches = iter(Ahead(Watched(failing=True), batch_size=4, collate_fn=_as_it_is))
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(OSError, match="disk is gone"):
        next(batches)


def test_who_stops_early_leaves_no_thread_behind() -> None:
    batches = iter(Ahead(Watched(), batch_size=4, collate_fn=_as_it_is))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
