"""The notebooks run from top to bottom, and what is committed was run."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))
SMALLER = {  # what makes a run short; everything else is as it stands in the notebook
    "dementia_with_uncertainty.ipynb": (
        ("subjects=300", "subjects=120"),
        ('"model.dropout": 0.3', '"model.dropout": 0.3, "explain.scans": 0'),
        ("epochs=20", "epochs=2"),
    ),
    "fashion_fusion.ipynb": (
        ("range(720)", "range(240)"),
        ('"data.size": 64', '"data.size": 64, "explain.scans": 0'),
        ("epochs=16", "epochs=2"),
    ),
    "stroke_by_series.ipynb": (
        ("range(240)", "range(90)"),
        ('["honest"]', '["honest"], "explain.scans": 0'),
        ("epochs=12", "epochs=2"),
    ),
    "your_logits.ipynb": (),
}


def test_there_are_notebooks() -> None:
    assert sorted(SMALLER) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed_was_run_in_order_and_tells_nothing_of_the_machine(name: str) -> None:
    book = nbformat.read(FOLDER / name, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any(output.get("data", {}).get("image/png") for cell in code for output in cell.outputs)
    said = nbformat.writes(book)
    assert str(FOLDER.parent) not in said
    assert "/site-packages/" not in said


class Shell:
    """What a cell's magic commands go to; pip brings a package if there is a release or a wheel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, space: dict[str, Any], released: bool) -> None:
        self.asked: list[str] = []
        self.space, self.released, self.monkeypatch = space, released, monkeypatch

    def run_line_magic(self, name: str, line: str) -> None:
        self.asked.append(f"{name} {line}".replace("$source", self.space["source"]))
        if self.released or self.asked[-1].endswith(".whl"):
            self.monkeypatch.setitem(sys.modules, "scanwise", ModuleType("scanwise"))


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("wheel", ["", "scanwise-0.1.0-py3-none-any.whl"])
@pytest.mark.parametrize("name", NAMES)
def test_without_scanwise_a_notebook_installs_it_or_says_how(
    name: str, wheel: str, released: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = next(cell for cell in nbformat.read(FOLDER / name, as_version=4).cells if cell.cell_type == "code")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "scanwise", None)
    if wheel:
        (tmp_path / wheel).touch()
    space: dict[str, Any] = {}
    shell = Shell(monkeypatch, space, released)
    space["get_ipython"] = lambda: shell
    work = compile(TransformerManager().transform_cell(first.source), name, "exec")
    if wheel or released:
        exec(work, space)  # noqa: S102
    else:
        with pytest.raises(ImportError, match=r"no release on PyPI yet.*pip wheel.*run this cell again"):
            exec(work, space)  # noqa: S102
    assert shell.asked == [f"pip install -q {wheel or 'scanwise'}"]


@pytest.mark.extended
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_top_to_bottom(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "2"))
    book = nbformat.read(FOLDER / name, as_version=4)
    before = [cell.outputs for cell in book.cells if cell.cell_type == "code"]
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            for text, shorter in SMALLER[name]:
                cell.source = cell.source.replace(text, shorter)
    said = nbformat.writes(book)
    assert all(json.dumps(shorter)[1:-1] in said for _, shorter in SMALLER[name])
    NotebookClient(book, timeout=540, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    after = [cell.outputs for cell in book.cells if cell.cell_type == "code"]
    kinds = [[output.output_type for output in outputs if output.output_type != "stream"] for outputs in after]
    assert kinds == [[output.output_type for output in outputs if output.output_type != "stream"] for outputs in before]
