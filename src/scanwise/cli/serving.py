"""A model that answers over HTTP: serve."""

from pathlib import Path

import click

from scanwise.cli.arguments import check_model
from scanwise.cli.endings import telling_if_stopped
from scanwise.cli.options import naming_model
from scanwise.cli.printing import say, talk
from scanwise.phrases import count_of


@click.command()
@click.argument("model")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; others need --token-file.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="A file of mode 0600 with the token that every request must bear.",
)
@click.option("--most-scans", default=256, show_default=True, type=click.IntRange(1), help="Files in one request.")
@click.option("--most-megabytes", default=256, show_default=True, type=click.IntRange(1), help="Size of one request.")
@click.option(
    "--most-waiting", default=512, show_default=True, type=click.IntRange(1), help="Scans of all requests at once."
)
@click.option(
    "--seconds", default=120, show_default=True, type=click.IntRange(1), help="Time in which a request is answered."
)
@click.option("--job-scans", default=4096, show_default=True, type=click.IntRange(1), help="Scans of all jobs at once.")
@click.option(
    "--keep-hours",
    default=24.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Time for which a finished job is kept.",
)
@click.option(
    "--decoding-megabytes",
    default=1024,
    show_default=True,
    type=click.IntRange(64),
    help="Memory that decoding may take.",
)
@click.option(
    "--threads", default=0, type=click.IntRange(0), help="Requests answered at once; 0 for the number of cores."
)
@naming_model
def serve(
    model: str,
    host: str,
    port: int,
    token_file: Path | None,
    most_scans: int,
    most_megabytes: int,
    most_waiting: int,
    seconds: int,
    job_scans: int,
    keep_hours: float,
    decoding_megabytes: int,
    threads: int,
    registry: str,
) -> None:
    """Answer over HTTP, with the bytes of `predict --format json`.

    On this machine alone unless a token is set.

    MODEL is an exported folder, a run folder or its URL, a bundle, or NAME:VERSION of a registered model. Research use only.
    """
    check_model(model)
    talk()
    from scanwise.serving.server import serve_model
    from scanwise.serving.settings import ServerLimits

    limits = ServerLimits(
        body=most_megabytes * 2**20,
        held=2 * most_megabytes * 2**20,
        scans=most_scans,
        waiting=most_waiting,
        answer_seconds=float(seconds),
        job_scans=job_scans,
        keep_hours=keep_hours,
        decoding_memory=decoding_megabytes * 2**20,
    )
    with telling_if_stopped("Nothing was accepted yet."):
        lost = serve_model(
            _folder_of(model, registry),
            host=host,
            port=port,
            token_file=token_file,
            limits=limits,
            threads=threads,
            started=lambda address: say(f"{address} answers; Ctrl-C stops it.", err=True),
        )
    gone = f" {count_of(lost, 'job')} had none yet and {'is' if lost == 1 else 'are'} gone." if lost else ""
    say(f"Stopped. Every request that was accepted has its answer.{gone}", err=True)


def _folder_of(model: str, registry: str) -> Path:
    """The folder of a model; only one that must be looked for costs the memory of the libraries that look."""
    if Path(model).is_dir():
        return Path(model)
    from scanwise.pipeline.model_reference import locate_model

    return locate_model(model, registry)
