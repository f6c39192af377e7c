"""The network of a fit: trained, or of a deep ensemble several, one after the other."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scanwise.csv_files import read_csv, write_csv
from scanwise.errors import RecipeError
from scanwise.models.vocabulary import Vocabulary
from scanwise.pipeline.context import Context
from scanwise.pipeline.stages.prediction import ALTERED
from scanwise.pipeline.stages.text_inputs import PARTS, cohort_tokens, fit_vocabulary
from scanwise.recipe import Members, Model, Recipe
from scanwise.records import SIDES, Finding, IntArray, Split
from scanwise.run import Fit, is_writer

if TYPE_CHECKING:
    from scanwise.models import Network


def train_fit(context: Context, place: Fit, split: Split) -> None:
    """Leave the weights of a fit in its folder; what an earlier session left there is kept."""
    if place.model.is_file():
        return
    # What was said by a network that is gone goes too; a retrained one speaks for itself.
    for side in (*SIDES, ALTERED, *PARTS):
        place.logits(side).unlink(missing_ok=True)
    from scanwise.training import distributed

    vocabulary = distributed.writer_first(lambda: fit_vocabulary(context, place, split))
    tokens = cohort_tokens(context, vocabulary)
    made = context.recipe
    if made.model.members.kind != "deep_ensemble":
        _train_one(context, made, place, split, vocabulary, tokens)
        return
    members = [place.member(index) for index in range(made.model.members.number)]
    alone = made.model.model_copy(update={"members": Members()})
    for index, member in enumerate(members):
        if not member.model.is_file():
            own = made.model_copy(update={"model": alone, "seed": made.seed + index})
            _train_one(context, own, member, split, vocabulary, tokens)
    if is_writer():
        _join(context, alone, members, place, vocabulary)


def check_trainable(network: "Network", made: Recipe) -> None:
    """See that a network can be trained as its recipe says, before anything is written: the stages take hours.

    Args:
        network: as built, on the CPU; left in evaluation mode.
        made: its recipe.

    Raises:
        RecipeError: if scans of the recipe's size do not go through, or a frozen stage would keep features that the members
            of a batch ensemble do not share.
    """
    from scanwise.models import dry_run

    dry_run.check_input_size(network, made)
    kept = [number for number, stage in enumerate(made.train.stages, 1) if stage.is_cached]
    ensemble = made.model.members.kind == "batch_ensemble" and network.members > 1
    if kept and ensemble and not network.folds_late:
        raise RecipeError(
            f"Stage {kept[0]} of train.stages keeps the features of a frozen backbone, but members of this batch ensemble "
            f"differ below the head (model.members.layers={made.model.members.layers}), so each has features of its own. "
            "Lower model.members.layers (1 is the last layer alone), or set views: 0 or freeze: none in that stage."
        )


def untrained_findings(made: Recipe) -> list[Finding]:
    """What is to be known of a network that is taken as it came."""
    if made.train.epochs:
        return []
    return [
        Finding(
            "model.weights",
            "warning",
            f"Nothing was trained here (train.epochs is 0): the weights are those of {Path(made.model.weights).name}, and "
            "nobody knows whether they have seen these scans or these people. If they have, no split makes the figures "
            "honest; only scans that their makers never had would.",
        )
    ]


def _train_one(
    context: Context, made: Recipe, place: Fit, split: Split, vocabulary: Vocabulary | None, tokens: IntArray | None
) -> None:
    import torch

    from scanwise import training
    from scanwise.models import build_network

    known = context.cohort
    torch.manual_seed(made.seed)
    encoder = None if vocabulary is None else vocabulary.encoder
    network = build_network(
        made.model, len(known.classes), made.data.channels, classes=known.classes, encoder=encoder, tell=False
    )  # what became of a file's classifier was told when the network was tried
    training.train_network(
        network,
        made,
        context.store,
        known.labels,
        {side: split.rows(side) for side in SIDES},
        place,
        subjects=known.subject if known.subjects_known else None,
        tokens=tokens,
        classes=known.classes,
        device=context.device,
        progress=context.progress,
        after=context.send,
    )


def _join(context: Context, alone: Model, members: list[Fit], place: Fit, vocabulary: Vocabulary | None) -> None:
    """Put trained networks into one file of weights, and the mean of their histories beside it."""
    from scanwise.models import DeepEnsemble, build_network, weights

    shape = (alone, len(context.cohort.classes), context.recipe.data.channels)
    encoder = None if vocabulary is None else vocabulary.encoder
    networks = [build_network(*shape, pretrained=False, encoder=encoder) for _ in members]
    for network, member in zip(networks, members, strict=True):
        weights.load_weights(network, member.model)
    _average([member.history for member in members], place.history)
    weights.save_weights(DeepEnsemble(networks), place.model)


def _average(histories: list[Path], out: Path) -> None:
    """The mean over the members of each figure, for the epochs that all of them have."""
    header, _ = read_csv(histories[0])
    rows = [read_csv(path)[1] for path in histories]
    shortest = min(map(len, rows))
    cells = np.array([[[float(cell or "nan") for cell in row] for row in one[:shortest]] for one in rows])
    means = cells.mean(0)
    counted = [[int(row[0]), *row[1:].tolist()] for row in means]
    write_csv(header, counted, out)
