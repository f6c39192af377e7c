"""Empty slices at the ends of volumes are counted, and the range without them is offered."""

from dataclasses import replace

import numpy as np
import pytest

from scanwise.cohort.empty_ends import empty_end_findings
from scanwise.cohort.slice_expansion import _wanted
from scanwise.recipe import Data
from scanwise.records import Cohort


def volumes(*shapes: str) -> Cohort:
    """A volume for each text, with a full slice for each x and an empty one for each dot."""
    paths = [f"v{number}.nii#{index:03d}" for number, text in enumerate(shapes) for index in range(len(text))]
    pixels = [mark.replace(".", "") for text in shapes for mark in text]
    names, kept = np.array(paths), np.random.default_rng(0).permutation(len(paths))
    zeros = np.zeros(len(paths), dtype=np.int64)
    whole = Cohort("/data", names, zeros, ("a", "b"), False, names, "column", names, np.array(pixels))
    return whole.take(kept)


def test_the_range_leaves_out_what_is_empty_in_every_volume_and_nothing_else() -> None:
    shapes = ("..xxxxx...", "...xxxx.x.", "..xxxxxxx.")
    (note,) = empty_end_findings(volumes(*shapes))
    assert note.severity == "note"
    assert "12 of 30 slices of 3 volumes are empty" in note.message
    assert "data.slices=[0.2, 0.9] leaves out" in note.message
    kept = _wanted(10, Data(slices=(0.2, 0.9)))
    assert kept == [2, 3, 4, 5, 6, 7, 8]
    assert all("x" not in text[:2] + text[9:] for text in shapes)


@pytest.mark.parametrize(
    "shapes", [("xxxxxxxxxx",), ("xx...xxxxx",), ("..........", "xxxxxxxxxx")], ids=["full", "inside", "all empty"]
)
def test_nothing_is_said_where_no_end_is_empty(shapes: tuple[str, ...]) -> None:
    assert empty_end_findings(volumes(*shapes)) == []


def test_where_some_volumes_are_full_no_range_is_offered() -> None:
    (note,) = empty_end_findings(volumes("....xxxx", "xxxxxxxx"))
    assert "4 of 16 slices of 2 volumes" in note.message
    assert "data.slices" not in note.message


def test_pictures_are_no_volumes() -> None:
    cohort = volumes("..xx")
    pictures = np.array([f"{row}.png" for row in range(4)])
    assert empty_end_findings(replace(cohort, path=pictures)) == []
