"""The example of docs/extending/conformal_score.md runs as it is printed."""

import re
from pathlib import Path
from typing import Any

import pytest

from scanwise.conformal import SCORES

PAGE = Path(__file__).parents[2] / "docs" / "extending" / "conformal_score.md"


def test_the_example_runs_and_its_score_covers(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    try:
        exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    finally:
        SCORES.pop("margin", None)
    line = names["line"]
    assert line.band[0] <= line.coverage <= line.band[1]
    assert 1 < line.size < 4
    assert capsys.readouterr().out.startswith(f"coverage {line.coverage:.1%}")
