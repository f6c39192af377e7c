"""The network beside simple baselines on the same scans: predictions and metrics of both."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from scanwise import baselines, bundle, calibration, evaluation, pooling, run
from scanwise.baselines import summaries
from scanwise.bundle import Predictor, cdr_by_class
from scanwise.cohort.covariates import covariate_numbers, mean_of_person, settled_covariates
from scanwise.cohort.decoding.pixels import Pixels
from scanwise.cohort.remote import local_root
from scanwise.cohort.store import Store
from scanwise.pipeline.context import Context
from scanwise.pipeline.stages.bags import measured_units
from scanwise.pipeline.stages.text_inputs import cohort_titles, removable_parts
from scanwise.recipe import Data, Model, Recipe
from scanwise.records import FloatArray, IntArray, Logits, Metric, Predictions, Split, Unit
from scanwise.run import Fit

PLAIN: dict[Unit, Predictor] = {  # no calibrator, no guarantee
    "scan": Predictor(calibration.Temperature(1.0), None, "scan"),
    "subject": Predictor(calibration.Temperature(1.0), None, "subject"),
}


POOLED = -1  # the fold number of figures over all folds together


@dataclass(frozen=True, slots=True)
class ModelPredictions:
    """One model's answers on the test side of one fit."""

    model: str
    split: Split
    scans: Predictions
    subjects: Predictions


def predict_baselines(context: Context, fit_dir: Fit, split: Split, test: Logits) -> list[ModelPredictions]:
    """Predictions of the simple baselines on the same split, kept beside the network's logits."""
    train, rows = split.rows("train"), split.rows("test")
    labels, subjects = context.cohort.labels[train], context.cohort.subject[train]
    pixels = {"train": _small(context.store, train), "test": _small(context.store, rows)}
    pooled = pooling.pool_by_subject(test)
    for name in context.recipe.rivals.names:
        spec = baselines.BASELINES[name]
        given = _inputs(spec, context, pixels, train, rows)
        if given is None:
            continue
        count, baseline = len(context.cohort.classes), spec.fit_predict
        if spec.orders and context.cohort.ordered and count > 2:
            baseline = partial(baseline, ordered=True)
        scans = _as_logits(baseline(given["train"], labels, subjects, given["test"], count), test)
        people = pooling.pool_by_subject(scans)
        if spec.by_subject:  # its classic form: one mean feature a subject, and a regression over subjects
            means = baselines.mean_features_by_subject(given["train"], labels, subjects)
            test_means, _, names = baselines.mean_features_by_subject(
                given["test"], np.zeros_like(test.labels), test.subjects
            )
            order = [names.tolist().index(subject) for subject in pooled.subjects.tolist()]
            people = _as_logits(baseline(*means, test_means[order], count), pooled)
        for unit, answers in (("scan", scans), ("subject", people)):
            run.save(answers, fit_dir.rival(name, unit))
    return load_baselines(fit_dir, split, context.recipe.rivals.names)


def _inputs(
    spec: baselines.BaselineSpec, context: Context, pixels: dict[str, Pixels], train: IntArray, test: IntArray
) -> dict[str, Any] | None:
    """Inputs of a baseline for the training and test sides; None where there is nothing of the kind."""
    match spec.needs:
        case "features":
            return _features(context, train, test)
        case "words":
            return _titles(context, train, test)
        case "counts":
            return _counts(context, train, test)
        case "covariates":
            return _covariates(context, train, test)
    return pixels if spec.summary is None else {side: spec.summary(values) for side, values in pixels.items()}


def _counts(context: Context, train: IntArray, test: IntArray) -> dict[str, Any] | None:
    """(N, 1) number of scans of each scan's subject; None where no subject is known, or all have as many."""
    _, person, counts = np.unique(context.cohort.subject, return_inverse=True, return_counts=True)
    if not context.cohort.subjects_known or len(np.unique(counts)) == 1:
        return None
    of_scans = counts[person][:, None].astype(np.float64)
    return {"train": of_scans[train], "test": of_scans[test]}


def _covariates(context: Context, train: IntArray, test: IntArray) -> dict[str, Any] | None:
    """(N, K) what is known of each scan's person; None where the recipe names no covariate."""
    cohort, covariates = context.cohort, settled_covariates(context.recipe)
    if not covariates:
        return None
    numbers = mean_of_person(covariate_numbers(cohort.groups, covariates, len(cohort)), cohort.subject)
    return {"train": numbers[train], "test": numbers[test]}


def load_baselines(fit_dir: Fit, split: Split, names: Sequence[str]) -> list[ModelPredictions]:
    """Predictions of the named baselines in a fit, as `predict_baselines` kept them."""
    predictions = []
    for name in names:
        if fit_dir.rival(name, "scan").is_file():
            scans, people = (Logits.load(fit_dir.rival(name, unit), unit) for unit in PLAIN)
            predictions.append(ModelPredictions(name, split, PLAIN["scan"](scans, []), PLAIN["subject"](people, [])))
    return predictions


def predict_without_parts(fit_dir: Fit, split: Split, recipe: Recipe) -> list[ModelPredictions]:
    """The network's predictions without a part of its input; without sets, since no guarantee covers them."""
    predictors = bundle.load_predictors(fit_dir)
    plain: dict[Unit, Predictor] = {
        unit: replace(predictor, sets=None, detector=None) for unit, predictor in predictors.items()
    }
    predictions = []
    for part in removable_parts(recipe):
        logits = Logits.load(fit_dir.logits(part))
        by_scan, by_subject = bundle.predict_scans_and_subjects(plain, logits, logits.scans.tolist())
        predictions.append(ModelPredictions(f"network_{part}", split, by_scan, by_subject))
    return predictions


def _titles(context: Context, train: IntArray, test: IntArray) -> dict[str, Any] | None:
    """The words as the network reads them; None for one that reads none."""
    if not context.recipe.model.reads_words:
        return None
    read = cohort_titles(context.cohort, context.recipe)
    return {"train": read[train], "test": read[test]}


def _as_logits(probs: FloatArray, like: Logits) -> Logits:
    return replace(like, logits=np.log(probs)[:, None, :].astype(np.float32), features=None, attention=None)


def _small(store: Store, rows: IntArray, side: int = 64, block: int = 512) -> Pixels:
    """Scans for baselines, which read small images anyway: averaged down to at most 64 × 64, block by block."""
    blocks = (store.read(rows[start : start + block]) for start in range(0, len(rows), block))
    return np.concatenate(
        [np.rint(summaries.average_areas(pixels, (side, side))).astype(np.uint8) for pixels in blocks]
    )


def _features(context: Context, train: IntArray, test: IntArray) -> dict[str, Any] | None:
    """Frozen features of a pretrained backbone, or None where its weights are not at hand."""
    section = context.recipe.rivals
    if section.weights == "none":
        return None
    features = context.feature_cache.get(lambda: _compute_features(context))
    return {"train": features[train], "test": features[test]}


def _compute_features(context: Context) -> FloatArray:
    """(N, D) features of all scans, from the backbone that the recipe names for the baseline."""
    from scanwise.cohort.store import build_store
    from scanwise.models import build_network
    from scanwise.prediction import predict_scans, prediction_batch_size

    section = context.recipe.rivals
    shape = Data(size=section.size, channels=3, shape=context.recipe.data.shape)
    options = {"mean": section.mean, "std": section.std, "options": section.options}
    network = build_network(Model(name=section.backbone, weights=section.weights, **options), 0, 3)
    store, _ = build_store(local_root(context.cohort.root), context.cohort.path, shape, progress=context.progress)
    _, features = predict_scans(
        network,
        store,
        np.arange(len(context.cohort)),
        batch=prediction_batch_size(context.recipe),
        device=context.device,
        progress=context.progress,
    )
    return features


def measure_models(context: Context, predictions: Sequence[ModelPredictions]) -> list[Metric]:
    """Figures of every model, fit and unit, and each baseline's paired difference to the network."""
    section = context.recipe.evaluation
    metrics: list[Metric] = []
    for group in _with_pooled(predictions):
        network = group[0]
        shared: dict[str, Any] = {"draws": section.draws, "confidence": section.confidence, "seed": context.recipe.seed}
        leaked = network.split.protocol != "honest"
        for unit in measured_units(context.recipe, context.cohort.subjects_known):
            reference: Predictions = getattr(network, unit)
            for entry in group:
                own: Predictions = getattr(entry, unit)
                measured = evaluation.measure_predictions(
                    own,
                    subjects=own.subjects,
                    accuracy_only=leaked,
                    ordered=context.cohort.ordered,
                    ratings=cdr_by_class(context.recipe, context.cohort.classes),
                    by_class=entry is network,  # of baselines the whole is enough
                    **shared,
                )
                if entry is network:
                    measured += evaluation.break_down(own, accuracy_only=leaked, **shared)
                else:
                    measured += evaluation.paired_difference(reference, own, model=entry.model, **shared)
                metrics += [
                    replace(m, model=entry.model, protocol=entry.split.protocol, fold=entry.split.fold)
                    for m in measured
                ]
    return metrics


def _with_pooled(predictions: Sequence[ModelPredictions]) -> Iterator[list[ModelPredictions]]:
    """The models of each fit, the network first; then, over several folds, of all of them together."""
    groups: dict[tuple[str, int], list[ModelPredictions]] = {}
    for entry in predictions:
        groups.setdefault((entry.split.protocol, entry.split.fold), []).append(entry)
    yield from groups.values()
    folds = [group for (protocol, _), group in groups.items() if protocol == "honest"]
    if len(folds) > 1:
        yield [pool_folds(list(entries)) for entries in zip(*folds, strict=True)]


def pool_folds(entries: list[ModelPredictions]) -> ModelPredictions:
    split = replace(entries[0].split, fold=POOLED)
    return ModelPredictions(
        entries[0].model, split, _join([e.scans for e in entries]), _join([e.subjects for e in entries])
    )


def _join(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of several folds as one; each row keeps the sets of its own fold."""

    def rows(name: str) -> Any:
        columns = [getattr(part, name) for part in parts]
        return None if any(column is None for column in columns) else np.concatenate(columns)

    first = parts[0]
    names = [field.name for field in fields(Predictions) if field.name not in ("classes", "groups", "unit")]
    groups = {name: np.concatenate([part.groups[name] for part in parts]) for name in first.groups}
    return Predictions(**{name: rows(name) for name in names}, classes=first.classes, groups=groups, unit=first.unit)
