"""The order of the stages: from a folder of scans to a report. The one file a newcomer needs.

    read scans -> split -> train -> logits -> calibrate -> prediction sets -> compare with trivial rivals
               -> measure -> tables, bundle, report

Each stage reads and writes the run folder, and what a fit has already left there is not done again: a run that was
killed at any moment goes on, and deleting a stage's output is how to do it anew.
"""

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from scanwise import bundle, calibration, cohort, evaluation, recipe, risk, rivals, run
from scanwise.bundle import Judge
from scanwise.cohort import splits
from scanwise.cohort.readers import Pixels
from scanwise.cohort.store import Store
from scanwise.conformal import ConformalSets, draws_from
from scanwise.errors import RunError
from scanwise.recipe import Recipe
from scanwise.records import (
    SIDES,
    Cohort,
    Finding,
    FloatArray,
    IntArray,
    Logits,
    Metric,
    Predictions,
    Split,
    Unit,
    load_metrics,
    save_findings,
    save_metrics,
)
from scanwise.run import Fit, Run, spell_time

log = logging.getLogger("scanwise")

PLAIN: dict[Unit, Judge] = {  # no calibrator, no guarantee
    "scan": Judge(calibration.Temperature(1.0), None, "scan"),
    "subject": Judge(calibration.Temperature(1.0), None, "subject"),
}
POOLED = -1  # the fold number of figures over all folds together


@dataclass(frozen=True, slots=True)
class Work:
    """What all stages share: the values that were read, and how to run."""

    recipe: Recipe
    cohort: Cohort
    store: Store
    splits: tuple[Split, ...]
    findings: tuple[Finding, ...]
    quarantine: tuple[tuple[str, str], ...]
    source: str
    device: str = "cpu"
    progress: bool = False
    times: dict[str, float] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judged:
    """One model's answers on the test side of one fit."""

    model: str
    split: Split
    scans: Predictions
    subjects: Predictions


def fit(
    source: str | Path | Recipe,
    *,
    data: str | Path,
    out: str | Path,
    subject: str = "",
    settings: Iterable[str] = (),
    device: str = "auto",
    threads: int = 0,
    resume: bool = False,
    progress: bool = False,
) -> Run:
    """The main job: everything from a folder of scans to a report.

    Args:
        source: a shipped recipe's name, a YAML file, or a Recipe.
        data: folder, manifest, or fsspec URL.
        out: the run folder; must be new or empty unless `resume`.
        subject: manifest column, CSV of path,subject, or pattern over the path that tells who is who.
        settings: `a.b=value` laid over the recipe.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        threads: for the CPU; 0 leaves the choice to torch.
        resume: go on with the run in `out`.
        progress: show bars.

    Returns:
        the run folder; `scanwise.load(run.path)` predicts with it.

    Raises:
        ScanwiseError: with what happened and what to do.
    """
    started = datetime.now(UTC)
    _refuse_taken(Path(out), resume)
    work = prepare(
        source, data=data, subject=subject, settings=settings, device=device, threads=threads, progress=progress
    )
    _refuse_network(work, Path(out))
    folder = _open_run(work, Path(out), resume)
    for finding in work.findings:
        if finding.severity != "note":
            log.warning("%s: %s", finding.severity, finding.message)
    judged: list[Judged] = []
    for split in work.splits:
        judged += _fit_one(work, folder, split)
    with _timed(work, "evaluation"):
        metrics = _measure(work, judged)
        with run.writing(folder.metrics) as temporary:
            save_metrics(metrics, temporary)
    _write_bundle(work, folder)
    _write_provenance(work, folder, started)
    _report(work, folder, judged)
    return folder


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fit would do.

    Attributes:
        classes: headings of the cells.
        cells: a row a split and side: its name, then "subjects (scans)" of each class.
        lines: time and disk, in words.
    """

    classes: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]


def plan(work: Work) -> Plan:
    """Count the cells, time a few steps of the network on random pixels, and add up the disk; writes nothing."""
    from scanwise import training
    from scanwise.models import build

    made = work.recipe
    network = build(made.model, len(work.cohort.classes), made.data.channels)
    speed = training.time_steps(network, made, work.device)
    cells: list[tuple[str, ...]] = []
    seconds = 0.0
    for split in work.splits:
        counted = splits.counts(work.cohort, split)
        fold = f" {split.fold + 1}" if made.split.folds > 1 and split.protocol == "honest" else ""
        for side in SIDES:
            here = [f"{row['subjects']} ({row['scans']})" for row in counted if row["side"] == side]
            cells.append((f"{split.protocol}{fold} {side}", *here))
        learn, check = len(split.rows("train")), len(split.rows("validation"))
        rest = len(split.rows("calibration")) + len(split.rows("test")) + check
        seconds += made.train.epochs * (learn * speed.train + check * speed.predict) + rest * speed.predict
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    # best weights, weights and bundle count once each, a full checkpoint about three times (weights and two moments)
    kept = 3 + 3 * (1 + (made.train.epochs // made.train.checkpoint_every if made.train.checkpoint_every else 0))
    lines = (
        f"time: at most {spell_time(seconds)} on {work.device} for {len(work.splits)} fits of {made.train.epochs} epochs "
        f"({1 / speed.train:.0f} scans/s in training, measured now)",
        f"disk: {len(work.splits) * kept * size / 1e6:.0f} MB in the run folder, "
        f"{work.store.array.nbytes / 1e6:.0f} MB of decoded scans in the cache",
        *(f"{finding.severity}: {finding.message}" for finding in work.findings),
    )
    return Plan(work.cohort.classes, tuple(cells), lines)


def predict(
    place: Path,
    scans: Sequence[Path],
    *,
    manifest: Path | None = None,
    subject: str = "",
    device: str = "auto",
    threads: int = 0,
    progress: bool = False,
) -> bundle.Answer:
    """Answer for files, folders of files, or the rows of a manifest, with the bundle of a run.

    Raises:
        DataError: if there is nothing to predict, or nothing that can be read.
    """
    loaded = bundle.load(place)
    listing = cohort.layouts.unlabelled(scans, manifest, subject)
    return loaded.predict(
        [listing.root / path for path in listing.path.tolist()],
        None if listing.subject is None else listing.subject.tolist(),
        listing.groups,
        names=listing.path,
        device=_device(device, threads),
        progress=progress,
    )


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demonstration shows: its run, and the figures that only a planted truth can give."""

    run: Run
    text: str


def demo(out: Path, *, seed: int = 0, device: str = "auto", threads: int = 0, progress: bool = False) -> Demo:
    """Make a synthetic cohort in `out`, take it to a report, and set the result beside the planted truth.

    Raises:
        RunError: if `out` holds something else, or a demonstration with another seed.
    """
    from scanwise.cohort import phantom

    made = replace(phantom.DEMO, seed=seed)
    log.info("drawing %d scans of %d synthetic subjects", made.subjects * made.slices, made.subjects)
    phantom.write(out / "cohort", made, progress=progress)
    folder = fit(
        "demo",
        data=out / "cohort" / "scans",
        out=out / "run",
        subject=str(out / "cohort" / "truth.csv"),
        settings=[f"seed={seed}"],
        device=device,
        threads=threads,
        resume=True,  # a demonstration that is asked for again has nothing to ask
        progress=progress,
    )
    place = folder.fit("honest", 0)
    test, calibrated = (risk.pool_by_subject(Logits.load(place.logits(side))) for side in ("test", "calibration"))
    ceiling = phantom.ceiling(made, test.subjects.tolist())
    alpha = bundle.judges_of(place)["subject"].sets.alpha  # type: ignore[union-attr]
    low = risk.coverage_band(len(calibrated), len(test), alpha, 0.01)
    covered = next(
        m
        for m in load_metrics(folder.metrics)
        if (m.name, m.unit, m.group, m.model) == ("coverage", "subject", "", "network")
    )
    text = (
        f"An oracle that knows the planted truth reaches {100 * ceiling:.1f} % of the {len(test)} test subjects: the ceiling.\n"
        f"Prediction sets cover {100 * covered.value:.1f} % of them; {100 * (1 - alpha):.0f} % are promised, and by the exact "
        f"law 99 of 100 runs cover at least {100 * low:.1f} %."
    )
    return Demo(folder, text)


def prepare(
    source: str | Path | Recipe,
    *,
    data: str | Path,
    subject: str = "",
    settings: Iterable[str] = (),
    device: str = "auto",
    threads: int = 0,
    progress: bool = False,
) -> Work:
    """Read the recipe and the scans, settle the classes and make the splits; writes nothing but the cache.

    Raises:
        LeakageError: if an honest split leaks.
    """
    made = source if isinstance(source, Recipe) else recipe.load(source, settings)
    times: dict[str, float] = {}
    begun = time.perf_counter()
    intake = cohort.read(str(data), made, subject, progress=progress)
    made = _with_stages(made, intake.cohort.classes)
    known, rows, told = splits.settle_small_classes(intake.cohort, made.split)
    made_splits = splits.make(known, made.split, made.seed)
    findings = [*intake.findings, *(Finding("split.classes", "warning", text + ".") for text in told)]
    for split in made_splits:
        findings += [f for f in splits.check(known, split) if f not in findings]
    findings += _not_evaluable(made_splits)
    times["reading"] = time.perf_counter() - begun
    return Work(
        recipe=made,
        cohort=known,
        store=intake.store.take(rows),
        splits=tuple(made_splits),
        findings=tuple(findings),
        quarantine=intake.quarantine,
        source=str(data),
        device=_device(device, threads),
        progress=progress,
        times=times,
    )


def _with_stages(made: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe with the clinical titles of the classes that a known scale has and the recipe does not name itself."""
    known = {name: cohort.classes.STAGES[name] for name in names if name in cohort.classes.STAGES}
    return made.model_copy(update={"stages": {**known, **made.stages}})


def _not_evaluable(made: Sequence[Split]) -> list[Finding]:
    unfit = {name: count for split in made for name, count in split.not_evaluable.items()}
    return [
        Finding(
            "split.classes",
            "warning",
            f"{name} is not evaluable: {count} subjects cannot stand on every side. Its scans are kept in training; it has "
            "no test figures and stands under no guarantee. Merge or drop it with split.small_classes.",
        )
        for name, count in unfit.items()
    ]


def _device(device: str, threads: int) -> str:
    import torch

    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if device.split(":")[0] not in ("cpu", "cuda", "mps"):
            raise RunError(f"There is no device {device!r}; choose auto, cpu, cuda, cuda:1 or mps.")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RunError(f"The device {device!r} cannot be used here: {str(error).splitlines()[0]} Try cpu.") from error
    return device


def _refuse_taken(out: Path, resume: bool) -> None:
    """Say early that the folder is taken, before any work; make nothing yet."""
    if out.exists():
        Run.create(out, resume=resume)


def _refuse_network(work: Work, out: Path) -> None:
    """Build the network once before anything is written: its name, options or weights may be wrong."""
    if all(Run(out).fit(split.protocol, split.fold).model.is_file() for split in work.splits):
        return
    from scanwise.models import build

    build(work.recipe.model, len(work.cohort.classes), work.recipe.data.channels)


def _open_run(work: Work, out: Path, resume: bool) -> Run:
    """Make the run folder and write what is known before training."""
    folder = Run.create(out, resume=resume)
    text = work.recipe.to_yaml()
    if folder.recipe.is_file():
        _refuse_other(folder, work, text)
    run.write_text(text, folder.recipe)
    run.save(work.cohort, folder.cohort)
    with run.writing(folder.findings) as temporary:
        save_findings(work.findings, temporary)
    _write_quarantine(work, folder)
    for split in work.splits:
        run.save(split, folder.fit(split.protocol, split.fold).split)
    return folder


def _refuse_other(folder: Run, work: Work, text: str) -> None:
    """A run goes on only with the recipe and the scans that it began with."""
    if folder.recipe.read_text(encoding="utf-8") != text:
        before, now = _flat(recipe.load(folder.recipe).model_dump()), _flat(work.recipe.model_dump())
        changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        raise RunError(
            f"{folder.path} was begun with another recipe; it differs in {', '.join(changed[:5])}. "
            "Use that recipe again, or choose another --out."
        )
    if folder.cohort.is_file() and (other := _changed(Cohort.load(folder.cohort), work.cohort)):
        raise RunError(f"{folder.path} was begun with other {other}. Restore them, or choose another --out.")
    for split in work.splits:
        kept = folder.fit(split.protocol, split.fold).split
        if kept.is_file() and not np.array_equal(Split.load(kept).side, split.side):
            raise RunError(
                f"{folder.path} was begun with another {split.protocol} split: a scan that was learnt from could be "
                "tested now. Restore the split of the data, or choose another --out."
            )


def _changed(before: Cohort, now: Cohort) -> str:
    """What of the data is not as it was, in words; empty when all that matters is."""
    if _data_hash(before) == _data_hash(now):
        return ""
    if before.classes != now.classes:
        return "classes"
    if not np.array_equal(before.path, now.path):
        return f"scans ({len(before)} then, {len(now)} now)"
    parts = {"pixels": "sha256", "labels": "labels", "subjects": "subject"}
    return " and ".join(
        word for word, name in parts.items() if not np.array_equal(getattr(before, name), getattr(now, name))
    )


def _fit_one(work: Work, folder: Run, split: Split) -> list[Judged]:
    """Train, predict, calibrate and judge one fit, then its rivals; returns their answers on the test side."""
    place = folder.fit(split.protocol, split.fold)
    log.info("%s protocol: %s%s", split.protocol, split.rule, " (leaked)" if split.leaky else "")
    with _timed(work, f"training {split.protocol} {split.fold}"):
        _train(work, place, split)
    with _timed(work, f"prediction {split.protocol} {split.fold}"):
        _predict(work, place, split)
    if split.protocol == "honest":
        _calibrate(work, place)
    test = Logits.load(place.logits("test"))
    judged = bundle.judge_both(bundle.judges_of(place), test, bundle.hashes_of_scans(work.cohort, test.scans))
    with _timed(work, f"rivals {split.protocol} {split.fold}"):
        return [Judged("network", split, *judged), *_rivals(work, split, test)]


def _train(work: Work, place: Fit, split: Split) -> None:
    if place.model.is_file():
        return
    for side in SIDES:  # of a network that is gone; a retrained one speaks for itself
        place.logits(side).unlink(missing_ok=True)
    import torch

    from scanwise import training
    from scanwise.models import build

    made = work.recipe
    torch.manual_seed(made.seed)
    network = build(made.model, len(work.cohort.classes), made.data.channels)
    sides = {side: split.rows(side) for side in SIDES}
    training.train(
        network, made, work.store, work.cohort.labels, sides, place, device=work.device, progress=work.progress
    )


def _predict(work: Work, place: Fit, split: Split) -> None:
    """Logits of every side that judges; the training side's are of no use to anyone."""
    missing = [side for side in SIDES[1:] if len(split.rows(side)) and not place.logits(side).is_file()]
    if not missing:
        return
    from scanwise import prediction
    from scanwise.models import build, weights

    network = build(work.recipe.model, len(work.cohort.classes), work.recipe.data.channels, pretrained=False)
    weights.load(network, place.model)
    for side in missing:
        rows = split.rows(side)
        here = work.cohort.take(rows)
        logits, features = prediction.predict(network, work.store, rows, device=work.device, progress=work.progress)
        record = Logits(
            logits=logits,
            labels=here.labels,
            scans=here.path,
            subjects=here.subject,
            classes=here.classes,
            groups=here.groups,
            features=features,
            split=side,
            protocol=split.protocol,
            fold=split.fold,
        )
        run.save(record, place.logits(side))


def _calibrate(work: Work, place: Fit) -> None:
    """Temperature and the score's tuning from validation subjects, thresholds from calibration subjects."""
    sides = {side: Logits.load(place.logits(side)) for side in ("validation", "calibration")}
    section = work.recipe.conformal
    calibrators: dict[str, Any] = {}
    sets: dict[str, Any] = {}
    for unit in ("scan", "subject"):
        units = {side: logits if unit == "scan" else risk.pool_by_subject(logits) for side, logits in sides.items()}
        check = units["validation"]
        calibrator: calibration.Calibrator = calibration.Temperature(1.0)
        if work.recipe.calibration.method == "temperature":
            calibrator = calibration.Temperature.fit(check.logits, check.labels, check.subjects)
        probs = {side: calibrator(logits.logits) for side, logits in units.items()}
        draws = {side: _draws(work, sides[side], units[side]) for side in sides}
        penalty, k_reg = section.penalty, section.k_reg
        if section.score == "raps" and "auto" in (penalty, k_reg):
            tuned = ConformalSets.tune(
                probs["validation"], check.labels, alpha=section.alpha, score=section.score,
                subjects=check.subjects, draws=draws["validation"],
            )  # fmt: skip
            penalty, k_reg = (tuned[0] if penalty == "auto" else penalty), (tuned[1] if k_reg == "auto" else k_reg)
        known = units["calibration"]
        fitted = ConformalSets.fit(
            probs["calibration"],
            known.labels,
            alpha=section.alpha,
            score=section.score,
            penalty=0.0 if penalty == "auto" else penalty,
            k_reg=0 if k_reg == "auto" else k_reg,
            subjects=known.subjects,
            draws=draws["calibration"],
        )
        calibrators[unit], sets[unit] = calibrator.to_dict(), fitted.to_dict()
    run.write_json(calibrators, place.calibrator)
    run.write_json(sets, place.conformal)


def _draws(work: Work, scans: Logits, units: Logits) -> FloatArray | None:
    """The random numbers of randomised scores, from the content of each unit; LAC needs none."""
    if work.recipe.conformal.score == "lac":
        return None
    hashes = bundle.hashes_of_scans(work.cohort, scans.scans)
    return draws_from(hashes if units is scans else bundle.hashes_of_subjects(units.subjects, scans, hashes))


def _rivals(work: Work, split: Split, test: Logits) -> list[Judged]:
    """The trivial classifiers on the same split."""
    train, rows = split.rows("train"), split.rows("test")
    labels, subjects = work.cohort.labels[train], work.cohort.subject[train]
    pixels = {"train": _small(work.store, train), "test": _small(work.store, rows)}
    pooled = risk.pool_by_subject(test)
    judged = []
    for name in work.recipe.rivals.names:
        given: dict[str, Any] | None = _features(work, train, rows) if name == "frozen_features" else pixels
        if given is None:
            continue
        rival, count = rivals.RIVALS[name], len(work.cohort.classes)
        scans = _as_logits(rival(given["train"], labels, subjects, given["test"], count), test)
        people = risk.pool_by_subject(scans)
        if name == "frozen_features":  # its classic form: one mean feature a subject, and a regression over subjects
            means = rivals.mean_by_subject(given["train"], labels, subjects)
            asked, _, names = rivals.mean_by_subject(given["test"], np.zeros_like(test.labels), test.subjects)
            order = [names.tolist().index(subject) for subject in pooled.subjects.tolist()]
            people = _as_logits(rival(*means, asked[order], count), pooled)
        judged.append(Judged(name, split, PLAIN["scan"](scans, []), PLAIN["subject"](people, [])))
    return judged


def _as_logits(probs: FloatArray, like: Logits) -> Logits:
    return replace(like, logits=np.log(probs)[:, None, :].astype(np.float32), features=None)


def _small(store: Store, rows: IntArray, side: int = 64, block: int = 512) -> Pixels:
    """Scans for rivals, which look at small pixels anyway: averaged down to at most 64 × 64, block by block."""
    blocks = (store.read(rows[start : start + block]) for start in range(0, len(rows), block))
    return np.concatenate([np.rint(rivals.shrink(pixels, (side, side))).astype(np.uint8) for pixels in blocks])


def _features(work: Work, train: IntArray, test: IntArray) -> dict[str, Any] | None:
    """Frozen features of a pretrained backbone, or None where its weights are not at hand."""
    section = work.recipe.rivals
    if section.weights == "none":
        return None
    if "features" not in work.memo:  # of all scans, once for all folds and protocols
        from scanwise import prediction
        from scanwise.cohort import store
        from scanwise.models import build

        shape = recipe.Data(size=section.size, channels=3, shape=work.recipe.data.shape)
        options = {"mean": section.mean, "std": section.std, "options": section.options}
        network = build(recipe.Model(name=section.backbone, weights=section.weights, **options), 0, 3)
        pixels, _ = store.build(_local_root(work), work.cohort.path, shape, progress=work.progress)
        everyone = np.arange(len(work.cohort))
        found = prediction.predict(network, pixels, everyone, device=work.device, progress=work.progress)
        work.memo["features"] = found[1]
    features = work.memo["features"]
    return {"train": features[train], "test": features[test]}


def _local_root(work: Work) -> Path:
    if not cohort.remote.is_remote(work.cohort.root):
        return Path(work.cohort.root)
    place = cohort.remote.mirror(work.cohort.root)
    return place if place.is_dir() else place.parent


def _measure(work: Work, judged: Sequence[Judged]) -> list[Metric]:
    """Figures of every model, fit and unit, and each rival's paired difference to the network."""
    section = work.recipe.evaluation
    found: list[Metric] = []
    for group in _with_pooled(judged):
        network = group[0]
        shared: dict[str, Any] = {"draws": section.draws, "confidence": section.confidence, "seed": work.recipe.seed}
        leaked = network.split.protocol != "honest"
        for unit in ("scans", "subjects"):
            if unit == "subjects" and not work.cohort.subjects_known:
                continue
            mine: Predictions = getattr(network, unit)
            for entry in group:
                theirs: Predictions = getattr(entry, unit)
                measured = evaluation.measure(
                    theirs, subjects=theirs.subjects, accuracy_only=leaked, ordered=work.cohort.ordered, **shared
                )
                if entry is not network:
                    measured += evaluation.paired_difference(mine, theirs, model=entry.model, **shared)
                found += [
                    replace(m, model=entry.model, protocol=entry.split.protocol, fold=entry.split.fold)
                    for m in measured
                ]
    return found


def _with_pooled(judged: Sequence[Judged]) -> Iterator[list[Judged]]:
    """The models of each fit, the network first; then, over several folds, of all of them together."""
    groups: dict[tuple[str, int], list[Judged]] = {}
    for entry in judged:
        groups.setdefault((entry.split.protocol, entry.split.fold), []).append(entry)
    yield from groups.values()
    folds = [group for (protocol, _), group in groups.items() if protocol == "honest"]
    if len(folds) > 1:
        yield [_pool(list(entries)) for entries in zip(*folds, strict=True)]


def _pool(entries: list[Judged]) -> Judged:
    split = replace(entries[0].split, fold=POOLED)
    return Judged(entries[0].model, split, _join([e.scans for e in entries]), _join([e.subjects for e in entries]))


def _join(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of several folds as one; each row keeps the sets of its own fold."""

    def rows(name: str) -> Any:
        columns = [getattr(part, name) for part in parts]
        return None if columns[0] is None else np.concatenate(columns)

    first = parts[0]
    names = ("scans", "subjects", "probs", "sets", "entropy", "abstain", "labels")
    groups = {name: np.concatenate([part.groups[name] for part in parts]) for name in first.groups}
    return Predictions(**{name: rows(name) for name in names}, classes=first.classes, groups=groups, unit=first.unit)


def _write_bundle(work: Work, folder: Run) -> None:
    """The first honest fit is what leaves; where there is none, the published one, without guarantees."""
    first = work.splits[0]
    bundle.write(folder, folder.fit(first.protocol, first.fold), work.recipe, work.cohort.classes, work.cohort.ordered)


def _report(work: Work, folder: Run, judged: Sequence[Judged]) -> None:
    from scanwise.reporting import figures, html, tables

    for protocol in dict.fromkeys(split.protocol for split in work.splits):
        mine = [entry for entry in judged if entry.model == "network" and entry.split.protocol == protocol]
        pooled = mine[0] if len(mine) == 1 else _pool(mine)
        tables.write(folder, protocol, pooled.scans, pooled.subjects if work.cohort.subjects_known else None)
    tables.write_overview(folder)
    rows, titles = _examples(work.cohort)
    with run.writing(folder.figures / "scans.png") as temporary:
        temporary.write_bytes(figures.montage(work.store.read(rows), titles))
    html.write(folder)


def _examples(known: Cohort, most: int = 4) -> tuple[np.ndarray[Any, np.dtype[np.int64]], list[str]]:
    """A few scans of each class, of different subjects, with their class as title."""
    rows: list[int] = []
    for index in range(len(known.classes)):
        here = np.flatnonzero(known.labels == index)
        _, first = np.unique(known.subject[here], return_index=True)
        middle = [np.flatnonzero(known.subject[here] == known.subject[here][i]) for i in first[:most]]
        rows += [int(here[scans[len(scans) // 2]]) for scans in middle]
    return np.array(rows), [known.classes[known.labels[row]] for row in rows]


def _write_quarantine(work: Work, folder: Run) -> None:
    import csv
    import io

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["path", "reason"])
    writer.writerows(work.quarantine)
    run.write_text(stream.getvalue(), folder.quarantine)


def _write_provenance(work: Work, folder: Run, started: datetime) -> None:
    import torch

    before = run.read_json(folder.provenance) if folder.provenance.is_file() else {}
    weights = {"none": "random start", "hub": "pretrained, from the hub"}
    source = work.recipe.model.weights
    run.write_json(
        {
            "environment": run.environment(),
            "device": torch.cuda.get_device_name(work.device) if work.device.startswith("cuda") else work.device,
            "threads": torch.get_num_threads(),
            "seed": work.recipe.seed,
            "data": {"source": work.source, "scans": len(work.cohort), "sha256": _data_hash(work.cohort)},
            "weights": weights.get(source, f"pretrained, from {Path(source).name}"),
            # A stage that an earlier, interrupted session finished took next to nothing now: keep its time.
            "times": {name: max(spent, before.get("times", {}).get(name, 0)) for name, spent in work.times.items()},
            "started": before.get("started", started.isoformat(timespec="seconds")),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        folder.provenance,
    )


def _data_hash(known: Cohort) -> str:
    """One hash over all scans, their labels and subjects."""
    told = hashlib.sha256(repr(known.classes).encode())
    for row in zip(
        known.path.tolist(), known.sha256.tolist(), known.labels.tolist(), known.subject.tolist(), strict=True
    ):
        told.update(repr(row).encode())
    return told.hexdigest()


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    return {k: v for name, inner in values.items() for k, v in _flat(inner, f"{prefix}.{name}".lstrip(".")).items()}


@contextmanager
def _timed(work: Work, stage: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    work.times[stage] = work.times.get(stage, 0.0) + time.perf_counter() - begun
