"""New scans: predict."""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanwise.cli.arguments import check_model
from scanwise.cli.options import hiding, naming_model, running
from scanwise.cli.printing import (
    make_table,
    print_notes,
    print_table,
    progress,
    say,
    say_folded,
    say_json,
    say_table_text,
    talk,
)
from scanwise.errors import DataError
from scanwise.phrases import count_of, short_names

if TYPE_CHECKING:
    from scanwise.bundle import Bundle, BundlePredictions
    from scanwise.bundle.mapping import ShardMap
    from scanwise.dicom_results import ResultWriter
    from scanwise.records import Predictions

FORMS = {".csv": "csv", ".json": "json", ".parquet": "parquet"}
"""The form of a file by the end of its name."""


@click.command()
@click.argument("run")
@click.argument("scans", nargs=-1)
@click.option("--manifest", help="CSV/TSV or its URL, with a column path, and subject, text or group columns.")
@click.option(
    "--subject",
    default="",
    help="The subjects, to pool by: a column, a CSV of path,subject, or a pattern over the path.",
)
@click.option("--id", "ident", default="", help="The column of a patient table in --subject by which scans are found.")
@click.option("--series", default="", help="Series to use: a pattern over the description; localizers are left out.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option(
    "--by", type=click.Choice(["scan", "subject"]), default="scan", show_default=True, help="Rows of the CSV."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write a .csv, .json or typed .parquet file.")
@click.option(
    "--resume", is_flag=True, help="Go on with the shards that a prediction to --out left when it was stopped."
)
@click.option("--shard", type=click.IntRange(1), help="Scans between two saves, with --out (default: 1,000).")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Runs the shards of --out: this process, or workers of Ray.",
)
@click.option(
    "--workers", type=click.IntRange(1), default=None, help="Workers of Ray.  [default: one a core of the cluster]"
)
@click.option("--cluster", default="", help="HOST:PORT of a Ray cluster.  [default: one of this machine alone]")
@click.option("--plan", is_flag=True, help="Print memory, disk and time by a trial of a few scans, and stop.")
@click.option(
    "--dicom-out", type=click.Path(path_type=Path), help="Folder for DICOM and FHIR results, one for each study."
)
@click.option("--codes", type=click.Path(path_type=Path), help="YAML with the codes of the classes, for --dicom-out.")
@click.option("--parametric-map", is_flag=True, help="Give heatmaps as parametric maps too, for --dicom-out.")
@hiding
@naming_model
@running
def predict(
    run: str,
    scans: tuple[str, ...],
    manifest: str | None,
    subject: str,
    ident: str,
    series: str,
    form: str,
    by: str,
    out: Path | None,
    resume: bool,
    shard: int | None,
    engine: str,
    workers: int | None,
    cluster: str,
    plan: bool,
    dicom_out: Path | None,
    codes: Path | None,
    parametric_map: bool,
    pseudonymise: bool,
    registry: str,
    device: str,
    threads: int,
) -> None:
    """Class, probabilities, prediction set and entropy of new scans.

    RUN is a run folder or its URL, a bundle, an exported folder, NAME:VERSION of a registered model, or hf://OWNER/NAME; SCANS are image files, folders of them, one table with a column path, or URLs of these.
    """
    check_model(run)
    talk()
    from scanwise import bundle
    from scanwise.bundle.mapping import SHARD
    from scanwise.cohort.layouts import resolve_place
    from scanwise.pipeline.commands.predict_files import predict_files
    from scanwise.pipeline.model_reference import locate_model

    _check_results(dicom_out, codes, pseudonymise, maps=parametric_map)
    form = _form_of(out, form, resume)
    _check_engine(out, engine, workers, cluster)
    folder = locate_model(run, registry)
    loaded = bundle.load(folder)
    named = list(map(resolve_place, scans))
    table = manifest if manifest is None else resolve_place(manifest)
    if dicom_out is not None and any(isinstance(source, str) for source in [*named, table]):
        raise DataError("DICOM results need the files of the scans here. Copy them, or leave --dicom-out out.")
    options: dict[str, Any] = {"manifest": table, "subject": subject, "id_column": ident, "series": series}
    options |= {"pseudonymise": pseudonymise, "progress": progress()}
    size = shard or SHARD
    if plan:
        from scanwise.pipeline.commands.prediction_plan import plan_prediction

        planned = plan_prediction(loaded, named, shard=size, device=device, threads=threads, **options)
        for line in planned.lines(out, engine, workers or os.cpu_count() or 1):
            say_folded(line)
        say("Nothing was predicted or written. Run the command without --plan to start.")
        return
    writer = None if dicom_out is None else _result_writer(loaded, folder, codes, maps=parametric_map)
    placing = None if engine == "local" else (workers or 0, cluster)
    with _shards(out, folder, size, resume, placing) as shards:
        answer = predict_files(loaded, named, device=device, threads=threads, shards=shards, **options)
        print_notes(answer.remarks)
        for path, reason in answer.quarantine:
            say(f"not used: {path}: {reason}", fg="yellow", err=True)
        _give(answer, form, by, out)
        if writer is not None and dicom_out is not None:
            _write_results(writer, answer, dicom_out)


def _shards(
    out: Path | None, folder: Path, size: int, resume: bool, placing: tuple[int, str] | None
) -> "AbstractContextManager[ShardMap]":
    """The way to ask the network: with --out by shards on disk, here or by workers on a cluster."""
    from scanwise.bundle.contents import digest_of_model
    from scanwise.bundle.mapping import map_in_memory, map_shards
    from scanwise.bundle.shards import ShardEngine, keeping_shards

    if out is None:
        return nullcontext(map_in_memory)
    digest = digest_of_model(folder)
    engine: ShardEngine = map_shards
    if placing is not None:
        from scanwise.bundle.ray_engine import RayEngine

        engine = RayEngine(folder, digest, *placing)
    return keeping_shards(out, digest, size, resume=resume, engine=engine)


def _give(answer: "BundlePredictions", form: str, by: str, out: Path | None) -> None:
    """Print an answer, or write it."""
    if out is None and form == "table":
        _print_answer(answer)
    elif out is not None and form == "parquet":
        from scanwise.csv_files import write_typed_table

        rows = _rows(answer, by)
        write_typed_table(list(rows[0]), [tuple(row.values()) for row in rows], out)
    else:
        text = answer.to_json() if form == "json" else _as_csv(answer, by)
        if out is None:
            (say_json if form == "json" else say_table_text)(text)
        else:
            from scanwise.run import write_text

            write_text(text, out)
    if out is not None:
        say(_in_short(answer, out), err=True)


def _in_short(answer: "BundlePredictions", out: Path) -> str:
    """One line on what was written."""
    scans = answer.scans
    counts = [(int(scans.abstain.sum()), "to review")]
    if scans.ood_flag is not None:
        counts.append((int(scans.ood_flag.sum()), "unlike training"))
    counts.append((len(answer.quarantine), "not used"))
    some = ", ".join(f"{count:,} {what}" for count, what in counts if count)
    return f"{out}: {count_of(len(scans), 'scan')}{'; ' * bool(some)}{some}"


def _check_engine(out: Path | None, engine: str, workers: int | None, cluster: str) -> None:
    if engine == "ray" and out is None:
        raise DataError("--engine ray writes shards as they come; give --out too.")
    if engine == "local" and (workers is not None or cluster):
        raise DataError("--workers and --cluster are those of --engine ray; give it too.")


def _form_of(out: Path | None, form: str, resume: bool) -> str:
    """The form of an answer: the end of the name says it, or --format where that says nothing."""
    if out is None:
        if resume:
            raise DataError("--resume goes on with what a prediction to a file left; give --out too.")
        return form
    named = FORMS.get(out.suffix.casefold())
    if form == "table":
        if named is None:
            raise DataError(
                f"--out {out} does not say what to write: end its name in {', '.join(FORMS)}, or give --format."
            )
        return named
    if named not in (None, form):
        raise DataError(
            f"{out} would be {named}, and --format asks for {form}. Leave --format out, or name another file."
        )
    return form


def _check_results(dicom_out: Path | None, codes: Path | None, pseudonymise: bool, *, maps: bool) -> None:
    if maps and dicom_out is None:
        raise DataError("--parametric-map is a kind of DICOM result; give --dicom-out too.")
    if dicom_out is not None and dicom_out.exists() and not dicom_out.is_dir():
        raise DataError(f"--dicom-out {dicom_out} is a file; name a folder, new or of earlier results.")
    if codes is not None and dicom_out is None:
        raise DataError("--codes are the codes of DICOM results; give --dicom-out too.")
    if dicom_out is not None and pseudonymise:
        raise DataError("DICOM results stand in the person's study; --dicom-out cannot go with --pseudonymise.")


def _result_writer(loaded: "Bundle", path: Path, codes: Path | None, *, maps: bool) -> "ResultWriter":
    from scanwise.bundle.contents import digest_of_model
    from scanwise.dicom_results import ResultWriter
    from scanwise.dicom_results.codes import read_codes

    return ResultWriter.of(loaded, digest_of_model(path), None if codes is None else read_codes(codes), maps=maps)


def _write_results(writer: "ResultWriter", answer: "BundlePredictions", out: Path) -> None:
    results, refused = writer.write(answer, out)
    for name, reason in refused:
        say(f"no DICOM result: {name}: {reason}", fg="yellow", err=True)
    for note in {note: None for result in results for note in result.notes}:
        say(note, fg="yellow", err=True)
    say(f"{out}: {count_of(len(results), 'DICOM result')}, one for each study; research use only.", err=True)


def _print_answer(answer: "BundlePredictions") -> None:
    if answer.subjects is not None:
        print_table(_answer_table(answer.subjects, "subject"))
    print_table(_answer_table(answer.scans, "scan"))


def _answer_table(predictions: "Predictions", unit: str) -> Any:
    weight = [] if predictions.attention is None else ["weight"]
    table = make_table("", [unit, "class", "prob.", "prediction set", "entropy", "ood", "review", *weight])
    table.columns[3].min_width = min(24, 1 + max(map(len, predictions.classes)))  # a class name is not broken
    table.columns[0].justify = table.columns[1].justify = table.columns[3].justify = "left"
    names = predictions.subjects if unit == "subject" else predictions.scans
    deferred = [False] * len(predictions) if predictions.deferred is None else predictions.deferred.tolist()
    short = short_names([str(name) for name in names], 32)
    for row, best in enumerate(predictions.predicted):
        named = "none"
        if predictions.sets is not None:
            inside = [n for n, within in zip(predictions.classes, predictions.sets[row], strict=True) if within]
            named = ", ".join(inside) or "(empty)"
        table.add_row(
            short[row],
            predictions.classes[best],
            f"{predictions.probs[row, best]:.3f}",
            named,
            f"{predictions.entropy[row]:.2f}",
            _strangeness(predictions, row),
            "yes" if predictions.abstain[row] or deferred[row] else "",
            *([] if predictions.attention is None else [f"{100 * predictions.attention[row]:.0f} %"]),
        )
    if predictions.sets is None:
        table.caption = "none: this run has no honest protocol, so no prediction set and no guarantee"
    elif predictions.abstain.any() or any(deferred):
        unsure = ", or is too unsure for the error allowed" if any(deferred) else ""
        table.caption = f"review: more or fewer than one class is possible{unsure}; a person should look at the scan"
    if predictions.ood_flag is not None and predictions.ood_flag.any():
        table.caption = f"{table.caption}\nood: marked ! unlike training; its set has no guarantee"
    return table


def _strangeness(predictions: "Predictions", row: int) -> str:
    if predictions.ood is None or predictions.ood_flag is None:
        return ""
    return f"{min(predictions.ood[row], 99):.1f}{'!' if predictions.ood_flag[row] else ' '}"


def _as_csv(answer: "BundlePredictions", by: str) -> str:
    from scanwise.csv_files import format_csv

    rows = _rows(answer, by)
    return format_csv(list(rows[0]), [tuple(row.values()) for row in rows])


def _rows(answer: "BundlePredictions", by: str) -> list[dict[str, object]]:
    chosen = answer.subjects if by == "subject" else answer.scans
    if chosen is None:
        raise DataError("--by subject needs the subjects: give --subject, or a manifest with that column.")
    return chosen.rows()
