"""Scans at a URL are predicted as those of a folder are, and read where they lie."""

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import fsspec
import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

import remote_folders
from remote_folders import QuietHandler, on_web_server, web_server
from scanwise import bundle
from scanwise.bundle.shards import ShardFolder
from scanwise.cohort import remote
from scanwise.cohort.decoding import remote_files
from scanwise.cohort.decoding.pixels import RemoteScan, length_of, open_file
from scanwise.cohort.decoding.readers import read_file
from scanwise.cohort.decoding.remote_files import BLOCK, RemoteStream, size_of, version_of
from scanwise.recipe import Data
from tiny import Command, write_csv
from tiny_bundles import write_scans_of

BuildOnce = Callable[[str, Callable[[Path], object]], Path]


def write_archive(folder: Path) -> None:
    """Pictures in a folder and one below it, one file of three pages, a DICOM file, a volume, and what is no scan."""
    paths = write_scans_of(folder, 12)
    (folder / "more").mkdir()
    for path in paths[8:]:
        path.rename(folder / "more" / path.name)
    pages = [Image.open(path).convert("L") for path in paths[:3]]
    pages[0].save(folder / "p90_0.tif", save_all=True, append_images=pages[1:])
    pages[0].save(folder / "p00_0_mask.png")
    shutil.copyfile(str(get_testdata_file("CT_small.dcm", download=False)), folder / "p92_0.dcm")
    volume = np.random.default_rng(0).random((9, 8, 7), np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "more" / "p93_0.nii.gz")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "more" / "p91_0.png").write_bytes(b"no scan")


@pytest.fixture(scope="module")
def archive(build_once: BuildOnce) -> Path:
    return build_once("archive-of-scans", write_archive)


@pytest.fixture
def in_memory(archive: Path) -> Iterator[str]:
    with remote_folders.in_memory(archive, "archive") as url:
        yield url


@pytest.fixture
def served(archive: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp")
    with on_web_server(archive) as url:
        yield f"{url}/"


@pytest.mark.parametrize("kind", ["in_memory", pytest.param("served", marks=pytest.mark.extended), "file"])
def test_an_answer_to_a_url_is_that_to_the_folder(
    kind: str,
    archive: Path,
    demo_model: Path,
    request: pytest.FixtureRequest,
    scanwise: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "mirror_folder", None)  # nothing is copied
    url = f"file://{archive}" if kind == "file" else request.getfixturevalue(kind)
    command = ["--subject", r"(p\d+)_", "--format", "json"]
    here, there = scanwise("predict", demo_model, archive, *command), scanwise("predict", demo_model, url, *command)
    assert here.code == there.code == 0, there.err
    root = str(archive) if kind == "file" else url.rstrip("/")
    assert there.out.replace(root, str(archive)) == here.out
    assert there.err.replace(root, str(archive)) == here.err
    assert "p91_0.png" in there.err
    for name in ("p90_0.tif#001", "p92_0.dcm", "p93_0.nii.gz#003"):
        assert name in there.out
    assert "hidden" not in there.out + there.err


def test_files_and_slices_at_urls_are_named_one_by_one_and_by_a_table(
    in_memory: str, demo_model: Path, tmp_path: Path, scanwise: Command
) -> None:
    scans = [f"{in_memory}/p00_1.png", f"{in_memory}/p90_0.tif#001"]
    both = scanwise("predict", demo_model, *scans, "--format", "csv")
    assert both.code == 0, both.err
    assert [row.split(",")[0] for row in both.out.splitlines()[1:]] == scans
    lost = f"{in_memory}/lost.png"
    table = write_csv(tmp_path / "scans.csv", [{"path": path} for path in [*scans, lost]])
    named = scanwise("predict", demo_model, "--manifest", table, "--format", "csv")
    assert named.code == 0, named.err
    assert named.out == both.out
    assert f"not used: {lost}: cannot be opened: there is no such file at this address" in " ".join(named.err.split())


class WholeHandler(QuietHandler):
    """A server that grants no parts of files, and says so, says nothing of it, or not even their size."""

    says = "nothing"
    content = np.random.default_rng(0).bytes(3 * BLOCK + 7)
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:  # noqa: N802 - of http.server
        self.send_response(200)
        if self.says == "no size":
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(self.content)))
        if self.says == "no parts":
            self.send_header("Accept-Ranges", "none")
        self.end_headers()

    def do_GET(self) -> None:  # noqa: N802 - of http.server
        self.do_HEAD()
        for start in range(0, len(self.content), BLOCK):
            part = self.content[start : start + BLOCK]
            head, tail = (b"%x\r\n" % len(part), b"\r\n") if self.says == "no size" else (b"", b"")
            with suppress(OSError):  # whoever needs no more has gone
                self.wfile.write(head + part + tail)
        if self.says == "no size":
            self.wfile.write(b"0\r\n\r\n")


@pytest.mark.extended
@pytest.mark.parametrize("says", ["nothing", "no parts", "no size"])
def test_a_file_that_only_comes_whole_is_read_in_parts_as_others_are(
    says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    content = WholeHandler.content
    monkeypatch.setattr(WholeHandler, "says", says)
    with web_server(WholeHandler) as url:
        source = RemoteScan(f"{url}/a.bin")
        with open_file(source) as stream:
            assert stream.read(5) == content[:5]
            assert stream.seek(2 * BLOCK) == 2 * BLOCK
            assert stream.read(BLOCK) == content[2 * BLOCK : 3 * BLOCK]
            assert stream.seek(9) == 9
            assert stream.read(4) == content[9:13]
            assert length_of(stream) == len(content)
            assert stream.read() == content[13:]
            assert stream.read() == b""
        with open_file(source) as stream:
            assert length_of(stream) == len(content)
            assert stream.read() == content
        monkeypatch.setattr(remote_files, "MOST_OF_UNKNOWN_SIZE", 2 * BLOCK)
        above = "its server does not tell its size, which is above" in str(read_file(source, Data(size=16)))
        assert above == (says == "no size")


def test_of_a_file_that_only_comes_whole_nothing_is_fetched_before_there_is_memory_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = np.random.default_rng(0).bytes(2 * BLOCK)
    given = io.BytesIO(content)
    stream = io.BufferedReader(forward_stream(given, len(content), monkeypatch))
    assert length_of(stream) == len(content)
    assert given.tell() == 0
    assert stream.read(10) == content[:10]
    assert given.tell() == BLOCK
    assert stream.read() == content[10:]


def forward_stream(given: io.BytesIO, size: int | None, monkeypatch: pytest.MonkeyPatch) -> RemoteStream:
    """A file whose server sends it from its beginning to its end."""

    class OneWay:
        read = given.read

        def seek(self, *_: int) -> int:
            raise ValueError("it cannot be")

        def close(self) -> None:
            pass

    filesystem = SimpleNamespace(open=lambda *_, **__: OneWay(), info=lambda _: {"size": size})
    monkeypatch.setattr(remote_files, "_located", lambda url: (filesystem, url))
    return RemoteStream("http://somewhere/a")


def test_shards_are_known_by_the_version_of_a_file(in_memory: str, demo_model: Path, tmp_path: Path) -> None:
    url, loaded = f"{in_memory}/p00_1.png", bundle.load(demo_model)
    first = loaded.predict([url], shards=ShardFolder(tmp_path, "digest", 1000)).scans.rows()
    again = loaded.predict([url], shards=ShardFolder(tmp_path, "digest", 1000)).scans.rows()
    assert len(list(tmp_path.iterdir())) == 1
    memory = fsspec.filesystem("memory")
    memory.pipe("/archive/p00_1.png", memory.cat("/archive/p01_1.png"))
    changed = loaded.predict([url], shards=ShardFolder(tmp_path, "digest", 1000)).scans.rows()
    assert len(list(tmp_path.iterdir())) == 2
    assert first == again != changed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["memory://nowhere/scans"], "There is nothing at memory://nowhere/scans"),
        (["nokind://bucket/scans"], "cannot be reached"),
        (["memory://archive", "--pseudonymise"], "cannot be pseudonymised"),
        (["memory://archive", "--dicom-out", "results"], "need the files"),
    ],
)
def test_what_cannot_be_is_said(
    arguments: list[str], said: str, in_memory: str, demo_model: Path, tmp_path: Path, scanwise: Command
) -> None:
    done = scanwise("predict", demo_model, *[tmp_path / word if word == "results" else word for word in arguments])
    assert done.code == 2
    assert said in " ".join(done.refusal.split())
    assert list(tmp_path.iterdir()) == []


def test_a_stream_gives_any_part_and_says_what_fails(
    in_memory: str, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, content = f"{in_memory}/p90_0.tif", (archive / "p90_0.tif").read_bytes()
    with open_file(RemoteScan(url)) as stream:
        assert stream.read(5) == content[:5]
        assert stream.read() == content[5:]
        assert stream.seek(-3, io.SEEK_END) == len(content) - 3
        assert stream.read() == content[-3:]
    assert size_of(url) == len(content)
    assert version_of(url).startswith(str(len(content)))
    with pytest.raises(FileNotFoundError, match="no such file"):
        RemoteStream(f"{in_memory}/none.png")
    broken = RemoteStream(url)

    def fail(*_: int) -> bytes:
        raise TimeoutError

    monkeypatch.setattr(broken, "_opened", type("Lost", (), {"read": staticmethod(fail), "close": lambda self: None})())
    with pytest.raises(OSError, match=r"fetching it failed \(TimeoutError\)"):
        broken.readall()
