"""Prediction gives the network's answers, in order, whatever the batches."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from scanwise.errors import RecipeError
from scanwise.models import Network, build_network
from scanwise.models.dropout import DropoutSampler
from scanwise.prediction import predict_batches, predict_scans
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
    return build_network(Model(name="small", dropout=0.5), 4, 3)


def test_logits_and_features_are_the_networks(network: Network) -> None:
    rows = np.array([5, 1, 22, 1])
    logits, features = predict_scans(network, Scans(PIXELS), rows, batch=3)
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
    logits, features = predict_scans(network, scans, np.arange(23), batch=batch)
    whole = predict_scans(network, Scans(PIXELS), np.arange(23), batch=23)
    np.testing.assert_allclose(logits, whole[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features, whole[1], rtol=1e-4, atol=1e-5)
    assert max(map(len, scans.asked)) <= batch
    assert [row for rows in scans.asked for row in rows] == list(range(23))  # each once, in order


def test_prediction_is_evaluation_and_changes_nothing(network: Network) -> None:
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first, second = (predict_scans(network, Scans(PIXELS), np.arange(8)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert not network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())


def test_batches_may_come_from_anywhere_and_be_of_any_size(network: Network) -> None:
    logits, features = predict_batches(network, (PIXELS[a:b] for a, b in ((0, 2), (2, 3), (3, 9))))
    expected = predict_scans(network, Scans(PIXELS), np.arange(9))
    np.testing.assert_allclose(logits, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features, expected[1], rtol=1e-4, atol=1e-5)


def test_no_scans_give_no_rows(network: Network) -> None:
    logits, features = predict_scans(network, Scans(PIXELS), np.array([], dtype=np.int64))
    assert logits.shape[0] == features.shape[0] == 0
    assert logits.ndim == 3


# --- several answers a scan ---

TOP = {"name": "small", "dropout": 0.4}  # dropout and a linear layer on pooled features
DEEP = {"name": "small", "dropout": 0.4, "hidden": [16, 8]}  # dropout twice
HEADS: dict[str, dict[str, Any]] = {
    "top": TOP,
    "deep": DEEP,
    "attention": {"name": "small", "dropout": 0.3, "attention": {"width": 8}},
    "timm": {"name": "test_resnet", "dropout": 0.3},
    "transformer": {"name": "test_vit", "dropout": 0.3, "options": {"img_size": 16, "pos_drop_rate": 0.1}},
    "maps": {"name": "small", "dropout": 0.3},  # dropout on feature maps, see `OnMaps`
}


def made(name: str) -> Network:
    torch.manual_seed(0)
    network = build_network(Model(**HEADS[name]), 4, 3).eval()
    if name == "maps":
        network.body = OnMaps(network.body)
    return network


class OnMaps(nn.Module):
    """A head that drops whole channels of the feature map."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.drop = body, nn.Dropout2d(0.3)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.body.forward_features(images)

    def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        return self.body.forward_head(self.drop(features), pre_logits=pre_logits)


def count_calls(monkeypatch: pytest.MonkeyPatch, network: Network, step: str) -> list[int]:
    calls, real = [], getattr(network.body, step)
    monkeypatch.setattr(network.body, step, lambda values, **said: calls.append(len(values)) or real(values, **said))
    return calls


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.extended) if name == "transformer" else name for name in HEADS]
)
def test_draws_have_the_moments_of_full_passes_in_training(name: str) -> None:
    """Against torch's own dropout, the rest in evaluation mode; within five standard errors."""
    network, scans, count = made(name), Scans(PIXELS[:3]), 250 if name == "transformer" else 400
    logits, _ = predict_scans(network, scans, np.arange(3), draws=count)
    assert logits.shape == (3, count, 4)
    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.train()
    network.body.training = True  # timm's networks call dropout as a function
    torch.manual_seed(5)
    images = torch.from_numpy(PIXELS[:3]).permute(0, 3, 1, 2)
    with torch.no_grad():
        full = network(images.repeat_interleave(count, dim=0)).reshape(3, count, 4).numpy()
    assert (logits.std(1) > 0).all()
    error = np.sqrt((logits.var(1) + full.var(1)) / count)
    assert (np.abs(logits.mean(1) - full.mean(1)) < 5 * error).all()
    fourth = [((drawn - drawn.mean(1, keepdims=True)) ** 4).mean(1) / drawn.var(1) ** 2 for drawn in (logits, full)]
    error = np.sqrt((fourth[0] + fourth[1] - 2) / count)  # of the log of a ratio of variances
    assert (np.abs(np.log(logits.var(1) / full.var(1))) < 5 * error).all()
    for ours, theirs in zip(logits, full, strict=True):  # and the same dependence between classes
        np.testing.assert_allclose(np.corrcoef(ours.T), np.corrcoef(theirs.T), atol=5 * np.sqrt(2 / count))


@pytest.mark.parametrize("name", ["top", "deep", "attention", "timm"])
def test_the_trunk_runs_once_and_nothing_is_lost_by_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, scans = made(name), Scans(PIXELS)
    trunk, head = (count_calls(monkeypatch, network, step) for step in ("forward_features", "forward_head"))
    logits, _ = predict_scans(network, scans, np.arange(23), draws=30, batch=23)
    assert trunk == [23]
    assert sum(head) == 23 + 1 + 23  # features, one scan to see where dropout is, all draws at once
    monkeypatch.setattr(DropoutSampler, "_top", DropoutSampler._whole)
    whole, _ = predict_scans(network, scans, np.arange(23), draws=30)
    np.testing.assert_allclose(logits, whole, rtol=1e-4, atol=1e-5)


def test_a_head_that_drops_from_maps_runs_once_a_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    network = made("maps")
    trunk, head = (count_calls(monkeypatch, network, step) for step in ("forward_features", "forward_head"))
    predict_scans(network, Scans(PIXELS), np.arange(23), draws=5)
    assert trunk == [23]
    assert sum(head) == 23 + 1 + 5 * 23


@pytest.mark.parametrize("name", HEADS)
def test_a_scan_has_its_draws_in_any_batch_and_order(name: str) -> None:
    network = made(name)
    logits, features = predict_scans(network, Scans(PIXELS), np.arange(23), draws=4, seed=3)
    order = np.array([20, 3, 3, 11])
    again, _ = predict_scans(network, Scans(PIXELS), order, draws=4, seed=3, batch=3)
    np.testing.assert_allclose(again, logits[order], rtol=1e-4, atol=1e-5)
    other, same = predict_scans(network, Scans(PIXELS), np.arange(23), draws=4, seed=4)
    assert not np.allclose(other, logits)
    np.testing.assert_array_equal(same, features)  # the features are those of evaluation
    more, _ = predict_scans(network, Scans(PIXELS), np.arange(23), draws=6, seed=3)
    np.testing.assert_allclose(more[:, :4], logits, rtol=1e-4, atol=1e-5)
    one = predict_scans(network, Scans(PIXELS), np.arange(23))[0]
    assert one.shape == (23, 1, 4)  # and without draws nothing is drawn


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_masks_are_fair_and_independent(share: float) -> None:
    from scanwise.models.dropout import DropoutMasks

    keys = torch.arange(40)
    with DropoutMasks(keys, torch.arange(25)), torch.inference_mode():
        first, second = (nn.functional.dropout(torch.ones(40, 203), share, training=False) for _ in range(2))
    both = torch.stack([first.reshape(25, 40, 203), second.reshape(25, 40, 203)]).numpy()
    kept = both > 0
    np.testing.assert_allclose(both[kept], 1 / (1 - share), rtol=1e-3)
    each = np.sqrt(share * (1 - share))
    assert abs(kept.mean() - (1 - share)) < 5 * each / np.sqrt(kept.size)
    for axis in range(4):  # neighbours along layers, draws, scans and units know nothing of each other
        a, b = (np.delete(kept, at, axis) - (1 - share) for at in (0, -1))
        assert abs((a * b).mean()) < 5 * each**2 / np.sqrt(a.size)
    assert len(np.unique(kept[0].reshape(1000, -1), axis=0)) == 1000


def test_the_recipe_says_how_many_answers() -> None:
    torch.manual_seed(0)
    dropout = build_network(Model(**TOP, members={"kind": "mc_dropout"}), 4, 3)
    assert predict_scans(dropout, Scans(PIXELS), np.arange(5))[0].shape == (5, 30, 4)
    assert predict_scans(dropout, Scans(PIXELS), np.arange(5), draws=0)[0].shape == (5, 1, 4)
    ensemble = build_network(Model(name="small", members={"kind": "batch_ensemble", "sigma": 0.3}), 4, 3)
    logits, features = predict_scans(ensemble, Scans(PIXELS), np.arange(5))
    assert logits.shape == (5, 4, 4)
    assert features.shape == (5, 96)
    images = torch.from_numpy(PIXELS[:5]).permute(0, 3, 1, 2)
    with torch.no_grad():
        np.testing.assert_allclose(logits, ensemble.forward_members(images).numpy(), rtol=1e-4, atol=1e-5)


def test_a_network_without_dropout_has_no_draws() -> None:
    with pytest.raises(RecipeError, match=r"no dropout.*model\.dropout"):
        predict_scans(build_network(Model(name="small"), 4, 3), Scans(PIXELS), np.arange(3), draws=5)
    with pytest.raises(ValueError, match="mc_dropout needs dropout"):
        Model(name="small", members={"kind": "mc_dropout"})
