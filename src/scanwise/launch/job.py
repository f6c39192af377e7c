"""A fit as a SageMaker job or pipeline: described here, handed over by a child process that has the SDK.

The SDK pins versions of its own, so it lives in an environment of its own; `docs/launch.md` says how to make it.
"""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from scanwise import recipe as recipes
from scanwise.cohort import table_files
from scanwise.errors import LaunchError, RecipeError
from scanwise.launch.container_files import check_files, check_table
from scanwise.pipeline.preflight import preflight_recipe

PIECE = 2500
"""The most characters that a value of a SageMaker hyperparameter may have."""
RECIPE_TEXT = "recipe_text"
OWN = ("recipe", "subject", "manifest", "patients")
"""Hyperparameters that are the launcher's own, besides the pieces of the text; every other is a setting of the recipe."""


@dataclass(frozen=True, slots=True)
class Job:
    """All that SageMaker must know.

    Attributes:
        name: of the job (a time is added) or the pipeline.
        image: URI of the container image, made from this repository's Dockerfile.
        role: ARN of the role that the job runs under.
        instance: its type, such as ml.g5.xlarge.
        channels: channel to S3 URL; `data` is what `--data` is to a fit.
        output: S3 URL for what comes out.
        checkpoints: S3 URL for the run while it is made. A job that is stopped, such as on spot, goes on from there, and so
            does any other job that is given the same URL; each execution of a pipeline has a folder of its own below it.
        hyperparameters: what `container` reads.
        spot: take spare machines, which may be taken back at any time.
        seconds: after which the job is ended.
        disk: gigabytes.
        region: of AWS (default: that of the environment).
        tags: of the job.
        wait: until it has ended (of a pipeline: start it at once).
        group: of model packages; if given, a pipeline is made instead of a job.
        metric: that a new model must beat the last one of the group in.
        gate_instance: type of the instance that compares them.
    """

    name: str
    image: str
    role: str
    instance: str
    channels: Mapping[str, str]
    output: str
    checkpoints: str
    hyperparameters: Mapping[str, str]
    spot: bool = False
    seconds: int = 86_400
    disk: int = 50
    region: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    wait: bool = False
    group: str = ""
    metric: str = "balanced_accuracy"
    gate_instance: str = "ml.m5.large"

    def __post_init__(self) -> None:
        data = self.channels.get("data", "")
        places = {"--data": data, "--out": self.output, "--checkpoints": self.checkpoints}
        places |= {f"--channel {name}": url for name, url in self.channels.items() if name != "data"}
        for what, url in places.items():
            if not re.fullmatch(r"s3://[^/]+(/.*)?", url):
                raise LaunchError(
                    f"{what} is {url!r}; SageMaker reads and writes S3 alone. Give a URL such as s3://bucket/folder."
                )
        folder, _, last = data.rpartition("/")
        if table_files.is_table(Path(last)):
            raise LaunchError(
                f"--data is the table {data}; SageMaker gives a job the folder that --data names, and nothing beside it. "
                f"Give the folder, and the table by its path in it: --data {folder} --manifest {last}."
            )
        for name in self.channels:
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
                raise LaunchError(
                    f"{name!r} cannot be the name of a channel; use up to 64 letters, digits, dots and dashes."
                )
        if not re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,40}", self.name):
            raise LaunchError(f"{self.name!r} cannot be the name of a job; use up to 41 letters, digits and dashes.")


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Options of `scanwise launch sagemaker`, as a user gives them; the command line explains each."""

    recipe: str
    data: str
    out: str
    image: str
    role: str
    checkpoints: str = ""
    instance: str = "ml.g5.xlarge"
    name: str = ""
    subject: str = ""
    manifest: str = ""
    channels: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    spot: bool = False
    hours: float = 24.0
    disk: int = 50
    region: str = ""
    group: str = ""
    metric: str = "balanced_accuracy"
    wait: bool = False


def plan_job(options: JobOptions) -> Job:
    """The job that a user's options mean; nothing is submitted.

    Raises:
        LaunchError: for an option that is sure to fail in the container.
    """
    title = options.name or f"scanwise-{Path(options.recipe).stem}"[:41].rstrip("-")
    output, group = options.out.rstrip("/"), options.group
    shared = f"{output}/checkpoints/{title}"
    channels = read_channels(options.data, options.channels)
    return Job(
        name=title,
        image=options.image,
        role=options.role,
        instance=options.instance,
        channels=channels,
        output=output,
        checkpoints=options.checkpoints.rstrip("/") or (shared if group else own_checkpoints(output, title)),
        hyperparameters=hyperparameters(
            options.recipe, options.settings, options.subject, options.manifest, channels=channels,
            metric=options.metric if group else "",
        ),
        spot=options.spot,
        seconds=int(3600 * options.hours),
        disk=options.disk,
        region=options.region,
        wait=options.wait,
        group=group,
        metric=options.metric,
    )  # fmt: skip


def own_checkpoints(output: str, name: str) -> str:
    """A place below the output that no other job has: one that found the run of another would go on from it."""
    return f"{output}/checkpoints/{name}-{datetime.now(UTC):%Y%m%d%H%M%S%f}"


def read_channels(data: str, further: Sequence[str]) -> dict[str, str]:
    """Channel to URL, of the scans and of what `NAME=URL` adds.

    >>> read_channels("s3://bucket/scans", ["weights=s3://bucket/weights"])
    {'data': 's3://bucket/scans', 'weights': 's3://bucket/weights'}

    Raises:
        LaunchError: if one has no name or no URL, or there are two of a name.
    """
    channels = {"data": data}
    for text in further:
        name, _, url = text.partition("=")
        if not name or not url or name in channels:
            raise LaunchError(
                f"--channel {text} is no NAME=URL with a name of its own, such as weights=s3://bucket/weights; the scans "
                "are the channel data, which --data names."
            )
        channels[name] = url
    return channels


def hyperparameters(
    recipe: str,
    settings: Sequence[str],
    subject: str,
    manifest: str = "",
    *,
    channels: Collection[str] = ("data",),
    metric: str = "",
) -> dict[str, str]:
    """Hyperparameters that describe the fit to the container; what is sure to fail there is refused here.

    Args:
        recipe: the name of a shipped one, or a YAML file, which travels as text.
        settings: `a.b=value` laid over it.
        subject: the subjects, as in `fit`; a path is relative to the data.
        manifest: the table of the scans, if there is one; its path is relative to the data.
        channels: names of those that the job has.
        metric: of a pipeline: what its models are compared in.

    Raises:
        RecipeError: if the recipe, or a setting, says what it may not, or there is no such network or metric.
        LaunchError: if the container cannot have a file, or models of the recipe have no such figure.
    """
    loaded = recipes.load_recipe(recipe, settings)
    if manifest:
        check_table("--manifest", manifest)
    if table_files.is_table(Path(subject)):
        check_table("--subject", subject)
    patients = loaded.data.patients
    if patients:
        check_table("--patients", patients)
    check_files(loaded, channels)
    preflight_recipe(loaded, metric)
    parameters = {"recipe": Path(recipe).stem}
    if recipe not in recipes.shipped_recipes():
        text = Path(recipe).read_text(encoding="utf-8")
        pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
        if len(pieces) > 50:
            raise RecipeError(f"{recipe} is too long for SageMaker's hyperparameters; shorten its comments.")
        parameters |= {f"{RECIPE_TEXT}_{index}": piece for index, piece in enumerate(pieces)}
    parameters |= dict(setting.split("=", 1) for setting in settings)
    parameters.pop("data.patients", None)
    tables = {"subject": subject, "manifest": manifest, "patients": patients}
    return parameters | {name: value for name, value in tables.items() if value}


def submit_job(job: Job, python: str | Path = sys.executable) -> dict[str, str]:
    """Hand a job over, through the Python of an environment that has the SDK.

    Returns:
        `job` and its name, or `pipeline` and its ARN.

    Raises:
        LaunchError: if there is no SDK, or SageMaker refuses.
    """
    _refuse_without_sdk(str(python))
    script = Path(__file__).with_name("submission.py")
    done = subprocess.run(  # noqa: S603
        [str(python), "-I", str(script)], input=json.dumps(asdict(job)), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last_line = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise LaunchError(f"SageMaker was not given the job: {last_line[:600]}")
    submitted: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    return submitted


def _refuse_without_sdk(python: str) -> None:
    message = (
        f"{python} has no SageMaker SDK. Make an environment for it, `python3 -m venv sagemaker && sagemaker/bin/pip install "
        "'sagemaker>=3'`, and name its Python: --python sagemaker/bin/python."
    )
    if python == sys.executable:
        if importlib.util.find_spec("sagemaker") is None:
            raise LaunchError(message)
        return
    try:
        look = "import importlib.util as i, sys; sys.exit(i.find_spec('sagemaker') is None)"
        done = subprocess.run([python, "-I", "-c", look], capture_output=True, check=False)  # noqa: S603
    except OSError as error:
        raise LaunchError(
            f"{python} cannot be run: {error.strerror}. --python names the Python that has the SDK."
        ) from error
    if done.returncode:
        raise LaunchError(message)
