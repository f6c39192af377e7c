"""Heatmaps of new scans: a picture for people, and arrays on the grid of the file for machines.

OUT/NAME-CLASS.png      the scan bare, with the map, with its outline
OUT/NAME-CLASS.npz      values (size, size), aligned (rows and columns of the file), affine and spacing, target, method, badge
OUT/NAME-CLASS.nii.gz   of a NIfTI volume, or of a DICOM file that says where it lies: the map in its place
OUT/words.csv           of a network that reads words: what each gave; NAME-CLASS-words.png where they look
OUT/attention.csv       of a network with attention over the scans of a subject: the weight of each
OUT/components.csv      of a hybrid: what each half looks at and gives; NAME-CLASS-halves.png
OUT/NAME-CLASS-members.png .npz   where members look and differ, if that is asked for
"""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanwise import bundle, run
from scanwise.cohort import layouts, slice_expansion
from scanwise.csv_files import write_csv
from scanwise.errors import DataError, did_you_mean
from scanwise.explanation.voxel_grid import read_voxel_grid
from scanwise.models.vocabulary import titles_as_read
from scanwise.phrases import none_readable
from scanwise.pipeline.context import resolve_device
from scanwise.pipeline.stages.bags import people_of_files
from scanwise.pipeline.stages.explanation import WORDS, explanation_options
from scanwise.pipeline.stages.explanation_parts import (
    ExplainedScans,
    map_halves,
    write_components,
    write_spread,
    write_words,
)
from scanwise.progress_bar import with_one_bar
from scanwise.recipe import Data
from scanwise.records import FloatArray, Heatmap, IntArray, Predictions, StrArray
from scanwise.run import layout

if TYPE_CHECKING:
    from scanwise.cohort.decoding.pixels import Pixels, Source

log = logging.getLogger("scanwise")

ALONE = (
    "Whose scans these are is not known, so each is explained alone, without the weight that it has among those of its subject: give "
    "a manifest with a column subject."
)
PREDICTED, EVERY = "predicted", "all"


@with_one_bar
def explain_files(
    path: Path,
    scans: Sequence[Path | str],
    out: Path,
    *,
    method: str = "",
    target: Sequence[str] = (PREDICTED,),
    layer: str = "",
    opacity: float | None = None,
    uncertainty: bool = False,
    manifest: Path | str | None = None,
    device: str = "auto",
    threads: int = 0,
    progress: bool = False,
) -> tuple[tuple[Heatmap, ...], list[Path], tuple[tuple[str, str], ...]]:
    """Explain files with the bundle of a run, and write what was found.

    Args:
        path: a run folder or a bundle.
        scans: files and folders, or fsspec URLs of them, which are read where they lie.
        out: the folder to write to.
        method: of `explanation.METHODS`; default: the recipe's.
        target: classes by name or number, `predicted`, or `all`.
        layer: for class activation maps.
        opacity: of the map over the scan; default: the recipe's.
        uncertainty: also show where the members of the network differ.
        manifest: with a column path, and text for a network that reads it; or the URL of one.

    Returns:
        the maps, the pictures and tables, and (path, reason) of files that cannot be read.

    Raises:
        DataError: for a target that is no class, or if no file can be read.
        RecipeError: for a method that does not apply, or members of a network that has none.
    """
    loaded = bundle.load(path)
    recipe, used = loaded.recipe, resolve_device(device, threads)
    listing, _ = slice_expansion.expand_slices(
        layouts.list_unlabelled(scans, manifest, ""), recipe.data, progress=progress
    )
    places = listing.sources()
    pixels, kept, quarantine = _read(listing, places, recipe.data)
    if not kept:
        raise DataError(f"{none_readable(len(listing.path))}; {_first([*quarantine, *listing.unused])}")
    names, sources = [str(listing.path[row]) for row in kept], [places[row] for row in kept]
    titles = ["" if listing.text is None else str(listing.text[row]) for row in kept]
    titles_read = None if loaded.vocabulary is None else titles_as_read(titles, recipe.model.text, loaded.classes)
    people, groups = (None, {}) if loaded.vocabulary is not None else _people(listing, kept)
    people = people_of_files(recipe, names, people)
    answer = loaded.predict(
        sources,
        people,
        groups,
        words=None if titles_read is None else titles,
        names=np.array(names),
        device=used,
    )
    wanted = _targets(target, loaded.classes, answer.scans.predicted)
    options = explanation_options(recipe, used, progress)
    if method or layer:
        options |= {"method": method or options["method"], "layer": layer}
    rows = np.arange(len(names)).repeat(wanted.shape[1])
    explained = ExplainedScans(
        names=[names[row] for row in rows],
        scans=None if recipe.model.name == "text" else pixels[rows],
        targets=wanted.ravel(),
        class_probs=answer.scans.probs[rows],
        classes=loaded.classes,
        truth=[""] * len(rows),
        titles=() if titles_read is None else [titles_read[row] for row in rows],
        opacity=recipe.explain.opacity if opacity is None else opacity,
    )
    stems = _stems(explained)
    notes, files = _words(loaded, explained, stems, out, used)
    if answer.scans.attention is not None:
        notes = _attention_notes(answer.scans.attention, answer.scans.subjects, rows)
        files.append(_write_attention(answer.scans, out))
    elif recipe.model.by_subject and recipe.model.pool == "attention":
        log.warning("%s", ALONE)
    maps: tuple[Heatmap, ...] = ()
    if explained.scans is not None:
        tokens = loaded.tokens_of_people(sources, names, people, groups)
        maps = _maps(loaded, pixels, explained, wanted, options, tokens)
        for index, (heatmap, stem) in enumerate(zip(maps, stems, strict=True)):
            files.append(_draw(heatmap, explained, index, notes[index], out / stem))
            _write_arrays(heatmap, loaded.classes, sources[rows[index]], recipe.data, out / stem)
        files += _halves(loaded, explained, stems, out, used)
        files += _members(loaded, explained, stems, out, options) if uncertainty else []
    return maps, files, (*quarantine, *listing.unused)


def _attention_notes(attention: FloatArray, subjects: StrArray, rows: IntArray) -> list[str]:
    """A line on the weight of the scan in each of these rows."""
    notes = []
    for row in rows.tolist():
        own = attention[subjects == subjects[row]]
        rank = int((own > attention[row]).sum()) + 1
        notes.append(f"weight {100 * attention[row]:.0f} % in the answer for its subject, number {rank} of {len(own)}")
    return notes


def _write_attention(scans: Predictions, out: Path) -> Path:
    """The weight of each scan in the answer for its subject, the heaviest of each subject first."""
    weights = np.zeros(len(scans)) if scans.attention is None else scans.attention
    order = np.lexsort((-weights, scans.subjects))
    with run.writing(out / layout.ATTENTION) as temporary:
        write_csv(
            ("subject", "path", "attention"),
            [(str(scans.subjects[row]), str(scans.scans[row]), float(weights[row])) for row in order],
            temporary,
        )
    return out / layout.ATTENTION


def _people(listing: Any, kept: Sequence[int]) -> tuple[list[str] | None, dict[str, Any]]:
    """The subject of each scan, where a manifest names all of them, and its other columns."""
    subjects = listing.subject
    named = subjects is not None and bool((subjects[kept] != "").all())
    return subjects[kept].tolist() if named else None, {name: values[kept] for name, values in listing.groups.items()}


def _stems(explained: ExplainedScans) -> list[str]:
    """The names of what is written of each scan and class, no two alike in any letters."""
    names = [name.replace("://", ":/") for name in explained.names]  # as paths are shared
    mixed = len({os.path.isabs(name) for name in names}) > 1  # noqa: PTH117 - names are text
    shared = "" if mixed else os.path.commonpath([os.path.dirname(name) for name in names])  # noqa: PTH120
    taken: set[str] = set()
    stems = []
    for name, target in zip(names, explained.targets, strict=True):
        wanted = f"{_safe(name.removeprefix(shared))}-{_safe(explained.classes[target])}"
        numbered = (f"{wanted}-{number}" for number in count(2))
        stem = next(candidate for candidate in chain([wanted], numbered) if candidate.casefold() not in taken)
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def _maps(
    loaded: bundle.Bundle,
    pixels: "Pixels",
    explained: ExplainedScans,
    wanted: IntArray,
    options: dict[str, Any],
    tokens: Any,
) -> tuple[Heatmap, ...]:
    """A map of each scan and class, with the badge that its method has on this run."""
    from scanwise.explanation import explain_with_heatmaps, with_check_result
    from scanwise.explanation.sanity import method_name

    if loaded.vocabulary is not None:
        tokens = loaded.vocabulary(explained.titles[:: wanted.shape[1]])
    names = np.array(explained.names[:: wanted.shape[1]])
    heatmaps = explain_with_heatmaps(loaded.network, pixels, targets=wanted, tokens=tokens, names=names, **options)
    reasons = loaded.verdict(method_name(options), options["layer"])
    return tuple(
        with_check_result(replace(heatmap, prob=float(p)), reasons)
        for heatmap, p in zip(heatmaps, explained.probs, strict=True)
    )


def _draw(heatmap: Heatmap, explained: ExplainedScans, index: int, note: str, stem: Path) -> Path:
    from scanwise.explanation import drawing

    path = stem.with_name(stem.name + ".png")
    with run.writing(path) as temporary:
        temporary.write_bytes(
            drawing.draw_panel(explained.scans[index], heatmap, explained.classes, opacity=explained.opacity, note=note)
        )
    return path


def _words(
    loaded: bundle.Bundle, explained: ExplainedScans, stems: Sequence[str], out: Path, device: str
) -> tuple[list[str], list[Path]]:
    """A line on the words for each scan and class, and the files written; nothing for a network that reads none."""
    if loaded.vocabulary is None:
        return [""] * len(stems), []
    pictures = [f"{stem}-words.png" for stem in stems]
    failed = bool(loaded.verdict(WORDS))
    notes = write_words(
        loaded.network, loaded.vocabulary, explained, out, device=device, pictures=pictures, failed=failed
    )
    return notes, [out / layout.WORDS]


def _halves(
    loaded: bundle.Bundle, explained: ExplainedScans, stems: Sequence[str], out: Path, device: str
) -> list[Path]:
    """The maps of the two halves of a hybrid, and what each gives; nothing for any other network."""
    from scanwise.explanation.components import HALF_METHODS
    from scanwise.models.hybrid import HybridNetwork

    if not isinstance(loaded.network.body, HybridNetwork):
        return []
    pictures = [f"{stem}-halves.png" for stem in stems]
    verdicts = {half: loaded.verdict(method) for half, method in HALF_METHODS.items()}
    reasons = {half: told_of for half, told_of in verdicts.items() if told_of is not None}
    looks = map_halves(loaded.network, explained, explanation_options(loaded.recipe, device, False)["batch"], device)
    write_components(explained, looks, out, reasons, pictures)
    return [*(out / name for name in pictures), out / layout.COMPONENTS]


def _members(
    loaded: bundle.Bundle, explained: ExplainedScans, stems: Sequence[str], out: Path, options: dict[str, Any]
) -> list[Path]:
    """Maps of where members agree and differ: a picture and arrays for each scan and class."""
    from scanwise.explanation.sanity import method_name
    from scanwise.explanation.uncertainty_map import explain_members

    tokens = None if loaded.vocabulary is None else loaded.vocabulary(explained.titles)
    member_maps = explain_members(
        loaded.network, explained.scans, targets=explained.targets[:, None], tokens=tokens, **options
    )
    reasons = loaded.verdict(method_name(options), options["layer"])
    files = []
    for row, stem in enumerate(stems):
        arrays, picture = (out / f"{stem}-members.{kind}" for kind in ("npz", "png"))
        write_spread(member_maps, explained, slice(row, row + 1), reasons, arrays=arrays, picture=picture)
        files.append(picture)
    return files


def _read(
    listing: Any, sources: "Sequence[Source]", settings: Data
) -> "tuple[Pixels, list[int], list[tuple[str, str]]]":
    from scanwise.cohort.decoding.readers import DecodedScan
    from scanwise.cohort.decoding.streams import read_files

    pixels, kept, quarantine = [], [], []
    for row, scan in enumerate(read_files(sources, settings)):
        if isinstance(scan, DecodedScan):
            pixels.append(scan.pixels)
            kept.append(row)
        else:
            quarantine.append((str(listing.path[row]), scan))
    return np.stack(pixels) if pixels else np.empty((0, 1, 1, 1), np.uint8), kept, quarantine


def _targets(targets: Sequence[str], classes: Sequence[str], predicted: IntArray) -> IntArray:
    """(N, K) classes to explain, each once."""
    columns: list[IntArray] = []
    for target in targets:
        if target == EVERY:
            columns += [np.full(len(predicted), index) for index in range(len(classes))]
        elif target == PREDICTED:
            columns.append(np.asarray(predicted))
        elif target in classes:
            columns.append(np.full(len(predicted), list(classes).index(target)))
        elif target.isdecimal() and int(target) < len(classes):
            columns.append(np.full(len(predicted), int(target)))
        else:
            raise DataError(
                f"There is no class {target!r}; choose {PREDICTED}, {EVERY}, a number below {len(classes)}, or one of "
                f"{', '.join(classes)}.{did_you_mean(target, classes)}"
            )
    return np.unique(np.stack(columns, axis=1), axis=1)


def _write_arrays(heatmap: Heatmap, classes: Sequence[str], file: "Source", settings: Data, stem: Path) -> None:
    grid = read_voxel_grid(file, settings)
    aligned = grid.align(heatmap.values, settings)
    with run.writing(stem.with_name(stem.name + ".npz")) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            values=heatmap.values,
            aligned=aligned,
            affine=grid.affine,
            spacing=grid.spacing,
            scan=np.array(heatmap.scan),
            target=np.array(heatmap.target),
            target_name=np.array(classes[heatmap.target]),
            prob=np.array(heatmap.prob),
            method=np.array(heatmap.method),
            passed=np.array("not checked" if heatmap.passed is None else str(heatmap.passed)),
            reason=np.array(heatmap.reason),
        )
    volume = grid.holding(aligned)
    if volume is not None:
        with run.writing(stem.with_name(stem.name + ".nii.gz")) as temporary:
            temporary.write_bytes(volume)


def _safe(name: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^\w.#-]+", "_", name.strip("/")).lstrip(".") or "scan"


def _first(refused: Sequence[tuple[str, str]]) -> str:
    return ": ".join(refused[0]) + "." if refused else "none were found."
