"""Cuts that validation people choose and test people judge, and what acting on a probability is worth."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scanwise import bundle, evaluation
from scanwise.pipeline.judging import Judged, pool
from scanwise.pipeline.work import Work
from scanwise.records import Logits, Predictions
from scanwise.reporting import results
from scanwise.run import Fit, Run

ANONYMOUS = "0" * 64
"""Cuts look at probabilities alone, never at randomised sets, so no hash of a scan is needed."""


def write(work: Work, folder: Run, judged: Sequence[Judged]) -> None:
    """Write `tables/operating_points` and `tables/decision_curve` of the honest fits."""
    honest = [entry for entry in judged if entry.model == "network" and entry.split.protocol == "honest"]
    if not honest:
        return
    points: list[dict[str, Any]] = []
    for entry in honest:
        place = folder.fit("honest", entry.split.fold)
        for chosen, tried in zip(validation_of(place), (entry.scans, entry.subjects), strict=True):
            if tried.unit == "scan" or work.cohort.subjects_known:
                points += [{"fold": place.fold, **row} for row in _transport(work, chosen, tried)]
    whole = pool(honest) if len(honest) > 1 else honest[0]
    said = [whole.scans, *([whole.subjects] if work.cohort.subjects_known else [])]
    results.write_points(folder, points, [row for one in said for row in curves(one)])


def _transport(work: Work, chosen: Predictions, tried: Predictions) -> list[dict[str, Any]]:
    section = work.recipe.evaluation
    return evaluation.transport(
        chosen, tried, draws=section.draws, confidence=section.confidence, seed=work.recipe.seed
    )


def validation_of(place: Fit) -> tuple[Predictions, Predictions]:
    """What a fit says of its own validation side, by scan and by subject."""
    logits = Logits.load(place.logits("validation"))
    return bundle.judge_both(bundle.judges_of(place), logits, [ANONYMOUS] * len(logits))


def curves(said: Predictions) -> list[dict[str, Any]]:
    """The decision curve of each class that some rows have and some have not (of the second, where there are two)."""
    found: list[dict[str, Any]] = []
    for index in [1] if len(said.classes) == 2 else range(len(said.classes)):
        here = np.asarray(said.labels) == index
        if here.any() and not here.all():
            curve = evaluation.decision_curve(said, index)
            shared = {"unit": said.unit, "class": said.classes[index]}
            found += [
                {**shared, **{name: float(values[k]) for name, values in curve.items()}}
                for k in range(len(curve["threshold"]))
            ]
    return found
