"""Why these answers: heatmaps of test scans, the checks that they must pass, and what they add up to.

RUN/heatmaps/  checks.json      what each check found, and the badge
               maps.npz         the maps of the scans that were checked
               CLASS.png        surest right, surest wrong, most uncertain
               mean.png  regions.csv        over registered scans; where the method passed
               components.csv  components/  the halves of a hybrid
               uncertainty.png  spread.npz  where members disagree
               words.csv                    what the words gave
RUN/retrained/ labels/ seed/    two more trainings, where the recipe asks for them
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanwise import novelty, registration, run
from scanwise.errors import RecipeError
from scanwise.pipeline import learning, predicting
from scanwise.pipeline.judging import Judged
from scanwise.pipeline.work import Work
from scanwise.records import Finding, Heatmap, IntArray, Predictions, Split, load_findings, save_findings
from scanwise.reporting import tables
from scanwise.run import Fit, Run

if TYPE_CHECKING:
    from scanwise.explanation.sanity import Check, Subject
    from scanwise.models import Network

log = logging.getLogger("scanwise")

CHECKS = "checks.json"
PREFIX = "explanation."


def explain(work: Work, folder: Run, judged: Sequence[Judged]) -> None:
    """Leave the heatmaps of the first fit in the run folder, and what the checks found among its findings."""
    section, split = work.recipe.explain, work.splits[0]
    if not section.scans or work.recipe.model.name == "text":
        return
    out = folder.path / "heatmaps"
    said = next(entry.scans for entry in judged if entry.model == "network" and entry.split is split)
    if not (out / CHECKS).is_file() and len(said):
        place = folder.fit(split.protocol, split.fold)
        others = _retrained(work, folder, split) if section.retrain else {}
        with run.writing(out) as temporary:
            temporary.mkdir()
            _make(work, place, split, said, others, temporary)
    if (out / CHECKS).is_file():
        _note(folder, out)


def options_of(work_recipe: Any, device: str, progress: bool) -> dict[str, Any]:
    """What a recipe says of how to explain, for `explanation.maps`."""
    section = work_recipe.explain
    return {"method": section.method, "layer": section.layer, "device": device, "progress": progress}


def _make(work: Work, place: Fit, split: Split, said: Predictions, others: dict[str, Fit], out: Path) -> None:
    from scanwise.explanation import judged, sanity

    network, _, tokens = predicting.load_network(work, place, split)
    rows = split.rows("test")
    some = novelty.representatives(work.cohort.subject[rows], work.recipe.explain.scans)
    options = options_of(work.recipe, work.device, work.progress)
    options["tokens"] = None if tokens is None else tokens[rows[some]]
    subject = sanity.Subject.of(network, work.store.read(rows[some]), **options)
    checks = _check(work, split, subject, others)
    if said.labels is not None:
        first = np.unique(said.subjects, return_index=True)[1]
        checks.append(sanity.learnt(said.predicted[first], said.labels[first], work.recipe.seed))
    reasons = sanity.reasons(checks)
    probs = said.probs[some, subject.targets[:, 0]]
    method = sanity.method_of(options)
    maps = [
        judged(Heatmap(str(said.scans[row]), int(target), values, method, float(prob)), reasons)
        for row, target, values, prob in zip(some, subject.targets[:, 0], subject.values, probs, strict=True)
    ]
    save_maps(maps, out / "maps.npz")
    _mosaics(work, network, rows, said, tokens, method, reasons, out)
    if not reasons:
        _summary(work, subject, said.labels if said.labels is None else said.labels[some], out)
    _parts(work, network, subject, [str(name) for name in said.scans[some]], out)
    told = [{"name": one.name, "passed": one.passed, "message": one.message, "figures": one.figures} for one in checks]
    findings = [asdict(one.finding(method)) for one in checks]
    run.write_json(
        {"method": method, "scans": len(some), "reasons": reasons, "checks": told, "findings": findings}, out / CHECKS
    )


def _check(work: Work, split: Split, subject: "Subject", others: dict[str, Fit]) -> "list[Check]":
    from scanwise.explanation import sanity

    side = subject.scans.shape[1] // 2 * 2
    gray = np.rint(subject.scans[:, :side, :side].mean(axis=3)).astype(np.uint8)
    small = registration.foreground(gray).repeat(2, axis=1).repeat(2, axis=2)
    masks = np.zeros(subject.scans.shape[:3], dtype=np.bool_)
    masks[:, :side, :side] = small
    checks = sanity.check_subject(subject, masks=masks, seed=work.recipe.seed, progress=work.progress)
    kinds = {"labels": sanity.labels, "seed": sanity.seeds}
    for name, place in others.items():
        network, _, _ = predicting.load_network(work, place, split)
        checks.append(kinds[name](subject, network))
    return checks


def _retrained(work: Work, folder: Run, split: Split) -> dict[str, Fit]:
    """The same training on labels shuffled between people, and from another seed; what is there is kept."""
    found = {}
    shuffled = replace(work, cohort=replace(work.cohort, labels=shuffle(work, work.recipe.seed)), send=None)
    seeded = replace(work, recipe=work.recipe.model_copy(update={"seed": work.recipe.seed + 1}), send=None)
    for name, other in (("labels", shuffled), ("seed", seeded)):
        place = Fit(folder.path / "retrained" / name, split.protocol, split.fold)
        log.info("training once more for the checks of heatmaps: %s", name)
        learning.train(other, place, split)
        found[name] = place
    return found


def shuffle(work: Work, seed: int) -> IntArray:
    """(N,) labels of all scans, dealt anew among the people."""
    people, first, mine = np.unique(work.cohort.subject, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(people))
    return np.asarray(work.cohort.labels[first][order][mine])


def _mosaics(
    work: Work,
    network: "Network",
    rows: IntArray,
    said: Predictions,
    tokens: IntArray | None,
    method: str,
    reasons: Sequence[str],
    out: Path,
) -> None:
    """A sheet for each class: what the network was surest of, rightly and wrongly, and least sure of."""
    from scanwise.explanation import drawing, judged, maps

    section, classes = work.recipe.explain, work.cohort.classes
    if said.labels is None:
        return
    for index, name in enumerate(classes):
        picked = drawing.pick(said.labels, said.probs, index, section.examples)
        chosen = [int(row) for kind in picked.values() for row in kind]
        if not chosen:
            continue
        kinds = [kind for kind, found in picked.items() for _ in found]
        scans, predicted = work.store.read(rows[chosen]), said.predicted[chosen]
        words = None if tokens is None else tokens[rows[chosen]]
        options = options_of(work.recipe, work.device, False) | {"tokens": words}
        values, _, _ = maps(network, scans, targets=predicted[:, None], **options)
        shown = [
            judged(Heatmap(str(said.scans[row]), int(p), v[0], method, float(said.probs[row, p])), reasons)
            for row, p, v in zip(chosen, predicted, values, strict=True)
        ]
        captions = [f"{kind}: {drawing.title(one, classes, name)}" for kind, one in zip(kinds, shown, strict=True)]
        sheet = drawing.mosaic(list(scans), shown, captions, f"In truth {name}", opacity=section.opacity)
        (out / f"class-{index}.png").write_bytes(sheet)


def _summary(work: Work, subject: "Subject", labels: IntArray | None, out: Path) -> None:
    """The mean map of each class that is named, over registered scans, and which regions carry it."""
    from scanwise.explanation import drawing

    laid = drawing.lay(subject.scans, subject.values)
    means, lines = {}, []
    for index, name in enumerate(work.cohort.classes):
        mine = subject.targets[:, 0] == index
        if mine.any():
            here = replace(laid, maps=laid.maps[mine])
            means[f"{name} ({int(mine.sum())} scans)"] = here.maps.mean(axis=0)
            lines.append((name, int(mine.sum()), *(round(share, 4) for share in drawing.regions(here).values())))
    tables.write_csv(("class", "scans", *drawing.REGIONS), lines, out / "regions.csv")
    (out / "mean.png").write_bytes(drawing.sheet(means, "Mean map of each predicted class, heads laid over each other"))


def _parts(work: Work, network: "Network", subject: "Subject", names: list[str], out: Path) -> None:
    """What the parts of a network say, where it has such parts."""
    from scanwise.models.hybrid import Hybrid

    if isinstance(network.body, Hybrid):
        _components(work, network, subject, names, out)
    if subject.options.get("tokens") is not None:
        _words(work, network, subject, names, out)
    if network.members > 1 or network.draws > 1:
        _spread(work, network, subject, out)


def _components(work: Work, network: "Network", subject: "Subject", names: list[str], out: Path) -> None:
    from scanwise.explanation import components, drawing

    looks = components.look(network, subject.scans, targets=subject.targets, device=work.device)
    rows = [one.row() for one in components.summarise(looks, names, work.cohort.classes)]
    tables.write_csv(tuple(rows[0]), [tuple(row.values()) for row in rows], out / "components.csv")
    (out / "components").mkdir()
    for index, row in enumerate(rows):
        images = {
            "convolution": looks.convolution[index], "transformer": looks.transformer[index], "combined": looks.combined[index],
        }  # fmt: skip
        share = float(looks.contributions[index, 0] / max(looks.contributions[index].sum(), 1e-12))
        heading = (
            f"{row['predicted']} {100 * looks.probs[index].max():.0f} %, convolution {100 * share:.0f} % of the norm"
        )
        picture = drawing.sheet(images, heading, scan=subject.scans[index])
        (out / "components" / f"{index:03d}.png").write_bytes(picture)


def _words(work: Work, network: "Network", subject: "Subject", names: list[str], out: Path) -> None:
    from scanwise.explanation import words

    found = words.spoken(
        network, subject.scans, subject.options["tokens"], targets=subject.targets[:, 0], device=work.device
    )
    lines = [
        (
            names[row],
            work.cohort.classes[found.targets[row]],
            place,
            int(token),
            round(float(found.fall[row, place]), 4),
            "" if found.looked is None else round(float(found.looked[row, place]), 4),
            "" if found.shares is None else round(float(found.shares[row, 0]), 4),
        )
        for row, tokens in enumerate(subject.options["tokens"])
        for place, token in enumerate(tokens)
        if token
    ]
    header = ("path", "target", "place", "token", "fall_of_log_odds", "looked_at", "share_of_image")
    tables.write_csv(header, lines, out / "words.csv")


def _spread(work: Work, network: "Network", subject: "Subject", out: Path, most: int = 4) -> None:
    """Mean map and variance over members, of a few scans."""
    from scanwise.explanation import drawing
    from scanwise.explanation.uncertainty_map import spread

    options = {name: value for name, value in subject.options.items() if name in ("method", "layer", "device")}
    tokens = subject.options.get("tokens")
    options["tokens"] = None if tokens is None else tokens[:most]
    found = spread(network, subject.scans[:most], targets=subject.targets[:most], **options)
    np.savez(out / "spread.npz", mean=found.mean[:, 0], variance=found.variance[:, 0], targets=found.targets)
    pairs = {f"scan {row + 1}: mean of {found.members}": found.mean[row, 0] for row in range(len(found.mean))}
    pairs |= {f"scan {row + 1}: variance": found.variance[row, 0] for row in range(len(found.mean))}
    (out / "uncertainty.png").write_bytes(
        drawing.sheet(pairs, "Where the members agree to look, and where they differ")
    )


def save_maps(maps: Sequence[Heatmap], path: Path) -> None:
    """An npz: scans (N,), targets (N,), values (N, H, W), probs (N,), method, passed, reason."""
    if not maps:
        raise RecipeError("There are no maps to write; ask for at least one scan.")
    with path.open("wb") as file:
        np.savez(
            file,
            scans=np.array([one.scan for one in maps]),
            targets=np.array([one.target for one in maps]),
            values=np.stack([one.values for one in maps]).astype(np.float32),
            probs=np.array([one.prob for one in maps]),
            method=np.array(maps[0].method),
            passed=np.array([bool(one.passed) for one in maps]),
            reason=np.array([one.reason for one in maps]),
        )


def _note(folder: Run, out: Path) -> None:
    """Put what the checks found among the findings of the run."""
    known = [one for one in load_findings(folder.findings) if not one.check.startswith(PREFIX)]
    found = [Finding(**{**row, "scans": tuple(row["scans"])}) for row in run.read_json(out / CHECKS)["findings"]]
    for one in found:
        if one.severity != "note":
            log.warning("%s: %s", one.severity, one.message)
    with run.writing(folder.findings) as temporary:
        save_findings([*known, *found], temporary)
