"""The page of the server: one file with its style and its script in it, and a policy under which no other runs."""

import base64
import hashlib
from functools import cache
from importlib import resources


@cache
def build_page() -> tuple[str, str]:
    """The page, and the policy that its response bears."""
    style, script, frame = (_read(name) for name in ("page.css", "page.js", "page.html"))
    page = frame.replace("{style}", style).replace("{script}", script)
    policy = {
        "default-src": "'none'",
        "script-src": f"'{_digest(script)}'",
        "style-src": f"'{_digest(style)}'",
        "img-src": "data: blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return page, "; ".join(f"{name} {value}" for name, value in policy.items())


def _read(name: str) -> str:
    return resources.files("scanwise.serving").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
