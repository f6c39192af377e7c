"""Take the pictures of docs/gallery.md from a finished demo: first screens of the report; needs a Chromium.

.venv/bin/scanwise demo && .venv/bin/python tools/gallery.py demo/run
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

OUT = Path(__file__).parents[1] / "docs" / "gallery"
MOST_BYTES = 200_000
SHOTS = {  # name: page, width, height, colours
    "report": ("report.html", 1100, 1000, "light"),
    "report-dark": ("report.html", 1280, 1000, "dark"),
    "report-phone": ("report.html", 390, 844, "light"),
}


def save(shot: bytes, file: Path) -> None:
    """Write a picture with as many colours as fit into the bytes allowed."""
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    for colours in (256, 128, 64, 32):
        picture.quantize(colours, dither=Image.Dither.NONE).save(file, optimize=True)
        if file.stat().st_size <= MOST_BYTES:
            return
    raise SystemExit(f"{file} is larger than {MOST_BYTES} bytes")


def main(run: Path) -> None:
    OUT.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (page, width, height, scheme) in SHOTS.items():
            tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab.goto((run / page).resolve().as_uri())
            save(tab.screenshot(), OUT / f"{name}.png")
            tab.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
