"""A report on paper: printed by a Chromium, where there is one."""

import os
import shutil
import subprocess
from pathlib import Path

from scanwise.errors import RunError
from scanwise.run import writing

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
TIMEOUT_SECONDS = 120
"""Seconds that a browser may take."""


def write_pdf(page: Path) -> Path:
    """Print an HTML page of ours beside itself as PDF.

    Raises:
        RunError: if there is no Chromium, or it fails.
    """
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise RunError(
            f"A PDF needs a Chromium (one of {', '.join(BROWSERS)}), and there is none here. Install one, or open "
            f"{page} in any browser and print it to a file; the page is made for paper as well."
        )
    target = page.with_suffix(".pdf")
    with writing(target) as temporary:
        command = [browser, "--headless", "--disable-gpu", "--disable-quic", "--disable-background-networking",
                   "--no-pdf-header-footer", f"--print-to-pdf={temporary.resolve()}"]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # Chromium refuses its sandbox to root, as in containers
            command.append("--no-sandbox")
        try:
            done = subprocess.run(  # noqa: S603
                [*command, page.resolve().as_uri()],
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
