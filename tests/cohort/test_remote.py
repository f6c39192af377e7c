"""A bucket is read as a folder is, once; checked against a real S3 protocol over HTTP."""

import os
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
import numpy as np
import pytest
from cohort_scans import Scans
from fsspec.implementations.memory import MemoryFileSystem

from remote_folders import QuietHandler, on_web_server
from scanwise import cohort
from scanwise.cohort import remote
from scanwise.cohort.decoding.remote_files import is_remote
from scanwise.errors import DataError, StorageError
from scanwise.recipe import Recipe
from scanwise.redaction import without_secrets

RECIPE = Recipe.model_validate({"name": "a", "data": {"size": 16}})

s3fs = pytest.importorskip("s3fs")


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets the name of every object that is downloaded."""
    names: list[str] = []
    original = remote._get

    def counted(filesystem: Any, objects: list[str], parts: list[str]) -> None:
        names.extend(objects)
        original(filesystem, objects, parts)

    monkeypatch.setattr(remote, "_get", counted)
    return names


def upload(s3: Any, root: Path, place: str) -> None:
    for file in root.rglob("*"):
        if file.is_file():
            s3.pipe(f"{place}/{file.relative_to(root).as_posix()}", file.read_bytes())


@pytest.mark.parametrize("url", ["s3://bucket/scans", "s3://bucket/scans/", "s3://bucket"])
def test_a_bucket_is_read_as_the_folder_is(s3: Any, scans: Scans, url: str) -> None:
    root = scans.classes(each=3)
    scans.add("NonDemented/with space & ü #?*[1].png", "NonDemented/deep/er.png")
    upload(s3, root, "bucket" if url == "s3://bucket" else "bucket/scans")
    there, here = cohort.read_cohort(url, RECIPE), cohort.read_cohort(str(root), RECIPE)
    assert there.cohort.root == url.rstrip("/")
    for column in ("path", "labels", "subject", "sha256", "pixels"):
        assert getattr(there.cohort, column).tolist() == getattr(here.cohort, column).tolist(), column
    assert there.cohort.classes == here.cohort.classes
    np.testing.assert_array_equal(there.store.array, here.store.array)


def test_a_manifest_in_a_bucket_brings_its_folder(s3: Any, scans: Scans) -> None:
    scans.add("x/a.png", "x/b.png")
    scans.manifest({"path": ["x/a.png", "x/b.png"], "label": ["u", "v"], "subject": ["1", "2"]})
    upload(s3, scans.root, "bucket/scans")
    found = cohort.read_cohort("s3://bucket/scans/scans.csv", RECIPE).cohort
    assert found.path.tolist() == ["x/a.png", "x/b.png"]
    assert found.subject.tolist() == ["1", "2"]


def test_the_second_time_only_what_changed_is_fetched(s3: Any, scans: Scans, fetched: list[str]) -> None:
    root = scans.classes(each=3)
    upload(s3, root, "bucket/scans")
    before = cohort.read_cohort("s3://bucket/scans", RECIPE)
    assert len(fetched) == 6
    fetched.clear()
    cohort.read_cohort("s3://bucket/scans", RECIPE)
    assert fetched == []
    other = s3fs.S3FileSystem(skip_instance_cache=True)  # somebody else, of whom our listing cache knows nothing
    other.pipe("bucket/scans/NonDemented/s1.png", (root / "MildDemented" / "s1.png").read_bytes())
    other.rm("bucket/scans/NonDemented/s2.png")
    scans.add("NonDemented/new.png")
    other.pipe("bucket/scans/NonDemented/new.png", (root / "NonDemented" / "new.png").read_bytes())
    after = cohort.read_cohort("s3://bucket/scans", RECIPE)
    assert sorted(fetched) == ["bucket/scans/NonDemented/new.png", "bucket/scans/NonDemented/s1.png"]
    hashes = [dict(zip(i.cohort.path.tolist(), i.cohort.sha256.tolist(), strict=True)) for i in (before, after)]
    assert hashes[1]["NonDemented/s1.png"] == hashes[0]["MildDemented/s1.png"]
    assert "NonDemented/s2.png" not in hashes[1]
    assert "NonDemented/new.png" in hashes[1]


def test_a_folder_that_came_after_the_first_look_is_seen(s3: Any, scans: Scans) -> None:
    s3.pipe("bucket/scans/other.txt", b"x")
    with pytest.raises(DataError, match="nothing at"):
        remote.mirror_folder("s3://bucket/scans/new")
    upload(s3fs.S3FileSystem(skip_instance_cache=True), scans.classes(each=2), "bucket/scans/new")
    assert len(cohort.read_cohort("s3://bucket/scans/new", RECIPE).cohort) == 4


def test_a_file_that_vanished_from_the_mirror_is_fetched_again(s3: Any, scans: Scans, fetched: list[str]) -> None:
    upload(s3, scans.classes(each=2), "bucket/scans")
    local = remote.mirror_folder("s3://bucket/scans")
    (local / "NonDemented" / "s0.png").unlink()
    fetched.clear()
    remote.mirror_folder("s3://bucket/scans")
    assert fetched == ["bucket/scans/NonDemented/s0.png"]


@pytest.mark.parametrize("how", ["a byte", "its end", "all of it"])
def test_a_file_that_was_damaged_in_the_mirror_is_fetched_again(
    how: str, s3: Any, scans: Scans, fetched: list[str]
) -> None:
    upload(s3, scans.classes(each=2), "bucket/scans")
    file = remote.mirror_folder("s3://bucket/scans") / "NonDemented" / "s0.png"
    content = file.read_bytes()
    damaged = {"a byte": content[:100] + bytes([content[100] ^ 1]) + content[101:], "its end": content[:-1]}
    file.write_bytes(damaged.get(how, b""))
    fetched.clear()
    remote.mirror_folder("s3://bucket/scans")
    assert fetched == ["bucket/scans/NonDemented/s0.png"]
    assert file.read_bytes() == content


def test_a_damaged_index_costs_a_download_and_no_more(s3: Any, scans: Scans, fetched: list[str]) -> None:
    upload(s3, scans.classes(each=2), "bucket/scans")
    local = remote.mirror_folder("s3://bucket/scans")
    (local / ".scanwise-mirror.json").write_text("{")
    fetched.clear()
    remote.mirror_folder("s3://bucket/scans")
    assert len(fetched) == 4


def test_a_broken_transfer_is_told_leaves_no_scan_behind_and_goes_on_later(
    s3: Any, scans: Scans, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(s3, scans.classes(each=3), "bucket/scans")
    monkeypatch.setattr(remote, "_AT_ONCE", 2)
    original, calls = s3.get, []

    def breaks(names: list[str], parts: list[str]) -> None:
        calls.append(names)
        if len(calls) == 2:
            Path(parts[0]).write_bytes(b"half")
            raise ConnectionError("the line is dead")
        original(names, parts)

    with monkeypatch.context() as patch:
        patch.setattr(s3, "get", breaks)
        with pytest.raises(DataError, match=r"broke off: ConnectionError: the line is dead\. Run it again"):
            remote.mirror_folder("s3://bucket/scans")
    fetched.clear()
    local = remote.mirror_folder("s3://bucket/scans")
    assert len(fetched) == 4  # the first two are kept
    assert len([file for file in local.rglob("*") if file.is_file() and not file.name.startswith(".")]) == 6
    assert not list(local.rglob("*.part"))


def test_a_changed_scan_whose_transfer_broke_is_not_taken_for_new(
    s3: Any, scans: Scans, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(s3, scans.classes(each=2), "bucket/scans")
    local = remote.mirror_folder("s3://bucket/scans")
    s3.pipe("bucket/scans/NonDemented/s0.png", b"new content")

    def breaks(names: list[str], parts: list[str]) -> None:
        raise ConnectionError("the line is dead")

    with monkeypatch.context() as patch:
        patch.setattr(s3, "get", breaks)
        with pytest.raises(DataError, match="broke off"):
            remote.mirror_folder("s3://bucket/scans")
    fetched.clear()
    remote.mirror_folder("s3://bucket/scans")
    assert fetched == ["bucket/scans/NonDemented/s0.png"]
    assert (local / "NonDemented" / "s0.png").read_bytes() == b"new content"


def test_a_full_disk_while_fetching(s3: Any, scans: Scans, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(s3, scans.classes(each=2), "bucket/scans")

    def full(names: list[str], parts: list[str]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(s3, "get", full)
    with pytest.raises(StorageError, match="SCANWISE_CACHE"):
        remote.mirror_folder("s3://bucket/scans")


def test_the_markers_that_consoles_make_for_folders_are_no_scans(s3: Any, scans: Scans) -> None:
    upload(s3, scans.classes(each=2), "bucket/scans")
    for marker in ("scans/", "scans/NonDemented/", "scans/empty/"):
        s3.call_s3("put_object", Bucket="bucket", Key=marker, Body=b"")
    found = cohort.read_cohort("s3://bucket/scans", RECIPE)
    assert len(found.cohort) == 4
    assert found.quarantine == ()


def test_what_is_not_there_is_one_clear_line(s3: Any, cache: Path) -> None:
    s3.pipe("bucket/other/a.png", b"x")
    for url in ("s3://absent", "s3://absent/scans", "s3://bucket/absent", "s3://bucket/absent.csv"):
        with pytest.raises(DataError) as caught:
            cohort.read_cohort(url, RECIPE)
        assert url in str(caught.value)
        assert "Check the address" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (cache / "remote").exists()


@pytest.mark.extended
def test_a_server_that_does_not_answer(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(DataError, match=r"s3://bucket/scans cannot be reached: .*Check the address and credentials"):
        cohort.read_cohort("s3://bucket/scans", RECIPE)


@pytest.mark.parametrize(
    ("url", "said"), [("sftpp://host/x", "cannot be reached"), ("gs://bucket/x", "needs another package")]
)
def test_a_protocol_that_is_unknown_or_not_installed(url: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        cohort.read_cohort(url, RECIPE)


def test_other_places_of_fsspec_do_as_well(scans: Scans) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    upload(memory, scans.classes(each=2), "/scans")
    assert len(cohort.read_cohort("memory://scans", RECIPE).cohort) == 4
    memory.rm("/scans", recursive=True)


def test_what_is_remote() -> None:
    assert [is_remote(p) for p in ("s3://a", "memory://a", "file:///a", "/a", "a", "C:\\a")] == [True, True] + [
        False
    ] * 4


def test_a_file_that_changed_on_a_web_server_is_fetched_again(scans: Scans, fetched: list[str]) -> None:
    pytest.importorskip("aiohttp")
    root = scans.classes(each=3)
    first, *others = sorted(root.rglob("*.png"))
    with on_web_server(root) as url:
        before = cohort.read_cohort(f"{url}/", RECIPE).cohort
        assert len(fetched) == len(before) == 6
        first.write_bytes(others[-1].read_bytes())
        os.utime(first, (1, 1))
        after = cohort.read_cohort(f"{url}/", RECIPE).cohort
    assert remote.local_root(after.root).is_dir()  # the server has ended: it is not asked again
    assert fetched[6:] == [f"{url}/{first.relative_to(root).as_posix()}"]
    assert (after.sha256 != before.sha256).sum() == 1


def test_a_small_web_server_is_asked_for_few_files_at_once(scans: Scans) -> None:
    pytest.importorskip("aiohttp")
    root = scans.classes(each=8)
    with on_web_server(root, CountingHandler) as url:
        found = cohort.read_cohort(f"{url}/", RECIPE).cohort
    assert len(found) == len(cohort.read_cohort(str(root), RECIPE).cohort)
    assert 1 <= CountingHandler.most <= 5  # which wait for one that is small


class CountingHandler(QuietHandler):
    """Gives files late, and knows how many were asked for at once."""

    now = most = 0
    lock = threading.Lock()

    def do_GET(self) -> None:  # noqa: N802 - of http.server
        with self.lock:
            CountingHandler.now += 1
            CountingHandler.most = max(self.most, self.now)
        time.sleep(0.02)
        super().do_GET()
        with self.lock:
            CountingHandler.now -= 1


class TwoServers(MemoryFileSystem):
    """A place of which fsspec keeps the path alone, as of SFTP; each server has files of its own."""

    protocol = "servers"

    def __init__(self, host: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.store, self.pseudo_dirs = SERVERS.setdefault(host, ({}, [""]))

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.partition("://")[2].partition("/")[2] if "://" in path else path

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        return {"host": urlsplit(path).netloc}


SERVERS: dict[str, tuple[dict[str, Any], list[str]]] = {}


def test_two_servers_with_the_same_path_are_two_places() -> None:
    fsspec.register_implementation("servers", TwoServers, clobber=True)
    for host in ("a", "b"):
        TwoServers(host).pipe("/scans/x.png", host.encode())
    copies = [remote.mirror_folder(f"servers://{host}/scans") for host in ("a", "b", "a")]
    assert [(copy / "x.png").read_bytes() for copy in copies] == [b"a", b"b", b"a"]
    assert copies[0] == copies[2] != copies[1]


def test_a_place_whose_secrets_are_not_kept_cannot_be_asked_again() -> None:
    with pytest.raises(DataError, match="kept without its password or signature"):
        remote.local_root(without_secrets("https://me:secret@127.0.0.1:9/scans.csv?signature=1"))
