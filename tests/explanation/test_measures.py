"""The figures of maps, on maps whose figures are known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score

from scanwise.errors import ShapeError
from scanwise.explanation.measures import (
    auprc,
    centre_blob,
    imputed,
    measure_faithfulness,
    overlap,
    pointing_game,
    random_maps,
    share_inside,
    strongest_pixels,
)


def test_the_pointing_game_counts_hits_and_shares_ties() -> None:
    truth = np.zeros((2, 4, 4), dtype=bool)
    truth[:, 0, :2] = True
    maps = np.zeros((2, 4, 4))
    maps[0, 0, 1] = 1
    assert pointing_game(maps, truth) == pytest.approx((1 + 2 / 16) / 2)  # the second map is flat


def test_auprc_is_scikit_learns_mean_over_maps_with_any_truth() -> None:
    rng = np.random.default_rng(0)
    maps, truth = rng.random((3, 8, 8)), rng.random((3, 8, 8)) > 0.8
    truth[2] = False
    expected = [average_precision_score(truth[i].ravel(), maps[i].ravel()) for i in range(2)]
    assert auprc(maps, truth) == pytest.approx(np.mean(expected))


def test_overlap_is_that_of_chance_for_unrelated_maps() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random((200, 20, 20)), rng.random((200, 20, 20))
    assert overlap(one, other).mean() == pytest.approx(0.05, abs=0.015)
    assert overlap(one, one).tolist() == [1.0] * 200


def test_the_strongest_are_as_many_as_asked_for_even_in_a_flat_map() -> None:
    assert strongest_pixels(np.zeros((2, 10, 10)), 0.05).sum(axis=(1, 2)).tolist() == [5, 5]


def test_an_empty_map_lies_nowhere() -> None:
    assert share_inside(np.zeros((1, 4, 4)), np.ones((1, 4, 4), dtype=bool)).tolist() == [0.0]


def test_the_blind_maps_have_seen_nothing() -> None:
    blob = centre_blob(2, 9, 9)
    assert np.unravel_index(blob[0].argmax(), (9, 9)) == (4, 4)
    np.testing.assert_array_equal(random_maps(2, 9, 9, 1), random_maps(2, 9, 9, 1))
    assert not np.array_equal(random_maps(2, 9, 9, 1), random_maps(2, 9, 9, 2))


def test_faith_is_highest_for_the_pixels_that_the_answer_is_made_of() -> None:
    """A network that adds up the brightness of one corner."""
    scans = np.random.default_rng(0).integers(0, 50, (4, 20, 20, 1)).astype(np.uint8)
    scans[:, 5:8, 5:8] = 250
    plain = np.full_like(scans, 25)

    def ask(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(pixels[:, 5:8, 5:8].sum(axis=(1, 2, 3)) / 1000, dtype=np.float64)

    right = np.zeros((4, 20, 20))
    right[:, 5:8, 5:8] = 1
    good = measure_faithfulness(ask, scans, plain, right)
    bad = measure_faithfulness(ask, scans, plain, centre_blob(4, 20, 20) * (1 - right))
    assert good.deletion > bad.deletion
    assert good.insertion > bad.insertion
    assert good.road > bad.road > -0.01  # never 0 for all: Quantus #333


def test_what_is_imputed_is_between_its_neighbours_and_the_rest_stays() -> None:
    ramp = np.tile(np.arange(0, 200, 10, dtype=np.uint8)[:, None], (1, 20))[None, :, :, None]
    chosen = np.zeros((1, 20, 20), dtype=bool)
    chosen[:, 8:12, 8:12] = True
    filled = imputed(ramp, chosen)
    np.testing.assert_array_equal(filled[~chosen], ramp[~chosen])
    assert np.abs(filled[chosen] - ramp[chosen].astype(float)).max() < 25


def test_the_start_of_what_is_imputed_is_scipys_gaussian_filter() -> None:
    random = np.random.default_rng(3)
    scans = random.integers(0, 256, (2, 24, 18, 3)).astype(np.float32)
    chosen = random.random((2, 24, 18)) < 0.3
    kept, expected = (~chosen)[..., None].astype(np.float32), scans.mean(axis=(1, 2), keepdims=True)
    for sigma in (6, 2.4, 0.96, 1.0):
        weight, mean = (gaussian_filter(part, (0, sigma, sigma, 0)) for part in (kept, scans * kept))
        expected = np.where(weight > 0.05, mean / np.maximum(weight, 1e-6), expected)
    noise = np.random.default_rng(0).normal(0, 2.55, scans.shape)
    filled = imputed(scans, chosen, rounds=0)
    assert filled[chosen] == pytest.approx((expected + noise)[chosen], abs=1e-2)


def test_stacks_of_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError):
        overlap(np.zeros((2, 4, 4)), np.zeros((2, 5, 4)))
