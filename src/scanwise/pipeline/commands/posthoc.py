"""The commands `calibrate` and `conformal`: calibrated probabilities and prediction sets from files of logits."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scanwise import arrays, calibration, metrics, pooling, risk, run
from scanwise.conformal import (
    SCORES,
    ConditionalSets,
    ConformalSets,
    CoverageLine,
    compare_features,
    compare_scores,
    coverage_lines,
    draws_from,
    size_lines,
)
from scanwise.errors import DataError, lookup
from scanwise.pipeline.commands.logit_files import (
    SIDES,
    LogitFile,
    Side,
    check_files_match,
    check_not_overwriting,
    naming_file,
    probability_notes,
    read_logit_file,
    subject_notes,
)
from scanwise.records import BoolArray, FloatArray, Logits, StrArray
from scanwise.untrusted import parse_json, read_text

Fitted = ConformalSets | ConditionalSets
MOST_CALIBRATOR = 100_000_000
"""Bytes of a calibrator's file; an isotonic map has two numbers for each probability that it learnt from."""
MOST_COMPARED = 20_000
"""Features of more rows than this are not compared: it would take longer than all else together."""


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """A calibrator, what it does to people that it did not learn from, and what must be said.

    Attributes:
        calibrator: that was learnt.
        given: what it learnt on.
        figures: name, value without it and with it; of rows whose subjects were held out.
        notes: for the user.
    """

    calibrator: calibration.Calibrator
    given: LogitFile
    figures: tuple[tuple[str, float, float], ...]
    notes: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write the JSON that `calibration.from_dict` reads, with the classes and the digests of the subjects."""
        people = [] if self.given.subjects is None else sorted(_digests(self.given.subjects))
        values = {**self.calibrator.to_dict(), "classes": self.given.logits.classes, "learnt_from": people}
        path.write_text(json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class PredictionSets:
    """Prediction sets of a test file, and what became of them.

    Attributes:
        sets: (N, C).
        logits: the rows that they are of, pooled by subject where that was asked for.
        fitted: the thresholds.
        lines: everyone, then each cell.
        sizes: the rows by the size of their sets.
        promise: the guarantee, and for which units.
        alike: tests of the assumption of the guarantee, in words.
        notes: for the user.
    """

    sets: BoolArray
    logits: Logits
    fitted: Fitted
    lines: list[CoverageLine]
    sizes: list[CoverageLine]
    promise: str
    alike: tuple[str, ...]
    notes: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write an npz of sets (N, C), scans, subjects, labels, classes, groups, and the thresholds as JSON text."""
        named: dict[str, Any] = {name: getattr(self.logits, name) for name in ("subjects", "labels")}
        counts = self.logits.scan_counts
        named["scans"] = self.logits.scans if counts is None else counts.astype(str)
        groups: dict[str, Any] = {f"group_{name}": values for name, values in self.logits.groups.items()}
        thresholds = json.dumps({**self.fitted.to_dict(), "promise": self.promise})
        with path.open("wb") as file:
            np.savez(
                file, sets=self.sets, classes=np.array(self.logits.classes), conformal=thresholds, **named, **groups
            )


def fit_calibrator(
    valid: Path, out: Path, *, method: str = "temperature", by_subject: bool = False
) -> CalibrationResult:
    """Learn a calibrator from a file of validation logits, and write it to `out`.

    Raises:
        DataError: if the file cannot be used; rows are named, and nothing is written.
    """
    kind = lookup(calibration.CALIBRATORS, method, "calibrator")
    check_not_overwriting(out, valid)
    raw = read_logit_file(valid, "validation")
    given = raw.pool(by_subject)
    rows = given.logits
    with naming_file(valid):
        learnt: calibration.Calibrator = kind.fit(rows.logits, rows.labels, rows.subjects)
        after = calibration.held_out_probs(method, rows.logits, rows.labels, rows.subjects)
    refused, reached = (getattr(learnt, name, "") for name in ("refused", "reached"))
    notes = (
        *subject_notes({"validation": given}),
        *probability_notes({"validation": raw}),
        *([f"probabilities stay as they are: {refused}."] if refused else []),
        *([f"the temperature is {reached}."] if reached else []),
    )
    result = CalibrationResult(learnt, given, _figures(rows, after), notes)
    run.save(result, out)
    return result


def _figures(rows: Logits, after: FloatArray) -> tuple[tuple[str, float, float], ...]:
    """NLL, Brier score and calibration errors, by scan and, where some have more scans than others, by subject."""
    before, (owners, _) = arrays.softmax(rows.logits).mean(axis=1), pooling.subject_codes(rows.subjects, len(rows))
    units: dict[str, FloatArray | None] = {"": None}
    if len(np.unique(scans := np.bincount(owners))) > 1:
        units = {", by scan": None, ", by subject": 1 / scans[owners]}
    kinds: dict[str, Callable[..., metrics.MetricValue]] = {
        "NLL": metrics.METRICS["nll"],
        "Brier score": metrics.METRICS["brier"],
        "ECE": metrics.METRICS["ece"],
        "class-wise ECE": metrics.classwise_calibration_error,
    }
    return tuple(
        (name + unit, float(figure(before, rows.labels, weights)), float(figure(after, rows.labels, weights)))
        for unit, weights in units.items()
        for name, figure in kinds.items()
    )


def make_prediction_sets(
    learn: Path,
    test: Path,
    out: Path,
    *,
    score: str = "raps",
    alpha: float = 0.1,
    by: str = "",
    by_subject: bool = False,
    calibrator: Path | None = None,
    tune: Path | None = None,
) -> PredictionSets:
    """Learn thresholds from a file of calibration logits, and write the prediction sets of a test file to `out`.

    Args:
        known: the file that thresholds are learnt on.
        test: the file that gets sets; it may lack labels.
        out: where they are written.
        score: an entry of `SCORES`.
        alpha: allowed miscoverage.
        by: "class", or a group column, for coverage in each of its cells; "" for everyone together.
        by_subject: pool the scans of each subject first.
        calibrator: what `fit_calibrator` wrote, or a run's calibrator.json; default: the softmax.
        tune: a file of validation logits, to choose lambda and k_reg on.

    Raises:
        DataError: if a file cannot be used; rows are named, and nothing is written.
    """
    risk.exact_fraction(alpha, "alpha")
    if not lookup(SCORES, score, "conformal score").tunable and tune:
        raise DataError(f"--tune chooses lambda and k_reg, which {score} does not have. Leave it out.")
    if score == "saps" and not tune:
        raise DataError("saps tells no class from another without lambda; let --tune VALID.npz choose it.")
    paths = dict(zip(SIDES, (tune, learn, test), strict=True))
    check_not_overwriting(out, *(path for path in (*paths.values(), calibrator) if path))
    raw = {side: read_logit_file(path, side) for side, path in paths.items() if path}
    files = {side: given.pool(by_subject) for side, given in raw.items()}
    check_files_match(files)
    calibrated = _load_calibrator(calibrator, files, "subject" if by_subject else "scan")
    ready = {side: _CalibratedFile.of(given, calibrated, by_subject, score) for side, given in files.items()}
    options: dict[str, Any] = {"alpha": alpha, "score": score}
    if "validation" in ready:
        options |= ready["validation"].tuned(options)
    fitted, sets = _fit(ready["calibration"], ready["test"], by, options)
    rows, labels = files["test"].logits, files["test"].labels
    result = PredictionSets(
        sets,
        rows,
        fitted,
        coverage_lines(sets, labels, rows.subjects, fitted, classes=rows.classes, groups=ready["test"].cells(by)),
        size_lines(sets, labels, rows.subjects),
        state_guarantee(fitted, by, rows.classes),
        _compare(ready["calibration"], ready["test"]),
        (*subject_notes(files), *probability_notes(raw), *_notes(files, fitted, by, options)),
    )
    run.save(result, out)
    return result


@dataclass(frozen=True, slots=True)
class _CalibratedFile:
    """A file with what sets are made from: probabilities (N, C) and, for randomised scores, draws (N,)."""

    given: LogitFile
    probs: FloatArray
    draws: FloatArray | None

    @classmethod
    def of(
        cls, given: LogitFile, calibrated: calibration.Calibrator, by_subject: bool, score: str
    ) -> "_CalibratedFile":
        rows = given.logits
        with naming_file(given.path):
            probs = calibrated(rows.logits)
        names = rows.subjects if by_subject else rows.scans
        return cls(given, probs, None if not SCORES[score].randomised else draws_from(names.tolist()))

    def cells(self, by: str) -> StrArray | None:
        return None if by in ("", "class") else self.given.column(by)

    def tuned(self, options: Mapping[str, Any]) -> dict[str, Any]:
        labels, subjects = self.given.logits.labels, self.given.subjects
        penalty, k_reg = ConformalSets.tune(self.probs, labels, subjects=subjects, draws=self.draws, **options)
        return {"penalty": penalty, "k_reg": k_reg}


def _fit(
    learn_file: _CalibratedFile, test: _CalibratedFile, by: str, options: Mapping[str, Any]
) -> tuple[Fitted, BoolArray]:
    options_to_learn: dict[str, Any] = {"subjects": learn_file.given.subjects, "draws": learn_file.draws, **options}
    if not by:
        fitted = ConformalSets.fit(learn_file.probs, learn_file.given.logits.labels, **options_to_learn)
        return fitted, fitted(test.probs, test.draws)
    cells = learn_file.cells(by), test.cells(by)
    conditional = ConditionalSets.fit(
        learn_file.probs, learn_file.given.logits.labels, groups=cells[0], **options_to_learn
    )
    return conditional, conditional(test.probs, test.draws, cells[1])


def _compare(calibration_file: _CalibratedFile, test: _CalibratedFile) -> tuple[str, ...]:
    """Whether test scans look as if drawn like those of calibration; labels are not asked for."""
    a, b = calibration_file.given.logits, test.given.logits
    options: dict[str, Any] = {"calibration_subjects": a.subjects, "new_subjects": b.subjects}
    options["permutations"] = 999 if len(a) + len(b) < 100_000 else 199
    tests = [f"by confidence, {compare_scores(calibration_file.probs.max(axis=1), test.probs.max(axis=1), **options)}"]
    if a.features is not None and b.features is not None and max(len(a), len(b)) <= MOST_COMPARED:
        tests.append(f"by features, {compare_features(a.features, b.features, **options)}")
    return tuple(tests)


def _load_calibrator(path: Path | None, files: Mapping[Side, LogitFile], unit: str) -> calibration.Calibrator:
    """The calibrator of a file, or the softmax; refused where it learnt on other classes or on the same people."""
    if path is None:
        return calibration.Temperature(1.0)
    values = _read_calibrator(path, unit)
    for side in ("calibration", "test"):
        given = files[side]
        if values.get("classes", list(given.logits.classes)) != list(given.logits.classes):
            raise DataError(
                f"{path} learnt on the classes {values['classes']}; {given.path} has {given.logits.classes}."
            )
        learnt_from = {} if given.subjects is None else _digests(given.subjects)
        shared = [learnt_from[digest] for digest in values["learnt_from"] if digest in learnt_from]
        if shared:
            rows = np.flatnonzero(np.isin(given.logits.subjects, shared))[:3]
            raise DataError(
                f"{path} learnt from {len(shared)} subjects of {given.path}, such as {shared[0]!r}: rows "
                f"{', '.join(map(str, rows))}, … Learn the calibrator from validation subjects."
            )
    with naming_file(path):
        return calibration.calibrator_from_dict(values)


def _read_calibrator(path: Path, unit: str) -> dict[str, Any]:
    """The values of a calibrator, checked as far as they say what it is and what it learnt from."""
    try:
        values = parse_json(read_text(path, MOST_CALIBRATOR, "a calibrator"))
    except ValueError as error:
        raise DataError(f"{path} is not a calibrator that `scanwise calibrate` wrote: {error}.") from error
    values = values.get(unit, values) if isinstance(values, dict) else {}  # a run keeps one for each unit
    if not isinstance(values, dict) or str(values.get("method")) not in calibration.CALIBRATORS:
        raise DataError(f"{path} is not a calibrator: its method is none of {', '.join(calibration.CALIBRATORS)}.")
    for name in ("classes", "learnt_from"):
        names = values.get(name) or []
        if not isinstance(names, list) or not all(isinstance(text, str) for text in names):
            raise DataError(
                f"{path} is not a calibrator that `scanwise calibrate` wrote: its {name} are no list of names."
            )
    return {**values, "learnt_from": values.get("learnt_from") or []}


def _digests(subjects: StrArray) -> dict[str, str]:
    """The digest of each subject's name, so that a calibrator can tell people again without naming them."""
    return {hashlib.sha256(f"subject:{name}".encode()).hexdigest()[:16]: name for name in np.unique(subjects).tolist()}


def state_guarantee(fitted: Fitted, by: str, classes: Sequence[str]) -> str:
    """The guarantee in words: what holds for which cell, and where none does."""
    if isinstance(fitted, ConformalSets):
        share = f"{100 * (1 - fitted.alpha):g} %"
        return (
            f"{share} coverage for {_whom(fitted)}"
            if np.isfinite(fitted.threshold)
            else f"none: {_without_stop(fitted)}"
        )
    share = f"{100 * (1 - fitted.sets[0].alpha):g} %"
    names = [
        [(classes[int(value)] if fitted.by == "class" else value) or "(none)" for value in cell]
        for cell in fitted.cells
    ]
    kept = [np.isfinite(sets.threshold) for sets in fitted.sets]
    if all(kept) and all(len(cell) == 1 for cell in names):
        return f"{share} coverage for {_whom(fitted)}, in each {by}"
    held = [
        f"in {by} {cell[0]}" if len(cell) == 1 else f"in {', '.join(cell)} together, not in each of them"
        for cell, has in zip(names, kept, strict=True)
        if has
    ]
    missing = [
        f"none in {', '.join(cell)}: {_without_stop(sets)}"
        for cell, sets, has in zip(names, fitted.sets, kept, strict=True)
        if not has
    ]
    return "; ".join([*([f"{share} coverage for {_whom(fitted)}: {'; '.join(held)}"] if held else []), *missing])


def _without_stop(sets: ConformalSets) -> str:
    return sets.warning.removesuffix(".")


def _whom(fitted: Fitted) -> str:
    if isinstance(fitted, ConformalSets):
        return f"a {fitted.guarantee}"
    repeated = [sets.guarantee for sets in fitted.sets if sets.guarantee.startswith("random")]
    return f"a {(repeated or [fitted.sets[0].guarantee])[0]}"


def _notes(files: Mapping[Side, LogitFile], fitted: Fitted, by: str, options: Mapping[str, Any]) -> list[str]:
    """Notes on the sets."""
    learned_on, test, notes = files["calibration"], files["test"], []
    if "random scan" in _whom(fitted):
        people = len(np.unique(learned_on.logits.subjects))
        notes.append(
            f"{learned_on.path} has {len(learned_on.logits)} scans of {people} subjects. Scans of one person are no independent "
            "draws: thresholds are hierarchical quantiles over subjects, and the guarantee is for a random scan of a new "
            "subject, not for all of them at once."
        )
    if "penalty" in options:
        chosen = f"lambda {options['penalty']:g}, k_reg {options['k_reg']}"
        notes.append(f"chosen on {files['validation'].path}: {chosen}.")
    elif options["score"] == "raps":
        notes.append("raps with lambda 0 is aps; --tune VALID.npz chooses lambda.")
    if isinstance(fitted, ConformalSets):
        return notes + ([fitted.warning] if fitted.warning else [])
    if fitted.by == "group":
        seen = [value for cell in fitted.cells for value in cell]
        new = ~np.isin(test.column(by), seen)
        if new.any():
            unseen = ", ".join(np.unique(test.column(by)[new]).tolist())
            notes.append(f"{by} {unseen} is not in {learned_on.path}: these {new.sum()} rows get every class.")
    return notes + list(fitted.notes_for(by, learned_on.logits.classes))
