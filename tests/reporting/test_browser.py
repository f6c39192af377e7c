"""Every page in a real browser: nothing is fetched, nothing complains, nothing hangs over the edge of a phone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from other_pages import PAGES

from axe_rules import AXE, violations
from scanwise.reporting.page import read_asset
from scanwise.run import RunFolder

pytestmark = [pytest.mark.browser, pytest.mark.figures, pytest.mark.extended]


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


@pytest.mark.extended
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_report_is_quiet_fits_and_satisfies_axe(browser: Any, report: Path, width: int, scheme: str) -> None:
    page, context = opened(browser, report, width, scheme)
    widths = page.evaluate("Array.from(document.images, image => image.naturalWidth)")
    assert min(widths) > 0  # all are there
    assert max(widths) > 100
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


def test_script_is_small_and_the_only_one_that_the_page_lets_run(browser: Any, report: Path, tmp_path: Path) -> None:
    assert len(read_asset("page.js").encode()) <= 10_000
    text = report.read_text(encoding="utf-8")
    planted = tmp_path / "report.html"
    planted.write_text(text.replace("</main>", "<script>document.title = 'planted'</script></main>"), encoding="utf-8")
    page = browser.new_page()
    page.goto(planted.as_uri())
    assert page.title() != "planted"
    assert page.locator("thead button").count() > 10
    page.close()


def test_tables_are_sorted_by_number_and_failures_filtered(browser: Any, report: Path) -> None:
    page, context = opened(browser, report, 1280, "light")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    table = page.locator("table", has=page.locator("caption", has_text="The classes"))
    scans = "rows => rows.map(row => Number(row.cells[2].textContent))"
    for order in (sorted, lambda values: sorted(values, reverse=True)):
        table.locator("thead button", has_text="Scans").click()
        values = table.locator("tbody tr").evaluate_all(scans)
        assert values == order(values)
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    assert page.locator(".filters output").inner_text() == "5 of 5"
    page.locator(".filters select").first.select_option(index=1)
    shown = page.locator("[data-filter] tbody tr:visible")
    assert shown.count() == int(page.locator(".filters output").inner_text().split()[0])
    context.close()


def test_a_cell_of_the_confusion_matrix_shows_its_cases(browser: Any, report: Path) -> None:
    page, context = opened(browser, report, 1280, "light")
    page.locator("#discrimination").click()
    cell = page.locator(".confusion").first.locator("td.wrong a").first
    count = int(cell.inner_text())
    cell.click()
    listed = page.locator(".cells").first.locator("details[open] li:visible")
    assert listed.count() == min(count, 13 if count > 12 else count)
    context.close()


def test_sliders_move_the_rates_of_the_test_people(browser: Any, report: Path) -> None:
    page, context = opened(browser, report, 1280, "light")
    page.locator("#points").click()
    box = page.locator(".explore")
    assert box.is_visible()
    rates = {}
    for cut in ("0", "0.5", "1"):
        box.locator("input").first.evaluate(
            f"each => {{ each.value = {cut}; each.dispatchEvent(new Event('input')); }}"
        )
        rates[cut] = box.locator("tbody td").all_inner_texts()
    assert rates["0"][0].startswith("100")
    assert rates["0"][1].startswith("0")
    assert rates["1"][1].startswith("100")
    before = box.locator("tbody td").all_inner_texts()
    box.locator("input").nth(1).evaluate("each => { each.value = 0.01; each.dispatchEvent(new Event('input')); }")
    after = box.locator("tbody td").all_inner_texts()
    assert before[:2] == after[:2]
    assert before[3] != after[3]
    context.close()


def test_values_are_read_off_under_the_pointer(browser: Any, report: Path) -> None:
    page, context = opened(browser, report, 1280, "light")
    page.locator("#discrimination").click()
    drawing = page.locator("svg[data-points]:visible").first
    drawing.scroll_into_view_if_needed()
    lines = json.loads(drawing.get_attribute("data-points"))
    (title, points), box = lines[0], drawing.bounding_box()
    x, y, text = points[len(points) // 2]
    scale = box["width"] / float(drawing.get_attribute("viewBox").split()[2])
    page.mouse.move(box["x"] + x * scale, box["y"] + y * scale)
    assert page.locator(".tip").inner_text().replace("\xa0", " ") in {
        f"{name}: {value}".replace("\xa0", " ") for name, values in lines for *_, value in values
    }
    assert title
    assert text
    context.close()


def test_without_script_everything_can_be_read(browser: Any, report: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 844}, java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("thead button").count() == 0
    assert not page.locator(".explore").is_visible()
    for heading in ("discrimination", "points", "failures"):
        page.locator(f"#{heading}").click()
        assert page.locator("details.fold", has=page.locator(f"#{heading}")).locator("table").first.is_visible()
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
