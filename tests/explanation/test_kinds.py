"""Every method on the network of every recipe: the same map whatever the batch, in half precision too, and nothing is left behind.

The networks are those that the recipes build, with smaller backbones; the heads, dropout, members, attention and words are
the recipes' own.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from networks import VIT, scans

from scanwise import recipe
from scanwise.explanation import METHODS, explain_arrays, words
from scanwise.models import Network, build_network

SMALL = "model.weights=none"
TINY = "model.name=test_efficientnet"
KINDS: dict[str, tuple[str, ...]] = {
    "efficientnet-uncertainty": (SMALL, TINY, "model.members.kind=mc_dropout"),
    "efficientnet-uncertainty, batch ensemble": (SMALL, TINY, "model.members={kind: batch_ensemble, count: 2, sigma: 0.3}"),
    "efficientnet-uncertainty, deep ensemble": (SMALL, TINY, "model.members={kind: deep_ensemble, count: 2}"),
    "fashion-fusion": (
        SMALL, "model.fusion.image.name=test_efficientnet", "model.text={words: 16, length: 6, width: 16, layers: 1, heads: 2}",
    ),
    "mobilenet-attention": (SMALL, TINY),
    "resnet50-two-stage": (SMALL, "model.name=test_resnet"),
    "alexnet-gray": (SMALL,),
    "stroke-hybrid": (
        SMALL, "model.hybrid.convolution.name=test_resnet", "model.hybrid.transformer.name=vit_tiny_patch16_224",
        f"model.hybrid.transformer.options={VIT}",
    ),
    "subject-attention": (SMALL, TINY),
    "subject-ridge": (SMALL, "model.ridge={backbone: {name: test_resnet}, blocks: 2, grid: [4, 4], pixels: [8, 8]}"),
}  # fmt: skip
OF_ONE = {
    "query_key": "mobilenet-attention",
    "rollout": "stroke-hybrid",
    "gradient_rollout": "stroke-hybrid",
    "contributions": "subject-ridge",
}
EVERYWHERE = "pooled_gradients"
"""Every method runs on its first network every day; the default method on every network is extended, the rest of the grid is slow."""


def cases() -> Iterator[Any]:
    met: set[str] = set()
    for kind in KINDS:
        for method in METHODS:
            if kind == OF_ONE.get(method, kind):
                first = method not in met
                met.add(method)
                often = pytest.mark.extended if method == EVERYWHERE else pytest.mark.slow
                yield pytest.param(kind, method, marks=() if first else often)


CASES = list(cases())
TOKENS = np.array([[3, 4, 5, 6, 0, 0], [7, 8, 0, 0, 0, 0], [0] * 6])


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch that steps a quarter of the scan, and not a twelfth, asks the network a ninth as often."""
    monkeypatch.setattr("scanwise.explanation.gradients.PATCHES", 4)


@cache
def network(kind: str) -> Network:
    """In training mode, with some weights frozen and some gradients there."""
    made = recipe.load_recipe(kind.partition(",")[0], list(KINDS[kind]))
    torch.manual_seed(0)
    found = build_network(made.model, 3, made.data.channels).train()
    for index, weight in enumerate(found.parameters()):
        weight.requires_grad_(index % 3 > 0)
        weight.grad = torch.ones_like(weight) if index % 2 and index % 3 else None
    return found


def seen(kind: str) -> tuple[Any, dict[str, Any]]:
    """Scans for a network, and what else it reads."""
    channels = recipe.load_recipe(kind.partition(",")[0]).data.channels
    side = 64 if kind == "mobilenet-attention" else 32  # its attention needs more than one place to look at
    return np.repeat(scans(3, side), channels, axis=3), {"tokens": TOKENS} if network(kind).takes_tokens else {}


def state(found: Network) -> list[Any]:
    """All that an explanation must leave as it is."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        *((m.training, getattr(m, "fused_attn", None), *(len(getattr(m, name)) for name in hooks)) for m in found.modules()),
        *((p.requires_grad, id(p.grad), p._version, p.grad is None or bool((p.grad == 1).all())) for p in found.parameters()),
        *(value._version for value in found.buffers()),
        torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"),
    ]  # fmt: skip


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_maps_do_not_depend_on_the_batch_and_nothing_is_left_behind(kind: str, method: str) -> None:
    pixels, more = seen(kind)
    before = state(network(kind))
    whole, _ = explain_arrays(network(kind), pixels, targets=[0, 2], method=method, batch=3, **more)
    parts, _ = explain_arrays(network(kind), pixels, targets=[0, 2], method=method, batch=1, **more)
    assert state(network(kind)) == before
    assert np.isfinite(whole).all()
    assert whole.any()
    rounding = 5e-7 if method == "occlusion" else 0.0  # it shows differences of log-odds, which have seven digits
    np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-4 * whole.max() + rounding)


@pytest.mark.extended
@pytest.mark.parametrize(
    ("kind", "method"), [case for case in CASES if case.values[1] not in ("occlusion", "integrated_gradients")]
)
def test_half_precision_gives_much_the_same_map(kind: str, method: str) -> None:
    pixels, more = seen(kind)
    before = state(network(kind))
    fine, _ = explain_arrays(network(kind), pixels, targets=[0, 2], method=method, **more)
    rough, _ = explain_arrays(network(kind), pixels, targets=[0, 2], method=method, half=torch.bfloat16, **more)
    assert state(network(kind)) == before
    assert rough.dtype == np.float32
    assert np.corrcoef(fine.ravel(), rough.ravel())[0, 1] > 0.9


def test_every_recipe_and_every_method_is_asked() -> None:
    others = {"demo", "backbone", "alexnet-gray-fast"}  # of other sizes, but of no other kind
    assert {kind.partition(",")[0] for kind in KINDS} == set(recipe.shipped_recipes()) - others
    assert {case.values[1] for case in CASES} == set(METHODS)


@pytest.mark.parametrize(
    "members", ["{kind: one}", "{kind: batch_ensemble, count: 2, sigma: 0.3}", "{kind: deep_ensemble, count: 2}"]
)
@pytest.mark.parametrize("name", ["fusion", "text"])
def test_words_do_not_depend_on_the_batch_and_pieces_go_together(name: str, members: str) -> None:
    made = recipe.load_recipe(
        "fashion-fusion", [*KINDS["fashion-fusion"], f"model.members={members}", f"model.name={name}"]
    )
    torch.manual_seed(0)
    found = build_network(made.model, 3, 3).train()
    pixels = np.repeat(scans(3), 3, axis=3) if name == "fusion" else None
    pieces = np.array([[0, 1, 1, 2, -1, -1], [0, 0, -1, -1, -1, -1], [-1] * 6])
    before = state(found)
    whole = words.explain_words(found, pixels, TOKENS, words=pieces, targets=np.ones(3, np.int64), batch=3)
    alone = words.explain_words(found, pixels, TOKENS, words=pieces, targets=np.ones(3, np.int64), batch=1)
    assert state(found) == before
    assert whole.fall.shape == (3, 3)
    np.testing.assert_allclose(alone.fall, whole.fall, atol=1e-4)
    assert (whole.fall[1, 1:] == 0).all()
    assert (whole.fall[2] == 0).all()
    each = words.explain_words(found, pixels, TOKENS, targets=np.ones(3, np.int64))
    assert whole.fall[0, 0] == pytest.approx(each.fall[0, 0], abs=1e-4)
    odds = []
    for tokens in (TOKENS, np.array([[3, 0, 0, 6, 0, 0]] * 3)):  # both pieces of the second word at once
        images = None if pixels is None else torch.from_numpy(pixels).permute(0, 3, 1, 2)
        with torch.no_grad():
            logits = found.eval()(images, torch.from_numpy(tokens))[0]
        odds.append(float(logits[1] - logits[[0, 2]].logsumexp(0)))
    assert whole.fall[0, 1] == pytest.approx(odds[0] - odds[1], abs=1e-4)
    if name == "text":
        assert whole.looked is None
        return
    np.testing.assert_allclose(
        whole.looked[0], [each.looked[0, 0], each.looked[0, 1:3].sum(), each.looked[0, 3]], rtol=1e-4
    )
    np.testing.assert_allclose(alone.regions, whole.regions, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(whole.shares[2], [1, 0], atol=1e-6)  # without a title the image alone speaks
