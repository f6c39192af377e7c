"""Copies are searched once: the same scans, sides and seed give the kept result, anything else a search of its own."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from scanwise.auditing import copy_search
from scanwise.auditing.evidence import CopyPairs
from scanwise.errors import StorageError
from scanwise.pipeline.stages import copy_cache
from scanwise.pipeline.stages.copy_cache import find_copies_once

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
SIDES = np.array(["train"] * 3 + ["test"] * 3)
FOUND = CopyPairs(
    np.array([[0, 3], [1, 4]]), np.array([0.99, 0.97]), np.array([0.98, 0.9]), np.array([0.1, 0.0]),
    np.arange(12, dtype=np.float32).reshape(2, 2, 3), {"mirrored": (3, 4), "turned": (0, 4)},
)  # fmt: skip


@pytest.fixture
def searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The side that each search was for, from now on; what is found is given."""
    asked: list[str] = []

    def find_copies(
        pixels: object, sides: object = None, of: str = "", seed: int = 0, workers: object = None
    ) -> CopyPairs:
        asked.append(of)
        return FOUND

    monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(copy_search, "find_copies", find_copies)
    return asked


def equal(one: CopyPairs, other: CopyPairs) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        and getattr(one, field.name).dtype == getattr(other, field.name).dtype
        if field.name != "recall"
        else dict(one.recall) == dict(other.recall)
        for field in fields(CopyPairs)
    )


@pytest.mark.parametrize("found", [FOUND, CopyPairs.none()], ids=["pairs", "none"])
def test_the_same_scans_are_searched_once(
    found: CopyPairs, searches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_search, "find_copies", lambda *_: searches.append("") or found)
    assert [equal(find_copies_once(PIXELS, SIDES, seed=1), found) for _ in range(3)] == [True] * 3
    assert len(searches) == 1


def test_other_scans_sides_seeds_and_code_are_searched_anew(
    searches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = PIXELS.copy()
    changed[5, 7, 7] ^= 1
    other: list[tuple[object, ...]] = [
        (PIXELS, SIDES), (changed, SIDES), (PIXELS[:5], SIDES[:5]), (PIXELS[:, :4].reshape(3, 8, 8), SIDES[:3]), (PIXELS,),
        (PIXELS, SIDES[::-1]), (PIXELS, SIDES, "test"), (PIXELS, SIDES, "", 1),
    ]  # fmt: skip
    for number, arguments in enumerate(other, start=1):
        find_copies_once(*arguments)  # type: ignore[arg-type]
        find_copies_once(*arguments)  # type: ignore[arg-type]
        assert len(searches) == number
    monkeypatch.setattr(copy_cache, "SEARCHING", ("scanwise.auditing",))
    find_copies_once(PIXELS, SIDES)
    assert len(searches) == len(other) + 1


def test_what_is_damaged_is_searched_and_kept_again(searches: list[str], tmp_path: Path) -> None:
    find_copies_once(PIXELS, SIDES)
    (file,) = (tmp_path / "cache" / "copies").iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:-40], whole[:200] + b"x" + whole[201:], np.zeros(3).tobytes()):
        file.write_bytes(damaged)
        before = len(searches)
        assert equal(find_copies_once(PIXELS, SIDES), FOUND)
        assert len(searches) == before + 1
        assert file.read_bytes() == whole


def test_where_nothing_can_be_kept_the_search_answers_all_the_same(
    searches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise StorageError("Cannot write: no space left.")

    monkeypatch.setattr(copy_cache, "writing", full)
    assert equal(find_copies_once(PIXELS, SIDES), FOUND)
    assert len(searches) == 1


@pytest.mark.extended
def test_a_kept_result_is_that_of_the_real_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path / "cache"))
    y, x = np.mgrid[:160, :160]
    scans = np.stack([(127 + 60 * np.sin(x / (5 + k)) * np.cos(y / (7 + k) + k)).astype(np.uint8) for k in range(4)])
    first = find_copies_once(np.concatenate([scans, scans[:1, :, ::-1]]))
    monkeypatch.setattr(copy_search, "find_copies", None)  # to search again would fail
    assert equal(find_copies_once(np.concatenate([scans, scans[:1, :, ::-1]])), first)
    assert sum(made for _, made in first.recall.values()) == 40
