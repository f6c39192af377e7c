"""One HTML page from one run folder: it loads nothing, runs no script, and is the same bytes for the same folder."""

from pathlib import Path

from scanwise.reporting import (
    alternatives,
    calibration_and_sets,
    checksums,
    explanations,
    explorer,
    groups,
    scan_sheets,
    scan_weights,
    sections,
    selective_and_ood,
)
from scanwise.reporting import (
    provenance as provenance_section,
)
from scanwise.reporting.components import embed_picture
from scanwise.reporting.finding_text import word_findings
from scanwise.reporting.outline import build_outline
from scanwise.reporting.page import render_page
from scanwise.reporting.performance import build_performance
from scanwise.reporting.published_table import build_published_table
from scanwise.reporting.run_data import RunData
from scanwise.reporting.summary import build_first_screen, protocol_title
from scanwise.run import RunFolder, layout, write_text


def write_report(run: RunFolder) -> Path:
    """Write `report.html`, and what goes with it (`model_card.md`, `checklists.html`), each whole or not at all.

    Raises:
        RunError: naming the file of the run that is missing or damaged.
    """
    from scanwise.reporting import checklists, model_card

    checksums.verify_checksums(run)
    contents = RunData.of(run)
    model_card.write_model_card(run, contents)
    checklists.write_checklists(run, contents)
    write_text(_page_of(contents), run.report)
    return run.report


def build_report(run: RunFolder) -> str:
    """The page as text; nothing is written.

    Raises:
        RunError: if a file of the run was changed since it was written.
    """
    checksums.verify_checksums(run)
    return _page_of(RunData.of(run))


def _page_of(contents: RunData) -> str:
    return render_page("report.html.jinja", _values(contents))


def _values(contents: RunData) -> dict[str, object]:
    """Everything that the template names."""
    honest = "honest" in contents.protocols
    figure, rivals, rival_words = sections.build_baselines(contents)
    answer = build_first_screen(contents)
    points = groups.build_operating_points(contents) if honest else ([], [])
    grave, notes = word_findings(contents.findings)
    values: dict[str, object] = {
        "answer": answer,
        "recipe": contents.recipe,
        "finished": str(contents.provenance.get("finished", ""))[:10],
        "scanwise": contents.provenance.get("environment", {}).get("packages", {}).get("scanwise", ""),
        "lead_figure": sections.draw_lead(contents),
        "cohort": sections.build_cohort_table(contents),
        "classes": sections.build_class_table(contents),
        "splits": sections.build_split_tables(contents),
        "montage": _png(contents.run.figures / layout.SCANS_SHEET),
        "quarantine": provenance_section.build_quarantine_table(contents),
        "grave_findings": grave,
        "finding_notes": notes,
        "learning": sections.build_training(contents),
        "discrimination": [
            (p, protocol_title(contents, p), contents.leaky(p), build_performance(contents, p)) for p in contents.shown
        ],
        "published": build_published_table(contents),
        "leaked": any(contents.leaky(p) for p in contents.protocols),
        "folds": [table for p in contents.shown if (table := sections.build_fold_table(contents, p))],
        "calibration": calibration_and_sets.build_calibration(contents) if honest else [],
        "temperatures": calibration_and_sets.describe_temperatures(contents) if honest else [],
        "sets": calibration_and_sets.build_prediction_sets(contents) if honest else [],
        "doubt": selective_and_ood.build_abstention(contents) if honest else None,
        "groups": groups.build_breakdowns(contents) if honest else None,
        "points": points if any(points) else None,
        "explorer": explorer.build_explorer(contents.predictions["honest", contents.unit("honest")], contents.titles())
        if honest
        else None,
        "failures": scan_sheets.build_failure_sheet(contents),
        "explanations": explanations.build_explanations(contents),
        "forest": figure,
        "parts": sections.build_input_parts(contents),
        "members": sections.describe_members(contents),
        "scan_weights": scan_weights.build_scan_weights(contents) if honest else [],
        "rival_tables": rivals,
        "rival_words": rival_words,
        "left_out": " ".join(
            filter(
                None,
                (
                    alternatives.describe_covariates(contents),
                    alternatives.describe_acquisition(contents),
                    provenance_section.describe_missing_baselines(contents),
                    provenance_section.describe_pooling(contents),
                ),
            )
        ),
        "provenance": provenance_section.build_provenance_tables(contents),
        "files": provenance_section.list_files(contents),
    }
    return {**values, "outline": build_outline(contents, answer, values)}


def _png(path: Path) -> str:
    """An image as a data URI; empty where there is none."""
    return embed_picture(path) if path.is_file() else ""
