"""Anybody's logits: calibrate and conformal."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanwise.cli.options import file, npz
from scanwise.cli.printing import make_table, percent, print_notes, print_table, say, say_value

if TYPE_CHECKING:
    from scanwise.conformal import CoverageLine


@click.command()
@npz("valid")
@file("--out", "The calibrator, as JSON.", required=True)
@click.option(
    "--method", type=click.Choice(["temperature", "vector", "isotonic"]), default="temperature", show_default=True
)
@click.option("--subject-level", is_flag=True, help="Pool the scans of each subject first.")
def calibrate(valid: Path, out: Path, method: str, subject_level: bool) -> None:
    """Fit a calibrator on validation logits.

    VALID is an npz of logits (N, C) and labels (N,); and subjects (N,), where people have several scans.
    """
    from scanwise.pipeline.commands import posthoc

    fitted = posthoc.fit_calibrator(valid, out, method=method, by_subject=subject_level)
    table = make_table("Subjects held out, five folds", ["", "without", f"with {method}"])
    for name, before, after in fitted.figures:
        table.add_row(name, f"{before:.4f}", f"{after:.4f}")
    print_table(table)
    print_notes(fitted.notes)
    say_value("calibrator", out)


@click.command()
@npz("calibration")
@npz("test")
@file("--out", "The sets (N, C), with scans, subjects, labels and classes, as npz.", required=True)
@click.option(
    "--score", type=click.Choice(["lac", "aps", "raps", "saps", "ordinal"]), default="raps", show_default=True
)
@click.option("--alpha", type=float, default=0.1, show_default=True, help="The share that may be missed.")
@click.option("--by", default="", metavar="class|COLUMN", help="Coverage in each class, or each value of a column.")
@click.option("--subject-level", is_flag=True, help="Pool the scans of each subject first.")
@file("--calibrator", "What `scanwise calibrate` wrote; without it, the softmax.")
@file("--tune", "Logits of validation subjects, to choose lambda and k_reg of raps, or lambda of saps, on.")
def conformal(
    calibration: Path,
    test: Path,
    out: Path,
    score: str,
    alpha: float,
    by: str,
    subject_level: bool,
    calibrator: Path | None,
    tune: Path | None,
) -> None:
    """Prediction sets with a stated coverage, from anybody's logits.

    CALIBRATION and TEST are npz files of logits (N, C) and labels (N,), which TEST may lack; and subjects (N,), where people
    have several scans. Thresholds are set on CALIBRATION, prediction sets made for TEST.
    """
    from scanwise.pipeline.commands import posthoc

    sets = posthoc.make_prediction_sets(
        calibration,
        test,
        out,
        score=score,
        alpha=alpha,
        by=by,
        by_subject=subject_level,
        calibrator=calibrator,
        tune=tune,
    )
    say(f"Guarantee: {sets.promise}.\n")
    print_table(_coverage_table("Coverage", sets.lines, subject_level, True))
    say()
    print_table(_coverage_table("By the number of classes in the set", sets.sizes, subject_level, False))
    say("\nThe guarantee assumes:")
    for line in sets.alike:
        say(f"  {line}")
    print_notes(sets.notes)
    say_value("sets", out)


def _coverage_table(title: str, lines: "list[CoverageLine]", by_subject: bool, expected: bool) -> Any:
    headings = ["subjects"] if by_subject else ["subjects", "scans"]
    table = make_table(title, ["", *headings, "coverage", "95 %", *(["expected"] if expected else []), "mean size"])
    for line in lines:
        counts = [f"{line.subjects}", f"{line.scans}"][: len(headings)]
        bands = [percent(*line.band)] if expected else []
        table.add_row(line.name, *counts, percent(line.coverage), percent(*line.interval), *bands, f"{line.size:.2f}")
    return table
