"""The example of docs/extending/loss.md runs as it is printed."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "extending" / "loss.md"


def test_the_example_lowers_its_own_loss(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    assert "Brier score" in capsys.readouterr().out
    assert 0 < names["after"].item() < names["before"].item()
    assert names["spec"].name not in names["LOSSES"]  # the table itself stays as it is
