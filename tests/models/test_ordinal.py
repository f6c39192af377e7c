"""An ordinal network answers C - 1 questions and gives C probabilities that are what the questions say."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from scanwise.errors import RecipeError
from scanwise.models import build_network
from scanwise.models.ordinal import class_log_probs, make_ordinal
from scanwise.recipe import Model, Recipe

NAMES = {"small": 16, "alexnet": 32, "test_resnet": 32, "test_vit": 160, "mobilenetv3_small_050": 32}
QUESTIONS = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3


def test_probabilities_are_the_products_of_the_answers() -> None:
    beyond = 1 / (1 + np.exp(-QUESTIONS.numpy()))
    expected = [[(1 - a), a * (1 - b), a * b * (1 - c), a * b * c] for a, b, c in beyond]
    np.testing.assert_allclose(class_log_probs(QUESTIONS).exp(), expected, atol=1e-12)
    np.testing.assert_allclose(class_log_probs(QUESTIONS).exp().sum(1), 1)


def test_sure_answers_stay_finite() -> None:
    assert torch.isfinite(class_log_probs(torch.tensor([[300.0, -300.0, 300.0]]))).all()


@pytest.mark.parametrize("name", NAMES)
def test_any_network_can_have_it_and_gives_a_value_a_class(name: str) -> None:
    model = Model(name=name, ordinal=True, dropout=0.2)
    torch.manual_seed(0)
    network = build_network(model, 4, 1).eval()
    images = torch.randint(0, 256, (2, 1, NAMES[name], NAMES[name]))
    logits = network(images)
    assert logits.shape == (2, 4)
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(2))
    features = network.forward_head(network.forward_features(images), pre_logits=True)
    assert network.get_submodule(network.classifier).weight.shape == (3, features.shape[1])
    again = build_network(model, 4, 1, pretrained=False).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(images), logits)


def test_features_alone_have_no_last_layer() -> None:
    assert build_network(Model(name="small", ordinal=True), 0, 1).eval()(torch.zeros(1, 1, 16, 16)).shape == (1, 96)


def test_what_has_no_linear_last_layer_is_told() -> None:
    with pytest.raises(RecipeError, match="linear last layer"):
        make_ordinal(build_network(Model(name="small"), 0, 1))


@pytest.mark.parametrize("wrong", [{"model": {"ordinal": True}}, {"train": {"loss": "corn"}}])
def test_head_and_loss_belong_together(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="belong together"):
        Recipe.model_validate({"name": "a", **wrong})
