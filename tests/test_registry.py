"""A registered run is found again by name and number, as it was, and is never overwritten."""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scanwise import bundle, registry
from scanwise.errors import RunError, ScanwiseError, StorageError
from scanwise.run import sha256_of
from tiny import Command, Whole

mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None or importlib.util.find_spec("sqlalchemy") is None,
    reason="mlflow is not installed",
)
LACKING = "mysql+pymysql://localhost/models"
everywhere = pytest.mark.parametrize(
    "where", ["folder", pytest.param("mlflow", marks=(mlflow, pytest.mark.extended))], indirect=True
)
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


RunOf = Callable[[str], Path]


@pytest.fixture
def run_of(whole: Whole, tmp_path: Path) -> RunOf:
    """A copy of the finished run's bundle under another name, in a run folder of that name."""

    def copy(name: str) -> Path:
        bundle = tmp_path / name / "bundle"
        shutil.copytree(whole.run.bundle, bundle)
        about = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        (bundle / "bundle.json").write_text(json.dumps({**about, "name": name}), encoding="utf-8")
        list_hashes(bundle)
        return tmp_path / name

    return copy


def list_hashes(bundle: Path) -> None:
    """Write SHA256SUMS anew, as one does who alters a bundle and knows how it is checked."""
    files = sorted(file for file in bundle.iterdir() if file.name != "SHA256SUMS")
    sums = "".join(f"{sha256_of(file)}  {file.name}\n" for file in files)
    (bundle / "SHA256SUMS").write_text(sums, encoding="utf-8")


@everywhere
def test_versions_count_up_and_are_found_by_name_and_number(run_of: RunOf, tmp_path: Path, where: str | Path) -> None:
    first = registry.register(run_of("one"), "brains", registry=where)
    second = registry.register(run_of("two") / "bundle", "brains", registry=where)
    other = registry.register(tmp_path / "one", "hearts", registry=where)
    assert [version.number for version in (first, second, other)] == [1, 2, 1]
    for number, content in ((1, "one"), (2, "two"), (None, "two")):
        found = registry.find_version("brains", number, registry=where)
        assert bundle.load(found.path).about["name"] == content
        own = {file.name: file.read_bytes() for file in (tmp_path / content / "bundle").iterdir()}
        assert {file.name: file.read_bytes() for file in found.path.iterdir()} == own


@everywhere
def test_what_is_not_there_is_told(run_of: RunOf, tmp_path: Path, where: str | Path) -> None:
    registry.register(run_of("one"), "brains", registry=where)
    with pytest.raises(RunError, match=r"no version 7 of 'brains'.*there are 1"):
        registry.find_version("brains", 7, registry=where)
    with pytest.raises(RunError, match="no model 'lungs'"):
        registry.find_version("lungs", registry=where)


def test_a_number_is_never_given_twice(run_of: RunOf, tmp_path: Path) -> None:
    run, where = run_of("one"), tmp_path / "registry"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: registry.register(run, "brains", registry=where).number, range(12)))
    assert sorted(made) == list(range(1, 13))
    assert {path.name for path in (where / "brains").iterdir()} == {str(number) for number in range(1, 13)}


def with_classes(run: Path, change: Callable[[list[str]], list[str]]) -> Path:
    about = json.loads((run / "bundle" / "bundle.json").read_text(encoding="utf-8"))
    text = json.dumps({**about, "classes": change(about["classes"])})
    (run / "bundle" / "bundle.json").write_text(text, encoding="utf-8")
    list_hashes(run / "bundle")
    return run


def test_other_classes_than_the_version_before_are_said(run_of: RunOf, tmp_path: Path) -> None:
    place = tmp_path / "registry"
    assert registry.register(run_of("a"), "model", registry=place).note == ""
    assert registry.register(run_of("b"), "model", registry=place).note == ""
    renamed = with_classes(run_of("c"), lambda classes: [*classes[:-1], "glioma"])
    note = registry.register(renamed, "model", registry=place).note
    assert "model:3 has other classes than version 2: new: glioma; no longer: " in note
    turned = with_classes(run_of("d"), lambda classes: [*classes[:-1], "glioma"][::-1])
    assert "the same classes in another order" in registry.register(turned, "model", registry=place).note
    shutil.rmtree(place / "model" / "4")
    (place / "model" / "5").mkdir()  # whatever lies there
    assert registry.register(run_of("e"), "model", registry=place).number == 6


def test_half_a_version_is_none(run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    run = run_of("one")
    monkeypatch.setattr(registry.shutil, "copyfile", fail)
    with pytest.raises(Exception, match="No space left"):
        registry.register(run, "brains", registry=tmp_path / "registry")
    with pytest.raises(RunError, match="no model"):
        registry.find_version("brains", registry=tmp_path / "registry")


@pytest.mark.parametrize("name", ["", "../x", "a b", "-a", "a/b"])
def test_a_name_is_no_path(run_of: RunOf, tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="cannot be the name"):
        registry.register(run_of("one"), name, registry=tmp_path)


def test_a_run_without_a_bundle_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no bundle"):
        registry.register(tmp_path, "brains", registry=tmp_path)


@pytest.mark.parametrize(
    "place", ["s3://bucket/models", "GS://bucket/models", "ftp://host/models", "mlflow:http://host"]
)
def test_what_mlflow_has_no_registry_at_is_refused(
    run_of: RunOf, tmp_path: Path, scanwise: Command, place: str
) -> None:
    said = scanwise("register", run_of("one"), "--name", "brains", "--registry", place)
    assert said.code == 2
    assert f"MLflow has none at {place.partition('://')[0].lower()}://. Give a folder" in said.refusal
    with pytest.raises(StorageError, match="cannot be a registry"):
        registry.find_version("brains", registry=place)


@pytest.mark.extended
@mlflow
def test_what_a_database_lacks_is_told(run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    run = run_of("one")
    for ask in (
        lambda: registry.register(run, "brains", registry=LACKING),
        lambda: registry.find_version("brains", registry=LACKING),
    ):
        with pytest.raises(StorageError, match="needs the package pymysql"):
            ask()


def test_the_folder_may_be_named_by_the_environment(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANWISE_REGISTRY", str(tmp_path / "here"))
    registry.register(run_of("one"), "brains")
    assert (tmp_path / "here" / "brains" / "1" / "bundle.json").is_file()


# --- what is registered was verified


def foreign_file(bundle: Path) -> None:
    (bundle / "extra.pth").write_bytes(b"x")
    list_hashes(bundle)


def link(bundle: Path) -> None:
    weights = bundle / "model.safetensors"
    weights.rename(bundle.parent / "elsewhere")
    weights.symlink_to(bundle.parent / "elsewhere")


def flip(bundle: Path) -> None:
    file = bundle / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def half(bundle: Path) -> None:
    os.truncate(bundle / "model.safetensors", 1000)
    list_hashes(bundle)


def other_network(bundle: Path) -> None:
    file = bundle / "recipe.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("name: small", "name: alexnet"), encoding="utf-8")
    list_hashes(bundle)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a foreign file": (foreign_file, "extra.pth"),
    "a foreign file that no hash lists": (lambda bundle: (bundle / "x.pkl").write_bytes(b"x"), "x.pkl"),
    "a folder": (lambda bundle: (bundle / "deep").mkdir(), "deep"),
    "a link": (link, "is a link"),
    "a bit of the weights": (flip, "its hash differs"),
    "half of the weights": (half, "cannot be read as safetensors"),
    "another network": (other_network, "do not fit the network"),
    "no hashes": (lambda bundle: (bundle / "SHA256SUMS").unlink(), "no SHA256SUMS"),
}


@pytest.mark.parametrize("name", DAMAGE)
@everywhere
def test_a_damaged_bundle_gets_no_version(run_of: RunOf, where: str | Path, name: str) -> None:
    damage, expected = DAMAGE[name]
    run = run_of("one")
    damage(run / "bundle")
    with pytest.raises(ScanwiseError, match=expected):
        registry.register(run, "brains", registry=where)
    with pytest.raises(RunError, match="no model"):
        registry.find_version("brains", registry=where)


def test_only_files_of_a_bundle_are_copied(run_of: RunOf, tmp_path: Path) -> None:
    run = run_of("one")
    (run / "bundle" / ".DS_Store").write_bytes(b"x")
    version = registry.register(run, "brains", registry=tmp_path / "registry")
    assert ".DS_Store" not in {file.name for file in version.path.iterdir()}
    assert bundle.load(version.path).about["name"] == "one"


def test_what_a_killed_registration_left_is_removed(run_of: RunOf, tmp_path: Path) -> None:
    left = tmp_path / "registry" / "brains" / ".1.00ff00ff.part"
    left.mkdir(parents=True)
    (left / "bundle.json").write_text("half")
    assert registry.register(run_of("one"), "brains", registry=tmp_path / "registry").number == 1
    assert {path.name for path in left.parent.iterdir()} == {"1"}
