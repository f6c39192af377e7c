"""The inside of a SageMaker training container: its folders and variables become one `scanwise fit`, and back.

    /opt/ml/input/config/hyperparameters.json   {"recipe": "alexnet-gray", "train.epochs": "3", "subject": "who.csv"}
    /opt/ml/input/data/data/                    the channel `data`, or where SM_CHANNEL_DATA says
    /opt/ml/checkpoints/run/                    the run while it is made; SageMaker keeps it in S3, and brings it back
    /opt/ml/model/                              what becomes model.tar.gz: the bundle, its figures, its report
    /opt/ml/output/data/                        the rest of the run that is worth keeping
    /opt/ml/output/failure                      why it failed

A request to end (SIGTERM, of which spot gives two minutes' notice) ends the fit; the checkpoint of the last whole epoch
stands, and a job that is started again goes on from it. `SCANWISE_ML_PREFIX` stands in for /opt/ml in tests.
"""

import collections
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scanwise.errors import LaunchError
from scanwise.launch.job import OWN, RECIPE_TEXT
from scanwise.run import RunFolder, layout, read_json

CHANNELS = ("data", "training", "train")
SAGEMAKERS = ("_", "sagemaker_")
"""Prefixes of hyperparameters that tuning jobs and the SDK add, such as _tuning_objective_metric."""
KEPT = (
    "tables",
    "figures",
    layout.REPORT,
    layout.AUDIT_PAGE,
    layout.METRICS,
    layout.FINDINGS,
    layout.QUARANTINE,
    layout.PROVENANCE,
)


@dataclass(frozen=True, slots=True)
class Contract:
    """Folders and variables that SageMaker gives a container, and where it looks afterwards.

    Attributes:
        prefix: /opt/ml.
        environment: the variables, of which SM_CHANNEL_*, SM_MODEL_DIR, SM_OUTPUT_DATA_DIR and SM_NUM_GPUS are heeded.
    """

    prefix: Path
    environment: Mapping[str, str]

    @classmethod
    def here(cls) -> "Contract":
        return cls(Path(os.environ.get("SCANWISE_ML_PREFIX", "/opt/ml")), os.environ)

    @property
    def data(self) -> Path:
        """The channel with the scans.

        Raises:
            LaunchError: if there is none.
        """
        for name in CHANNELS:
            path = Path(self.environment.get(f"SM_CHANNEL_{name.upper()}") or self.prefix / "input" / "data" / name)
            if path.is_dir():
                return path
        raise LaunchError(
            f"The job has no channel {CHANNELS[0]} (nor {', '.join(CHANNELS[1:])}) with the scans; give it one."
        )

    @property
    def model(self) -> Path:
        return Path(self.environment.get("SM_MODEL_DIR") or self.prefix / "model")

    @property
    def output(self) -> Path:
        return Path(self.environment.get("SM_OUTPUT_DATA_DIR") or self.prefix / "output" / "data")

    @property
    def failure(self) -> Path:
        return self.prefix / "output" / "failure"

    @property
    def run(self) -> Path:
        return self.prefix / "checkpoints" / "run"

    @property
    def gpus(self) -> int:
        """Count of GPUs; each gets a process."""
        stated = self.environment.get("SM_NUM_GPUS")
        if stated is None:
            import torch

            return torch.cuda.device_count()
        return int(stated)

    def hyperparameters(self) -> dict[str, str]:
        """As SageMaker gives them: all are strings.

        Raises:
            LaunchError: if no recipe is named.
        """
        file = self.prefix / "input" / "config" / "hyperparameters.json"
        given = {str(name): str(value) for name, value in (read_json(file) if file.is_file() else {}).items()}
        if "recipe" not in given:
            raise LaunchError(f"{file} names no recipe. Set the hyperparameter recipe, such as alexnet-gray.")
        return given


def command(contract: Contract) -> list[str]:
    """The arguments of `scanwise` that do what the job asks for."""
    given = contract.hyperparameters()
    pieces = sorted(
        (name for name in given if name.startswith(f"{RECIPE_TEXT}_")), key=lambda name: int(name.rpartition("_")[2])
    )
    recipe = given["recipe"]
    if pieces:
        file = contract.prefix / "checkpoints" / f"{recipe}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(given[name] for name in pieces), encoding="utf-8")
        recipe = str(file)
    data = contract.data
    # A manifest is a file in the channel, whose paths are relative to it.
    path = data / given["manifest"] if "manifest" in given else data
    words = ["fit", recipe, "--data", str(path), "--out", str(contract.run)]
    if subject := given.get("subject"):
        words += ["--subject", str(data / subject) if (data / subject).is_file() else subject]
    if patients := given.get("patients"):
        words += ["--patients", str(data / patients)]
    # SageMaker keeps no order; a section comes before what is set in it.
    for name in sorted(given.keys() - {*OWN, *pieces}):
        if not name.startswith(SAGEMAKERS):
            words += ["--set", f"{name}={given[name]}"]
    if (contract.run / layout.RECIPE).is_file():
        words.append("--resume")
    return words + (["--processes", str(contract.gpus)] if contract.gpus > 1 else [])


def main() -> int:
    """Fit as the job asks, and leave the results where SageMaker looks.

    Returns:
        the exit code of the container: 0, or that of the fit.
    """
    contract = Contract.here()
    try:
        arguments = command(contract)
    except LaunchError as error:
        _tell_failure(contract, str(error))
        raise
    code, last_lines = _run(arguments)
    if code:
        _tell_failure(contract, last_lines)
        return code
    _deliver(RunFolder.open(contract.run), contract)
    return 0


def _run(arguments: list[str]) -> tuple[int, str]:
    """Run scanwise, its words passed on, and a request to end as well; returns its exit code and last words."""
    child = subprocess.Popen([sys.executable, "-m", "scanwise", *arguments], stderr=subprocess.PIPE, text=True)  # noqa: S603
    before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    last_lines: collections.deque[str] = collections.deque(maxlen=20)
    try:
        for line in child.stderr or ():
            sys.stderr.write(line)
            last_lines.append(line)
        code = child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
        if child.stderr:
            child.stderr.close()
    return code if code >= 0 else 128 - code, "".join(last_lines)


def _tell_failure(contract: Contract, message: str) -> None:
    contract.failure.parent.mkdir(parents=True, exist_ok=True)
    contract.failure.write_text(message.strip()[-1024:], encoding="utf-8")


def _deliver(run: RunFolder, contract: Contract) -> None:
    """Copy what leaves; the run itself stays with the checkpoints."""
    for file in (run.bundle, run.recipe, run.metrics, run.report):
        _copy(file, contract.model / file.name)
    for name in KEPT:
        _copy(run.path / name, contract.output / name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif source.is_file():
        shutil.copy2(source, target)
