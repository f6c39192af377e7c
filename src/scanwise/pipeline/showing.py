"""Heatmaps of new scans: a picture for people, and arrays on the grid of the file for machines.

OUT/NAME-CLASS.png      the scan bare, with the map, with its outline
OUT/NAME-CLASS.npz      values (size, size), aligned (rows and columns of the file), target, method, badge
OUT/NAME-CLASS.nii.gz   of a NIfTI volume: the map in its slice, in the volume's own space
"""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from scanwise import bundle, cohort, run
from scanwise.errors import DataError, did_you_mean
from scanwise.pipeline import device_of, titles
from scanwise.pipeline.explaining import CHECKS, options_of
from scanwise.recipe import Data
from scanwise.records import FloatArray, Heatmap, IntArray

if TYPE_CHECKING:
    from scanwise.cohort.readers import Pixels

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
        the maps, the pictures, and (path, reason) of files that cannot be read.

    Raises:
        DataError: for a target that is no class, or if no file can be read.
    """
    from scanwise.explanation import drawing, explain
    from scanwise.explanation.sanity import method_of

    loaded = bundle.load(place)
    made = loaded.recipe
    listing, _ = cohort.expansion.expand(cohort.layouts.unlabelled(scans, manifest, ""), made.data, progress=progress)
    pixels, kept, quarantine = _read(listing, made.data)
    if not kept:
        raise DataError(f"None of the {len(listing.path)} files can be read; {_first([*quarantine, *listing.unused])}")
    names = [str(listing.path[row]) for row in kept]
    words = ["" if listing.text is None else str(listing.text[row]) for row in kept]
    tokens = None
    if loaded.vocabulary is not None:
        tokens = loaded.vocabulary(titles.as_read(np.array(words, dtype=np.str_), made, loaded.classes))
    files = [listing.root / name for name in names]
    answer = loaded.predict(files, words=words if tokens is not None else None, device=device_of(device, threads))
    asked = {name: value for name, value in (("method", method), ("layer", layer)) if value}
    options = options_of(made, device_of(device, threads), progress) | asked
    wanted = _targets(target, loaded.classes, answer.scans.predicted)
    found = explain(loaded.network, pixels, targets=wanted, tokens=tokens, names=np.array(names), **options)
    passed, reason = _badge(place, method_of(options))
    probs = dict(zip(names, answer.scans.probs, strict=True))
    maps = tuple(replace(one, prob=float(probs[one.scan][one.target]), passed=passed, reason=reason) for one in found)
    opaque = made.explain.opacity if opacity is None else opacity
    pictures = []
    shared = os.path.commonpath([os.path.dirname(name) for name in names])  # noqa: PTH120 - names are text
    rows = {name: row for row, name in enumerate(names)}
    for one in maps:
        stem = out / f"{_safe(one.scan.removeprefix(shared))}-{_safe(loaded.classes[one.target])}"
        picture = drawing.panel(pixels[rows[one.scan]], one, loaded.classes, opacity=opaque)
        with run.writing(stem.with_name(stem.name + ".png")) as temporary:
            temporary.write_bytes(picture)
        _write_arrays(one, loaded.classes, listing.root / one.scan, made.data, stem)
        pictures.append(stem.with_name(stem.name + ".png"))
    return maps, pictures, (*quarantine, *listing.unused)


def align(values: FloatArray, rows: int, columns: int, settings: Data) -> FloatArray:
    """A map on the grid of its file: what `readers.resize` did is undone.

    >>> align(np.ones((4, 4), np.float32), 6, 3, Data(size=16, shape="pad")).shape
    (6, 3)
    """
    side = values.shape[0]
    if settings.shape == "pad":
        scale = side / max(rows, columns)
        high, wide = max(1, round(rows * scale)), max(1, round(columns * scale))
        top, left = (side - high) // 2, (side - wide) // 2
        values = values[top : top + high, left : left + wide]
    picture = Image.fromarray(np.asarray(values, dtype=np.float32))
    return np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR), dtype=np.float32)


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
    from scanwise.cohort.slices import locate

    path, index = locate(file)
    volume = _volume(path, settings)
    rows, columns = _grid(path, index, settings) if volume is None else volume.grid
    aligned = align(one.values, rows, columns, settings)
    with run.writing(stem.with_name(stem.name + ".npz")) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            values=one.values,
            aligned=aligned,
            scan=np.array(one.scan),
            target=np.array(one.target),
            target_name=np.array(classes[one.target]),
            prob=np.array(one.prob),
            method=np.array(one.method),
            passed=np.array("not checked" if one.passed is None else str(one.passed)),
            reason=np.array(one.reason),
        )
    if volume is not None:
        with run.writing(stem.with_name(stem.name + ".nii.gz")) as temporary:
            temporary.write_bytes(volume.holding(aligned, 0 if index is None else index))


class _Volume:
    """The space of a NIfTI volume, brought to the axes right, front, top as the reader brings it."""

    def __init__(self, image: Any, settings: Data) -> None:
        import nibabel

        self.image = nibabel.as_closest_canonical(image)  # type: ignore[no-untyped-call]
        self.axis = {"sagittal": 0, "coronal": 1, "axial": 2}[settings.axis]
        self.shape = (*self.image.shape[:3], 1)[:3]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a slice as it is shown."""
        width, height = (length for place, length in enumerate(self.shape) if place != self.axis)
        return height, width

    def holding(self, aligned: FloatArray, index: int) -> bytes:
        """A gzipped volume of nothing but this map in its slice."""
        import gzip

        import nibabel

        values = np.zeros(self.shape, dtype=np.float32)
        place: list[Any] = [slice(None)] * 3
        place[self.axis] = index
        values[tuple(place)] = aligned.T[::-1, ::-1]  # as `nifti` turned it, the other way
        return gzip.compress(nibabel.Nifti1Image(values, self.image.affine).to_bytes(), mtime=0)  # type: ignore[no-untyped-call]


def _volume(path: Path, settings: Data) -> _Volume | None:
    import nibabel

    from scanwise.cohort.readers import HEAD, kind_of

    with path.open("rb") as stream:
        if kind_of(stream.read(HEAD)) != "nifti":
            return None
    return _Volume(nibabel.load(path), settings)


def _grid(path: Path, index: int | None, settings: Data) -> tuple[int, int]:
    """Rows and columns of a file that was read before."""
    from scanwise.cohort import dicom, readers

    data = path.read_bytes()
    if readers.kind_of(data[: readers.HEAD]) == "dicom":
        frame = next(iter(dicom.decode(data, [index], settings)))
        if isinstance(frame, str):
            raise DataError(f"{path}: {frame}.")
        return frame.shape[0], frame.shape[1]
    found = readers.decode(data)
    return found.shape[0], found.shape[1]


def _safe(name: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^\w.#-]+", "_", name.strip("/")).lstrip(".") or "scan"


def _first(refused: Sequence[tuple[str, str]]) -> str:
    return ": ".join(refused[0]) + "." if refused else "none were found."
