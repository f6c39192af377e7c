"""Workers wait where all of them together would need too much; what is too large for the machine alone is refused."""

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless

from medical_files import dataset, write_dicom, write_nifti, write_packed
from picture_files import png16
from scanwise.cohort import store
from scanwise.cohort.decoding import memory, readers
from scanwise.cohort.decoding.memory import MemoryBudget
from scanwise.cohort.decoding.pixels import LACK, UnreadableScan
from scanwise.recipe import Data
from scanwise.workers import sharing

SETTINGS = Data(size=16)
BUDGETS = (memory.FILES, memory.UNPACKED, memory.PIXELS)


def look_again() -> None:
    for budget in BUDGETS:
        budget._measured = -1e9


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A machine whose free memory is the first number of this list."""
    free = [2**40]
    for budget in BUDGETS:
        monkeypatch.setattr(budget, "measure", lambda: free[0])
    look_again()
    yield free
    look_again()
    assert [budget._used for budget in BUDGETS] == [0, 0, 0]  # whatever happened, all was given back


def test_together_they_never_hold_more_than_the_budget() -> None:
    budget, lock = MemoryBudget(0.5, lambda: 200), threading.Lock()
    held, most, most_at_once = [], 0, 0

    def work(size: int) -> None:
        nonlocal most, most_at_once
        with budget.reserve(size):
            with lock:
                held.append(size)
                most, most_at_once = max(most, sum(held)), max(most_at_once, len(held))
            threading.Event().wait(0.002)
            with lock:
                held.remove(size)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [60, 10, 100, 30, 30, 45, 1, 70] * 10))
    assert 60 < most <= 100
    assert 2 <= most_at_once < 8


def test_what_is_too_much_alone_is_refused_with_both_figures() -> None:
    budget = MemoryBudget(0.5, lambda: 200_000_000)
    with pytest.raises(UnreadableScan) as refused, budget.reserve(150_000_000):
        pass
    assert str(refused.value).startswith(f"{LACK}: about 150 MB, and 100 MB may be used; ")


def test_a_large_one_waits_until_it_is_alone_and_is_then_judged_by_what_there_is() -> None:
    free = [100]
    budget = MemoryBudget(1.0, lambda: free[0])
    inside, go, done = threading.Event(), threading.Event(), threading.Event()

    def small() -> None:
        with budget.reserve(10):
            inside.set()
            go.wait(10)

    def large() -> None:
        with budget.reserve(150):
            done.set()

    threads = [threading.Thread(target=small), threading.Thread(target=large)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    assert not done.wait(0.05)
    free[0] = 200
    go.set()
    assert done.wait(10)
    for thread in threads:
        thread.join()


def test_room_is_given_back_where_the_work_fails() -> None:
    budget = MemoryBudget(1.0, lambda: 100)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), budget.reserve(80):
            raise ZeroDivisionError
    with budget.reserve(100):
        pass


def deflated(file: Path) -> Path:
    made = dataset(np.zeros((500, 500), np.uint16))
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    made.save_as(file, enforce_file_format=True)
    return file


def files(folder: Path) -> list[Path]:
    """Small files that claim 250,000 pixels each."""
    flat = np.zeros((500, 500), np.uint16)
    flat[0, 0] = 1
    (folder / "deep.png").write_bytes(png16(flat))
    (folder / "colour.png").write_bytes(png16(np.dstack([flat] * 3)))
    Image.fromarray(flat.astype(np.uint8)).save(folder / "gray.png")
    write_dicom(folder / "x.dcm", flat)
    write_nifti(folder / "x.nii.gz", flat[:, :, None].astype(np.int16))
    return sorted(folder.iterdir())


def test_every_kind_of_file_says_what_it_needs(tmp_path: Path, machine: list[int]) -> None:
    paths = [*files(tmp_path), deflated(tmp_path / "y.dcm")]
    stream = io.BytesIO()
    Image.new("I;16", (500, 500), 7).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
    paths.append(
        write_packed(tmp_path / "z.dcm", [stream.getvalue()], JPEG2000Lossless, np.zeros((500, 500), np.uint16))
    )
    assert not [path for path in paths if isinstance(readers.read_file(path, SETTINGS), str)]
    machine[0] = 1_500_000  # little more than the pixels need when they are shown
    look_again()
    for path in paths:
        found = readers.read_file(path, SETTINGS)
        assert isinstance(found, str)
        assert found.startswith(f"{LACK}: about ")


def test_a_file_that_is_too_large_is_not_read_at_all(tmp_path: Path, machine: list[int]) -> None:
    with (tmp_path / "x.png").open("wb") as sparse:
        sparse.truncate(2**33)
    machine[0] = 2**34
    assert str(readers.read_file(tmp_path / "x.png", SETTINGS)).startswith(f"{LACK}: about 8,590 MB")


def test_a_refusal_for_memory_is_not_remembered(
    tmp_path: Path, machine: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There may be more the next time."""
    monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "scans").mkdir()
    names = np.array([path.name for path in files(tmp_path / "scans")])
    machine[0] = 12_000_000
    small, refused = store.build_store(tmp_path / "scans", names, SETTINGS)
    assert set(refused) == {"colour.png", "x.nii.gz"}
    assert len(small) == len(names) - 2
    machine[0] = 2**40
    whole, refused = store.build_store(tmp_path / "scans", names, SETTINGS)
    assert not refused
    assert len(whole) == len(names)
    assert "damaged" not in caplog.text


# --- what there is ---


def group(folder: Path, limit: str, used: int, droppable: int, *, first: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if first else ("memory.max", "memory.current")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{'total_' * first}inactive_file {droppable}\n")


@pytest.mark.parametrize(
    ("outer", "inner", "free"), [("max", "max", 2**60), ("max", "100", 70), ("80", "100", 50), ("60", "max", 30)]
)
def test_a_container_leaves_what_its_strictest_group_leaves(tmp_path: Path, outer: str, inner: str, free: int) -> None:
    group(tmp_path / "a", outer, 40, 10)
    group(tmp_path / "a" / "b", inner, 40, 10)
    (tmp_path / "own").write_text("0::/a/b\n")
    assert memory._of_container(tmp_path, tmp_path / "own") == free


def test_groups_of_the_first_version_count_too(tmp_path: Path) -> None:
    group(tmp_path / "memory" / "a", "100", 40, 10, first=True)
    (tmp_path / "own").write_text("4:memory:/a\n3:cpu,cpuacct:/a\n0::/\n")
    assert memory._of_container(tmp_path, tmp_path / "own") == 70
    assert memory._of_container(tmp_path / "none", tmp_path / "gone") == 2**60


def test_processes_that_run_together_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_of_machine", lambda: 800)
    monkeypatch.setattr(memory, "_of_container", lambda: 2**60)
    monkeypatch.setattr(memory, "_of_process", lambda: 600)
    assert memory.free_memory() == 600
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert memory.free_memory() == 150
    monkeypatch.setattr(sharing, "_processes", 1)
    sharing.share_between(3)
    assert memory.free_memory() == 50
    monkeypatch.setattr(memory, "_of_process", lambda: -5)
    assert memory.free_memory() == 0


def test_all_budgets_together_leave_room_for_the_rest() -> None:
    assert sum(budget.share for budget in BUDGETS) <= 0.8
    assert 0 < memory.free_memory() < 2**60
