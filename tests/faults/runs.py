"""A command in a folder, and what lies there afterwards: whole files alone, and nothing but times that differ."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from dying import LOG, VARIABLE

from forked import run_forked
from scanwise import bundle

FIT = ("fit", "tiny.yaml", "--data", "data", "--subject", r"([a-z]+\d+)_", "--threads", "1")
TIMED = {"provenance.json", "report.html", "checklists.html", "SHA256SUMS", "model_card.md"}
"""Files that hold times, or hashes of files that do."""


def run(folder: Path, command: Sequence[object], death: str = "") -> tuple[int, str]:
    """The exit code of a command in a folder, and what it said if it neither ended well nor was killed."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        done = run_forked(
            *command, env={VARIABLE: death, LOG: str(folder / "deaths"), "SCANWISE_CACHE": str(folder / "cache")}
        )
    finally:
        os.chdir(here)
    return done.returncode, "" if done.returncode in (0, -9) else done.stderr


def settled(folder: Path) -> dict[str, bytes]:
    """The content of a folder, without the files that hold times and without columns of seconds."""
    content = {}
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.name in TIMED or "history" in file.name:
            continue
        if "checkpoints" in file.parts:
            continue  # their epochs hold times; the weights that come of them are compared
        content[str(file.relative_to(folder))] = file.read_bytes()
    return content


def check_whole(folder: Path) -> None:
    """Whatever has its name is whole, at any time."""
    for file in folder.rglob("*"):
        if not file.is_file() or file.name.startswith(".") or any(part.startswith(".") for part in file.parts):
            continue
        match file.suffix:
            case ".json":
                json.loads(file.read_text(encoding="utf-8"))
            case ".parquet":
                pq.read_table(file)
            case ".npz":
                with np.load(file) as arrays:
                    assert arrays.files
            case ".html":
                assert file.read_text(encoding="utf-8").rstrip().endswith("</html>")
    for weights in folder.rglob("bundle/SHA256SUMS"):
        bundle.load(weights.parent)
