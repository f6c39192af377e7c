"""A registered run is found again by name and number, as it was, and is never overwritten."""

import importlib.util
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scanwise import registry
from scanwise.errors import RunError, StorageError
from tiny import Command

mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None or importlib.util.find_spec("sqlalchemy") is None,
    reason="mlflow is not installed",
)
LACKING = "mysql+pymysql://localhost/models"
everywhere = pytest.mark.parametrize("where", ["folder", pytest.param("mlflow", marks=mlflow)], indirect=True)
pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow and its database


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry of MLflow with nothing in it; making one takes seconds, copying it none."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "registry.db"
    MlflowClient(f"sqlite:///{file}", f"sqlite:///{file}").search_registered_models()
    return file


@pytest.fixture
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    if request.param == "folder":
        return tmp_path / "registry"
    return f"sqlite:///{shutil.copy(request.getfixturevalue('empty'), tmp_path)}"


def run_of(folder: Path, content: str) -> Path:
    bundle = folder / content / "bundle"
    bundle.mkdir(parents=True)
    (bundle / "bundle.json").write_text(content)
    (bundle / "model.safetensors").write_bytes(content.encode() * 9)
    return folder / content


@everywhere
def test_versions_count_up_and_are_found_by_name_and_number(tmp_path: Path, where: str | Path) -> None:
    first = registry.register(run_of(tmp_path, "one"), "brains", registry=where)
    second = registry.register(run_of(tmp_path, "two") / "bundle", "brains", registry=where)
    other = registry.register(tmp_path / "one", "hearts", registry=where)
    assert [version.number for version in (first, second, other)] == [1, 2, 1]
    for number, content in ((1, "one"), (2, "two"), (None, "two")):
        found = registry.find_version("brains", number, registry=where)
        assert (found.path / "bundle.json").read_text() == content
        assert (found.path / "model.safetensors").read_bytes() == content.encode() * 9


@everywhere
def test_what_is_not_there_is_told(tmp_path: Path, where: str | Path) -> None:
    registry.register(run_of(tmp_path, "one"), "brains", registry=where)
    with pytest.raises(RunError, match=r"no version 7 of 'brains'.*there are 1"):
        registry.find_version("brains", 7, registry=where)
    with pytest.raises(RunError, match="no model 'lungs'"):
        registry.find_version("lungs", registry=where)


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
        registry.find_version("brains", registry=tmp_path / "registry")


@pytest.mark.parametrize("name", ["", "../x", "a b", "-a", "a/b"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="cannot be the name"):
        registry.register(run_of(tmp_path, "one"), name, registry=tmp_path)


def test_a_run_without_a_bundle_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no bundle"):
        registry.register(tmp_path, "brains", registry=tmp_path)


@pytest.mark.parametrize("place", ["s3://bucket/models", "GS://bucket/models", "ftp://host/models"])
def test_what_mlflow_has_no_registry_at_is_refused(tmp_path: Path, scanwise: Command, place: str) -> None:
    said = scanwise("register", run_of(tmp_path, "one"), "--name", "brains", "--registry", place)
    assert said.code == 2
    assert f"MLflow has none at {place.partition(':')[0].lower()}://. Give a folder" in said.refusal
    with pytest.raises(StorageError, match="cannot be a registry"):
        registry.find_version("brains", registry=place)


@mlflow
def test_what_a_database_lacks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    run = run_of(tmp_path, "one")
    for ask in (
        lambda: registry.register(run, "brains", registry=LACKING),
        lambda: registry.find_version("brains", registry=LACKING),
    ):
        with pytest.raises(StorageError, match="needs the package pymysql"):
            ask()


def test_the_folder_may_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWISE_REGISTRY", str(tmp_path / "here"))
    registry.register(run_of(tmp_path, "one"), "brains")
    assert (tmp_path / "here" / "brains" / "1" / "bundle.json").is_file()
