"""Data sets come from Kaggle once, through kagglehub; here a server on this machine stands in for Kaggle."""

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scanwise.cohort import kaggle_download, layouts
from scanwise.errors import DataError
from tiny import Command

TREE = {
    f"deep/{side}/{name}/{index}.png": b"x"
    for side, names in (
        ("train", ("1- Stroke", "2- Control")),
        ("test", ("strokeBT", "strokeMR", "normalBT", "normalMR")),
    )
    for name in names
    for index in range(2)
}


def archive(version: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for path, content in {**TREE, "version.txt": str(version).encode()}.items():
            packed.writestr(path, content)
    return stream.getvalue()


class Kaggle(ThreadingHTTPServer):
    """What of the API a download needs."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.version = 2
        self.status = 200
        self.cut = 0
        self.asked: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: Kaggle

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        name = self.path.rpartition("/")[2]
        self.server.asked.append(name)
        if self.server.status != 200:
            self.send(self.server.status, b'{"message": "no"}', "application/json")
        elif name == "GetDataset":
            self.send(200, json.dumps({"currentVersionNumber": self.server.version}).encode(), "application/json")
        else:
            number = int(question.get("datasetVersionNumber") or self.server.version)
            self.send(200, archive(number), "application/zip", cut=self.server.cut)

    def send(self, status: int, body: bytes, kind: str, cut: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) - cut])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without credentials, with an empty cache; returns the cache."""
    for name in (
        "KAGGLE_API_TOKEN",
        "KAGGLE_USERNAME",
        "KAGGLE_KEY",
        "KAGGLE_API_ENVIRONMENT",
        "HTTP_PROXY",
        "HTTPS_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    # It asks every module that is loaded whether it is a notebook: seconds a request, once all tests are imported.
    monkeypatch.setattr("kagglehub.clients.get_user_agent", lambda: "tests")
    return tmp_path / "kagglehub"


@pytest.fixture
def kaggle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    from kagglesdk import kaggle_env

    server = Kaggle()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, address)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from kagglesdk import kaggle_env

    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:9")  # nobody listens


def fill(cache: Path, version: int, *, complete: bool = True) -> Path:
    """What kagglehub leaves in its cache."""
    folder = cache / "datasets" / "me" / "scans"
    for path, content in TREE.items():
        file = folder / "versions" / str(version) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    if complete:
        (folder / f"{version}.complete").touch()
    return folder / "versions" / str(version)


def refusal(handle: str = "me/scans", **options: object) -> str:
    with pytest.raises(DataError) as caught:
        kaggle_download.download_dataset(handle, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- with the stand-in ---


def test_the_newest_version_arrives_and_is_kept(kaggle: Kaggle, user: Path) -> None:
    place = kaggle_download.download_dataset("me/scans")
    assert place == user / "datasets" / "me" / "scans" / "versions" / "2"
    assert (place / "version.txt").read_text() == "2"
    found = layouts.discover_scans(place)
    assert sorted(set(found.groups["modality"].tolist())) == ["", "BT", "MR"]
    asked = list(kaggle.asked)
    assert kaggle_download.download_dataset("me/scans") == place
    assert kaggle.asked == asked  # nobody was asked again


def test_a_version_that_is_named(kaggle: Kaggle) -> None:
    assert (kaggle_download.download_dataset("me/scans/versions/1") / "version.txt").read_text() == "1"
    assert (
        kaggle_download.download_dataset("https://www.kaggle.com/datasets/me/scans/versions/3") / "version.txt"
    ).read_text() == "3"


def test_a_newer_version_if_asked_for(kaggle: Kaggle) -> None:
    kaggle_download.download_dataset("me/scans")
    kaggle.version = 5
    assert kaggle_download.download_dataset("me/scans").name == "2"
    assert kaggle_download.download_dataset("me/scans", anew=True).name == "5"


def test_to_a_folder_of_the_user(kaggle: Kaggle, tmp_path: Path) -> None:
    out = tmp_path / "here"
    assert kaggle_download.download_dataset("me/scans", out) == out
    assert len(layouts.discover_scans(out)) == 12
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []
    assert "already holds something" in refusal(out=out)


def test_nothing_that_breaks_off_is_taken_for_whole(kaggle: Kaggle, user: Path) -> None:
    kaggle.cut = 100
    assert "me/scans" in refusal()
    assert kaggle_download.cached_version(kaggle_download.parse_handle("me/scans")) is None
    kaggle.cut = 0
    assert (kaggle_download.download_dataset("me/scans") / "version.txt").read_text() == "2"


@pytest.mark.parametrize(
    ("status", "said"), [(401, "Log in"), (403, "ask for consent"), (404, "no data set"), (503, "later")]
)
def test_what_kaggle_refuses(kaggle: Kaggle, status: int, said: str) -> None:
    kaggle.status = status
    told = refusal()
    assert f"HTTP {status}" in told
    assert said in told


# --- without network ---


def test_a_cache_filled_beforehand_needs_no_network(offline: None, user: Path) -> None:
    fill(user, 1)
    newest = fill(user, 10)
    assert kaggle_download.download_dataset("me/scans") == newest
    assert kaggle_download.download_dataset("me/scans/versions/1").name == "1"
    assert len(layouts.discover_scans(newest)) == 12


def test_an_unfinished_copy_is_not_used(offline: None, user: Path) -> None:
    fill(user, 1, complete=False)
    assert "has no complete copy of me/scans" in refusal()


def test_no_network_is_one_clear_line(offline: None, user: Path, scanwise: Command) -> None:
    said = scanwise("fetch", "me/scans")
    assert said.code == 2
    assert said.refusal.startswith("Kaggle cannot be reached")
    assert "\n" not in said.refusal
    assert said.out == ""


def test_the_command_prints_the_folder_and_nothing_else(kaggle: Kaggle, user: Path, scanwise: Command) -> None:
    said = scanwise("fetch", "me/scans")
    assert said.code == 0
    assert said.out == f"{user}/datasets/me/scans/versions/2\n"


def test_without_kagglehub_it_says_how_to_get_it(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kagglehub", None)
    assert "pip install 'scanwise[kaggle]'" in refusal()
    fill(user, 1)
    assert kaggle_download.download_dataset("me/scans").name == "1"  # what is there needs nothing


@pytest.mark.parametrize(
    "handle", ["scans", "a/b/c", "https://example.org/me/scans", "../../etc", "../etc", "me/scans/versions/x", ""]
)
def test_what_is_no_handle(handle: str) -> None:
    assert "expected OWNER/NAME" in refusal(handle)
