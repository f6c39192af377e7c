"""The same questions to every network and method: is the map there, of the right shape, and is the network left alone?"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from networks import KINDS, make, scans

from scanwise.errors import DataError, RecipeError, ShapeError
from scanwise.explanation import METHODS, explain_arrays, explain_with_heatmaps, with_check_result
from scanwise.records import FloatArray, Heatmap

OF_TRANSFORMERS = ("rollout", "gradient_rollout")
EVERYWHERE = ("pooled_gradients", "integrated_gradients", "occlusion")


def methods(kind: str) -> list[str]:
    found = [*EVERYWHERE, "grad_cam", "grad_cam_plus_plus", "layer_cam", "eigen_cam"]
    found += OF_TRANSFORMERS if "vit" in kind or kind == "hybrid" else ()
    return found + (["query_key"] if kind == "attention" else [])


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch that steps a quarter of the scan, and not a twelfth, asks the network a ninth as often."""
    monkeypatch.setattr("scanwise.explanation.gradients.PATCHES", 4)


def cases() -> Iterator[Any]:
    """Every day the default method on each network, and each method on its first one; the rest of the grid is extended."""
    met: set[str] = set()
    for kind in KINDS:
        for method in methods(kind) if kind != "alexnet" else ():
            if method != "occlusion" or kind in ("small", "vit", "members"):
                quick = method == EVERYWHERE[0] or method not in met
                met.add(method)
                yield pytest.param(kind, method, marks=() if quick else pytest.mark.extended)


def state(network: Any) -> tuple[Any, ...]:
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in network.modules()]
    return (
        [m.training for m in network.modules()],
        [p.requires_grad for p in network.parameters()],
        [p.grad for p in network.parameters()],
        hooks,
        [getattr(m, "fused_attn", None) for m in network.modules()],
        [value.sum().item() for value in network.state_dict().values()],
    )


@pytest.mark.parametrize(("kind", "method"), list(cases()))
def test_every_method_gives_a_map_and_leaves_the_network_alone(kind: str, method: str) -> None:
    network = make(kind).train()
    for weight in list(network.parameters())[::2]:
        weight.requires_grad_(False)
    before = state(network)
    found = explain_with_heatmaps(network, scans(3), targets=[0, 2], method=method)
    assert state(network) == before
    assert [(one.scan, one.target) for one in found] == [(str(n), t) for n in range(3) for t in (0, 2)]
    for one in found:
        assert one.values.shape == (32, 32)
        assert one.values.dtype == np.float32
        assert np.isfinite(one.values).all()
        assert (one.values >= 0).all()
    assert any(one.values.any() for one in found)


@pytest.mark.parametrize(
    "method", [name for name in METHODS if name not in (*OF_TRANSFORMERS, "query_key", "contributions")]
)
def test_several_targets_are_each_as_one_alone(method: str) -> None:
    network, pixels = make("small"), scans(2)
    both, _ = explain_arrays(network, pixels, targets=[2, 0], method=method)
    for place, target in enumerate((2, 0)):
        alone, _ = explain_arrays(network, pixels, targets=target, method=method)
        np.testing.assert_allclose(both[:, place], alone[:, 0], rtol=1e-4, atol=1e-5 * alone.max())


@pytest.mark.parametrize("method", ["pooled_gradients", "occlusion", "grad_cam", "eigen_cam"])
def test_several_targets_take_one_pass(method: str) -> None:
    network, pixels, passes = make("small"), scans(2), []
    network.register_forward_hook(lambda *_: passes.append(1))
    counts = []
    for targets in ([0], [0, 1, 2]):
        passes.clear()
        explain_arrays(network, pixels, targets=targets, method=method)
        counts.append(len(passes))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("values", [np.zeros((4, 4), np.float32), np.full((4, 4), np.nan, np.float32)])
def test_a_map_that_shows_nothing_passes_no_check(values: FloatArray) -> None:
    one = Heatmap("scan", 0, values, "grad_cam", 0.9)
    for reasons in (None, []):
        assert with_check_result(one, reasons).passed is False
        assert with_check_result(one, reasons).reason.startswith("the map")
    good = replace(one, values=np.ones((4, 4), np.float32))
    assert with_check_result(good, None).passed is None
    assert with_check_result(good, []).passed is True
    assert with_check_result(good, ["it jumps"]).passed is False


def test_the_predicted_class_is_explained_unless_another_is_named() -> None:
    network, pixels = make("small"), scans(6)
    found = explain_with_heatmaps(network, pixels)
    probs = torch.softmax(network(torch.from_numpy(pixels).permute(0, 3, 1, 2)), 1)
    assert [one.target for one in found] == probs.argmax(1).tolist()
    np.testing.assert_allclose([one.prob for one in found], probs.amax(1).tolist(), rtol=1e-5)
    own = np.array([[0], [1], [2], [0], [1], [2]])
    assert [one.target for one in explain_with_heatmaps(network, pixels, targets=own, batch=4)] == [0, 1, 2, 0, 1, 2]


def test_it_works_where_the_caller_has_switched_gradients_off() -> None:
    network, pixels = make("small"), scans(2)
    expected, _ = explain_arrays(network, pixels, targets=0, method="grad_cam")
    with torch.no_grad():
        np.testing.assert_allclose(explain_arrays(network, pixels, targets=0, method="grad_cam")[0], expected)
    with torch.inference_mode():
        np.testing.assert_allclose(explain_arrays(network, pixels, targets=0, method="grad_cam")[0], expected)


@pytest.mark.parametrize("kind", ["small", "vit"])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_gives_much_the_same_map(kind: str, half: torch.dtype) -> None:
    network, pixels = make(kind), scans(3)
    method = "gradient_rollout" if kind == "vit" else "layer_cam"
    fine, _ = explain_arrays(network, pixels, targets=0, method=method)
    rough, _ = explain_arrays(network, pixels, targets=0, method=method, half=half)
    assert rough.dtype == np.float32
    for one, other in zip(fine[:, 0], rough[:, 0], strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98


def test_a_last_map_of_one_place_does_no_harm() -> None:
    network = make("alexnet")
    values, _ = explain_arrays(network, scans(2), targets=0, method="grad_cam")
    assert len(np.unique(values[0, 0])) > 16  # not one value all over


def test_a_layer_can_be_named() -> None:
    network = make("small")
    one, _ = explain_arrays(network, scans(2), targets=0, method="layer_cam", layer="blocks.0.2")
    same, _ = explain_arrays(network, scans(2), targets=0, method="layer_cam", layer="body.blocks.0.2")
    other, _ = explain_arrays(network, scans(2), targets=0, method="layer_cam", layer="blocks.2.2")
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


@pytest.mark.parametrize(
    ("kind", "options", "error", "told"),
    [
        ("small", {"method": "gradcam"}, RecipeError, "Did you mean 'grad_cam'"),
        ("small", {"method": "layer_cam", "layer": "blocks.2.3x"}, RecipeError, "Did you mean 'body.blocks.2.3'"),
        ("small", {"layer": "blocks.2.2"}, RecipeError, "reads no layer"),
        ("small", {"method": "rollout"}, RecipeError, "Class activation maps"),
        ("small", {"method": "query_key"}, RecipeError, r"model\.attention"),
        ("small", {"targets": 3}, DataError, "There is no class 3"),
        ("small", {"targets": -1}, DataError, "There is no class -1"),
        ("small", {"targets": [0.5]}, DataError, "class numbers"),
        ("small", {"batch": 0}, DataError, "at least one scan"),
        ("small", {"names": ["one"]}, ShapeError, "1 names were given for 2 scans"),
        ("small", {"tokens": np.ones((1, 4), np.int64), "targets": 0}, ShapeError, "a row for each of the 2 scans"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    kind: str, options: dict[str, Any], error: type[Exception], told: str
) -> None:
    network = make(kind)
    before = state(network)
    with pytest.raises(error, match=told):
        explain_with_heatmaps(network, scans(2), **options)
    assert state(network) == before


@pytest.mark.parametrize(
    ("kind", "pixels", "error"),
    [
        ("small", scans(2).astype(np.float32) / 255, DataError),
        ("small", scans(2)[..., 0], ShapeError),
        ("small", scans(0), ShapeError),
        ("small", np.repeat(scans(2), 3, axis=3), ShapeError),  # colour for a gray network
        ("vit", scans(2, side=48), ShapeError),
    ],
)
def test_scans_of_another_kind_are_refused(kind: str, pixels: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        explain_with_heatmaps(make(kind), pixels)


def test_a_network_of_words_alone_has_no_heatmap() -> None:
    from scanwise.models import build_network
    from scanwise.recipe import Model

    network = build_network(Model(name="text"), 3, 1)
    with pytest.raises(RecipeError, match="words alone"):
        explain_with_heatmaps(network, scans(2), tokens=np.ones((2, 4), np.int64))
