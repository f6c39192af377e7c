"""Selective prediction (abstain so that errors are bounded) and the detection of scans unlike training."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from scanwise import bundle, run, uncertainty
from scanwise.csv_files import write_table
from scanwise.errors import DataError
from scanwise.evaluation.jackknife import jackknife_interval
from scanwise.metrics.ranks import weighted_auroc
from scanwise.novelty import NoveltyDetector
from scanwise.pipeline.context import Context
from scanwise.pipeline.stages.bags import measured_units
from scanwise.pipeline.stages.evaluation import POOLED, ModelPredictions
from scanwise.pipeline.stages.prediction import ALTERED
from scanwise.records import BoolArray, FloatArray, Logits, Metric, Predictions
from scanwise.risk import clopper_pearson
from scanwise.run import Fit, RunFolder, layout

SELECTIVE = (
    "fold", "chosen", "risk", "delta", "refused", "calibration", "calibration_answered", "test", "answered", "wrong",
)  # fmt: skip
MEMBERS = ("protocol", "fold", "members", "disagreement", "kl", "told")
DETECTION_COLUMNS = ("fold", "kind", "scans", "subjects", "score", "auroc", "flagged")
SCORES = ("default", "features", "mahalanobis", "energy")
"""Novelty scores: the default, and beside it neighbours in the bare features, Mahalanobis and the energy."""

Row = dict[str, Any]


def measure_selective_prediction(
    context: Context, folder: RunFolder, predictions: Sequence[ModelPredictions]
) -> list[Metric]:
    """Selective figures of the honest network on its test subjects, fold by fold and over all folds."""
    fits = [entry for entry in predictions if entry.model == "network" and entry.split.protocol == "honest"]
    rows = {entry.split.fold: selective_rows(folder.fit("honest", entry.split.fold), entry) for entry in fits}
    if len(fits) > 1:
        rows[POOLED] = [_summed(list(same)) for same in zip(*rows.values(), strict=True)]
    confidence, metrics = context.recipe.evaluation.confidence, []
    for fold, table in rows.items():
        for row in table:
            if not row["refused"]:
                metrics += _selective(row, fold, confidence)
        for unit in measured_units(context.recipe, context.cohort.subjects_known):
            fold_predictions = [getattr(entry, unit) for entry in fits if fold in (entry.split.fold, POOLED)]
            metrics += _curve(fold_predictions, fold, confidence)
    return metrics


def _curve(predictions: Sequence[Predictions], fold: int, confidence: float) -> list[Metric]:
    """The area under the risk-coverage curve, and what it is above that of the best order."""
    scores, wrong, subjects = (
        np.concatenate(parts)
        for parts in zip(*((p.doubt, p.predicted != p.labels, p.subjects) for p in predictions), strict=True)
    )
    metrics = []
    for name, area in (("aurc", uncertainty.aurc), ("excess_aurc", uncertainty.excess_aurc)):
        value = area(scores, wrong)
        ends = jackknife_interval(value, partial(_area_of, area, scores, wrong), subjects, confidence)
        metrics.append(Metric(name, value, *ends, predictions[0].unit, len(scores), protocol="honest", fold=fold))
    return metrics


def _area_of(
    area: Callable[[FloatArray, BoolArray], float], scores: FloatArray, wrong: BoolArray, rows: BoolArray
) -> float:
    return area(scores[rows], wrong[rows])


def _selective(row: Row, fold: int, confidence: float) -> list[Metric]:
    shares = {"answered_share": (row["answered"], row["test"]), "selective_error": (row["wrong"], row["answered"])}
    group = f"risk={row['risk']:g}"
    return [
        Metric(
            name,
            part / whole,
            *clopper_pearson(part, whole, confidence),
            "subject",
            whole,
            group,
            "network",
            "honest",
            fold,
        )
        for name, (part, whole) in shares.items()
        if whole
    ]


def selective_rows(fit_dir: Fit, entry: ModelPredictions) -> list[Row]:
    """For each allowed error rate: the threshold from calibration subjects, and its results on the test side."""
    abstention = run.read_json(fit_dir.abstention)
    predictions, rows = entry.subjects, []
    wrong = predictions.predicted != predictions.labels
    for values in abstention["table"]:
        learnt = bundle.abstention_from_dict(values)
        answered = ~learnt(predictions.doubt)
        row: Row = dict.fromkeys(SELECTIVE)
        row |= {
            "fold": fit_dir.fold,
            "chosen": values == abstention["chosen"],
            "risk": learnt.risk,
            "delta": learnt.delta,
        }
        row |= {"refused": learnt.refused, "calibration": learnt.count}
        row |= {"calibration_answered": round(learnt.answered * learnt.count), "test": len(predictions)}
        rows.append({**row, "answered": int(answered.sum()), "wrong": int((answered & wrong).sum())})
    return rows


def _summed(rows: Sequence[Row]) -> Row:
    """One allowed error over several folds; refused where any fold refuses."""
    sums = {
        name: sum(row[name] for row in rows)
        for name in ("calibration", "calibration_answered", "test", "answered", "wrong")
    }
    return {**rows[0], **sums, "refused": next((row["refused"] for row in rows if row["refused"]), "")}


def write_selective_tables(folder: RunFolder, predictions: Sequence[ModelPredictions]) -> None:
    """Write `tables/selective.csv` and `out_of_distribution.csv` of the honest fits, `members.csv` of ensembles."""
    selective: list[Row] = []
    strange: list[Row] = []
    for entry in predictions:
        if entry.model == "network" and entry.split.protocol == "honest":
            fit_dir = folder.fit("honest", entry.split.fold)
            selective += selective_rows(fit_dir, entry)
            strange += detection_rows(fit_dir)
    for columns, rows, name in (
        (SELECTIVE, selective, layout.SELECTIVE), (DETECTION_COLUMNS, strange, layout.OUT_OF_DISTRIBUTION),
        (MEMBERS, _diversity(folder, predictions), layout.MEMBERS),
    ):  # fmt: skip
        if rows:
            write_table(columns, [[row[column] for column in columns] for row in rows], folder.tables / name)


def _diversity(folder: RunFolder, predictions: Sequence[ModelPredictions]) -> list[Row]:
    """Disagreement of the members of each network on its test scans; of networks that have several."""
    from scanwise.models.diversity import Diversity

    rows = []
    for entry in predictions:
        if entry.model == "network":
            logits = Logits.load(folder.fit(entry.split.protocol, entry.split.fold).logits("test")).logits
            if logits.shape[1] > 1:
                apart = logits.astype(np.float64) - logits.max(2, keepdims=True)
                diversity = Diversity.of(np.exp(apart) / np.exp(apart).sum(2, keepdims=True))
                counts = {"members": diversity.members, "disagreement": diversity.disagreement, "kl": diversity.kl}
                rows.append(
                    {"protocol": entry.split.protocol, "fold": entry.split.fold, **counts, "told": str(diversity)}
                )
    return rows


def detection_rows(fit_dir: Fit) -> list[Row]:
    """AUROC of each score between altered and test scans, and the share that the default flags."""
    train, validation, test, strange = (
        Logits.load(fit_dir.logits(side)) for side in ("train", "validation", "test", ALTERED)
    )
    detector = NoveltyDetector.load(fit_dir.novelty)
    scores = detection_scores(detector, train, validation)
    usual = {name: score(test) for name, score in scores.items()}
    unusual = {name: score(strange) for name, score in scores.items()}
    kinds = {kind: strange.groups["kind"] == kind for kind in dict.fromkeys(strange.groups["kind"].tolist())}
    flagged = detector(test)[1], detector(strange)[1]
    shared = {"fold": fit_dir.fold, "score": "default", "auroc": ""}
    rows = [{**shared, "kind": "test scans", **_counts(test), "flagged": float(flagged[0].mean())}]
    for kind, here in kinds.items():
        counts = {"scans": int(here.sum()), "subjects": len(np.unique(strange.subjects[here]))}
        for name in scores:
            row = {
                "fold": fit_dir.fold,
                "kind": kind,
                **counts,
                "score": name,
                "auroc": detection_auroc(usual[name], unusual[name][here]),
            }
            rows.append({**row, "flagged": float(flagged[1][here].mean()) if name == "default" else ""})
    return rows


def _counts(logits: Logits) -> Row:
    return {"scans": len(logits), "subjects": len(np.unique(logits.subjects))}


def detection_scores(
    detector: NoveltyDetector, train: Logits, validation: Logits
) -> Mapping[str, Callable[[Logits], FloatArray]]:
    """Each of `SCORES` as a function of logits; those beside the default learn from the same training scans."""
    components = detector.components
    near = uncertainty.Neighbours.fit(_features(train), _features(validation), subjects=validation.subjects)
    far = uncertainty.Mahalanobis.fit(components(_features(train)), train.labels)
    return {
        "default": detector.distances,
        "features": lambda logits: near.score(_features(logits)),
        "mahalanobis": lambda logits: far.score(components(_features(logits))),
        "energy": lambda logits: uncertainty.energy_score(logits.logits.mean(axis=1)),
    }


def detection_auroc(usual: FloatArray, unusual: FloatArray) -> float:
    """The AUROC of a score: the share of pairs of an altered and a usual scan in which the altered one scores higher."""
    scores = np.concatenate([usual, unusual])
    return float(weighted_auroc(scores, np.arange(len(scores)) >= len(usual), np.ones(len(scores))))


def _features(logits: Logits) -> FloatArray:
    if logits.features is None:
        raise DataError("These logits were written without features. Delete them, and run again with --resume.")
    return logits.features
