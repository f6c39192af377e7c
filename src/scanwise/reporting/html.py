"""One HTML page from one run folder: it loads nothing, runs no script, and is the same bytes for the same folder."""

import base64
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from markupsafe import Markup, escape

from scanwise.reporting import certainty, doubts, exhibits, explanations, groups, origins, seals, sections
from scanwise.reporting.answer import answer, protocol_title
from scanwise.reporting.contents import Contents
from scanwise.run import Run, write_text


def write(run: Run) -> Path:
    """Write `report.html`, and what goes with it (`model_card.md`, `checklists.html`), each whole or not at all.

    Raises:
        RunError: naming the file of the run that is missing or damaged.
    """
    from scanwise.reporting import card, checklists

    seals.check(run)
    contents = Contents.of(run)
    card.write(run, contents)
    checklists.write(run, contents)
    write_text(_page_of(contents), run.report)
    return run.report


def build(run: Run) -> str:
    """The page as text; nothing is written.

    Raises:
        RunError: if a file of the run was changed since it was written.
    """
    seals.check(run)
    return _page_of(Contents.of(run))


def _page_of(contents: Contents) -> str:
    return page("report.html.jinja", _values(contents))


def page(template: str, values: Mapping[str, object]) -> str:
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
    environment.filters["stacked"] = stacked
    style = resources.files("scanwise.reporting").joinpath("report.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=Markup(style), **values)  # noqa: S704


def stacked(cell: str) -> Markup:
    """A table cell; an interval in brackets goes below its value, and neither is broken in two."""
    parts = re.fullmatch(r"([−+]?[\d.,]+\S*(?:\u00a0\S+)?) (\([^()]*\d\))(.*)", cell)
    if not parts:
        return escape(cell)
    return Markup("<b>{}</b> <small>{}{}</small>").format(*parts.groups())


def _values(contents: Contents) -> dict[str, object]:
    """Everything that the template names."""
    honest = "honest" in contents.protocols
    figure, rivals, rival_words = sections.rivals(contents)
    return {
        "answer": answer(contents),
        "recipe": contents.recipe,
        "finished": str(contents.provenance.get("finished", ""))[:10],
        "scanwise": contents.provenance.get("environment", {}).get("packages", {}).get("scanwise", ""),
        "cohort": sections.cohort_table(contents),
        "classes": sections.class_table(contents),
        "splits": sections.split_tables(contents),
        "montage": _png(contents.run.figures / "scans.png"),
        "quarantine": origins.quarantine(contents),
        "findings": origins.findings(contents),
        "training": sections.training(contents),
        "discrimination": [
            (p, protocol_title(contents, p), contents.leaky(p), *sections.discrimination(contents, p))
            for p in contents.protocols
        ],
        "overall": {p: sections.overall(contents, p) for p in contents.protocols},
        "folds": [table for p in contents.protocols if (table := sections.folds(contents, p))],
        "calibration": certainty.calibration(contents) if honest else None,
        "sets": certainty.sets(contents) if honest else [],
        "doubts": doubts.doubts(contents) if honest else None,
        "breakdowns": groups.breakdowns(contents) if honest else ([], []),
        "points": groups.points(contents) if honest else ([], []),
        "failures": exhibits.failures(contents),
        "explanations": explanations.explanations(contents),
        "forest": figure,
        "parts": sections.parts(contents),
        "members": sections.members(contents),
        "rivals": rivals,
        "rival_words": rival_words,
        "left_out": " ".join(filter(None, (origins.left_out(contents), origins.pooling(contents)))),
        "provenance": origins.provenance(contents),
        "files": origins.files(contents),
    }


def _png(path: Path) -> str:
    """An image as a data URI; empty where there is none."""
    if not path.is_file():
        return ""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
