"""A training that was killed and resumed is, bit for bit, the one that was not."""

import json
import subprocess
import sys
from pathlib import Path

import killed
import pytest
import toy
from test_trainer import COLUMNS, history, run, untimed

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[int]]]:
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, HERE / "killed.py", folder], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


CASES = {
    **dict.fromkeys(killed.DEATHS, killed.PATIENT),
    "at random": killed.LONG,
    "impatient": killed.IMPATIENT,
    "staged": killed.STAGED,
}


@pytest.mark.parametrize("case", CASES)
def test_a_kill_changes_nothing(ends: tuple[Path, dict[str, list[int]]], tmp_path: Path, case: str) -> None:
    folder, codes = ends[0] / case, ends[1][case]
    assert codes == [-9] * (len(codes) - 1) + [0]
    assert len(codes) > 1
    run(tmp_path, **CASES[case])  # never killed, and in another process than those that were
    assert toy.place(folder).model.read_bytes() == toy.place(tmp_path).model.read_bytes()
    assert untimed(history(folder)) == untimed(history(tmp_path))
    columns = [*COLUMNS, "stage"] if case == "staged" else COLUMNS
    assert all(list(row) == columns for row in history(folder))
    killed_files, files = ({str(file.relative_to(root)) for file in root.rglob("*")} for root in (folder, tmp_path))
    assert killed_files == files  # and leaves nothing behind


def test_one_that_had_stopped_early_was_among_them(ends: tuple[Path, dict[str, list[int]]]) -> None:
    assert 3 <= len(history(ends[0] / "impatient")) < killed.IMPATIENT["epochs"]
