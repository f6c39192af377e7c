"""Data of a report: every file of the run folder that it needs, read once, or an error that names the missing one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from scanwise import recipe as recipes
from scanwise.conformal import PredictionSets, sets_from_dict
from scanwise.csv_files import DELETE_AND_RESUME, read_csv
from scanwise.errors import RunError
from scanwise.phrases import printable
from scanwise.recipe import Recipe
from scanwise.records import (
    Cohort,
    Finding,
    FloatArray,
    Logits,
    Metric,
    Predictions,
    Split,
    Unit,
    load_findings,
    load_metrics,
)
from scanwise.reporting import tables
from scanwise.run import Fit, RunFolder, layout, read_json

T = TypeVar("T")
POOLED = -1


@dataclass(frozen=True, slots=True)
class RunMetrics:
    """The metrics of a run, to be asked for one by one."""

    metrics: tuple[Metric, ...]

    def fold(self, protocol: str) -> int:
        """The fold that speaks for a protocol: the pooled one where there are several."""
        folds = {m.fold for m in self.metrics if m.protocol == protocol}
        if POOLED in folds or not folds:
            return POOLED
        if len(folds) > 1:
            raise RunError(
                f"metrics.json has folds {sorted(folds)} of the {protocol} protocol and none that pools them (fold -1). "
                "Delete it and run `scanwise fit` again with --resume."
            )
        return folds.pop()

    def find(
        self, name: str, protocol: str, unit: str, model: str = "network", group: str = "", fold: int | None = None
    ) -> Metric | None:
        """The one test metric with this name, or None where it was not measured."""
        wanted = self.fold(protocol) if fold is None else fold
        for m in self.metrics:
            if (m.name, m.protocol, m.unit, m.model, m.group, m.fold, m.split) == (
                name, protocol, unit, model, group, wanted, "test",
            ):  # fmt: skip
                return m
        return None

    def rivals(self, protocol: str, unit: str) -> list[Metric]:
        """The accuracy of each rival, best first."""
        fold = self.fold(protocol)
        accuracies = [
            m
            for m in self.metrics
            if (m.name, m.protocol, m.unit, m.fold, m.group, m.split) == ("accuracy", protocol, unit, fold, "", "test")
            and not m.model.startswith("network")
        ]
        return sorted(accuracies, key=lambda m: -m.value)

    def parts(self, protocol: str, unit: str) -> list[Metric]:
        """The accuracy of the network itself where a part of its input is gone, in the order of measuring."""
        fold = self.fold(protocol)
        wanted = ("accuracy", protocol, unit, fold, "", "test")
        return [
            m
            for m in self.metrics
            if (m.name, m.protocol, m.unit, m.fold, m.group, m.split) == wanted and m.model.startswith("network_")
        ]


@dataclass(frozen=True, slots=True)
class FitData:
    """One fit: its split and the epochs of its training."""

    fit: Fit
    split: Split
    history: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class RunData:
    """Everything that a report says comes from here."""

    run: RunFolder
    recipe: Recipe
    provenance: Mapping[str, Any]
    cohort: Cohort
    findings: tuple[Finding, ...]
    quarantine: tuple[tuple[str, str], ...]
    numbers: RunMetrics
    fits: tuple[FitData, ...]
    predictions: Mapping[tuple[str, Unit], Predictions]

    @classmethod
    def of(cls, run: RunFolder) -> Self:
        """Read the run folder.

        Raises:
            RunError: naming the file that is missing or damaged.
        """
        cohort = _load(Cohort.load, run.cohort)
        return cls(
            run=run,
            recipe=recipes.load_recipe(run.recipe),
            provenance=read_json(run.provenance),
            cohort=cohort,
            findings=tuple(_load(load_findings, run.findings)),
            quarantine=_quarantine(run),
            numbers=RunMetrics(tuple(_load(load_metrics, run.metrics))),
            fits=tuple(_fitted(fit, len(cohort)) for fit in run.fits()),
            predictions=_predictions(run),
        )

    @property
    def protocols(self) -> list[str]:
        """The protocols that were fitted, honest first."""
        protocols = {fitted.split.protocol for fitted in self.fits}
        return sorted(protocols, key=lambda protocol: (protocol != "honest", protocol))

    @property
    def shown(self) -> list[str]:
        """The protocols that the report is about: the honest one; without it, all. The others stand in a table at its end."""
        return [protocol for protocol in self.protocols if protocol == "honest"] or self.protocols

    def fits_of(self, protocol: str) -> list[FitData]:
        return [fitted for fitted in self.fits if fitted.split.protocol == protocol]

    def label(self, fitted: FitData) -> str:
        """Title of a fit among those of its protocol."""
        return f"fold {fitted.fit.fold + 1}" if len(self.fits_of(fitted.split.protocol)) > 1 else "single split"

    def leaky(self, protocol: str) -> bool:
        """Whether any fold of a protocol has a subject, or the same pixels, on two sides."""
        return any(fitted.split.leaky for fitted in self.fits_of(protocol))

    def units(self, protocol: str) -> list[Unit]:
        """Units of evaluation of a protocol, subjects first; scans are left out where each subject has one, or teaches as one."""
        kinds: tuple[Unit, ...] = ("subject",) if self.recipe.model.by_subject else ("subject", "scan")
        units = [unit for unit in kinds if (protocol, unit) in self.predictions]
        alike = len(units) == len(kinds) and len({len(self.predictions[protocol, unit]) for unit in units}) == 1
        return [self.unit(protocol)] if alike else units

    def unit(self, protocol: str) -> Unit:
        """Unit of the headline figures: subjects where that was measured; scans where none is known, or as published."""
        by_people = protocol == "honest" and self.numbers.find("accuracy", protocol, "subject")
        return "subject" if by_people else "scan"

    def title(self, name: str) -> str:
        """Title of a class in the report."""
        stage = self.recipe.stages.get(name)
        return printable(stage.title if stage and stage.title else name)

    def titles(self) -> list[str]:
        return [self.title(name) for name in self.cohort.classes]

    def side(self, protocol: str, side: str) -> tuple[int, int]:
        """Scans and subjects on a side; over folds, those that are on it in any fold."""
        here = np.any([fitted.split.side == side for fitted in self.fits_of(protocol)], axis=0)
        return int(np.sum(here)), len(np.unique(self.cohort.subject[here])) if np.any(here) else 0

    def not_evaluable(self) -> dict[str, int]:
        """Classes with too few subjects to be judged honestly, with the number that each has."""
        counts: dict[str, int] = {}
        for fitted in self.fits_of("honest"):
            counts |= fitted.split.not_evaluable
        return counts

    def raw_logits(self) -> list[Logits]:
        """The honest test logits as the network gave them; empty where a fold's are gone."""
        paths = [fitted.fit.logits("test") for fitted in self.fits_of("honest")]
        return [Logits.load(path) for path in paths] if all(path.is_file() for path in paths) else []

    def prediction_sets(self, unit: str) -> list[PredictionSets]:
        """The fitted prediction sets of a unit, one for each honest fold that has them."""
        return [sets_from_dict(part[unit]) for part in self.learnt("conformal") if unit in part]

    def learnt(self, name: str) -> list[dict[str, Any]]:
        """The `calibrator` or `conformal` JSON of each honest fold that has one."""
        paths = [getattr(fitted.fit, name) for fitted in self.fits_of("honest")]
        return [read_json(path) for path in paths if path.is_file()]


def _load(reader: Callable[[Path], T], path: Path) -> T:
    try:
        return reader(path)
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing. Run `scanwise fit` again with --resume; what is done is kept.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is not what scanwise wrote ({error}). {DELETE_AND_RESUME}") from error


def _fitted(fit: Fit, scans: int) -> FitData:
    split = _load(Split.load, fit.split)
    if len(split.side) != scans:
        raise RunError(f"{fit.split} is about {len(split.side)} scans, but the cohort has {scans}. {DELETE_AND_RESUME}")
    history = _load(_history, fit.history) if fit.history.is_file() else {}
    return FitData(fit, split, history)


def _history(path: Path) -> dict[str, FloatArray]:
    header, rows = read_csv(path)
    cells = np.array([[float(cell or "nan") for cell in row] for row in rows], dtype=np.float64)
    return dict(zip(header, cells.reshape(-1, len(header)).T, strict=True))


def _quarantine(run: RunFolder) -> tuple[tuple[str, str], ...]:
    if not run.quarantine.is_file():
        return ()
    _, rows = read_csv(run.quarantine)
    return tuple((printable(path), printable(reason)) for path, reason, *_ in rows)


def _predictions(run: RunFolder) -> dict[tuple[str, Unit], Predictions]:
    by_unit: dict[tuple[str, Unit], Predictions] = {}
    for protocol in sorted({fit.protocol for fit in run.fits()}):
        folder = run.tables_of(protocol)
        by_unit[protocol, "scan"] = tables.read_predictions(folder / layout.PREDICTIONS)
        if (folder / layout.PREDICTIONS_SUBJECT).is_file():
            by_unit[protocol, "subject"] = tables.read_predictions(folder / layout.PREDICTIONS_SUBJECT)
    return by_unit
