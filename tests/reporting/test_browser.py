"""Every page in a real browser: nothing is fetched, nothing complains, nothing hangs over the edge of a phone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from other_pages import PAGES

from scanwise.run import RunFolder

AXE = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

pytestmark = [pytest.mark.browser, pytest.mark.figures]


@pytest.fixture(scope="module")
def report(page_of: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page_of(), encoding="utf-8")
    return path


def opened(browser: Any, path: Path, width: int, scheme: str) -> tuple[Any, Any]:
    """A page and its context, after asserting that it asked for nothing, complained of nothing and fits."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    told: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("requestfailed", lambda request: told.append(request.url))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert told == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    return page, context


def violations(page: Any, rules: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    """What breaks WCAG 2.2 A and AA and axe's best practices, as far as a machine can check them, or these rules alone."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    only: Any = {"type": "rule", "values": list(rules)} if rules else AXE
    found = axe.Axe().run(page, options={"runOnly": only}).response
    assert len(found["passes"]) >= (len(rules) or 20)
    return [(v["id"], v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"]) for v in found["violations"]]


@pytest.mark.extended
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_report_is_quiet_fits_and_satisfies_axe(browser: Any, report: Path, width: int, scheme: str) -> None:
    page, context = opened(browser, report, width, scheme)
    assert page.evaluate("document.images[0].naturalWidth") > 100
    assert violations(page) == []
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert violations(page) == []
    context.close()


@pytest.mark.parametrize(
    "name", [name if name == "audit" else pytest.param(name, marks=pytest.mark.extended) for name in PAGES]
)
def test_other_pages_are_quiet_fit_and_satisfy_axe(
    browser: Any, name: str, make_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    """Colours alone differ in the dark, so there contrast alone is asked."""
    path = PAGES[name](make_run, tmp_path)
    for width, scheme, rules in ((390, "light", ()), (1280, "dark", ("color-contrast",))):
        page, context = opened(browser, path, width, scheme)
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert violations(page, rules) == []
        context.close()


@pytest.mark.extended
def test_what_is_folded_away_opens_by_key(browser: Any, make_run: Callable[..., RunFolder], tmp_path: Path) -> None:
    page, context = opened(browser, PAGES["report of many classes"](make_run, tmp_path), 1280, "light")
    section = page.locator("details").first
    table = section.locator("details table").first
    for folded in (section, section.locator("details").first):
        assert not table.is_visible()
        folded.locator("> summary").focus()
        page.keyboard.press("Enter")
    assert table.is_visible()
    context.close()


def test_answer_is_on_the_first_screen_of_a_phone(browser: Any, report: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(report.as_uri())
    box = page.locator(".card .value").first.bounding_box()
    assert box["y"] + box["height"] < 844
    context.close()


def test_the_page_opens_as_its_summary(browser: Any, report: Path) -> None:
    """At most 600 words and, on a laptop, three screens; every section is a heading with its result."""
    context = browser.new_context(viewport={"width": 1280, "height": 844}, reduced_motion="reduce")
    page = context.new_page()
    page.goto(report.as_uri())
    assert len(page.evaluate("document.body.innerText").split()) <= 600
    assert page.evaluate("document.documentElement.scrollHeight") < 3 * 844
    assert page.locator(".chip").count() == 5
    page.locator("nav a", has_text="Files").click()
    assert page.locator("#files").is_visible()
    page.locator("nav a", has_text="Back to top").click()
    assert page.evaluate("window.scrollY") == 0
    context.close()


def test_keyboard_reaches_links_and_wide_tables(browser: Any, report: Path) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    reached = set()
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.className || document.activeElement.getAttribute('href')"))
    assert "scroll" in reached
    assert "#data" in reached
    page.close()


def test_axe_would_find_something(browser: Any, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    bad = tmp_path / "bad.html"
    bad.write_text("<html><body><img src='data:,'><p style='color:#ddd'>pale</p></body></html>", encoding="utf-8")
    page = browser.new_page()
    page.goto(bad.as_uri())
    found = {v["id"] for v in axe.Axe().run(page, options={"runOnly": AXE}).response["violations"]}
    page.close()
    assert {"image-alt", "color-contrast", "html-has-lang"} <= found
