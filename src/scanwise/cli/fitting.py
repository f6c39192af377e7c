"""The main job: demo, fit and report."""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Literal

import click

from scanwise.cli.arguments import check_data, check_recipe, check_run_folder, load_torch_meanwhile
from scanwise.cli.endings import StopRequest
from scanwise.cli.options import hiding, reading, running
from scanwise.cli.printing import (
    brief_message,
    make_table,
    print_answer,
    print_report,
    print_summary,
    print_table,
    progress,
    say,
    say_folded,
    talk,
)
from scanwise.progress_bar import running_job
from scanwise.run import RunFolder, is_writer, layout, owning


@click.command()
@click.option(
    "--out", default="demo", type=click.Path(path_type=Path), show_default=True, help="Folder for cohort and run."
)
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True)
@running
def demo(out: Path, seed: int, device: str, threads: int) -> None:
    """Synthetic scans to a report, in a minute or two."""
    talk()
    from scanwise.pipeline.commands.demo import run_demo as show_demo

    shown = show_demo(out, seed=seed, device=device, threads=threads, progress=progress())
    print_answer(shown.run)
    print_summary(shown.run)
    for line in shown.text.splitlines():
        say_folded(line)
    print_report(shown.run)


@click.command()
@click.argument("recipe")
@click.option("--data", required=True, help="Folder of scans, CSV/TSV manifest, or a URL such as s3://bucket/scans.")
@click.option("--out", help="The run folder, or a URL such as s3://bucket/run.  [default: runs/RECIPE]")
@click.option(
    "--subject", default="", help="The subjects: a manifest column, a CSV of path,subject, or a pattern over the path."
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option(
    "--processes", default=1, type=click.IntRange(1), help="Train in several, each on a GPU of its own (or on the CPU)."
)
@click.option(
    "--workers",
    default=1,
    type=click.IntRange(1),
    show_default=True,
    help="Processes that compare the scans beforehand.",
)
@click.option("--plan", is_flag=True, help="Print subjects per cell, time and disk, and stop.")
@reading
@hiding
@running
def fit(
    recipe: str,
    data: str,
    out: str | None,
    subject: str,
    settings: tuple[str, ...],
    resume: bool,
    processes: int,
    workers: int,
    plan: bool,
    pseudonymise: bool,
    device: str,
    threads: int,
) -> None:
    """The main job: from a folder of scans to a report.

    RECIPE is the name of a shipped recipe (see `scanwise recipes`) or a YAML file.
    """
    folder = out or str(Path("runs") / Path(recipe).stem)
    check_recipe(recipe, settings)
    check_data(data)
    if is_writer() and not plan:
        check_run_folder(folder, resume=resume)
    if processes > 1 and not plan and "RANK" not in os.environ:  # those that are started come here again, and have one
        from scanwise.launch import local_processes

        code = local_processes.run(sys.argv[1:], processes)
        if code == 128 + signal.SIGTERM:
            raise StopRequest(signal.SIGTERM)
        if code == 128 + signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(code)
    talk(logging.INFO if is_writer() else logging.ERROR)
    load_torch_meanwhile()
    from scanwise import pipeline

    options: dict[str, Any] = {
        "subject": subject,
        "settings": settings,
        "device": device,
        "threads": threads,
        "workers": workers,
    }
    options["pseudonymise"] = pseudonymise
    if plan:
        from scanwise.pipeline.commands import plan as plan_command

        with running_job(progress(), opening=1.0):
            prepared = pipeline.prepare(recipe, data=data, progress=progress(), **options)
        _print_plan(plan_command.plan_fit(prepared))
        return
    run = pipeline.fit(recipe, data=data, out=folder, resume=resume, progress=progress() and is_writer(), **options)
    if is_writer():
        print_answer(run)
        print_summary(run)
        print_report(run)
        if "://" in folder:
            say(f"sent to: {folder}")


def _print_plan(plan: Any) -> None:
    say_folded(plan.verdict, bold=True)
    say()
    table = make_table("subjects (scans) per cell", ["split", *plan.classes])
    for row in plan.cells:
        table.add_row(*row)
    print_table(table)
    say()
    for line in plan.lines:
        say_folded(line)
    say()
    for finding in plan.findings:
        say_folded(
            brief_message(finding),
            lead=f"{finding.severity:9}",
            indent=9,
            fg="yellow" if finding.severity != "note" else None,
        )
    say()
    say("Nothing was written. Run the command without --plan to start.")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--pdf",
    is_flag=False,
    flag_value="summary",
    type=click.Choice(["summary", "full"]),
    help="Print it as PDF as well, the summary (on two pages) or all of it; needs a Chromium.  [default: summary]",
)
def report(run: Path, pdf: Literal["summary", "full"] | None) -> None:
    """Write a run's report again, from what lies in its folder."""
    opened = RunFolder.open(run)
    from scanwise.reporting import report as report_page

    with owning(opened.path):
        page = report_page.write_report(opened)
    say(page)
    if pdf:
        from scanwise.reporting import pdf as paper

        say(paper.write_pdf(page, pdf, opened.path / layout.REPORT_PDF[pdf]))
