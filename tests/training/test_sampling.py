"""What is to be drawn equally often is; SMOTE makes points between neighbours of one class."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from scanwise.errors import DataError
from scanwise.training.sampling import EpochOrder, derive_seed, sampling_weights, smote

LABELS = np.array([0] * 8 + [1] * 3 + [2] * 1)
SUBJECTS = np.array(["a"] * 6 + ["b"] * 2 + ["b", "c", "c"] + ["d"])


def share(weights: np.ndarray, values: np.ndarray) -> dict[str, float]:
    return {str(value): float(weights[values == value].sum()) for value in np.unique(values)}


def test_classes_or_subjects_are_equally_likely() -> None:
    by_class, by_subject = sampling_weights("classes", LABELS, None), sampling_weights("subjects", LABELS, SUBJECTS)
    assert by_class is not None
    assert by_subject is not None
    assert share(by_class, LABELS) == pytest.approx(dict.fromkeys("012", 1 / 3))
    assert share(by_subject, SUBJECTS) == pytest.approx(dict.fromkeys("abcd", 1 / 4))
    assert all(np.ptp(by_class[np.equal(LABELS, label)]) == 0 for label in range(3))


def test_classes_and_in_them_subjects_are_equally_likely() -> None:
    weights = sampling_weights("classes_and_subjects", LABELS, SUBJECTS)
    assert weights is not None
    assert share(weights, LABELS) == pytest.approx(dict.fromkeys("012", 1 / 3))
    cells = np.array([f"{label}{subject}" for label, subject in zip(LABELS, SUBJECTS, strict=True)])
    expected = {"0a": 1 / 6, "0b": 1 / 6, "1b": 1 / 6, "1c": 1 / 6, "2d": 1 / 3}
    assert share(weights, cells) == pytest.approx(expected)


@pytest.mark.parametrize("sampling", ["scans", "smote"])
def test_others_come_once_each(sampling: str) -> None:
    assert sampling_weights(sampling, LABELS, SUBJECTS) is None


@pytest.mark.parametrize("sampling", ["subjects", "classes_and_subjects"])
def test_unknown_subjects_are_told(sampling: str) -> None:
    with pytest.raises(DataError, match="the subjects are unknown"):
        sampling_weights(sampling, LABELS, None)


def test_draws_follow_the_weights_and_the_epoch_alone() -> None:
    weights = np.array([0.5, 0.3, 0.2, 0.0])
    order = EpochOrder(4, 1, 0, weights)
    drawn = []
    for epoch in range(1000):
        order.set_epoch(epoch)
        drawn.append(list(order))
    counts = np.bincount(np.concatenate(drawn), minlength=4) / 4000
    assert counts == pytest.approx(weights, abs=0.04)
    later = EpochOrder(4, 1, 600, weights)
    later.set_epoch(7)
    assert list(later) == drawn[607]
    assert list(EpochOrder(4, 2, 607, weights)) != drawn[607] or list(EpochOrder(4, 3, 607, weights)) != drawn[607]


def features(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    labels = np.array([0] * 40 + [1] * 12 + [2] * 3 + [3])
    return draws.normal(size=(len(labels), 5)) + 10 * labels[:, None], labels


def test_smote_fills_every_class_up_to_the_largest() -> None:
    points, labels = features()
    made = smote(points, labels, 0)
    assert np.bincount(np.concatenate([labels, labels[made.base]])).tolist() == [40] * 4
    assert np.array_equal(labels[made.base], labels[made.other])
    assert made.share.min() >= 0
    assert made.share.max() < 1


def test_smote_mixes_with_one_of_the_five_nearest_of_the_class() -> None:
    points, labels = features()
    made = smote(points, labels, 1)
    for base, other in zip(made.base.tolist(), made.other.tolist(), strict=True):
        mates = np.flatnonzero(labels == labels[base])
        order = mates[np.argsort(cdist(points[[base]], points[mates])[0])]
        assert order[0] == base
        assert other in (order[1:6] if len(mates) > 1 else order)
    assert len({*zip(made.base.tolist(), made.other.tolist(), strict=True)}) > 20


def test_smote_follows_its_seed() -> None:
    points, labels = features()
    one, again, another = (smote(points, labels, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.base, again.base)
    assert np.array_equal(one.share, again.share)
    assert not np.array_equal(one.share, another.share)


def test_all_parts_of_a_seed_matter_and_their_order_too() -> None:
    seeds = {derive_seed(a, b, c) for a in range(12) for b in range(12) for c in range(12)} | {
        derive_seed(1, 11),
        derive_seed(11, 1),
    }
    assert len(seeds) == 12**3 + 2
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, 2, 3) == 733464669408481064  # else no run of an earlier version could be resumed
