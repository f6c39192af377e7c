"""BIDS trees (Gorgolewski et al. 2016): `sub-XX/[ses-YY/]anat/*.nii.gz`, and who has what in participants.tsv.

The subject is the folder `sub-XX`, whatever the session; the label is a column of participants.tsv (or of the tables of
sessions), and so are the columns that results are broken down by, beside the session and the kind of image (`T1w`, …) as
modality.
"""

import re
from pathlib import Path

import numpy as np

from scanwise.cohort.layouts import folders
from scanwise.cohort.layouts.bids_participants import Participants, Row
from scanwise.cohort.listing import SIDE_NAMES, Listing, first, texts
from scanwise.errors import DataError, did_you_mean
from scanwise.records import StrArray
from scanwise.records.names import compose

LABELS = ("label", "diagnosis", "dx", "group", "class", "condition", "disease", "status")
"""Columns that are taken for the label where the recipe names none."""

_NOT_SAID = ("", "n/a")
_SIDECARS = (".json", ".tsv", ".tsv.gz", ".txt", ".md", ".bval", ".bvec")


def is_tree(root: Path) -> bool:
    """Whether this is a BIDS tree.

    Raises:
        DataError: if it is, but nobody's label is known.
    """
    people = [name for name in folders.tops(root) if name.startswith("sub-")]
    if (root / "participants.tsv").is_file():
        return bool(people)
    if people and (len(people) == len(folders.tops(root)) or (root / "dataset_description.json").is_file()):
        raise DataError(
            f"{root} is a BIDS tree without participants.tsv, so no scan has a label. Add that file, with the columns "
            "participant_id and diagnosis, or join a table of your own with --patients."
        )
    return False


def has_people(root: Path) -> bool:
    """Whether this is a BIDS tree, with or without a table of its participants."""
    tops = folders.tops(root)
    people = [name for name in tops if name.startswith("sub-")]
    named = any((root / name).is_file() for name in ("participants.tsv", "dataset_description.json"))
    return bool(people) and (named or len(people) == len(tops))


def list_images(root: Path) -> Listing:
    """List the images of a BIDS tree without labels, with the participant, the session and the kind of image."""
    images, unused = _images(root)
    groups = _session_and_kind(images)
    return Listing(
        root,
        texts(images),
        texts("" for _ in images),
        subject=texts(path.split("/")[0] for path in images),
        subject_source="BIDS participant",
        groups={name: values for name, values in groups.items() if (values != "").any()},
        unused=tuple(unused),
    )


def _session_and_kind(paths: list[str]) -> dict[str, StrArray]:
    sessions = texts(_session(path).removeprefix("ses-") for path in paths)
    return {"session": sessions, "modality": texts(map(_suffix, paths))}


def read_bids(root: Path, subject: str = "", label: str = "") -> Listing:
    """List the images of a BIDS tree: the anatomical ones (`anat`), or where it has none all of them.

    Args:
        root: the folder of participants.tsv.
        subject: a column of participants.tsv in place of the participant, such as a family.
        label: the column of participants.tsv that holds the class.

    Raises:
        DataError: if the table lacks a column, or which is the label cannot be told.
    """
    images, unused = _images(root)
    sessions: dict[str, set[str]] = {}
    for path in images:
        sessions.setdefault(compose(path.split("/")[0]), set()).add(_session(path))
    people = Participants.read(root, sessions)
    chosen = _label_column(people.file, list(people.columns), label)
    rows: list[tuple[str, Row]] = []
    for path in images:
        row = people.row_of(path.split("/")[0], _session(path))
        if isinstance(row, str):
            unused.append((path, row))
        elif row.get(chosen, "") in _NOT_SAID:
            unused.append((path, f"{people.file.name} gives its participant no {chosen}"))
        else:
            rows.append((path, row))

    def column(name: str) -> StrArray:
        return texts("" if row.get(name, "") in _NOT_SAID else row[name] for _, row in rows)

    names = people.columns
    groups = {name: column(name) for name in names if name not in (chosen, "subject", "split", "text", subject)}
    paths = [path for path, _ in rows]
    groups |= _session_and_kind(paths)
    own = texts(path.split("/")[0] for path in paths)
    by_column = bool(subject) and subject in names
    return Listing(
        root,
        texts(paths),
        column(chosen),
        subject=column(subject) if by_column else None if subject else own,
        subject_source=f"column {subject}" if by_column else "" if subject else "BIDS participant",
        groups={name: values for name, values in groups.items() if (values != "").any()},
        given=_sides(root, column("split")) if "split" in names else None,
        unused=tuple(unused),
    )


def _label_column(file: Path, columns: list[str], label: str) -> str:
    if label:
        if label not in columns:
            raise DataError(
                f"The recipe's data.label is {label!r}, and {file} has the columns {', '.join(columns)}."
                f"{did_you_mean(label, columns)}"
            )
        return label
    candidates = [name for name in columns if name.casefold() in LABELS]
    if len(candidates) != 1:
        many = (
            f"{' and '.join(candidates)} could all be it" if candidates else f"it has {', '.join(columns) or 'no more'}"
        )
        raise DataError(f"Which column of {file} is the label is not clear: {many}. Name it: --set data.label=COLUMN.")
    return candidates[0]


def _images(root: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """The images to use, and the files that are none of them; notes and tables that belong to a tree are passed over."""
    images: list[str] = []
    unused: list[tuple[str, str]] = []
    for path, fault in folders.walk(root):
        if not path.startswith("sub-"):
            continue
        if fault:
            unused.append((path, fault))
        elif not path.casefold().endswith(_SIDECARS):
            images.append(path)
    if not any(_kind(path) == "anat" for path in images):
        return images, unused
    unused += [
        (path, f"not an anatomical image ({_kind(path)}); to use it, name it in a manifest")
        for path in images
        if _kind(path) != "anat"
    ]
    return [path for path in images if _kind(path) == "anat"], unused


def _kind(path: str) -> str:
    """The folder right above an image: anat, func, dwi, …

    >>> _kind("sub-01/ses-1/anat/sub-01_T1w.nii.gz")
    'anat'
    """
    return path.split("/")[-2]


def _session(path: str) -> str:
    """The session of an image, by its folder or else by its name; "" where neither names one.

    >>> _session("sub-01/ses-1/anat/sub-01_T1w.nii.gz"), _session("sub-01/anat/sub-01_ses-2_T1w.nii.gz")
    ('ses-1', 'ses-2')
    """
    *parts, name = path.split("/")
    named = re.search(r"(?:^|_)(ses-[A-Za-z0-9]+)(?=_|\.)", name)
    return next((part for part in parts if part.startswith("ses-")), named[1] if named else "")


def _suffix(path: str) -> str:
    """The kind of image: the last part of its name.

    >>> _suffix("sub-01/anat/sub-01_acq-a_T1w.nii.gz"), _suffix("sub-01/anat/brain.nii")
    ('T1w', '')
    """
    match = re.search(r"_([A-Za-z0-9]+)\.[^/]*$", path)
    return match[1] if match else ""


def _sides(root: Path, values: StrArray) -> StrArray:
    unknown = sorted({value for value in values.tolist() if value and value.casefold() not in SIDE_NAMES})
    if unknown:
        raise DataError(f"{root}/participants.tsv: the column 'split' holds {first(unknown)}, which is no side.")
    return np.array([SIDE_NAMES[value.casefold()] if value else "" for value in values.tolist()], dtype=np.str_)
