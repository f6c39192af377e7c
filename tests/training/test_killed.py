"""A training that was killed and resumed is, bit for bit, the one that was not."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import killed
import pytest
import toy
from test_trainer import COLUMNS, history, run, untimed

HERE = Path(__file__).parent
pytestmark = pytest.mark.extended


Ends = Callable[[str], tuple[Path, list[int]]]

CASES = {
    **dict.fromkeys(killed.DEATHS, killed.PATIENT),
    "at random": killed.LONG,
    "impatient": killed.IMPATIENT,
    "staged": killed.STAGED,
}


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """Give the folder of a case and what became of its processes; one program trains them all."""
    found: dict[str, tuple[Path, list[int]]] = {}

    def end(case: str) -> tuple[Path, list[int]]:
        if case not in found:
            folder = tmp_path_factory.mktemp("killed")
            done = subprocess.run(
                [sys.executable, HERE / "killed.py", folder, *CASES],
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            assert done.returncode == 0, done.stderr
            found.update({name: (folder / name, codes) for name, codes in json.loads(done.stdout).items()})
        return found[case]

    return end


@pytest.mark.parametrize("case", CASES)
def test_a_kill_changes_nothing(ends: Ends, tmp_path: Path, case: str) -> None:
    folder, codes = ends(case)
    assert codes == [-9] * (len(codes) - 1) + [0]
    assert len(codes) > 1
    run(tmp_path, **CASES[case])  # never killed, and in another process than those that were
    assert toy.place(folder).model.read_bytes() == toy.place(tmp_path).model.read_bytes()
    assert untimed(history(folder)) == untimed(history(tmp_path))
    columns = [*COLUMNS, "stage"] if case == "staged" else COLUMNS
    assert all(list(row) == columns for row in history(folder))
    killed_files, files = ({str(file.relative_to(root)) for file in root.rglob("*")} for root in (folder, tmp_path))
    assert killed_files == files  # and leaves nothing behind


def test_one_that_had_stopped_early_was_among_them(ends: Ends) -> None:
    assert 3 <= len(history(ends("impatient")[0])) < killed.IMPATIENT["epochs"]
