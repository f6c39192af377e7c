"""Class names: their spelling, their clinical order, and the labels that each gathers.

Folder names are written in many ways (NonDemented, non demented, `1- Stroke`). Names of a known clinical scale are
brought to one spelling and put in the order of the scale. Names that no scale knows have no order at all: they are
listed as found, and nothing downstream may treat them as stages.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scanwise.errors import DataError, RecipeError, did_you_mean
from scanwise.metrics import needs_order
from scanwise.recipe import ClassDescription, Recipe
from scanwise.records import IntArray, StrArray

# A scale: its classes in clinical order, each with the other ways in which folders spell it.
SCALES: dict[str, dict[str, tuple[str, ...]]] = {
    "dementia": {
        "nondemented": (
            "nondementia",
            "nodementia",
            "noimpairment",
            "nonimpairment",
            "cognitivelynormal",
            "cn",
            "cdr0",
        ),
        "verymilddemented": ("verymilddementia", "verymild", "verymildimpairment", "questionable", "cdr05"),
        "milddemented": ("milddementia", "mild", "mildimpairment", "cdr1"),
        "moderatedemented": ("moderatedementia", "moderate", "moderateimpairment", "cdr2"),
    },
    "stroke": {
        "control": ("normal", "nonstroke", "nostroke", "healthy", "controls"),
        "stroke": ("strokes",),
    },
}

STAGES: dict[str, ClassDescription] = {
    "nondemented": ClassDescription(title="Cognitively normal", description="No cognitive impairment detected", cdr=0),
    "verymilddemented": ClassDescription(
        title="Very mild dementia", description="Questionable, very mild decline", cdr=0.5
    ),
    "milddemented": ClassDescription(title="Mild dementia", description="Clear functional impairment", cdr=1),
    "moderatedemented": ClassDescription(title="Moderate dementia", description="Needs substantial care", cdr=2),
    "control": ClassDescription(title="Control", description="No stroke seen"),
    "stroke": ClassDescription(title="Stroke", description="Stroke seen"),
}


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a cohort and the class of each scan.

    Attributes:
        names: C names.
        ordered: whether their order is clinical.
        labels: (N,) index into `names`; -1 for a scan whose label the recipe does not use.
        left_out: labels that the recipe does not use, as found.
    """

    names: tuple[str, ...]
    ordered: bool
    labels: IntArray
    left_out: tuple[str, ...]


def normalise_label(label: str) -> str:
    """A label without case, blanks, punctuation and a leading number; numbers and signs that mean something stay.

    >>> normalise_label("1- Stroke"), normalise_label("Very Mild_Demented"), normalise_label("HER2+"), normalise_label("0.5")
    ('stroke', 'verymilddemented', 'her2+', '0.5')
    """
    bare = re.sub(r"^\s*\d+\s*[-_.):]+\s*(?=[^\W\d_])", "", label).casefold().strip()
    if not re.search(r"[^\W\d_]", bare):
        return bare
    sign = bare[-1] if bare[-1] in "+-" else ""
    return re.sub(r"[\W_]+", "", bare) + sign


def resolve_classes(given: StrArray, recipe: Recipe, least: int = 2) -> Classes:
    """Map the labels that the data uses to the classes of the recipe, or to a known scale.

    Raises:
        DataError: if fewer than `least` classes are left, or the recipe names a label that no scan has.
    """
    spellings = {label: normalise_label(label) for label in np.unique(given).tolist()}
    wanted, ordered = _wanted(spellings, recipe)
    if recipe.ordered and recipe.classes is None and not ordered:
        raise DataError(
            f"The recipe says `ordered: true`, but no known scale has the classes {', '.join(wanted)}, and the alphabet "
            "is no clinical order. List them in order under `classes:`."
        )
    index_of = {key: index for index, keys in enumerate(wanted.values()) for key in keys}
    labels = np.array(
        [index_of.get(_canonical(spellings[label], set(index_of)), -1) for label in given.tolist()], dtype=np.int64
    )
    if len(wanted) < least:
        raise DataError(
            f"Found one class ({', '.join(wanted)}); a classifier needs at least two. "
            "Give each class its own folder, or its own value in the manifest's label column."
        )
    left_out = tuple(sorted({label for label, index in zip(given.tolist(), labels, strict=True) if index < 0}))
    return Classes(tuple(wanted), recipe.ordered if recipe.ordered is not None else ordered, labels, left_out)


def check_stage_names(recipe: Recipe, names: Sequence[str]) -> None:
    """Refuse settings that need an order of the classes where there is none.

    Raises:
        RecipeError: with every setting that does, and what to do.
    """
    train, score = recipe.train, recipe.conformal.score
    requested = {
        "model.ordinal=true": recipe.model.ordinal,
        f"train.loss={train.loss}": train.loss == "corn",
        f"train.monitor={train.monitor}": needs_order(train.monitor),
        f"conformal.score={score}": score == "ordinal",
    }
    if any(requested.values()):
        settings = " and ".join(setting for setting, wanted in requested.items() if wanted)
        raise RecipeError(
            f"The classes {', '.join(names)} have no clinical order, which {settings} would make up. List them in order under "
            "`classes:` with `ordered: true`, or leave that out."
        )


def match_labels(labels: Iterable[str], recipe: Recipe, names: Sequence[str]) -> dict[str, str]:
    """Map the labels of other data to the classes of a trained network; labels without a class are left out.

    >>> from scanwise.recipe import Recipe
    >>> match_labels(["Non Demented", "Mild", "alien"], Recipe(name="a"), ["nondemented", "milddemented"])
    {'Non Demented': 'nondemented', 'Mild': 'milddemented'}
    """
    gathered = recipe.classes if isinstance(recipe.classes, Mapping) else {}
    meant: dict[str, str] = {}
    for name in names:
        others = gathered.get(name, ())
        for label in (name, *((others,) if isinstance(others, str) else others)):
            meant[_canonical(normalise_label(label), _scale_names())] = name
    keys = {label: _canonical(normalise_label(label), _scale_names()) for label in labels}
    return {label: meant[key] for label, key in keys.items() if key in meant}


def _wanted(spellings: Mapping[str, str], recipe: Recipe) -> tuple[dict[str, tuple[str, ...]], bool]:
    """Class name to the canonical labels that it gathers, in order; and whether that order is clinical."""
    scale = _scale_of(set(spellings.values()))
    if recipe.classes is None:
        present = {_canonical(key, set(scale)) for key in spellings.values()}
        if scale:
            return {name: (name,) for name in scale if name in present}, True
        names = {key: label for label, key in sorted(spellings.items(), reverse=True)}
        return {names[key]: (key,) for key in sorted(names, key=_natural)}, False
    named = recipe.classes if isinstance(recipe.classes, Mapping) else {name: name for name in recipe.classes}
    gathered = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in named.items()}
    canonical = {_canonical(key, _scale_names()) for key in spellings.values()}
    wanted: dict[str, tuple[str, ...]] = {}
    for name, labels in gathered.items():
        keys = tuple(_canonical(normalise_label(label), _scale_names()) for label in labels)
        for label, key in zip(labels, keys, strict=True):
            if key not in canonical:
                raise DataError(
                    f"The recipe's class {name!r} names the label {label!r}, which no scan has; "
                    f"found {', '.join(sorted(spellings))}.{did_you_mean(label, spellings)}"
                )
            if any(key in other for other in wanted.values()):
                raise DataError(f"The recipe gives the label {label!r} to two classes; give it to one.")
        wanted[name] = keys
    scale = _scale_of({key for keys in wanted.values() for key in keys})
    order = [key for keys in wanted.values() for key in sorted(keys, key=[*scale].index)] if scale else []
    return wanted, bool(scale) and order == [name for name in scale if name in order]


def _scale_of(keys: set[str]) -> dict[str, tuple[str, ...]]:
    """The scale that knows all of these spellings, or nothing."""
    for scale in SCALES.values():
        if all(_canonical(key, set(scale)) in scale for key in keys):
            return scale
    return {}


def _canonical(key: str, names: set[str]) -> str:
    """The name on a scale that a spelling stands for, among the names given; else the spelling itself."""
    for scale in SCALES.values():
        for name, aliases in scale.items():
            if name in names and key in aliases:
                return name
    return key


def _scale_names() -> set[str]:
    return {name for scale in SCALES.values() for name in scale}


def _natural(text: str) -> list[tuple[int, str]]:
    """Sort key that puts 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", text)]
