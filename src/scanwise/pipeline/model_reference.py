"""Locating a model: a folder, a URL, or the name and version of one that was registered."""

import re
from pathlib import Path

from scanwise import registry as versions
from scanwise.cohort.decoding.remote_files import is_remote
from scanwise.hub import SCHEME, fetch_from_hub
from scanwise.pipeline import remote_run


def locate_model(named: str | Path, registry: str | Path = "") -> Path:
    """The folder of a run or bundle that a person names.

    Args:
        named: a folder, the URL of a run, or `NAME:VERSION` of the registry, where `NAME:latest` is the last one.
        registry: where versions lie, as in `register`.

    Raises:
        RunError: if there is no such version, or nothing at the URL.
        StorageError: if the URL cannot be reached.
    """
    text = str(named)
    if text.startswith(SCHEME):
        return fetch_from_hub(text)
    if is_remote(text):
        return remote_run.fetch_run(text, "" if text.rstrip("/").endswith("/bundle") else "bundle")
    match = re.fullmatch(r"([^/\\:]+):(\d+|latest)", text)
    if not match or Path(text).exists():
        return Path(text)
    name, version = match.groups()
    return versions.find_version(name, None if version == "latest" else int(version), registry=registry).path
