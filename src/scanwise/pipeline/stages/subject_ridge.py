"""The network that is solved in closed form: features kept once for all folds, a vector a person, members by inner folds.

It learns from the people of the training and validation sides together, and with `conformal.data: out_of_fold` from those of the
calibration side too. What these sides say of temperature, tuning and prediction sets stays honest, because their logits come from
the member that has not seen the person.
"""

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from scanwise.baselines.summaries import small_pixels
from scanwise.cohort import LABEL
from scanwise.cohort.anatomical_order import POSITION, recovered_positions, scan_positions
from scanwise.cohort.classes import stage_codes
from scanwise.cohort.covariates import person_tokens, settled_covariates, standardise
from scanwise.cohort.store import Store, cache_folder
from scanwise.errors import RecipeError
from scanwise.pipeline.context import Context
from scanwise.pooling import common_label
from scanwise.recipe import Recipe
from scanwise.records import Cohort, Finding, FloatArray, IntArray, Logits, Split
from scanwise.run import Fit

if TYPE_CHECKING:
    from scanwise.models import Network
    from scanwise.training.features import FeatureSource

OUT_OF_FOLD = "out_of_fold"
"""Name of the logits of all who taught, beside those of the sides."""
INNER_FOLD = "inner_fold"
"""Column of these logits: the member that has not seen the person."""
FEATURES = {"backbone", "second", "blocks", "grid", "pixels"}
"""Settings that decide the features of a scan."""
FEATURE_BATCH = 16
"""Scans that pass through the backbone at a time: a third faster on a CPU than 64, whose maps leave its caches."""
BLOCK = 256
"""Scans whose features are read at a time."""


def with_recovered_order(recipe: Recipe, cohort: Cohort, store: Store) -> Cohort:
    """The cohort with a position for people whose order the pixels alone tell, for a network that reads it."""
    if not recipe.model.is_ridge or recipe.model.ridge.slabs == 1:
        return cohort
    positions = scan_positions(cohort.path, cohort.groups)
    recovered = recovered_positions(
        cohort.subject, positions, lambda people: (small_pixels(store.read(rows)) for rows in people)
    )
    new = np.isnan(positions) & ~np.isnan(recovered)
    if not new.any():
        return cohort
    column = cohort.groups.get(POSITION, np.full(len(cohort), ""))
    written = np.where(new, [f"{value:g}" for value in recovered.tolist()], column)
    return replace(cohort, groups={**cohort.groups, POSITION: written})


def order_findings(recipe: Recipe, before: Cohort, cohort: Cohort) -> list[Finding]:
    """Notes on the people whose scans had no known order, for a network that reads it.

    Args:
        recipe: with the network.
        before: the cohort as it was read.
        cohort: the same people after `with_recovered_order`.
    """
    if not recipe.model.is_ridge or recipe.model.ridge.slabs == 1:
        return []
    counts = []
    for scans in (before, cohort):
        unknown = np.isnan(scan_positions(scans.path, scans.groups))
        counts.append(len(np.unique(scans.subject[unknown])))
    people, messages = len(np.unique(cohort.subject)), []
    if counts[0] > counts[1]:
        messages.append(
            f"The anatomical order of the scans was recovered for {counts[0] - counts[1]:,} of {people:,} subjects: neighbouring "
            "slices look alike, and the end with less background comes first. A column position tells it for certain."
        )
    if counts[1]:
        messages.append(
            f"The anatomical order of the scans is not known for {counts[1]:,} of {people:,} subjects: all their scans are "
            "averaged alike. A column position in the manifest tells it."
        )
    return [Finding("model.order", "note", message) for message in messages]


def train_ridge(context: Context, fit_dir: Fit, split: Split) -> None:
    """Solve the network of a fit and leave its weights in the folder."""
    import torch

    from scanwise.models import build_network, weights
    from scanwise.ridge import fit_ridge

    recipe, cohort = context.recipe, context.cohort
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.model, len(cohort.classes), recipe.data.channels, classes=cohort.classes, tell=False)
    body: Any = network.body
    rows = _learning_rows(recipe, split)
    _, labels, folds, codes = _people(context, rows)
    positions = scan_positions(cohort.path, cohort.groups)
    tokens = person_tokens(cohort.subject, positions, cohort.groups, settled_covariates(recipe))
    blocks = _vectors(kept_features(context, network), rows, codes, tokens, body)
    scale: FloatArray = np.empty((2, 0))
    if body.head.covariates:
        numbers, scale = standardise(tokens[rows[np.unique(codes, return_index=True)[1]], 2:].astype(np.float64))
        blocks.append(numbers)
    targets, count = _targets(context, rows, codes), len(cohort.classes)
    match = recipe.model.ridge.cuts == "shares" and count > 2 and targets.shape[1] == 1
    apart = recipe.conformal.is_out_of_fold
    solved = fit_ridge(blocks, targets, labels, folds, count, match_shares=match, apart=apart)
    with torch.no_grad():
        for member, (of_blocks, centres) in enumerate(zip(solved.weights, solved.centres, strict=True)):
            own, middle = of_blocks[: len(body.sizes)], centres[: len(body.sizes)]
            if body.head.covariates:
                body.head.covariate_weight[member] = torch.from_numpy(of_blocks[-1] / scale[1][:, None])
                body.head.covariate_centre[member] = torch.from_numpy(centres[-1] * scale[1] + scale[0])
            parts = np.concatenate([part.reshape(body.slabs, -1, len(cohort.classes)) for part in own], axis=1)
            centre = np.concatenate([part.reshape(body.slabs, -1) for part in middle], axis=1)
            body.head.weight[member], body.head.centre[member] = torch.from_numpy(parts), torch.from_numpy(centre)
            body.head.constant[member] = torch.from_numpy(solved.bias[member])
    weights.save_weights(network, fit_dir.model)


def predict_kept(
    context: Context, network: "Network", source: "FeatureSource", split: Split, rows: IntArray, places: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Logits (N, T, C) and features (N, D) of scans whose features are kept, in `source` of `kept_features`.

    Where a person taught the network, T is 1: the member that did not learn from them.
    """
    import torch

    logits, features = [], []
    with torch.inference_mode():
        for start in range(0, len(rows), BLOCK):
            here = rows[start : start + BLOCK]
            maps, tokens = source.read(0, here), torch.from_numpy(places[here])
            logits.append(network.head_members(maps, tokens).numpy())
            features.append(network.forward_head(maps, pre_logits=True, tokens=tokens).numpy())
    members, learning = np.concatenate(logits), _learning_rows(context.recipe, split)
    if np.isin(rows, learning).all():
        names, _, folds, _ = _people(context, learning)
        own = folds[np.searchsorted(names, context.cohort.subject[rows])]
        members = members[np.arange(len(rows)), own][:, None]
    return members, np.concatenate(features)


def out_of_fold_logits(
    context: Context, network: "Network", source: "FeatureSource", split: Split, places: IntArray
) -> Logits:
    """Logits of all scans of people who taught, each from the member that left the person out, and which member that is."""
    rows = _learning_rows(context.recipe, split)
    logits, _ = predict_kept(context, network, source, split, rows, places)
    _, _, folds, codes = _people(context, rows)
    here = context.cohort.take(rows)
    return Logits(
        logits, here.labels, here.path, here.subject, here.classes, groups={INNER_FOLD: folds[codes].astype(np.str_)},
        split="train", protocol=split.protocol, fold=split.fold,
    )  # fmt: skip


def kept_features(context: Context, network: "Network") -> "FeatureSource":
    """Features of all scans of the cohort from the frozen backbone, as 16 bits in the cache."""
    from scanwise.training.augment import Augmentations
    from scanwise.training.features import RecomputedFeatures, cache_features

    side = RecomputedFeatures(network.eval(), context.store, np.arange(len(context.cohort)), (Augmentations(),))
    # A scan's hash is that of its file's pixels, whatever size they are brought to.
    settings = [context.recipe.model.ridge.model_dump(include=FEATURES), context.recipe.data.of_pixels]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, tensor in network.state_dict().items():
        if not name.startswith("body.head."):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    fingerprint = digest.hexdigest()
    scans = hashlib.sha256("".join(context.store.digest.tolist()).encode()).hexdigest()
    folder = cache_folder() / "features" / f"{fingerprint[:16]}-{scans[:16]}"
    return cache_features(folder, {"all": side}, fingerprint, FEATURE_BATCH)["all"]


def _learning_rows(recipe: Recipe, split: Split) -> IntArray:
    return np.sort(np.concatenate([split.rows(side) for side in recipe.learning_sides]))


def _people(context: Context, rows: IntArray) -> tuple[Any, IntArray, IntArray, IntArray]:
    """Names (P,), classes (P,) and inner folds (P,) of the people of these rows, and the person of each row (N,)."""
    from scanwise.ridge import inner_folds

    cohort = context.cohort
    names, codes = np.unique(cohort.subject[rows], return_inverse=True)
    labels = common_label(cohort.labels[rows], codes, len(cohort.classes))
    return names, labels, inner_folds(labels, context.recipe.model.ridge.folds, context.recipe.seed), codes


def _targets(context: Context, rows: IntArray, codes: IntArray) -> FloatArray:
    """(P, O) mean target of each person: the code of ordered classes or stages (O = 1), else one column a class."""
    cohort, model = context.cohort, context.recipe.model
    count = int(codes.max()) + 1
    if model.ridge.learn_on == "stages":
        values = _stage_codes(context)[rows][:, None]
    elif cohort.ordered or len(cohort.classes) == 2:
        values = cohort.labels[rows][:, None].astype(np.float64)
    else:
        values = np.eye(len(cohort.classes))[cohort.labels[rows]]
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, codes, values)
    return sums / np.bincount(codes, minlength=count)[:, None]


def _stage_codes(context: Context) -> FloatArray:
    """(N,) place of each scan's own label in the recipe's order of the labels that its classes merge."""
    column = context.cohort.groups.get(LABEL)
    if column is None:
        raise RecipeError("model.ridge.learn_on: stages needs classes that merge two labels or more.")
    return stage_codes(column, context.recipe).astype(np.float64)


def _vectors(
    source: "FeatureSource", rows: IntArray, codes: IntArray, places: IntArray | FloatArray, body: Any
) -> list[FloatArray]:
    """For each block (P, S · D) the means of every person's slabs."""
    import torch

    from scanwise.models.subject_ridge import slab_shares

    count = int(codes.max()) + 1
    vectors = np.empty((count, body.slabs, sum(body.sizes)), dtype=np.float32)
    order = np.argsort(codes, kind="stable")
    for person, own in enumerate(np.split(order, np.cumsum(np.bincount(codes))[:-1])):
        shares = slab_shares(torch.from_numpy(places[rows[own]]), body.slabs, len(own)).numpy() / len(own)
        vectors[person] = shares.T.astype(np.float32) @ source.read(0, rows[own]).numpy()
    edges = np.cumsum(body.sizes)[:-1]
    return [part.reshape(count, -1) for part in np.split(vectors, edges, axis=2)]
