"""Labels become classes in clinical order; what no scale knows has no order, and nothing is merged by accident."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanwise.cohort.classes import (
    SCALES,
    Classes,
    bare_label,
    check_stage_names,
    describe_classes,
    match_labels,
    resolve_classes,
)
from scanwise.errors import DataError, RecipeError
from scanwise.metrics import METRICS
from scanwise.recipe import ClassDescription, Recipe


def resolved(*labels: str, **recipe: object) -> Classes:
    return resolve_classes(np.array(labels), Recipe.model_validate({"name": "a", **recipe}))


# --- known scales ---


@pytest.mark.parametrize(
    "labels",
    [
        ("MildDemented", "ModerateDemented", "NonDemented", "VeryMildDemented"),
        ("milddemented", "moderatedemented", "nondemented", "verymilddemented"),
        ("Mild Demented", "Moderate Demented", "Non Demented", "Very Mild Demented"),
        ("Mild_Demented", "Moderate-Demented", "Non-Demented", "very_mild demented"),
        ("3 - Mild Demented", "4_Moderate", "1. Non Demented", "2) Very mild Dementia"),
        ("Mild Impairment", "Moderate Impairment", "No Impairment", "Very Mild Impairment"),
        ("cdr 1", "CDR 2", "CDR 0", "CDR 0.5"),
    ],
)
def test_folders_in_alphabetical_order_become_stages_in_clinical_order(labels: tuple[str, ...]) -> None:
    made = resolved(*labels)
    assert made.names == tuple(labels[index] for index in (2, 3, 0, 1))
    assert made.ordered
    assert made.labels.tolist() == np.argsort([2, 3, 0, 1]).tolist()
    assert made.left_out == ()


@pytest.mark.parametrize("labels", [("1- Stroke", "2- Normal"), ("Stroke", "Control"), ("STROKE", "healthy")])
def test_stroke_comes_after_control(labels: tuple[str, ...]) -> None:
    made = resolved(*labels)
    assert made.names == labels[::-1]
    assert made.labels.tolist() == [1, 0]


def test_only_the_stages_that_are_there_and_two_spellings_of_one_are_one() -> None:
    made = resolved("ModerateDemented", "nondemented", "Non Demented", "moderate")
    assert made.names == ("Non Demented", "ModerateDemented")
    assert made.labels.tolist() == [1, 0, 0, 1]


def test_every_merge_on_a_scale_is_kept_for_saying() -> None:
    made = resolved("ModerateDemented", "nondemented", "Non Demented", "moderate")
    assert made.merged == {
        "Non Demented": ("Non Demented", "nondemented"),
        "ModerateDemented": ("ModerateDemented", "moderate"),
    }
    assert resolved("Mild Demented", "nondemented").merged == {}


@pytest.mark.parametrize("name", SCALES)
def test_every_alias_leads_to_one_stage_and_every_stage_has_a_title(name: str) -> None:
    scale = SCALES[name]
    aliases = [alias for names in scale.stages.values() for alias in names] + list(scale.stages)
    assert len(aliases) == len(set(aliases))
    assert all(bare_label(alias) == alias for alias in aliases)
    assert set(scale.stages) == set(scale.meanings)


@pytest.mark.parametrize(
    "labels",
    [
        ("Mild", "Moderate"),  # of any disease
        ("Normal", "Mild", "Moderate"),
        ("Mild Impairment", "Moderate Impairment"),  # of hearing, perhaps
        ("CN", "Mild", "Moderate"),
        ("AD", "MCI", "control"),
        ("Control", "Healthy"),
        ("healthy", "Normal", "tumor"),
        ("Mild", "stroke"),
        ("normal", "TIA", "stroke"),
    ],
)
def test_a_word_of_any_disease_is_no_stage(labels: tuple[str, ...]) -> None:
    made = resolved(*labels)
    assert sorted(made.names) == sorted(labels)
    assert not made.ordered
    assert describe_classes(made.names, {}) == {}


def test_stages_of_a_whole_scale_have_their_meaning() -> None:
    assert describe_classes(resolved("normal", "1- Stroke").names, {})["normal"].description == "No stroke seen"
    assert describe_classes(resolved("Non Demented", "mild").names, {})["mild"].cdr == 1
    assert describe_classes(["control", "AD"], {}) == {}


def test_what_a_recipe_says_of_a_class_holds_in_every_spelling() -> None:
    own = {"non demented": ClassDescription(title="Well"), "TUMOR": ClassDescription(title="Growth")}
    described = describe_classes(["Non-Demented", "mild"], own)
    assert (described["Non-Demented"].title, described["mild"].title) == ("Well", "Mild dementia")
    assert describe_classes(["tumor", "cyst"], own) == {"tumor": own["TUMOR"]}


def test_labels_of_one_stage_under_two_numbers_are_refused_with_both() -> None:
    with pytest.raises(
        DataError, match=r"'1- Mild Demented' and '2- Mild Demented' would both become .*'milddemented'"
    ):
        resolved("1- Mild Demented", "2- Mild Demented", "NonDemented")
    apart = resolved("1- mild", "2- mild", "NonDemented", classes={"a": "1- mild", "b": "2- mild"})
    assert (apart.names, apart.labels.tolist()) == (("a", "b"), [0, 1, -1])


# --- unknown names ---


def test_unknown_names_are_listed_without_an_order() -> None:
    made = resolved("tumor", "Cyst", "edema")
    assert made.names == ("Cyst", "edema", "tumor")
    assert not made.ordered


def test_numbers_go_by_value_and_keep_their_names() -> None:
    assert resolved("10", "2", "1").names == ("1", "2", "10")
    assert resolved("grade10", "grade2").names == ("grade2", "grade10")


def test_one_unknown_name_takes_the_order_from_all() -> None:
    made = resolved("MildDemented", "NonDemented", "Other")
    assert not made.ordered
    assert len(made.names) == 3


@pytest.mark.parametrize(
    "labels",
    [
        ("HER2+", "HER2-", "unclear"),
        ("HER2+", "HER2++", "HER2+++", "HER2 (+)"),
        ("0.5", "1.5", "15"),
        ("1-2", "2-2", "12"),
        ("+", "-", "±"),
        ("1", "01"),
        ("normal", "1-vessel", "2-vessel", "3-vessel"),
        ("2-chamber", "4-chamber"),
        ("<5mm", ">5mm", "5mm"),
        ("COVID+ve", "COVID-ve"),
        ("≥50y", "<50y"),
        ("tumor", "!tumor", "¬tumor", "tumor?"),
        ("grade 1.5", "grade 15", "grade 1 5"),
        ("A/B", "AB"),
        ("1. Cyst", "2. Cyst"),
        ("α", "β", "Αα"),
        ("①", "②", "1"),
        ("कि", "की", "क"),  # vowel signs of Devanagari
        ("กา", "กิ"),
        ("Maße", "Masse"),
        ("x²", "x2"),
    ],
)
def test_labels_that_differ_in_meaning_are_not_merged(labels: tuple[str, ...]) -> None:
    made = resolved(*labels)
    assert sorted(made.names) == sorted(labels)
    assert len(set(made.labels.tolist())) == len(labels)
    assert made.merged == {}
    assert match_labels(labels, Recipe(name="a"), made.names) == {label: label for label in labels}


SIGNS = st.text(st.sampled_from("aAb1209 _+-<>!./?#%é\u0301ि"), min_size=1, max_size=6)


def plain(label: str) -> str:
    """A label without case, and without blanks and underscores but between digits."""
    bare = unicodedata.normalize("NFC", label).lower().replace("_", " ").split()
    text = bare[0] if bare else " "
    for part in bare[1:]:
        text += (" " if text[-1].isdigit() and part[0].isdigit() else "") + part
    return unicodedata.normalize("NFC", text)


@pytest.mark.extended
@given(st.lists(SIGNS, min_size=2, max_size=6, unique=True))
def test_only_case_blanks_and_underscores_ever_merge(labels: list[str]) -> None:
    made = resolve_classes(np.array(labels), Recipe(name="a"), least=1)
    if any(not label.strip(" _") for label in labels):
        return  # nothing but blanks: no name at all
    for label, index in zip(labels, made.labels.tolist(), strict=True):
        for other, its in zip(labels, made.labels.tolist(), strict=True):
            assert (index == its) == (plain(label) == plain(other)), (label, other)


def test_case_blanks_and_underscores_merge_and_it_is_kept_for_saying() -> None:
    made = resolved("Large Cyst", "large_cyst", "LargeCyst", "tumor")
    assert made.names == ("Large Cyst", "tumor")
    assert made.labels.tolist() == [0, 0, 0, 1]
    assert made.merged == {"Large Cyst": ("Large Cyst", "LargeCyst", "large_cyst")}


def test_composed_and_decomposed_letters_are_one() -> None:
    made = resolved("Démence", "De\u0301mence", "sain")
    assert made.names == ("Démence", "sain")
    assert made.labels.tolist() == [0, 0, 1]


# --- labels of other data ---


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["COVID-ve", "covid +ve"], ["COVID+ve", "COVID-ve"], ["COVID-ve", "COVID+ve"]),
        (["!tumor", "Tumor"], ["!tumor", "tumor"], ["!tumor", "tumor"]),
        (["Healthy", "2- Stroke"], ["control", "stroke"], ["control", "stroke"]),
        (["Normal", "tumor"], ["control", "stroke"], ["", ""]),
        (["Normal", "Stroke", "tumor"], ["control", "stroke"], ["control", "stroke", ""]),
        (["Mild", "Moderate"], ["milddemented", "moderatedemented"], ["", ""]),
        (["1-vessel", "1 vessel"], ["1-vessel", "2-vessel"], ["1-vessel", ""]),
        (["De\u0301mence"], ["Démence", "sain"], ["Démence"]),
    ],
)
def test_labels_of_other_data_mean_the_class_that_they_spell(
    labels: list[str], names: Sequence[str], expected: list[str]
) -> None:
    meant = match_labels(labels, Recipe(name="a"), names)
    assert [meant.get(label, "") for label in labels] == expected


def test_a_label_of_the_recipe_comes_before_the_name_of_a_class() -> None:
    swapped = Recipe.model_validate({"name": "a", "classes": {"positive": "negative", "negative": "positive"}})
    assert match_labels(["positive"], swapped, ["positive", "negative"]) == {"positive": "negative"}


def test_the_alphabet_is_no_order_even_when_the_recipe_says_ordered() -> None:
    with pytest.raises(DataError, match=r"alphabet is no clinical order.*classes:"):
        resolved("severe", "early", "late", ordered=True)
    assert resolved("severe", "early", "late", ordered=True, classes=["early", "late", "severe"]).ordered
    assert resolved("NonDemented", "MildDemented", ordered=True).ordered
    assert not resolved("NonDemented", "MildDemented", ordered=False).ordered


@pytest.mark.parametrize("labels", [("tumor",), ("NonDemented", "Non Demented")])
def test_one_class_is_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"one class .* needs at least two"):
        resolved(*labels)


@pytest.mark.parametrize("label", ["AD|F", "Cardiomegaly|Effusion|Mass", "tumor; oedema"])
def test_a_label_of_several_classes_is_refused_and_may_be_a_class_by_the_recipe(label: str) -> None:
    with pytest.raises(DataError, match=r"names several classes at once.*survival\) are not there"):
        resolved("CN", label)
    assert resolved("CN", label, classes=["CN", label]).names == ("CN", label)
    assert resolved("CN", "|other").names == ("CN", "|other")


def test_amounts_are_no_classes_and_a_few_numbers_are() -> None:
    with pytest.raises(DataError, match=r"are 40 different numbers, from 50 to 69\.5.*regression"):
        resolved(*(f"{50 + index / 2}" for index in range(40)))
    assert len(resolved(*map(str, range(10))).names) == 10


# --- what the recipe says ---


def test_merge_and_rename() -> None:
    classes = {"healthy": "NonDemented", "demented": ["VeryMildDemented", "MildDemented", "ModerateDemented"]}
    made = resolved("Mild Demented", "moderate", "nondemented", "2- very mild", classes=classes)
    assert made.names == ("healthy", "demented")
    assert made.labels.tolist() == [1, 1, 0, 1]
    assert made.ordered


def test_merged_stages_may_be_listed_in_any_order() -> None:
    classes = {"healthy": "NonDemented", "demented": ["ModerateDemented", "MildDemented"]}
    assert resolved("mild", "moderate", "nondemented", classes=classes).ordered


@pytest.mark.parametrize(
    ("classes", "ordered"),
    [
        (["NonDemented", "ModerateDemented"], True),
        (["ModerateDemented", "NonDemented"], False),
        ({"ends": ["NonDemented", "ModerateDemented"], "middle": "MildDemented"}, False),
    ],
)
def test_order_is_the_recipes_and_clinical_only_where_it_agrees(classes: object, ordered: bool) -> None:
    made = resolved("MildDemented", "NonDemented", "ModerateDemented", classes=classes)
    assert made.names == tuple(classes)  # type: ignore[arg-type]
    assert made.ordered is ordered


def test_labels_that_the_recipe_leaves_out_are_told() -> None:
    made = resolved("MildDemented", "NonDemented", "Moderate Demented", classes=["NonDemented", "MildDemented"])
    assert made.labels.tolist() == [1, 0, -1]
    assert made.left_out == ("Moderate Demented",)


def test_a_label_that_no_scan_has_gets_a_hint() -> None:
    with pytest.raises(DataError, match=r"'tumour'.*found cyst, tumor\. Did you mean 'tumor'"):
        resolved("tumor", "cyst", classes=["tumour", "cyst"])


def test_a_label_belongs_to_one_class() -> None:
    with pytest.raises(DataError, match="to two classes"):
        resolved("tumor", "cyst", classes={"a": ["tumor", "cyst"], "b": "Tumor"})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": {"ordinal": True}, "train": {"loss": "corn"}}, r"model\.ordinal=true and train\.loss=corn"),
        *(
            ({"train": {"monitor": name}}, rf"train\.monitor={name}")
            for name, spec in METRICS.items()
            if spec.needs_order
        ),
        ({"conformal": {"score": "ordinal"}}, r"conformal\.score=ordinal"),
    ],
)
def test_what_only_stages_have_is_refused_without_an_order(settings: dict[str, object], told: str) -> None:
    made = Recipe.model_validate({"name": "a", **settings})
    with pytest.raises(
        RecipeError, match=rf"aorta, brain, chest have no clinical order, which {told} would .*`classes:`"
    ):
        check_stage_names(made, ("aorta", "brain", "chest"))
    check_stage_names(Recipe(name="a"), ("aorta", "brain", "chest"))
