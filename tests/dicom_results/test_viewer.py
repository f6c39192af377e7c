"""A result in the eyes of a radiologist: OHIF's viewer, in Chromium, shows the pages of a result with their colours."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="needs scanwise[dicom]")

import pydicom
from PIL import Image

from dicom_web import viewing
from medical_files import write_dicom
from scanwise import bundle
from scanwise.dicom_results import ResultWriter, StudyResult
from tiny_bundles import write_tiny_bundle

VIEWER = Path(__file__).parents[2] / ".venv" / ".viewer" / "package" / "dist"
PLACED: dict[str, Any] = {
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "PixelSpacing": [1, 1],
    "FrameOfReferenceUID": "1.2.3.4",
}
pytestmark = [pytest.mark.browser, pytest.mark.extended]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], StudyResult]:
    """Scans of a study, and their result."""
    folder = tmp_path_factory.mktemp("study")
    rows, columns = np.mgrid[:64, :64]
    scans = [
        write_dicom(
            folder / f"{row}.dcm",
            (8 * (rows + columns) + 40 * row).astype(np.uint16),
            InstanceNumber=row + 1,
            ImagePositionPatient=[0, 0, row],
            **PLACED,
        )
        for row in range(2)
    ]
    loaded = bundle.load(write_tiny_bundle(folder / "bundle", "demo"))
    (result,), _ = ResultWriter.of(loaded, "ab" * 32, pages=1, maps=True).write(
        loaded.predict(scans, ["p"] * 2), folder / "out"
    )
    return scans, result


@pytest.fixture
def opened(browser: Any, study: tuple[list[Path], StudyResult]) -> Any:
    """The viewer with the study open."""
    if not (VIEWER / "index.html").is_file():
        pytest.skip("OHIF's viewer is not here; `make viewer` brings it, where there is npm")
    scans, result = study
    with viewing(VIEWER, [*scans, *result.objects]) as address:
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        outside: list[str] = []
        page.on("request", lambda request: outside.append(request.url))
        page.goto(address)
        page.get_by_text("Skip all").click(timeout=90_000)  # a tour of the viewer
        yield page
        page.close()
    home = address.partition("/viewer")[0]
    assert not [url for url in outside if not url.startswith((home, "data:", f"blob:{home}"))]


def shown(page: Any, file: Path) -> float:
    """Mean difference, in gray values, of what the viewer shows from what a file holds."""
    wanted = pydicom.dcmread(file).pixel_array.astype(float)
    height, width = wanted.shape[:2]
    picture = Image.open(io.BytesIO(page.locator('[data-cy="viewport-pane"]').screenshot())).convert("RGB")
    scale = min(picture.width / width, picture.height / height)
    left, top = (picture.width - scale * width) / 2, (picture.height - scale * height) / 2
    found = picture.resize(
        (width, height), Image.Resampling.BILINEAR, box=(left, top, left + scale * width, top + scale * height)
    )
    middle = (slice(height // 8, height * 7 // 8), slice(width // 8, width * 7 // 8))  # around it the viewer writes
    return float(np.abs(np.asarray(found, float)[middle] - wanted[middle]).mean())


def comes_to_show(page: Any, file: Path) -> float:
    difference = 256.0
    for _ in range(60):
        difference = min(difference, shown(page, file))
        if difference < 4:
            break
        page.wait_for_timeout(500)
    return difference


def test_viewer_shows_every_page_of_a_result(
    opened: Any, study: tuple[list[Path], StudyResult], tmp_path: Path
) -> None:
    _, result = study
    pages = [file for file in result.objects if file.name.startswith("page-")]
    assert [file.name for file in result.objects if file not in pages] == ["report.dcm", "map-1.dcm"]
    assert len(pages) == 2
    opened.locator('[data-cy="study-browser-thumbnail"]').filter(has_text="Scanwise result").dblclick()
    differences = [comes_to_show(opened, pages[0])]
    opened.screenshot(path=tmp_path / "page-1.png")
    differences.append(shown(opened, pages[1]))  # which is another picture
    opened.locator('[data-cy="viewport-pane"]').hover()
    opened.mouse.wheel(0, 100)
    differences.append(comes_to_show(opened, pages[1]))
    opened.screenshot(path=tmp_path / "page-2.png")
    assert opened.get_by_text("PMAP", exact=True).count() == 1  # listed as what it is
    assert differences[0] < 4, differences
    assert differences[2] < 4 < differences[1], differences


def test_viewer_shows_nothing_of_a_report_which_is_why_there_are_pages(opened: Any, tmp_path: Path) -> None:
    pane = opened.locator('[data-cy="viewport-pane"]')
    opened.locator('[data-cy="study-browser-thumbnail-no-image"]').filter(has_text="SR").dblclick()
    bright = 1.0
    for _ in range(40):
        picture = np.asarray(Image.open(io.BytesIO(pane.screenshot())).convert("L"))
        bright = float((picture[20:-20, 20:-20] > 40).mean())
        if bright == 0:
            break
        opened.wait_for_timeout(500)
    opened.screenshot(path=tmp_path / "report.png")
    assert bright == 0
