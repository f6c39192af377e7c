"""Scans before any training: audit, augment, cohort and fetch."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanwise.cli.arguments import check_data, check_data_settings, check_recipe
from scanwise.cli.options import hiding, reading
from scanwise.cli.printing import (
    brief_message,
    make_table,
    print_notes,
    print_table,
    progress,
    say,
    say_folded,
    say_json,
    say_value,
    talk,
)
from scanwise.phrases import count_of
from scanwise.redaction import without_secrets
from scanwise.run import layout, refuse_foreign

if TYPE_CHECKING:
    from scanwise.pipeline.context import AuditResult


@click.command()
@click.argument("data")
@click.option(
    "--subject",
    default="auto",
    show_default=True,
    help="The subjects: a column, a CSV of path,subject, a pattern, or auto: recovered from the pixels.",
)
@click.option(
    "--out", default="audit", type=click.Path(path_type=Path), show_default=True, help="Folder for page and findings."
)
@click.option(
    "--fix", type=click.Path(path_type=Path), help="Write a manifest without exact copies, with a safe split."
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Decodes and compares scans: this machine, or workers of Ray.",
)
@click.option(
    "--workers", type=click.IntRange(1), help="Processes of the engine.  [default: this one; of Ray one a core]"
)
@click.option("--cluster", default="", help="HOST:PORT of a Ray cluster.  [default: one of this machine alone]")
@reading
@hiding
def audit(
    data: str,
    subject: str,
    out: Path,
    fix: Path | None,
    as_json: bool,
    seed: int,
    engine: str,
    workers: int | None,
    cluster: str,
    settings: tuple[str, ...],
    pseudonymise: bool,
) -> None:
    """Say what scans give away before anything is trained.

    DATA is a folder of scans, a manifest, or a URL. Exit code: 0 clean, 1 something leaks, 2 bad input, 3 could not be
    judged because the subjects are not known.
    """
    check_data(data, option="")
    check_data_settings(settings)
    talk(logging.WARNING if as_json else logging.INFO)
    refuse_foreign(out, layout.FINDINGS, "audit")
    from scanwise.cohort.table_files import check_table_name
    from scanwise.pipeline.stages import audit as audit_stage
    from scanwise.workers import open_workers

    if fix is not None:
        check_table_name(fix)  # before an hour of work
    options: dict[str, Any] = {"settings": settings, "seed": seed, "pseudonymise": pseudonymise}
    with open_workers(engine, workers, cluster) as mapping:
        result = audit_stage.audit_scans(data, subject=subject, progress=progress(), workers=mapping, **options)
    page = audit_stage.write_audit(result, out)
    fixed = audit_stage.write_fixed_manifest(result, fix) if fix else None
    if as_json:
        say_json((out / layout.FINDINGS).read_text(encoding="utf-8"))
    else:
        _print_audit(result)
        if fixed:
            say_value("manifest", fix, f" ({fixed})")
        say_value("page", page)
        say_value("next", _step_after(result, data, out))
    sys.exit(result.exit_code)


def _print_audit(result: "AuditResult") -> None:
    """The verdict and every finding, the gravest first."""
    from scanwise.auditing.unknown_subjects import join_unchecked
    from scanwise.reporting.audit_page import sort_findings

    say_folded(f"{result.verdict}.", bold=True, fg="red" if result.exit_code == 1 else None)
    say()
    colours = {"leak": "red", "warning": "yellow", "note": "white"}
    table = make_table("", ["", "check", "finding"])
    table.columns[1].justify = table.columns[2].justify = "left"
    table.columns[1].max_width = 22
    for finding in join_unchecked([checked.finding for checked in sort_findings(result.checked)]):
        table.add_row(finding.severity, finding.check, brief_message(finding), style=colours[finding.severity])
    print_table(table)


def _step_after(result: "AuditResult", data: str, out: Path) -> str:
    """The command that goes on from here."""
    if result.evidence.subject is None:
        return f"scanwise audit {without_secrets(data)} --subject COLUMN, TABLE.csv or PATTERN (what says who each scan is of)"
    return f"scanwise open {out}"


@click.command()
@click.argument("data")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--per-scan", type=click.IntRange(1), help="Copies of every scan.")
@click.option("--per-class", type=click.IntRange(1), help="Copies of each class, so that small ones grow most.")
@click.option("--subject", default="auto", show_default=True, help="The subjects, as in `audit`.")
@click.option("--like", default="alexnet-gray", show_default=True, help="The recipe whose train.augment is applied.")
@click.option("--size", default=224, type=click.IntRange(16, 1024), show_default=True, help="Side of the images.")
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True)
@reading
def augment(
    data: str,
    out: Path,
    per_scan: int | None,
    per_class: int | None,
    subject: str,
    like: str,
    size: int,
    seed: int,
    settings: tuple[str, ...],
) -> None:
    """Write augmented copies that carry their origin's subject.

    So a split by subject can never part a copy from its origin.
    """
    if (per_scan is None) == (per_class is None):
        raise click.UsageError("Say how many copies: --per-scan or --per-class, one of the two.")
    check_data(data, option="")
    check_data_settings(settings)
    talk()
    from scanwise.pipeline.commands import augmentation as augmentation_command

    plan = augmentation_command.CopyPlan(per_scan or 0, per_class or 0)
    options: dict[str, Any] = {"subject": subject, "settings": settings, "like": like, "size": size, "seed": seed}
    manifest = augmentation_command.write_augmented_copies(data, out, plan, progress=progress(), **options)
    say_value("manifest", manifest)


@click.command()
@click.argument("data")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A .csv, .tsv, .parquet or .xlsx file.")
@click.option(
    "--subject", default="", help="The subjects: a column, a table of path,subject, or a pattern over the path."
)
@click.option("--recipe", default="", help="The recipe that says how volumes are cut into slices.")
@reading
@hiding
def cohort(
    data: str,
    out: Path,
    subject: str,
    recipe: str,
    settings: tuple[str, ...],
    pseudonymise: bool,
) -> None:
    """Write the manifest that scanwise understood.

    Edit it and feed it back with --data. Pixels are not read; what cannot be listed is named beside it.
    """
    check_data(data, option="")
    if recipe:
        check_recipe(recipe, settings)
    talk()
    from scanwise.pipeline.commands import manifest as manifest_command

    written = manifest_command.make_manifest(
        data, out, source=recipe, settings=settings, subject=subject, pseudonymise=pseudonymise,
        progress=progress(),
    )  # fmt: skip
    print_notes((*written.scans.notes, *written.scans.remarks))
    say(written.summary)
    if written.quarantine is not None:
        left = count_of(len(written.scans.unused), "file")
        say(f"not listed: {left}, see {written.quarantine}", fg="yellow", err=True)
    say_value("manifest", written.manifest)


@click.command()
@click.argument("handle")
@click.option("--out", type=click.Path(path_type=Path), help="Copy it to a new folder.  [default: kagglehub's cache]")
@click.option("--anew", is_flag=True, help="Ask for the newest version even if the cache has one.")
def fetch(handle: str, out: Path | None, anew: bool) -> None:
    """Fetch a data set of Kaggle, OWNER/NAME, and print its folder."""
    from scanwise.cohort import kaggle_download

    say(kaggle_download.download_dataset(handle, out, anew=anew))
