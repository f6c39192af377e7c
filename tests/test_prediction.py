"""Prediction gives the network's answers, in order, whatever the batches."""

import numpy as np
import pytest
import torch

from scanwise.models import Network, build
from scanwise.prediction import predict, predict_batches
from scanwise.recipe import Model


class Scans:
    """Pixels in memory, and which rows were asked for."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self.asked: list[list[int]] = []

    def read(self, indices: np.ndarray) -> np.ndarray:
        self.asked.append(indices.tolist())
        return self.pixels[indices]


PIXELS = np.random.default_rng(0).integers(0, 256, (23, 16, 16, 3), np.uint8)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return build(Model(name="small", dropout=0.5), 4, 3)


def test_logits_and_features_are_the_networks(network: Network) -> None:
    rows = np.array([5, 1, 22, 1])
    logits, features = predict(network, Scans(PIXELS), rows, batch=3)
    assert logits.shape == (4, 1, 4)
    assert logits.dtype == features.dtype == np.float32
    assert features.shape == (4, 96)
    with torch.no_grad():
        images = torch.from_numpy(PIXELS[rows]).permute(0, 3, 1, 2)
        expected = network.eval()(images).numpy()
        np.testing.assert_allclose(logits[:, 0], expected, rtol=1e-4, atol=1e-5)
        head = network.body.head(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(logits[:, 0], head, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits[1], logits[3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 7, 23, 64])
def test_the_size_of_a_batch_makes_no_difference(network: Network, batch: int) -> None:
    scans = Scans(PIXELS)
    logits, features = predict(network, scans, np.arange(23), batch=batch)
    whole = predict(network, Scans(PIXELS), np.arange(23), batch=23)
    np.testing.assert_allclose(logits, whole[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features, whole[1], rtol=1e-4, atol=1e-5)
    assert max(map(len, scans.asked)) <= batch
    assert [row for rows in scans.asked for row in rows] == list(range(23))  # each once, in order


def test_prediction_is_evaluation_and_changes_nothing(network: Network) -> None:
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first, second = (predict(network, Scans(PIXELS), np.arange(8)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert not network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())


def test_batches_may_come_from_anywhere_and_be_of_any_size(network: Network) -> None:
    logits, features = predict_batches(network, (PIXELS[a:b] for a, b in ((0, 2), (2, 3), (3, 9))))
    expected = predict(network, Scans(PIXELS), np.arange(9))
    np.testing.assert_allclose(logits, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features, expected[1], rtol=1e-4, atol=1e-5)


def test_no_scans_give_no_rows(network: Network) -> None:
    logits, features = predict(network, Scans(PIXELS), np.array([], dtype=np.int64))
    assert logits.shape[0] == features.shape[0] == 0
    assert logits.ndim == 3
