"""A believable run folder, synthesised in a moment: what the pipeline would have left behind."""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from scanwise import evaluation, recipe
from scanwise.conformal import ConformalSets
from scanwise.csv_files import write_table
from scanwise.records import Cohort, Finding, Logits, Metric, Predictions, Split, Unit, save_findings, save_metrics
from scanwise.reporting import case_pictures, checksums, figures, legacy_tables, scan_sheets, svg, tables
from scanwise.reporting import report as report_page
from scanwise.run import RunFolder, save, write_json, write_text

CLASSES = ("nondemented", "verymilddemented", "milddemented", "moderatedemented")
SUBJECTS = (80, 62, 26, 2)
SLICES = 4
TITLES = {
    "nondemented": ("Cognitively Normal", "no cognitive impairment detected", 0),
    "verymilddemented": ("Very Mild Dementia", "questionable, very mild decline", 0.5),
    "milddemented": ("Mild Dementia", "clear functional impairment", 1),
    "moderatedemented": ("Moderate Dementia", "needs substantial care", 2),
}
SHARES = {"train": 0.45, "validation": 0.15, "calibration": 0.2, "test": 0.2}


@dataclass(frozen=True)
class Wish:
    """What the run should be like."""

    classes: tuple[str, ...] = CLASSES
    subjects: tuple[int, ...] = SUBJECTS
    not_evaluable: tuple[str, ...] = ("moderatedemented",)
    known: bool = True
    published: bool = True
    leaky: bool = True
    folds: int = 1
    skill: float = 1.6
    quarantine: tuple[tuple[str, str], ...] = (
        ("Mild/broken.png", "the file is truncated"),
        ("notes.txt", "not an image"),
    )
    paths: str = "{name}/s{subject:03d}_{slice}.png"
    stages: bool = True


Make = Callable[..., RunFolder]


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Give a run folder as wished; equal wishes share one."""
    made: dict[Wish, RunFolder] = {}

    def make(**wishes: object) -> RunFolder:
        wish = Wish(**wishes)  # type: ignore[arg-type]
        if wish not in made:
            made[wish] = synthesise(tmp_path_factory.mktemp("runs") / "alexnet", wish)
        return made[wish]

    return make


@pytest.fixture(scope="session")
def page_of(make_run: Make) -> Callable[..., str]:
    """Give the report of a run as wished; equal wishes share one, drawn or not."""
    made: dict[tuple[Path, object], str] = {}

    def build(**wishes: object) -> str:
        run = make_run(**wishes)
        key = run.path, svg.new_figure
        if key not in made:
            made[key] = report_page.build_report(run)
        return made[key]

    return build


def synthesise(path: Path, wish: Wish) -> RunFolder:
    """Write the whole folder but the report."""
    rng = np.random.default_rng(7)
    run = RunFolder.create(path)
    write_text(_recipe(wish).to_yaml(), run.recipe)
    cohort = _cohort(wish)
    save(cohort, run.cohort)
    save_findings(_findings(wish), _ready(run.findings))
    with run.quarantine.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "reason"), *wish.quarantine])
    write_json(_provenance(cohort), run.provenance)
    metrics: list[Metric] = []
    for protocol in ("honest", "published") if wish.published else ("honest",):
        metrics += _protocol(run, cohort, wish, protocol, rng)
    save_metrics(metrics, _ready(run.metrics))
    tables.write_overview_tables(run)
    legacy_tables.write_breakdowns(run)
    images = np.stack([_slice(rng, index) for index in range(2 * len(wish.classes))])
    _ready(run.figures / "scans.png").write_bytes(
        figures.draw_montage(images, [n for n in wish.classes for _ in range(2)])
    )
    checksums.write_checksums(run)
    return run


def _recipe(wish: Wish) -> recipe.Recipe:
    stages = {
        name: recipe.ClassDescription(title=title, description=about, cdr=cdr)
        for name, (title, about, cdr) in TITLES.items()
        if wish.stages and name in wish.classes
    }
    protocols = ("honest", "published") if wish.published else ("honest",)
    split = recipe.SplitSection(protocols=protocols, folds=wish.folds)
    title = "Dementia stages from one brain slice"
    return recipe.Recipe(name="alexnet-gray", title=title, stages=stages, split=split, seed=3)


def _cohort(wish: Wish) -> Cohort:
    rows = [
        (wish.paths.format(name=name, subject=100 * index + person, slice=part), index, f"{name[:4]}{person:03d}")
        for index, name in enumerate(wish.classes)
        for person in range(wish.subjects[index])
        for part in range(SLICES)
    ]
    path, labels, subject = (np.array(column) for column in zip(*rows, strict=True))
    hashes = np.array([f"{row:064x}" for row in range(len(rows))])
    site = np.array([("north", "south")[row % 2] for row in range(len(rows))])
    return Cohort(
        "data/alzheimer", path, labels, wish.classes, True, subject if wish.known else path,
        "table subjects.csv" if wish.known else "", hashes, hashes, {"site": site},
    )  # fmt: skip


def _protocol(run: RunFolder, cohort: Cohort, wish: Wish, protocol: str, rng: np.random.Generator) -> list[Metric]:
    """The fits, logits, tables and metrics of one protocol."""
    folds = wish.folds if protocol == "honest" else 1
    parts: dict[str, list[tuple[Predictions, Predictions]]] = {}
    metrics: list[Metric] = []
    for fold in range(folds):
        split = _split(cohort, wish, protocol, fold, rng)
        fit = run.fit(protocol, fold)
        save(split, fit.split)
        _history(fit.history, rng)
        skills = {"network": wish.skill, "majority": 0.0, "nearest_neighbour": 0.5, "pca_logistic": 1.1}
        if protocol == "published":
            skills |= {"network": 5.0, "nearest_neighbour": 14.0}
        for model, skill in skills.items():
            logits = _logits(cohort, split, "test", skill, rng)
            if model == "network":
                save(logits, fit.logits("test"))
            sets = model == "network" and protocol == "honest"
            said = _predictions(logits, sets), _predictions(_pool(logits), sets)
            parts.setdefault(model, []).append(said)
            metrics += _measure(said, parts["network"][-1], model, protocol, fold, wish.known)
        if protocol == "honest":
            write_json({unit: {"temperature": 1.43} for unit in ("scan", "subject")}, fit.calibrator)
            write_json(
                {
                    "scan": ConformalSets("lac", 0.1, 0.93, guarantee="random scan of a new subject").to_dict(),
                    "subject": ConformalSets("lac", 0.1, 0.93, guarantee="new subject").to_dict(),
                },
                fit.conformal,
            )
    joined = {model: (_join([a for a, _ in said]), _join([b for _, b in said])) for model, said in parts.items()}
    if folds > 1:
        for model, said in joined.items():
            metrics += _measure(said, joined["network"], model, protocol, -1, wish.known)
    tables.write_prediction_tables(run, protocol, joined["network"][0], joined["network"][1] if wish.known else None)
    legacy_tables.write_legacy_tables(run, "alexnet-gray", protocol, joined["network"][0])
    if protocol == "honest":
        metrics += _groups_and_points(run, joined["network"], folds, wish.known)
    return metrics


def _groups_and_points(run: RunFolder, said: tuple[Predictions, Predictions], folds: int, known: bool) -> list[Metric]:
    """Figures of each site, cuts and their worth, and the surest mistakes."""
    fold = 0 if folds == 1 else -1
    units = said if known else said[:1]
    found = [replace(m, protocol="honest", fold=fold) for part in units for m in evaluation.break_down(part, draws=100)]
    tried = [row for part in units for row in evaluation.transfer_thresholds(part, part, draws=100)]
    chosen = [{"fold": k, **row, "threshold": row["threshold"] * (1 - 0.1 * k)} for k in range(folds) for row in tried]
    if folds > 1:
        chosen += [{"fold": -1, **row, "threshold": float("nan")} for row in tried]
    curves = []
    for part in units:
        curve = evaluation.decision_curve(part, 1)
        shared = {"unit": part.unit, "class": part.classes[1]}
        curves += [{**shared, **{k: float(v[row]) for k, v in curve.items()}} for row in range(99)]
    legacy_tables.write_operating_point_tables(run, chosen, curves)
    names = said[0].classes
    lines = [(f"a/{row}.png", f"p{row}", names[0], names[1], 0.97, 0.01) for row in range(5)]
    header = ("path", "subject", "label", "predicted", "probability", "probability_of_label")
    write_table(header, lines, run.tables / "failures.csv")
    images = np.stack([_slice(np.random.default_rng(row), row) for row in range(5)])
    captions = tuple(f"truly {truly}, called {called}" for _, _, truly, called, *_ in lines)
    _ready(run.figures / "failures.png").write_bytes(scan_sheets.draw_gallery(images, captions))
    cases = case_pictures.choose_cases(units[-1], said[0])
    write_table(case_pictures.CASE_COLUMNS, cases, run.tables / "cases.csv")
    if cases:
        drawn = np.stack([_slice(np.random.default_rng(row), row) for row in range(len(cases))])
        _ready(run.figures / "cases.png").write_bytes(case_pictures.draw_case_sheet(drawn))
    return found


def _split(cohort: Cohort, wish: Wish, protocol: str, fold: int, rng: np.random.Generator) -> Split:
    unfit = {n: k for n, k in zip(wish.classes, wish.subjects, strict=True) if n in wish.not_evaluable}
    side = np.full(len(cohort), "train", dtype="<U11")
    for index, name in enumerate(wish.classes):
        if protocol == "honest" and name in unfit:
            continue
        of_class = cohort.labels == index
        keys = cohort.path if protocol == "published" else cohort.subject
        names = (rng if wish.folds == 1 else np.random.default_rng(index)).permutation(np.unique(keys[of_class]))
        if wish.folds > 1:  # each subject is tested in one fold
            tested = np.array_split(names, wish.folds)[fold]
            side[of_class & np.isin(keys, tested)] = "test"
            others = np.setdiff1d(names, tested)[: len(names) // 2]
            side[of_class & np.isin(keys, others[::2])] = "calibration"
            side[of_class & np.isin(keys, others[1::2])] = "validation"
            continue
        ends = np.cumsum([round(share * len(names)) for share in SHARES.values()])[:-1]
        for which, group in zip(SHARES, np.split(names, ends), strict=True):
            side[of_class & np.isin(keys, group)] = which
    if protocol == "published":
        side[side == "calibration"] = "train"
        return Split(side, protocol, fold, "at random by scan, 0.7/0.15/0.15", wish.leaky)
    return Split(side, protocol, fold, "by subject, stratified by class", False, unfit)


def _logits(cohort: Cohort, split: Split, side: str, skill: float, rng: np.random.Generator) -> Logits:
    here = cohort.take(split.rows(side))
    num_classes = len(cohort.classes)
    _, person = np.unique(here.subject, return_inverse=True)
    anatomy = rng.normal(size=(person.max() + 1, num_classes))[person]
    values = anatomy + 0.5 * rng.normal(size=(len(here), num_classes)) - 0.6 * np.arange(num_classes)
    values[np.arange(len(here)), here.labels] += skill
    if skill == 0.0:
        values = np.tile(-np.arange(num_classes, dtype=float), (len(here), 1))
    return Logits(
        2 * values[:, None, :].astype(np.float32), here.labels, here.path, here.subject, here.classes, here.groups,
        split=side, protocol=split.protocol, fold=split.fold,
    )  # fmt: skip


def _pool(logits: Logits) -> Logits:
    names, first, codes = np.unique(logits.subjects, return_index=True, return_inverse=True)
    means = np.stack([logits.logits[codes == code].mean(axis=0) for code in range(len(names))])
    counts = np.bincount(codes)
    return replace(
        logits,
        logits=means,
        labels=logits.labels[first],
        scans=np.full(len(names), ""),
        scan_counts=counts,
        subjects=names,
        groups={},
    )


def _predictions(logits: Logits, sets: bool) -> Predictions:
    values = np.exp(logits.logits[:, 0].astype(np.float64) / 1.43)
    probs = values / values.sum(axis=1, keepdims=True)
    order = np.argsort(-probs, axis=1)
    before = np.take_along_axis(np.cumsum(np.take_along_axis(probs, order, 1), 1), np.argsort(order, axis=1), 1) - probs
    named = before < 0.93 if sets else None
    entropy = -(probs * np.log(probs)).sum(axis=1)
    abstain = named.sum(axis=1) != 1 if named is not None else np.zeros(len(probs), dtype=bool)
    unit: Unit = "scan" if logits.groups else "subject"
    return Predictions(
        logits.scans,
        logits.subjects,
        logits.classes,
        probs,
        named,
        entropy,
        abstain,
        logits.labels,
        logits.groups,
        unit,
        scan_counts=logits.scan_counts,
    )


def _join(parts: Sequence[Predictions]) -> Predictions:
    def rows(name: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None":
        columns = [getattr(part, name) for part in parts]
        return None if columns[0] is None else np.concatenate(columns)

    names = ("scans", "subjects", "probs", "sets", "entropy", "abstain", "labels", "scan_counts")
    groups = {name: np.concatenate([part.groups[name] for part in parts]) for name in parts[0].groups}
    return replace(parts[0], **{name: rows(name) for name in names}, groups=groups)


def _measure(
    said: tuple[Predictions, Predictions], mine: tuple[Predictions, Predictions], model: str, protocol: str, fold: int,
    known: bool,
) -> list[Metric]:  # fmt: skip
    """Figures with rough intervals; what matters here is that they are there, not that they are sharp."""
    found = []
    people = len(said[1])
    for predictions, network in zip(said, mine, strict=True):
        if predictions.unit == "subject" and not known:
            continue
        labels, right = predictions.labels, predictions.predicted == predictions.labels
        values = {"accuracy": float(right.mean())}
        present = np.unique(labels)
        values["balanced_accuracy"] = float(np.mean([right[labels == label].mean() for label in present]))
        values["macro_f1"] = values["balanced_accuracy"] - 0.012
        values["auroc"] = min(1.0, 0.5 + 0.52 * max(0.0, values["balanced_accuracy"] - 1 / len(present)))
        if protocol == "honest" and model == "network":
            inside = predictions.sets[np.arange(len(labels)), labels]
            values |= {"coverage": float(inside.mean()), "mean_set_size": float(predictions.sets.sum(axis=1).mean())}
            values |= {"ece": 0.0613, "nll": 0.9071, "brier": 0.5128}
        shared = {"unit": predictions.unit, "count": len(labels), "model": model, "protocol": protocol, "fold": fold}
        found += [Metric(name, value, *_around(name, value, people), **shared) for name, value in values.items()]
        if model != "network":
            gap = float((network.predicted == labels).mean() - right.mean())
            reach = 1.96 * math.sqrt(0.25 / people)
            found.append(Metric("accuracy difference", gap, gap - reach, gap + reach, **shared))
    return found


def _around(name: str, value: float, count: int) -> tuple[float, float]:
    if name in ("mean_set_size", "nll", "brier"):
        return value * 0.93, value * 1.06
    middle, reach = (value + 1.92 / count) / (1 + 3.84 / count), 1.96 / (1 + 3.84 / count)
    reach *= math.sqrt(max(0.0, value * (1 - value)) / count + 0.9604 / count**2)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _history(path: Path, rng: np.random.Generator) -> None:
    epochs = np.arange(1, 21)
    train = 0.3 + 1.1 * np.exp(-epochs / 7) + 0.01 * rng.normal(size=20)
    validation = 0.95 + 0.45 * np.exp(-epochs / 3) + 0.012 * epochs + 0.02 * rng.normal(size=20)
    score = 0.52 - 0.3 * np.exp(-epochs / 4) + 0.015 * rng.normal(size=20)
    names = ("epoch", "train_loss", "validation_loss", "validation_accuracy", "validation_macro_f1")
    with _ready(path).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "validation_balanced_accuracy", "lr", "seconds"])
        columns = (epochs.tolist(), train, validation, score + 0.06, score, score + 0.01, [1e-3] * 20, [4.2] * 20)
        writer.writerows(zip(*(list(map(float, column)) for column in columns), strict=True))


def _findings(wish: Wish) -> list[Finding]:
    found = [Finding("cohort.channels", "note", "All scans are gray; colour channels were merged.")]
    if wish.published and wish.leaky:
        text = "The published split has 168 subjects on two sides. Its figures are stamped leaked."
        found.append(Finding("split.subjects", "leak", text, ("a/1.png", "a/2.png", "b/1.png", "b/2.png")))
    return found


def _provenance(cohort: Cohort) -> dict[str, object]:
    packages = {"scanwise": "0.1.0", "torch": "2.10.0", "numpy": "2.4.6"}
    return {
        "environment": {
            "python": "3.11.9", "system": "Linux x86_64", "processors": 2, "packages": packages, "git_commit": "1a2b3c4d5e6f",
            "command": ["scanwise", "fit", "alexnet-gray", "--data", "s3://key:secret@bucket/scans", "--out", "runs/a"],
        },
        "device": "cpu", "threads": 2, "seed": 3,
        "data": {"source": "data/alzheimer", "scans": len(cohort), "sha256": "5f2c" * 16},
        "weights": "random start",
        "times": {"reading": 4.21, "training honest 0": 1325.0, "rivals honest 0": 61.4, "evaluation": 9.9},
        "started": "2026-11-20T09:12:44+00:00", "finished": "2026-11-20T09:37:02+00:00",
    }  # fmt: skip


def _slice(rng: np.random.Generator, index: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    radius = np.hypot(x / 0.72, y / 0.9)
    image = np.where(radius < 1, 150 - 60 * (radius > 0.82), 0).astype(float)
    image[np.hypot(x / (0.12 + 0.02 * index), y / 0.3) < 1] = 25
    return np.clip(image + 8 * rng.normal(size=image.shape) * (radius < 1), 0, 255).astype(np.uint8)[..., None]


def _ready(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
