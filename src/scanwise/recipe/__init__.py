"""Recipes: frozen sections, YAML in, `--set train.epochs=3` over it, all mistakes reported at once.

A recipe is data: it names entries of tables and can never run code. The descriptions of fields, in the modules of this
package, are the reference; `scanwise recipes schema` gives them to editors.
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from scanwise.errors import DataError, RecipeError, describe_os_error, did_you_mean
from scanwise.recipe.data import NUMBER, Audit, Data, PublishedSplit, SplitSection
from scanwise.recipe.evaluation import Baselines, Calibration, Conformal, Evaluation, Uncertainty
from scanwise.recipe.explain import Explain
from scanwise.recipe.model import (
    AttentionSection,
    BackboneSection,
    FusionSection,
    HybridHalf,
    HybridSection,
    Members,
    Model,
    MultiheadSection,
    RidgeSection,
    TextSection,
)
from scanwise.recipe.section import Section
from scanwise.recipe.train import Augment, Optimizer, Schedule, Tracking, Train, TrainingStage
from scanwise.untrusted import MOST_YAML, parse_yaml, quote, read_text

__all__ = [
    "NUMBER",
    "AttentionSection",
    "Audit",
    "Augment",
    "BackboneSection",
    "Baselines",
    "Calibration",
    "ClassDescription",
    "Conformal",
    "Data",
    "Evaluation",
    "Explain",
    "FusionSection",
    "HybridHalf",
    "HybridSection",
    "Members",
    "Model",
    "MultiheadSection",
    "Optimizer",
    "PublishedSplit",
    "Recipe",
    "RidgeSection",
    "Schedule",
    "Section",
    "SplitSection",
    "TextSection",
    "Tracking",
    "Train",
    "TrainingStage",
    "Uncertainty",
    "load_recipe",
    "recipe_schema",
    "shipped_recipes",
    "with_settings",
]

MOST_MISTAKES, MOST_KEY, MOST_MESSAGE = 20, 60, 600
"""Mistakes that are listed, characters of a key and of a message."""


class ClassDescription(Section):
    """Description of a class in reports."""

    title: str = ""
    """Name in reports (default: that of the class)."""
    description: str = ""
    """Explanation in one sentence."""
    cdr: float | None = None
    """Clinical Dementia Rating, if the class has one."""


class Recipe(Section):
    """A complete system, from scans to report."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """Name of the run in reports."""
    title: str = ""
    """Title of the report (default: the name)."""
    description: str = ""
    """Purpose of the system, for reports."""
    results_name: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9-]*)?$")] = ""
    """First part of the names of `_classification_results` and `_summary_statistics` (default: the name)."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of everything that is drawn at random."""
    classes: tuple[str, ...] | Mapping[str, str | tuple[str, ...]] | None = None
    """Labels to use, in order: a list, or `name: label`, or `name: [labels to merge]` (default: every label found)."""
    ordered: bool | None = None
    """The classes are ordered stages (default: true for known scales, false for all other names)."""
    stages: Mapping[str, ClassDescription] = {}
    """Titles and descriptions of the classes, by name."""
    data: Data = Data()
    audit: Audit = Audit()
    split: SplitSection = SplitSection()
    model: Model = Model()
    train: Train = Train()
    calibration: Calibration = Calibration()
    conformal: Conformal = Conformal()
    uncertainty: Uncertainty = Uncertainty()
    evaluation: Evaluation = Evaluation()
    explain: Explain = Explain()
    rivals: Baselines = Baselines()

    @model_validator(mode="after")
    def _ordinal_with_corn(self) -> Self:
        if self.model.ordinal != (self.train.loss == "corn"):
            raise ValueError("model.ordinal: true and train.loss: corn belong together; set both or neither")
        return self

    @model_validator(mode="after")
    def _person_from_the_mean(self) -> Self:
        ridge = self.model.ridge
        if not (self.model.is_ridge or self.model.by_subject):
            return self
        name = "name: subject_ridge" if self.model.is_ridge else "unit: subject"
        if self.evaluation.pooling != "mean_logit":
            raise ValueError(f"model.{name} needs evaluation.pooling: mean_logit, which gives its score exactly")
        if "published" in self.split.protocols:
            raise ValueError(f"model.{name} learns people, so its splits are by subject: protocols: [honest]")
        if self.model.by_subject and (self.train.mixup or self.train.cutmix or self.train.sampling == "smote"):
            raise ValueError(
                "model.unit: subject gives one label to the scans of a person: no mixture of scans has one. Set train.mixup and "
                "train.cutmix to 0, and train.sampling to another way than smote"
            )
        if self.model.by_subject and self.train.compiled:
            raise ValueError(
                "model.unit: subject has bags of another size in every step, each of which train.compiled would compile anew; leave "
                "compiled out"
            )
        if ridge.learn_on == "stages" and not isinstance(self.classes, Mapping):
            raise ValueError(
                "model.ridge.learn_on: stages needs classes that merge labels, such as `classes: {well: [a], ill: [b, c]}`"
            )
        return self

    @model_validator(mode="after")
    def _members_leave_people_out(self) -> Self:
        if not self.conformal.is_out_of_fold:
            return self
        if not self.model.is_ridge or self.model.ridge.folds < 3:
            raise ValueError(
                "conformal.data: out_of_fold needs members that each left some people out: model.name: subject_ridge with 3 folds "
                "or more. Leave it out, and the calibration side makes the sets"
            )
        if self.data.covariates:
            raise ValueError(
                "conformal.data: out_of_fold does not go with data.covariates, which are standardised over all people who teach; "
                "leave one of them out"
            )
        if self.conformal.alpha >= 0.5:
            raise ValueError("conformal.data: out_of_fold guarantees 1 - 2 alpha: set conformal.alpha below 0.5")
        return self

    @model_validator(mode="after")
    def _covariates_have_a_layer(self) -> Self:
        if not self.data.covariates:
            return self
        if self.model.reads_words:
            raise ValueError(
                f"data.covariates stand under the last layer beside the features of a scan; model.name: {self.model.name} takes the "
                "words of a title there. Take another network, or leave data.covariates out"
            )
        if self.model.ordinal:
            raise ValueError("data.covariates and model.ordinal do not go together; leave one of them out")
        if self.train.mixup or self.train.cutmix:
            raise ValueError(
                "mixup and cutmix mix pixels, but not the covariates of data.covariates; set train.mixup and train.cutmix to 0"
            )
        return self

    @model_validator(mode="after")
    def _words_unmixed(self) -> Self:
        if self.model.reads_words and (self.train.mixup or self.train.cutmix):
            raise ValueError(
                f"mixup and cutmix mix pixels, but not the words that model.name: {self.model.name} reads; "
                "set train.mixup and train.cutmix to 0"
            )
        return self

    @model_validator(mode="after")
    def _finished_without_training(self) -> Self:
        model = self.model
        if self.train.epochs or model.is_ridge:
            return self
        if model.weights in ("none", "hub") or not model.class_order:
            raise ValueError(
                "train.epochs: 0 trains nothing, so the whole network must come from a file: set model.weights to it, and "
                "model.class_order to the names of its classes in its order"
            )
        if model.members.kind == "deep_ensemble":
            raise ValueError(
                "train.epochs: 0 makes all members of a deep_ensemble one network; set members.kind to one"
            )
        if model.by_subject and model.pool == "attention":
            raise ValueError("train.epochs: 0 trains no attention over the scans of a subject; set model.pool to mean")
        if model.reads_words and model.text.encoder == "small":
            raise ValueError(
                "train.epochs: 0 does not go with text.encoder: small, whose vocabulary every run learns anew; the weights "
                "belong to another one"
            )
        if self.explain.retrain:
            raise ValueError("explain.retrain trains twice more, but train.epochs: 0 trains nothing; leave it out")
        return self

    @property
    def learning_sides(self) -> tuple[str, ...]:
        """Sides of a split whose subjects teach the network; more than one for `subject_ridge`, which has no epoch to choose."""
        if not self.model.is_ridge:
            return ("train",)
        return ("train", "validation", *(["calibration"] if self.conformal.is_out_of_fold else []))

    def to_yaml(self) -> str:
        """YAML of the recipe with every default made explicit."""
        from ruamel.yaml import YAML

        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        stream = io.StringIO()
        yaml.dump(self.model_dump(mode="json"), stream)
        return stream.getvalue()


def shipped_recipes() -> dict[str, str]:
    """Recipes that come with scanwise: name to YAML text."""
    folder = resources.files("scanwise") / "recipes"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return {f.name.removesuffix(".yaml"): f.read_text(encoding="utf-8") for f in files}


def load_recipe(source: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """Read a shipped recipe by name, or a YAML file, and apply `a.b=value` settings.

    Raises:
        RecipeError: naming every mistake at once.
    """
    text = _text_of(str(source))
    values = _parse_yaml(text, str(source))
    if not isinstance(values, dict):
        raise RecipeError(f"{source} holds no recipe: expected `key: value` lines, such as `name: my-recipe`.")
    return _validate(values, settings, f"The recipe {source}")


def with_settings(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with `a.b=value` settings laid over it.

    Raises:
        RecipeError: naming every mistake at once.
    """
    return _validate(recipe.model_dump(mode="json"), settings, "The recipe")


def _validate(values: dict[str, Any], settings: Iterable[str], what: str) -> Recipe:
    mistakes = [mistake for setting in settings if (mistake := _set(values, setting))]
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        mistakes += [_describe_error(dict(details)) for details in error.errors()]
    if mistakes:
        mistakes = list(dict.fromkeys(mistakes))
        lines = [f"  - {mistake}" for mistake in mistakes[:MOST_MISTAKES]]
        if len(mistakes) > MOST_MISTAKES:
            lines.append(f"  - … and {len(mistakes) - MOST_MISTAKES:,} more")
        count = f"{len(mistakes):,} mistake{'s' * (len(mistakes) > 1)}"
        raise RecipeError("\n".join([f"{what} has {count}:", *lines]))
    return recipe


def recipe_schema() -> str:
    """JSON schema of a recipe, for editors."""
    return json.dumps(Recipe.model_json_schema(), indent=1) + "\n"


def _text_of(source: str) -> str:
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            return read_text(path, 4 * MOST_YAML, "a recipe")
        except (OSError, DataError) as error:
            reason = describe_os_error(error) if isinstance(error, OSError) else ""
            raise RecipeError(f"The recipe file {source} cannot be read: {reason or error}") from error
    shipped = shipped_recipes()
    if source not in shipped:
        raise RecipeError(
            f"There is no recipe {quote(source)}; shipped are {', '.join(shipped)}.{did_you_mean(source, shipped)} "
            "A file of your own must end in .yaml."
        )
    return shipped[source]


def _parse_yaml(text: str, source: str) -> Any:
    """YAML 1.2: duplicate keys are refused, `1e-3` is a number and `no` is a word."""
    try:
        return parse_yaml(text)
    except DataError as error:
        raise RecipeError(f"{source}, {error}.") from error


def _set(values: dict[str, Any], setting: str) -> str:
    """Apply one `a.b=value` to the values; return an error message, or ''."""
    key, equals, text = setting.partition("=")
    if not equals or not key:
        return f"--set {setting[:80]}: expected key=value, such as train.epochs=3"
    try:
        value = _parse_yaml(text, f"--set {setting[:80]}")
    except RecipeError as error:
        return str(error)
    *parents, last = key.split(".")
    here = values
    for parent in parents:
        if here.get(parent) is None:
            here[parent] = {}
        if not isinstance(here[parent], dict):
            return f"--set {setting[:80]}: {quote(parent)} is a value, not a section"
        here = here[parent]
    here[last] = value
    return ""


def _describe_error(details: dict[str, Any]) -> str:
    """One error of pydantic as a line for people."""
    where = [str(part)[:MOST_KEY] for part in details["loc"]]
    key = ".".join(where) or "recipe"
    if where[:1] == ["classes"]:  # a union, of which pydantic reports every failed branch
        return (
            "classes: expected [label, …], or `name: label` or `name: [label, …]` lines; quote labels that are numbers"
        )
    match details["type"]:
        case "extra_forbidden":
            siblings = _fields_at(details["loc"][:-1])
            elsewhere = [name for name in _keys_and_sections() if name.rpartition(".")[2] == where[-1]]
            hint = f" Did you mean {' or '.join(elsewhere)}?" if elsewhere else did_you_mean(where[-1], siblings)
            return f"{key}: there is no such key.{hint} Known here: {', '.join(siblings)}"
        case "literal_error":
            expected = str(details["ctx"]["expected"])
            words = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
            return f"{key}: {quote(details['input'])} is not one of {expected}.{did_you_mean(quote(details['input']), words)}"
        case "missing":
            return f"{key}: is missing and has no default"
        case _:
            message = f"{key}: {details['msg'].removeprefix('Value error, ')} (found {quote(details['input'])})"
            return " ".join(message[:MOST_MESSAGE].split())


def setting_keys() -> tuple[str, ...]:
    """Every key that a setting may name, such as train.epochs."""
    return tuple(_keys_below(Recipe))


def _keys_and_sections() -> Iterator[str]:
    """Every key that a setting may name, after the sections that it lies in."""
    parts = [key.split(".") for key in setting_keys()]
    yield from dict.fromkeys(".".join(names[:end]) for names in parts for end in range(1, len(names) + 1))


def _keys_below(section: type[BaseModel], lead: str = "") -> Iterator[str]:
    for name, entry in section.model_fields.items():
        kinds = (entry.annotation, *(get_args(entry.annotation) if isinstance(entry.annotation, UnionType) else ()))
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            yield lead + name
        else:
            yield from _keys_below(inner, f"{lead}{name}.")


def _fields_at(path: tuple[str | int, ...]) -> list[str]:
    section: Any = Recipe
    for part in path:
        kind = (
            section.model_fields[part].annotation
            if isinstance(section, type) and issubclass(section, BaseModel) and part in section.model_fields
            else section
        )
        section = next(
            (t for t in (kind, *get_args(kind)) if isinstance(t, type) and issubclass(t, BaseModel)), section
        )
    return list(section.model_fields)
