"""One HTML page from one run folder: it loads nothing, runs no script, and is the same bytes for the same folder."""

import base64
from pathlib import Path

from scanwise.reporting import (
    calibration_and_sets,
    checksums,
    explanations,
    groups,
    scan_sheets,
    sections,
    selective_and_ood,
)
from scanwise.reporting import (
    provenance as provenance_section,
)
from scanwise.reporting.page import page
from scanwise.reporting.run_data import RunData
from scanwise.reporting.summary import answer, protocol_title
from scanwise.run import Run, layout, write_text


def write(run: Run) -> Path:
    """Write `report.html`, and what goes with it (`model_card.md`, `checklists.html`), each whole or not at all.

    Raises:
        RunError: naming the file of the run that is missing or damaged.
    """
    from scanwise.reporting import checklists, model_card

    checksums.check(run)
    contents = RunData.of(run)
    model_card.write(run, contents)
    checklists.write(run, contents)
    write_text(_page_of(contents), run.report)
    return run.report


def build(run: Run) -> str:
    """The page as text; nothing is written.

    Raises:
        RunError: if a file of the run was changed since it was written.
    """
    checksums.check(run)
    return _page_of(RunData.of(run))


def _page_of(contents: RunData) -> str:
    return page("report.html.jinja", _values(contents))


def _values(contents: RunData) -> dict[str, object]:
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
        "montage": _png(contents.run.figures / layout.SCANS_SHEET),
        "quarantine": provenance_section.quarantine(contents),
        "findings": provenance_section.findings(contents),
        "training": sections.training(contents),
        "discrimination": [
            (p, protocol_title(contents, p), contents.leaky(p), *sections.discrimination(contents, p))
            for p in contents.protocols
        ],
        "overall": {p: sections.overall(contents, p) for p in contents.protocols},
        "folds": [table for p in contents.protocols if (table := sections.folds(contents, p))],
        "calibration": calibration_and_sets.calibration(contents) if honest else None,
        "sets": calibration_and_sets.sets(contents) if honest else [],
        "doubts": selective_and_ood.doubts(contents) if honest else None,
        "breakdowns": groups.breakdowns(contents) if honest else ([], []),
        "points": groups.points(contents) if honest else ([], []),
        "failures": scan_sheets.failures(contents),
        "explanations": explanations.explanations(contents),
        "forest": figure,
        "parts": sections.parts(contents),
        "members": sections.members(contents),
        "rivals": rivals,
        "rival_words": rival_words,
        "left_out": " ".join(
            filter(None, (provenance_section.left_out(contents), provenance_section.pooling(contents)))
        ),
        "provenance": provenance_section.provenance(contents),
        "files": provenance_section.files(contents),
    }


def _png(path: Path) -> str:
    """An image as a data URI; empty where there is none."""
    if not path.is_file():
        return ""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
