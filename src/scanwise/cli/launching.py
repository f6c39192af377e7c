"""Fits elsewhere: launch, and what the container of a job runs."""

import sys
from pathlib import Path
from typing import Any

import click

from scanwise.cli.options import reading
from scanwise.cli.printing import say, say_value


@click.group()
def launch() -> None:
    """Hand a fit to a cluster."""


@launch.command()
@click.argument("recipe")
@click.option("--data", required=True, help="S3 URL of the scans, as --data of a fit.")
@click.option("--out", required=True, help="S3 URL for the model and what else comes out.")
@click.option(
    "--checkpoints",
    default="",
    help="S3 URL for the run while it is made; that of an earlier job goes on from it.  [default: OUT/checkpoints/NAME-TIME]",
)
@click.option("--image", required=True, help="URI of the container image, made from the Dockerfile.")
@click.option("--role", required=True, help="ARN of the role that the job runs under.")
@click.option("--instance", default="ml.g5.xlarge", show_default=True)
@click.option("--name", default="", help="Of the job or pipeline.  [default: scanwise-RECIPE]")
@click.option("--subject", default="", help="As of a fit; a table lies in the data.")
@click.option("--manifest", default="", help="The table of the scans, by its path in the data, such as scans.csv.")
@reading
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="NAME=URL",
    help="S3 URL of more that the job needs, such as weights; it is at /opt/ml/input/data/NAME there.",
)
@click.option(
    "--spot", is_flag=True, help="Spare machines, which cost less and may be taken back; the job goes on by itself."
)
@click.option(
    "--hours", default=24.0, type=click.FloatRange(0.1), show_default=True, help="After which the job is ended."
)
@click.option("--disk", default=50, type=click.IntRange(1), show_default=True, help="Gigabytes.")
@click.option("--region", default="", help="Of AWS.  [default: as your environment has it]")
@click.option(
    "--pipeline", "group", default="", metavar="GROUP", help="Make a pipeline that registers a better model in GROUP."
)
@click.option("--metric", default="balanced_accuracy", show_default=True, help="In which it must be better.")
@click.option("--wait", is_flag=True, help="Until the job has ended; of a pipeline, start it.")
@click.option(
    "--python", default=sys.executable, help="Python of the environment that has the SDK.  [default: this one]"
)
def sagemaker(python: str, settings: tuple[str, ...], **options: Any) -> None:
    """Train on SageMaker: build a job (or a pipeline) and submit it.

    RECIPE is a shipped one or a YAML file. The SDK, `sagemaker` 3 or later, may have an environment of its own.
    """
    from scanwise.launch import job

    planned = job.plan_job(job.JobOptions(**options, settings=settings))
    submitted = job.submit_job(planned, python)
    submitted["checkpoints"] = f"{planned.checkpoints}/EXECUTION" if planned.group else planned.checkpoints
    for what, value in submitted.items():
        say_value(what, value)


@click.command(hidden=True)
def train() -> None:
    """Fit in the container of a SageMaker job, as /opt/ml/input says."""
    from scanwise.launch import container

    sys.exit(container.main())


@click.command(hidden=True)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--group", required=True)
@click.option("--metric", required=True)
def verdict(model: Path, out: Path, group: str, metric: str) -> None:
    """Compare a model with the last one of its group, after training in a SageMaker pipeline."""
    from scanwise.launch import model_gate as judging

    decision = judging.gate_model(model, group, metric, out)
    say(
        f"{decision.metric} {decision.value} against {decision.previous}: {'beats it' if decision.beats else 'does not beat it'}"
    )
