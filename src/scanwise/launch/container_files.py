"""Files that a recipe names and a container would lack, refused before a job costs money.

A container has its image, what SageMaker brings into its channels, and the internet; nothing of this machine. All else
that can be refused beforehand is in `pipeline.preflight`; what the scans or the content of files decide is found out there.
"""

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from scanwise.cohort import table_files
from scanwise.errors import LaunchError
from scanwise.pipeline.preflight import weights_sources
from scanwise.recipe import Recipe

CHANNELS = PurePosixPath("/opt/ml/input/data")
"""Folder of the channels in a container, each in a folder of its name."""
_ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def check_files(recipe: Recipe, channels: Collection[str]) -> None:
    """See that the container has every file and folder that a recipe names.

    Args:
        recipe: with its settings laid over it.
        channels: names of those that the job has.

    Raises:
        LaunchError: with the first that it cannot have, and how to bring it there.
    """
    for key, _, path in weights_sources(recipe):
        if path not in ("none", "hub"):
            _check_in_channel(key, path, channels)
    model = recipe.model
    if not model.reads_words or model.text.encoder == "small":
        return
    name = model.text.encoder
    if not _ON_HUB.fullmatch(name) or Path(name).is_dir():
        _check_in_channel("model.text.encoder", name, channels)
    elif model.weights == "none":
        raise LaunchError(
            f"model.text.encoder is {name!r}, which is to be fetched from the hub, but model.weights is none. Set "
            "model.weights to hub."
        )


def check_table(option: str, where: str) -> None:
    """See that a table is named by its path in the data.

    Raises:
        LaunchError: if it is no table, or lies elsewhere.
    """
    path = PurePosixPath(where)
    if not table_files.is_table(Path(where)) or "://" in where or path.is_absolute() or ".." in path.parts:
        raise LaunchError(
            f"{option} is {where!r}; it must be the path of a table ({', '.join(table_files.SUFFIXES)}) in the folder that "
            "--data names, such as scans.csv. Put the table there, and give its path in that folder."
        )


def _check_in_channel(key: str, where: str, channels: Collection[str]) -> None:
    path = PurePosixPath(where)
    inside = path.parts[len(CHANNELS.parts) :] if path.is_relative_to(CHANNELS) and ".." not in path.parts else ()
    if inside and inside[0] in channels:
        return
    if inside:
        raise LaunchError(
            f"{key} is {where!r}, but the job has no channel {inside[0]!r} (it has {', '.join(channels)}). Add "
            f"--channel {inside[0]}=s3://bucket/folder."
        )
    raise LaunchError(
        f"{key} is {where!r}, which the container does not have: nothing of this machine is there. Put it on S3, bring it "
        f"with --channel weights=s3://bucket/folder, and set {key}={CHANNELS}/weights/{path.name or 'FILE'}."
    )
