"""Covariates: what is known of a person besides the scans, such as age and sex, as numbers.

An amount is one number, and a kind is one number for each of its values but the first. One that is not known is NaN,
for which the average of training people stands in. A covariate that cannot teach, or that is the label in
disguise, is refused before anything is learnt.
"""

from collections.abc import Mapping

import numpy as np

from scanwise.cohort.anatomical_order import places_in_order
from scanwise.cohort.classes import SCALES, LabelReading
from scanwise.errors import DataError, did_you_mean
from scanwise.phrases import count_of
from scanwise.pooling import common_label
from scanwise.recipe import NUMBER, Recipe
from scanwise.records import BoolArray, Cohort, Finding, FloatArray, IntArray, StrArray
from scanwise.records.columns import are_amounts, is_age, is_identifier, numbers_in
from scanwise.records.names import has_value

KINDS = 10
"""Most values of a kind; a column of more is text."""
DISGUISE = 0.99
"""AUROC above which a single covariate is taken for the label."""

Covariates = Mapping[str, str | tuple[str, ...]]
"""Names, each with `NUMBER` or the values of a kind."""


def settle_covariates(cohort: Cohort, recipe: Recipe) -> tuple[Recipe, list[Finding]]:
    """The recipe with the kind of each covariate, and a note on those that are not known of everyone.

    Raises:
        DataError: naming the covariate that cannot be used, and why.
    """
    people = np.unique(cohort.subject, return_inverse=True)[1]
    class_of = common_label(cohort.labels, people, len(cohort.classes))
    kinds = {name: _kind(name, _column(cohort, name), recipe) for name in recipe.data.covariates}
    unknown = {}
    for name, kind in kinds.items():
        numbers = mean_of_person(covariate_numbers(cohort.groups, {name: kind}, len(cohort)), cohort.subject)
        of_person = np.full((len(class_of), numbers.shape[1]), np.nan)
        of_person[people] = numbers
        _check(name, of_person, class_of, cohort.classes)
        unknown[name] = int(np.isnan(of_person[:, 0]).sum())
    width = sum(1 if isinstance(kind, str) else len(kind) - 1 for kind in kinds.values())
    sections: dict[str, object] = {"data": recipe.data.model_copy(update={"covariates": kinds or ()})}
    ridge = recipe.model.ridge.model_copy(update={"covariates": width})
    read = {"ridge": ridge} if recipe.model.is_ridge else {"covariates": width}
    sections["model"] = recipe.model.model_copy(update=read)
    settled = recipe.model_copy(update=sections)
    counts = [f"{name} of {count:,}" for name, count in unknown.items() if count]
    findings = age_findings(cohort, tuple(kinds))
    if counts:
        message = (
            f"Covariates are not known of all {count_of(len(class_of), 'subject')}: {', '.join(counts)} is missing. There the "
            "average of training people stands in."
        )
        findings.append(Finding("data.covariates", "note", message))
    return settled, findings


def covariate_numbers(groups: Mapping[str, StrArray], covariates: Covariates, count: int) -> FloatArray:
    """(N, K) numbers of the covariates of each scan; NaN where one is not known, or a kind that training did not have.

    >>> covariate_numbers({"sex": np.array(["F", "M", ""])}, {"sex": ("F", "M")}, 3)[:, 0].tolist()
    [0.0, 1.0, nan]
    """
    columns = []
    for name, kind in covariates.items():
        values = _known(groups.get(name, np.full(count, "")))
        if isinstance(kind, str):
            numbers = numbers_in(values)
            columns.append(_each_number(values) if numbers is None else numbers)
        else:
            unknown = ~np.isin(values, kind)
            columns += [np.where(unknown, np.nan, values == value) for value in kind[1:]]
    return np.column_stack(columns) if columns else np.empty((count, 0))


def mean_of_person(numbers: FloatArray, subjects: StrArray) -> FloatArray:
    """(N, K) the mean of what is known of each scan's person.

    >>> mean_of_person(np.array([[60.0], [np.nan], [70.0]]), np.array(["a", "a", "b"]))[:, 0].tolist()
    [60.0, 60.0, 70.0]
    """
    _, people = np.unique(subjects, return_inverse=True)
    finite, count = np.isfinite(numbers), int(people.max(initial=-1)) + 1
    sums, counts = np.zeros((count, numbers.shape[1])), np.zeros((count, numbers.shape[1]))
    np.add.at(sums, people, np.where(finite, numbers, 0.0))
    np.add.at(counts, people, finite)
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return np.asarray(means[people])


def person_tokens(
    subjects: StrArray, positions: FloatArray, groups: Mapping[str, StrArray], covariates: Covariates
) -> IntArray | FloatArray:
    """(N, 2 + K) rank of each scan among those of its person, their number, and the person's covariates.

    The first two as in `places_in_order`.
    """
    places = places_in_order(subjects, positions)
    if not covariates:
        return places
    numbers = mean_of_person(covariate_numbers(groups, covariates, len(subjects)), subjects)
    return np.concatenate([places.astype(np.float64), numbers], axis=1)


def network_tokens(
    recipe: Recipe, subjects: StrArray, positions: FloatArray, groups: Mapping[str, StrArray]
) -> IntArray | FloatArray | None:
    """Numbers that a network reads beside each scan of its person; None for one that reads none.

    Args:
        recipe: after `settle_covariates`.
        subjects: (N,).
        positions: (N,) from `scan_positions`, for a network that reads the order.
        groups: columns of the scans.
    """
    covariates = settled_covariates(recipe)
    if recipe.model.is_ridge:
        return person_tokens(subjects, positions, groups, covariates)
    if not recipe.model.covariates:
        return None
    numbers = mean_of_person(covariate_numbers(groups, covariates, len(subjects)), subjects)
    return numbers.astype(np.float32)


def standardise(numbers: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Covariates (P, K) with the mean 0 and the spread 1, what is not known at 0; and (2, K) these means and spreads."""
    finite = np.isfinite(numbers)
    counts = np.maximum(finite.sum(axis=0), 1)
    means = np.where(finite, numbers, 0).sum(axis=0) / counts
    away = np.where(finite, numbers - means, 0)
    spreads = np.sqrt((away**2).sum(axis=0) / counts)
    spreads = np.where(spreads > 0, spreads, 1.0)
    return away / spreads, np.stack([means, spreads])


def settled_covariates(recipe: Recipe) -> Covariates:
    """The covariates of a recipe with their kinds; none before `settle_covariates`."""
    covariates = recipe.data.covariates
    return covariates if isinstance(covariates, Mapping) else {}


def age_findings(cohort: Cohort, covariates: tuple[str, ...]) -> list[Finding]:
    """A note where stages of dementia are the classes and age is not among the covariates."""
    labels = np.unique(cohort.spelling).tolist() if cohort.spelling is not None else list(cohort.classes)
    if LabelReading.of(labels).scale is not SCALES["dementia"]:
        return []
    ages = [name for name, values in cohort.groups.items() if _is_age_column(name, values)]
    if set(ages) & set(covariates):
        return []
    opening = (
        f"The column {ages[0]!r} is not used: set data.covariates=[{ages[0]}]" if ages else "Age is not known here"
    )
    message = (
        f"{opening}. Dementia is commoner among older people and age shows in a scan, so a part of the figures may be age and not "
        "disease. With ages as a covariate the report says what the scans add to them."
    )
    return [Finding("data.age", "note", message)]


def _column(cohort: Cohort, name: str) -> StrArray:
    if name in cohort.groups:
        return cohort.groups[name]
    raise DataError(
        f"data.covariates names {name!r}, and these scans have no such column; there are "
        f"{', '.join(cohort.groups) or 'none'}.{did_you_mean(name, list(cohort.groups))} A manifest, participants.tsv or a table "
        "of patients (data.patients) can have it; of DICOM files `age` and `sex` are read from the header."
    )


def _kind(name: str, values: StrArray, recipe: Recipe) -> str | tuple[str, ...]:
    """The kind of a covariate: as the recipe says, else by its values."""
    given = recipe.data.covariates
    if isinstance(given, Mapping):
        return given[name]
    cells = _known(values)
    names = sorted(set(cells.tolist()) - {""})
    if is_identifier(name, cells):
        raise DataError(
            f"The covariate {name!r} names single people, studies or files; leave it out of data.covariates."
        )
    if len(names) < 2:
        raise DataError(
            f"The covariate {name!r} is {'the same for everyone' if names else 'not known of anyone'}, so it tells nothing; "
            "leave it out of data.covariates."
        )
    if are_amounts(name, numbers_in(cells)):
        return NUMBER
    if len(names) > KINDS:
        raise DataError(
            f"The covariate {name!r} is text: {len(names):,} values, such as {names[0][:40]!r}. Give numbers, or at most {KINDS} "
            "short names."
        )
    return tuple(names)


def _check(name: str, numbers: FloatArray, class_of: IntArray, classes: tuple[str, ...]) -> None:
    """Refuse a covariate (K, D) of people that is missing for a class, or that tells one from the others by itself."""
    finite = np.isfinite(numbers[:, 0])
    for index, title in enumerate(classes):
        own = class_of == index
        if own.any() and not finite[own].any():
            raise DataError(
                f"The covariate {name!r} is not known of anyone with {title!r}: that it is missing would tell the class. Fill it "
                "in, or leave it out of data.covariates."
            )
        columns = [finite.astype(np.float64), *(np.where(finite, column, np.nanmean(column)) for column in numbers.T)]
        if min(own.sum(), (~own).sum()) > 1 and max(_auroc(column, own) for column in columns) > DISGUISE:
            raise DataError(
                f"The covariate {name!r} tells {title!r} from all others by itself (AUROC above {DISGUISE}): it is the label in "
                "disguise, or what follows from it. Leave it out of data.covariates."
            )


def _auroc(values: FloatArray, own: BoolArray) -> float:
    """The area under the ROC curve of a number, whichever way it points."""
    from scipy.stats import rankdata

    hits = int(own.sum())
    area = (rankdata(values)[own].sum() - hits * (hits + 1) / 2) / (hits * (len(own) - hits))
    return float(max(area, 1 - area))


def _known(values: StrArray) -> StrArray:
    return np.array([text.strip() if has_value(text) else "" for text in values.tolist()], dtype=np.str_)


def _each_number(values: StrArray) -> FloatArray:
    """Numbers of a column in which some cells are none, of other data than those that were learnt from."""
    parts = [numbers_in(values[row : row + 1]) for row in range(len(values))]
    return np.array([np.nan if part is None else part[0] for part in parts])


def _is_age_column(name: str, values: StrArray) -> bool:
    numbers = numbers_in(_known(values))
    return numbers is not None and is_age(name, numbers)
