"""From logits to predictions: probabilities, sets, uncertainty and flags, by scan and by subject."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from scanwise import calibration, pooling, uncertainty
from scanwise.arrays import softmax
from scanwise.conformal import CrossSets, PredictionSets, draws_from, sets_from_dict
from scanwise.novelty import NoveltyDetector
from scanwise.recipe import Recipe
from scanwise.records import BoolArray, Cohort, FloatArray, Logits, Predictions, ScanNovelty, StrArray, Unit
from scanwise.run import Fit, read_json

Hashed = Literal["pixels", "file"]
HASHED = "hashed"
"""Key of `conformal.json` and `bundle.json`, with what the draws of randomised sets are made from."""
PIXELS: Hashed = "pixels"
"""Decoded pixels before they are resized, so that a copy in another container, or under another header, gets the same set.
Before bundles of format 3 it was the file."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """From logits to predictions of one unit: calibrated probabilities, and sets where a guarantee exists.

    Attributes:
        calibrator: logits to probabilities.
        sets: probabilities to sets, or None. Cross-conformal sets are made from those of the members, all of which must be there.
        unit: what a row is.
        detector: of scans unlike training, or None.
        abstention: of subjects, the threshold above which it abstains; None where none qualifies.
        ratings: the Clinical Dementia Rating of each class, or None.
        pooling: of subjects, how their scans become one prediction (`pooling.POOLINGS`).
    """

    calibrator: calibration.Calibrator
    sets: PredictionSets | None
    unit: Unit
    detector: NoveltyDetector | None = None
    abstention: uncertainty.Abstention | None = None
    ratings: tuple[float, ...] | None = None
    pooling: str = "mean_logit"

    def __call__(
        self,
        logits: Logits,
        hashes: Sequence[str],
        novelty: ScanNovelty | None = None,
        flags: tuple[FloatArray, BoolArray] | None = None,
    ) -> Predictions:
        """Predict from logits.

        Args:
            logits: a row a unit.
            hashes: of the content behind each row, so that the same scan always gets the same set.
            novelty: of scans, what the detector measured; None to measure it.
            flags: of subjects, score and flag of each row from the detector.
        """
        probs = self.calibrator(logits.logits)
        sets = self._sets(logits.logits, probs, hashes)
        if self.detector is not None and self.unit == "scan":
            flags = self.detector(logits, novelty)
        score, flag = flags or (None, None)
        review = np.zeros(len(logits), dtype=bool) if sets is None else sets.sum(axis=1) != 1
        rating, spread = (None, None) if self.ratings is None else uncertainty.expected_value(probs, self.ratings)
        return Predictions(
            scans=logits.scans,
            scan_counts=logits.scan_counts,
            subjects=logits.subjects,
            classes=logits.classes,
            probs=probs,
            sets=sets,
            entropy=uncertainty.predictive_entropy(probs),
            abstain=review if flag is None or sets is None else review | flag,
            labels=logits.labels if (logits.labels >= 0).all() else None,
            groups=logits.groups,
            unit=self.unit,
            mutual_information=self._disagreement(logits.logits),
            ood=score,
            ood_flag=flag,
            expected_cdr=rating,
            cdr_sd=spread,
            deferred=None if self.abstention is None else self.abstention(1.0 - probs.max(axis=1)),
        )

    def _sets(self, logits: FloatArray, probs: FloatArray, hashes: Sequence[str]) -> BoolArray | None:
        """(N, C) the sets; None without any, and for people of training, whose logits are those of one member alone."""
        if self.sets is None:
            return None
        draws = draws_from(hashes) if self.sets.randomised else None
        if isinstance(self.sets, CrossSets):
            return self.sets(softmax(logits), draws) if logits.shape[1] == self.sets.members else None
        return self.sets(probs, draws)

    def _disagreement(self, logits: FloatArray) -> FloatArray:
        """(N,) mutual information of the members of logits (N, T, C)."""
        members = np.stack([self.calibrator(logits[:, member]) for member in range(logits.shape[1])], axis=1)
        return uncertainty.mutual_information(members)


def load_predictors(fit: Fit, ratings: tuple[float, ...] | None = None) -> dict[Unit, Predictor]:
    """The predictors of a fit; without calibrators (a published protocol) probabilities are the softmax."""
    calibrators, sets, abstentions = (
        read_json(path) if path.is_file() else {} for path in (fit.calibrator, fit.conformal, fit.abstention)
    )
    detector = NoveltyDetector.load(fit.novelty) if fit.novelty.is_file() else None
    return build_predictors(calibrators, sets, abstentions, detector, ratings)


def build_predictors(
    calibrators: Mapping[str, Any],
    sets: Mapping[str, Any],
    abstentions: Mapping[str, Any],
    detector: NoveltyDetector | None,
    ratings: tuple[float, ...] | None,
) -> dict[Unit, Predictor]:
    """Predictors from the contents of `calibrator.json`, `conformal.json` and `abstention.json`, each empty where absent."""
    units: tuple[Unit, ...] = ("scan", "subject")
    chosen = abstention_from_dict(abstentions["chosen"]) if abstentions else None
    return {
        unit: Predictor(
            calibration.calibrator_from_dict(calibrators[unit])
            if unit in calibrators
            else calibration.Temperature(1.0),
            sets_from_dict(sets[unit]) if unit in sets else None,
            unit,
            detector,
            chosen if unit == "subject" and chosen is not None and not chosen.refused else None,
            ratings,
            str(calibrators.get(unit, {}).get("pooling", "mean_logit")),
        )
        for unit in units
    }


def abstention_to_dict(abstention: uncertainty.Abstention) -> dict[str, Any]:
    """Values for JSON; an infinite threshold is null."""
    return {**asdict(abstention), "threshold": None if math.isinf(abstention.threshold) else abstention.threshold}


def abstention_from_dict(values: Mapping[str, Any]) -> uncertainty.Abstention:
    """Read the values of `abstention_to_dict`."""
    threshold = -math.inf if values["threshold"] is None else float(values["threshold"])
    return uncertainty.Abstention(**{**values, "threshold": threshold})


def cdr_by_class(recipe: Recipe, classes: Sequence[str]) -> tuple[float, ...] | None:
    """The Clinical Dementia Rating of every class, or None where a class has none."""
    ratings = [recipe.stages[name].cdr if name in recipe.stages else None for name in classes]
    rated = tuple(rating for rating in ratings if rating is not None)
    return rated if len(rated) == len(ratings) else None


def scan_hashes(cohort: Cohort, scans: StrArray, hashed: Hashed) -> list[str]:
    """The content hash of each scan, by its path, of its pixels or of its file."""
    hashes = cohort.pixels if hashed == PIXELS else cohort.sha256
    by_path = dict(zip(cohort.path.tolist(), hashes.tolist(), strict=True))
    return [by_path[scan] for scan in scans.tolist()]


def hashed_content(fit: Fit) -> Hashed:
    """Content that the draws of the prediction sets of a fit are made from; a fit without sets needs none."""
    sets = read_json(fit.conformal) if fit.conformal.is_file() else {HASHED: PIXELS}
    return PIXELS if sets.get(HASHED) == PIXELS else "file"


def subject_hashes(subjects: StrArray, logits: Logits, hashes: Sequence[str]) -> list[str]:
    """One hash a subject, over those of its scans."""
    scans: dict[str, list[str]] = {}
    for subject, content in zip(logits.subjects.tolist(), hashes, strict=True):
        scans.setdefault(subject, []).append(content)
    return [hashlib.sha256("".join(sorted(scans[subject])).encode()).hexdigest() for subject in subjects.tolist()]


def predict_scans_and_subjects(
    predictors: dict[Unit, Predictor], logits: Logits, hashes: Sequence[str], novelty: ScanNovelty | None = None
) -> tuple[Predictions, Predictions]:
    """Predictions by scan and, pooled, by subject; scans without a subject, "", are in no row of subjects.

    What the detector measured of the scans is `novelty`; None to measure it.
    """
    owned, owned_hashes = _with_subject(logits, hashes)
    pooled = pooling.pool_by_subject(owned, predictors["subject"].pooling)
    detector = predictors["scan"].detector
    pooled_hashes = subject_hashes(pooled.subjects, owned, owned_hashes)
    if novelty is None and detector is not None:
        novelty = detector.measure(logits)
    scans = predictors["scan"](logits, hashes, novelty)
    if logits.attention is not None:
        people = np.array([name or f"\0{row}" for row, name in enumerate(logits.subjects.tolist())], dtype=np.str_)
        codes, _ = pooling.subject_codes(people, len(logits))
        scans = replace(scans, attention=pooling.attention_weights(logits.attention, codes).mean(axis=1))
    flags = None
    if detector is not None and novelty is not None:
        flags = detector.by_subject(owned, novelty.take(np.flatnonzero(logits.subjects != "")))
    return scans, predictors["subject"](pooled, pooled_hashes, flags=flags)


def _with_subject(logits: Logits, hashes: Sequence[str]) -> tuple[Logits, list[str]]:
    """The scans whose subject is known, and their hashes."""
    rows = np.flatnonzero(logits.subjects != "")
    columns = {
        name: values[rows]
        for name in ("logits", "labels", "scans", "subjects", "features", "attention", "appearance")
        if (values := getattr(logits, name)) is not None
    }
    groups = {name: values[rows] for name, values in logits.groups.items()}
    return replace(logits, groups=groups, **columns), [hashes[row] for row in rows.tolist()]
