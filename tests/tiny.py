"""A tiny cohort, a recipe that fits it in a second, and the command line in this process: what several tests share."""

import csv
import io
import logging
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scanwise.pipeline import fit as fit_run
from scanwise.run import RunFolder

Command = Callable[..., "Said"]
Fill = Callable[..., Path]

RECIPE = """\
name: tiny
data: {size: 32}
split: {protocols: [honest]}
model: {name: small}
train: {epochs: 2, batch: 32, optimizer: {lr: 3e-3}}
evaluation: {draws: 100}
rivals: {names: [majority, nearest_neighbour]}
explain: {scans: 0}
"""
WITHOUT_COPIES = "audit: {checks: [duplicates, subjects, leakage, shortcuts, quality, evaluability]}\n"
"""What a recipe of the tests looks for: the search for copies is half of the time of a tiny fit."""


JUNK: dict[str, bytes | None] = {
    "nondemented/empty.png": b"",
    "milddemented/notes.png": b"not a picture at all",
    "verymilddemented/half.png": None,  # the first half of a good one
}
ODD = {  # names that scans may have
    "nondemented": "nondemented/a name with spaces [b].png",
    "verymilddemented": "verymilddemented/Übergröße 脑.png",
    "milddemented": 'milddemented/two\nlines, "quoted".png',
}
SETTINGS = (
    "split.protocols=[honest, published]",
    "audit.checks=[duplicates, copies, subjects, leakage, shortcuts, quality, evaluability]",
)


def read_csv(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_csv(file: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return file


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The message of an error that was foreseen: one, at the end, with no traceback."""
        assert "Traceback" not in self.err
        before, marker, message = self.err.rpartition("error: ")
        assert marker, self.err
        assert not before or before.endswith("\n"), self.err
        return message.strip()


def run_command(*args: object) -> Said:
    from scanwise.cli import main

    before, sys.argv = sys.argv, ["scanwise", *map(str, args)]
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as done:
        code = done.code or 0
    finally:
        sys.argv = before
        logging.getLogger("scanwise").handlers.clear()  # it would go on talking to this command's terminal
    assert isinstance(code, int)
    return Said(code, out.getvalue(), err.getvalue())


def post(url: str, body: bytes = b"") -> None:
    """Tell a server on this machine something."""
    asked = urllib.request.Request(url, data=body, method="POST", headers={"Content-Type": "text/plain"})  # noqa: S310
    urllib.request.urlopen(asked).close()  # noqa: S310


def picture(kind: int, seed: int) -> Image.Image:
    """A gray blob whose place tells its class; no two seeds give the same pixels."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:40, 0:40]
    middle = (12 + 9 * kind, 14 + 6 * kind)
    blob = np.hypot(x - middle[0], y - middle[1]) < 8
    pixels = 60 + 120 * blob + random.normal(0, 15, blob.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_scans(folder: Path, subjects: Mapping[str, int], *, slices: int = 1) -> Path:
    for kind, (name, count) in enumerate(subjects.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for person in range(count):
            for index in range(slices):
                seed = 10_000 * kind + 100 * person + index
                picture(kind, seed).save(folder / name / f"{name}{person:02d}_{index}.png")
    return folder


@dataclass(frozen=True)
class Whole:
    """A finished run, what it was made of, and what was said on the way."""

    data: Path
    run: RunFolder
    said: Said
    metrics: list[dict[str, Any]]

    def table(self, name: str = "predictions.csv") -> list[dict[str, str]]:
        return read_csv(self.run.tables / name)


@dataclass(frozen=True)
class Again:
    """A copy of the finished run, to be damaged and resumed."""

    run: RunFolder
    recipe: Path
    data: Path

    def resume(self, data: Path | None = None, settings: Sequence[str] = SETTINGS, subject: str = "") -> RunFolder:
        return fit_run(
            self.recipe, data=data or self.data, out=self.run.path, settings=settings, subject=subject, resume=True,
            device="cpu", threads=1,
        )  # fmt: skip
