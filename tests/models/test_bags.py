"""Bags of scans: an answer that no padding, order or neighbour changes, and an attention that finds the scan that tells."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from scanwise.models import build_network
from scanwise.models.bags import GatedAttention, pool_bags
from scanwise.pooling import pool_by_subject
from scanwise.prediction import attention_scores, predict_batches
from scanwise.recipe import Model, Recipe
from scanwise.records import Logits

Sizes = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def bags(sizes: list[int], seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = sum(sizes)
    return torch.randn(count, 3, generator=generator, dtype=torch.float64), 4 * torch.randn(
        count, generator=generator, dtype=torch.float64
    )


@pytest.mark.extended
@given(Sizes, st.integers(0, 99), st.booleans())
def test_an_answer_is_the_same_alone_and_beside_larger_bags(sizes: list[int], seed: int, attends: bool) -> None:
    """Padding weighs nothing, however bags are grouped in a batch."""
    logits, scores = bags(sizes, seed)
    together = pool_bags(logits, scores if attends else None, sizes)
    ends = np.cumsum(sizes)
    for index, (size, end) in enumerate(zip(sizes, ends.tolist(), strict=True)):
        own = slice(end - size, end)
        alone = pool_bags(logits[own], scores[own] if attends else None, [size])
        assert torch.allclose(alone[0], together[index], atol=1e-12)


@given(st.integers(1, 20), st.integers(0, 99), st.booleans())
def test_an_answer_does_not_depend_on_the_order_of_slices(size: int, seed: int, attends: bool) -> None:
    logits, scores = bags([size], seed)
    turned = torch.from_numpy(np.random.default_rng(seed).permutation(size))
    first = pool_bags(logits, scores if attends else None, [size])
    second = pool_bags(logits[turned], scores[turned] if attends else None, [size])
    assert torch.allclose(first, second, atol=1e-12)


@given(Sizes, st.integers(0, 99))
def test_pooled_files_of_logits_give_what_training_saw(sizes: list[int], seed: int) -> None:
    logits, scores = bags(sizes, seed)
    subjects = np.repeat([f"p{index}" for index in range(len(sizes))], sizes)
    shuffled = np.random.default_rng(seed).permutation(len(logits))
    stored = Logits(
        logits.numpy()[shuffled, None], np.zeros(len(logits), np.int64), subjects[shuffled], subjects[shuffled],
        ("a", "b", "c"), attention=scores.numpy()[shuffled, None],
    )  # fmt: skip
    pooled = pool_by_subject(stored)
    order = [pooled.subjects.tolist().index(f"p{index}") for index in range(len(sizes))]
    expected = pool_bags(logits, scores, sizes).softmax(1)
    assert pooled.attention is None
    assert torch.allclose(torch.from_numpy(pooled.logits[order, 0]).softmax(1), expected, atol=1e-9)


def planted(people: int, seed: int) -> tuple[Tensor, Tensor, list[int], Tensor]:
    """Features of bags of 20 to 40 scans, of which one carries the class of every second person; its place is returned."""
    random = np.random.default_rng(seed)
    sizes = random.integers(20, 41, people).tolist()
    features = random.normal(size=(sum(sizes), 8))
    places = np.cumsum([0, *sizes[:-1]]) + random.integers(0, sizes)
    labels = np.arange(people) % 2
    features[places, 0] += np.where(labels == 1, 7.0, 0.0)
    return torch.from_numpy(features).float(), torch.from_numpy(labels), sizes, torch.from_numpy(places)


def learn(attends: bool) -> tuple[float, float]:
    """Accuracy on new people, and the mean weight of the scan that tells among those of people with the class."""
    torch.manual_seed(0)
    attention, last = GatedAttention(8), torch.nn.Linear(8, 2)
    features, labels, sizes, _ = planted(240, 1)
    optimizer = torch.optim.Adam([*attention.parameters(), *last.parameters()], lr=1e-2)
    for _ in range(250):
        optimizer.zero_grad()
        logits = pool_bags(last(features), attention(features) if attends else None, sizes)
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    features, labels, sizes, places = planted(200, 2)
    scores = attention(features).detach() if attends else torch.zeros(len(features))
    right = (pool_bags(last(features), scores, sizes).argmax(1) == labels).float().mean()
    ends = np.cumsum(sizes)
    weights = [
        scores[end - size : end].softmax(0)[place - end + size]
        for size, end, place, label in zip(sizes, ends.tolist(), places.tolist(), labels.tolist(), strict=True)
        if label
    ]
    return float(right), float(torch.stack(weights).mean())


@pytest.mark.extended
def test_attention_finds_the_one_slice_that_tells_and_a_mean_does_not() -> None:
    found, weight = learn(attends=True)
    averaged, alike = learn(attends=False)
    assert found > 0.95
    assert weight > 0.8
    assert averaged < 0.85
    assert alike < 0.06


@pytest.mark.extended
@pytest.mark.parametrize("name", ["small", "alexnet", "test_resnet", "test_vit", "hybrid"])
@pytest.mark.parametrize("members", ["one", "deep_ensemble"])
def test_every_backbone_attends(name: str, members: str) -> None:
    section: dict[str, Any] = {"name": name, "unit": "subject", "members": {"kind": members}}
    if name == "hybrid":
        section["hybrid"] = {"convolution": {"name": "test_resnet"}, "transformer": {"name": "test_vit"}}
    side = 160 if name in ("test_vit", "hybrid") else 32
    network = build_network(Model.model_validate(section), 3, 1)
    scans = np.random.default_rng(0).integers(0, 256, (5, side, side, 1), dtype=np.uint8)
    logits, features = predict_batches(network, iter([scans]))
    whole, pieces = (
        attention_scores(network, found)
        for found in (features, predict_batches(network, iter([scans[:2], scans[2:]]))[1])
    )
    count = 4 if members == "deep_ensemble" else 1
    assert whole is not None
    assert pieces is not None
    assert whole.shape == logits.shape[:2] == (5, count)
    assert np.allclose(whole, pieces, atol=1e-5)
    assert whole.std() > 0


def test_without_the_unit_there_is_no_attention() -> None:
    for section in ({"name": "small"}, {"name": "small", "unit": "subject", "pool": "mean"}):
        network = build_network(Model.model_validate(section), 2, 1)
        assert not [name for name in network.state_dict() if "attention" in name]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"model": {"name": "subject_ridge", "unit": "subject"}}, "answers by subject already"),
        ({"model": {"name": "text", "unit": "subject"}}, "title for each scan"),
        ({"model": {"name": "small", "unit": "subject", "ordinal": True}, "train": {"loss": "corn"}}, "ordinal"),
        (
            {"model": {"name": "small", "unit": "subject", "dropout": 0.1, "members": {"kind": "mc_dropout"}}},
            "deep_ens",
        ),
        ({"model": {"name": "small", "unit": "subject"}, "evaluation": {"pooling": "majority"}}, "mean_logit"),
        ({"model": {"name": "small", "unit": "subject"}, "split": {"protocols": ["honest", "published"]}}, "honest"),
        ({"model": {"name": "small", "unit": "subject"}, "train": {"mixup": 0.2}}, "mixture"),
        ({"model": {"name": "small", "unit": "subject"}, "train": {"sampling": "smote"}}, "smote"),
        ({"model": {"name": "small", "unit": "subject"}, "train": {"compiled": True}}, "compile anew"),
        ({"model": {"name": "small", "unit": "subject", "bag": 0}}, "bag"),
    ],
)
def test_what_has_no_meaning_is_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Recipe.model_validate({"name": "r", **section})
