"""Feature maps stand in for scans, and those that SMOTE made lie between two of them."""

import numpy as np
import torch
import toy

from scanwise.training.features import CachedFeatures
from scanwise.training.loaders import BatchGroups, FeatureDataset, ScanDataset, train_loader
from scanwise.training.sampling import EpochOrder, SyntheticScans

VIEWS = CachedFeatures(tuple(np.random.default_rng(view).normal(size=(6, 4)).astype(np.float16) for view in range(2)))
LABELS = np.array([0, 1, 0, 1, 2, 2])


def test_synthetic_scans_lie_between_their_two() -> None:
    made = SyntheticScans(np.array([4, 1]), np.array([5, 3]), np.array([0.25, 0.0]))
    scans = FeatureDataset(VIEWS, LABELS, np.arange(12).reshape(6, 2), None, made)
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
    scans = FeatureDataset(VIEWS, LABELS, None, order)
    for epoch in range(4):
        order.set_epoch(epoch)
        maps, _ = scans.__getitems__([5, 1])
        assert np.array_equal(maps.numpy(), VIEWS.arrays[epoch % 2][[5, 1]].astype(np.float32))


def test_batches_in_turn_take_the_same_memory() -> None:
    made = SyntheticScans(np.array([4, 1]), np.array([5, 3]), np.array([0.25, 0.5]))
    scans = FeatureDataset(VIEWS, LABELS, None, None, made)
    batches = [[0, 6], [3, 7], [2]]
    places = []
    for indices, (maps, labels) in zip(batches, scans.batches_in_place(batches), strict=True):
        places.append(maps.data_ptr())
        expected = scans.__getitems__(indices)
        assert torch.equal(maps, expected[0])
        assert torch.equal(labels, expected[1])
    assert len(set(places)) == 1


def test_runs_are_the_batches_of_the_loader_and_hear_of_the_epoch() -> None:
    order = EpochOrder(36, 0)
    source = CachedFeatures((np.arange(36, dtype=np.float16)[:, None],))
    loader = train_loader(FeatureDataset(source, np.arange(36), None, order), order, 2)
    runs = BatchGroups(loader)
    seen = []
    for epoch in (0, 1):
        order.set_epoch(epoch)
        assert runs.batch_sampler.sampler is order
        lengths, labels = [], []
        for run in runs:
            found = [batch[1].tolist() for batch in run]
            lengths.append(len(found))
            labels += found
        assert lengths == [16, 2]
        assert len(runs) == 2
        assert labels == [batch[1].tolist() for batch in loader]
        seen.append(labels)
    assert seen[0] != seen[1]


def test_words_travel_with_their_scans() -> None:
    rows, words = np.array([7, 3]), np.arange(204).reshape(102, 2)
    images, labels, tokens = ScanDataset(toy.store(), toy.LABELS, rows, words).__getitems__([1, 0])
    assert tokens.tolist() == words[[3, 7]].tolist()
    assert labels.tolist() == toy.LABELS[[3, 7]].tolist()
    assert np.array_equal(images.numpy(), toy.store().array[[3, 7]])
