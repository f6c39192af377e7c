"""The pages beside the report, each made in a moment of believable content."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from scanwise import evaluation
from scanwise.auditing.evidence import Histogram, IntervalChart, PairSheet, ScanSheet, make_finding
from scanwise.evaluation import comparison, shift
from scanwise.records import Finding, Predictions, load_metrics
from scanwise.reporting import audit_page, checklists, external_page, fold_page, tables
from scanwise.reporting import comparison_page as comparing
from scanwise.reporting import report as report_page
from scanwise.reporting.run_data import RunData
from scanwise.run import RunFolder

Make = Callable[..., RunFolder]
MANY = {
    "classes": tuple(f"kind {letter}" for letter in "abcdefg"),
    "subjects": (40, 30, 20, 20, 16, 14, 12),
    "not_evaluable": (),
    "stages": False,
    "published": False,
}


def audited(_: Make, folder: Path) -> Path:
    """An audit with a finding of each gravity, and a picture of each kind."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 24, 24), dtype=np.uint8)
    rows, three = np.arange(30).reshape(15, 2), np.array([0.5, 0.6, 0.7])
    found = [
        make_finding("copies", "leak", "Copies on two sides.", ("c.png",), PairSheet(rows, tuple(f"pair {i}" for i in range(15)))),
        make_finding("shortcut", "warning", "The border tells.", (), IntervalChart(("a", "b", "c"), three, three - 0.1, three + 0.1, "AUROC", 0.5)),
        make_finding("subjects", "note", "200 people.", (), Histogram({"nearest": np.linspace(0, 1, 50)}, "correlation", 0.9)),
        make_finding("blank", "note", "Two are blank.", ("a.png", "b.png"), ScanSheet(rows[:, 0], ("blank",) * 15)),
    ]  # fmt: skip
    return audit_page.write_audit_page(folder, found, pixels, "These scans leak", [("Scans", "40")])


def listed(make: Make, folder: Path) -> Path:
    """The checklists of a run."""
    shutil.copytree(make().path, folder / "run")
    run = RunFolder.open(folder / "run")
    checklists.write_checklists(run, RunData.of(run))
    return run.path / checklists.CHECKLISTS_FILE


def compared(make: Make, folder: Path) -> Path:
    """A run beside itself with some noise."""
    one = _said(make)
    noise = np.random.default_rng(1).dirichlet(np.ones(one.probs.shape[1]), len(one))
    said = {"network": one, "with noise": replace(one, probs=(one.probs + noise) / 2)}
    metrics = [
        replace(m, model=name)
        for name, part in said.items()
        for m in evaluation.measure_predictions(part, subjects=part.subjects, draws=50, by_class=False)
    ]
    gaps = evaluation.paired_difference(*said.values(), draws=50, model="network − with noise")
    spreads = {(m.model, m.name): (m.value, float("nan")) for m in metrics}
    ranks = [rank for name in ("accuracy", "nll") for rank in comparison.rank_classifiers(said, name, draws=50)]
    text = comparing.build_comparison_page(
        "subject",
        ["Few people."],
        dict.fromkeys(said, 1),
        metrics,
        spreads,
        gaps,
        comparison.pairwise_mcnemar_tests(said),
        ranks,
    )
    return _written(text, folder)


def folded(make: Make, folder: Path) -> Path:
    """A cross-validation with two candidates in each fold."""
    run = make(folds=3, published=False)
    by_subject, by_scan = (tables.read_predictions(run.tables / f"predictions{end}.csv") for end in ("_subject", ""))
    rows = [(k, f"candidate-{c}", f"seed={c}", "nll", "subject", 0.9 + c, c == 1) for k in range(3) for c in (1, 2)]
    metrics = load_metrics(run.metrics)
    return _written(fold_page.build_fold_page(by_subject, by_subject.classes, metrics, rows, "choose", by_scan), folder)


def judged_elsewhere(make: Make, folder: Path) -> Path:
    """External validation: the frozen run on other people."""
    said = _said(make, **MANY)
    measured = [
        *evaluation.measure_predictions(said, subjects=said.subjects, draws=50),
        *shift.calibration_intercepts_and_slopes(said, draws=50),
    ]
    drift = shift.measure_drift(said, said, draws=50)
    transport = evaluation.transfer_thresholds(said, said, draws=50)
    learnt = [
        {"subjects": n, "name": "nll", "mean": 0.5, "low": 0.4, "high": 0.6, "repeats": 20 if n else 1} for n in (0, 50)
    ]
    found = [Finding("external.few", "warning", "Only few."), Finding("external.copies", "note", "None is a copy.")]
    return _written(
        external_page.build_external_page("elsewhere", said, measured, measured, drift, learnt, transport, found, 0.1),
        folder,
    )


def reported(make: Make, folder: Path) -> Path:
    """The report of a run of seven classes, where much is folded away."""
    return _written(report_page.build_report(make(**MANY)), folder)


PAGES: dict[str, Callable[[Make, Path], Path]] = {
    "audit": audited,
    "checklists": listed,
    "comparison": compared,
    "cross-validation": folded,
    "external validation": judged_elsewhere,
    "report of many classes": reported,
}


def _said(make: Make, **wishes: object) -> Predictions:
    return tables.read_predictions(make(**wishes).tables / "predictions_subject.csv")


def _written(text: str, folder: Path) -> Path:
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    return path
