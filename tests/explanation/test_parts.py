"""What the parts of a network say: halves of the hybrid, words and regions, members that differ."""

import numpy as np
import pytest
import torch
from networks import make, scans, tensors

from scanwise.errors import DataError, RecipeError
from scanwise.explanation import components, explain_arrays, uncalibrated_probs, words
from scanwise.explanation.uncertainty_map import explain_members
from scanwise.models import Network, build_network
from scanwise.recipe import Model

TOKENS = np.array([[1, 2, 3, 0], [4, 5, 0, 0], [6, 0, 0, 0]])


def fusion(**members: object) -> Network:
    torch.manual_seed(0)
    section = {
        "name": "fusion", "fusion": {"image": {"name": "resnet10t"}, "width": 16, "heads": 2},
        "text": {"width": 16, "layers": 1, "heads": 2, "length": 4, "words": 16}, "members": members,
    }  # fmt: skip
    return build_network(Model(**section), 3, 1).eval()


@pytest.mark.extended
def test_the_two_halves_are_told_of_and_combined() -> None:
    network = make("hybrid")
    looks = components.explain_halves(network, scans(3), batch=2)
    first, _ = explain_arrays(network, scans(3), targets=looks.targets[:, None], method="grad_cam")
    second, _ = explain_arrays(network, scans(3), targets=looks.targets[:, None], method="gradient_rollout")
    np.testing.assert_allclose(looks.convolution, first[:, 0], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(looks.transformer, second[:, 0], rtol=1e-4, atol=1e-7)
    features = network.forward_features(tensors(scans(3)))
    np.testing.assert_allclose(looks.norms, network.body.norms(features).detach(), rtol=1e-4)
    np.testing.assert_allclose(looks.contributions, network.body.contributions(features).detach(), rtol=1e-4)
    sums = [one.sum(axis=(1, 2), keepdims=True) for one in (looks.convolution, looks.transformer)]
    parts = [first[:, 0] / np.where(sums[0] > 0, sums[0], 1), second[:, 0] / np.where(sums[1] > 0, sums[1], 1)]
    share = looks.contributions / looks.contributions.sum(axis=1, keepdims=True)
    expected = sum(share[:, half, None, None] * parts[half] for half in range(2))
    np.testing.assert_allclose(looks.combined, expected, rtol=1e-4, atol=1e-7)


def test_a_summary_tells_where_each_half_looks() -> None:
    network = make("hybrid")
    looks = components.explain_halves(network, scans(2))
    spot = np.zeros((2, 32, 32))
    spot[:, 7, 23] = 1
    looks = components.HybridMaps(spot, spot, spot, looks.targets, looks.norms, looks.contributions)
    rows = [
        one.row()
        for one in components.summarise_halves(
            looks, uncalibrated_probs(network, scans(2)), ["a", "b"], ("x", "y", "z")
        )
    ]
    assert [row["scan"] for row in rows] == ["a", "b"]
    for row in rows:
        assert row["overlap"] == 1
        assert row["convolution_row"] == pytest.approx(7.5 / 32, abs=1e-3)
        assert row["transformer_column"] == pytest.approx(23.5 / 32, abs=1e-3)
        assert row["convolution_spread"] == pytest.approx(0, abs=1e-2)
        assert row["predicted"] in ("x", "y", "z")
    with pytest.raises(RecipeError, match="hybrid"):
        components.explain_halves(make("small"), scans(1))


def test_words_fall_by_what_the_answer_loses_without_them() -> None:
    network = fusion().train()
    found = words.explain_words(network, scans(3), TOKENS, targets=np.array([0, 1, 2]))
    assert network.training
    network.eval()
    assert (found.fall[TOKENS == 0] == 0).all()
    less = TOKENS.copy()
    less[0, 1] = 0
    images = tensors(scans(3))

    @torch.no_grad()
    def odds(tokens: np.ndarray) -> float:
        logits = network(images, torch.from_numpy(tokens))[0]
        return float(logits[0] - logits[1:].logsumexp(0))

    assert found.fall[0, 1] == pytest.approx(odds(TOKENS) - odds(less), abs=1e-4)
    assert found.regions.shape == (3, 1, 1)
    np.testing.assert_allclose(found.shares.sum(axis=1), 1, rtol=1e-5)
    assert (found.looked[TOKENS == 0] == 0).all()


def test_scans_without_any_words_are_explained_too() -> None:
    none = np.zeros_like(TOKENS)
    found = words.explain_words(fusion(), scans(3), none, words=np.full_like(none, -1))
    assert not found.fall.any()
    assert not found.looked.any()
    np.testing.assert_allclose(found.shares.sum(axis=1), 1, rtol=1e-5)


def test_an_ensemble_of_words_and_images_is_told_of_too() -> None:
    found = words.explain_words(fusion(kind="batch_ensemble", count=2, sigma=0.1, layers=2), scans(3), TOKENS, batch=2)
    assert found.fall.shape == (3, 4)
    np.testing.assert_allclose(found.shares.sum(axis=1), 1, rtol=1e-5)


def test_a_network_without_words_has_none_to_tell_of() -> None:
    with pytest.raises(RecipeError, match="reads no words"):
        words.explain_words(make("small"), scans(1), TOKENS)
    with pytest.raises(DataError, match="both"):
        words.explain_words(fusion(), None, TOKENS)


@pytest.mark.extended
def test_fusion_is_explained_by_heatmaps_with_its_words() -> None:
    found, _ = explain_arrays(fusion(), scans(3, side=64), targets=0, tokens=TOKENS, batch=2)
    other, _ = explain_arrays(fusion(), scans(3, side=64), targets=0, tokens=TOKENS + 1, batch=2)
    assert found.any()
    assert np.abs(found - other).max() > 0.01 * found.max()


@pytest.mark.parametrize("kind", ["members", "late_members", "deep", "draws"])
def test_the_variance_is_that_of_the_members_maps(kind: str) -> None:
    network = make(kind)
    found = explain_members(network, scans(2), targets=1, method="layer_cam")
    name = "draw" if kind == "draws" else "member"
    each = [
        explain_arrays(network, scans(2), targets=1, method="layer_cam", **{name: index})[0][:, 0]
        for index in range(found.members)
    ]
    scaled = np.stack([one / one.mean(axis=(1, 2), keepdims=True) for one in each]).astype(np.float64)
    np.testing.assert_allclose(found.mean[:, 0], scaled.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.variance[:, 0], scaled.var(axis=0), rtol=1e-3, atol=1e-4)
    assert found.variance.max() > 0
    again = explain_members(network, scans(2), targets=1, method="layer_cam", batch=1)
    np.testing.assert_allclose(again.variance, found.variance, rtol=1e-3, atol=1e-4)


def test_one_answer_has_no_variance() -> None:
    with pytest.raises(RecipeError, match="mc_dropout"):
        explain_members(make("small"), scans(1))
