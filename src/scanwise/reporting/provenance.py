"""Findings of the checks, quarantined files, versions, times and files behind a report."""

import shlex
from collections.abc import Sequence
from typing import Any

from scanwise.baselines import BASELINES
from scanwise.phrases import printable
from scanwise.redaction import without_secrets
from scanwise.reporting.components import ReportTable
from scanwise.reporting.run_data import RunData
from scanwise.reporting.sections import ROWS_SHOWN
from scanwise.reporting.wording import counted, duration, listed
from scanwise.run import layout

WEIGHTS_KEY = "rivals.weights"

FILES = (
    (layout.RECIPE, "the recipe, with every default made explicit"),
    (layout.PROVENANCE, "versions, machine, seed, times and the hash of the data"),
    (layout.COHORT, "every scan that was used, with label, subject and hash"),
    (layout.QUARANTINE, "every file that was set aside, and why"),
    (layout.AUDIT_PAGE, "findings of the data checks, with pictures"),
    (layout.FINDINGS, "the same, to be read by programs"),
    (layout.METRICS, "every figure of this page, in full precision"),
    (layout.table_link(layout.SUMMARY_STATISTICS), "the same as a table"),
    (layout.table_link(layout.SELECTIVE), "how many are answered, for each allowed error rate"),
    (layout.table_link(layout.OUT_OF_DISTRIBUTION), "whether synthetic scans are flagged"),
    (layout.table_link(layout.PREDICTIONS), "the prediction for each test scan"),
    (layout.table_link(layout.PREDICTIONS_SUBJECT), "the prediction for each test subject"),
    (layout.table_link(layout.CLASSIFICATION_REPORT), "precision, sensitivity, specificity and F1 of each class"),
    (layout.table_link(layout.CONFUSION_MATRIX), "confusion matrix"),
    (layout.table_link(layout.BASELINES), "the network beside simple baselines"),
    (layout.table_link(layout.CLASS_DISTRIBUTION), "scans and subjects of each class in each part of the split"),
    (layout.table_link(layout.HISTORY), "every epoch of the training"),
    (
        layout.table_link(layout.OPERATING_POINTS),
        "thresholds chosen on validation subjects, and their rates on test subjects",
    ),
    (layout.table_link(layout.DECISION_CURVE), "net benefit at each threshold probability"),
    (layout.table_link(layout.FAILURES), "the most confident errors"),
    (
        layout.table_link(layout.PREDICTIONS, "published"),
        "the prediction for each test scan under the published protocol",
    ),
    (layout.figure_link(layout.SCANS_SHEET), "the sheet of example scans"),
    (layout.figure_link(layout.FAILURES_SHEET), "the sheet of the most confident errors"),
    (layout.figure_link(layout.CASES_SHEET), "small pictures of the cases in the confusion matrix"),
    (layout.table_link(layout.CASES), "whose pictures these are"),
    (layout.CHECKSUMS, "the hash of every file that this page is made from"),
)

WITH_THE_PAGE = (
    (layout.MODEL_CARD, "the same in short, as model hubs show it"),
    (layout.CHECKLISTS, "CLAIM 2024 and TRIPOD+AI, each item with the file that supports it"),
)
"""Written with the page itself, so listed whether or not they are there yet."""


def build_quarantine_table(contents: RunData) -> ReportTable | None:
    """The first files that were set aside, with the reason."""
    if not contents.quarantine:
        return None
    total = len(contents.quarantine)
    shown = f", the first {ROWS_SHOWN} of {total:,}" if total > ROWS_SHOWN else ""
    caption = f"Quarantine: {counted(total, 'file')} set aside{shown}"
    return ReportTable(caption, ("File", "Why"), contents.quarantine[:ROWS_SHOWN], layout.QUARANTINE)


def build_provenance_tables(contents: RunData) -> list[ReportTable]:
    """Command, versions and times of this run, to reproduce it."""
    manifest = contents.provenance
    environment: dict[str, Any] = manifest.get("environment", {})
    commit = str(environment.get("git_commit") or "")
    rows = [
        ("Command", _command(environment.get("command", []))),
        ("Recipe", f"{contents.recipe.name}: network {contents.recipe.model.name}"),
        ("Weights at the start", str(manifest.get("weights", "not recorded"))),
        ("Seed", str(manifest.get("seed", contents.recipe.seed))),
        ("Device", f"{manifest.get('device', 'not recorded')}, {counted(int(manifest.get('threads', 0)), 'thread')}"),
        ("System", f"{environment.get('system', 'not recorded')}, {environment.get('processors', '?')} processors"),
        ("Data hash (SHA-256)", str(manifest["data"].get("sha256", "not recorded"))),
        ("Git commit", commit or "none"),
        ("Started", str(manifest.get("started", "not recorded"))),
        ("Finished", str(manifest.get("finished", "not recorded"))),
    ]
    versions = [("Python", str(environment.get("python", "?"))), *environment.get("packages", {}).items()]
    spent = [(name.replace("_", " "), duration(float(seconds))) for name, seconds in manifest.get("times", {}).items()]
    report_tables = [
        ReportTable("How this run was made", ("What", "Value"), _clean(rows), layout.PROVENANCE),
        ReportTable("Versions", ("Software", "Version"), _clean(versions)),
        ReportTable("Time spent", ("Stage", "Time"), _clean(spent)),
    ]
    return [table for table in report_tables if table.rows]


def describe_missing_baselines(contents: RunData) -> str:
    """Baselines of the recipe that were not run, as a sentence; empty when none is missing."""
    run = {metric.model for metric in contents.numbers.metrics}
    absent = {"counts", "covariates"} | (
        set() if contents.recipe.model.reads_words else {"words"}
    )  # of no use here, and so not run
    names = [name for name in contents.recipe.rivals.names if BASELINES[name].needs not in absent]
    missing = [name for name in names if name not in run]
    if {BASELINES[name].needs for name in missing} == {"features"}:
        return f"The baseline on frozen features was left out: no pretrained weights were available (recipe key {WEIGHTS_KEY})."
    return (
        f"Not run, though the recipe names them: {listed([BASELINES[name].title for name in missing])}."
        if missing
        else ""
    )


POOLINGS = {
    "mean_logit": "the mean of their logits",
    "mean_prob": "the mean of their probabilities",
    "majority": "the majority of their answers",
}


def describe_pooling(contents: RunData) -> str:
    """Pooling of the scans of a subject, for the network and its baselines; empty where no subject is known."""
    if "honest" not in contents.protocols or contents.units("honest")[0] != "subject":
        return ""
    learnt = [str(part.get("subject", {}).get("pooling", "mean_logit")) for part in contents.learnt("calibrator")]
    rules = [POOLINGS.get(name, name) for name in dict.fromkeys(learnt or ["mean_logit"])]
    chosen = "chosen on validation subjects" if contents.recipe.evaluation.pooling == "auto" else "as the recipe says"
    if contents.recipe.model.by_subject:
        return _describe_bags(contents)
    return (
        f"A subject’s scans become one answer by {listed(rules, 'or')} for the network, {chosen}. For baselines it is always "
        "the mean of logits (for those on a few features, the mean of the features), because they give no validation predictions to "
        "choose by."
    )


def _describe_bags(contents: RunData) -> str:
    weights = "by gated attention" if contents.recipe.model.pool == "attention" else "all alike"
    return (
        f"The network was trained with one label a subject: the scans of a subject become one answer, weighted {weights}. There are "
        f"no figures by scan: a row of {layout.PREDICTIONS} says what the network would answer to that scan alone. For baselines the "
        "pooling is always the mean of logits, or of the features."
    )


def list_files(contents: RunData) -> list[tuple[str, str]]:
    """(path, what it holds) of the files that stand behind this page."""
    entries = [(path, about) for path, about in FILES if (contents.run.path / path).is_file()]
    patterns = {
        "breakdown_*.csv": "figures of each group of a column",
        "*_classification_results.csv": "a row a test image, under the names that the published projects used",
        "*_summary_statistics.csv": "the same project's summary in one row",
    }
    for pattern, about in patterns.items():
        entries += [(layout.table_link(path.name), about) for path in sorted(contents.run.tables.glob(pattern))]
    for fitted in contents.fits:
        fit_path = fitted.fit.path.relative_to(contents.run.path).as_posix()
        entries.append(
            (f"{fit_path}/", f"weights, split, history and logits of {fitted.split.protocol}, {contents.label(fitted)}")
        )
    entries += WITH_THE_PAGE
    return [*entries, ("bundle/", "the classifier itself, as “scanwise predict” loads it")]


def _command(words: Sequence[str]) -> str:
    return " ".join(without_secrets(shlex.quote(word)) for word in words) or "not recorded"


def _clean(rows: Sequence[tuple[Any, Any]]) -> tuple[tuple[str, ...], ...]:
    return tuple((printable(str(name)), printable(str(value))) for name, value in rows)
