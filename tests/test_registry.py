"""A registered run is found again by name and number, as it was, and is never overwritten."""

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scanwise import registry
from scanwise.errors import RunError

mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None or importlib.util.find_spec("sqlalchemy") is None,
    reason="mlflow is not installed",
)
PLACES = {
    "folder": lambda folder: folder / "registry",
    "mlflow": lambda folder: f"sqlite:///{folder / 'registry.db'}",
}
everywhere = pytest.mark.parametrize("place", ["folder", pytest.param("mlflow", marks=mlflow)])
pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow and its database


def run_of(folder: Path, content: str) -> Path:
    bundle = folder / content / "bundle"
    bundle.mkdir(parents=True)
    (bundle / "bundle.json").write_text(content)
    (bundle / "model.safetensors").write_bytes(content.encode() * 9)
    return folder / content


@everywhere
def test_versions_count_up_and_are_found_by_name_and_number(tmp_path: Path, place: str) -> None:
    where: Callable[[Path], str | Path] = PLACES[place]
    first = registry.register(run_of(tmp_path, "one"), "brains", registry=where(tmp_path))
    second = registry.register(run_of(tmp_path, "two") / "bundle", "brains", registry=where(tmp_path))
    other = registry.register(tmp_path / "one", "hearts", registry=where(tmp_path))
    assert [version.number for version in (first, second, other)] == [1, 2, 1]
    for number, content in ((1, "one"), (2, "two"), (None, "two")):
        found = registry.find("brains", number, registry=where(tmp_path))
        assert (found.path / "bundle.json").read_text() == content
        assert (found.path / "model.safetensors").read_bytes() == content.encode() * 9


@everywhere
def test_what_is_not_there_is_told(tmp_path: Path, place: str) -> None:
    where = PLACES[place](tmp_path)
    registry.register(run_of(tmp_path, "one"), "brains", registry=where)
    with pytest.raises(RunError, match=r"no version 7 of 'brains'.*there are 1"):
        registry.find("brains", 7, registry=where)
    with pytest.raises(RunError, match="no model 'lungs'"):
        registry.find("lungs", registry=where)


def test_a_number_is_never_given_twice(tmp_path: Path) -> None:
    run, where = run_of(tmp_path, "one"), tmp_path / "registry"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: registry.register(run, "brains", registry=where).number, range(12)))
    assert sorted(made) == list(range(1, 13))
    assert {path.name for path in (where / "brains").iterdir()} == {str(number) for number in range(1, 13)}


def test_half_a_version_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run = run_of(tmp_path, "one")
    monkeypatch.setattr(registry.shutil, "copytree", fail)
    with pytest.raises(Exception, match="No space left"):
        registry.register(run, "brains", registry=tmp_path / "registry")
    with pytest.raises(RunError, match="no model"):
        registry.find("brains", registry=tmp_path / "registry")


@pytest.mark.parametrize("name", ["", "../x", "a b", "-a", "a/b"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="cannot be the name"):
        registry.register(run_of(tmp_path, "one"), name, registry=tmp_path)


def test_a_run_without_a_bundle_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no bundle"):
        registry.register(tmp_path, "brains", registry=tmp_path)


def test_the_folder_may_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWISE_REGISTRY", str(tmp_path / "here"))
    registry.register(run_of(tmp_path, "one"), "brains")
    assert (tmp_path / "here" / "brains" / "1" / "bundle.json").is_file()
