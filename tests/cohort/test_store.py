"""Each scan is decoded once, by whoever comes first, and half a store never exists."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from cohort_scans import Scans

from medical_files import write_nifti
from scanwise.cohort import store
from scanwise.cohort.decoding import pictures, readers, streams
from scanwise.cohort.decoding.pixels import BROKEN, LACK, Slices
from scanwise.cohort.decoding.remote_files import UNFETCHED
from scanwise.errors import StorageError
from scanwise.recipe import Data

SETTINGS = Data(size=16)


def paths_of(root: Path) -> "np.ndarray[tuple[int], np.dtype[np.str_]]":
    return np.array(sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png")))


def stores(cache: Path) -> list[str]:
    """What lies in the cache, but for locks."""
    folder = cache / "stores"
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock")) if folder.is_dir() else []


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets an entry for every scan that is decoded."""
    calls: list[int] = []
    original = streams.read_slices

    def counted(file: Path, slices: Slices, settings: Data) -> list[readers.DecodedScan | str]:
        calls.extend([1] * len(slices))
        return original(file, slices, settings)

    monkeypatch.setattr(streams, "read_slices", counted)
    return calls


def test_rows_are_the_scans_in_order(scans: Scans) -> None:
    root = scans.classes(each=4)
    paths = paths_of(root)[::-1]
    made, refused = store.build_store(root, paths, SETTINGS)
    assert refused == {}
    assert len(made) == 8
    for row, path in enumerate(paths.tolist()):
        scan = readers.read_scan((root / path).read_bytes(), SETTINGS)
        np.testing.assert_array_equal(made.read([row])[0], scan.pixels)
        assert (made.sha256[row], made.digest[row]) == (scan.sha256, scan.digest)


def test_take_and_read_follow_the_rows(scans: Scans) -> None:
    root = scans.classes(each=3)
    made, _ = store.build_store(root, paths_of(root), SETTINGS)
    taken = made.take(np.array([4, 1, 1]))
    np.testing.assert_array_equal(taken.read([2, 0]), made.read([1, 4]))
    assert taken.sha256.tolist() == made.sha256[[4, 1, 1]].tolist()
    assert len(taken) == 3


def test_the_array_is_on_disk_and_cannot_be_written(scans: Scans) -> None:
    root = scans.classes()
    made, _ = store.build_store(root, paths_of(root), SETTINGS)
    assert isinstance(made.array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        made.array[0, 0, 0, 0] = 1
    copy = made.read([0])
    copy[:] = 0
    assert made.read([0]).any()


@pytest.mark.parametrize("reason", [f"{LACK}: about 9 MB", BROKEN, f"cannot be opened: {UNFETCHED} (TimeoutError)"])
def test_a_refusal_that_may_pass_is_not_kept(reason: str, scans: Scans, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are tried again; only where one of them can be read now is the store made anew, with all of them."""
    root = scans.classes(each=3)
    (root / "b.png").write_bytes(b"no scan")
    paths = paths_of(root)
    whole = store.build_store(root, paths, SETTINGS)
    refused = {root / paths[0]: reason, root / paths[3]: reason}
    read, tried = store.read_files, []

    def fails(files: Sequence[Path], settings: Data) -> Iterator[readers.DecodedScan | str]:
        tried.extend(files)
        return (refused.get(file, scan) for file, scan in zip(files, read(files, settings), strict=True))

    monkeypatch.setattr(store, "read_files", fails)
    monkeypatch.setattr(store, "read_one_by_one", fails)
    other = Data(size=17)
    first = store.build_store(root, paths, other)
    assert len(first[0]) == 4
    assert first[1] == {paths[0]: reason, paths[3]: reason, "b.png": whole[1]["b.png"]}
    tried.clear()
    assert store.build_store(root, paths, other)[1] == first[1]
    assert tried == list(refused)
    refused.popitem()
    assert store.build_store(root, paths, other)[1] == {paths[0]: reason, "b.png": whole[1]["b.png"]}
    refused.clear()
    tried.clear()
    again = store.build_store(root, paths, other)
    assert tried == [root / path for path in (paths[0], *paths)]  # tried once, then decoded with all others
    assert again[1] == whole[1]
    assert again[0].sha256.tolist() == whole[0].sha256.tolist()


def test_the_second_time_nothing_is_decoded(scans: Scans, decoded: list[int]) -> None:
    root = scans.classes()
    first, _ = store.build_store(root, paths_of(root), SETTINGS)
    assert len(decoded) == 6
    second, _ = store.build_store(root, paths_of(root), SETTINGS)
    assert len(decoded) == 6
    np.testing.assert_array_equal(first.array, second.array)
    assert first.sha256.tolist() == second.sha256.tolist()


def test_a_copy_of_the_folder_shares_the_store(scans: Scans, tmp_path: Path, decoded: list[int]) -> None:
    import shutil

    root = scans.classes()
    store.build_store(root, paths_of(root), SETTINGS)
    shutil.copytree(root, tmp_path / "copy")
    store.build_store(tmp_path / "copy", paths_of(root), SETTINGS)
    assert len(decoded) == 6


@pytest.mark.parametrize("settings", [Data(size=17), Data(size=16, channels=3), Data(size=16, shape="pad")])
def test_other_settings_make_another_store(scans: Scans, cache: Path, settings: Data) -> None:
    root = scans.classes()
    store.build_store(root, paths_of(root), SETTINGS)
    made, _ = store.build_store(root, paths_of(root), settings)
    assert len(stores(cache)) == 2
    assert made.array.shape == (6, settings.size, settings.size, settings.channels)


def test_changed_content_of_the_same_size_and_time_makes_another_store(scans: Scans, cache: Path) -> None:
    root = scans.classes()
    paths = paths_of(root)
    before, _ = store.build_store(root, paths, SETTINGS)
    victim = root / paths[0]
    stat = victim.stat()
    other = pictures.decode_picture((root / paths[1]).read_bytes())
    from PIL import Image

    Image.fromarray(other[:, :, 0]).save(victim)
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after, _ = store.build_store(root, paths, SETTINGS)
    assert len(stores(cache)) == 2
    assert not np.array_equal(before.read([0]), after.read([0]))
    np.testing.assert_array_equal(after.read([0]), after.read([1]))


def test_what_cannot_be_read_is_listed_and_the_rest_stays_in_step(scans: Scans) -> None:
    root = scans.classes(each=2)
    (root / "NonDemented" / "a-empty.png").write_bytes(b"")
    (root / "NonDemented" / "s0b-junk.png").write_bytes(b"junk")
    whole = (root / "NonDemented" / "s0.png").read_bytes()
    (root / "NonDemented" / "z-cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "NonDemented" / "gone.png").symlink_to(root / "nowhere")
    paths = paths_of(root)
    made, refused = store.build_store(root, paths, SETTINGS)
    assert set(refused) == {f"NonDemented/{n}.png" for n in ("a-empty", "s0b-junk", "z-cut", "gone")}
    assert refused["NonDemented/gone.png"] == "cannot be opened: No such file or directory"
    kept = store.kept_rows(paths, refused)
    assert len(made) == len(kept) == 4
    for row, path in enumerate(paths[kept].tolist()):
        assert made.sha256[row] == readers.read_scan((root / path).read_bytes(), SETTINGS).sha256
    assert store.build_store(root, paths, SETTINGS)[1] == refused


def test_all_corrupt_is_a_store_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    made, refused = store.build_store(tmp_path, np.array(["a.png"]), SETTINGS)
    assert len(made) == 0
    assert len(refused) == 1


def flip(file: Path, place: float) -> None:
    """Change one bit, at a share of the file's length."""
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    file.write_bytes(content)


def change(file: Path, name: str, value: object) -> None:
    """Change one value of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a pixel, at the beginning": lambda folder: flip(folder / store.PIXELS, 0.0),
    "a pixel, in the middle": lambda folder: flip(folder / store.PIXELS, 0.5),
    "a pixel, at the end": lambda folder: flip(folder / store.PIXELS, 1.0),
    "cut": lambda folder: os.truncate(folder / store.PIXELS, 100),
    "too long": lambda folder: os.truncate(folder / store.PIXELS, 100_000),
    "pixels gone": lambda folder: (folder / store.PIXELS).unlink(),
    "a digit of what is said of them": lambda folder: flip(folder / store.ABOUT, 0.5),
    "half of what is said of them": lambda folder: os.truncate(folder / store.ABOUT, 100),
    "something else said of them": lambda folder: (folder / store.ABOUT).write_text("[1, 2]"),
    "a format that there is not": lambda folder: change(folder / store.ABOUT, "format", []),
    "the format of a later version": lambda folder: change(folder / store.ABOUT, "format", 99),
    "a shape of nothing": lambda folder: change(folder / store.ABOUT, "shape", [0, -1]),
    "nothing said of them": lambda folder: (folder / store.ABOUT).unlink(),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_store_is_made_anew(
    kind: str, scans: Scans, cache: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(store, "BLOCK", 3 * 16 * 16)  # several blocks, the last one not full
    root = scans.classes(each=4)
    made, _ = store.build_store(root, paths_of(root), SETTINGS)
    pixels = made.read(range(8))
    decoded.clear()
    (key,) = stores(cache)
    DAMAGE[kind](cache / "stores" / key)
    again, _ = store.build_store(root, paths_of(root), SETTINGS)
    np.testing.assert_array_equal(again.read(range(8)), pixels)
    assert len(decoded) == 8
    assert "damaged" in caplog.text
    assert stores(cache) == [key]
    store.build_store(root, paths_of(root), SETTINGS)
    assert len(decoded) == 8  # and is whole now


def test_a_store_without_checksums_is_made_anew(scans: Scans, cache: Path, decoded: list[int]) -> None:
    root = scans.classes()
    store.build_store(root, paths_of(root), SETTINGS)
    (key,) = stores(cache)
    file = cache / "stores" / key / store.ABOUT
    about = json.loads(file.read_text())
    file.write_text(
        json.dumps({name: about[name] for name in ("format", "shape", "scans", "refused")})
    )  # as 0.1 wrote it
    count = len(decoded)
    store.build_store(root, paths_of(root), SETTINGS)
    assert len(decoded) == 2 * count


def test_a_disk_that_gives_back_something_else_is_said(
    scans: Scans, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = scans.classes()
    draws = itertools.count()
    monkeypatch.setattr(store, "_check_of", lambda _: next(draws))
    with pytest.raises(StorageError, match="reads back otherwise"):
        store.build_store(root, paths_of(root), SETTINGS)


# --- two processes, kills, full disks ---

BUILD = textwrap.dedent(
    """
    import hashlib, json, sys, time
    from pathlib import Path
    import numpy as np
    from scanwise.cohort import store
    from scanwise.cohort.decoding import streams
    from scanwise.recipe import Data

    root, log, wait = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    original = streams.read_slices

    def slow(scan, slices, settings):
        time.sleep(wait)
        with log.open("a") as file:
            file.write("x")
        return original(scan, slices, settings)

    streams.read_slices = slow
    paths = np.array(sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png")))
    made, _ = store.build_store(root, paths, Data(size=16))
    print(hashlib.sha256(made.read(range(len(made))).tobytes()).hexdigest())
    """
)


def building(root: Path, log: Path, wait: float) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", BUILD, root, log, str(wait)], stdout=subprocess.PIPE, text=True)


@pytest.mark.extended
def test_two_processes_build_once_and_read_the_same(scans: Scans, cache: Path, tmp_path: Path) -> None:
    root, log = scans.classes(each=10), tmp_path / "log"
    both = [building(root, log, 0.02) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1] != ""
    assert len(log.read_text()) == 20
    assert len(stores(cache)) == 1


@pytest.mark.extended
def test_a_build_killed_half_way_leaves_no_store_and_the_next_one_is_whole(
    scans: Scans, cache: Path, tmp_path: Path
) -> None:
    root, log = scans.classes(each=10), tmp_path / "log"
    process = building(root, log, 0.3)
    deadline = time.monotonic() + 90
    while not (log.exists() and len(log.read_text()) >= 3):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    left = stores(cache)
    assert left
    assert all(name.endswith(".part") for name in left)
    made, _ = store.build_store(root, paths_of(root), SETTINGS)
    (key,) = stores(cache)  # what the killed one left is gone
    assert json.loads((cache / "stores" / key / "store.json").read_text())["shape"] == [20, 16, 16, 1]
    assert made.read([19]).any()


@pytest.fixture
def small_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache on a disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {mounted.stderr.decode().strip()}")
    monkeypatch.setenv("SCANWISE_CACHE", str(disk))
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_too_small_is_seen_before_anything_is_decoded(
    scans: Scans, small_cache: Path, decoded: list[int]
) -> None:
    root = scans.classes(each=40)
    with pytest.raises(StorageError, match=r"need 1 MB.*SCANWISE_CACHE.*data\.size"):
        store.build_store(root, paths_of(root), Data(size=128))
    assert decoded == []
    assert stores(small_cache) == []


def test_a_disk_that_fills_meanwhile_leaves_nothing(
    scans: Scans, small_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = scans.classes(each=40)
    with monkeypatch.context() as patch:
        patch.setattr(store, "_refuse_full_disk", lambda folder, size: None)
        with pytest.raises(StorageError, match="No space left"):
            store.build_store(root, paths_of(root), Data(size=128))
    assert stores(small_cache) == []
    made, _ = store.build_store(root, paths_of(root), Data(size=32))
    assert len(made) == 80


def test_a_cache_that_cannot_be_made(scans: Scans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = scans.classes()
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="SCANWISE_CACHE"):
        store.build_store(root, paths_of(root), SETTINGS)


# --- slices of one file ---


def test_a_volume_that_changes_makes_another_store(tmp_path: Path, cache: Path) -> None:
    """The hash of a slice's file is in the key, though no file has the slice's name."""
    voxels = np.random.default_rng(0).integers(0, 1000, (8, 9, 3)).astype(np.int16)
    write_nifti(tmp_path / "x.nii", voxels)
    paths = np.array([f"x.nii#{index:03d}" for index in range(3)])
    before, refused = store.build_store(tmp_path, paths, SETTINGS)
    assert refused == {}
    write_nifti(tmp_path / "x.nii", voxels[:, ::-1])
    after, _ = store.build_store(tmp_path, paths, SETTINGS)
    assert len(stores(cache)) == 2
    assert not np.array_equal(before.array, after.array)
    assert not set(before.sha256.tolist()) & set(after.sha256.tolist())


def test_a_file_of_many_slices_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nifti(tmp_path / "x.nii", np.arange(8 * 9 * 30, dtype=np.int16).reshape(8, 9, 30))
    hashed: list[int] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: hashed.append(1) or digest(*given))
    store.build_store(tmp_path, np.array([f"x.nii#{index:03d}" for index in range(30)]), SETTINGS)
    assert len(hashed) == 1
