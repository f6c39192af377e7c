"""The example of docs/extending/audit_check.md runs as it is printed."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "extending" / "audit_check.md"


def test_the_example_runs_and_its_check_finds_the_dark_scan(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    assert "warning darkness.scans 1 of 8 scans are nearly black." in capsys.readouterr().out
    assert list(names["seconds"]) == ["quality", "darkness"]
    assert [item.finding.scans for item in names["findings"] if item.finding.check == "darkness.scans"] == [
        ("scan7.png",)
    ]
    assert names["spec"].name not in names["CHECKS"]  # the table itself stays as it is
