"""What a fit learns after training: temperatures, and the thresholds of prediction sets."""

from typing import Any

from scanwise import bundle, calibration, risk, run
from scanwise.conformal import ConformalSets, draws_from
from scanwise.pipeline.work import Work
from scanwise.records import FloatArray, Logits
from scanwise.run import Fit


def calibrate(work: Work, place: Fit) -> None:
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
