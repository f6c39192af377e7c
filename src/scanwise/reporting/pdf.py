"""A report on paper: printed by a Chromium, where there is one."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from scanwise.errors import RunError
from scanwise.run import writing

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
Extent = Literal["summary", "full"]
TIMEOUT_SECONDS = 120
"""Seconds that a browser may take."""


def write_pdf(page: Path, extent: Extent, target: Path) -> Path:
    """Print an HTML page of ours as PDF.

    Args:
        page: the page.
        extent: `summary` prints the answer alone, `full` with all that is folded below it.
        target: the PDF.

    Raises:
        RunError: if there is no Chromium, or it fails.
    """
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise RunError(
            f"A PDF needs a Chromium (one of {', '.join(BROWSERS)}), and there is none here. Install one, or open "
            f"{page} in any browser and print it to a file; the page is made for paper as well."
        )
    with writing(target) as temporary, TemporaryDirectory() as folder:
        opened = Path(folder) / page.name
        opened.write_text(unfold(page.read_text(encoding="utf-8"), extent), encoding="utf-8")
        command = [browser, "--headless", "--disable-gpu", "--disable-quic", "--disable-background-networking",
                   "--no-pdf-header-footer", f"--print-to-pdf={temporary.resolve()}"]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # Chromium refuses its sandbox to root, as in containers
            command.append("--no-sandbox")
        try:
            done = subprocess.run(  # noqa: S603
                [*command, opened.resolve().as_uri()],
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise RunError(f"{browser} did not print {page} within {TIMEOUT_SECONDS} seconds. Try again.") from error
        if not temporary.is_file():
            reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise RunError(f"{browser} did not print {page}: {reason}")
    return target


def unfold(text: str, extent: Extent) -> str:
    """The page with everything open, or as it is; text of users is escaped, so that no name of theirs is a tag.

    >>> unfold("<details><summary>a</summary></details>", "full")
    '<details open=""><summary>a</summary></details>'
    """
    return re.sub(r"<details(?=[ >])", '<details open=""', text) if extent == "full" else text
