"""The network of a fit: trained, or of a deep ensemble several, one after the other."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scanwise.cohort.covariates import standardise
from scanwise.csv_files import read_csv, write_csv
from scanwise.errors import RecipeError
from scanwise.models.vocabulary import Vocabulary
from scanwise.pipeline.context import Context
from scanwise.pipeline.stages.bags import rows_in_order
from scanwise.pipeline.stages.prediction import ALTERED
from scanwise.pipeline.stages.subject_ridge import train_ridge
from scanwise.pipeline.stages.text_inputs import PARTS, cohort_tokens, fit_vocabulary
from scanwise.progress_bar import span_of_step
from scanwise.recipe import Members, Model, Recipe
from scanwise.records import SIDES, Finding, IntArray, Split
from scanwise.run import Fit, is_writer

if TYPE_CHECKING:
    from scanwise.models import Network


def train_fit(context: Context, fit_dir: Fit, split: Split) -> None:
    """Leave the weights of a fit in its folder; what an earlier session left there is kept."""
    if fit_dir.model.is_file():
        return
    # Logits of a network that is gone go too.
    for side in (*SIDES, ALTERED, *PARTS):
        fit_dir.logits(side).unlink(missing_ok=True)
    if context.recipe.model.is_ridge:
        if is_writer():
            train_ridge(context, fit_dir, split)
        return
    from scanwise.training import distributed

    vocabulary = distributed.writer_first(lambda: fit_vocabulary(context, fit_dir, split))
    tokens = cohort_tokens(context, vocabulary)
    recipe = context.recipe
    if recipe.model.members.kind != "deep_ensemble":
        _train_one(context, recipe, fit_dir, split, vocabulary, tokens)
        return
    members = [fit_dir.member(index) for index in range(recipe.model.members.number)]
    alone = recipe.model.model_copy(update={"members": Members()})
    for index, member in enumerate(members):
        if not member.model.is_file():
            own = recipe.model_copy(update={"model": alone, "seed": recipe.seed + index})
            with span_of_step(index, len(members)):
                _train_one(context, own, member, split, vocabulary, tokens)
    if is_writer():
        _join(context, alone, members, fit_dir, vocabulary)


def check_trainable(network: "Network", recipe: Recipe) -> None:
    """See that a network can be trained as its recipe says, before anything is written: the stages take hours.

    Args:
        network: as built, on the CPU; left in evaluation mode.
        made: its recipe.

    Raises:
        RecipeError: if scans of the recipe's size do not go through, or a frozen stage would keep features that the members
            of a batch ensemble do not share.
    """
    from scanwise.models import dry_run

    dry_run.check_input_size(network, recipe)
    kept = [number for number, stage in enumerate(recipe.train.stages, 1) if stage.is_cached]
    ensemble = recipe.model.members.kind == "batch_ensemble" and network.members > 1
    if kept and ensemble and not network.folds_late:
        raise RecipeError(
            f"Stage {kept[0]} of train.stages keeps the features of a frozen backbone, but members of this batch ensemble "
            f"differ below the head (model.members.layers={recipe.model.members.layers}), so each has features of its own. "
            "Lower model.members.layers (1 is the last layer alone), or set views: 0 or freeze: none in that stage."
        )


def untrained_findings(recipe: Recipe) -> list[Finding]:
    """A warning about a network that is used without training."""
    if recipe.train.epochs or recipe.model.is_ridge:
        return []
    return [
        Finding(
            "model.weights",
            "warning",
            f"Nothing was trained here (train.epochs is 0): the weights are those of {Path(recipe.model.weights).name}, and "
            "it is unknown whether they have seen these scans or these people. If they have, no split makes the figures "
            "honest; only scans that their makers never had would.",
        )
    ]


def _train_one(
    context: Context, recipe: Recipe, fit_dir: Fit, split: Split, vocabulary: Vocabulary | None, tokens: IntArray | None
) -> None:
    import torch

    from scanwise import training
    from scanwise.models import build_network

    cohort = context.cohort
    torch.manual_seed(recipe.seed)
    encoder = None if vocabulary is None else vocabulary.encoder
    network = build_network(
        recipe.model, len(cohort.classes), recipe.data.channels, classes=cohort.classes, encoder=encoder, tell=False
    )  # preflight has reported already what became of a file's classifier
    if network.covariates is not None:
        rows = split.rows("train")
        first = rows[np.unique(cohort.subject[rows], return_index=True)[1]]  # each person counts once
        scale = torch.from_numpy(standardise(np.asarray(tokens)[first].astype(np.float64))[1])
        network.covariates.set_scale(*scale)
    training.train_network(
        network,
        recipe,
        context.store,
        cohort.labels,
        {side: rows_in_order(recipe, cohort, split.rows(side)) for side in SIDES},
        fit_dir,
        subjects=cohort.subject if cohort.subjects_known else None,
        tokens=tokens,
        classes=cohort.classes,
        device=context.device,
        after=context.send,
    )


def _join(context: Context, alone: Model, members: list[Fit], fit_dir: Fit, vocabulary: Vocabulary | None) -> None:
    """Put trained networks into one file of weights, and the mean of their histories beside it."""
    from scanwise.models import DeepEnsemble, build_network, weights

    shape = (alone, len(context.cohort.classes), context.recipe.data.channels)
    encoder = None if vocabulary is None else vocabulary.encoder
    networks = [build_network(*shape, pretrained=False, encoder=encoder) for _ in members]
    for network, member in zip(networks, members, strict=True):
        weights.load_weights(network, member.model)
    _average([member.history for member in members], fit_dir.history)
    weights.save_weights(DeepEnsemble(networks), fit_dir.model)


def _average(histories: list[Path], out: Path) -> None:
    """The mean over the members of each figure, for the epochs that all of them have."""
    header, _ = read_csv(histories[0])
    rows = [read_csv(path)[1] for path in histories]
    shortest = min(map(len, rows))
    cells = np.array([[[float(cell or "nan") for cell in row] for row in history[:shortest]] for history in rows])
    means = cells.mean(0)
    counted = [[int(row[0]), *row[1:].tolist()] for row in means]
    write_csv(header, counted, out)
