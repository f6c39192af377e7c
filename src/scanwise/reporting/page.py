"""The frame of every page: one template, one style sheet, no network and no script."""

import re
from collections.abc import Mapping
from importlib import resources

from markupsafe import Markup, escape


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
    )
    environment.filters["stack_interval"] = stack_interval
    style = resources.files("scanwise.reporting").joinpath("report.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=Markup(style), **values)  # noqa: S704


def stack_interval(cell: str) -> Markup:
    """A table cell; an interval in brackets goes below its value, and neither is broken in two."""
    parts = re.fullmatch(r"([−+]?[\d.,]+\S*(?:\u00a0\S+)?) (\([^()]*\d\))(.*)", cell)
    if not parts:
        return escape(cell)
    return Markup("<b>{}</b> <small>{}{}</small>").format(*parts.groups())
