"""The run folder: written whole or not at all, never over another run, and hashes that tell."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scanwise import run
from scanwise.errors import RunError, StorageError
from scanwise.records import Split
from scanwise.run import Run, writing


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# --- writing ---


def test_a_file_appears_whole_when_the_block_ends(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "a.txt"
    with writing(file) as temporary:
        temporary.write_text("new")
        assert not file.exists()
        assert temporary.parent == file.parent  # the same disk, or the move would copy
    assert file.read_text() == "new"
    assert names(file.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(errno.EIO, "x")])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a.txt").write_text("old")

    def fail() -> None:
        with writing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_takes_the_place_of_the_old_one_or_leaves_it(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    for content in ("one", "two"):
        with writing(folder) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
        assert names(folder) == [content]

    def fail() -> None:
        with writing(folder) as temporary:
            temporary.mkdir()
            (temporary / "three").write_text("half")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert names(tmp_path) == ["bundle"]
    assert names(folder) == ["two"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_nothing_is_a_storage_error(tmp_path: Path, number: int) -> None:
    def fail() -> None:
        with writing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(StorageError, match=r"Cannot write .*a\.txt: .*--resume"):
        fail()
    assert names(tmp_path) == []


def test_a_full_disk_for_real(small_disk: Path) -> None:
    run.write_text("kept", small_disk / "before.txt")
    (small_disk / "filler").write_bytes(bytes(small_disk_room(small_disk) - 8192))
    big = np.random.default_rng(0).integers(0, 10**9, 20_000).astype(str)  # does not compress to nothing
    for attempt in (
        lambda: run.write_text("x" * 100_000, small_disk / "text.txt"),
        lambda: run.save(Split(big, "honest", 0, "", False), small_disk / "split.parquet"),
    ):
        with pytest.raises(StorageError, match="No space left"):
            attempt()
    assert names(small_disk) == ["before.txt", "filler"]
    assert (small_disk / "before.txt").read_text() == "kept"


def small_disk_room(disk: Path) -> int:
    stat = os.statvfs(disk)
    return stat.f_bavail * stat.f_frsize


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_json_is_written_and_read_and_damage_is_said(tmp_path: Path) -> None:
    run.write_json({"ä": [1, None]}, tmp_path / "a.json")
    assert run.read_json(tmp_path / "a.json") == {"ä": [1, None]}
    with pytest.raises(ValueError, match="JSON compliant"):
        run.write_json(float("nan"), tmp_path / "b.json")
    assert names(tmp_path) == ["a.json"]
    (tmp_path / "a.json").write_text('{"ä": [1')
    for broken in ("a.json", "absent.json"):
        with pytest.raises(RunError, match=f"{broken} cannot be read"):
            run.read_json(tmp_path / broken)


# --- folders ---


def test_a_new_or_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "deep/new"):
        assert Run.create(tmp_path / name).path.is_dir()


def test_a_taken_folder_is_refused_unless_resumed(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: a")
    with pytest.raises(RunError, match=r"already holds a run.*--resume.*--out"):
        Run.create(tmp_path)
    assert Run.create(tmp_path, resume=True).path == tmp_path


def test_what_is_no_run_is_not_resumed_nor_opened(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("x")
    with pytest.raises(RunError, match="no run to resume"):
        Run.create(tmp_path, resume=True)
    with pytest.raises(RunError, match="is not a run"):
        Run.open(tmp_path)
    with pytest.raises(RunError, match="is a file"):
        Run.create(tmp_path / "holiday.jpg")
    with pytest.raises(StorageError, match="Cannot make the run folder"):
        Run.create(tmp_path / "holiday.jpg" / "run")
    assert names(tmp_path) == ["holiday.jpg"]


def test_fits_are_those_with_a_split_honest_first_folds_by_number(tmp_path: Path) -> None:
    folder = Run(tmp_path)
    for protocol, fold in [("published", 0), ("honest", 10), ("honest", 2), ("honest", 0)]:
        fit = folder.fit(protocol, fold)
        run.save(Split(np.array(["train"]), protocol, fold, "", False), fit.split)
    folder.fit("honest", 5).checkpoints.mkdir(parents=True)
    found = [(fit.protocol, fit.fold) for fit in folder.fits()]
    assert found == [("honest", 0), ("honest", 2), ("honest", 10), ("published", 0)]


# --- provenance ---


def test_hashes_tell_one_byte(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    assert run.sha256_of(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    file.write_bytes(b"abd")
    assert not run.sha256_of(file).startswith("ba7816bf")


def test_the_environment_can_be_written_as_json(tmp_path: Path) -> None:
    about = run.environment()
    run.write_json(about, tmp_path / "a.json")
    assert run.read_json(tmp_path / "a.json") == about
    assert {"scanwise", "torch", "numpy"} <= about["packages"].keys()
