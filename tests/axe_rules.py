"""Rules of axe that every page of ours satisfies."""

from collections.abc import Sequence
from typing import Any

import pytest

AXE = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Any, rules: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    """What breaks WCAG 2.2 A and AA and axe's best practices, as far as a machine can check them, or these rules alone."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    only: Any = {"type": "rule", "values": list(rules)} if rules else AXE
    found = axe.Axe().run(page, options={"runOnly": only}).response
    assert len(found["passes"]) >= (len(rules) or 20)
    return [(v["id"], v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"]) for v in found["violations"]]
