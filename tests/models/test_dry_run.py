"""A scan of zeros goes through every kind of network, and one of a size that cannot is refused with what to set."""

import pytest

from scanwise.errors import RecipeError
from scanwise.models import build_network, dry_run
from scanwise.recipe import Recipe

WORDS = {"words": 16, "length": 4, "width": 8, "layers": 1, "heads": 2}
VIT = {"name": "vit_tiny_patch16_224", "options": {"embed_dim": 24, "depth": 1, "num_heads": 2}}
HALVES = {"convolution": {"name": "test_resnet"}, "transformer": VIT}
PHOTO = {"image": VIT, "width": 8, "heads": 2}


def recipe(side: int, **model: object) -> Recipe:
    return Recipe.model_validate({"name": "a", "data": {"size": side}, "model": model})


@pytest.mark.parametrize(
    "made",
    [
        recipe(32, name="small"),
        recipe(32, name="text", text=WORDS),
        recipe(224, name="fusion", text=WORDS, fusion=PHOTO),
        recipe(32, name="test_vit", options={"img_size": 32}, members={"kind": "deep_ensemble", "count": 2}),
    ],
    ids=lambda made: made.model.name,
)
def test_one_answer_a_class(made: Recipe) -> None:
    network = build_network(made.model, 3, 1)
    assert dry_run.dry_run_logits(network, made).shape == (1, 3)
    dry_run.check_input_size(network, made)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (recipe(32, **VIT), r"'vit_tiny_patch16_224' cannot take scans of 32 × 32.*by model\.options=\{img_size: 32\}"),
        (recipe(32, name="hybrid", hybrid=HALVES), r"by model\.hybrid\.transformer\.options or .*=\{img_size: 32\}"),
        (recipe(32, name="fusion", text=WORDS, fusion=PHOTO), r"by model\.fusion\.image\.options=\{img_size: 32\}"),
        (recipe(16, name="alexnet"), r"Set data\.size to a size that it takes\.$"),
    ],
    ids=["timm", "hybrid", "fusion", "alexnet"],
)
def test_a_size_that_does_not_go_in_is_refused_with_what_to_set(made: Recipe, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        dry_run.check_input_size(build_network(made.model, 3, 1), made)
