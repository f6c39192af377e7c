"""Class names: their spelling, their clinical order, and the labels that each gathers.

Folder names are written in many ways (NonDemented, non demented, `1- Stroke`). A class is called as the data spells it. Where
all labels lie on the scale of one disease, spellings of one stage are one class, and the classes have its order. All other
labels are one class only if they differ in nothing but case, blanks and underscores, and have no order at all: nothing
downstream may treat them as stages. What a class means comes from a whole scale or from the recipe, never from one word:
`Mild` may be mild anything.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from scanwise.errors import DataError, RecipeError, did_you_mean
from scanwise.metrics import needs_order
from scanwise.recipe import ClassDescription, Recipe
from scanwise.records import IntArray, StrArray
from scanwise.records.columns import numbers_in
from scanwise.records.names import compose, label_key

ONE_CLASS = "a network here gives one class: several labels of one scan, amounts (regression) and times to an event (survival) are not there."
AMOUNTS = 30
"""Most classes that are all numbers."""


@dataclass(frozen=True, slots=True)
class ClinicalScale:
    """The stages of one disease.

    Attributes:
        stages: each stage in clinical order, with the other ways in which folders spell it, all as `bare_label` gives them.
        disease: pattern of spellings that are of this disease alone; the others belong to any.
        whole: pattern of spellings that are of this disease only where every stage is there in such words.
        meanings: description of each stage.
    """

    stages: Mapping[str, tuple[str, ...]]
    disease: str
    whole: str
    meanings: Mapping[str, ClassDescription]

    def stage(self, label: str) -> str:
        """The stage that a label spells, or ""."""
        bare = bare_label(label)
        return next((stage for stage, others in self.stages.items() if bare == stage or bare in others), "")

    def is_meant_by(self, labels: Iterable[str]) -> bool:
        """Whether labels that all lie on the scale can be of this disease only."""
        keys = {bare_label(label): self.stage(label) for label in labels}
        if any(re.search(self.disease, key) for key in keys):
            return True
        return set(keys.values()) == set(self.stages) and all(re.search(self.whole, key) for key in keys)


SCALES: dict[str, ClinicalScale] = {
    "dementia": ClinicalScale(
        stages={
            "nondemented": (
                "nondementia",
                "nodementia",
                "noimpairment",
                "nonimpairment",
                "cognitivelynormal",
                "cn",
                "cdr0",
                "cdr0.0",
            ),
            "verymilddemented": (
                "verymilddementia",
                "verymild",
                "verymildimpairment",
                "questionable",
                "cdr0.5",
                "cdr05",
            ),
            "milddemented": ("milddementia", "mild", "mildimpairment", "cdr1", "cdr1.0"),
            "moderatedemented": ("moderatedementia", "moderate", "moderateimpairment", "cdr2", "cdr2.0"),
        },
        disease="dement|cognitive|cdr",
        whole="impairment",
        meanings={
            "nondemented": ClassDescription(
                title="Cognitively normal", description="No cognitive impairment detected", cdr=0
            ),
            "verymilddemented": ClassDescription(
                title="Very mild dementia", description="Questionable, very mild decline", cdr=0.5
            ),
            "milddemented": ClassDescription(title="Mild dementia", description="Clear functional impairment", cdr=1),
            "moderatedemented": ClassDescription(
                title="Moderate dementia", description="Needs substantial care", cdr=2
            ),
        },
    ),
    "stroke": ClinicalScale(
        stages={
            "control": ("normal", "nonstroke", "nostroke", "healthy", "controls"),
            "stroke": ("strokes",),
        },
        disease="stroke",
        whole="stroke",
        meanings={
            "control": ClassDescription(title="Control", description="No stroke seen"),
            "stroke": ClassDescription(title="Stroke", description="Stroke seen"),
        },
    ),
}


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a cohort and the class of each scan.

    Attributes:
        names: C names.
        ordered: whether their order is clinical.
        labels: (N,) index into `names`; -1 for a scan whose label the recipe does not use.
        left_out: labels that the recipe does not use, as found.
        merged: class to the spellings that it gathers, where there are several that the recipe does not name.
    """

    names: tuple[str, ...]
    ordered: bool
    labels: IntArray
    left_out: tuple[str, ...] = ()
    merged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabelReading:
    """Interpretation of the labels of a data set: as stages of a scale, or by their own spelling.

    Attributes:
        scale: the scale on which they lie, or None.
    """

    scale: ClinicalScale | None

    @classmethod
    def of(cls, labels: Iterable[str], others: Iterable[str] = ()) -> Self:
        """The reading of labels that all lie on one scale; or of those that a recipe or run puts on one.

        Args:
            labels: of the scans.
            others: of the recipe or run; where they lie on a scale, labels beside it may be left out.
        """
        present, spelled = set(labels), set(others)
        scale = _scale_of(present)
        if scale is None and (wanted := _scale_of(spelled)) is not None:
            on_it = {label for label in present if wanted.stage(label)}
            scale = wanted if on_it and wanted.is_meant_by(on_it) else None
        reading = cls(scale)  # labels that somebody spells out one by one stay apart
        return reading if len(set(map(reading.key, spelled))) == len(set(map(label_key, spelled))) else cls(None)

    def key(self, label: str) -> str:
        """The stage that a label spells, or the label in its plainest spelling."""
        return (self.scale.stage(label) if self.scale else "") or label_key(label)


def bare_label(label: str) -> str:
    """A label as scales list it: without case, blanks, underscores, dashes and a leading number.

    >>> bare_label("1- Stroke"), bare_label("Very Mild_Demented"), bare_label("CDR 0.5"), bare_label("!stroke")
    ('stroke', 'verymilddemented', 'cdr0.5', '!stroke')
    """
    return re.sub(r"[\s_-]+", "", _number_before(label)[1]).lower()


def _number_before(label: str) -> tuple[str, str]:
    """The number that a label is counted by, or "", and the label without it.

    >>> _number_before("1- Stroke"), _number_before("2-vessel"), _number_before("0.5")
    (('1', 'Stroke'), ('2', 'vessel'), ('', '0.5'))
    """
    match = re.match(r"\s*(\d+)\s*[-_.):]+\s*(?=[^\W\d_])", label)
    return (match[1], label[match.end() :]) if match else ("", label)


def describe_classes(names: Sequence[str], described: Mapping[str, ClassDescription]) -> dict[str, ClassDescription]:
    """The meaning of each class: what a recipe says of it in any spelling, or of its stage where all lie on one scale.

    >>> describe_classes(["Normal", "Stroke"], {})["Normal"].description, describe_classes(["AD", "control"], {})
    ('No stroke seen', {})
    """
    scale, reading = _scale_of(set(names)), LabelReading.of(names, described)
    of_recipe = {reading.key(name): meaning for name, meaning in described.items()}
    of_scale = {name: scale.meanings[scale.stage(name)] for name in names} if scale else {}
    return of_scale | {name: of_recipe[key] for name in names if (key := reading.key(name)) in of_recipe}


def resolve_classes(given: StrArray, recipe: Recipe, least: int = 2) -> Classes:
    """Map the labels that the data uses to the classes of the recipe, or to a known scale.

    Raises:
        DataError: if fewer than `least` classes are left, the recipe names a label that no scan has, or two labels that may
            differ in meaning lead to one stage.
    """
    present = [str(label) for label in np.unique(given).tolist()]
    gathered = _gathered(recipe)
    reading = LabelReading.of(present, [label for labels in gathered.values() for label in labels])
    spelled = {compose(label) for labels in gathered.values() for label in labels}
    _refuse_other_tasks([label for label in present if compose(label) not in spelled])
    _refuse_numbered([label for label in present if compose(label) not in spelled], reading)
    wanted, ordered = _wanted(present, recipe, reading)
    if recipe.ordered and recipe.classes is None and not ordered:
        raise DataError(
            f"The recipe says `ordered: true`, but no known scale has the classes {', '.join(wanted)}, and the alphabet "
            "is no clinical order. List them in order under `classes:`."
        )
    if len(wanted) < least:
        raise DataError(
            f"Found one class ({', '.join(wanted)}); a classifier needs at least two. "
            "Give each class its own folder, or its own value in the manifest's label column."
        )
    name_of = {key: name for name, keys in wanted.items() for key in keys}
    class_of = {label: name_of[key] for label in present if (key := reading.key(label)) in name_of}
    index_of = {name: index for index, name in enumerate(wanted)}
    labels = np.array([index_of.get(class_of.get(label, ""), -1) for label in given.tolist()], dtype=np.int64)
    return Classes(
        tuple(wanted),
        ordered if recipe.ordered is None else recipe.ordered,
        labels,
        left_out=tuple(label for label in present if label not in class_of),
        merged=_merged_spellings(class_of, spelled, reading),
    )


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

    A label means what the recipe of the network says it does; the name of a class means that class where no label does.

    >>> from scanwise.recipe import Recipe
    >>> match_labels(["Non Demented", "Mild", "alien"], Recipe(name="a"), ["nondemented", "milddemented"])
    {'Non Demented': 'nondemented', 'Mild': 'milddemented'}
    """
    labels, gathered = list(labels), _gathered(recipe)
    taught = {label: name for name in names for label in gathered.get(name, (name,))}
    reading = LabelReading.of(labels, taught)
    meant = {reading.key(name): name for name in names} | {reading.key(label): name for label, name in taught.items()}
    keys = {label: reading.key(label) for label in labels}
    return {label: meant[key] for label, key in keys.items() if key in meant}


def gathers_labels(recipe: Recipe) -> bool:
    """Whether a recipe merges several labels into one class."""
    return any(len(labels) > 1 for labels in _gathered(recipe).values())


def stage_codes(given: StrArray, recipe: Recipe) -> IntArray:
    """(N,) place of each label in the order in which the recipe lists those that its classes merge.

    >>> recipe = Recipe(name="a", classes={"well": "NonDemented", "ill": ["MildDemented", "ModerateDemented"]})
    >>> stage_codes(np.array(["moderate demented", "non demented"]), recipe).tolist()
    [2, 0]
    """
    listed = [label for labels in _gathered(recipe).values() for label in labels]
    reading = LabelReading.of(given.tolist(), listed)
    code = {reading.key(label): index for index, label in enumerate(listed)}
    return np.array([code[reading.key(label)] for label in given.tolist()], dtype=np.int64)


def _gathered(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """The labels of each class that the recipe names; nothing where it names none."""
    named = recipe.classes if isinstance(recipe.classes, Mapping) else {name: name for name in recipe.classes or ()}
    return {name: (labels,) if isinstance(labels, str) else tuple(labels) for name, labels in named.items()}


def _wanted(present: Sequence[str], recipe: Recipe, reading: LabelReading) -> tuple[dict[str, tuple[str, ...]], bool]:
    """Class name to the keys of the labels that it gathers, in order; and whether that order is clinical."""
    stages = list(reading.scale.stages) if reading.scale else []
    keys = {label: reading.key(label) for label in present}
    if recipe.classes is None:
        names = {key: compose(label) for label, key in sorted(keys.items(), reverse=True)}
        order = sorted(names, key=stages.index if stages else _natural)
        return {names[key]: (key,) for key in order}, bool(stages)
    wanted: dict[str, tuple[str, ...]] = {}
    for name, labels in _gathered(recipe).items():
        for label in labels:
            key = reading.key(label)
            if key not in keys.values():
                raise DataError(
                    f"The recipe's class {name!r} names the label {label!r}, which no scan has; "
                    f"found {', '.join(present)}.{did_you_mean(label, present)}"
                )
            if any(key in other for other in wanted.values()):
                raise DataError(f"The recipe gives the label {label!r} to two classes; give it to one.")
        wanted[name] = tuple(reading.key(label) for label in labels)
    used = [key for gathered in wanted.values() for key in gathered]
    if not set(used) <= set(stages):
        return wanted, False
    order = [key for gathered in wanted.values() for key in sorted(gathered, key=stages.index)]
    return wanted, order == [stage for stage in stages if stage in used]


def _lists_words(label: str) -> bool:
    """Whether a label is two words or more between bars or semicolons."""
    parts = [part for part in re.split(r"[|;]", label) if part.strip()]
    return len(parts) > 1 and all(re.fullmatch(r"[\w ().+/-]+", part) for part in parts)


def _refuse_other_tasks(labels: Sequence[str]) -> None:
    """Refuse labels of what no network here does: several classes at once, or an amount."""
    several = next((label for label in labels if _lists_words(label)), "")
    if several:
        raise DataError(
            f"The label {several!r} names several classes at once, and {ONE_CLASS} Keep one label a scan, or name such labels as "
            "classes of their own under `classes:` in the recipe."
        )
    numbers = numbers_in(np.array(labels, dtype=np.str_)) if len(labels) > AMOUNTS else None
    if numbers is not None:
        raise DataError(
            f"The labels are {len(labels):,} different numbers, from {np.nanmin(numbers):g} to {np.nanmax(numbers):g}, and {ONE_CLASS} "
            "Give ranges of them as classes, in order under `classes:` in the recipe."
        )


def _refuse_numbered(present: Iterable[str], reading: LabelReading) -> None:
    """Refuse labels of one stage that are counted by different numbers: these may be grades, sites or sides."""
    counted: dict[str, dict[str, str]] = defaultdict(dict)
    for label in present:
        number = _number_before(label)[0]
        if number and reading.scale and (stage := reading.scale.stage(label)):
            counted[stage].setdefault(number, label)
    for stage, labels in counted.items():
        if len(labels) > 1:
            first, second, *_ = labels.values()
            raise DataError(
                f"The labels {first!r} and {second!r} would both become the class {stage!r}, and their numbers may mean "
                "something. Rename them, or say under `classes:` in the recipe which labels are one class."
            )


def _merged_spellings(
    class_of: Mapping[str, str], spelled: set[str], reading: LabelReading
) -> dict[str, tuple[str, ...]]:
    """Class to its spellings, where several lead to one label and the recipe does not name each of them."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for label in class_of:
        by_key[reading.key(label)].append(label)
    return {
        class_of[labels[0]]: tuple(labels)
        for labels in by_key.values()
        if len(labels) > 1 and not set(map(compose, labels)) <= spelled
    }


def _scale_of(labels: set[str]) -> ClinicalScale | None:
    """The scale on which all of these labels lie, where they can be of its disease only."""
    return next(
        (
            scale
            for scale in SCALES.values()
            if labels and all(scale.stage(label) for label in labels) and scale.is_meant_by(labels)
        ),
        None,
    )


def _natural(text: str) -> list[tuple[int, str]]:
    """Sort key that puts 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.findall(r"\d+|\D+", text)]
