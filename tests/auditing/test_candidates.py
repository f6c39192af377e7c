"""Candidates of a search for copies: the right scan is among them, from the side that was asked, with the way it was laid."""

import numpy as np
from scipy import ndimage

from scanwise.auditing.candidates import find_candidates, rank_within
from scanwise.registration.keypoints import Keypoints


def test_ranks_are_counted_within_groups() -> None:
    groups, values = np.array([4, 1, 4, 1, 4]), np.array([3.0, 9.0, 8.0, 2.0, 5.0])
    assert rank_within(groups, values).tolist() == [2, 0, 0, 1, 1]
    assert rank_within(np.array([], dtype=np.int64), np.array([])).tolist() == []


def test_the_origin_is_among_the_candidates_of_each_side() -> None:
    random = np.random.default_rng(0)
    drawn = ndimage.gaussian_filter(random.standard_normal((12, 160, 160)), (0, 4, 4))
    scans = np.clip(128 + 40 * drawn / drawn.std(), 0, 255).astype(np.uint8)
    turned = np.stack([np.rot90(scans[0]), np.rot90(scans[1])[::-1]])
    images = np.concatenate([scans, turned])
    sides = np.array(["train"] * 6 + ["test"] * 6 + ["train", "test"])
    everyone = np.ones(14, dtype=bool)
    rows, mirrored = find_candidates(Keypoints.detect(images), sides, everyone, everyone, 2)
    found = {(a, b): bool(way) for (a, b), way in zip(rows.tolist(), mirrored.tolist(), strict=True)}
    assert found[0, 12] is False
    assert found[1, 13] is True
    assert all(a < b for a, b in found)
    asked = sides == "train"
    few = find_candidates(Keypoints.detect(images), sides, ~asked, asked, 2)[0]
    assert {tuple(sorted(sides[pair].tolist())) for pair in few} == {("test", "train")}
    assert [1, 13] in few.tolist()
