"""Covariates of people: what they are, how they become numbers, and which are refused."""

from pathlib import Path

import numpy as np
import pytest

from medical_files import write_dicom
from scanwise.cohort import covariates
from scanwise.cohort.listing import Listing
from scanwise.cohort.slice_expansion import expand_slices
from scanwise.errors import DataError
from scanwise.recipe import Data, Recipe
from scanwise.records import Cohort

PEOPLE, SCANS = 60, 2


def cohort_of(classes: tuple[str, ...] = ("well", "ill"), **columns: list[str]) -> Cohort:
    """60 people of two classes with two scans each; each column has a value a person."""
    person = np.repeat(np.arange(PEOPLE), SCANS)
    names = np.array([f"p{index:02d}" for index in person])
    paths = np.array([f"{row}.png" for row in range(len(person))])
    groups = {name: np.array(values)[person] for name, values in columns.items()}
    return Cohort("/data", paths, person % 2, classes, True, names, "column subject", paths, paths, groups)


def settle(cohort: Cohort, *names: str, name: str = "backbone") -> tuple[Recipe, str]:
    """The settled recipe, and what is said."""
    recipe = Recipe.model_validate(
        {"name": "a", "data": {"covariates": names}, "model": {"name": name}, "train": {"epochs": 1}}
    )
    settled, findings = covariates.settle_covariates(cohort, recipe)
    return settled, " ".join(finding.message for finding in findings)


def ages(random: np.random.Generator) -> list[str]:
    return [f"{value:.0f}" for value in random.normal(70, 8, PEOPLE)]


def test_amounts_and_kinds_are_told_apart_and_written_into_the_recipe() -> None:
    random = np.random.default_rng(0)
    sex = random.choice(["F", "M"], PEOPLE).tolist()
    cohort = cohort_of(
        PatientAge=[f"{int(age):03d}Y" for age in ages(random)],
        sex=sex,
        site=random.choice(["1", "2", "3"], PEOPLE).tolist(),
    )
    settled, told = settle(cohort, "PatientAge", "sex", "site", name="subject_ridge")
    assert settled.data.covariates == {"PatientAge": "number", "sex": ("F", "M"), "site": ("1", "2", "3")}
    assert settled.model.ridge.covariates == 4
    assert told == ""
    numbers = covariates.covariate_numbers(cohort.groups, settled.data.covariates, len(cohort))
    assert numbers[:, 1].tolist() == [float(value == "M") for value in np.repeat(sex, SCANS)]
    assert numbers[:, 0].min() > 20
    again, _ = covariates.settle_covariates(cohort, settled)
    assert again == settled


def test_missing_values_are_counted_and_a_person_has_one_value() -> None:
    random = np.random.default_rng(1)
    known = [value if index % 3 else "n/a" for index, value in enumerate(ages(random))]
    cohort = cohort_of(age=known)
    settled, told = settle(cohort, "age")
    assert "not known of all 60 subjects: age of 20 is missing" in told
    kinds = settled.data.covariates
    tokens = covariates.person_tokens(cohort.subject, np.full(120, np.nan), cohort.groups, kinds)
    assert tokens.shape == (120, 3)
    assert np.isnan(tokens[:, 2]).sum() == 40
    visits = cohort_of(age=known).groups["age"].copy()
    visits[2:4] = "60", "62"
    tokens = covariates.person_tokens(cohort.subject, np.full(120, np.nan), {"age": visits}, kinds)
    assert tokens[2:4, 2].tolist() == [61.0, 61.0]


def test_values_that_training_did_not_have_are_not_known() -> None:
    groups = {"age": np.array(["70", "old", ""]), "sex": np.array(["M", "X", "F"])}
    numbers = covariates.covariate_numbers(groups, {"age": "number", "sex": ("F", "M")}, 3)
    assert np.array_equal(numbers, [[70, 1], [np.nan, np.nan], [np.nan, 0]], equal_nan=True)
    assert np.isnan(covariates.covariate_numbers({}, {"age": "number"}, 2)).all()


def test_age_and_sex_stand_in_dicom_headers_and_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for index, (age, sex) in enumerate([("065Y", "F"), ("", "M")]):
        write_dicom(tmp_path / f"{index}.dcm", pixels + index, PatientID=f"p{index}", PatientAge=age, PatientSex=sex)
    files = Listing(tmp_path, np.array(["0.dcm", "1.dcm"]), np.array(["a", "b"]))
    asked, _ = expand_slices(files, Data(covariates=("age", "sex")))
    assert {name: asked.groups[name].tolist() for name in ("age", "sex")} == {"age": ["065Y", ""], "sex": ["F", "M"]}
    plain, _ = expand_slices(files, Data())
    assert not {"age", "sex"} & set(plain.groups)


LABELS = ["no" if index % 2 == 0 else "yes" for index in range(PEOPLE)]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["70"] * PEOPLE, "the same for everyone"),
        ([""] * PEOPLE, "not known of anyone"),
        ([f"note {index} of the ward" for index in range(PEOPLE)], "is text: 60 values"),
        (LABELS, "tells 'well' from all others by itself"),
        ([f"{20 + 30 * (index % 2) + index / 100}" for index in range(PEOPLE)], "the label in disguise"),
        ([value if index % 2 else "" for index, value in enumerate(ages(np.random.default_rng(2)))], "not known of anyone with 'well'"),
        ([f"1.2.840.{index}.7" for index in range(PEOPLE)], "names single people"),
    ],
    ids=["constant", "empty", "text", "label", "amount that is the label", "missing for a class", "identifier"],
)  # fmt: skip
def test_covariates_that_cannot_teach_are_refused(values: list[str], told: str) -> None:
    with pytest.raises(DataError, match=told):
        settle(cohort_of(known=values), "known")


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    random = np.random.default_rng(3)
    with pytest.raises(DataError, match=r"'agee'.*there are age.*mean"):
        settle(cohort_of(age=ages(random)), "agee")


@pytest.mark.parametrize(
    ("classes", "columns", "used", "told"),
    [
        (("nondemented", "milddemented"), False, (), "Age is not known here"),
        (("nondemented", "milddemented"), True, (), "The column 'age' is not used: set data.covariates="),
        (("nondemented", "milddemented"), True, ("age",), ""),
        (("control", "stroke"), False, (), ""),
    ],
)
def test_where_age_may_be_a_part_of_a_figure_about_dementia_it_is_said(
    classes: tuple[str, ...], columns: bool, used: tuple[str, ...], told: str
) -> None:
    known = {"age": ages(np.random.default_rng(4))} if columns else {}
    said = settle(cohort_of(classes, **known), *used)[1]
    assert said.startswith(told)
    assert bool(said) == bool(told)
