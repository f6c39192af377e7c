"""One thin command a stage. Nothing heavy is imported before a command runs."""

import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, TypeVar

import click

from scanwise import __version__
from scanwise.errors import DataError, ScanwiseError

if TYPE_CHECKING:
    from scanwise.bundle import Answer
    from scanwise.conformal import Line
    from scanwise.pipeline.auditing import Audited
    from scanwise.records import Metric, Predictions
    from scanwise.run import Run

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
MODELS = {
    "network": "network",
    "majority": "majority class",
    "nearest_neighbour": "nearest neighbour",
    "pca_logistic": "PCA + logistic",
    "frozen_features": "frozen features + logistic",
}


def main() -> None:
    """Run the command line; every foreseen mistake is one clear message and an exit code."""
    try:
        sys.exit(cli(standalone_mode=False))
    except ScanwiseError as error:
        _fail(str(error), error.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        _fail(_usage(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("Interrupted. What was finished is kept; go on with the same command and --resume.", 130)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stdout = None
        sys.exit(141)
    except OSError as error:
        if error.errno is None:
            raise
        _fail(f"{error.strerror}: {error.filename or 'while writing'}. Nothing half-written was left.", 2)


def _fail(message: str, code: int) -> None:
    click.secho("error: ", fg="red", bold=True, err=True, nl=False)
    click.echo(message, err=True)
    sys.exit(code)


def _usage(error: click.ClickException) -> str:
    """What is wrong with the command, and where its options are told."""
    context = getattr(error, "ctx", None)
    return error.format_message() + (f" See `{context.command_path} --help`." if context else "")


@click.group(context_settings=CONTEXT, invoke_without_command=True)
@click.version_option(__version__, prog_name="scanwise")
@click.pass_context
def cli(context: click.Context) -> None:
    """Turn a folder of labelled scans into a classifier that can be checked."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _running(command: F) -> F:
    """Options of every command that computes."""
    command = click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps.")(command)
    return click.option("--threads", default=0, type=click.IntRange(0), help="CPU threads; 0 lets torch choose.")(
        command
    )


_hiding = click.option("--pseudonymise", is_flag=True, help="Keyed hashes for subjects and names in paths.")


@cli.command()
@click.option(
    "--out", default="demo", type=click.Path(path_type=Path), show_default=True, help="Folder for cohort and run."
)
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True)
@_running
def demo(out: Path, seed: int, device: str, threads: int) -> None:
    """Synthetic scans to a report, in a minute."""
    _talk()
    from scanwise.pipeline.demonstration import demo as show_demo

    shown = show_demo(out, seed=seed, device=device, threads=threads, progress=_progress())
    _print_summary(shown.run)
    click.echo(shown.text)
    _print_report(shown.run)


@cli.command()
@click.argument("recipe")
@click.option("--data", required=True, help="Folder of scans, CSV/TSV manifest, or a URL such as s3://bucket/scans.")
@click.option("--out", type=click.Path(path_type=Path), help="The run folder.  [default: runs/RECIPE]")
@click.option(
    "--subject", default="", help="Who is who: a manifest column, a CSV of path,subject, or a pattern over the path."
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change the recipe, such as train.epochs=3."
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--plan", is_flag=True, help="Print subjects per cell, time and disk, and stop.")
@_hiding
@_running
def fit(
    recipe: str,
    data: str,
    out: Path | None,
    subject: str,
    settings: tuple[str, ...],
    resume: bool,
    plan: bool,
    pseudonymise: bool,
    device: str,
    threads: int,
) -> None:
    """The main job: from a folder of scans to a report.

    RECIPE is the name of a shipped recipe (see `scanwise recipes`) or a YAML file.
    """
    _talk()
    from scanwise import pipeline

    options: dict[str, Any] = {"subject": subject, "settings": settings, "device": device, "threads": threads}
    options["pseudonymise"] = pseudonymise
    if plan:
        from scanwise.pipeline import planning

        _print_plan(planning.plan(pipeline.prepare(recipe, data=data, progress=_progress(), **options)))
        return
    folder = out or Path("runs") / Path(recipe).stem
    run = pipeline.fit(recipe, data=data, out=folder, resume=resume, progress=_progress(), **options)
    _print_summary(run)
    _print_report(run)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("scans", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="CSV/TSV with a column path, and subject, text or group columns.",
)
@click.option(
    "--subject", default="", help="Who is who, to pool by: a column, a CSV of path,subject, or a pattern over the path."
)
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option(
    "--by", type=click.Choice(["scan", "subject"]), default="scan", show_default=True, help="Rows of the CSV."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write to a file instead of the terminal.")
@_hiding
@_running
def predict(
    run: Path,
    scans: tuple[Path, ...],
    manifest: Path | None,
    subject: str,
    form: str,
    by: str,
    out: Path | None,
    pseudonymise: bool,
    device: str,
    threads: int,
) -> None:
    """Class, probabilities, prediction set and entropy of new scans.

    RUN is a run folder or a bundle; SCANS are image files or folders of them.
    """
    _talk()
    from scanwise import pipeline

    options: dict[str, Any] = {"device": device, "threads": threads, "pseudonymise": pseudonymise}
    answer = pipeline.predict(run, scans, manifest=manifest, subject=subject, progress=_progress(), **options)
    for path, reason in answer.quarantine:
        click.secho(f"not used: {path}: {reason}", fg="yellow", err=True)
    if form == "table" and out is None:
        _print_answer(answer)
        return
    text = _as_json(answer) if form == "json" else _as_csv(answer, by)
    if out is None:
        click.echo(text, nl=False)
    else:
        from scanwise.run import write_text

        write_text(text, out)


@cli.command()
@click.argument("data")
@click.option(
    "--subject",
    default="auto",
    show_default=True,
    help="Who is who: a column, a CSV of path,subject, a pattern, or auto: recovered from the pixels.",
)
@click.option(
    "--out", default="audit", type=click.Path(path_type=Path), show_default=True, help="Folder for page and findings."
)
@click.option("--fix", type=click.Path(path_type=Path), help="Write a manifest without copies, with a safe split.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True)
@_hiding
def audit(data: str, subject: str, out: Path, fix: Path | None, as_json: bool, seed: int, pseudonymise: bool) -> None:
    """Say what scans give away before anything is trained.

    DATA is a folder of scans, a manifest, or a URL. Exit code: 0 clean, 1 something leaks, 2 bad input, 3 could not be
    judged because nobody knows who is who.
    """
    _talk(logging.WARNING if as_json else logging.INFO)
    from scanwise.pipeline import auditing

    found = auditing.examine(data, subject=subject, seed=seed, pseudonymise=pseudonymise, progress=_progress())
    page = auditing.write(found, out)
    fixed = auditing.fix(found, fix) if fix else None
    if as_json:
        click.echo((out / "findings.json").read_text(encoding="utf-8"), nl=False)
    else:
        _print_audit(found)
        if fixed:
            click.echo(f"manifest: {click.style(str(fix), bold=True)} ({fixed})")
        click.echo(f"page: {click.style(str(page), bold=True)}")
    sys.exit(found.exit_code)


@cli.command()
@click.argument("data")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--per-scan", type=click.IntRange(1), help="Copies of every scan.")
@click.option("--per-class", type=click.IntRange(1), help="Copies of each class, so that small ones grow most.")
@click.option("--subject", default="auto", show_default=True, help="Who is who, as in `audit`.")
@click.option("--like", default="alexnet-gray", show_default=True, help="The recipe whose train.augment is applied.")
@click.option("--size", default=224, type=click.IntRange(16, 1024), show_default=True, help="Side of the images.")
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True)
def augment(
    data: str, out: Path, per_scan: int | None, per_class: int | None, subject: str, like: str, size: int, seed: int
) -> None:
    """Write augmented copies that carry their origin's subject.

    So a split by subject can never part a copy from its origin.
    """
    if (per_scan is None) == (per_class is None):
        raise click.UsageError("Say how many copies: --per-scan or --per-class, one of the two.")
    _talk()
    from scanwise.pipeline import augmenting

    plan = augmenting.Plan(per_scan or 0, per_class or 0)
    options: dict[str, Any] = {"subject": subject, "like": like, "size": size, "seed": seed}
    click.echo(f"manifest: {augmenting.augment(data, out, plan, progress=_progress(), **options)}")


def _npz(name: str) -> Callable[[F], F]:
    return click.argument(name, type=click.Path(dir_okay=False, exists=True, path_type=Path))


def _file(name: str, told: str, **options: Any) -> Callable[[F], F]:
    return click.option(name, type=click.Path(dir_okay=False, path_type=Path), help=told, **options)


@cli.command()
@_npz("valid")
@_file("--out", "The calibrator, as JSON.", required=True)
@click.option(
    "--method", type=click.Choice(["temperature", "vector", "isotonic"]), default="temperature", show_default=True
)
@click.option("--subject-level", is_flag=True, help="Pool the scans of each subject first.")
def calibrate(valid: Path, out: Path, method: str, subject_level: bool) -> None:
    """Learn how sure a network may be, from validation logits.

    VALID is an npz of logits (N, C) and labels (N,); and subjects (N,), where people have several scans.
    """
    from scanwise.pipeline import logits

    made = logits.calibrate(valid, out, method=method, by_subject=subject_level)
    table = _table("Subjects held out, five folds", ["", "without", f"with {method}"])
    for name, before, after in made.figures:
        table.add_row(name, f"{before:.4f}", f"{after:.4f}")
    _console().print(table)
    _note(made.notes)
    click.echo(f"calibrator: {click.style(str(out), bold=True)}")


@cli.command()
@_npz("known")
@_npz("test")
@_file("--out", "The sets (N, C), with scans, subjects, labels and classes, as npz.", required=True)
@click.option(
    "--score", type=click.Choice(["lac", "aps", "raps", "saps", "ordinal"]), default="raps", show_default=True
)
@click.option("--alpha", type=float, default=0.1, show_default=True, help="The share that may be missed.")
@click.option("--by", default="", metavar="class|COLUMN", help="Coverage in each class, or each value of a column.")
@click.option("--subject-level", is_flag=True, help="Pool the scans of each subject first.")
@_file("--calibrator", "What `scanwise calibrate` wrote; without it, the softmax.")
@_file("--tune", "Logits of validation subjects, to choose lambda and k_reg of raps, or lambda of saps, on.")
def conformal(
    known: Path,
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

    KNOWN and TEST are npz files of logits (N, C) and labels (N,), which TEST may lack; and subjects (N,), where people
    have several scans. Thresholds are learnt on KNOWN, sets made of TEST.
    """
    from scanwise.pipeline import logits

    made = logits.conform(
        known, test, out, score=score, alpha=alpha, by=by, by_subject=subject_level, calibrator=calibrator, tune=tune
    )
    click.echo(f"Promised: {made.promise}.\n")
    _console().print(_coverage_table("Coverage", made.lines, subject_level, True))
    click.echo()
    _console().print(_coverage_table("By the number of classes in the set", made.sizes, subject_level, False))
    click.echo("\nWhat the promise rests on:")
    for line in made.alike:
        click.echo(f"  {line}")
    _note(made.notes)
    click.echo(f"sets: {click.style(str(out), bold=True)}")


def _coverage_table(title: str, lines: "list[Line]", by_subject: bool, expected: bool) -> Any:
    headings = ["subjects"] if by_subject else ["subjects", "scans"]
    table = _table(title, ["", *headings, "coverage", "95 %", *(["expected"] if expected else []), "mean size"])
    for line in lines:
        counts = [f"{line.subjects}", f"{line.scans}"][: len(headings)]
        bands = [_percent(*line.band)] if expected else []
        table.add_row(line.name, *counts, _percent(line.coverage), _percent(*line.interval), *bands, f"{line.size:.2f}")
    return table


def _percent(*shares: float) -> str:
    """A share, or two ends of an interval, in per cent; nothing where it is not known."""
    return "" if shares[0] != shares[0] else "–".join(f"{100 * share:.1f}" for share in shares)


def _note(notes: Iterable[str]) -> None:
    for note in notes:
        click.secho(f"note: {note}", fg="yellow", err=True)


@cli.command()
@click.argument("data")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A .csv, .tsv, .parquet or .xlsx file.")
@click.option(
    "--subject", default="", help="Who is who: a column, a table of path,subject, or a pattern over the path."
)
@click.option("--recipe", default="", help="The recipe that says how volumes are cut into slices.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change it, such as data.axis=coronal.")
@_hiding
def cohort(data: str, out: Path, subject: str, recipe: str, settings: tuple[str, ...], pseudonymise: bool) -> None:
    """Write the manifest that scanwise understood.

    Edit it and feed it back with --data. Pixels are not read; what cannot be listed is named beside it.
    """
    _talk()
    from scanwise.pipeline import intake

    written = intake.write_manifest(
        data, out, source=recipe, settings=settings, subject=subject, pseudonymise=pseudonymise, progress=_progress()
    )
    _note(written.scans.remarks)
    click.echo(written.summary)
    if written.quarantine is not None:
        click.secho(f"not listed: {len(written.scans.unused)} files, see {written.quarantine}", fg="yellow", err=True)
    click.echo(f"manifest: {click.style(str(written.manifest), bold=True)}")


@cli.command()
@click.argument("handle")
@click.option("--out", type=click.Path(path_type=Path), help="Copy it to a new folder.  [default: kagglehub's cache]")
@click.option("--anew", is_flag=True, help="Ask for the newest version even if the cache has one.")
def fetch(handle: str, out: Path | None, anew: bool) -> None:
    """Fetch a data set of Kaggle, OWNER/NAME, and print its folder."""
    from scanwise.cohort import download

    click.echo(download.fetch(handle, out, anew=anew))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Write a run's report again, from what lies in its folder."""
    from scanwise.reporting import html
    from scanwise.run import Run

    click.echo(html.write(Run.open(run)))


@cli.group(invoke_without_command=True)
@click.pass_context
def recipes(context: click.Context) -> None:
    """List the shipped recipes."""
    if context.invoked_subcommand:
        return
    from scanwise import recipe

    for name in recipe.shipped():
        made = recipe.load(name)
        click.echo(f"{click.style(name, bold=True):<34} {made.title}")
    click.echo("\nPrint one with `scanwise recipes show NAME`, keep it as NAME.yaml, change it, and fit that file.")


@recipes.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a shipped recipe as it is, comments included."""
    from scanwise import recipe
    from scanwise.errors import lookup

    click.echo(lookup(recipe.shipped(), name, "recipe"), nl=False)


@recipes.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from scanwise import recipe

    click.echo(recipe.schema(), nl=False)


def _talk(level: int = logging.INFO) -> None:
    """Send what the stages say to the terminal."""
    log = logging.getLogger("scanwise")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(level)


def _progress() -> bool:
    return sys.stderr.isatty()


def _print_audit(found: "Audited") -> None:
    """The verdict and every finding, the gravest first."""
    from scanwise.reporting.audit import sort

    colours = {"leak": "red", "warning": "yellow", "note": "white"}
    table = _table("", ["", "check", "finding"])
    table.columns[1].justify = table.columns[2].justify = "left"
    table.columns[1].max_width = 22
    for one in sort(found.noted):
        severity, message = one.finding.severity, one.finding.message
        told = shorten(message, 150, placeholder=" …") if severity == "note" else message
        table.add_row(severity, one.finding.check, told, style=colours[severity])
    _console().print(table)
    click.echo()
    click.secho(found.verdict + ".", bold=True, fg="red" if found.exit_code == 1 else None)


def _print_plan(plan: Any) -> None:
    table = _table("subjects (scans) per cell", ["split", *plan.classes])
    for row in plan.cells:
        table.add_row(*row)
    _console().print(table)
    for line in plan.lines:
        click.echo(line)
    click.echo("Nothing was written. Run the command without --plan to start.")


def _print_summary(run: "Run") -> None:
    """How good, on whom, beside whom: one table a unit."""
    from scanwise import recipe
    from scanwise.records import Split, load_metrics

    confidence = recipe.load(run.recipe).evaluation.confidence
    leaked = {fit.protocol for fit in run.fits() if Split.load(fit.split).leaky}
    accuracies = [m for m in load_metrics(run.metrics) if (m.name, m.group, m.split) == ("accuracy", "", "test")]
    for unit in ("subject", "scan"):
        here = [m for m in accuracies if m.unit == unit]
        if not here:
            continue
        columns = _columns(here)
        headings = [
            f"{protocol}{', LEAKED' if protocol in leaked else ''}\n{count} {unit}s"
            for (protocol, _), count in columns.items()
        ]
        table = _table(f"Test accuracy by {unit} (with {100 * confidence:g} % interval)", ["", *headings])
        for model in dict.fromkeys(m.model for m in here):
            table.add_row(MODELS[model], *(_cell(here, model, column) for column in columns))
        _console().print(table)
        click.echo()


def _columns(metrics: "list[Metric]") -> dict[tuple[str, int], int]:
    """Protocol and fold to the number of units, honest first; of several folds, all of them together."""
    kinds = {(m.protocol, m.fold): m.count for m in sorted(metrics, key=lambda m: m.protocol)}
    pooled = {protocol for protocol, fold in kinds if fold < 0}
    return {kind: count for kind, count in kinds.items() if kind[1] < 0 or kind[0] not in pooled}


def _cell(metrics: "list[Metric]", model: str, column: tuple[str, int]) -> str:
    for m in metrics:
        if (m.model, m.protocol, m.fold) == (model, *column):
            interval = f" ({100 * m.low:.1f}–{100 * m.high:.1f})" if m.low == m.low else ""  # NaN: there is none
            return f"{100 * m.value:.1f} %{interval}"
    return ""


def _print_answer(answer: "Answer") -> None:
    if answer.subjects is not None:
        _console().print(_answer_table(answer.subjects, "subject"))
    _console().print(_answer_table(answer.scans, "scan"))


def _answer_table(predictions: "Predictions", unit: str) -> Any:
    table = _table("", [unit, "class", "prob.", "prediction set", "entropy", "ood", "look"])
    table.columns[3].min_width = min(24, 1 + max(map(len, predictions.classes)))  # a class name is not broken
    table.columns[0].justify = table.columns[1].justify = table.columns[3].justify = "left"
    names = predictions.subjects if unit == "subject" else predictions.scans
    deferred = [False] * len(predictions) if predictions.deferred is None else predictions.deferred.tolist()
    for row, best in enumerate(predictions.predicted):
        named = "none"
        if predictions.sets is not None:
            inside = [n for n, within in zip(predictions.classes, predictions.sets[row], strict=True) if within]
            named = ", ".join(inside) or "(empty)"
        table.add_row(
            _shorten(str(names[row])),
            predictions.classes[best],
            f"{predictions.probs[row, best]:.3f}",
            named,
            f"{predictions.entropy[row]:.2f}",
            _strangeness(predictions, row),
            "yes" if predictions.abstain[row] or deferred[row] else "",
        )
    if predictions.sets is None:
        table.caption = "none: this run has no honest protocol, so no prediction set and no guarantee"
    elif predictions.abstain.any() or any(deferred):
        unsure = ", or is too unsure for the error allowed" if any(deferred) else ""
        table.caption = f"look: the set does not name exactly one class{unsure}, so a person must look"
    if predictions.ood_flag is not None and predictions.ood_flag.any():
        table.caption = f"{table.caption}\nood: marked ! it is unlike the training scans, and its set promises nothing"
    return table


def _strangeness(predictions: "Predictions", row: int) -> str:
    if predictions.ood is None or predictions.ood_flag is None:
        return ""
    return f"{min(predictions.ood[row], 99):.1f}{'!' if predictions.ood_flag[row] else ' '}"


def _shorten(name: str, most: int = 32) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]


def _as_json(answer: "Answer") -> str:
    import json

    told = {
        "scans": answer.scans.rows(),
        "subjects": [] if answer.subjects is None else answer.subjects.rows(),
        "quarantine": [{"path": path, "reason": reason} for path, reason in answer.quarantine],
    }
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _as_csv(answer: "Answer", by: str) -> str:
    import csv
    import io

    chosen = answer.subjects if by == "subject" else answer.scans
    if chosen is None:
        raise DataError("--by subject needs to know who is who: give --subject, or a manifest with that column.")
    stream = io.StringIO()
    rows = chosen.rows()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _print_report(run: "Run") -> None:
    click.echo(f"report: {click.style(str(run.report), bold=True)}")


def _table(title: str, headings: list[str]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(
        title=title or None,
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title_justify="left",
        title_style="bold",
        caption_justify="left",
    )
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _console() -> Any:
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False)  # names of files and classes are not markup
