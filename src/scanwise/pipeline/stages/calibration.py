"""Calibration after training: temperatures, thresholds of prediction sets, the novelty detector and abstention."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scanwise import bundle, calibration, metrics, pooling, run
from scanwise.arrays import softmax
from scanwise.conformal import SCORES, ConformalSets, CrossSets, draws_from
from scanwise.novelty import NoveltyDetector
from scanwise.pipeline.context import Context
from scanwise.pipeline.stages.subject_ridge import INNER_FOLD, OUT_OF_FOLD
from scanwise.recipe import Conformal
from scanwise.records import FloatArray, Logits, Unit
from scanwise.run import Fit
from scanwise.uncertainty import Abstention, abstention_grid

UNITS: tuple[Unit, ...] = ("scan", "subject")
RISKS = (0.05, 0.1, 0.2, 0.3)
"""Error rates among the answered that a report lists, besides the one that the recipe allows."""
NONE_APART = "with conformal.data: out_of_fold the calibration subjects teach, and none are left to test a threshold on"


def calibrate_fit(context: Context, fit_dir: Fit) -> None:
    """Learn from validation and calibration subjects all that a guarantee needs; only for honest fits.

    A fit that was calibrated in the past keeps the draws and distances that it had, so that a resume changes no figure.
    """
    hashed = bundle.hashed_content(fit_dir)
    sides = {side: Logits.load(fit_dir.logits(side)) for side in ("validation", "calibration")}
    how = choose_pooling(sides["validation"], context.recipe.evaluation.pooling)
    pooled = {side: pooling.pool_by_subject(logits, how) for side, logits in sides.items()}
    _calibrate(context, fit_dir, sides, pooled, how, hashed)
    _learn_abstention(context, fit_dir, pooled)
    train = Logits.load(fit_dir.logits("train"))
    false_alarm = context.recipe.uncertainty.false_alarm
    detector = NoveltyDetector.fit(
        train, sides["validation"], sides["calibration"],
        false_alarm=false_alarm, one_by_one=hashed == bundle.PIXELS,
    )  # fmt: skip
    run.save(detector, fit_dir.novelty)


def choose_pooling(validation: Logits, choice: str) -> str:
    """The pooling of the scans of a subject; `auto` takes the one with the lowest NLL on validation subjects.

    Each way gets its own temperature first, so that none loses by being too sure alone. Of equals the first is taken.
    """
    if choice != "auto":
        return choice

    def loss(how: str) -> float:
        pooled = pooling.pool_by_subject(validation, how)
        learnt = calibration.Temperature.fit(pooled.logits, pooled.labels, pooled.subjects)
        return float(metrics.METRICS["nll"](learnt(pooled.logits), pooled.labels))

    return min(pooling.POOLINGS, key=loss)


def _calibrate(
    context: Context,
    fit_dir: Fit,
    sides: dict[str, Logits],
    pooled: dict[str, Logits],
    pooling: str,
    hashed: bundle.Hashed,
) -> None:
    """Temperature and the score's tuning from validation subjects; sets from calibration subjects, or from all who taught."""
    section = context.recipe.conformal
    calibrators: dict[str, Any] = {}
    sets: dict[str, Any] = {bundle.HASHED: hashed}
    for unit in UNITS:
        units = sides if unit == "scan" else pooled
        check = units["validation"]
        calibrator: calibration.Calibrator = calibration.Temperature(1.0)
        if context.recipe.calibration.method == "temperature":
            calibrator = calibration.Temperature.fit(check.logits, check.labels, check.subjects)
        calibrators[unit] = calibrator.to_dict()
        if section.is_out_of_fold:
            sets[unit] = _stated(context, _fit_cross_sets(context, fit_dir, unit, hashed))
            continue
        probs = {side: calibrator(logits.logits) for side, logits in units.items()}
        hashes = {side: _hashes(context, sides[side], units[side], hashed) for side in sides}
        own = section
        if SCORES[section.score].tunable and "auto" in (section.penalty, section.k_reg):
            tuned = ConformalSets.tune(
                probs["validation"], check.labels, alpha=section.alpha, score=section.score,
                subjects=check.subjects, draws=draws_of(section.score, hashes["validation"]),
            )  # fmt: skip
            chosen = dict(zip(("penalty", "k_reg"), tuned, strict=True))
            own = section.model_copy(
                update={key: value for key, value in chosen.items() if getattr(section, key) == "auto"}
            )
        fitted = fit_sets(own, probs["calibration"], units["calibration"], hashes["calibration"])
        sets[unit] = _stated(context, fitted)
    calibrators["subject"]["pooling"] = pooling
    run.write_json(calibrators, fit_dir.calibrator)
    run.write_json(sets, fit_dir.conformal)


def _stated(context: Context, sets: ConformalSets | CrossSets) -> dict[str, Any]:
    """Sets as they are written: where nobody is known each scan counted as a subject, and nothing is said about people."""
    return (sets if context.cohort.subjects_known else replace(sets, guarantee="new scan")).to_dict()


def _fit_cross_sets(context: Context, fit_dir: Fit, unit: Unit, hashed: bundle.Hashed) -> CrossSets:
    """Cross-conformal sets from the people who taught, a row each: all their scans pooled, or one that is drawn.

    They rest on the members' probabilities as they are, and their penalty is not tuned: both would be learnt from these people.
    """
    scans = Logits.load(fit_dir.logits(OUT_OF_FOLD))
    section, hashes = context.recipe.conformal, bundle.scan_hashes(context.cohort, scans.scans, hashed)
    if unit == "subject":
        pooled = pooling.pool_by_subject(scans)
        logits, labels, folds = pooled.logits, pooled.labels, pooled.groups[INNER_FOLD]
        hashes = bundle.subject_hashes(pooled.subjects, scans, hashes)
    else:
        drawn = np.random.default_rng([context.recipe.seed, 619]).permutation(len(scans))
        rows = np.sort(drawn[np.unique(scans.subjects[drawn], return_index=True)[1]])
        logits, labels, folds = scans.logits[rows], scans.labels[rows], scans.groups[INNER_FOLD][rows]
        hashes = [hashes[row] for row in rows.tolist()]
    return CrossSets.fit(
        softmax(logits[:, 0]), labels, folds.astype(np.int64), alpha=section.alpha, score=section.score,
        penalty=_untuned(section.penalty), k_reg=int(_untuned(section.k_reg)), draws=draws_of(section.score, hashes),
        guarantee="new subject" if unit == "subject" else "random scan of a new subject",
    )  # fmt: skip


def _untuned(value: float | str) -> float:
    return 0.0 if isinstance(value, str) else value


def _hashes(context: Context, scans: Logits, units: Logits, hashed: bundle.Hashed) -> list[str]:
    """The hash of the content of each unit."""
    hashes = bundle.scan_hashes(context.cohort, scans.scans, hashed)
    return hashes if units is scans else bundle.subject_hashes(units.subjects, scans, hashes)


def draws_of(score: str, hashes: Sequence[str]) -> FloatArray | None:
    """The random numbers of a randomised score, from the content of each unit, or None for a score that reads none."""
    return draws_from(hashes) if SCORES[score].randomised else None


def fit_sets(section: Conformal, probs: FloatArray, learn: Logits, hashes: Sequence[str]) -> ConformalSets:
    """Prediction sets with thresholds from calibration units; what the section leaves to tuning and is not tuned is 0.

    Args:
        section: of the recipe.
        probs: (N, C) of the units.
        learn: the units themselves, with labels and subjects.
        hashes: of the content of each.
    """
    return ConformalSets.fit(
        probs,
        learn.labels,
        alpha=section.alpha,
        score=section.score,
        penalty=_untuned(section.penalty),
        k_reg=int(_untuned(section.k_reg)),
        subjects=learn.subjects,
        draws=draws_of(section.score, hashes),
    )


def _learn_abstention(context: Context, fit_dir: Fit, pooled: dict[str, Logits]) -> None:
    """Learn when to abstain so that errors are bounded: thresholds from validation subjects, tested on calibration.

    Where the calibration side teaches, no subjects are left to test them on, and every case stands under its prediction set alone.
    """
    calibrator = calibration.calibrator_from_dict(run.read_json(fit_dir.calibrator)["subject"])
    learn = pooled["calibration"]
    uncertainty = {side: 1.0 - calibrator(logits.logits).max(axis=1) for side, logits in pooled.items()}
    wrong = calibrator(learn.logits).argmax(axis=1) != learn.labels
    section, learnt = context.recipe.uncertainty, {}
    for allowed in sorted({*RISKS, section.risk}):
        if context.recipe.conformal.is_out_of_fold:
            refused = Abstention(-math.inf, allowed, section.delta, 0, 0.0, NONE_APART)
            learnt[allowed] = bundle.abstention_to_dict(refused)
            continue
        grid = abstention_grid(uncertainty["validation"], len(learn), risk=allowed, delta=section.delta)
        learnt[allowed] = bundle.abstention_to_dict(
            Abstention.fit(
                uncertainty["calibration"], wrong, grid=grid, risk=allowed, delta=section.delta, subjects=learn.subjects
            )
        )
    run.write_json({"chosen": learnt[section.risk], "table": list(learnt.values())}, fit_dir.abstention)
