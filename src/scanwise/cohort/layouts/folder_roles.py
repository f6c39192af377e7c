"""The part that each level of folders plays: sides of a split, sites, or classes.

Where all folders of one level hold the same folders, the upper ones are sides or sites and the lower ones classes, or the
other way round. Names decide; where they do not, nothing is guessed.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from scanwise.cohort.classes import LabelReading
from scanwise.cohort.listing import first
from scanwise.errors import DataError
from scanwise.phrases import count_of
from scanwise.records.names import label_key

Subfolders = Callable[[Path], Collection[str]]
"""Names of the folders right below one, without those that hold no scans."""

_SIDES = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "validation"),
    **dict.fromkeys(("cal", "calib", "calibration"), "calibration"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
    **dict.fromkeys(("eval", "evaluation"), "evaluation"),
}
_NEUTRAL = re.compile(
    r"(?:data|sets?|datasets?|images?|imgs?|scans?|pictures?|slices?|samples?|splits?|folders?|files|seg|segmentation|"
    r"classification|class|classes|labell?ed|input|raw|original|cropped|resized|x|cls|mri?|ct|xray|png|jpe?g|dicom|dcm|nii|nifti|\d+)"
)
_GLUED = re.compile(
    r"^(train|training|val|valid|validation|test|testing|eval|holdout|calib|calibration)(sets?|data|dir|images?|imgs?)$"
)
_SITES = {
    "fold", "folds", "site", "sites", "hospital", "hosp", "center", "centre", "clinic", "institution", "institute", "university", "lab",
    "scanner", "vendor", "machine", "device", "cohort", "batch", "shard", "chunk", "part", "year", "country", "city", "source", "provider",
}  # fmt: skip
_SITE_PAIRS = {"internal", "external", "inhouse", "public", "private", "local", "retrospective", "prospective"}
_VIEWS = re.compile(
    r"ct|cta|mri?|mra|pet|spect|us|xray|x-ray|t1|t1w|t1c|t1ce|t1gd|t2|t2w|flair|dwi|adc|swi|pd|bold|ap|pa|lat|lateral|frontal|axial|"
    r"coronal|sagittal|left|right|l|r|cc|mlo|bt|mr"
)
_NUMBERED = re.compile(r"(?P<word>\D*?)[-_ ]*\d+\D?")
_PERSON_WORDS = {
    "p", "pt", "pat", "patient", "patients", "subject", "subj", "sub", "sbj", "case", "person", "participant", "volunteer", "s", "id", "pid", "mrn",
}  # fmt: skip
_PARTS_OF_PERSONS = _PERSON_WORDS | {
    "e",
    "exam",
    "im",
    "img",
    "image",
    "ser",
    "se",
    "series",
    "st",
    "study",
    "scan",
    "ses",
    "session",
    "visit",
    "slice",
}
_MANY = 12
"""Numbered folders from which they are persons or examinations rather than classes."""


@dataclass(frozen=True, slots=True)
class FolderRoles:
    """The level of folders, from 0, that holds each kind of name.

    Attributes:
        classes: of the classes.
        sides: of the sides of a split, or None.
        sites: of sites or folds, or None.
        site_name: column that sites go to.
        side_of: name of a folder to its side.
        folders: of the classes, relative to the root.
        remark: what a reader must know of how the folders were read, or "".
    """

    classes: int = 0
    sides: int | None = None
    sites: int | None = None
    site_name: str = "site"
    side_of: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    remark: str = ""

    @classmethod
    def of(cls, root: Path, subfolders: Subfolders, label: str = "") -> "FolderRoles":
        """The roles of the folders below one.

        Args:
            root: the folder.
            subfolders: lists folders.
            label: "folder 2" says that the second level holds the classes; any other text says nothing here.

        Raises:
            DataError: if the folders can be read in two ways, or train and test folders stand beside others.
        """
        chosen = int(match[1]) - 1 if (match := re.fullmatch(r"folder ([1-9])", label)) else None
        return _Search(root, subfolders, chosen).roles()


@dataclass(slots=True)
class _Search:
    """A way down from the root, level by level, until the classes are found."""

    root: Path
    subfolders: Subfolders
    chosen: int | None

    def roles(self) -> FolderRoles:
        """Go down to the classes.

        Raises:
            DataError: as in `FolderRoles.of`.
        """
        folders, roles = self._below([self.root]), FolderRoles()
        while (step := self._step(folders, roles)) is not None:
            roles = replace(step, classes=roles.classes + 1)
            folders = self._below(folders)
        names, lower = _names(folders), _names(self._below(folders))
        if self.chosen is not None and roles.classes < self.chosen:
            raise DataError(
                f"data.label is 'folder {self.chosen + 1}', and {self.root} has {count_of(roles.classes + 1, 'level')} of folders."
            )
        if roles.sides is None and len(names) > 1 and self._all_hold(folders) and (sides := sides_of(lower)):
            roles = replace(roles, sides=roles.classes + 1, side_of=sides)  # CLASS/{train,test}
        return replace(roles, folders=tuple(folder.relative_to(self.root).as_posix() for folder in folders))

    def _step(self, folders: Sequence[Path], roles: FolderRoles) -> FolderRoles | None:
        """The roles with that of this level, or None where this level holds the classes."""
        names, level = _names(folders), roles.classes
        sides = sides_of(names)
        if self.chosen is not None:
            if level >= self.chosen or not self._below(folders):
                return None
            if sides and roles.sides is None:
                return replace(roles, sides=level, side_of=sides)
            return (
                roles
                if roles.sites is not None
                else replace(roles, sites=level, site_name=site_column(names) or "folder")
            )
        if sides and (roles.sides is None or sides.items() <= roles.side_of.items()):
            return replace(roles, sides=level, side_of=sides) if roles.sides is None else roles
        if roles.sides is None and (others := _mixed_sides(names)):
            raise DataError(
                f"{self.root} holds train and test folders beside others ({first(others)}). "
                "Move the others away, or these would be taken for classes."
            )
        if len(names) == 1 and roles.sides is not None and _NEUTRAL.fullmatch(names[0].casefold()):
            return roles if self._below(folders) else None  # train/images/CLASS
        column = (
            self._site_column(folders) if roles.sites is None and len(names) > 1 and self._all_hold(folders) else ""
        )
        if not column:
            return None
        remark = f"The folders {first(names)} are the column {column!r}, and the folders inside them the classes."
        return replace(roles, sites=level, site_name=column, remark=remark)

    def _below(self, folders: Sequence[Path]) -> list[Path]:
        return [folder / name for folder in folders for name in sorted(self.subfolders(folder))]

    def _all_hold(self, folders: Sequence[Path]) -> bool:
        """Whether each name, in one place at least, holds folders."""
        return {folder.name for folder in folders} == {folder.parent.name for folder in self._below(folders)}

    def _site_column(self, folders: Sequence[Path]) -> str:
        """The column of these folders where they are sites and the ones inside are classes; "" where these are classes.

        Raises:
            DataError: if both can be.
        """
        below = self._below(folders)
        names, lower, column = _names(folders), _names(below), site_column(_names(folders))
        if sides_of(lower):  # SITE/{train,test}/CLASS, or CLASS/{train,test}
            last = _names(self._below(below))
            return (column or "folder") if len(last) > 1 and not _are_parts(last) else ""
        keys = [{label_key(below.name) for below in self._below([folder])} for folder in folders]
        shared = set.intersection(*keys)
        if column and len(shared) * 2 >= len(lower):
            return column
        everything = set.union(*keys)
        if len(shared) < 2 or len(shared) * 2 < len(everything):
            return ""
        if LabelReading.of(names).scale is not None or names_people(names):
            return ""
        if LabelReading.of(lower).scale is not None:
            return "folder"
        if site_column(lower) or _are_parts(lower):
            return ""
        raise DataError(
            f"The folders {first(names)} in {self.root} hold {'' if shared == everything else 'nearly '}the same folders, {first(lower)}, so it is not clear which are the "
            f"classes. If the classes are {first(lower)}, and {first(names)} are sites or sides: --label 'folder 2'. If "
            f"the classes are {first(names)}: --label 'folder 1'. Sides may also be renamed to train and test."
        )


def _names(folders: Sequence[Path]) -> list[str]:
    return sorted({folder.name for folder in folders})


def sides_of(names: Collection[str]) -> dict[str, str]:
    """The side that each folder is, where the names of all say so; else nothing.

    Parts that all names share, and words such as `data` or `set`, say nothing.

    >>> sides_of(["train_data", "test_data"]), sides_of(["seg_train", "seg_test"]), sides_of(["Training_Set", "ValidationSet"])
    ({'train_data': 'train', 'test_data': 'test'}, {'seg_train': 'train', 'seg_test': 'test'}, {'Training_Set': 'train', 'ValidationSet': 'validation'})
    >>> sides_of(["train", "eval"]), sides_of(["train", "eval", "test"])["eval"], sides_of(["valid", "invalid"])
    ({'train': 'train', 'eval': 'test'}, 'validation', {})
    """
    words = {name: _words(name) for name in names}
    common = set.intersection(*map(set, words.values())) if len(words) > 1 else set()
    sides: dict[str, str] = {}
    for name, parts in words.items():
        own = {_SIDES.get(part, "") for part in parts if part not in common and not _NEUTRAL.fullmatch(part)}
        if len(own) != 1 or "" in own:
            return {}
        sides[name] = own.pop()
    evaluation = "validation" if "test" in sides.values() else "test"
    return {name: evaluation if side == "evaluation" else side for name, side in sides.items()}


def site_column(names: Collection[str]) -> str:
    """The column that folders belong to whose names say that they are sites, folds or the like; else "".

    >>> site_column(["fold_1", "fold_2"]), site_column(["internal", "external"]), site_column(["tumor", "cyst"])
    ('fold', 'site', '')
    """
    words = [set(_words(name)) for name in names]
    if len(words) < 2:
        return ""
    common = set.intersection(*words)
    if kinds := sorted(common & _SITES):
        return kinds[0]
    if all(len(set(parts) & _SITE_PAIRS) == 1 for parts in words):
        return "site"
    return "site" if all(parts & _SITES for parts in words) else ""


def names_people(names: Collection[str]) -> bool:
    """Whether folders are called like people: patient_01, P0007, sub-3; or, where they are many, by numbers of three digits or more.

    >>> names_people(["patient_01", "patient_02", "patient_10"]), names_people(["grade1", "grade2", "grade3"])
    (True, False)
    >>> names_people([f"TCGA-02-{number}" for number in range(1031, 1060)]), names_people(list(map(str, range(100))))
    (True, False)
    """
    kinds = {re.sub(r"\d+", "#", name.casefold()) for name in names}
    if len(names) > _MANY and len(kinds) == 1 and all(re.search(r"\d{3}", name) for name in names):
        return True
    return len(names) > 2 and all(
        (match := _NUMBERED.fullmatch(name.casefold())) and match["word"].strip("-_ ") in _PERSON_WORDS
        for name in names
    )


def describe_people(names: Collection[str], *, sure: bool) -> str:
    """A refusal of folders that are people and no classes, with what to do.

    Args:
        names: of the folders.
        sure: whether each holds one subject and no subject is in two; else the names alone say so.
    """
    reason = "each holds one subject, and no subject is in two" if sure else "their names say so"
    return (
        f"The {count_of(len(names), 'folder')} look like patients and not like classes: {reason}. Join a table of the patients "
        "(--patients TABLE --id COLUMN --label COLUMN); or let `scanwise cohort DATA --out scans.csv` list the scans with a column "
        "label to fill in, for --data scans.csv. Are they classes? --label 'folder 1'."
    )


def _are_parts(names: Collection[str]) -> bool:
    """Whether folders inside classes are people, examinations or views, by their names or their number."""
    plain = [name.casefold() for name in names]
    if all(_VIEWS.fullmatch(name) for name in plain):
        return True
    numbered = [_NUMBERED.fullmatch(name) for name in plain]
    words = {match["word"].strip("-_ ") for match in numbered if match}
    return all(numbered) and (len(plain) > _MANY or words <= _PARTS_OF_PERSONS)


def _words(name: str) -> list[str]:
    """The words of a name, without case: at signs, and where small letters turn into capitals; side words are cut off.

    >>> _words("BraTS2020_TrainingData"), _words("trainset")
    (['brats', '2020', 'training', 'data'], ['train', 'set'])
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)
    apart = re.sub(r"h[oe]ld[-_ ]?out", "holdout", apart, flags=re.IGNORECASE)
    words = re.findall(r"[^\W\d_]+|\d+", apart.casefold())
    return " ".join(_GLUED.sub(r"\1 \2", word) for word in words).split()


def _mixed_sides(names: Collection[str]) -> list[str]:
    """The other folders beside a training and a test folder."""
    sides = {name: side for name in names if (side := sides_of([name]).get(name))}
    return sorted(set(names) - set(sides)) if {"train", "test"} <= set(sides.values()) else []
