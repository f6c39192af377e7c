"""What `import scanwise` promises: its names, its lightness, its types and its version."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import scanwise

ROOT = Path(__file__).parents[1]
SOURCE = Path(scanwise.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("torch", "torchvision", "timm", "lightning", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "pydantic")


def loaded_by(code: str) -> set[str]:
    """Top-level packages in a fresh interpreter after it has run some code."""
    code += "\nimport sys\nprint('loaded:', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_every_public_name_can_be_had() -> None:
    for name in scanwise.__all__:
        assert getattr(scanwise, name) is not None
    assert sorted(scanwise.__all__) == scanwise.__all__
    assert dir(scanwise) == scanwise.__all__


def test_every_home_names_public_things_only() -> None:
    homes = {name for names in scanwise._HOMES.values() for name in names}
    assert homes | {"__version__"} == set(scanwise.__all__)


def test_names_that_tools_see_are_the_public_ones() -> None:
    """Type checkers read the imports under TYPE_CHECKING; programs read `_HOMES`. They say the same."""
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        (node.module.removeprefix("scanwise."), alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    assert seen == {(home, name) for home, names in scanwise._HOMES.items() for name in names}


def test_public_things_live_where_they_say() -> None:
    for home, names in scanwise._HOMES.items():
        module = importlib.import_module(f"scanwise.{home}")
        for name in names:
            assert getattr(scanwise, name) is getattr(module, name)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        scanwise.fitt  # noqa: B018


def test_import_loads_nothing_heavy() -> None:
    assert "scanwise" in loaded_by("import scanwise")
    assert not loaded_by("import scanwise") & set(HEAVY)


def test_a_process_that_predicts_holds_no_library_of_tables_or_statistics() -> None:
    code = "import scanwise.pipeline.commands.predict_files, sys; assert 'scipy.stats' not in sys.modules"
    assert not loaded_by(code) & {"torch", "pandas", "pyarrow", "sklearn", "matplotlib"}


def test_a_process_that_decodes_loads_only_what_it_needs() -> None:
    loaded = loaded_by("import scanwise.cohort.decoding.readers")
    assert "PIL" in loaded
    assert not loaded & (set(HEAVY) | {"fsspec", "pyarrow", "pydantic"}) - {"numpy"}


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["fit", "--help"], ["predict", "--help"], ["recipes", "--help"]]
)
def test_help_loads_nothing_heavy(args: list[str]) -> None:
    run = (
        f"import sys\nsys.argv = ['scanwise', *{args!r}]\nfrom scanwise.cli import main\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code\n"
    )
    loaded = loaded_by(run)
    assert "click" in loaded
    assert not loaded & set(HEAVY)


MISTAKES = (
    ["fit", "nope", "--data", ".", "--out", "new"],
    ["fit", "backbone", "--data", "nowhere", "--out", "new"],
    ["fit", "backbone", "--data", ".", "--out", "new", "--set", "train.lr=3"],
    ["fit", "backbone", "--data", "nowhere", "--out", "new", "--plan"],
    ["fold", "nope", "--data", ".", "--out", "new"],
    ["audit", "nowhere"],
    ["predict", "nowhere", "scan.png"],
    ["explain", "nowhere", "scan.png", "--out", "new"],
    ["evaluate", "nowhere", "--data", ".", "--out", "new"],
    ["report", "nowhere"],
)
MISTAKEN = """
import os, sys
import numpy, pandas, pydantic, scanwise.bundle, scanwise.cohort, scanwise.pipeline.commands, scanwise.recipe
from scanwise.cli import main

for number, args in enumerate(MISTAKES):
    if not os.fork():
        sys.argv, code = ["scanwise", *args], 0
        try:
            main()
        except SystemExit as done:
            code = done.code
        print("\\nmistake", number, code, *sorted({name.partition(".")[0] for name in sys.modules}), flush=True)
        os._exit(0)
    os.wait()
"""
"""Each mistake in a child of one process, which has imported what they may import."""


@pytest.fixture(scope="module")
def mistaken() -> dict[int, tuple[int, set[str]]]:
    """The exit code of each mistake, and the packages that had been loaded when it ended."""
    code = MISTAKEN.replace("MISTAKES", repr(MISTAKES))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("mistake ")]
    return {int(number): (int(code), set(loaded)) for _, number, code, *loaded in lines}


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=lambda number: " ".join(MISTAKES[number]))
def test_a_mistake_does_not_wait_for_torch(mistaken: dict[int, tuple[int, set[str]]], number: int) -> None:
    code, loaded = mistaken[number]
    assert code == 2
    assert "click" in loaded
    assert not loaded & {"torch", "timm", "lightning", "sklearn", "matplotlib"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_every_module_says_what_it_is_for(path: Path) -> None:
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert told, f"{path} has no docstring"


def test_types_are_shipped() -> None:
    assert (SOURCE / "py.typed").is_file()


def test_version_is_said_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert scanwise.__version__ == project["version"]
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {scanwise.__version__}\n" in cited
    assert f"[{scanwise.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_torch_and_torchvision_are_pinned_as_a_pair() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in line and "://" not in line for line in pinned)
    assert {"torch==2.15.0", "torchvision==0.29.2"} <= set(pinned)
