"""Fixtures of all tests: a cache of their own, tiny cohorts, one finished run, and the command line."""

import gc
import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import stand_in_figures
from scanwise.run import RunFolder
from tiny import (
    JUNK,
    ODD,
    RECIPE,
    SETTINGS,
    WITHOUT_COPIES,
    Again,
    Command,
    Fill,
    Said,
    Whole,
    picture,
    post,
    read_csv,
    run_command,
    write_csv,
    write_scans,
)

stand_in_figures.stand_in()

gc.set_threshold(100_000, 50, 100)
"""A full collection walks the objects of torch and of thousands of tests: at Python's own pace a tenth of all the time."""

try:
    from hypothesis import settings
except ModuleNotFoundError:  # tests that need it say so themselves
    pass
else:  # HYPOTHESIS_PROFILE=thorough for many more examples, quick for fewer
    common = {"deadline": None, "derandomize": True, "database": None}
    for profile, examples in {"quick": 10, "default": 50, "thorough": 1000}.items():
        settings.register_profile(profile, max_examples=examples, **common)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


LONGEST = (
    "test_audit", "test_pipeline", "test_browser", "test_cli", "test_notebooks", "test_cross_validation", "test_subject_ridge", "test_header_subjects", "test_copies", "test_bags",
    "test_patient_tables", "test_remote_run", "test_explanation", "test_sanity", "test_killed", "test_nothing_leaves",
    "test_pseudonyms", "test_distributed", "test_migrations",
)  # fmt: skip
"""Modules that take the longest. They begin, or one process would still be at them when the others have ended."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(0))


LEFT_OUT = pytest.StashKey[int]()
"""How many extended tests the chosen tier leaves out."""


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("extended") and not item.get_closest_marker("slow"):
            item.config.stash[LEFT_OUT] = item.config.stash.get(LEFT_OUT, 0) + 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # one of several workers, which print nothing themselves
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if count := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(
            f"{count} extended tests were left out: `make test TIER=all` runs them too, as CI does."
        )


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests neither read nor fill the user's cache and configuration."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANWISE_CACHE", str(folder))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))  # of the key, and of links to scans
        yield folder


@pytest.fixture(scope="session")
def scanwise() -> Command:
    """Run `scanwise ARGS…` in this process; quick, and all but real."""
    return run_command


@pytest.fixture
def fill() -> Fill:
    """Write scans SUBJECT_SLICE.png below FOLDER/CLASS: `fill(folder, {"a": 8, "b": 8}, slices=2)`."""
    return write_scans


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe file that goes from scans to report in about two seconds."""
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(RECIPE + WITHOUT_COPIES, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def build_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Make a folder that all workers of a session share: the first one makes it, the others wait and take it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def build(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return build


@pytest.fixture(scope="session")
def demo_model(build_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A tiny bundle of the kind `demo`; leave it as it is."""
    from tiny_bundles import write_tiny_bundle  # with torch

    return build_once("kind-demo", lambda folder: write_tiny_bundle(folder, "demo"))


def drawn_if_marked(request: pytest.FixtureRequest) -> AbstractContextManager[None]:
    return stand_in_figures.drawn() if request.node.get_closest_marker("figures") else nullcontext()


@pytest.fixture(scope="module", autouse=True)
def figures_of_a_module(request: pytest.FixtureRequest) -> Iterator[None]:
    """Real figures for the fixtures of a module that is marked so."""
    with drawn_if_marked(request):
        yield


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """As many threads of torch after a test as before it: with one too many a core, small networks take ten times as long."""
    # Not imported for tests that do without it; where a command of the test before still imports it, waited for.
    torch = importlib.import_module("torch") if "torch" in sys.modules else None
    before = torch.get_num_threads() if torch else None
    yield
    if torch:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Real figures for a test that is marked so."""
    with drawn_if_marked(request):
        yield


@pytest.fixture(scope="session")
def phantom_cohort(build_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A folder with scans/, masks/ and truth.csv of 45 synthetic subjects; leave it as it is."""
    from scanwise.cohort import phantom, phantom_files

    stages = ("nondemented", "verymilddemented", "milddemented")
    settings = phantom.Phantom(subjects=45, slices=2, size=64, stages=stages)
    return build_once("phantom", lambda folder: phantom_files.write_phantoms(folder, settings))


@pytest.fixture(scope="session")
def hospital(build_once: Callable[[str, Callable[[Path], object]], Path], phantom_cohort: Path) -> Path:
    """A manifest with subjects and a group column; it names junk, odd names, and a class of two subjects."""
    return build_once("hospital", lambda folder: write_hospital(folder, phantom_cohort)) / "scans.csv"


def write_hospital(folder: Path, phantom_cohort: Path) -> None:
    shutil.copytree(phantom_cohort / "scans", folder)
    truth = read_csv(phantom_cohort / "truth.csv")
    rows = [{name: row[name] for name in ("path", "label", "subject")} for row in truth]
    half = (folder / rows[-1]["path"]).read_bytes()[:400]
    for stage, name in ODD.items():
        row = next(row for row in rows if row["label"] == stage)
        (folder / row["path"]).rename(folder / name)
        row["path"] = name
    for name, content in JUNK.items():
        (folder / name).write_bytes(half if content is None else content)
        rows.append({"path": name, "label": name.partition("/")[0], "subject": "junk"})
    (folder / "few").mkdir()
    for index in range(4):
        picture(2, index).save(folder / "few" / f"{index}.png")
        rows.append({"path": f"few/{index}.png", "label": "Moderate Demented", "subject": f"few{index // 2}"})
    for row in rows:
        row["site"] = "north" if sum(row["subject"].encode()) % 2 else "south"
    write_csv(folder / "scans.csv", rows)


@pytest.fixture(scope="session")
def whole(hospital: Path, tiny_recipe: Path, build_once: Callable[[str, Callable[[Path], object]], Path]) -> Whole:
    """One run from scans to report, honest and published; leave it as it is."""

    def fit(folder: Path) -> None:
        settings = [word for setting in SETTINGS for word in ("--set", setting)]
        with stand_in_figures.drawn():
            said = run_command(
                "fit", tiny_recipe, "--data", hospital, "--out", folder / "run", *settings, "--device", "cpu", "--threads", 1,
            )  # fmt: skip
        assert said.code == 0, said.err
        (folder / "said.json").write_text(json.dumps([said.code, said.out, said.err]), encoding="utf-8")

    folder = build_once("whole", fit)
    run, said = folder / "run", Said(*json.loads((folder / "said.json").read_text(encoding="utf-8")))
    return Whole(hospital, RunFolder.open(run), said, json.loads((run / "metrics.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A server that speaks for AWS, over HTTP."""
    moto = pytest.importorskip("moto.server")
    running = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def aws(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty account there, which everything finds by the environment."""
    about = {"ENDPOINT_URL": server, "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "DEFAULT_REGION": "us-east-1"}
    for name, value in about.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    post(f"{server}/moto-api/reset")
    return server


@pytest.fixture
def s3(aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A file system on an empty bucket of that account, and a cache of its own."""
    s3fs = pytest.importorskip("s3fs")
    monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path / "cache"))
    s3fs.S3FileSystem.clear_instance_cache()
    filesystem = s3fs.S3FileSystem()
    filesystem.mkdir("bucket")
    yield filesystem
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def again(whole: Whole, tiny_recipe: Path, tmp_path: Path) -> Again:
    shutil.copytree(whole.run.path, tmp_path / "again")
    return Again(RunFolder.open(tmp_path / "again"), tiny_recipe, whole.data)


@pytest.fixture
def batches_seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many scans a backbone has seen at a time, one number each time, from now on."""
    from scanwise.models import Network

    seen: list[int] = []
    forward = Network.forward_features

    def watch(self: Network, images: Any) -> Any:
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Network, "forward_features", watch)
    return seen


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("there is no chromium here; `apt-get install chromium` brings it")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=quiet)
        yield chromium
        chromium.close()
