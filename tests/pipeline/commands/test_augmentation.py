"""Augmented copies: each carries its origin's subject and side, whatever the cohort."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scanwise.cohort import splits
from scanwise.errors import DataError
from scanwise.pipeline.commands import augmentation as augmentation_command
from scanwise.pipeline.commands.augmentation import CopyPlan, write_augmented_copies
from scanwise.pipeline.stages import audit as audit_stage


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def data(tmp_path, fill):
    return fill(tmp_path / "data", {"nondemented": 8, "milddemented": 6}, slices=2)


SUBJECT = r"(\w+)_\d+"


def test_copies_have_the_subject_of_their_origin(data, tmp_path) -> None:
    manifest = write_augmented_copies(data, tmp_path / "out", CopyPlan(per_scan=2), subject=SUBJECT, size=32)
    found = {row["path"]: row for row in rows(manifest)}
    origins = rows(tmp_path / "out" / "origins.csv")
    assert len(origins) == 2 * 28
    assert len(found) == 3 * 28
    for pair in origins:
        copy, origin = found[pair["path"]], found[pair["origin"]]
        assert (copy["subject"], copy["label"]) == (origin["subject"], origin["label"])


def test_copies_are_changed_and_repeat_with_the_seed(data, tmp_path) -> None:
    def pictures(name: str, seed: int) -> list[bytes]:
        write_augmented_copies(data, tmp_path / name, CopyPlan(per_scan=1), subject=SUBJECT, size=32, seed=seed)
        pairs = rows(tmp_path / name / "origins.csv")
        for pair in pairs:
            copy, origin = (np.asarray(Image.open(tmp_path / name / pair[key])) for key in ("path", "origin"))
            assert copy.shape == origin.shape == (32, 32)
            assert not np.array_equal(copy, origin)
        return [(tmp_path / name / pair["path"]).read_bytes() for pair in pairs]

    assert pictures("a", 1) == pictures("b", 1)
    assert pictures("c", 2) != pictures("a2", 1)


def test_small_classes_grow_most_and_every_scan_is_copied_before_any_twice(data, tmp_path) -> None:
    write_augmented_copies(data, tmp_path / "out", CopyPlan(per_class=20), subject=SUBJECT, size=32)
    origins = [row["origin"] for row in rows(tmp_path / "out" / "origins.csv")]
    for name, scans in (("nondemented", 16), ("milddemented", 12)):
        mine = [origin for origin in origins if f"/{name}/" in origin]
        assert len(mine) == 20
        assert len(set(mine)) == scans


def test_copies_stay_on_the_side_of_their_origin(tmp_path, fill) -> None:
    for side, subjects in (("train", 6), ("test", 4)):
        fill(tmp_path / "data" / side, {"nondemented": subjects, "milddemented": subjects}, slices=2)
    manifest = write_augmented_copies(
        tmp_path / "data", tmp_path / "out", CopyPlan(per_scan=1), subject=r"(\w+/\w+/\w+)_\d+", size=32
    )
    side = {row["path"]: row["split"] for row in rows(manifest)}
    assert set(side.values()) == {"train", "test"}
    assert all(side[row["path"]] == side[row["origin"]] for row in rows(tmp_path / "out" / "origins.csv"))


def test_what_is_written_can_be_read_and_split_without_a_leak(data, tmp_path) -> None:
    manifest = write_augmented_copies(data, tmp_path / "out", CopyPlan(per_scan=2), subject=SUBJECT, size=32)
    found = audit_stage.audit_scans(manifest, checks=["leakage"])
    assert found.evidence.cohort.subject_source == f"pattern {SUBJECT}"
    (split,) = splits.make_splits(found.evidence.cohort, audit_stage.LOOK.split, 0)
    assert not splits.check_split(found.evidence.cohort, split)


def test_nobody_known_is_refused_and_nothing_is_written(tmp_path, fill) -> None:
    data = fill(tmp_path / "data", {"a": 4, "b": 4}, slices=1)
    with pytest.raises(DataError, match="--subject"):
        write_augmented_copies(data, tmp_path / "out", CopyPlan(per_scan=1), size=32)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_refused(data, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="--out"):
        augmentation_command.write_augmented_copies(data, tmp_path / "out", CopyPlan(per_scan=1), subject=SUBJECT)
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"
