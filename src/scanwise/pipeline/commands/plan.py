"""The plan of a fit: subjects and scans of each cell, time and disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scanwise import evaluation, pipeline
from scanwise.auditing.unknown_subjects import join_unchecked
from scanwise.cohort import splits
from scanwise.phrases import count_of
from scanwise.pipeline.context import Context
from scanwise.pipeline.preflight import build_checked_network, preflight
from scanwise.recipe import Recipe, Train, TrainingStage
from scanwise.records import SIDES, Finding, Split
from scanwise.reporting.finding_text import SEVERITIES
from scanwise.reporting.verdicts import describe_counts
from scanwise.run import spell_time

if TYPE_CHECKING:
    from scanwise.models import Network
    from scanwise.training import SecondsPerScan


@dataclass(frozen=True, slots=True)
class FitPlan:
    """The plan of a fit.

    Attributes:
        classes: headings of the cells.
        cells: a row a split and side: its name, then "subjects (scans)" of each class.
        verdict: the answer in a sentence or two: whether it can run, who teaches and is tested, how long it takes.
        lines: weights, disk and memory, in words.
        findings: of the data, the gravest first.
    """

    classes: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    verdict: str
    lines: tuple[str, ...]
    findings: tuple[Finding, ...]


def plan_fit(context: Context) -> FitPlan:
    """Count the cells, time a few steps of the network on random pixels, and add up the disk; writes nothing."""
    from scanwise import training
    from scanwise.models import describe_weights

    recipe = context.recipe
    network = preflight(context) or build_checked_network(context)
    map_bytes = _map_size(network, recipe)
    speed = training.time_steps(network, recipe, context.device)
    cells: list[tuple[str, ...]] = []
    seconds, features = 0.0, 0
    for split in context.splits:
        counted = splits.counts(context.cohort, split)
        fold = f" {split.fold + 1}" if recipe.split.folds > 1 and split.protocol == "honest" else ""
        for side in SIDES:
            here = [f"{row['subjects']} ({row['scans']})" for row in counted if row["side"] == side]
            cells.append((f"{split.protocol}{fold} {side}", *here))
        learn, check = _scans_an_epoch(context, split), len(split.rows("validation"))
        features = max(features, map_bytes * _maps(recipe.train, learn, check))
        rest = len(split.rows("calibration")) + len(split.rows("test")) + check
        seconds += _training(recipe.train, learn, check, speed)
        if not recipe.model.is_ridge:  # whose features are computed once, for all splits
            seconds += rest * speed.predict
    if recipe.model.is_ridge:
        seconds += len(context.cohort) * speed.predict
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    # best weights, weights and bundle count once each, a full checkpoint about three times (weights and two moments)
    kept = 3 + 3 * (1 + (recipe.train.epochs // recipe.train.checkpoint_every if recipe.train.checkpoint_every else 0))
    aside = f"{features / 1e6:.0f} MB more while it trains (features of the frozen backbone), " if features else ""
    fits = f"{count_of(len(context.splits), 'fit')} of {count_of(recipe.train.epochs, 'epoch')}"
    lines = (
        f"weights at the start: {context.veil(describe_weights(recipe.model))}",
        f"time: {fits} at {1 / speed.train:.0f} scans/s in training, measured now",
        f"disk: {len(context.splits) * kept * size / 1e6:.0f} MB in the run folder, {aside}"
        f"{context.store.array.nbytes / 1e6:.0f} MB of decoded scans in the cache",
        f"done for this plan, and kept in the cache: the scans were decoded and compared ({spell_time(sum(context.timings.seconds.values()))})",
        *_memory_of_bags(context),
    )
    findings = sorted(join_unchecked(context.findings), key=lambda finding: list(SEVERITIES).index(finding.severity))
    grave = [finding.severity for finding in findings if finding.severity != "note"]
    read_first = f", with {describe_counts(grave)} to read first" if grave else ""
    time = f"It takes at most about {spell_time(seconds + pipeline.usual_seconds(context))} on {context.device}."
    verdict = " ".join([f"This fit can run{read_first}.", time, *_sample_size(context)])
    return FitPlan(context.cohort.classes, tuple(cells), verdict, lines, tuple(findings))


def _scans_an_epoch(context: Context, split: Split) -> int:
    """Number of scans that an epoch of training reads, at most `model.bag` of a person where the unit is the person."""
    rows, model = split.rows("train"), context.recipe.model
    if not model.by_subject:
        return len(rows)
    counts = np.unique(context.cohort.subject[rows], return_counts=True)[1]
    return int(np.minimum(counts, model.bag).sum())


def _memory_of_bags(context: Context) -> list[str]:
    """Number of scans that a training step holds, where the unit is the person."""
    model, train = context.recipe.model, context.recipe.train
    if not model.by_subject:
        return []
    most = np.unique(context.cohort.subject, return_counts=True)[1].max()
    held = count_of(train.batch * min(model.bag, int(most)), "scan")
    return [f"memory: a training step holds up to {held} (train.batch {train.batch} subjects, model.bag {model.bag})"]


def _sample_size(context: Context) -> list[str]:
    """Subjects that teach and that are tested, and the interval to expect at that size; nothing without an honest split."""
    honest, cohort = [split for split in context.splits if split.protocol == "honest"], context.cohort
    if not honest:
        return []
    counts = {name: count for name, count in splits.subjects_per_class(cohort).items() if count}
    evaluable = [count for name, count in counts.items() if name not in honest[0].not_evaluable]
    sides = {side: splits.subjects_per_class(cohort.take(honest[0].rows(side))) for side in SIDES}
    sums = {side: sum(of_side.values()) for side, of_side in sides.items()}
    whole = f"all {sum(evaluable):,}: AUROC ± {_margin(context, evaluable)}"
    teach = f"{sums['train']:,} subjects teach, with {sums['validation']:,} to choose by"
    if context.recipe.model.is_ridge:
        teach = (
            f"{sum(sums[side] for side in context.recipe.learning_sides):,} subjects teach (inner folds of them choose)"
        )
    if len(honest) > 1:
        return [f"{teach}, in each fold; over all folds are tested {whole} to expect around 0.8."]
    tested = f"{sums['test']:,} are tested: AUROC ± {_margin(context, [*sides['test'].values()])} to expect around 0.8"
    fixed = honest[0].rule == splits.BY_DATA
    return [f"{teach}; {tested}." + ("" if fixed else f" `scanwise fold` tests {whole}.")]


def _margin(context: Context, counts: Sequence[int]) -> str:
    return f"{evaluation.expected_auroc_margin(counts, confidence=context.recipe.evaluation.confidence):.2f}"


def _map_size(network: "Network", recipe: Recipe) -> int:
    """Bytes of the feature map of one scan as it is kept: 16 bits a value. 0 where the recipe keeps none."""
    import torch

    if not any(stage.is_cached for stage in recipe.train.stages):
        return 0
    with torch.inference_mode():
        maps = network.eval().forward_features(torch.zeros(1, recipe.data.channels, recipe.data.size, recipe.data.size))
    # The networks of a deep ensemble, which have a map each, train one after the other.
    return 2 * (maps[0] if isinstance(maps, tuple) else maps).numel()


def _maps(section: Train, learn: int, check: int) -> int:
    """Feature maps on disk at a time, at most: each stage puts its own in place of those of the one before."""
    return max((stage.views * learn + check for stage in section.stages if stage.is_cached), default=0)


def _training(section: Train, learn: int, check: int, speed: "SecondsPerScan") -> float:
    """Seconds of all stages; a head on kept features is taken to cost a tenth of a pass through the backbone."""
    stages = section.stages or ((TrainingStage(epochs=section.epochs),) if section.epochs else ())
    seconds = 0.0
    for stage in stages:
        if stage.is_cached:
            seconds += (stage.views * learn + check) * speed.predict
            seconds += stage.epochs * (learn + check) * speed.predict / 10
        else:
            seconds += stage.epochs * (learn * speed.train + check * speed.predict)
    return seconds
