"""Augmented copies that carry their origin's subject and side, so that a split can never part a copy from its origin."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from scanwise import cohort, run
from scanwise.cohort.layouts import manifests
from scanwise.cohort.store import Store
from scanwise.csv_files import write_csv
from scanwise.errors import DataError
from scanwise.pipeline.stages.audit import as_listing, with_recovered_subjects
from scanwise.progress_bar import track, with_one_bar
from scanwise.recipe import Augment, Data, Recipe, load_recipe, with_settings
from scanwise.records import Cohort, IntArray

BLOCK = 64


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """The number of copies: of every scan, or the same for each class, drawn in turn from its scans."""

    per_scan: int = 0
    per_class: int = 0

    def rows(self, cohort: Cohort, random: np.random.Generator) -> IntArray:
        """(M,) the origin of each copy."""
        if self.per_scan:
            return np.repeat(np.arange(len(cohort)), self.per_scan)
        chosen = []
        for index in range(len(cohort.classes)):
            scans = random.permutation(np.flatnonzero(cohort.labels == index))
            chosen.append(np.resize(scans, self.per_class))  # every scan once before any twice
        return np.concatenate(chosen)


@with_one_bar
def write_augmented_copies(
    data: str | Path,
    out: Path,
    plan: CopyPlan,
    *,
    subject: str = cohort.AUTO,
    settings: Sequence[str] = (),
    like: str = "alexnet-gray",
    size: int = 224,
    seed: int = 0,
    progress: bool = False,
) -> Path:
    """Write scans and their augmented copies as PNG files, with a manifest that says whose they are.

    Args:
        data: as in `fit`.
        out: a new folder; it gets `scans/CLASS/*.png`, `manifest.csv` with path, label, subject, split (where the
            data has one), the groups and the text, and `origins.csv` with the origin of each copy.
        plan: how many.
        subject: as in `audit`.
        settings: as in `audit`.
        like: the recipe whose `train.augment` is applied, to every copy.
        size: side of the square images, in pixels; scans that are not square are padded.
        seed: of everything random.
        progress: show bars.

    Returns:
        the manifest.

    Raises:
        DataError: if `out` holds something, or subjects are unknown and cannot be recovered from the pixels.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} already holds something. Choose another folder with --out.")
    shape = Recipe(name="augment", data=Data(size=size, channels=3, shape="pad"))
    intake = cohort.read_cohort(str(data), with_settings(shape, settings), subject, progress=progress)
    with_subjects = with_recovered_subjects(intake.cohort, progress=progress)
    if not with_subjects.subjects_known:
        raise DataError(
            "The subjects of these scans are unknown and cannot be recovered from the pixels; copies of one person could then "
            "be on both sides of a split. Pass --subject."
        )
    random = np.random.default_rng(seed)
    origins = plan.rows(with_subjects, random)
    change = load_recipe(like).train.augment.model_copy(update={"probability": 1.0})
    with run.writing(out) as folder:
        paths = _write_scans(folder, with_subjects, intake.store, progress)
        copies = _write_copies(folder, with_subjects, intake.store, origins, change, seed, progress)
        everyone = np.concatenate([np.arange(len(with_subjects)), origins])
        whole = replace(with_subjects.take(everyone), root=str(folder), path=np.array([*paths, *copies]))
        manifests.write_manifest(as_listing(whole), folder / "manifest.csv", folder / "manifest.csv")
        pairs = zip(copies, (paths[row] for row in origins.tolist()), strict=True)
        write_csv(("path", "origin"), pairs, folder / "origins.csv")
    return out / "manifest.csv"


def _write_scans(folder: Path, cohort: Cohort, pixels: Store, progress: bool) -> list[str]:
    paths = [f"{_place(cohort, row)}/{row:06d}.png" for row in range(len(cohort))]
    blocks = range(0, len(cohort), BLOCK)
    for start in track(blocks, "scans", len(blocks), progress):
        rows = np.arange(start, min(start + BLOCK, len(cohort)))
        for row, image in zip(rows.tolist(), pixels.read(rows), strict=True):
            _save(image, folder / paths[row])
    return paths


def _write_copies(
    folder: Path, cohort: Cohort, pixels: Store, origins: IntArray, change: Augment, seed: int, progress: bool
) -> list[str]:
    import torch

    from scanwise.training import augment as changes

    generator = torch.Generator().manual_seed(seed)
    paths: list[str] = []
    starts = range(0, len(origins), BLOCK)
    for start in track(starts, "copies", len(starts), progress):
        rows = origins[start : start + BLOCK]
        scans = torch.from_numpy(pixels.read(rows)).permute(0, 3, 1, 2)
        changed = (
            changes.augment_batch(scans, change, generator).clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()
        )
        for offset, (row, image) in enumerate(zip(rows.tolist(), changed, strict=True), start):
            path = f"{_place(cohort, row)}/{row:06d}-copy-{offset:06d}.png"
            _save(image, folder / path)
            paths.append(path)
    return paths


def _place(cohort: Cohort, row: int) -> str:
    return f"scans/{cohort.classes[cohort.labels[row]].replace('/', '_')}"


def _save(image: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    gray = bool((image == image[:, :, :1]).all())
    Image.fromarray(image[:, :, 0] if gray else image).save(path)
