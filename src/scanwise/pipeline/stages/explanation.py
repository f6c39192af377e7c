"""Explanations: heatmaps of test scans, the checks that they must pass, and their summary.

RUN/heatmaps/  checks.json      what each check found, and the badge
               maps.npz         the maps of the scans that were checked
               class-N.png      surest right, surest wrong, most uncertain; class-N-scans.png and -maps.png to lay over it
               mean.png  regions.csv        over registered scans; where the method passed
               components.csv  words.csv …  the parts of a network (`explanation_parts`)
RUN/retrained/ labels/ seed/    two more trainings, where the recipe asks for them
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanwise import novelty, registration, run
from scanwise.pipeline.context import Context, write_findings
from scanwise.pipeline.stages.evaluation import ModelPredictions
from scanwise.pipeline.stages.explanation_parts import (
    ExplainedScans,
    check_halves,
    heaviest_scans,
    map_halves,
    save_heatmaps,
    write_components,
    write_region_summary,
    write_spread,
    write_words,
)
from scanwise.pipeline.stages.prediction import load_network
from scanwise.pipeline.stages.text_inputs import cohort_titles
from scanwise.pipeline.stages.training import train_fit
from scanwise.progress_bar import work_step
from scanwise.records import BoolArray, Finding, Heatmap, IntArray, Predictions, Split
from scanwise.run import Fit, RunFolder, layout

if TYPE_CHECKING:
    from scanwise.explanation.sanity import CheckedMaps, SanityCheck
    from scanwise.models import Network
    from scanwise.models.vocabulary import Vocabulary

log = logging.getLogger("scanwise")

CHECKS = layout.CHECKS
WORDS = "words"
"""The name of the method where there are no heatmaps: words are taken out one by one."""
PREFIX = "explanation."
SPREAD = 4
"""Scans of which members are compared."""
MAX_BATCH = 16
"""Scans explained at a time."""


def explain_run(context: Context, folder: RunFolder, predictions: Sequence[ModelPredictions]) -> None:
    """Leave the heatmaps of the first fit in the run folder, and what the checks found among its findings."""
    if not context.recipe.explain.scans:
        return
    out, split = folder.heatmaps, context.splits[0]
    if _is_due(context, folder):
        entry = next(entry for entry in predictions if entry.model == "network" and entry.split is split)
        network = entry.scans
        fit_dir = folder.fit(split.protocol, split.fold)
        if context.recipe.model.name == "text":
            make = partial(_make_words, context, fit_dir, split, network)
        else:
            make = partial(_make, context, fit_dir, split, entry, _retrained(context, folder, split))
        with run.writing(out) as temporary:
            temporary.mkdir()
            make(temporary)
    if (out / CHECKS).is_file():
        _note(folder, out)


def follow_explanation(context: Context, folder: RunFolder) -> None:
    """The part of the other processes: train, together with the first one, what the checks need."""
    if _is_due(context, folder):
        _retrained(context, folder, context.splits[0])


def _is_due(context: Context, folder: RunFolder) -> bool:
    """Whether there is anything to explain that is not yet; all processes find the same."""
    wanted = bool(context.recipe.explain.scans) and len(context.splits[0].rows("test")) > 0
    return wanted and not (folder.heatmaps / CHECKS).is_file()


def check_explanation_method(context: Context) -> None:
    """Try the recipe's method once on an untrained network and a blank scan: it may not apply, and training is long.

    Raises:
        RecipeError: if there is no such layer, or nothing of this network that the method reads.
    """
    from scanwise.explanation import AUTO_METHOD, explain_arrays
    from scanwise.models import build_network, dry_run

    section, data = context.recipe.explain, context.recipe.data
    if (
        not section.scans
        or (section.method == AUTO_METHOD and not section.layer)
        or context.recipe.model.name == "text"
    ):
        return
    network = build_network(context.recipe.model, len(context.cohort.classes), data.channels, pretrained=False)
    blank = np.zeros((1, data.size, data.size, data.channels), np.uint8)
    tokens = next((part.numpy() for part in dry_run.blank_tokens(network, context.recipe, 1)), None)
    explain_arrays(network, blank, method=section.method, layer=section.layer, tokens=tokens)


def explanation_options(work_recipe: Any, device: str, progress: bool) -> dict[str, Any]:
    """Options of `explanation.maps` from a recipe."""
    section = work_recipe.explain
    batch = min(MAX_BATCH, work_recipe.train.batch)  # gradients take the memory of training
    return {"method": section.method, "layer": section.layer, "batch": batch, "device": device, "progress": progress}


def _make(
    context: Context, fit_dir: Fit, split: Split, entry: ModelPredictions, others: dict[str, Fit], out: Path
) -> None:
    from scanwise.explanation import sanity, uncertainty_map, with_check_result
    from scanwise.models.hybrid import HybridNetwork

    network, vocabulary, tokens = load_network(context, fit_dir, split)
    predictions, rows = heaviest_scans(entry.scans, split.rows("test"))
    some = novelty.representative_rows(context.cohort.subject[rows], context.recipe.explain.scans)
    options = explanation_options(context.recipe, context.device, context.progress)
    options["tokens"] = None if tokens is None else tokens[rows[some]]
    subject = sanity.CheckedMaps.of(network, context.store.read(rows[some]), **options)
    masks = _masks(subject.scans)
    checks = _check(context, split, subject, masks, others)
    model = context.recipe.model
    learnt = _learnt(context, entry.subjects if model.by_subject or model.is_ridge else predictions)
    reasons = sanity.failure_reasons([*checks, *learnt])
    explained = _explained_scans(context, predictions, some, rows, subject.targets[:, 0])
    method = sanity.method_name(options)
    each = zip(explained.names, explained.targets, subject.values, explained.probs, strict=True)
    maps = [
        with_check_result(Heatmap(name, int(target), values, method, float(prob)), reasons)
        for name, target, values, prob in each
    ]
    save_heatmaps(maps, out / layout.MAPS)
    examples = _examples(context, predictions)
    _mosaics(context, network, rows, predictions, tokens, examples, method, reasons, out)
    if not reasons and context.recipe.explain.heads:
        write_region_summary(subject, context.cohort.classes, out)
    halves: dict[str, list[SanityCheck]] = {}
    if isinstance(network.body, HybridNetwork):
        where = {name: options[name] for name in ("batch", "device")}
        looks = map_halves(network, explained, **where)
        alone = check_halves(network, explained, looks, masks, context.recipe.seed, **where)
        halves = {half: [*results, *learnt] for half, results in alone.items()}
        write_components(explained, looks, out, {half: sanity.failure_reasons(of) for half, of in halves.items()})
    if vocabulary is not None:
        _words(context, network, vocabulary, predictions, some, rows, examples, sanity.failure_reasons(learnt), out)
    if network.members > 1 or network.draws > 1:
        few = slice(0, SPREAD)
        options["tokens"] = None if tokens is None else tokens[rows[some]][few]
        members = uncertainty_map.explain_members(network, subject.scans[few], targets=subject.targets[few], **options)
        write_spread(
            members, explained, few, reasons, arrays=out / layout.SPREAD, picture=out / layout.UNCERTAINTY_SHEET
        )
    words_checks = None if vocabulary is None else learnt
    _write_checks(out, method, context.recipe.explain.layer, len(some), [*checks, *learnt], halves, words_checks)


def _make_words(context: Context, fit_dir: Fit, split: Split, predictions: Predictions, out: Path) -> None:
    """The contribution of each word, for a network that reads words alone."""
    from scanwise.explanation import sanity

    network, vocabulary, _ = load_network(context, fit_dir, split)
    rows, learnt = split.rows("test"), _learnt(context, predictions)
    some = novelty.representative_rows(context.cohort.subject[rows], context.recipe.explain.scans)
    if vocabulary is not None:
        _words(
            context,
            network,
            vocabulary,
            predictions,
            some,
            rows,
            _examples(context, predictions),
            sanity.failure_reasons(learnt),
            out,
        )
    _write_checks(out, WORDS, "", len(some), learnt, {}, learnt)


def _learnt(context: Context, predictions: Predictions) -> "list[SanityCheck]":
    """Whether the network distinguishes the classes at all, one scan a subject."""
    from scanwise.explanation import sanity

    if predictions.labels is None:
        return []
    first = np.unique(predictions.subjects, return_index=True)[1]
    return [sanity.check_learnt(predictions.predicted[first], predictions.labels[first], context.recipe.seed)]


def _write_checks(
    out: Path,
    method: str,
    layer: str,
    count: int,
    checks: "Sequence[SanityCheck]",
    halves: "Mapping[str, Sequence[SanityCheck]]",
    words_checks: "Sequence[SanityCheck] | None",
) -> None:
    """Write the checks of the recipe's method, of the maps of each half and of the words, with a verdict on each."""
    from scanwise.explanation import components, sanity

    checked = {components.HALF_METHODS[name]: ("", results) for name, results in halves.items()}
    checked |= {method: (layer, checks)} | ({} if words_checks is None else {WORDS: ("", words_checks)})
    findings = [check.finding(method) for check in checks]
    of_halves = [(name, check) for name, results in halves.items() for check in results if check not in checks]
    findings += [check.finding(components.HALF_METHODS[name]) for name, check in of_halves]
    content = {
        "method": method,
        "scans": count,
        "reasons": sanity.failure_reasons(checks),
        "checks": [_of(check) for check in checks],
        "halves": {name: [_of(check) for check in results] for name, results in halves.items()},
        **({} if words_checks is None else {WORDS: {"reasons": sanity.failure_reasons(words_checks)}}),
        "verdicts": {
            name: {"layer": at, "reasons": sanity.failure_reasons(results)} for name, (at, results) in checked.items()
        },
        "findings": [asdict(check) for check in findings],
    }
    run.write_json(content, out / CHECKS)


def _of(check: "SanityCheck") -> dict[str, Any]:
    return {"name": check.name, "passed": check.passed, "message": check.message, "figures": check.figures}


def _explained_scans(
    context: Context, predictions: Predictions, some: IntArray, rows: IntArray, targets: IntArray
) -> ExplainedScans:
    """Some of the predicted scans, with pixels and titles."""
    classes, reads = context.cohort.classes, context.recipe.model.reads_words
    return ExplainedScans(
        names=[str(name) for name in predictions.scans[some]],
        scans=None if context.recipe.model.name == "text" else context.store.read(rows[some]),
        targets=targets,
        class_probs=predictions.probs[some],
        classes=classes,
        truth=[""] * len(some)
        if predictions.labels is None
        else [classes[label] for label in predictions.labels[some]],
        titles=[str(title) for title in cohort_titles(context.cohort, context.recipe)[rows[some]]] if reads else (),
        opacity=context.recipe.explain.opacity,
    )


def _masks(scans: Any) -> BoolArray:
    """(N, H, W) where there is something in a scan, found at half its size."""
    side = scans.shape[1] // 2 * 2
    gray = np.rint(scans[:, :side, :side].mean(axis=3)).astype(np.uint8)
    masks = np.zeros(scans.shape[:3], dtype=np.bool_)
    masks[:, :side, :side] = registration.foreground_masks(gray).repeat(2, axis=1).repeat(2, axis=2)
    return masks


def _check(
    context: Context, split: Split, subject: "CheckedMaps", masks: BoolArray, others: dict[str, Fit]
) -> "list[SanityCheck]":
    from scanwise.explanation import sanity

    checks = sanity.check_maps(subject, masks=masks, seed=context.recipe.seed, progress=context.progress)
    kinds = {"labels": sanity.check_labels_matter, "seed": sanity.check_seed_agreement}
    for name, fit_dir in others.items():
        network, _, _ = load_network(context, fit_dir, split)
        checks.append(kinds[name](subject, network))
    return checks


def retrained_on(context: Context) -> tuple[str, ...]:
    """Names of the trainings that the checks of heatmaps ask for."""
    wanted = context.recipe.explain.retrain and context.recipe.model.name != "text"
    return ("labels", "seed") if wanted else ()


def _retrained(context: Context, folder: RunFolder, split: Split) -> dict[str, Fit]:
    """The same training on labels shuffled between people, and from another seed, if the recipe wants it; finished ones are kept."""
    if not (names := retrained_on(context)):
        return {}
    fit_dirs: dict[str, Fit] = {}
    other_labels = shuffled_labels(context, context.recipe.seed)
    shuffled = replace(context, cohort=replace(context.cohort, labels=other_labels), send=None)
    seeded = replace(context, recipe=context.recipe.model_copy(update={"seed": context.recipe.seed + 1}), send=None)
    for name, other in zip(names, (shuffled, seeded), strict=True):
        fit_dir = Fit(folder.path / layout.RETRAINED / name, split.protocol, split.fold)
        log.info("training once more for the checks of heatmaps: %s", name)
        with work_step(f"training {name}"):
            train_fit(other, fit_dir, split)
        fit_dirs[name] = fit_dir
    return fit_dirs


def shuffled_labels(context: Context, seed: int) -> IntArray:
    """(N,) labels of all scans, shuffled between people."""
    people, first, subject_codes = np.unique(context.cohort.subject, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(people))
    return np.asarray(context.cohort.labels[first][order][subject_codes])


def _examples(context: Context, predictions: Predictions) -> list[tuple[int, str]]:
    """Rows of the predictions to show, class by class, and the kind of example of each."""
    from scanwise.explanation import drawing

    if predictions.labels is None:
        return []
    examples = []
    for index in range(len(context.cohort.classes)):
        picked = drawing.pick_examples(predictions.labels, predictions.probs, index, context.recipe.explain.examples)
        examples += [(int(row), kind) for kind, rows in picked.items() for row in rows]
    return examples


def _mosaics(
    context: Context,
    network: "Network",
    rows: IntArray,
    predictions: Predictions,
    tokens: IntArray | None,
    examples: Sequence[tuple[int, str]],
    method: str,
    reasons: Sequence[str],
    out: Path,
) -> None:
    """A sheet for each class: what the network was surest of, rightly and wrongly, and least sure of."""
    from scanwise.explanation import drawing, explain_arrays, with_check_result

    classes = context.cohort.classes
    for index, name in enumerate(classes):
        members = [
            (row, kind) for row, kind in examples if predictions.labels is not None and predictions.labels[row] == index
        ]
        if not members:
            continue
        chosen = [row for row, _ in members]
        scans, predicted = context.store.read(rows[chosen]), predictions.predicted[chosen]
        words = None if tokens is None else tokens[rows[chosen]]
        options = explanation_options(context.recipe, context.device, False) | {"tokens": words}
        values, _ = explain_arrays(network, scans, targets=predicted[:, None], **options)
        shown = [
            with_check_result(
                Heatmap(str(predictions.scans[row]), int(p), v[0], method, float(predictions.probs[row, p])), reasons
            )
            for row, p, v in zip(chosen, predicted, values, strict=True)
        ]
        captions = [
            f"{kind}: {drawing.heatmap_title(heatmap, classes, name)}"
            for (_, kind), heatmap in zip(members, shown, strict=True)
        ]
        sheet = drawing.draw_mosaic(
            list(scans), shown, captions, f"In truth {name}", opacity=context.recipe.explain.opacity
        )
        for part, name in (("whole", ""), ("below", "-scans"), ("above", "-maps")):
            (out / f"class-{index}{name}.png").write_bytes(getattr(sheet, part))


def _words(
    context: Context,
    network: "Network",
    vocabulary: "Vocabulary",
    predictions: Predictions,
    some: IntArray,
    rows: IntArray,
    examples: Sequence[tuple[int, str]],
    reasons: Sequence[str],
    out: Path,
) -> None:
    """Words of the examples first, then of the scans that were checked."""
    kinds: dict[int, list[str]] = {}
    for row, kind in examples:
        kinds.setdefault(row, []).append(kind)
    drawn = {int(row) for row in some}
    chosen = np.array([*kinds, *sorted(drawn - set(kinds))], dtype=np.int64)
    explained = _explained_scans(context, predictions, chosen, rows, predictions.predicted[chosen])
    write_words(
        network,
        vocabulary,
        explained,
        out,
        device=context.device,
        pictures=[f"words/{index:03d}.png" if row in kinds else "" for index, row in enumerate(chosen.tolist())],
        examples=["; ".join(kinds.get(row, [])) for row in chosen.tolist()],
        checked=[row in drawn for row in chosen.tolist()],
        failed=bool(reasons),
    )


def _note(folder: RunFolder, out: Path) -> None:
    """Add the findings of the checks to those of the run."""
    findings = [Finding(**{**row, "scans": tuple(row["scans"])}) for row in run.read_json(out / CHECKS)["findings"]]
    for finding in findings:
        if finding.severity != "note":
            log.warning("%s: %s", finding.severity, finding.message)
    write_findings(folder, PREFIX, findings)
