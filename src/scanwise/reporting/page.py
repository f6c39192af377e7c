"""The frame of every page: one template, one style sheet, one script of ours, and no network.

The page's policy names the hash of that script: no other runs, whatever a file of a user may hold.

Every value that a template prints passes `plain_text` and is escaped: text of users is text.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib import resources

from markupsafe import Markup, escape

from scanwise.phrases import printable

_RIGHT_TO_LEFT = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
_RUN = re.compile(rf"{_RIGHT_TO_LEFT}+(?:[^\w<>]*{_RIGHT_TO_LEFT}+)*")


def render_page(template: str, values: Mapping[str, object]) -> str:
    """A page in the house style from a template of this room."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("scanwise", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=plain_text,
    )
    environment.filters["stack_interval"] = stack_interval
    style, script = (Markup(read_asset(name)) for name in ("report.css", "page.js"))  # noqa: S704
    policy = f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}"
    return environment.get_template(template).render(style=style, script=script, policy=policy, **values)


def read_asset(name: str) -> str:
    """The style sheet or the script of every page."""
    return resources.files("scanwise.reporting").joinpath(name).read_text(encoding="utf-8")


def plain_text(value: object) -> object:
    """A value as a page shows it: text without control and direction characters, words from right to left by themselves.

    Without the isolates around them, a number after a Hebrew or Arabic name would stand before it.

    >>> plain_text("שלום 12") == "\\u2068שלום\\u2069 12", plain_text("a\\u202eb"), plain_text(3)
    (True, 'a�b', 3)
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _RUN.sub("\u2068\\g<0>\u2069", printable(value))


def stack_interval(cell: str) -> Markup:
    """A table cell; an interval in brackets goes below its value, and neither is broken in two."""
    cell = str(plain_text(cell))
    parts = re.fullmatch(r"([−+]?[\d.,]+\S*(?:\u00a0\S+)?) (\([^()]*\d\))(.*)", cell)
    if not parts:
        return escape(cell)
    return Markup("<b>{}</b> <small>{}{}</small>").format(*parts.groups())
