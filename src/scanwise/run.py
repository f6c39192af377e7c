"""The run folder: where everything lies, written whole or not at all, with where it came from.

runs/NAME/
  recipe.yaml  provenance.json  cohort.parquet  findings.json  quarantine.csv
  fits/PROTOCOL/FOLD/   split.parquet  checkpoints/  model.safetensors  history.csv  logits/*.npz
                        calibrator.json  conformal.json  abstention.json  novelty.safetensors
                        vocabulary.json (of networks that read words)  members/ (of deep ensembles)
  metrics.json  tables/  figures/  report.html  bundle/
"""

import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from scanwise.errors import RunError, StorageError


class Saved(Protocol):
    """Any value that can write itself to a path."""

    def save(self, path: Path) -> None: ...


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it takes the name, else nothing is left.

    The block may write a file or make a folder there. A full disk becomes a `StorageError`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if path.is_dir() and temporary.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise StorageError(
                f"Cannot write {path}: {error.strerror}. Free some space, or choose another folder; "
                "what was written before is kept and the run can go on with --resume."
            ) from error
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def save(value: Saved, path: Path) -> None:
    """Save a record under `path`, whole or not at all."""
    with writing(path) as temporary:
        value.save(temporary)


def write_text(text: str, path: Path) -> None:
    """Write a text file, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(value: object, path: Path) -> None:
    """Write JSON, whole or not at all."""
    write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", path)


def read_json(path: Path) -> Any:
    """Read JSON that scanwise wrote; a damaged file is a `RunError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}. Delete it and run the stage again with --resume.") from error


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Fit:
    """The folder of one fit: one protocol, one fold."""

    path: Path
    protocol: str
    fold: int

    @property
    def split(self) -> Path:
        return self.path / "split.parquet"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def history(self) -> Path:
        return self.path / "history.csv"

    @property
    def calibrator(self) -> Path:
        return self.path / "calibrator.json"

    @property
    def conformal(self) -> Path:
        return self.path / "conformal.json"

    @property
    def abstention(self) -> Path:
        return self.path / "abstention.json"

    @property
    def novelty(self) -> Path:
        return self.path / "novelty.safetensors"

    @property
    def vocabulary(self) -> Path:
        return self.path / "vocabulary.json"

    def member(self, index: int) -> "Fit":
        """The folder of one network of a deep ensemble."""
        return Fit(self.path / "members" / str(index), self.protocol, self.fold)

    def logits(self, side: str) -> Path:
        return self.path / "logits" / f"{side}.npz"

    def rival(self, name: str, unit: str) -> Path:
        """What a trivial rival said of the test side."""
        return self.path / "rivals" / f"{name}_{unit}.npz"


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder. Every name in it is a property here; nothing else in scanwise spells a path."""

    path: Path

    @classmethod
    def create(cls, path: Path, *, resume: bool = False) -> Self:
        """Make the folder; a folder that holds something is refused unless `resume`.

        Raises:
            RunError: if the folder is taken, or is a file.
        """
        if path.is_file():
            raise RunError(f"{path} is a file; a run needs a folder. Choose another name with --out.")
        if path.is_dir() and any(path.iterdir()):
            if not resume:
                raise RunError(f"{path} already holds a run. Go on with --resume, or choose another name with --out.")
            if not (path / "recipe.yaml").is_file():
                raise RunError(
                    f"{path} holds files but no recipe.yaml: this is no run to resume. Choose another --out."
                )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"Cannot make the run folder {path}: {error.strerror}.") from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder that a run wrote.

        Raises:
            RunError: if there is no run.
        """
        if not (path / "recipe.yaml").is_file():
            raise RunError(
                f"{path} is not a run: it has no recipe.yaml. Make one with `scanwise fit RECIPE --out {path}`."
            )
        return cls(path)

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def provenance(self) -> Path:
        return self.path / "provenance.json"

    @property
    def cohort(self) -> Path:
        return self.path / "cohort.parquet"

    @property
    def findings(self) -> Path:
        return self.path / "findings.json"

    @property
    def quarantine(self) -> Path:
        return self.path / "quarantine.csv"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def tables(self) -> Path:
        return self.path / "tables"

    def tables_of(self, protocol: str) -> Path:
        """Honest tables lie in `tables/` itself, those of another protocol in a folder of its name."""
        return self.tables if protocol == "honest" else self.tables / protocol

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def heatmaps(self) -> Path:
        """What was explained, and `checks.json` about it."""
        return self.path / "heatmaps"

    @property
    def bundle(self) -> Path:
        return self.path / "bundle"

    def fit(self, protocol: str, fold: int) -> Fit:
        """The folder of one fit, there or not."""
        return Fit(self.path / "fits" / protocol / str(fold), protocol, fold)

    def fits(self) -> list[Fit]:
        """Every fit that has a split, honest ones first, folds in order."""
        found = [(p.parent.parent.name, int(p.parent.name)) for p in self.path.glob("fits/*/*/split.parquet")]
        return [self.fit(protocol, fold) for protocol, fold in sorted(found)]


def rank() -> int:
    """Which of several processes this is, counted from 0; torchrun, or `scanwise fit --processes`, says it."""
    return int(os.environ.get("RANK", "0")) if processes() > 1 else 0


def processes() -> int:
    """How many processes train together; 1 unless somebody started several."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_writer() -> bool:
    """Whether this process writes the run folder: the first one, and no other."""
    return rank() == 0


PACKAGES = ("scanwise", "torch", "torchvision", "timm", "lightning", "numpy", "scipy", "scikit-learn", "pillow")


def environment() -> dict[str, Any]:
    """Versions, machine and git commit (of the folder that scanwise runs in), for `provenance.json`."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "git_commit": _git_commit(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _git_commit() -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    found = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    return found.stdout.strip()


def spell_time(seconds: float) -> str:
    """A duration for people.

    >>> spell_time(4), spell_time(200), spell_time(9000)
    ('4 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
