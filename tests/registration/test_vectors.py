"""Vectors of scans: correlations, exact neighbours, and what whitening is for."""

import numpy as np
import pytest

from scanwise.registration import descriptors, nearest_neighbours, whiten


def noise(count: int, side: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def test_the_product_of_descriptors_is_a_correlation() -> None:
    vectors = descriptors(noise(5))
    assert vectors.shape == (5, 144)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert vectors.mean(axis=1) == pytest.approx(np.zeros(5), abs=1e-5)


def test_descriptors_do_not_see_brightness_and_contrast() -> None:
    pixels = noise(3) // 2
    assert descriptors(pixels + np.uint8(40)) == pytest.approx(descriptors(pixels), abs=1e-4)


def test_a_blank_scan_is_zeros() -> None:
    assert not descriptors(np.full((1, 24, 24), 7, dtype=np.uint8)).any()


@pytest.mark.parametrize("count", [1, 3, 50])
def test_neighbours_are_those_of_a_full_sort(count: int) -> None:
    vectors = descriptors(noise(50))
    places, values = nearest_neighbours(vectors[:7], vectors, count)
    alike = vectors[:7] @ vectors.T
    assert (places == np.argsort(-alike, axis=1)[:, :count]).all()
    assert values == pytest.approx(np.sort(alike, axis=1)[:, ::-1][:, :count], abs=1e-6)


def test_whitened_components_weigh_the_same() -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((3000, 20)) * np.geomspace(1, 30, 20)
    turned = whiten(vectors.astype(np.float32), 20)
    assert np.linalg.norm(turned, axis=1) == pytest.approx(np.ones(3000), abs=1e-5)
    assert (turned**2).mean(axis=0) == pytest.approx(np.full(20, 0.05), rel=0.15)


@pytest.mark.parametrize("count", [60, 300])
def test_whitening_finds_what_tells_people_apart(count: int) -> None:
    """A direction that all share, however strong, hides nobody; fewer scans than pixels or more."""
    random = np.random.default_rng(1)
    people = np.repeat(random.standard_normal((count // 2, 100)), 2, axis=0)
    height = 30 * random.standard_normal((count, 1)) * random.standard_normal(100)
    vectors = (people + height + 0.1 * random.standard_normal((count, 100))).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def found(rows: np.ndarray) -> float:
        places, _ = nearest_neighbours(rows, rows, 2)
        partner = np.where(places[:, 0] == np.arange(count), places[:, 1], places[:, 0])
        return float((partner == np.arange(count) ^ 1).mean())

    assert found(whiten(vectors, count // 2)) > 0.9 > found(vectors)


def test_whitening_gives_no_more_components_than_there_are() -> None:
    assert whiten(descriptors(noise(8)), 100).shape == (8, 7)
