"""Take the pictures of docs/gallery.md: first screens of reports, where no scan is shown, and an audit of synthetic scans.

scanwise demo && python tools/gallery.py report=demo/run audit=audit dementia=runs/dementia stroke=runs/stroke chest=runs/chest
needs a Chromium; docs/gallery.md has the commands that made each folder.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

OUT = Path(__file__).parents[1] / "docs" / "gallery"
MOST_BYTES = 200_000
SHOTS = {  # of a folder by its name: picture, page, width, height, colours
    "report": [
        ("report", "report.html", 1100, 1000, "light"),
        ("report-dark", "report.html", 1280, 1000, "dark"),
        ("report-phone", "report.html", 390, 844, "light"),
    ],
    "audit": [("audit", "audit.html", 1100, 1150, "light")],
}


def save(shot: bytes, file: Path) -> None:
    """Write a picture with as many colours as fit into the bytes allowed."""
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    for colours in (256, 128, 64, 32):
        picture.quantize(colours, dither=Image.Dither.NONE).save(file, optimize=True)
        if file.stat().st_size <= MOST_BYTES:
            return
    raise SystemExit(f"{file} is larger than {MOST_BYTES} bytes")


def main(folders: dict[str, Path]) -> None:
    OUT.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, folder in folders.items():
            for picture, page, width, height, scheme in SHOTS.get(name, [(name, "report.html", 1100, 900, "light")]):
                tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                tab.goto((folder / page).resolve().as_uri())
                save(tab.screenshot(), OUT / f"{picture}.png")
                tab.close()
        browser.close()


if __name__ == "__main__":
    main({name: Path(folder) for name, _, folder in (argument.partition("=") for argument in sys.argv[1:])})
