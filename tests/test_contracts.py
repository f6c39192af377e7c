"""Each import contract fails when it is broken, so that `make check` cannot pass by looking at nothing."""

import itertools
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ROOMS, NUMBERS, CIRCLES = PROJECT["tool"]["importlinter"]["contracts"]
LAYERS = [layer.split(" | ") for layer in ROOMS["layers"]]
SIBLINGS = [pair for layer in LAYERS if len(layer) > 1 for pair in itertools.pairwise(layer)]
LINT = Path(sys.executable).with_name("lint-imports")

pytestmark = pytest.mark.skipif(not LINT.is_file(), reason="import-linter is not installed; `make .venv` brings it")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the source tree to break."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(house: Path) -> tuple[int, str]:
    done = subprocess.run(
        [LINT, "--config", "pyproject.toml", "--no-cache"],
        cwd=house,
        env=os.environ | {"PYTHONPATH": str(house / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def add(house: Path, room: str, line: str) -> None:
    """Write a line at the end of a room, file or folder."""
    home = house / "src" / "scanwise" / room
    path = home / "__init__.py" if home.is_dir() else home.with_suffix(".py")
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")


def test_untouched_house_keeps_its_contracts(house: Path) -> None:
    code, told = lint(house)
    assert code == 0, told
    assert f"{ROOMS['name']} KEPT" in told
    assert f"{NUMBERS['name']} KEPT" in told
    assert f"{CIRCLES['name']} KEPT" in told


def test_no_room_imports_a_higher_one(house: Path) -> None:
    steps = [(low[0], high[-1]) for high, low in itertools.pairwise(LAYERS)]
    for low, high in steps:
        add(house, low, f"import scanwise.{high}")
    code, told = lint(house)
    assert code == 1, told
    assert f"{ROOMS['name']} BROKEN" in told
    for low, high in steps:
        assert f"scanwise.{low} -> scanwise.{high} (l." in told


def test_siblings_do_not_import_each_other(house: Path) -> None:
    for one, other in SIBLINGS:
        add(house, one, f"import scanwise.{other}")
    code, told = lint(house)
    assert code == 1, told
    assert f"{ROOMS['name']} BROKEN" in told
    for one, other in SIBLINGS:
        assert f"scanwise.{one} -> scanwise.{other} (l." in told


def test_new_room_needs_a_line(house: Path) -> None:
    (house / "src" / "scanwise" / "attic.py").write_text('"""A room that nobody planned."""\n', encoding="utf-8")
    code, told = lint(house)
    assert code == 1, told
    assert f"{ROOMS['name']} BROKEN" in told
    assert "attic" in told


def test_numbers_reach_no_torch(house: Path) -> None:
    for module in NUMBERS["source_modules"]:
        add(house, module.removeprefix("scanwise."), "import torch")
    code, told = lint(house)
    assert code == 1, told
    assert f"{NUMBERS['name']} BROKEN" in told
    for module in NUMBERS["source_modules"]:
        assert f"{module} -> torch (l." in told


def test_numbers_reach_no_torch_through_another_room(house: Path) -> None:
    add(house, "metrics", "import scanwise.models")
    code, told = lint(house)
    assert code == 1, told
    assert f"{NUMBERS['name']} BROKEN" in told
    assert "scanwise.metrics is not allowed to import torch" in told


def test_no_room_has_a_circle(house: Path) -> None:
    add(house, "cohort/decoding/dicom", "from scanwise.cohort.decoding import readers")
    code, told = lint(house)
    assert code == 1, told
    assert f"{CIRCLES['name']} BROKEN" in told
