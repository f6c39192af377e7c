"""The run folder: written whole or not at all, never over another run, and hashes that tell."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scanwise import run
from scanwise.errors import RunError, StorageError
from scanwise.records import Split
from scanwise.run import RunFolder, layout, writing


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


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(errno.EPIPE, "x")])
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


ADVICE = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space",
    errno.EROFS: "can be written",
    errno.EACCES: "permissions",
    errno.EIO: "may be failing",
}


@pytest.mark.parametrize("number", ADVICE)
def test_a_disk_that_takes_nothing_is_a_storage_error(tmp_path: Path, number: int) -> None:
    def fail() -> None:
        with writing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(StorageError, match=r"Cannot write .*a\.txt: .*--resume") as refused:
        fail()
    assert ADVICE[number] in str(refused.value)
    assert names(tmp_path) == []


def test_an_error_about_another_file_is_not_said_of_this_one(tmp_path: Path) -> None:
    def fail() -> None:
        with writing(tmp_path / "out" / "a.txt"):
            (tmp_path / "missing" / "b.txt").read_bytes()

    with pytest.raises(FileNotFoundError, match=r"b\.txt"):
        fail()


@pytest.mark.parametrize("below", ["file/a.txt", "file/deep/a.txt", "n" * 300])
def test_a_path_that_cannot_be_is_a_storage_error(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match=r"choose another|shorter name|check the path"):
        run.write_text("x", tmp_path / below)
    assert names(tmp_path) == ["file"]


# --- nothing half, nothing lost ---


def test_what_is_equal_is_not_written_again(tmp_path: Path) -> None:
    file, folder = tmp_path / "a.txt", tmp_path / "folder"

    def write(text: str) -> tuple[int, int]:
        run.write_text(text, file)
        with writing(folder) as temporary:
            (temporary / "deep").mkdir(parents=True)
            (temporary / "deep" / "b").write_text(text)
        return file.stat().st_mtime_ns, folder.stat().st_mtime_ns

    first = write("same")
    assert write("same") == first
    changed = write("else")
    assert not set(changed) & set(first)
    assert (folder / "deep" / "b").read_text() == file.read_text() == "else"


DYING = """
import os, signal, sys
from pathlib import Path
from scanwise.run import files, writing
folder, step, how = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if how == "without exchange":
    files._exchange = lambda *_: False
count = 0
def watch(event, args):
    global count
    if event in ("os.rename", "os.remove", "os.rmdir", "ctypes.call_function", "shutil.rmtree"):
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
with files.owning(folder):
    with writing(folder / "bundle") as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("new")
"""


@pytest.mark.parametrize("how", ["exchange", "without exchange"])
def test_a_folder_is_replaced_or_stays_wherever_the_process_dies(tmp_path: Path, how: str) -> None:
    ends = []
    for step in range(1, 12):
        folder = tmp_path / str(step)
        (folder / "bundle").mkdir(parents=True)
        (folder / "bundle" / "old").write_text("old")
        done = subprocess.run([sys.executable, "-c", DYING, folder, str(step), how], check=False)
        ends.append(done.returncode)
        if how == "exchange":
            assert names(folder / "bundle") in (["old"], ["new"]), step
        with run.owning(folder):
            assert names(folder / "bundle") in (["old"], ["new"]), step
        assert names(folder) == ["bundle"], step
        if done.returncode == 0:
            break
    assert ends[-1] == 0
    assert ends[:-1] == [-9] * (len(ends) - 1)
    assert len(ends) > 2


def test_files_and_their_folder_are_on_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace

    def flushed(number: int) -> None:
        events.append(("flush", Path(f"/proc/self/fd/{number}").readlink().name.split(".")[-1]))
        fsync(number)

    def renamed(path: Path, target: Path) -> Path:
        events.append(("rename", target.name))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    run.write_text("x", tmp_path / "a")
    assert events == [("flush", "part"), ("rename", "a"), ("flush", tmp_path.name)]
    events.clear()
    with writing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "inner").write_text("x")
    assert events == [("flush", "inner"), ("flush", "part"), ("rename", "folder"), ("flush", tmp_path.name)]


def test_two_processes_of_one_number_have_two_temporary_names(tmp_path: Path) -> None:
    with writing(tmp_path / "a") as one, writing(tmp_path / "a") as other:
        assert one != other  # as in two containers, where both may be process 7
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a").read_text() == "one"
    assert names(tmp_path) == ["a"]


LEFT = [".recipe.yaml.123.part", ".recipe.yaml.0a1b2c3d.part"]


@pytest.mark.parametrize("left", LEFT)
def test_a_run_killed_before_its_first_file_is_no_dead_end(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("half")
    for resume in (False, True):
        assert RunFolder.create(tmp_path, resume=resume).path == tmp_path
    with run.owning(tmp_path):
        assert names(tmp_path) == [layout.LOCK]
    (tmp_path / layout.LOCK).touch()  # what a killed one leaves
    for resume in (False, True):
        assert RunFolder.create(tmp_path, resume=resume).path == tmp_path


def test_an_owner_removes_what_killed_ones_left_and_nothing_else(tmp_path: Path) -> None:
    deep = tmp_path / "fits" / "honest" / "0" / "checkpoints"
    deep.mkdir(parents=True)
    for name in (".last.ckpt.77.part", ".last.ckpt.00ff00ff.part", ".mine.part", ".77.part", "last.ckpt", ".hidden"):
        (deep / name).write_text("x")
    (tmp_path / ".bundle.00ff00ff.part" / "deep").mkdir(parents=True)
    with run.owning(tmp_path):
        pass
    assert names(deep) == [".77.part", ".hidden", ".mine.part", "last.ckpt"]
    assert names(tmp_path) == ["fits"]


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    other = "import sys; from pathlib import Path; from scanwise import run\nwith run.owning(Path(sys.argv[1])): print('in')"
    with run.owning(tmp_path):
        (tmp_path / ".a.00ff00ff.part").write_text("being written")
        done = subprocess.run([sys.executable, "-c", other, tmp_path], capture_output=True, text=True, check=False)
        assert "RunError: Another process is writing" in done.stderr
        assert (tmp_path / ".a.00ff00ff.part").is_file()
    done = subprocess.run([sys.executable, "-c", other, tmp_path], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("in\n", "")


def test_of_many_writers_one_at_a_time_is_in(tmp_path: Path) -> None:
    """Each notes that it is in and that it is out; two that were in together would show."""
    code = """
import sys, time
from pathlib import Path
from scanwise import run
from scanwise.errors import RunError
folder, log, entered = Path(sys.argv[1]), Path(sys.argv[2]), 0
while entered < 20:
    try:
        with run.owning(folder):
            with log.open("a") as file: file.write("in\\n")
            time.sleep(0.001)
            with log.open("a") as file: file.write("out\\n")
        entered += 1
    except RunError:
        time.sleep(0.0005)
"""
    log = tmp_path / "log"
    writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path / "folder", log]) for _ in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert log.read_text().split() == ["in", "out"] * 80
    assert names(tmp_path / "folder") == []


def test_only_folders_of_its_kind_are_written_into(tmp_path: Path) -> None:
    run.refuse_foreign(tmp_path / "new", "findings.json", "audit")
    run.refuse_foreign(tmp_path, "findings.json", "audit")
    (tmp_path / "holiday.jpg").write_text("x")
    with pytest.raises(RunError, match="no audit wrote"):
        run.refuse_foreign(tmp_path, "findings.json", "audit")
    (tmp_path / "findings.json").write_text("[]")
    run.refuse_foreign(tmp_path, "findings.json", "audit")
    (tmp_path / "recipe.yaml").write_text("name: a")
    with pytest.raises(RunError, match="no audit wrote"):  # a run has findings too
        run.refuse_foreign(tmp_path, "findings.json", "audit")
    with pytest.raises(RunError, match="no audit wrote"):
        run.refuse_foreign(tmp_path / "holiday.jpg", "findings.json", "audit")


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
        assert RunFolder.create(tmp_path / name).path.is_dir()


def test_a_taken_folder_is_refused_unless_resumed(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: a")
    with pytest.raises(RunError, match=r"already holds a run.*--resume.*--out"):
        RunFolder.create(tmp_path)
    assert RunFolder.create(tmp_path, resume=True).path == tmp_path


def test_what_is_no_run_is_not_resumed_nor_opened(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("x")
    with pytest.raises(RunError, match="no run to resume"):
        RunFolder.create(tmp_path, resume=True)
    with pytest.raises(RunError, match="is not a run"):
        RunFolder.open(tmp_path)
    with pytest.raises(RunError, match="is a file"):
        RunFolder.create(tmp_path / "holiday.jpg")
    with pytest.raises(StorageError, match="Cannot make the run folder"):
        RunFolder.create(tmp_path / "holiday.jpg" / "run")
    assert names(tmp_path) == ["holiday.jpg"]


def test_a_bundle_is_not_taken_for_its_run(tmp_path: Path) -> None:
    for name in ("recipe.yaml", "bundle.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(RunError, match="not a run, but the bundle or the exported model of one"):
        RunFolder.open(tmp_path)


def test_fits_are_those_with_a_split_honest_first_folds_by_number(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
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
    about = run.environment(["/usr/bin/scanwise", "fit", "demo"])
    assert about["command"] == ["scanwise", "fit", "demo"]
    run.write_json(about, tmp_path / "a.json")
    assert run.read_json(tmp_path / "a.json") == about
    assert {"scanwise", "torch", "numpy"} <= about["packages"].keys()
