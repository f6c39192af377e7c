"""The run folder: its paths, files written whole or not at all, and where a run came from.

runs/NAME/
  recipe.yaml  provenance.json  cohort.parquet  findings.json  quarantine.csv  metrics.json  SHA256SUMS
  fits/PROTOCOL/FOLD/   split.parquet  checkpoints/  model.safetensors  history.csv  logits/*.npz  rivals/*.npz
                        calibrator.json  conformal.json  abstention.json  novelty.safetensors
                        vocabulary.json (of networks that read words)  members/ (of deep ensembles)
  tables/      predictions.csv  predictions_subject.csv  classification_report.csv  confusion_matrix.csv
               summary_statistics.csv  rivals.csv  class_distribution.csv  history.csv  operating_points.csv
               decision_curve.csv  selective.csv  out_of_distribution.csv  failures.csv  cases.csv  breakdown_COLUMN.csv
               members.csv (of ensembles)  choices.csv (of nested cross-validation)  each also as .parquet;
               PROTOCOL/ holds those of another protocol than the honest one
  figures/     scans.png  failures.png  cases.png
  heatmaps/    checks.json  maps.npz  regions.csv  mean.png  class-*.png  spread.npz  uncertainty.png
               components.csv  words.csv
  report.html  audit.html  checklists.html  model_card.md  bundle/
  external/    metrics.json  findings.json  quarantine.csv  tables/  external.html (of an external validation)

Every name is spelt in `layout`, and nowhere else in scanwise.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from scanwise.errors import RunError, StorageError, describe_os_error
from scanwise.migrations import check_format
from scanwise.run import layout
from scanwise.run.files import (
    Saved,
    is_unwritten,
    owning,
    read_json,
    refuse_foreign,
    remove_parts,
    save,
    sha256_of,
    write_json,
    write_text,
    writing,
)

__all__ = [
    "PACKAGES",
    "Fit",
    "RunFolder",
    "Saved",
    "environment",
    "is_writer",
    "owning",
    "processes",
    "rank",
    "read_json",
    "refuse_foreign",
    "remove_parts",
    "require_device_name",
    "require_model_folder",
    "save",
    "sha256_of",
    "spell_time",
    "write_json",
    "write_text",
    "writing",
]


@dataclass(frozen=True, slots=True)
class Fit:
    """The folder of one fit: one protocol, one fold."""

    path: Path
    protocol: str
    fold: int

    @property
    def split(self) -> Path:
        return self.path / layout.SPLIT

    @property
    def checkpoints(self) -> Path:
        return self.path / layout.CHECKPOINTS

    @property
    def model(self) -> Path:
        return self.path / layout.MODEL

    @property
    def history(self) -> Path:
        return self.path / layout.HISTORY

    @property
    def calibrator(self) -> Path:
        return self.path / layout.CALIBRATOR

    @property
    def conformal(self) -> Path:
        return self.path / layout.CONFORMAL

    @property
    def abstention(self) -> Path:
        return self.path / layout.ABSTENTION

    @property
    def novelty(self) -> Path:
        return self.path / layout.NOVELTY

    @property
    def vocabulary(self) -> Path:
        return self.path / layout.VOCABULARY

    def member(self, index: int) -> "Fit":
        """The folder of one network of a deep ensemble."""
        return Fit(self.path / "members" / str(index), self.protocol, self.fold)

    def logits(self, side: str) -> Path:
        return self.path / "logits" / f"{side}.npz"

    def rival(self, name: str, unit: str) -> Path:
        """Predictions of a simple baseline for the test side."""
        return self.path / "rivals" / f"{name}_{unit}.npz"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run folder; its names stand in `layout`, and nothing else in scanwise spells a path."""

    path: Path

    @classmethod
    def create(cls, path: Path, *, resume: bool = False) -> Self:
        """Make the folder; a folder that holds something is refused unless `resume`.

        Raises:
            RunError: if the folder is taken, or is a file.
        """
        if path.is_file():
            raise RunError(f"{path} is a file; a run needs a folder. Choose another name with --out.")
        if path.is_dir() and not is_unwritten(path):
            if not resume:
                raise RunError(f"{path} already holds a run. Go on with --resume, or choose another name with --out.")
            if not (path / layout.RECIPE).is_file():
                raise RunError(
                    f"{path} holds files but no recipe.yaml: this is no run to resume. Choose another --out."
                )
            return cls.open(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"Cannot make the run folder {path}: {describe_os_error(error) or error}") from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder that a run wrote.

        Raises:
            RunError: if there is no run, or a newer scanwise wrote it.
        """
        if not (path / layout.RECIPE).is_file():
            raise RunError(
                f"{path} is not a run: it has no recipe.yaml. Make one with `scanwise fit RECIPE --out {path}`."
            )
        if (path / layout.BUNDLE_ABOUT).is_file():
            raise RunError(
                f"{path} is not a run, but the bundle or the exported model of one. Give the folder of that run."
            )
        run = cls(path)
        if run.provenance.is_file():
            about = read_json(run.provenance)
            check_format("run", about.get("format") if isinstance(about, dict) else None, path)
        return run

    @property
    def recipe(self) -> Path:
        return self.path / layout.RECIPE

    @property
    def provenance(self) -> Path:
        return self.path / layout.PROVENANCE

    @property
    def cohort(self) -> Path:
        return self.path / layout.COHORT

    @property
    def findings(self) -> Path:
        return self.path / layout.FINDINGS

    @property
    def quarantine(self) -> Path:
        return self.path / layout.QUARANTINE

    @property
    def metrics(self) -> Path:
        return self.path / layout.METRICS

    @property
    def tables(self) -> Path:
        return self.path / layout.TABLES

    def tables_of(self, protocol: str) -> Path:
        """Honest tables lie in `tables/` itself, those of another protocol in a folder of its name."""
        return self.tables if protocol == layout.HONEST else self.tables / protocol

    @property
    def figures(self) -> Path:
        return self.path / layout.FIGURES

    @property
    def report(self) -> Path:
        return self.path / layout.REPORT

    @property
    def heatmaps(self) -> Path:
        """Heatmaps, and `checks.json` about them."""
        return self.path / layout.HEATMAPS

    @property
    def bundle(self) -> Path:
        return self.path / layout.BUNDLE

    def fit(self, protocol: str, fold: int) -> Fit:
        """The folder of one fit, there or not."""
        return Fit(self.path / layout.FITS / protocol / str(fold), protocol, fold)

    def fits(self) -> list[Fit]:
        """Every fit that has a split, honest ones first, folds in order."""
        names = [
            (p.parent.parent.name, int(p.parent.name)) for p in self.path.glob(f"{layout.FITS}/*/*/{layout.SPLIT}")
        ]
        return [self.fit(protocol, fold) for protocol, fold in sorted(names)]


def require_model_folder(folder: Path) -> None:
    """Refuse what is no folder of a run or bundle.

    Raises:
        RunError: if there is no folder.
    """
    if not folder.is_dir():
        raise RunError(f"There is no run at {folder}. Give a run folder or a bundle.")


def require_device_name(device: str) -> None:
    """Refuse what names no device, without asking any.

    Raises:
        RunError: naming those that there are.
    """
    if device.split(":")[0] not in ("auto", "cpu", "cuda", "mps"):
        raise RunError(f"There is no device {device!r}; choose auto, cpu, cuda, cuda:1 or mps.")


def rank() -> int:
    """Index of this process among several, from 0, as torchrun or `scanwise fit --processes` sets it."""
    return int(os.environ.get("RANK", "0")) if processes() > 1 else 0


def processes() -> int:
    """Number of processes that train together; 1 unless several were started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_writer() -> bool:
    """Whether this process writes the run folder: the first one, and no other."""
    return rank() == 0


PACKAGES = ("scanwise", "torch", "torchvision", "timm", "lightning", "numpy", "scipy", "scikit-learn", "pillow")


def environment(command: Sequence[str]) -> dict[str, Any]:
    """Versions, machine, command line and git commit (of the folder that scanwise runs in), for `provenance.json`."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "git_commit": _git_commit(),
        "command": [Path(command[0]).name, *command[1:]] if command else [],
    }


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # what decodes beside us starts without it

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _git_commit() -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    answer = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    return answer.stdout.strip()


def spell_time(seconds: float) -> str:
    """A duration for people.

    >>> spell_time(4), spell_time(200), spell_time(9000)
    ('4 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
