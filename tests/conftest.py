"""Shared by all tests: a cache of their own, a tiny cohort, a recipe that fits it in a second, and the command line."""

import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

RECIPE = """\
name: tiny
data: {size: 32}
split: {protocols: [honest]}
model: {name: small}
train: {epochs: 2, batch: 32, optimizer: {lr: 3e-3}}
evaluation: {draws: 100}
rivals: {names: [majority, nearest_neighbour]}
"""


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests neither read nor fill the user's cache."""
    before = os.environ.get("SCANWISE_CACHE")
    folder = tmp_path_factory.mktemp("cache")
    os.environ["SCANWISE_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["SCANWISE_CACHE"]
    else:
        os.environ["SCANWISE_CACHE"] = before


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


Command = Callable[..., Said]


@pytest.fixture
def scanwise(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `scanwise ARGS…` in this process; quick, and all but real."""
    from scanwise.cli import main

    def run(*args: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["scanwise", *map(str, args)])
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
                code: object = 0
            except SystemExit as done:
                code = done.code or 0
        assert isinstance(code, int)
        return Said(code, out.getvalue(), err.getvalue())

    return run


Fill = Callable[..., Path]


def picture(kind: int, seed: int) -> Image.Image:
    """A gray blob whose place tells its class; no two seeds give the same pixels."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:40, 0:40]
    middle = (12 + 9 * kind, 14 + 6 * kind)
    blob = np.hypot(x - middle[0], y - middle[1]) < 8
    pixels = 60 + 120 * blob + random.normal(0, 15, blob.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture
def fill() -> Fill:
    """Write scans SUBJECT_SLICE.png below FOLDER/CLASS: `fill(folder, {"a": 8, "b": 8}, slices=2)`."""
    return write_scans


def write_scans(folder: Path, subjects: Mapping[str, int], *, slices: int = 1) -> Path:
    for kind, (name, count) in enumerate(subjects.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for person in range(count):
            for index in range(slices):
                seed = 10_000 * kind + 100 * person + index
                picture(kind, seed).save(folder / name / f"{name}{person:02d}_{index}.png")
    return folder


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe file that goes from scans to report in about two seconds."""
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(RECIPE, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def phantom_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scans/, masks/ and truth.csv of 45 synthetic subjects; leave it as it is."""
    from scanwise.cohort import phantom

    folder = tmp_path_factory.mktemp("phantom") / "cohort"
    stages = ("nondemented", "verymilddemented", "milddemented")
    phantom.write(folder, phantom.Phantom(subjects=45, slices=2, size=64, stages=stages))
    return folder
