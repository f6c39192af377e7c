"""The page of the server in a real browser: scans go in, answers come out, and text of users stays text."""

import csv
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs scanwise[serve]")
pytest.importorskip("prometheus_client", reason="needs scanwise[serve]")
httpx = pytest.importorskip("httpx")

from axe_rules import violations  # noqa: E402
from medical_files import shipped  # noqa: E402
from tiny_bundles import write_scans_of, write_tiny_bundle  # noqa: E402

BuildOnce = Callable[[str, Callable[[Path], object]], Path]
MARKUP = "<img src=x onerror=alert(1)>.png"

pytestmark = [pytest.mark.browser, pytest.mark.extended]


@pytest.fixture(scope="module")
def folder(build_once: BuildOnce) -> Path:
    return build_once("kind-demo", lambda folder: write_tiny_bundle(folder, "demo"))


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text("a-long-random-text-0123", encoding="utf-8")
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
def address(folder: Path, token: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "scanwise", "serve", str(folder), "--port", "0", "--token-file", str(token)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stderr is not None
    address = re.search(r"http://\S+", process.stderr.readline())
    assert address is not None
    while httpx.get(f"{address.group()}/v1/health/ready").status_code != 200:
        time.sleep(0.05)
    yield address.group()
    process.terminate()
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def files(build_once: BuildOnce, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two scans of a person, a DICOM file, one whose name is markup, and one that is none."""
    folder = tmp_path_factory.mktemp("uploads")
    scans = sorted(build_once("scans-of-kinds", write_scans_of).iterdir())
    contents = {path.name: path.read_bytes() for path in scans[:2]}
    contents["MR_small.dcm"] = shipped("MR_small.dcm").read_bytes()
    contents[MARKUP] = scans[5].read_bytes()
    contents["=paper.pdf"] = b"%PDF-1.7 no picture"
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open the page; at the end nothing was fetched from elsewhere, and nothing complained."""
    contexts, complaints, addresses = [], [], []

    def open_page(width: int = 1280, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: addresses.append(request.url))
        page.goto(address)
        page.get_by_label("Token of this server").fill("a-long-random-text-0123")
        page.keyboard.press("Enter")
        page.get_by_text("It tells apart none, mild, severe").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in complaints if "401" not in text and "422" not in text] == []
    assert [url for url in addresses if not url.startswith((f"{address}/", "data:", "blob:"))] == []


def answer(page: Any, files: list[Path], people: str = "Many persons") -> None:
    page.locator("#files").set_input_files(files)
    page.get_by_label(people).check()
    page.get_by_role("button", name="Answer", exact=True).click()
    page.get_by_role("heading", name="Answers").wait_for()


def test_scans_are_answered_as_the_command_line_does(
    opened: Callable[..., Any], files: list[Path], folder: Path, scanwise: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    page = opened()
    answer(page, files, "Not said")
    for path in files[:4]:
        assert page.get_by_role("heading", name=path.name, exact=True).is_visible()
    assert page.locator("#scans img[src^='x']").count() == 0
    assert page.get_by_text("=paper.pdf: ").is_visible()
    assert "4 scans answered" in page.locator("#summary").inner_text()
    assert page.locator(".card").first.get_by_text("Abstains: a person should review it").is_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    download.value.save_as(tmp_path / "answers.json")
    monkeypatch.chdir(files[0].parent)
    expected = scanwise("predict", folder, *[path.name for path in files], "--format", "json").out
    assert (tmp_path / "answers.json").read_text(encoding="utf-8") == expected
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    download.value.save_as(tmp_path / "answers.csv")
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows if row["unit"] == "scan"] == [path.name for path in files[:4]]
    assert [row["subject"] for row in rows if row["unit"] == "subject"] == [rows[-2]["subject"]]  # of the DICOM header


def test_nothing_is_promised_about_people_that_the_run_did_not_know(browser: Any, address: str) -> None:
    page = browser.new_page()
    sets = {"coverage": 0.9, "for": "new scan", "warning": ""}
    about = {"name": "goods", "classes": ["hat", "shoe"], "guarantee": {"scan": sets, "subject": sets}, "digest": "0"}
    page.route("**/v1/model", lambda route: route.fulfill(json=about | {"reads_words": True, "explains": False}))
    page.goto(address)
    page.get_by_text("of at least 90 % of new scans like those of its calibration.").wait_for()
    assert page.get_by_text("Whose scans are they?").is_hidden()
    page.close()


def test_heatmaps_bear_their_badge(opened: Callable[..., Any], files: list[Path]) -> None:
    page = opened()
    answer(page, files)
    assert page.get_by_role("heading", name="p00, 2 scans").is_visible()
    page.get_by_role("button", name="Show heatmap of MR_small.dcm").click()
    card = page.locator("article", has_text="MR_small.dcm").last
    card.get_by_text("Not checked").wait_for()
    assert card.locator("img").count() == 2
    assert card.locator("img").last.evaluate("image => image.naturalWidth") == 32


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_the_page_fits_and_satisfies_axe(
    opened: Callable[..., Any], files: list[Path], width: int, scheme: str
) -> None:
    page = opened(width, scheme)
    assert violations(page) == []
    answer(page, files)
    page.get_by_role("button", name="Show heatmap of p00_0.png").click()
    page.get_by_text("Not checked").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert violations(page) == []
    if out := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{out}/{width}-{scheme}.png", full_page=True)


def test_everything_is_done_by_keyboard(opened: Callable[..., Any], files: list[Path]) -> None:
    page = opened()
    page.locator("#files").set_input_files(files[:2])
    page.locator("#files").focus()
    focused = "document.activeElement.id || document.activeElement.value"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "people"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.value") == "one"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "send"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="The person").wait_for()
    assert page.evaluate(focused) == "results-title"


def test_refusals_are_said(opened: Callable[..., Any], files: list[Path]) -> None:
    page = opened()
    page.locator("#files").set_input_files(files[4:])
    page.get_by_role("button", name="Answer", exact=True).click()
    page.get_by_text("The scans cannot be answered").wait_for()
    page.get_by_role("button", name="Clear").click()
    assert page.get_by_role("button", name="Answer", exact=True).is_disabled()
