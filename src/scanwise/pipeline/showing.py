"""Heatmaps of new scans: a picture for people, and arrays on the grid of the file for machines.

OUT/NAME-CLASS.png      the scan bare, with the map, with its outline
OUT/NAME-CLASS.npz      values (size, size), aligned (rows and columns of the file), affine and spacing, target, method, badge
OUT/NAME-CLASS.nii.gz   of a NIfTI volume, or of a DICOM file that says where it lies: the map in its place
OUT/words.csv           of a network that reads words: what each gave; NAME-CLASS-words.png where they look
OUT/components.csv      of a hybrid: what each half looks at and gives; NAME-CLASS-halves.png
"""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanwise import bundle, cohort, run
from scanwise.errors import DataError, did_you_mean
from scanwise.models.vocabulary import as_read
from scanwise.pipeline import device_of, grids, parts
from scanwise.pipeline.explaining import CHECKS, options_of
from scanwise.recipe import Data
from scanwise.records import Heatmap, IntArray

if TYPE_CHECKING:
    from scanwise.cohort.readers import Pixels
    from scanwise.models import Network

log = logging.getLogger("scanwise")

PREDICTED, EVERY = "predicted", "all"


def show(
    place: Path,
    scans: Sequence[Path],
    out: Path,
    *,
    method: str = "",
    target: str = PREDICTED,
    layer: str = "",
    opacity: float | None = None,
    manifest: Path | None = None,
    device: str = "auto",
    threads: int = 0,
    progress: bool = False,
) -> tuple[tuple[Heatmap, ...], list[Path], tuple[tuple[str, str], ...]]:
    """Explain files with the bundle of a run, and write what was found.

    Args:
        place: a run folder or a bundle.
        scans: files, or folders of them.
        out: the folder to write to.
        method: of `explanation.METHODS`; unsaid, the recipe's.
        target: a class by name or number, `predicted`, or `all`.
        layer: for class activation maps.
        opacity: of the map over the scan; unsaid, the recipe's.
        manifest: with a column path, and text for a network that reads it.

    Returns:
        the maps, the pictures and tables, and (path, reason) of files that cannot be read.

    Raises:
        DataError: for a target that is no class, or if no file can be read.
    """
    loaded = bundle.load(place)
    made, used = loaded.recipe, device_of(device, threads)
    listing, _ = cohort.expansion.expand(cohort.layouts.unlabelled(scans, manifest, ""), made.data, progress=progress)
    pixels, kept, quarantine = _read(listing, made.data)
    if not kept:
        raise DataError(f"None of the {len(listing.path)} files can be read; {_first([*quarantine, *listing.unused])}")
    names = [str(listing.path[row]) for row in kept]
    titles = ["" if listing.text is None else str(listing.text[row]) for row in kept]
    spoken = None if loaded.vocabulary is None else as_read(titles, made.model.text, loaded.classes)
    answer = loaded.predict(
        [listing.root / name for name in names], words=None if spoken is None else titles, device=used
    )
    wanted = _targets(target, loaded.classes, answer.scans.predicted)
    asked = {name: value for name, value in (("method", method), ("layer", layer)) if value}
    options = options_of(made, used, progress) | asked
    opaque = made.explain.opacity if opacity is None else opacity
    rows = np.arange(len(names)).repeat(wanted.shape[1])
    told = parts.Told(
        names=[names[row] for row in rows],
        scans=None if made.model.name == "text" else pixels[rows],
        targets=wanted.ravel(),
        probs=answer.scans.probs[rows, wanted.ravel()],
        classes=loaded.classes,
        truth=[""] * len(rows),
        titles=() if spoken is None else [spoken[row] for row in rows],
    )
    stems = _stems(told)
    notes, files = _words(loaded, told, stems, out, used)
    maps: tuple[Heatmap, ...] = ()
    if told.scans is not None:
        maps = _maps(loaded, place, pixels, told, wanted, options)
        for index, (one, stem) in enumerate(zip(maps, stems, strict=True)):
            files.append(_draw(one, told, index, notes[index], opaque, out / stem))
            _write_arrays(one, loaded.classes, listing.root / one.scan, made.data, out / stem)
        files += _halves(loaded.network, told, stems, out, used)
    return maps, files, (*quarantine, *listing.unused)


def _stems(told: parts.Told) -> list[str]:
    """The names of what is written of each scan and class."""
    shared = os.path.commonpath([os.path.dirname(name) for name in told.names])  # noqa: PTH120 - names are text
    classes = (told.classes[target] for target in told.targets)
    return [f"{_safe(name.removeprefix(shared))}-{_safe(of)}" for name, of in zip(told.names, classes, strict=True)]


def _maps(
    loaded: bundle.Bundle, place: Path, pixels: "Pixels", told: parts.Told, wanted: IntArray, options: dict[str, Any]
) -> tuple[Heatmap, ...]:
    """A map of each scan and class, with the badge that its method has on this run."""
    from scanwise.explanation import explain
    from scanwise.explanation.sanity import method_of

    tokens = None
    if loaded.vocabulary is not None:
        tokens = loaded.vocabulary(told.titles[:: wanted.shape[1]])
    names = np.array(told.names[:: wanted.shape[1]])
    found = explain(loaded.network, pixels, targets=wanted, tokens=tokens, names=names, **options)
    passed, reason = _badge(place, method_of(options))
    badged = zip(found, told.probs, strict=True)
    return tuple(replace(one, prob=float(prob), passed=passed, reason=reason) for one, prob in badged)


def _draw(one: Heatmap, told: parts.Told, index: int, note: str, opacity: float, stem: Path) -> Path:
    from scanwise.explanation import drawing

    path = stem.with_name(stem.name + ".png")
    with run.writing(path) as temporary:
        temporary.write_bytes(drawing.panel(told.scans[index], one, told.classes, opacity=opacity, note=note))
    return path


def _words(
    loaded: bundle.Bundle, told: parts.Told, stems: Sequence[str], out: Path, device: str
) -> tuple[list[str], list[Path]]:
    """What the words gave, a line a scan and class, and the files that tell it; nothing for a network that reads none."""
    if loaded.vocabulary is None:
        return [""] * len(stems), []
    pictures = [f"{stem}-words.png" for stem in stems]
    notes = parts.write_words(loaded.network, loaded.vocabulary, told, out, device=device, pictures=pictures)
    return notes, [out / "words.csv"]


def _halves(network: "Network", told: parts.Told, stems: Sequence[str], out: Path, device: str) -> list[Path]:
    """The maps of the two halves of a hybrid, and what each gives; nothing for any other network."""
    from scanwise.models.hybrid import Hybrid

    if not isinstance(network.body, Hybrid):
        return []
    pictures = [f"{stem}-halves.png" for stem in stems]
    parts.write_components(network, told, out, device=device, pictures=pictures)
    return [*(out / name for name in pictures), out / "components.csv"]


def _read(listing: Any, settings: Data) -> "tuple[Pixels, list[int], list[tuple[str, str]]]":
    from scanwise.cohort.readers import Scan, read_files

    pixels, kept, quarantine = [], [], []
    places = [listing.root / path for path in listing.path.tolist()]
    for row, scan in enumerate(read_files(places, settings)):
        if isinstance(scan, Scan):
            pixels.append(scan.pixels)
            kept.append(row)
        else:
            quarantine.append((str(listing.path[row]), scan))
    return np.stack(pixels) if pixels else np.empty((0, 1, 1, 1), np.uint8), kept, quarantine


def _targets(target: str, classes: Sequence[str], predicted: IntArray) -> IntArray:
    """(N, K) classes to explain."""
    if target == PREDICTED:
        return np.asarray(predicted)[:, None]
    if target == EVERY:
        return np.tile(np.arange(len(classes)), (len(predicted), 1))
    if target in classes:
        return np.full((len(predicted), 1), list(classes).index(target))
    if target.isdecimal() and int(target) < len(classes):
        return np.full((len(predicted), 1), int(target))
    raise DataError(
        f"There is no class {target!r}; choose {PREDICTED}, {EVERY}, a number below {len(classes)}, or one of "
        f"{', '.join(classes)}.{did_you_mean(target, classes)}"
    )


def _badge(place: Path, method: str) -> tuple[bool | None, str]:
    """What the checks of the run said of this method; None where it was not checked there."""
    path = place / "heatmaps" / CHECKS
    if not path.is_file():
        return None, ""
    told = run.read_json(path)
    if told.get("method") != method:
        return None, ""
    return not told["reasons"], "; ".join(told["reasons"])


def _write_arrays(one: Heatmap, classes: Sequence[str], file: Path, settings: Data, stem: Path) -> None:
    grid = grids.grid_of(file, settings)
    aligned = grid.align(one.values, settings)
    with run.writing(stem.with_name(stem.name + ".npz")) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            values=one.values,
            aligned=aligned,
            affine=grid.affine,
            spacing=grid.spacing,
            scan=np.array(one.scan),
            target=np.array(one.target),
            target_name=np.array(classes[one.target]),
            prob=np.array(one.prob),
            method=np.array(one.method),
            passed=np.array("not checked" if one.passed is None else str(one.passed)),
            reason=np.array(one.reason),
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
