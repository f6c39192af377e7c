"""Two tiers of tests: what `make test` leaves out is counted and said, and CI leaves out nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest

def test_everyday(): pass

@pytest.mark.extended
@pytest.mark.parametrize("case", range(3))
def test_extended(case): pass

@pytest.mark.extended
@pytest.mark.slow
def test_slow(): pass
"""


def marks_of(tier: str) -> str:
    """What the Makefile gives to pytest's -m."""
    (marks,) = re.findall(rf"^MARKS_{tier} := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return str(marks)


@pytest.mark.extended  # each starts pytest anew
@pytest.mark.parametrize(
    ("tier", "workers", "passed", "said"),
    [
        ("everyday", 1, 1, True),
        ("everyday", 0, 1, True),
        ("all", 0, 4, False),
    ],
)
def test_what_is_left_out_is_counted_and_said(tier: str, workers: int, passed: int, said: bool, tmp_path: Path) -> None:
    hooks = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    (tmp_path / "conftest.py").write_text(
        "from typing import Any\nimport pytest\n" + hooks[hooks.index("LEFT_OUT = ") : hooks.index("@pytest.fixture")],
        encoding="utf-8",
    )
    (tmp_path / "test_some.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow: x\n    extended: x\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-m", marks_of(tier), "-n", workers, tmp_path]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert f"{passed} passed" in done.stdout
    assert ("3 extended tests were left out: `make test TIER=all` runs them too, as CI does." in done.stdout) == said


def test_ci_leaves_nothing_out() -> None:
    assert "make test TIER=all " in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert marks_of("all") == "not slow"


def test_most_tests_run_every_day(request: pytest.FixtureRequest) -> None:
    """Of all that is collected at most every seventh is extended; a run of a few files alone says nothing of it."""
    items = request.session.items
    extended = sum(item.get_closest_marker("extended") is not None for item in items)
    if not extended or len(items) < 6000:
        pytest.skip("not all tests are collected here; `make test TIER=all` does")
    assert extended <= 0.15 * len(items)
