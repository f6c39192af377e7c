"""`scanwise open`: the path of the page on every machine, a browser where there is a screen."""

import webbrowser
from pathlib import Path

import pytest

from tiny import Command


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    addresses: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(addresses.append(address)) or True)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    return addresses


@pytest.mark.parametrize("name", ["report.html", "audit.html", "folds.html", "external.html", "comparison.html"])
def test_page_is_printed_without_a_screen_and_shown_with_one(
    name: str, tmp_path: Path, scanwise: Command, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_text("<p>page</p>")
    assert scanwise("open", str(tmp_path)).out.strip() == str(tmp_path / name)
    assert opened == []
    monkeypatch.setenv("DISPLAY", ":0")
    assert scanwise("open", str(tmp_path)).code == 0
    assert opened == [(tmp_path / name).as_uri()]


def test_report_comes_before_the_audit_of_the_same_run(tmp_path: Path, scanwise: Command, opened: list[str]) -> None:
    for name in ("audit.html", "report.html"):
        (tmp_path / name).write_text("<p>page</p>")
    assert scanwise("open", str(tmp_path)).out.strip().endswith("report.html")


def test_folder_without_a_page_is_refused_with_what_to_do(tmp_path: Path, scanwise: Command) -> None:
    said = scanwise("open", str(tmp_path))
    assert said.code == 2
    assert "scanwise report" in said.refusal
    assert "There is no folder" in scanwise("open", str(tmp_path / "none")).refusal
