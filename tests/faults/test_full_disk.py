"""A disk that is full at any moment leaves nothing half written: one line says so, and with more room the run goes on to the same end.

Needs to mount a file system of memory: as root, or as `unshare -Urm python -m pytest -m slow tests/faults/test_full_disk.py`.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from runs import FIT, check_whole, run, settled

from tiny import RECIPE, write_scans

pytestmark = pytest.mark.slow

SIZES = int(os.environ.get("SIZES", "20"))
PAGE = 4096


def mount(folder: Path, options: str) -> bool:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "scans", str(folder)], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A folder that file systems can be mounted on."""
    if not mount(tmp_path / "out", "size=1m"):
        pytest.skip("mounting is not allowed; run it under `unshare -Urm`")
    subprocess.run(["umount", str(tmp_path / "out")], check=True)
    yield tmp_path / "out"
    subprocess.run(["umount", str(tmp_path / "out")], check=False, capture_output=True)


def test_a_full_disk_leaves_nothing_half_written(mounted: Path, tmp_path: Path) -> None:
    write_scans(tmp_path / "data", {"a": 12, "b": 12}, slices=2)
    (tmp_path / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    assert run(tmp_path, [*FIT, "--out", "whole"]) == (0, "")
    expected = settled(tmp_path / "whole")
    total = sum(-(-file.stat().st_size // PAGE) for file in (tmp_path / "whole").rglob("*"))
    full = 0
    for pages in np.linspace(1, total - 1, SIZES).astype(int):
        assert mount(mounted, f"size={pages * PAGE}")
        code, said = run(tmp_path, [*FIT, "--out", "out"])
        full += code == 2
        assert code in (0, 2), said
        if code:
            assert "No space left on device" in said, said
            assert "Traceback" not in said
            assert said.count("error: ") == 1
        check_whole(mounted)
        assert not list(mounted.rglob("*.part"))
        subprocess.run(["mount", "-o", "remount,size=256m", str(mounted)], check=True)
        again = run(tmp_path, [*FIT, "--out", "out", "--resume"])
        assert again == (0, ""), again
        assert settled(mounted) == expected
        subprocess.run(["umount", str(mounted)], check=True)
    assert full >= SIZES - 2
    print(f"full disk: {full} of {SIZES} sizes up to {total * PAGE // 1024} KB were too small")  # noqa: T201 - for the log
