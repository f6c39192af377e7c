"""Recipes: strict, frozen, and every mistake told at once with what was probably meant."""

import json
from operator import attrgetter
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from scanwise import recipe
from scanwise.errors import RecipeError
from scanwise.recipe import Recipe

SCHEMA = Path(recipe.__file__).parents[1] / "recipes" / "recipe.schema.json"


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def mistakes(source: str | Path, *settings: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        recipe.load_recipe(source, settings)
    return str(caught.value).splitlines()


# --- YAML ---


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", "1.0e-3"])
def test_numbers_as_people_write_them_are_numbers(tmp_path: Path, text: str) -> None:
    assert (
        recipe.load_recipe(written(tmp_path, f"name: a\ntrain: {{optimizer: {{lr: {text}}}}}")).train.optimizer.lr
        == 0.001
    )


def test_no_is_a_word(tmp_path: Path) -> None:
    assert recipe.load_recipe(written(tmp_path, "name: a\nclasses: [no, yes]")).classes == ("no", "yes")


def test_duplicate_keys_are_refused_with_their_line(tmp_path: Path) -> None:
    lines = mistakes(written(tmp_path, "name: a\nseed: 1\nseed: 2\n"))
    assert len(lines) == 1
    assert "line 3" in lines[0]
    assert "duplicate key" in lines[0]


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b", "name: [", "name: !!python/object:os.system {}"])
def test_what_is_no_recipe_is_one_clear_line(tmp_path: Path, text: str) -> None:
    assert len(mistakes(written(tmp_path, text))) == 1


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize("key", ["lr", "weight_decay"])
def test_numbers_that_are_none_are_refused(tmp_path: Path, key: str, value: str) -> None:
    lines = mistakes(written(tmp_path, f"name: a\ntrain: {{optimizer: {{{key}: {value}}}}}"))
    assert f"train.optimizer.{key}" in lines[1]


@pytest.mark.parametrize("value", ["0", "0.5", "0.7"])
def test_a_bound_that_fails_half_of_the_time_is_refused(tmp_path: Path, value: str) -> None:
    lines = mistakes(written(tmp_path, f"name: a\nuncertainty: {{delta: {value}}}"))
    assert "uncertainty.delta" in lines[1]


# --- mistakes ---


def test_every_mistake_at_once_each_with_a_hint(tmp_path: Path) -> None:
    text = "name: Bad Name\ntrain: {epoch: 3, batch: 0, optimizer: {name: admw}}\nsplt: {}\nmodel: {dropout: 2}\n"
    told = mistakes(written(tmp_path, text), "data.sise=3", "nonsense")
    assert told[0].endswith("has 8 mistakes:")
    assert len(told) == 9
    said = "\n".join(told)
    assert "train.epoch: there is no such key. Did you mean 'epochs'? Known here: epochs, batch" in said
    assert "splt: there is no such key. Did you mean 'split'?" in said
    assert "data.sise: there is no such key. Did you mean 'size'?" in said
    assert "'admw' is not one of 'sgd', 'adam' or 'adamw'. Did you mean 'adam" in said
    assert "name: String should match" in said
    assert "train.batch: " in said
    assert "model.dropout: " in said
    assert "--set nonsense: expected key=value" in said


def test_a_section_at_the_wrong_place_is_sent_to_its_own(tmp_path: Path) -> None:
    told = "\n".join(mistakes(written(tmp_path, "name: a"), "fusion.image.weights=a.pth", "lr=1"))
    assert "fusion: there is no such key. Did you mean model.fusion?" in told
    assert "Did you mean train.optimizer.lr?" in told


def test_mistakes_inside_maps_and_lists_are_placed(tmp_path: Path) -> None:
    text = "name: a\nstages: {stroke: {titel: x}}\nsplit: {protocols: [honest, publised]}"
    told = "\n".join(mistakes(written(tmp_path, text)))
    assert "stages.stroke.titel: there is no such key. Did you mean 'title'? Known here: title" in told
    assert "split.protocols.1: 'publised' is not one of 'honest' or 'published'. Did you mean 'published'?" in told


def test_a_missing_name_is_said(tmp_path: Path) -> None:
    assert "name: is missing" in mistakes(written(tmp_path, "seed: 1"))[1]


@pytest.mark.parametrize("classes", ["5", "[0, 1]", "{a: 3}", "{a: [b, 3]}"])
def test_classes_that_are_no_words_are_one_mistake(tmp_path: Path, classes: str) -> None:
    told = mistakes(written(tmp_path, f"name: a\nclasses: {classes}"))
    assert len(told) == 2
    assert "quote labels that are numbers" in told[1]


@pytest.mark.parametrize(
    "text",
    [
        "{validation: 0.4, calibration: 0.4, test: 0.2}",
        "{folds: 2, validation: 0.3, calibration: 0.2}",
        "{published: {validation: 0.5, test: 0.45}}",
        "{protocols: []}",
    ],
)
def test_a_split_must_leave_something_to_do(tmp_path: Path, text: str) -> None:
    assert "split: " in mistakes(written(tmp_path, f"name: a\nsplit: {text}"))[1]


@pytest.mark.parametrize("name", ["text", "fusion"])
@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_pixels_are_not_mixed_where_words_are_read(tmp_path: Path, name: str, mixing: str) -> None:
    text = f"name: a\nmodel: {{name: {name}}}\ntrain: {{{mixing}: 0.2}}"
    assert "set train.mixup and train.cutmix to 0" in "\n".join(mistakes(written(tmp_path, text)))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("{name: small}", "the whole network must come from a file"),
        ("{name: resnet18, weights: hub}", "the whole network must come from a file"),
        ("{name: small, weights: a.pth}", "model.class_order to the names"),
        ("{name: fusion, weights: a.pth, class_order: [x, y]}", "vocabulary every run learns anew"),
        ("{name: small, weights: a.pth, class_order: [x, y], members: {kind: deep_ensemble}}", "members.kind to one"),
    ],
)
def test_no_epochs_need_a_finished_network(tmp_path: Path, said: str, told: str) -> None:
    assert told in mistakes(written(tmp_path, f"name: a\ntrain: {{epochs: 0}}\nmodel: {said}"))[1]


def test_no_epochs_have_no_stages_and_no_retraining(tmp_path: Path) -> None:
    network = "{name: small, weights: a.pth, class_order: [x, y]}"
    text = f"name: a\ntrain: {{epochs: 0, stages: [{{epochs: 2}}]}}\nmodel: {network}"
    assert "set stages: [] too" in mistakes(written(tmp_path, text))[1]
    text = f"name: a\ntrain: {{epochs: 0}}\nexplain: {{retrain: true}}\nmodel: {network}"
    assert "explain.retrain" in mistakes(written(tmp_path, text))[1]


def test_an_unknown_recipe_names_those_there_are() -> None:
    (line,) = mistakes("alexnet-grey")
    assert "Did you mean 'alexnet-gray" in line
    assert all(name in line for name in recipe.shipped_recipes())


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read" in mistakes(tmp_path / "absent.yaml")[0]
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in mistakes(binary)[0]


# --- settings ---


def test_settings_lie_over_the_file_and_the_last_one_wins(tmp_path: Path) -> None:
    file = written(tmp_path, "name: a\ntrain: {epochs: 5, batch: 8}\n")
    settings = ["train.epochs=3", "train.optimizer.lr=1e-4", "split.protocols=[honest, published]", "train.epochs=4"]
    made = recipe.load_recipe(file, settings)
    assert (made.train.epochs, made.train.batch, made.train.optimizer.lr) == (4, 8, 1e-4)
    assert made.split.protocols == ("honest", "published")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("name.x=1", "'name' is a value, not a section"),
        ("=3", "expected key=value"),
        ("train.epochs", "expected key=value"),
        ("train.epochs=[", "--set train.epochs=["),
        ("train.epochs=", "train.epochs"),
        ("train.epochs=many", "train.epochs"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, setting: str, said: str) -> None:
    told = mistakes(written(tmp_path, "name: a\n"), setting)
    assert said in told[1]


# --- values ---


def test_a_recipe_is_frozen() -> None:
    made = Recipe(name="a")
    with pytest.raises(ValidationError, match="frozen"):
        made.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        made.train.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize("name", recipe.shipped_recipes())
def test_shipped_recipes_load_under_their_own_name_and_survive_yaml(tmp_path: Path, name: str) -> None:
    made = recipe.load_recipe(name)
    assert made.name == name
    assert recipe.load_recipe(written(tmp_path, made.to_yaml())) == made


PUBLISHED: dict[str, dict[str, Any]] = {  # what the six projects tell of their settings
    "efficientnet-uncertainty": {"conformal.score": "raps", "model.members.number": 30},
    "fashion-fusion": {"model.name": "fusion", "model.fusion.heads": 4},
    "mobilenet-attention": {
        "data.size": 128, "model.name": "mobilenetv2_100", "train.optimizer.name": "adam", "split.published.validation": 0.2,
        "split.published.by": "folders",
    },
    "resnet50-two-stage": {
        "data.size": 224, "model.name": "resnet50", "model.hidden": (512,), "model.dropout": 0.3,
        "model.mean": (0.485, 0.456, 0.406), "model.std": (0.229, 0.224, 0.225),
    },
    "alexnet-gray": {
        "data.size": 32, "data.channels": 1, "model.mean": (0.5,), "model.std": (0.5,), "model.dropout": 0.5,
        "split.published.validation": 0.15, "split.published.test": 0.15, "train.optimizer.name": "sgd",
        "train.optimizer.lr": 1e-4, "train.optimizer.momentum": 0.9, "train.optimizer.weight_decay": 1e-4,
        "train.batch": 128, "train.epochs": 100, "train.monitor": "macro_f1", "train.augment.brightness": 0,
        "train.augment.elastic": 0,
    },
    "stroke-hybrid": {
        "data.size": 224, "model.hybrid.convolution.name": "resnet50", "train.optimizer.name": "adamw",
        "model.hybrid.transformer.name": "vit_base_patch16_224", "train.optimizer.lr": 3e-4, "train.batch": 32,
        "train.optimizer.weight_decay": 1e-4, "train.epochs": 35, "train.checkpoint_every": 10,
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "place"), [(name, place) for name, told in PUBLISHED.items() for place in told])
def test_recipes_have_the_settings_of_their_projects(name: str, place: str) -> None:
    assert attrgetter(place)(recipe.load_recipe(name)) == PUBLISHED[name][place]


def test_stages_of_the_projects() -> None:
    (frozen,) = recipe.load_recipe("mobilenet-attention").train.stages
    assert (frozen.freeze, frozen.epochs) == ("backbone", 50)
    head, everything = recipe.load_recipe("resnet50-two-stage").train.stages
    assert (head.freeze, everything.freeze, everything.lr) == ("backbone", "none", 1e-5)


@pytest.mark.parametrize("name", recipe.shipped_recipes())
def test_weights_of_the_hub_see_pixels_as_they_were_trained(name: str) -> None:
    import timm

    section = recipe.load_recipe(name).model
    halves = (section.hybrid.convolution, section.hybrid.transformer) if section.name == "hybrid" else ()
    seen = {half.name: (half.mean or section.mean, half.std or section.std) for half in halves}
    parts = {"fusion": section.fusion.image.name, "subject_ridge": section.ridge.backbone.name}
    backbone = parts.get(section.name, section.name)
    for network, (mean, std) in (seen or {backbone: (section.mean, section.std)}).items():
        if section.weights == "hub":
            about = timm.get_pretrained_cfg(network)
            assert (mean * (3 // len(mean)), std * (3 // len(std))) == (about.mean, about.std)


def test_yaml_says_every_default_and_loses_nothing(tmp_path: Path) -> None:
    made = Recipe.model_validate(
        {
            "name": "a",
            "title": "no: 'quotes', ümlaut # 脳\nsecond line",
            "classes": {"healthy": "1- Stroke", "sick": ["yes", "5"]},
            "ordered": True,
            "stages": {"sick": {"title": "Sick", "cdr": 0.5}},
            "train": {"optimizer": {"lr": 1e-7}},
            "model": {"mean": [0.1, 0.2, 0.3], "options": {"pad_type": "same", "qkv_bias": True, "depth": 3}},
        }
    )
    text = made.to_yaml()
    assert recipe.load_recipe(written(tmp_path, text)) == made
    assert "label_smoothing: 0.0" in text
    assert list(recipe.load_recipe(written(tmp_path, text)).classes or ()) == ["healthy", "sick"]


# --- the schema for editors ---


def test_the_committed_schema_is_the_generated_one() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == recipe.recipe_schema(), (
        "write scanwise.recipe.recipe_schema() to it again"
    )


def test_the_schema_is_valid_and_is_no_recipe() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(recipe.recipe_schema()))
    assert not [name for name in recipe.shipped_recipes() if "schema" in name]


@pytest.mark.parametrize("name", recipe.shipped_recipes())
def test_the_schema_takes_what_is_shipped_and_every_default(name: str) -> None:
    from ruamel.yaml import YAML

    schema = json.loads(recipe.recipe_schema())
    jsonschema.validate(YAML(typ="safe", pure=True).load(recipe.shipped_recipes()[name]), schema)
    jsonschema.validate(YAML(typ="safe", pure=True).load(recipe.load_recipe(name).to_yaml()), schema)


@pytest.mark.parametrize("wrong", [{}, {"name": "a", "trian": {}}, {"name": "a", "train": {"epochs": -1}}])
def test_the_schema_refuses_what_loading_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, json.loads(recipe.recipe_schema()))


def test_a_wheel_holds_the_recipes_and_the_schema() -> None:
    from hatchling.builders.wheel import WheelBuilder

    root = Path(__file__).parents[1]
    there = {file.distribution_path for file in WheelBuilder(str(root)).recurse_included_files()}
    assert "scanwise/recipes/recipe.schema.json" in there
    assert {f"scanwise/recipes/{name}.yaml" for name in recipe.shipped_recipes()} <= there
