"""Model versions: the bundle of a run under a name and a number, in a folder of versions or in MLflow's registry.

REGISTRY/NAME/1/   a bundle, as it left its run; never changed, never given again
         NAME/2/   …
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from scanwise.bundle import Bundle
from scanwise.bundle.contents import bundle_folder, read_contents, verify_files
from scanwise.errors import RunError, ScanwiseError, StorageError
from scanwise.run import layout, remove_parts, writing

SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks", "databricks-uc", "uc", "file")
"""URL schemes of MLflow registries; those of databases may add +DRIVER."""


@dataclass(frozen=True, slots=True)
class Version:
    """A registered model.

    Attributes:
        name: of the model.
        number: from 1 upwards.
        path: a folder with its bundle, for `scanwise.load`.
        note: a change of classes against the version before it, in words; empty where there is none.
    """

    name: str
    number: int
    path: Path
    note: str = ""


def registry_place() -> str:
    """The registry: `SCANWISE_REGISTRY` (a folder, or MLflow's registry), or the user's data folder."""
    from platformdirs import user_data_path

    return os.environ.get("SCANWISE_REGISTRY") or str(user_data_path("scanwise") / "registry")


def register(run: str | Path, name: str, *, registry: str | Path = "") -> Version:
    """Give the bundle of a run the next version of a name.

    Args:
        run: a run folder, or a bundle.
        name: letters, digits, dots, dashes and underscores.
        registry: a folder (default: that of `registry_place`), or MLflow's registry as `sqlite:///FILE` or its URL.

    Raises:
        RunError: if there is no bundle, it is damaged or holds foreign files, or the name cannot be one.
        StorageError: if the registry is of a kind that there is not, or cannot be reached or written.
    """
    _refuse_name(name)
    bundle, location = bundle_folder(Path(run)), _place(registry)
    Bundle.open(bundle)  # a damaged one gets no version
    if _is_mlflow(location):
        with tempfile.TemporaryDirectory() as temporary_folder:
            copy = Path(temporary_folder) / layout.BUNDLE
            _copy_bundle(bundle, copy)
            return _with_note(_register_mlflow(copy, bundle.resolve().parent.name, name, location), location)
    folder = Path(location) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"Cannot make {folder}: {error.strerror}. Choose another registry.") from error
    with FileLock(str(folder.parent / f".{name}.lock")):
        remove_parts(folder)
        number = max(_numbers(folder), default=0) + 1
        with writing(folder / str(number)) as temporary:
            _copy_bundle(bundle, temporary)
    return _with_note(Version(name, number, folder / str(number)), location)


def _with_note(version: Version, location: str) -> Version:
    """The version, with a note where it has other classes than the one before it: who uses the name must know."""
    if version.number == 1:
        return version
    try:
        before = find_version(version.name, version.number - 1, registry=location)
        old, new = (list(read_contents(each.path)["classes"]) for each in (before, version))
    except ScanwiseError:  # the one before is gone or damaged; this one is registered all the same
        return version
    if old == new:
        return version
    changes = [
        f"{word} {', '.join(names)}"
        for word, names in (
            ("new:", [name for name in new if name not in old]),
            ("no longer:", [name for name in old if name not in new]),
        )
        if names
    ] or ["the same classes in another order"]
    note = (
        f"{version.name}:{version.number} has other classes than version {before.number}: {'; '.join(changes)}. Programs "
        f"that use {version.name}:latest get other answers from now on."
    )
    return replace(version, note=note)


def find_version(name: str, number: int | None = None, *, registry: str | Path = "") -> Version:
    """Look up a version of a name, the last one unless a number is given.

    Raises:
        RunError: if there is no such name or version, with those that there are.
        StorageError: if the registry is of a kind that there is not, or cannot be reached.
    """
    _refuse_name(name)
    location = _place(registry)
    if _is_mlflow(location):
        return _find_mlflow(name, number, location)
    folder = Path(location) / name
    numbers = _numbers(folder)
    chosen = _choose(name, number, numbers, str(folder.parent))
    return Version(name, chosen, folder / str(chosen))


def _choose(name: str, number: int | None, numbers: list[int], location: str) -> int:
    if not numbers:
        raise RunError(f"There is no model {name!r} in the registry {location}. Register a run under that name first.")
    chosen = max(numbers) if number is None else number
    if chosen not in numbers:
        listed = ", ".join(str(version) for version in sorted(numbers))
        raise RunError(f"There is no version {chosen} of {name!r} in the registry {location}; there are {listed}.")
    return chosen


def _numbers(folder: Path) -> list[int]:
    """Whole versions; one that is being written has another name."""
    return [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]


def _refuse_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise RunError(f"{name!r} cannot be the name of a model; use letters, digits, dots, dashes and underscores.")


def _copy_bundle(bundle: Path, folder: Path) -> None:
    """Copy the files that the hashes of a bundle list, and compare the copies with them."""
    folder.mkdir()
    for file in (*verify_files(bundle), layout.CHECKSUMS):
        shutil.copyfile(bundle / file, folder / file, follow_symlinks=False)
    verify_files(folder)


def _place(registry: str | Path) -> str:
    location = str(registry or registry_place())
    if (scheme := _scheme(location)) and scheme.partition("+")[0] not in SCHEMES:
        raise StorageError(
            f"{location} cannot be a registry: MLflow has none at {scheme}://. Give a folder, MLflow's registry in a file as "
            "sqlite:///FILE, or the http(s) URL of its server."
        )
    return location


def _is_mlflow(location: str) -> bool:
    return bool(_scheme(location))


def _scheme(location: str) -> str:
    scheme, separator, _ = location.partition("://")
    return scheme.lower() if separator else ""


@contextmanager
def _mlflow(uri: str) -> Iterator[Any]:
    """A client of MLflow; what goes wrong with MLflow in the block becomes one line."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise RunError("MLflow is not installed. Install it with pip install 'scanwise[mlflow]'.") from error
    try:
        yield MlflowClient(uri, uri)
    except MlflowException as error:
        message = str(error).strip().split("\n", 1)[0][:200]
        raise StorageError(f"MLflow's registry at {uri} refused: {message}") from error
    except ModuleNotFoundError as error:
        raise StorageError(f"MLflow's registry at {uri} needs the package {error.name}. Install it.") from error


def _register_mlflow(bundle: Path, run_name: str, name: str, uri: str) -> Version:
    with _mlflow(uri) as client:
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        existing = client.get_experiment_by_name(name)
        # Of a database in a file, the artifacts lie beside it, not where scanwise happens to be started.
        beside = (
            Path(uri.partition(":///")[2]).resolve().parent / "artifacts" / name if uri.startswith("sqlite") else None
        )
        location = beside.as_uri() if beside else None
        experiment = existing.experiment_id if existing else client.create_experiment(name, artifact_location=location)
        run = client.create_run(experiment, run_name=run_name)
        client.log_artifacts(run.info.run_id, str(bundle), "bundle")
        client.set_terminated(run.info.run_id)
        created = client.create_model_version(name, f"{run.info.artifact_uri}/bundle", run.info.run_id)
    return find_version(name, int(created.version), registry=uri)


def _find_mlflow(name: str, number: int | None, uri: str) -> Version:
    with _mlflow(uri) as client:
        from mlflow.artifacts import download_artifacts

        versions = {int(version.version): version for version in client.search_model_versions(f"name = '{name}'")}
        chosen = _choose(name, number, list(versions), uri)
        return Version(name, chosen, Path(download_artifacts(artifact_uri=versions[chosen].source, tracking_uri=uri)))
