"""Files of logits, from scanwise or from anywhere, checked before any guarantee is given from them.

A file is an npz with `logits` (N, C) or (N, T, C) and `labels` (N,). What else it may hold is in `Logits`; where it
lacks `scans`, `subjects` or `classes` they are counted: then each scan stands for a person of its own, and a note says so.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from scanwise.arrays import check_features, check_labels, check_logits, refuse_rows
from scanwise.errors import DataError, ShapeError, did_you_mean
from scanwise.pooling import pool_by_subject
from scanwise.records import IntArray, Logits, StrArray, read_arrays
from scanwise.records.names import (
    clean_subjects,
    clean_values,
    describe_lookalikes,
    text_of_values,
)

Side = Literal["validation", "calibration", "test"]
SIDES: tuple[Side, ...] = ("validation", "calibration", "test")


@dataclass(frozen=True, slots=True)
class LogitFile:
    """A file of logits that was looked through.

    Attributes:
        path: where it lies.
        logits: what it holds, with what it lacked counted; a label that is not known is -1.
        people: whether it names subjects.
    """

    path: Path
    logits: Logits
    people: bool

    @property
    def labels(self) -> IntArray | None:
        """(N,) class indices, or None where they are not known, which they may be in a test file alone."""
        return None if (self.logits.labels < 0).any() else self.logits.labels

    @property
    def subjects(self) -> StrArray | None:
        """(N,) the subject of each row, or None where they are not known."""
        return self.logits.subjects if self.people else None

    def pool(self, by_subject: bool) -> Self:
        """One row a subject, where that is asked for."""
        if by_subject and not self.people:
            raise DataError(f"{self.path}: it names no subjects to pool by. Add `subjects` (N,) to it.")
        return replace(self, logits=pool_by_subject(self.logits)) if by_subject else self

    def column(self, name: str) -> StrArray:
        """(N,) a group column, or an error that says which there are."""
        groups = self.logits.groups
        if name not in groups:
            columns = f"its columns are {', '.join(groups)}" if groups else "it has none"
            raise DataError(
                f"{self.path} has no group column {name!r}; {columns}. A column is an array `group_NAME` (N,); "
                f"`class` goes by the true class.{did_you_mean(name, groups)}"
            )
        return groups[name]


def read_logit_file(path: Path, side: Side) -> LogitFile:
    """Look through a file of logits that is to stand for one side.

    Raises:
        DataError: with the file, and with the rows that cannot be used.
    """
    arrays = read_arrays(path)
    with naming_file(path):
        missing = {"logits", *(() if side == "test" else ("labels",))} - arrays.keys()
        if missing:
            raise DataError(f"it lacks {sorted(missing)}; its arrays are {sorted(arrays)}.")
        filled = _filled(arrays, side)
        logits = Logits.of(filled)
        _check(logits, side)
    return LogitFile(path, logits, "subjects" in arrays)


def _filled(arrays: Mapping[str, Any], side: Side) -> dict[str, Any]:
    """The arrays of a file, with names counted where there are none, after a check of their shapes."""
    if arrays["logits"].dtype.kind not in "fiu":
        raise DataError(f"logits must be numbers; they are {arrays['logits'].dtype}.")
    logits = check_logits(arrays["logits"])
    count, num_classes = len(logits), logits.shape[-1]
    filled = {
        "labels": np.full(count, -1),
        "scans": np.char.add(f"{side} row ", np.arange(count).astype(str)),
        "classes": np.arange(num_classes).astype(str),
        **arrays,
        **_clean_names(arrays),
    }
    filled = {"subjects": filled["scans"], **filled, "logits": logits}
    for name, values in filled.items():
        if name in ("labels", "scans", "subjects", "classes") or name.startswith("group_"):
            expected = num_classes if name == "classes" else count
            if values.shape != (expected,):
                raise ShapeError(f"{name} must be ({expected},) beside logits {logits.shape}; it is {values.shape}.")
        if name in ("split", "protocol", "fold") and values.shape != ():
            raise ShapeError(f"{name} must be one value; it is an array {values.shape}.")
        if name in ("features", "appearance") and (values.dtype.kind not in "fiu" or values.shape[:1] != (count,)):
            raise ShapeError(f"{name} must be numbers ({count}, …); it is {values.dtype} {values.shape}.")
    if side == "test" and filled["labels"].dtype.kind in "iu" and (filled["labels"] == -1).all():
        return filled
    return {**filled, "labels": check_labels(filled["labels"], num_classes, count)}


def _clean_names(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Subjects and groups in one spelling, "" where nothing is known: 5.0 of one file is the person 5 of another."""
    return {
        name: np.array(
            (clean_subjects if name == "subjects" else clean_values)(text_of_values(np.atleast_1d(values))), np.str_
        ).reshape(values.shape)
        for name, values in arrays.items()
        if (name == "subjects" or name.startswith("group_")) and values.ndim < 2
    }


def _check(logits: Logits, side: Side) -> None:
    if len(set(logits.classes)) < len(logits.classes):
        raise DataError(f"two classes have one name: {', '.join(logits.classes)}.")
    refuse_rows(logits.subjects == "", "no subject; the guarantee depends on the subjects")
    if logits.features is not None:
        check_features(logits.features)
    again = np.ones(len(logits), dtype=np.bool_)
    again[np.unique(logits.scans, return_index=True)[1]] = False
    refuse_rows(again, "a scan that an earlier row has as well")
    if side != "test":
        only = logits.classes[logits.labels[0]]
        constant = np.full(len(logits), len(np.unique(logits.labels)) == 1)
        refuse_rows(
            constant, f"the label {only!r} and none another: one class says nothing about telling classes apart"
        )
    if logits.protocol not in ("", "honest"):
        raise DataError(f"these logits are of protocol {logits.protocol!r}, which leaks; no guarantee can be given.")
    if logits.split in {"train", *SIDES} - {side}:
        raise DataError(f"these logits are of the {logits.split} side; here those of the {side} side belong.")


def check_files_match(files: Mapping[Side, LogitFile]) -> None:
    """Refuse files that do not belong together, or that share a person or a scan."""
    for first, second in combinations(files.values(), 2):
        a, b = first.logits, second.logits
        if a.classes != b.classes:
            raise DataError(
                f"{first.path} has the classes {', '.join(a.classes)}, {second.path} has {', '.join(b.classes)}. They must "
                "be the same, in the same order."
            )
        if a.split and b.split and a.fold != b.fold:
            raise DataError(
                f"{first.path} is of fold {a.fold}, {second.path} of fold {b.fold}: other networks. Take one fold."
            )
        _refuse_shared("scan", first, second)
        _refuse_shared("subject", first, second)


def _refuse_shared(what: Literal["scan", "subject"], first: LogitFile, second: LogitFile) -> None:
    first_names, second_names = (getattr(given.logits, f"{what}s") for given in (first, second))
    here, there = np.flatnonzero(np.isin(first_names, second_names)), np.flatnonzero(np.isin(second_names, first_names))
    if what == "scan" and first.people and second.people:
        return  # two people may have files of one name; a pooled row has a number there
    if len(here):
        rows = " and ".join(
            f"rows {', '.join(map(str, rows_found[:3]))}{', …' if len(rows_found) > 3 else ''} of {given.path}"
            for rows_found, given in ((here, first), (there, second))
        )
        raise DataError(
            f"{len(np.unique(first_names[here]))} {what}s are on both sides, such as {str(first_names[here[0]])!r}: {rows}. No "
            f"guarantee can be given then; give every {what} to one side."
        )


def check_not_overwriting(out: Path, *given: Path) -> None:
    """Refuse to write over what is read."""
    if any(out.resolve() == path.resolve() for path in given):
        raise DataError(f"{out} is one of the files to read; it would be lost. Choose another --out.")


def subject_notes(files: Mapping[Side, LogitFile]) -> tuple[str, ...]:
    """A note on each file that names no subjects, and one on subjects that hardly differ, in one file or across them."""
    names = [name for given in files.values() if given.people for name in given.logits.subjects.tolist()]
    alike = describe_lookalikes(names)
    return (
        *(
            f"{given.path} names no subjects: each scan is taken for a person of its own. Where people repeat, the "
            "guarantee is too optimistic."
            for given in files.values()
            if not given.people
        ),
        *([alike] if alike else []),
    )


def probability_notes(files: Mapping[Side, LogitFile]) -> tuple[str, ...]:
    """A note on each file whose logits are probabilities: between 0 and 1, and every row sums to one."""
    return tuple(
        f"{given.path} seems to hold probabilities, not logits: every row sums to one. Their softmax is nearly even over "
        "the classes. Give their logarithms."
        for given in files.values()
        if (given.logits.logits >= 0).all() and np.allclose(given.logits.logits.sum(axis=-1), 1, atol=1e-3)
    )


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Say of an error which file it is about."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{path}: {error}") from error
