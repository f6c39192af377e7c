"""Files carry the number of their format; older ones are read, newer ones refused."""

from pathlib import Path

import numpy as np
import pytest

from scanwise.errors import RunError
from scanwise.migrations import FORMATS, check_format
from scanwise.records import Logits
from scanwise.run import Run, write_json, write_text

LOGITS = Logits(np.zeros((2, 1, 2)), np.array([0, 1]), np.array(["a", "b"]), np.array(["p", "q"]), ("no", "yes"))


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_up_to_the_present_one_are_read_and_newer_ones_refused(kind: str) -> None:
    for number in (None, 0, FORMATS[kind]):
        check_format(kind, number, "x")
    for number in (FORMATS[kind] + 1, -1, "1", True):
        with pytest.raises(RunError, match="Update scanwise"):
            check_format(kind, number, "x")


def test_logits_carry_a_number_and_are_read_without_one(tmp_path: Path) -> None:
    LOGITS.save(tmp_path / "new.npz")
    arrays = dict(np.load(tmp_path / "new.npz"))
    assert arrays.pop("format") == FORMATS["logits"]
    np.savez(tmp_path / "old.npz", **arrays)
    assert Logits.load(tmp_path / "old.npz").subjects.tolist() == ["p", "q"]
    np.savez(tmp_path / "newer.npz", **arrays, format=99)
    with pytest.raises(RunError, match="format 99"):
        Logits.load(tmp_path / "newer.npz")


def test_a_run_of_a_newer_version_is_not_opened(tmp_path: Path) -> None:
    write_text("name: x\n", tmp_path / "recipe.yaml")
    assert Run.open(tmp_path).path == tmp_path
    write_json({"format": 99}, tmp_path / "provenance.json")
    with pytest.raises(RunError, match="format 99"):
        Run.open(tmp_path)
